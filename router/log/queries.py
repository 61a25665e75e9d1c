"""The read side of the log: filters, and queries that reduce it to small tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from router.log.reader import Log
from router.log.schema import sql
from router.policy import Policy
from router.types import REPLIES

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from router.prices import PriceBook

PAGE_SIZE = 100
CLOSE_MARGIN = 0.10

_RATE_COLUMNS = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "tier_input",
    "tier_output",
    "tier_cache_read",
    "tier_cache_write",
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which decisions are meant; None or empty means all.

    Attributes
    ----------
    start, end : naive UTC, half-open ``[start, end)``.
    policy : a policy's fingerprint.
    labels, models, causes : any of these; ``models`` are those that answered (or were to answer).
    confidence : (low, high), ``low <= confidence < high``; a high of 1 or more includes 1.
    text : the prompt contains it, whatever the case; taken literally.
    upto : only the first ``upto`` rows in the order they were ingested, so that pages do not shift.
    """

    start: datetime | None = None
    end: datetime | None = None
    policy: str | None = None
    labels: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    confidence: tuple[float, float] | None = None
    text: str | None = None
    source: str | None = None
    session_id: str | None = None
    outcomes: tuple[str, ...] = ()
    unmeasured: bool = False
    failed: bool = False
    upto: int | None = None

    def without(self, name: str) -> Filter:
        """The filter with one condition taken away."""
        kept = {field.name: getattr(self, field.name) for field in fields(Filter) if field.name != name}
        return Filter(**kept)

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the conditions that are set, the time range and ``upto`` aside."""
        return tuple(
            field.name
            for field in fields(self)
            if field.name not in ("start", "end", "upto") and getattr(self, field.name) != field.default
        )


def where(chosen: Filter) -> tuple[str, dict[str, Any]]:
    """A filter as a SQL condition on ``d`` and its bound values."""
    parts, values = ["true"], {}

    def add(condition: str, **bound: Any) -> None:
        parts.append(condition)
        values.update(bound)

    if chosen.start is not None:
        add("d.decided_at >= $start", start=chosen.start)
    if chosen.end is not None:
        add("d.decided_at < $end", end=chosen.end)
    if chosen.policy is not None:
        add("d.policy_fingerprint = $policy", policy=chosen.policy)
    if chosen.labels:
        add("list_contains($labels, d.top_label)", labels=list(chosen.labels))
    if chosen.models:
        add("list_contains($models, coalesce(d.model_used, d.model_chosen))", models=list(chosen.models))
    if chosen.causes:
        add("list_contains($causes, d.cause)", causes=list(chosen.causes))
    if chosen.outcomes:
        add("list_contains($outcomes, d.outcome)", outcomes=list(chosen.outcomes))
    if chosen.confidence is not None:
        low, high = chosen.confidence
        add("d.confidence >= $low", low=low)
        if high < 1.0:
            add("d.confidence < $high", high=high)
    if chosen.text:
        add("contains(lower(d.prompt), lower($text))", text=chosen.text)
    if chosen.source is not None:
        add("d.source = $source", source=chosen.source)
    if chosen.session_id is not None:
        add("d.session_id = $session", session=chosen.session_id)
    if chosen.unmeasured:
        add(f"NOT {_usage_known()}")
    if chosen.failed:
        add("d.outcome IS NOT NULL AND NOT list_contains($replies, d.outcome)", replies=list(REPLIES))
    if chosen.upto is not None:
        add("d.rowid < $upto", upto=chosen.upto)
    return " AND ".join(parts), values


def total(log: Log) -> int:
    """Number of rows ingested so far: the bound (``Filter.upto``) that keeps pages still."""
    return int(log.rows("SELECT coalesce(max(rowid) + 1, 0) FROM decisions")[0][0])


def count(log: Log, chosen: Filter) -> int:
    """Number of decisions that match."""
    condition, values = where(chosen)
    return int(log.rows(f"SELECT count(*) FROM decisions d WHERE {condition}", values)[0][0])


def page(
    log: Log, chosen: Filter, prices: PriceBook, *, number: int = 1, size: int = PAGE_SIZE
) -> pd.DataFrame:
    """One page of the log, newest first; ``number`` counts from 1."""
    return _run(log, "page", chosen, prices, costs={"cost": "r"}, limit=size, skip=(number - 1) * size)


def decision(log: Log, id: str, prices: PriceBook) -> dict[str, Any] | None:
    """Every column of one decision, and ``cost_now`` in USD; None when there is none."""
    row = _run(log, "decision", Filter(), prices, costs={"cost": "r"}, used=False, id=id)
    return None if row.empty else dict(row.iloc[0])


def summary(log: Log, chosen: Filter, prices: PriceBook) -> dict[str, Any]:
    """Counts, USD and classifier latency of a period; see ``summary.sql``."""
    frame = _run(log, "summary", chosen, prices, costs={"cost": "r"})
    return {key: _plain(value) for key, value in frame.iloc[0].items()}


def series(log: Log, chosen: Filter, prices: PriceBook, *, width: timedelta) -> pd.DataFrame:
    """Counts and USD over time; see ``series.sql``."""
    return _run(
        log, "series", chosen, prices, costs={"cost": "r"}, width=f"{int(width.total_seconds())} seconds"
    )


def latency(log: Log, chosen: Filter, *, width: timedelta) -> pd.DataFrame:
    """Time the classifier took (ms), by period; see ``latency.sql``."""
    condition, values = where(chosen)
    query = sql("latency").replace("{filter}", condition)
    return log.frame(query, values | {"width": f"{int(width.total_seconds())} seconds"})


def cells(
    log: Log, chosen: Filter, policy: Policy, prices: PriceBook, *, baseline: str | None = None
) -> pd.DataFrame:
    """Sums per label and confidence bin for the sweep; see ``cells.sql``. Labels outside the policy are left out."""
    return _run(
        log,
        "cells",
        chosen,
        prices,
        policy=policy,
        costs={"label_cost": "l", "fallback_cost": "f", "baseline_cost": "b"},
        fallback=policy.fallback_model,
        baseline=baseline or baseline_of(policy),
    )


def pairs(log: Log, chosen: Filter, policy: Policy, prices: PriceBook) -> pd.DataFrame:
    """How close the two best labels are; see ``pairs.sql``."""
    return _run(log, "pairs", chosen, prices, policy=policy, costs={"label_cost": "l", "other_cost": "t"})


def spend(
    log: Log, chosen: Filter, policy: Policy, prices: PriceBook, *, baseline: str | None = None
) -> pd.DataFrame:
    """What was paid beside the baseline; see ``spend.sql``."""
    return _run(
        log,
        "spend",
        chosen,
        prices,
        policy=policy,
        costs={"cost": "r", "baseline_cost": "b", "label_cost": "l"},
        baseline=baseline or baseline_of(policy),
    )


def flips(
    log: Log, chosen: Filter, policy: Policy, candidate: Policy, prices: PriceBook, *, limit: int = PAGE_SIZE
) -> pd.DataFrame:
    """Decisions that a candidate policy (other thresholds) sends to another model; see ``flips.sql``."""
    return _run(
        log,
        "flips",
        chosen,
        prices,
        policy=policy,
        candidate=candidate,
        costs={"candidate_cost": "c", "production_cost": "p"},
        fallback=policy.fallback_model,
        min_margin=policy.min_margin,
        limit=limit,
    )


def flip_counts(
    log: Log, chosen: Filter, policy: Policy, candidate: Policy, prices: PriceBook
) -> pd.DataFrame:
    """Decisions that cross a line, by model before and after; see ``flip_counts.sql``."""
    return _run(
        log,
        "flip_counts",
        chosen,
        prices,
        policy=policy,
        candidate=candidate,
        costs={"candidate_cost": "c", "production_cost": "p"},
        fallback=policy.fallback_model,
        min_margin=policy.min_margin,
    )


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
        "SELECT d.policy_fingerprint, any_value(p.name), count(*), max(d.decided_at), any_value(p.toml) "
        "FROM decisions d LEFT JOIN (SELECT fingerprint, any_value(name) AS name, any_value(toml) AS toml FROM policies "
        "GROUP BY fingerprint) p ON p.fingerprint = d.policy_fingerprint GROUP BY 1 ORDER BY 4 DESC"
    )
    names = ("fingerprint", "name", "n", "last_at", "toml")
    return [dict(zip(names, row, strict=True)) for row in rows]


def labels_seen(log: Log) -> list[str]:
    """Labels in the order of their first decision."""
    return [
        row[0]
        for row in log.rows(
            "SELECT top_label FROM decisions WHERE top_label IS NOT NULL GROUP BY 1 ORDER BY min(rowid)"
        )
    ]


def models_seen(log: Log) -> list[str]:
    """Models in the order of their first decision."""
    return [
        row[0]
        for row in log.rows(
            "SELECT coalesce(model_used, model_chosen) AS m FROM decisions GROUP BY 1 ORDER BY min(rowid)"
        )
    ]


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


def _run(
    log: Log,
    name: str,
    chosen: Filter,
    prices: PriceBook,
    *,
    costs: Mapping[str, str],
    policy: Policy | None = None,
    candidate: Policy | None = None,
    used: bool = True,
    **values: Any,
) -> pd.DataFrame:
    """Run a packaged query over a filter, priced by the book: ``costs`` names each cost and the join it is read from."""
    condition, bound = where(chosen)
    query = sql(name).replace("{filter}", condition).replace("{usage_known}", _usage_known())
    for key, alias in costs.items():
        query = query.replace("{" + key + "}", _cost(alias))
    tables: dict[str, Any] = {"rates": rates_table(log, chosen, prices, policy, extra=values.get("baseline"))}
    if policy is not None:
        tables["routes"] = _routes(policy, candidate or policy)
    if not used:
        bound = {}
    return log.frame(query, bound | values, tables)


def rates_table(
    log: Log, chosen: Filter, prices: PriceBook, policy: Policy | None, *, extra: str | None = None
) -> pa.Table:
    """Rates in USD per token of every model that the filter's decisions used or could have, by day."""
    import pyarrow as pa

    condition, values = where(replace(chosen, text=None, confidence=None))
    # The days there are, not all between the first and the last: one wrong clock would mean a million of them.
    days = log.rows(
        f"SELECT DISTINCT CAST(d.decided_at AS DATE) AS day FROM decisions d WHERE {condition} ORDER BY day",
        values,
    )
    models = list(models_seen(log)) + list(policy.model_names if policy else ()) + ([extra] if extra else [])
    rows = prices.table(models, [day for (day,) in days if day is not None])
    schema = pa.schema(
        [("model", pa.string()), ("day", pa.date32()), ("tier_from", pa.int64())]
        + [(name, pa.float64()) for name in _RATE_COLUMNS]
    )
    return pa.Table.from_pylist([{key: row.get(key) for key in schema.names} for row in rows], schema)


