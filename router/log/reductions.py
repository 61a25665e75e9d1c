"""Decisions reduced to the small tables that analysis takes (router.analysis.tables): counts and sums of USD by key."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from router.log import sources
from router.log.filters import Filter, where
from router.log.pricing import epochs, price_cells, priced, rates_table, routes_table, tiers, token_sums
from router.log.reader import Log
from router.log.rollups import MS_BASE, RATED_BY
from router.log.schema import sql
from router.log.spending import baseline_of
from router.log.summing import PAID, added_up, answering, run_sums, sums_of, unanswered
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


def count(log: Log, chosen: Filter) -> int:
    """Number of decisions that match."""
    found = sources.source(log, chosen, "hourly", period="date_trunc('day', d.decided_at)")
    if found.reads_rows and chosen.upto is None:
        condition, values = where(chosen)
        return int(log.rows(f"SELECT count(*) FROM decisions d WHERE {condition}", values)[0][0])
    return int(log.rows(f"SELECT coalesce(sum(n), 0) FROM ({found.sql})", found.values)[0][0])


def summary(log: Log, chosen: Filter, prices: PriceBook, *, exact_rows: int = EXACT_ROWS) -> dict[str, Any]:
    """Counts, USD and classifier latency (ms) of a period.

    Costs are USD, None when none is known: ``cost_usd`` of the models that answered, at the price book's rates for each
    decision's day; ``classifier_cost_usd`` and ``failed_cost_usd`` (attempts that failed before an answer) as logged.
    ``paid_usd`` is all three as far as they are known, and a lower bound unless ``paid_is_whole``: what Savings call paid.
    ``n_unmeasured`` have no token counts, ``n_unpriced`` no price; ``n_unanswered`` have neither, because the call ended in a
    way that no provider charges for: they cost 0. ``latency_exact`` is False where the quantiles come from bins; then they
    are within 1 %.
    """
    keys = dict.fromkeys((*PAID, "cause", "outcome"), "")
    sums = sums_of(log, chosen, "hourly", {"day": "CAST(s.hour AS DATE)", **keys}, prices)
    n, known = sums["n"], sums["usage_known"].to_numpy(dtype=bool)
    cost, _ = priced(sums, answering(sums), prices)
    costed, failed = cost == cost, sums["outcome"].notna() & ~sums["outcome"].isin(REPLIES)
    named, free = sums["n"] > sums["n_classifier_unknown"], unanswered(sums)
    row = {
        "n": n.sum(),
        "n_scored": sums["n_scored"].sum(),
        "n_fallback": sums["n_fallback"].sum(),
        "n_classifier_failed": n[sums["cause"].isin(("classifier_error", "classifier_timeout"))].sum(),
        "n_failed": n[failed].sum(),
        "n_costed": n[costed].sum(),
        "n_assumed": n[costed & (sums["usage_grade"] == "assumed")].sum(),
        "n_unmeasured": n[~known & ~free].sum(),
        "n_unpriced": n[known & ~costed].sum(),
        "n_unanswered": n[free].sum(),
        "n_classifier_unknown": sums["n_classifier_unknown"].sum(),
        "n_failed_unknown": sums["n_failed_unknown"].sum(),
    }
    paid = math.fsum((*cost[costed], *sums["classifier_cost"], *sums["failed_cost"]))
    unknown = ("n_unmeasured", "n_unpriced", "n_classifier_unknown", "n_failed_unknown")
    found = {key: int(value) for key, value in row.items()} | {
        "cost_usd": float(cost[costed].sum()) if costed.any() else None,
        "classifier_cost_usd": float(sums["classifier_cost"][named].sum()) if named.any() else None,
        "failed_cost_usd": float(sums["failed_cost"].sum()),
        "paid_usd": paid if costed.any() or paid else None,
        "paid_is_whole": not any(row[name] for name in unknown),
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
        **dict.fromkeys((*PAID, "label", "cause", "outcome"), ""),
    }
    sums = sums_of(log, chosen, "hourly", keys, prices, period=period, whole=whole)
    cost, _ = priced(sums, answering(sums), prices)
    costed, free = cost == cost, unanswered(sums)
    table = sums[["bucket", "label", "cause", "outcome", "n"]].assign(
        model_used=sums["model"],
        cost_usd=cost,
        n_costed=sums["n"].where(costed, 0),
        n_unmeasured=sums["n"].where(~sums["usage_known"].astype(bool) & ~free, 0),
        n_assumed=sums["n"].where(costed & (sums["usage_grade"] == "assumed"), 0),
        n_unanswered=sums["n"].where(free, 0),
        other_usd=sums["classifier_cost"].astype(float) + sums["failed_cost"].astype(float),
    )
    return added_up(table, ["bucket", "label", "model_used", "cause", "outcome"], {"cost_usd"})


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


def call_times(log: Log, chosen: Filter) -> pd.DataFrame:
    """How long the models' calls took; see router.analysis.tables.CALLS."""
    condition, values = where(chosen)
    bound = {"base": MS_BASE, "replies": list(REPLIES)}
    return log.frame(sql("call_times").replace("{filter}", condition), values | bound)


