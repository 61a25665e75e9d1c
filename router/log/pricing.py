"""Rates joined to tokens: the price book as small tables, and costs as SQL over rows or over sums of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from router.log.rollups import RATED_BY, USAGE_KNOWN
from router.policy import Policy

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    from router.prices import PriceBook

_RATE_COLUMNS = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "tier_input",
    "tier_output",
    "tier_cache_read",
    "tier_cache_write",
    "tier_cache_write_1h",
)

_HELD = (*_RATE_COLUMNS, "tier_from")
_BUCKETS = ("input", "read", "write", "output", "long")
"""Kinds of tokens that are priced, as the products of the roll-ups name them (router/log/sql/migrations/002 and 004).

"long" are writes that live for an hour. They are among those of "write" too, and their rate is what they cost more.
"""

TOKENS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "cache_write_1h_tokens")
"""Sums of tokens in the order of the rates of ``priced``."""

_TOKENS = dict(zip(_BUCKETS, TOKENS, strict=True))
_RATE = ("input", "cache_read", "cache_write", "output")


def rates_table(
    prices: PriceBook, models: Iterable[str], days: Iterable[date], served: Iterable[str] = ("",)
) -> pa.Table:
    """Rates in USD per token, one row per known (model, day, service tier); ``served`` names the tiers, "" the plain one."""
    import pyarrow as pa

    schema = pa.schema(
        [
            ("model", pa.string()),
            ("day", pa.date32()),
            ("service_tier", pa.string()),
            ("tier_from", pa.int64()),
        ]
        + [(name, pa.float64()) for name in _RATE_COLUMNS]
    )
    rows = prices.table(models, days, served)
    return pa.table(
        {name: pa.array([row.get(name) for row in rows], schema.field(name).type) for name in schema.names}
    )


def routes_table(policy: Policy, candidate: Policy) -> pa.Table:
    """Labels of a policy with their models and thresholds, in production and tried."""
    import pyarrow as pa

    return pa.table(
        {
            "label": pa.array(policy.label_names, pa.string()),
            "place": pa.array(range(len(policy.labels)), pa.int32()),
            "model": pa.array([label.model for label in policy.labels], pa.string()),
            "production": pa.array([policy.threshold_for(name) for name in policy.label_names], pa.float64()),
            "candidate": pa.array(
                [candidate.threshold_for(name) for name in policy.label_names], pa.float64()
            ),
        }
    )


def tiers(rates: pa.Table) -> set[int]:
    """Where price tiers start: numbers of input tokens above which a request is dearer."""
    return {start for start in rates["tier_from"].to_pylist() if start is not None}


def row_cost(alias: str) -> str:
    """USD of one decision ``d`` at the rates joined as ``alias``; NULL when either is unknown (router.prices.Rate.cost)."""

    def at(prefix: str) -> str:
        return (
            f"d.input_tokens * {alias}.{prefix}input + d.output_tokens * {alias}.{prefix}output"
            f" + coalesce(d.cache_read_tokens, 0) * {alias}.{prefix}cache_read"
            f" + coalesce(d.cache_write_tokens, 0) * {alias}.{prefix}cache_write"
            # No such writes cost nothing more, also where their rate is not known.
            " + CASE WHEN coalesce(d.cache_write_1h_tokens, 0) = 0 THEN 0 ELSE"
            f" d.cache_write_1h_tokens * ({alias}.{prefix}cache_write_1h - {alias}.{prefix}cache_write) END"
        )

    tokens = "CAST(d.input_tokens AS BIGINT) + coalesce(d.cache_read_tokens, 0) + coalesce(d.cache_write_tokens, 0)"
    return f"(CASE WHEN NOT {USAGE_KNOWN} THEN NULL WHEN {tokens} > {alias}.tier_from THEN {at('tier_')} ELSE {at('')} END)"


def priced(
    sums: pd.DataFrame, models: Sequence[str | None], prices: PriceBook, *, day: str = "day"
) -> tuple[np.ndarray, np.ndarray]:
    """What each row's decisions cost together under a model, in USD; NaN when price or tokens are unknown.

    Parameters
    ----------
    sums : columns ``day`` (the day whose prices hold), usage_known, price_band, service_tier, long_writes and ``TOKENS``. A model
        is priced at the tier that the decisions were served at: routing, not a cheaper tier, is what a baseline is for.
    models : a model for each row, or None.

    Returns
    -------
    costs, shape (n,), and the rates behind them in USD per token, shape (n, 5), NaN when unknown.
    """
    import numpy as np

    found: dict[tuple[str, date, int, str, bool], list[float]] = {}
    rates = np.full((len(sums), len(_BUCKETS)), np.nan)
    known = sums["usage_known"].to_numpy(dtype=bool)
    days = sums[day].to_numpy().astype("datetime64[D]").tolist()
    kinds = list(zip(*(sums[name].tolist() for name in RATED_BY), strict=True))
    for row, (model, when, kind) in enumerate(zip(models, days, kinds, strict=True)):
        if not isinstance(model, str) or when is None or not known[row]:
            continue
        key = (model, when, *kind)
        if key not in found:
            found[key] = _rates(prices, *key) or [np.nan] * len(_BUCKETS)
        rates[row] = found[key]
    tokens = sums[[_TOKENS[x] for x in _BUCKETS]].to_numpy(dtype=float)
    return (tokens * rates).sum(axis=1), rates


def products(sums: pd.DataFrame, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Sum of (cost at rates ``one``) x (cost at rates ``two``), decision by decision, for each row of sums.

    The cost of a decision is linear in its token counts, so this needs only the sums of their products.
    """
    import numpy as np

    total = np.zeros(len(sums))
    for i, x in enumerate(_BUCKETS):
        for k, y in enumerate(_BUCKETS[i:], i):
            rates = one[:, i] * two[:, k] + (one[:, k] * two[:, i] if i != k else 0.0)
            total += sums[f"{x}_{y}"].to_numpy(dtype=float) * rates
    return total


