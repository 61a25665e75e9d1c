"""Decisions reduced to the small tables that analysis takes (router.analysis.tables): counts and sums of USD by key."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from router.log import sources
from router.log.baselines import policy_rows
from router.log.filters import Filter, where
from router.log.pricing import epochs, price_cells, priced, products, rates_table, routes_table, tiers
from router.log.reader import Log
from router.log.rollups import MS_BASE, PRICE_BANDS, SUMS
from router.log.rollups import added as summed
from router.log.schema import sql
from router.policy import Policy
from router.types import REPLIES

if TYPE_CHECKING:
    import pandas as pd

    from router.prices import PriceBook

EXACT_ROWS = 200_000
"""Up to so many decisions a quantile of the classifier's time is exact; above, it is within 1 %, from bins."""

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_BY_DAY = "CAST(d.decided_at AS DATE)"
_PAID = ("model", "answered", "usage_grade", "usage_known", "price_band")
"""Keys of a roll-up that a cost depends on, the day aside."""
_BUCKETS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")


def count(log: Log, chosen: Filter) -> int:
    """Number of decisions that match."""
    found = sources.source(log, chosen, "hourly", period="date_trunc('day', d.decided_at)")
    if found.reads_rows and chosen.upto is None:
        condition, values = where(chosen)
        return int(log.rows(f"SELECT count(*) FROM decisions d WHERE {condition}", values)[0][0])
    return int(log.rows(f"SELECT coalesce(sum(n), 0) FROM ({found.sql})", found.values)[0][0])


def summary(log: Log, chosen: Filter, prices: PriceBook, *, exact_rows: int = EXACT_ROWS) -> dict[str, Any]:
    """Counts, USD and classifier latency (ms) of a period.

    Costs are USD at the price book's rates for each decision's day; None when none is known. ``n_unmeasured`` have no token
    counts, ``n_unpriced`` no price. ``latency_exact`` is False where the quantiles come from bins; then they are within 1 %.
    """
    keys = dict.fromkeys((*_PAID, "cause", "outcome"), "")
    sums = _sums(log, chosen, "hourly", {"day": "CAST(s.hour AS DATE)", **keys}, prices)
    n, known = sums["n"], sums["usage_known"].to_numpy(dtype=bool)
    cost, _ = priced(sums, _answered(sums), prices)
    costed, failed = cost == cost, sums["outcome"].notna() & ~sums["outcome"].isin(REPLIES)
    named = sums["n"] > sums["n_classifier_unknown"]
    row = {
        "n": n.sum(),
        "n_scored": sums["n_scored"].sum(),
        "n_fallback": sums["n_fallback"].sum(),
        "n_classifier_failed": n[sums["cause"].isin(("classifier_error", "classifier_timeout"))].sum(),
        "n_failed": n[failed].sum(),
        "n_costed": n[costed].sum(),
        "n_assumed": n[costed & (sums["usage_grade"] == "assumed")].sum(),
        "n_unmeasured": n[~known].sum(),
        "n_unpriced": n[known & ~costed].sum(),
    }
    found = {key: int(value) for key, value in row.items()} | {
        "cost_usd": float(cost[costed].sum()) if costed.any() else None,
        "classifier_cost_usd": float(sums["classifier_cost"][named].sum()) if named.any() else None,
        "first_at": _plain(sums["first_at"].min()),
        "last_at": _plain(sums["last_at"].max()),
    }
    exact = found["n"] <= exact_rows
    times = _latency(log, chosen, timedelta(days=365_000), exact=exact)
    p50, p95 = (None, None) if times.empty else (times["p50_ms"].iloc[0], times["p95_ms"].iloc[0])
    return found | {"classify_p50_ms": _plain(p50), "classify_p95_ms": _plain(p95), "latency_exact": exact}