def cells(
    log: Log, chosen: Filter, policy: Policy, prices: PriceBook, *, baseline: str | None = None
) -> pd.DataFrame:
    """Sums per label and confidence bin for the sweep; see ``cells.sql``. Labels outside the policy are left out."""
    baseline = baseline or baseline_of(policy)
    models = [*(label.model for label in policy.labels), policy.fallback_model, baseline]
    found, days = _monthly(log, "cells", chosen, prices, models)
    served = sources.service_tiers(log)
    table, priced_on = epochs(prices, models, days, served)
    tables = {"routes": routes_table(policy, policy), "epochs": table}
    values = found.values | {"served": served}
    held = sources.token_kinds(log)
    query = sql("cells").replace("{source}", found.sql).replace("{sums}", token_sums(held))
    return price_cells(log.arrays(query, values, tables), policy, baseline, priced_on, served, prices, held)


def bins(log: Log, chosen: Filter) -> pd.DataFrame:
    """Decisions by label and confidence bin; see router.analysis.tables.BINS."""
    found = sources.source(log, chosen, "cells", period=_BY_DAY)
    return log.frame(sql("bins").replace("{source}", found.sql), found.values)


def pairs(log: Log, chosen: Filter, policy: Policy, prices: PriceBook) -> pd.DataFrame:
    """How close the two best labels are, by margin in hundredths; see router.analysis.tables.PAIRS."""
    models = {label.name: label.model for label in policy.labels}
    found, _ = _monthly(log, "margins", chosen, prices, list(models.values()))
    keys = dict.fromkeys(("month", "label", "runner_up", "margin_bin", "usage_known", *RATED_BY), "")
    sums = run_sums(log, found, "margins", keys)
    cost, _ = priced(sums, [models.get(x) for x in sums["label"].tolist()], prices, day="month")
    other, _ = priced(sums, [models.get(x) for x in sums["runner_up"].tolist()], prices, day="month")
    both = (cost == cost) & (other == other)
    table = sums[["label", "runner_up", "margin_bin", "n"]].assign(
        n_priced=sums["n"].where(both, 0), label_cost=cost, other_cost=other
    )
    table.loc[~both, ["label_cost", "other_cost"]] = 0.0
    added = added_up(table, ["label", "runner_up", "margin_bin"])
    return added[added["n"] > 0].reset_index(drop=True)  # a month and its days may cancel out


def _monthly(
    log: Log, table: str, chosen: Filter, prices: PriceBook, models: Sequence[str]
) -> tuple[sources.Source, list[date]]:
    """A roll-up by month where the book has one price in a month, else its rows by day; and all their periods."""
    seen = sources.days(log, chosen)
    months = {day.replace(day=1) for day in seen}
    served = sources.service_tiers(log)
    varying = sources.varying_months(prices, models, seen, served)
    starts = tiers(rates_table(prices, models, {*months, *seen} if varying else months, served))
    found = sources.source(log, chosen, table, period=_BY_DAY, rows_for=varying, tiers=starts)
    return found, sorted(months | set(seen) if found.reads_rows else months)


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
