"""The read side of the log: queries that reduce it to small tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from router.log import sources
from router.log.filters import Filter, where
from router.log.pricing import (
    epochs,
    price_cells,
    rates_table,
    routes_table,
    row_cost,
    sum_cost,
    sum_product,
    tiered,
    tiers,
)
from router.log.reader import Log
from router.log.rollups import MS_BASE
from router.log.schema import sql
from router.policy import Policy
from router.types import REPLIES

if TYPE_CHECKING:
    import pandas as pd

    from router.prices import PriceBook

__all__ = [
    "CLOSE_MARGIN",
    "PAGE_SIZE",
    "Filter",
    "baseline_of",
    "bounds",
    "cells",
    "close_calls",
    "count",
    "decision",
    "edition",
    "flip_counts",
    "flips",
    "labels_seen",
    "latency",
    "losses",
    "models_seen",
    "page",
    "pairs",
    "policies_seen",
    "series",
    "spend",
    "summary",
    "total",
    "where",
]

PAGE_SIZE = 100
CLOSE_MARGIN = 0.10
EXACT_ROWS = 200_000
"""Up to so many decisions a quantile of the classifier's time is exact; above, it is within 1 %, from bins."""

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_BY_DAY = "CAST(d.decided_at AS DATE)"


def total(log: Log) -> int:
    """Number of rows ingested so far: the bound (``Filter.upto``) that keeps pages still."""
    return int(log.rows("SELECT coalesce(max(rowid) + 1, 0) FROM decisions")[0][0])


def edition(log: Log) -> str:
    """Changes when a decision arrives, and when rows are erased: what was read of another edition is not to be shown."""
    rows, erased = log.rows(
        "SELECT coalesce(max(rowid) + 1, 0), (SELECT max(value) FROM meta WHERE key = 'generation') FROM decisions"
    )[0]
    return f"{rows}.{erased or 0}"


def count(log: Log, chosen: Filter) -> int:
    """Number of decisions that match."""
    found = sources.source(log, chosen, "hourly", period="date_trunc('day', d.decided_at)")
    if found.reads_rows and chosen.upto is None:
        condition, values = where(chosen)
        return int(log.rows(f"SELECT count(*) FROM decisions d WHERE {condition}", values)[0][0])
    return int(log.rows(f"SELECT coalesce(sum(n), 0) FROM ({found.sql})", found.values)[0][0])


def page(
    log: Log, chosen: Filter, prices: PriceBook, *, number: int = 1, size: int = PAGE_SIZE
) -> pd.DataFrame:
    """One page of the log, newest first; ``number`` counts from 1."""
    rates = rates_table(prices, sources.models(log), sources.days(log, chosen))
    values = {"limit": size, "skip": (number - 1) * size}
    return _rows(log, "page", chosen, {"cost": "r"}, {"rates": rates}, values)


def decision(log: Log, id: str, prices: PriceBook) -> dict[str, Any] | None:
    """Every column of one decision, and ``cost_now`` in USD; None when there is none."""
    used = log.rows(
        "SELECT model_used, CAST(decided_at AS DATE) FROM decisions WHERE id = CAST($id AS UUID)", {"id": id}
    )
    if not used:
        return None
    model, day = used[0]
    rates = rates_table(prices, [model] if model else [], [day] if day else [])
    row = log.frame(sql("decision").replace("{cost}", row_cost("r")), {"id": id}, {"rates": rates})
    return None if row.empty else dict(row.iloc[0])


def summary(log: Log, chosen: Filter, prices: PriceBook) -> dict[str, Any]:
    """Counts, USD and classifier latency (ms) of a period; see ``summary.sql``.

    ``latency_exact`` is False where the quantiles come from bins; then they are within 1 %.
    """
    rates = rates_table(prices, sources.models(log, chosen), sources.days(log, chosen))
    found = sources.source(
        log, chosen, "hourly", period="date_trunc('day', d.decided_at)", tiers=tiers(rates)
    )
    query = _with_costs(
        sql("summary").replace("{source}", found.sql), {"rates": tiered("r"), "cost": sum_cost("r")}
    )
    frame = log.frame(query, found.values | {"replies": list(REPLIES)}, {"rates": rates})
    row = {key: _plain(value) for key, value in frame.iloc[0].items()}
    exact = row["n"] <= EXACT_ROWS
    times = _latency(log, chosen, timedelta(days=365_000), exact=exact)
    p50, p95 = (None, None) if times.empty else (times["p50_ms"].iloc[0], times["p95_ms"].iloc[0])
    return row | {"classify_p50_ms": _plain(p50), "classify_p95_ms": _plain(p95), "latency_exact": exact}