def series(log: Log, chosen: Filter, prices: PriceBook, *, width: timedelta) -> pd.DataFrame:
    """Counts and USD by (bucket, label, model, cause, outcome); see router.analysis.tables.SERIES."""
    whole, period = not width % _HOUR, "date_trunc('hour', d.decided_at)"
    if not whole:
        period = "d.decided_at" if width % timedelta(minutes=1) else "date_trunc('minute', d.decided_at)"
    bucket = f"time_bucket(INTERVAL '{_interval(width)}', s.hour)"
    keys = {
        "bucket": bucket,
        "day": "CAST(s.hour AS DATE)",
        **dict.fromkeys((*_PAID, "label", "cause", "outcome"), ""),
    }
    sums = _sums(log, chosen, "hourly", keys, prices, period=period, whole=whole)
    cost, _ = priced(sums, _answered(sums), prices)
    costed = cost == cost
    table = sums[["bucket", "label", "cause", "outcome", "n"]].assign(
        model_used=sums["model"],
        cost_usd=cost,
        n_costed=sums["n"].where(costed, 0),
        n_unmeasured=sums["n"].where(~sums["usage_known"].astype(bool), 0),
        n_assumed=sums["n"].where(costed & (sums["usage_grade"] == "assumed"), 0),
    )
    return _added(table, ["bucket", "label", "model_used", "cause", "outcome"], {"cost_usd"})


def latency(log: Log, chosen: Filter, *, width: timedelta, exact_rows: int = EXACT_ROWS) -> pd.DataFrame:
    """Time the classifier took (ms), by period; see ``latency.sql``. Within 1 % above ``exact_rows`` decisions."""
    return _latency(log, chosen, width, exact=bool(width % _DAY) or count(log, chosen) <= exact_rows)


def _latency(log: Log, chosen: Filter, width: timedelta, *, exact: bool) -> pd.DataFrame:
    found = None if exact else sources.source(log, chosen, "latencies", period=_BY_DAY)
    if found is None:
        condition, values = where(chosen)
        return log.frame(sql("latency").replace("{filter}", condition), values | {"width": _interval(width)})
    query = sql("latency_binned").replace("{source}", found.sql)
    return log.frame(query, found.values | {"width": _interval(width), "base": MS_BASE})


def cells(
    log: Log, chosen: Filter, policy: Policy, prices: PriceBook, *, baseline: str | None = None
) -> pd.DataFrame:
    """Sums per label and confidence bin for the sweep; see ``cells.sql``. Labels outside the policy are left out."""
    baseline = baseline or baseline_of(policy)
    models = [*(label.model for label in policy.labels), policy.fallback_model, baseline]
    found, days = _monthly(log, "cells", chosen, prices, models)
    table, priced_on = epochs(prices, models, days)
    tables = {"routes": routes_table(policy, policy), "epochs": table}
    sums = log.arrays(sql("cells").replace("{source}", found.sql), found.values, tables)
    return price_cells(sums, policy, baseline, priced_on, prices)


def bins(log: Log, chosen: Filter) -> pd.DataFrame:
    """Decisions by label and confidence bin; see router.analysis.tables.BINS."""
    found = sources.source(log, chosen, "cells", period=_BY_DAY)
    return log.frame(sql("bins").replace("{source}", found.sql), found.values)


def pairs(log: Log, chosen: Filter, policy: Policy, prices: PriceBook) -> pd.DataFrame:
    """How close the two best labels are, by margin in hundredths; see router.analysis.tables.PAIRS."""
    models = {label.name: label.model for label in policy.labels}
    found, _ = _monthly(log, "margins", chosen, prices, list(models.values()))
    keys = dict.fromkeys(("month", "label", "runner_up", "margin_bin", "usage_known", "price_band"), "")
    sums = _run_sums(log, found, "margins", keys)
    cost, _ = priced(sums, [models.get(x) for x in sums["label"].tolist()], prices, day="month")
    other, _ = priced(sums, [models.get(x) for x in sums["runner_up"].tolist()], prices, day="month")
    both = (cost == cost) & (other == other)
    table = sums[["label", "runner_up", "margin_bin", "n"]].assign(
        n_priced=sums["n"].where(both, 0), label_cost=cost, other_cost=other
    )
    table.loc[~both, ["label_cost", "other_cost"]] = 0.0
    added = _added(table, ["label", "runner_up", "margin_bin"])
    return added[added["n"] > 0].reset_index(drop=True)  # a month and its days may cancel out


def _monthly(
    log: Log, table: str, chosen: Filter, prices: PriceBook, models: Sequence[str]
) -> tuple[sources.Source, list[date]]:
    """A roll-up by month where the book has one price in a month, else its rows by day; and all their periods."""
    seen = sources.days(log, chosen)
    months = {day.replace(day=1) for day in seen}
    varying = sources.varying_months(prices, models, seen)
    starts = tiers(rates_table(prices, models, {*months, *seen} if varying else months))
    found = sources.source(log, chosen, table, period=_BY_DAY, rows_for=varying, tiers=starts)
    return found, sorted(months | set(seen) if found.reads_rows else months)


