"""The read side of the log: queries that reduce it to small tables."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from router.log import sources
from router.log.baselines import lengths, previous_policy
from router.log.drops import unreported
from router.log.filters import Filter, where
from router.log.pricing import rates_table, routes_table, row_cost
from router.log.reader import Log
from router.log.reductions import bins, call_times, cells, count, latency, pairs, series, summary
from router.log.schema import sql
from router.log.spending import baseline_of, dearest, repriced, spend, unpriced
from router.policy import Policy

if TYPE_CHECKING:
    import pandas as pd

    from router.prices import PriceBook

__all__ = [
    "CLOSE_MARGIN",
    "PAGE_SIZE",
    "Filter",
    "baseline_of",
    "bins",
    "bounds",
    "call_times",
    "cells",
    "close_calls",
    "count",
    "dearest",
    "decision",
    "edition",
    "flip_counts",
    "flips",
    "labels_seen",
    "latency",
    "lengths",
    "losses",
    "models_seen",
    "page",
    "pairs",
    "policies_seen",
    "previous_policy",
    "repriced",
    "series",
    "spend",
    "summary",
    "total",
    "unpriced",
    "where",
]

PAGE_SIZE = 100
CLOSE_MARGIN = 0.10


def total(log: Log) -> int:
    """Number of rows ingested so far: the bound (``Filter.upto``) that keeps pages still."""
    return int(log.rows("SELECT coalesce(max(rowid) + 1, 0) FROM decisions")[0][0])


def edition(log: Log) -> str:
    """Changes when a decision arrives, and when rows are erased: what was read of another edition is not to be shown."""
    rows, erased = log.rows(
        "SELECT coalesce(max(rowid) + 1, 0), (SELECT max(value) FROM meta WHERE key = 'generation') FROM decisions"
    )[0]
    return f"{rows}.{erased or 0}"


def page(
    log: Log, chosen: Filter, prices: PriceBook, *, number: int = 1, size: int = PAGE_SIZE
) -> pd.DataFrame:
    """One page of the log, newest first; ``number`` counts from 1."""
    rates = rates_table(prices, sources.models(log), sources.days(log, chosen), sources.service_tiers(log))
    values = {"limit": size, "skip": (number - 1) * size}
    return _rows(log, "page", chosen, {"cost": "r"}, {"rates": rates}, values)


def decision(log: Log, id: str, prices: PriceBook) -> dict[str, Any] | None:
    """Every column of one decision, and ``cost_now`` in USD; None when there is none."""
    used = log.rows(
        "SELECT model_used, CAST(decided_at AS DATE), rate_tier(service_tier) FROM decisions WHERE id = CAST($id AS UUID)",
        {"id": id},
    )
    if not used:
        return None
    model, day, tier = used[0]
    rates = rates_table(prices, [model] if model else [], [day] if day else [], [tier])
    row = log.frame(sql("decision").replace("{cost}", row_cost("r")), {"id": id}, {"rates": rates})
    return None if row.empty else dict(row.iloc[0])


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
        "rates": rates_table(prices, models, sources.days(log, chosen), sources.service_tiers(log)),
        "routes": routes_table(policy, candidate),
    }
    bound = {"fallback": policy.fallback_model, "min_margin": policy.min_margin, **values}
    return _rows(log, name, chosen, {"candidate_cost": "c", "production_cost": "p"}, tables, bound)


def close_calls(
    log: Log, chosen: Filter, a: str, b: str, *, close: float = CLOSE_MARGIN, limit: int = PAGE_SIZE
) -> pd.DataFrame:
    """Prompts whose two best labels are this pair and closer than ``close``, closest first, each with its decisions (``n``)."""
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
    """What did not become a row: drops by reason (those that a full disk keeps from being reported too), and damaged lines."""
    drops = dict(log.rows("SELECT reason, CAST(sum(n) AS BIGINT) FROM drops GROUP BY 1"))
    for lost in unreported(log.data):
        drops[lost.reason] = drops.get(lost.reason, 0) + lost.n
    rejects = dict(log.rows("SELECT reason, count(*) FROM rejects GROUP BY 1"))
    return {
        "drops": drops,
        "rejects": rejects,
        "n_drops": sum(drops.values()),
        "n_rejects": sum(rejects.values()),
    }


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