def series(log: Log, chosen: Filter, prices: PriceBook, *, width: timedelta) -> pd.DataFrame:
    """Counts and USD over time; see ``series.sql``."""
    rates = rates_table(prices, sources.models(log, chosen), sources.days(log, chosen))
    whole, period = not width % _HOUR, "date_trunc('hour', d.decided_at)"
    if not whole:
        period = "d.decided_at" if width % timedelta(minutes=1) else "date_trunc('minute', d.decided_at)"
    found = sources.source(log, chosen, "hourly", period=period, whole=whole, tiers=tiers(rates))
    query = _with_costs(
        sql("series").replace("{source}", found.sql), {"rates": tiered("r"), "cost": sum_cost("r")}
    )
    return log.frame(query, found.values | {"width": _interval(width)}, {"rates": rates})


def latency(log: Log, chosen: Filter, *, width: timedelta) -> pd.DataFrame:
    """Time the classifier took (ms), by period; see ``latency.sql``. Within 1 % above ``EXACT_ROWS`` decisions."""
    return _latency(log, chosen, width, exact=bool(width % _DAY) or count(log, chosen) <= EXACT_ROWS)


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


def pairs(log: Log, chosen: Filter, policy: Policy, prices: PriceBook) -> pd.DataFrame:
    """How close the two best labels are; see ``pairs.sql``."""
    models = [label.model for label in policy.labels]
    found, days = _monthly(log, "margins", chosen, prices, models)
    costs = {"rates": tiered("l", "t"), "label_cost": sum_cost("l"), "other_cost": sum_cost("t")}
    query = _with_costs(sql("pairs").replace("{source}", found.sql), costs)
    tables = {"rates": rates_table(prices, models, days), "routes": routes_table(policy, policy)}
    return log.frame(query, found.values, tables)


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
    log: Log, chosen: Filter, policy: Policy, prices: PriceBook, *, baseline: str | None = None
) -> pd.DataFrame:
    """What was paid beside the baseline; see ``spend.sql``."""
    baseline = baseline or baseline_of(policy)
    models = [*sources.models(log, chosen), *(label.model for label in policy.labels), baseline]
    rates = rates_table(prices, models, sources.days(log, chosen))
    found = sources.source(
        log, chosen, "hourly", period="date_trunc('day', d.decided_at)", tiers=tiers(rates)
    )
    costs = {
        "rates": tiered("r", "b", "l"),
        "cost": sum_cost("r"),
        "baseline_cost": sum_cost("b"),
        "label_cost": sum_cost("l"),
        "cost_sq": sum_product("r", "r"),
        "baseline_sq": sum_product("b", "b"),
        "cost_baseline": sum_product("r", "b"),
    }
    query = _with_costs(sql("spend").replace("{source}", found.sql), costs)
    tables = {"rates": rates, "routes": routes_table(policy, policy)}
    return log.frame(query, found.values | {"baseline": baseline}, tables)


def flips(
    log: Log, chosen: Filter, policy: Policy, candidate: Policy, prices: PriceBook, *, limit: int = PAGE_SIZE
) -> pd.DataFrame:
    """Decisions that a candidate policy (other thresholds) sends to another model; see ``flips.sql``."""
    return _flips(log, "flips", chosen, policy, candidate, prices, {"limit": limit})


def flip_counts(
    log: Log, chosen: Filter, policy: Policy, candidate: Policy, prices: PriceBook
) -> pd.DataFrame:
    """Decisions that cross a line, by model before and after; see ``flip_counts.sql``."""
    return _flips(log, "flip_counts", chosen, policy, candidate, prices, {})