def epochs(
    prices: PriceBook, models: Sequence[str], days: Iterable[date], served: Sequence[str] = ("",)
) -> tuple[pa.Table, list[date]]:
    """Days (or first days of months) numbered by the prices that hold then, and one day for each number."""
    import pyarrow as pa

    number: dict[tuple[Any, ...], int] = {}
    first: list[date] = []
    rows = []
    for day in days:
        held = tuple(
            tuple((prices.table([model], [day], [tier]) or [{}])[0].get(x) for x in _HELD)
            for model in models
            for tier in served
        )
        if held not in number:
            number[held] = len(first)
            first.append(day)
        rows.append((day, number[held]))
    table = {
        "day": pa.array([x for x, _ in rows], pa.date32()),
        "number": pa.array([x for _, x in rows], pa.int32()),
    }
    return pa.table(table), first


def token_sums(held: Sequence[str]) -> str:
    """The sums of cells.sql, of these kinds of tokens (of ``BUCKETS``) and their products."""
    sums = [f"CAST(sum(s.{_TOKENS[x]}) AS DOUBLE) AS {_TOKENS[x]}" for x in held]
    return ", ".join([*sums, *(f"sum(s.{x}_{y}) AS {x}_{y}" for x, y in _pairs(held))])


def _pairs(held: Sequence[str]) -> list[tuple[str, str]]:
    return [(x, y) for i, x in enumerate(held) for y in held[i:]]