def _routes(policy: Policy, candidate: Policy) -> pa.Table:
    import pyarrow as pa

    return pa.table(
        {
            "label": pa.array(policy.label_names, pa.string()),
            "model": pa.array([label.model for label in policy.labels], pa.string()),
            "production": pa.array([policy.threshold_for(name) for name in policy.label_names], pa.float64()),
            "candidate": pa.array(
                [candidate.threshold_for(name) for name in policy.label_names], pa.float64()
            ),
        }
    )


def _usage_known() -> str:
    """Tokens that can be priced: input and output known, and not all zero (router.prices.countable)."""
    return (
        "(d.input_tokens IS NOT NULL AND d.output_tokens IS NOT NULL AND d.input_tokens + d.output_tokens"
        " + coalesce(d.cache_read_tokens, 0) + coalesce(d.cache_write_tokens, 0) > 0)"
    )


def _cost(alias: str) -> str:
    """USD of a row's tokens at the rates joined as ``alias``; NULL when either is unknown (router.prices.Rate.cost)."""

    def at(prefix: str) -> str:
        return (
            f"d.input_tokens * {alias}.{prefix}input + d.output_tokens * {alias}.{prefix}output"
            f" + coalesce(d.cache_read_tokens, 0) * {alias}.{prefix}cache_read"
            f" + coalesce(d.cache_write_tokens, 0) * {alias}.{prefix}cache_write"
        )

    tokens = "d.input_tokens + coalesce(d.cache_read_tokens, 0) + coalesce(d.cache_write_tokens, 0)"
    return f"(CASE WHEN NOT {_usage_known()} THEN NULL WHEN {tokens} > {alias}.tier_from THEN {at('tier_')} ELSE {at('')} END)"


def _plain(value: Any) -> Any:
    """A pandas scalar as plain Python, with missing as None."""
    import pandas as pd

    if value is None or value is pd.NaT or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    return value.item() if hasattr(value, "item") else value