def _flips(
    log: Log,
    name: str,
    chosen: Filter,
    policy: Policy,
    candidate: Policy,
    prices: PriceBook,
    values: Mapping[str, Any],
) -> pd.DataFrame:
    models = [*(label.model for label in policy.labels), policy.fallback_model]
    tables = {
        "rates": rates_table(prices, models, sources.days(log, chosen)),
        "routes": routes_table(policy, candidate),
    }
    bound = {"fallback": policy.fallback_model, "min_margin": policy.min_margin, **values}
    return _rows(log, name, chosen, {"candidate_cost": "c", "production_cost": "p"}, tables, bound)


def close_calls(
    log: Log, chosen: Filter, a: str, b: str, *, close: float = CLOSE_MARGIN, limit: int = PAGE_SIZE
) -> pd.DataFrame:
    """Decisions whose two best labels are this pair and closer than ``close``, closest first."""
    condition, values = where(chosen)
    query = sql("close_calls").replace("{filter}", condition)
    return log.frame(query, values | {"a": a, "b": b, "close": close, "limit": limit})


def bounds(log: Log, chosen: Filter | None = None) -> tuple[datetime | None, datetime | None]:
    """Times of the first and the last decision, naive UTC."""
    condition, values = where(chosen or Filter())
    first, last = log.rows(
        f"SELECT min(decided_at), max(decided_at) FROM decisions d WHERE {condition}", values
    )[0]
    return first, last


def policies_seen(log: Log) -> list[dict[str, Any]]:
    """Policies that made decisions, newest use first: fingerprint, name, decisions, last use, TOML (or None)."""
    rows = log.rows(
        "SELECT d.policy_fingerprint, any_value(p.name), CAST(sum(d.n) AS BIGINT), max(d.last_at), any_value(p.toml) "
        "FROM hourly d LEFT JOIN (SELECT fingerprint, any_value(name) AS name, any_value(toml) AS toml FROM policies "
        "GROUP BY fingerprint) p ON p.fingerprint = d.policy_fingerprint GROUP BY 1 ORDER BY 4 DESC, 1"
    )
    names = ("fingerprint", "name", "n", "last_at", "toml")
    return [dict(zip(names, row, strict=True)) for row in rows]


def labels_seen(log: Log) -> list[str]:
    """Labels in the order of their first decision."""
    return [
        row[0]
        for row in log.rows(
            "SELECT label FROM hourly WHERE label IS NOT NULL GROUP BY 1 ORDER BY min(first_at), 1"
        )
    ]


def models_seen(log: Log) -> list[str]:
    """Models in the order of their first decision."""
    return sources.models(log)


def losses(log: Log) -> dict[str, Any]:
    """What did not become a row: drops by reason, and damaged lines by reason."""
    drops = dict(log.rows("SELECT reason, CAST(sum(n) AS BIGINT) FROM drops GROUP BY 1"))
    rejects = dict(log.rows("SELECT reason, count(*) FROM rejects GROUP BY 1"))
    return {
        "drops": drops,
        "rejects": rejects,
        "n_drops": sum(drops.values()),
        "n_rejects": sum(rejects.values()),
    }


def baseline_of(policy: Policy) -> str:
    """The baseline model: the policy's, else its strongest tier, else its fallback model."""
    return policy.baseline or (policy.tiers[-1] if policy.tiers else policy.fallback_model)


def _rows(
    log: Log,
    name: str,
    chosen: Filter,
    costs: Mapping[str, str],
    tables: Mapping[str, Any],
    values: Mapping[str, Any],
) -> pd.DataFrame:
    """Run a query over decisions: ``costs`` names each cost and the join that it is read from."""
    condition, bound = where(chosen)
    query = sql(name).replace("{filter}", condition)
    query = _with_costs(query, {key: row_cost(alias) for key, alias in costs.items()})
    return log.frame(query, bound | dict(values), tables)


def _with_costs(query: str, costs: Mapping[str, str]) -> str:
    for key, text in costs.items():
        query = query.replace("{" + key + "}", text)
    return query


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