def price_cells(
    found: Mapping[str, np.ndarray],
    policy: Policy,
    baseline: str,
    days: Sequence[date],
    served: Sequence[str],
    prices: PriceBook,
    held: Sequence[str],
) -> pd.DataFrame:
    """Sums of tokens by label and bin as sums of costs (router.analysis.tables.CELLS).

    The cost of a decision is linear in its token counts, so sums of costs are products of sums with rates, and sums
    of squares and products of costs are products of the sums of token products: two matrix products for each (label,
    time with the same prices, price band, service tier), whatever the number of decisions. In SQL the same takes five
    times as long.

    Parameters
    ----------
    found : columns of cells.sql.
    days : a day with the prices of each ``epoch``. ``served``: the service tier of each ``tier``. ``held``: kinds of tokens that
        ``found`` has sums of.
    """
    import numpy as np
    import pandas as pd

    bands, band = np.unique(found["price_band"], return_inverse=True)
    shape = (len(policy.labels), len(days) + 1, max(len(bands), 1), len(served), 2)
    parts = (found["place"], found["epoch"] + 1, band, found["tier"], found["long_writes"])
    segment = np.ravel_multi_index([np.asarray(x, dtype=np.int64) for x in parts], shape)
    columns = [_BUCKETS.index(x) for x in held]
    tokens = np.stack([found[_TOKENS[x]] for x in held], axis=1)
    products = np.stack([found[f"{x}_{y}"] for x, y in _pairs(held)], axis=1)
    costs = np.zeros((segment.size, len(_COSTS)))
    priced = np.array(found["usage_known"], dtype=bool)
    order = np.argsort(segment, kind="stable")
    edges = [*np.flatnonzero(np.diff(segment[order], prepend=-1)).tolist(), segment.size]
    for start, end in pairwise(edges):
        rows = order[start:end]
        label, epoch, in_band, at, long = (int(x) for x in np.unravel_index(segment[rows[0]], shape))
        kind = (int(bands[in_band]), served[at], bool(long))
        models = (policy.labels[label].model, policy.fallback_model, baseline)
        rates = [_rates(prices, model, days[epoch - 1], *kind) if epoch else None for model in models]
        if any(rate is None for rate in rates):
            priced[rows] = False
            continue
        linear, quadratic = _coefficients(np.array(rates)[:, columns])
        costs[rows, :3] = tokens[rows] @ linear
        costs[rows, 3:] = products[rows] @ quadratic
    costs[~priced] = 0.0
    # By name, so that the table comes out in its order.
    names = sorted(range(len(policy.labels)), key=lambda i: policy.label_names[i])
    rank = np.argsort(names)
    key = rank[found["place"]] * _BINS + found["bin"]
    n_keys = len(policy.labels) * _BINS

    def total(values: Any) -> np.ndarray:
        return np.bincount(key, weights=values, minlength=n_keys)[there]

    there = np.flatnonzero(np.bincount(key, minlength=n_keys))
    n = found["n"]
    table = {
        "label": np.asarray(policy.label_names, dtype=object)[names][there // _BINS],
        "bin": there % _BINS,
        "n": total(n).astype(np.int64),
        "n_priced": total(n * priced).astype(np.int64),
    }
    table |= {name: total(costs[:, i]) for i, name in enumerate(_COSTS)}
    # Of what is partly unknown the rest is kept, and counted as a lower bound.
    table["n_classifier_unknown"] = total(found["n_classifier_unknown"] * priced).astype(np.int64)
    table["classifier_cost"] = total(found["classifier_cost"] * priced)
    for name, grade in (("n_measured", 1), ("n_assumed", 2)):
        table[name] = total(n * (priced & (found["grade"] == grade))).astype(np.int64)
    return pd.DataFrame(table)


_BINS = 10_001
_COSTS = (
    "label_cost",
    "fallback_cost",
    "baseline_cost",
    "label_cost_sq",
    "fallback_cost_sq",
    "baseline_cost_sq",
    "label_fallback",
    "label_baseline",
    "fallback_baseline",
)
_FACTORS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
"""The two of (label, fallback, baseline) whose costs are multiplied, for the last six of ``_COSTS``."""


def _rates(
    prices: PriceBook, model: str, day: date, lower: int, served: str, long: bool
) -> list[float] | None:
    """Rates in USD per token of each kind, of requests above ``lower`` input tokens; None when one that is needed is unknown.

    ``served``: their service tier. ``long``: whether they have writes that live for an hour.
    """
    for row in prices.table([model], [day], [served]):
        tier = "tier_" if row["tier_from"] is not None and lower >= row["tier_from"] else ""
        hour = row[f"{tier}cache_write_1h"]
        if long and hour is None:
            return None
        more = hour - row[f"{tier}cache_write"] if long else 0.0
        return [*(row[tier + name] for name in _RATE), more]
    return None


def _coefficients(rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What token sums and token products are multiplied with; ``rates``: a row for each of three models, a column for each kind."""
    import numpy as np

    n = rates.shape[1]
    pairs = [(i, k) for i in range(n) for k in range(i, n)]
    quadratic = np.empty((len(pairs), len(_FACTORS)))
    for column, (one, two) in enumerate(_FACTORS):
        for row, (i, k) in enumerate(pairs):
            a, b = rates[one], rates[two]
            quadratic[row, column] = a[i] * b[k] + (a[k] * b[i] if i != k else 0.0)
    return rates.T, quadratic