def spend(
    log: Log,
    chosen: Filter,
    policy: Policy,
    prices: PriceBook,
    *,
    baseline: str | Policy | None = None,
    lengths: Mapping[str, tuple[float, float]] | None = None,
) -> pd.DataFrame:
    """What was paid beside the baseline, by (day, label, model, cause); see router.analysis.tables.SPEND.

    Parameters
    ----------
    baseline : a model that would have answered everything; another policy, whose choice is replayed from the rows; None:
        the policy's.
    lengths : (input, output) tokens that the baseline's answer takes for each token of this model's (see
        router.analysis.lengths); a model without them takes the same tokens.
    """
    import numpy as np

    other = baseline if isinstance(baseline, Policy) else None
    single = baseline_of(policy) if baseline is None else "" if other is not None else str(baseline)
    keys = {"day": "CAST(s.hour AS DATE)", **dict.fromkeys((*_PAID, "label", "cause"), "")}
    models = [*policy.model_names, *((single,) if other is None else other.model_names)]
    if other is None:
        sums = _sums(log, chosen, "hourly", keys, prices, models=models)
        against: list[str | None] = [single] * len(sums)
    else:
        sums = _replayed(log, chosen, other, keys, prices, models)
        against = [x if isinstance(x, str) else None for x in sums["policy_fingerprint"].tolist()]
    of_label = {label.name: label.model for label in policy.labels}
    cost, paid = priced(sums, _answered(sums), prices)
    same, at_base = priced(sums, against, prices)
    base, out = same, np.zeros(len(sums))
    if lengths is not None:
        pairs_ = [
            (1.0, 1.0) if model == used else lengths.get(used, (1.0, 1.0))
            for used, model in zip(sums["model"].tolist(), against, strict=True)
        ]
        factors = np.array([(x, x, x, y) for x, y in pairs_], dtype=float).reshape(-1, 4)
        at_base = at_base * factors
        base = (sums[list(_BUCKETS)].to_numpy(dtype=float) * at_base).sum(axis=1)
        out = sums["output_tokens"].to_numpy(dtype=float) * at_base[:, 3]
    label_cost, _ = priced(sums, [of_label.get(x) for x in sums["label"].tolist()], prices)
    both = (cost == cost) & (base == base)
    n = sums["n"]
    table = sums[["day", "label", "cause", "n"]].assign(
        model_used=sums["model"],
        n_priced=n,
        cost=cost,
        cost_sq=products(sums, paid, paid),
        baseline_cost=base,
        baseline_sq=products(sums, at_base, at_base),
        cost_baseline=products(sums, paid, at_base),
        label_cost=_first_known(label_cost, cost),
        classifier_cost=sums["classifier_cost"].astype(float),
        failed_cost=sums["failed_cost"].astype(float),
        n_failed_unknown=sums["n_failed_unknown"],
        n_measured=n.where(sums["usage_grade"] == "measured", 0),
        n_assumed=n.where(sums["usage_grade"] == "assumed", 0),
        unknown=sums["n_classifier_unknown"],
    )
    if lengths is not None:
        table = table.assign(same_tokens_cost=same, baseline_output=out)
    table.loc[~both, table.columns.difference(["day", "label", "cause", "n", "model_used"])] = 0
    table["n_unpriced"] = n.where(~both, 0)
    added = _added(table, ["day", "label", "model_used", "cause"])
    # A classifier that gave no scores is not taken to have charged; one that did and named no price is unknown. One unknown
    # part makes the sum unknown, never smaller. What failed attempts cost is kept as far as it is known, and what is not
    # is counted: few of them tell.
    added.loc[added["unknown"] > 0, "classifier_cost"] = None
    return added.drop(columns=["unknown"])


def dearest(log: Log, chosen: Filter, policy: Policy, prices: PriceBook) -> str:
    """The model of the policy that would have cost most, had it answered everything; the usual baseline when none is priced."""
    keys = {"day": "CAST(s.hour AS DATE)", **dict.fromkeys(_PAID, "")}
    sums = _sums(log, chosen, "hourly", keys, prices, models=list(policy.model_names))
    best, most = baseline_of(policy), 0.0
    for model in policy.model_names:
        cost, _ = priced(sums, [model] * len(sums), prices)
        total = float(cost[cost == cost].sum())
        if total > most:
            best, most = model, total
    return best


