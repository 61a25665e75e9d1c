"""Rates joined to tokens: the price book as small tables, and costs as SQL over rows or over sums of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING

from router.log.rollups import PRICE_BANDS, USAGE_KNOWN
from router.policy import Policy

if TYPE_CHECKING:
    import pyarrow as pa

    from router.prices import PriceBook

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

_BUCKETS = ("input", "read", "write", "output")
"""Kinds of tokens that are priced, as the products of the roll-ups name them (router/log/sql/migrations/002)."""

_TOKENS = {
    "input": "input_tokens",
    "read": "cache_read_tokens",
    "write": "cache_write_tokens",
    "output": "output_tokens",
}
_RATE = {"input": "input", "read": "cache_read", "write": "cache_write", "output": "output"}


def rates_table(prices: PriceBook, models: Iterable[str], days: Iterable[date]) -> pa.Table:
    """Rates in USD per token, one row per known (model, day)."""
    import pyarrow as pa

    schema = pa.schema(
        [("model", pa.string()), ("day", pa.date32()), ("tier_from", pa.int64())]
        + [(name, pa.float64()) for name in _RATE_COLUMNS]
    )
    rows = prices.table(models, days)
    return pa.table(
        {name: pa.array([row.get(name) for row in rows], schema.field(name).type) for name in schema.names}
    )


def routes_table(policy: Policy, candidate: Policy) -> pa.Table:
    """Labels of a policy with their models and thresholds, in production and tried."""
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


def are_banded(rates: pa.Table) -> bool:
    """Whether every price tier starts at a step that roll-ups tell apart."""
    return all(start is None or start in PRICE_BANDS for start in rates["tier_from"].to_pylist())


def row_cost(alias: str) -> str:
    """USD of one decision ``d`` at the rates joined as ``alias``; NULL when either is unknown (router.prices.Rate.cost)."""

    def at(prefix: str) -> str:
        return (
            f"d.input_tokens * {alias}.{prefix}input + d.output_tokens * {alias}.{prefix}output"
            f" + coalesce(d.cache_read_tokens, 0) * {alias}.{prefix}cache_read"
            f" + coalesce(d.cache_write_tokens, 0) * {alias}.{prefix}cache_write"
        )

    tokens = "d.input_tokens + coalesce(d.cache_read_tokens, 0) + coalesce(d.cache_write_tokens, 0)"
    return f"(CASE WHEN NOT {USAGE_KNOWN} THEN NULL WHEN {tokens} > {alias}.tier_from THEN {at('tier_')} ELSE {at('')} END)"


def sum_cost(alias: str) -> str:
    """USD of the decisions summed up in ``s`` at the rates joined as ``alias``; NULL when either is unknown."""

    def at(prefix: str) -> str:
        return " + ".join(f"s.{_TOKENS[x]} * {alias}.{prefix}{_RATE[x]}" for x in _BUCKETS)

    return (
        f"(CASE WHEN NOT s.usage_known THEN NULL WHEN s.price_band >= {alias}.tier_from THEN {at('tier_')}"
        f" ELSE {at('')} END)"
    )


def sum_product(one: str, two: str) -> str:
    """Sum of (cost at ``one``) x (cost at ``two``), decision by decision, from the products of token counts."""
    terms = []
    for i, x in enumerate(_BUCKETS):
        for y in _BUCKETS[i:]:
            rates = f"{_rate(one, x)} * {_rate(two, y)}"
            if x != y:
                rates = f"({rates} + {_rate(one, y)} * {_rate(two, x)})"
            terms.append(f"s.{x}_{y} * {rates}")
    return f"(CASE WHEN s.usage_known THEN {' + '.join(terms)} END)"


def _rate(alias: str, bucket: str) -> str:
    name = _RATE[bucket]
    return f"(CASE WHEN s.price_band >= {alias}.tier_from THEN {alias}.tier_{name} ELSE {alias}.{name} END)"