def _replayed(
    log: Log, chosen: Filter, other: Policy, keys: Mapping[str, str], prices: PriceBook, models: Sequence[str]
) -> pd.DataFrame:
    """The sums with what another policy would have chosen as ``policy_fingerprint``; always read from rows."""
    seen = sources.days(log, chosen)
    used = sources.models(log, chosen)
    starts = tiers(rates_table(prices, [*used, *models], seen))
    text, values = policy_rows(chosen, other, "date_trunc('day', d.decided_at)", starts)
    found = sources.Source(text, values, True)
    return _run_sums(log, found, "hourly", {**keys, "policy_fingerprint": ""})


def baseline_of(policy: Policy) -> str:
    """The baseline model: the policy's, else its strongest tier, else its fallback model."""
    return policy.baseline or (policy.tiers[-1] if policy.tiers else policy.fallback_model)


def _sums(
    log: Log,
    chosen: Filter,
    table: str,
    keys: Mapping[str, str],
    prices: PriceBook,
    *,
    period: str = "date_trunc('day', d.decided_at)",
    whole: bool = True,
    models: Sequence[str] = (),
) -> pd.DataFrame:
    """Sums by the keys; read again from rows when a model's price tier starts where roll-ups tell nothing apart."""
    sums = _run_sums(log, sources.source(log, chosen, table, period=period, whole=whole), table, keys)
    days = sums["day"].to_numpy().astype("datetime64[D]").tolist()
    seen = {(model, day) for model, day in zip(sums["model"].tolist(), days, strict=True) if day is not None}
    seen |= {(model, day) for model in models for day in set(days) if day is not None}
    starts = {
        rate.tier_from
        for rate in (prices.rate(*x) for x in seen if isinstance(x[0], str))
        if rate is not None
    }
    odd = starts - {None, *PRICE_BANDS}
    if odd:
        found = sources.source(
            log, chosen, table, period=period, whole=False, tiers=[x for x in odd if x is not None]
        )
        sums = _run_sums(log, found, table, keys)
    return sums


def _run_sums(log: Log, found: sources.Source, table: str, keys: Mapping[str, str]) -> pd.DataFrame:
    """``keys`` names each column with the SQL it is made of, "" for the column of that name."""
    added = [*SUMS[table], *(("first_at", "last_at") if table == "hourly" else ())]
    columns = ", ".join(f"{text or f's.{name}'} AS {name}" for name, text in keys.items())
    query = sql("sums").replace("{keys}", columns).replace("{names}", ", ".join(keys))
    query = query.replace("{sums}", ", ".join(f"{_typed(name)} AS {name}" for name in added))
    return log.frame(query.replace("{source}", found.sql), found.values)


def _typed(name: str) -> str:
    """SQL that adds up one column, as a type that pandas holds."""
    if name in ("first_at", "last_at"):
        return summed(name)
    counts = name.startswith("n") or name.endswith("_tokens")
    return f"CAST({summed(name)} AS {'BIGINT' if counts else 'DOUBLE'})"


def _answered(sums: pd.DataFrame) -> list[str | None]:
    """The model that answered, for each row of sums; None where none did."""
    return [
        model if there else None
        for model, there in zip(sums["model"].tolist(), sums["answered"].tolist(), strict=True)
    ]


def _added(table: pd.DataFrame, keys: list[str], or_null: Collection[str] = ()) -> pd.DataFrame:
    """The table with rows of equal keys added up, in the order of the keys; sums of ``or_null`` are NULL without a value."""
    grouped = table.groupby(keys, dropna=False, sort=True, as_index=False)
    plain = grouped.sum(numeric_only=True)
    for name in or_null:
        plain[name] = grouped[name].sum(min_count=1)[name]
    return plain


def _first_known(one: Any, two: Any) -> Any:
    import numpy as np

    return np.where(one == one, one, two)


def _interval(width: timedelta) -> str:
    return f"{int(width.total_seconds())} seconds"


def _plain(value: Any) -> Any:
    """A pandas scalar as plain Python, with missing as None."""
    import pandas as pd

    if value is None or value is pd.NaT or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    return value.item() if hasattr(value, "item") else value
