"""Roll-ups: sums of decisions by hour, month or day, kept up to date in the transaction that inserts the rows.

Ingest appends what a batch adds (a delta); a checkpoint merges deltas with the rows they belong to. One SQL text per
roll-up serves the delta of a batch, the recomputation of months, and the rows at the ends of a page's time range, so
that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from router.log.schema import sql, transaction

if TYPE_CHECKING:
    import duckdb

MERGE_ROWS = 20_000
"""Deltas of a roll-up that are kept before a checkpoint merges them."""

USAGE_KNOWN = (
    "(d.input_tokens IS NOT NULL AND d.output_tokens IS NOT NULL AND CAST(d.input_tokens AS BIGINT) + d.output_tokens"
    " + coalesce(d.cache_read_tokens, 0) + coalesce(d.cache_write_tokens, 0) > 0"
    " AND coalesce(d.cache_write_1h_tokens, 0) BETWEEN 0 AND coalesce(d.cache_write_tokens, 0))"
)
"""Tokens that can be priced: input and output known, not all zero, and no contradiction (router.prices.countable)."""

PRICE_BANDS = (32_000, 100_000, 128_000, 199_999, 200_000, 256_000, 272_000, 512_000, 524_288)
"""The steps of the macro ``price_band``: a price tier that starts elsewhere cannot be told from roll-ups."""

RATED_BY = ("price_band", "service_tier", "long_writes")
"""Keys that set the rates of a decision's tokens, besides its model and day."""

MS_BASE = 1.02
"""Ratio of two neighbouring bins of ``latencies``: a bin's middle is within 1 % of every time in it."""


@dataclass(frozen=True, slots=True)
class Rollup:
    """One roll-up: its table, the column that holds the period, that period, and its key columns."""

    table: str
    column: str
    period: str
    keys: tuple[str, ...]


_COMMON = ("policy_fingerprint", "label", "model", "cause", "source")
ROLLUPS = (
    Rollup(
        "hourly",
        "hour",
        "date_trunc('hour', d.decided_at)",
        (*_COMMON, "answered", "outcome", "usage_grade", "usage_known", "costed", *RATED_BY),
    ),
    Rollup(
        "cells",
        "month",
        "CAST(date_trunc('month', d.decided_at) AS DATE)",
        (*_COMMON, "bin", "usage_grade", "usage_known", *RATED_BY),
    ),
    Rollup(
        "margins",
        "month",
        "CAST(date_trunc('month', d.decided_at) AS DATE)",
        (*_COMMON, "runner_up", "margin_bin", "usage_known", *RATED_BY),
    ),
    Rollup("latencies", "day", "CAST(d.decided_at AS DATE)", (*_COMMON, "ms_bin")),
)
BY_TABLE = {rollup.table: rollup for rollup in ROLLUPS}
_EARLIEST = ("first_at",)
_LATEST = ("last_at",)
_TOKENS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "cache_write_1h_tokens",
)
_KINDS = ("input", "read", "write", "output", "long")
_PRODUCTS = tuple(f"{x}_{y}" for i, x in enumerate(_KINDS) for y in _KINDS[i:])
_COSTED = ("n", "classifier_cost", "n_classifier_unknown", *_TOKENS, *_PRODUCTS)
SUMS = {
    "hourly": (
        "n_scored",
        "n_fallback",
        "n_retried",
        "failed_cost",
        "n_failed_unknown",
        "logged_cost",
        *_COSTED,
    ),
    "cells": _COSTED,
    "margins": ("n", *_TOKENS),
    "latencies": ("n",),
}
"""Columns that can be taken away again: all that are added up but the least and the greatest time."""


def select(
    rollup: Rollup,
    rows: str,
    condition: str = "true",
    period: str | None = None,
    steps: Sequence[int] = PRICE_BANDS,
) -> str:
    """SQL for the sums of some rows: ``rows`` is a table or a subquery with the columns of ``decisions``, named ``d``.

    ``steps`` other than ``PRICE_BANDS`` tell other price tiers apart; only rows that are not kept may have them.
    """
    band = "price_band(i + r + w)" if tuple(steps) == PRICE_BANDS else _band(steps)
    text = sql(f"rollup_{rollup.table}")
    for name, value in (
        ("rows", rows),
        ("filter", condition),
        ("period", period or rollup.period),
        ("usage_known", USAGE_KNOWN),
        ("price_band", band),
    ):
        text = text.replace("{" + name + "}", value)
    return text


def _band(steps: Sequence[int]) -> str:
    whens = " ".join(f"WHEN i + r + w > {int(step)} THEN {int(step)}" for step in sorted(steps, reverse=True))
    return f"CAST(CASE {whens} ELSE 0 END AS INTEGER)"


def append(con: duckdb.DuckDBPyConnection, rows: str) -> None:
    """Add what a batch adds, inside the caller's transaction. ``rows`` names a table of decisions not yet accounted for."""
    for rollup in ROLLUPS:
        con.execute(
            f"INSERT INTO {rollup.table} BY NAME SELECT *, true AS is_delta FROM ({select(rollup, rows)})"
        ).fetchall()


def merge(con: duckdb.DuckDBPyConnection, *, above: int = MERGE_ROWS) -> int:
    """Merge the deltas of every roll-up that has more than ``above``; returns how many were merged. A transaction of its own."""
    merged = 0
    for rollup in ROLLUPS:
        row = con.execute(f"SELECT count(*) FROM {rollup.table} WHERE is_delta").fetchone()
        if row is not None and row[0] > above:
            with transaction(con):
                _merge(con, rollup)
            merged += int(row[0])
    return merged


def refill(con: duckdb.DuckDBPyConnection, since: date | None = None, until: date | None = None) -> None:
    """Recompute the roll-ups of whole months from ``decisions``, inside the caller's transaction.

    Parameters
    ----------
    since, until : the months that the half-open span touches; None: open at that end. With both None also decisions
        without a time.
    """
    for rollup in ROLLUPS:
        kept, counted = ["true"], ["true"]
        values: dict[str, date] = {}
        if since is not None:
            values["since"] = since.replace(day=1)
            kept.append(f"{rollup.column} >= $since")
            counted.append("d.decided_at >= $since")
        if until is not None:
            values["until"] = _month_end(until)
            kept.append(f"{rollup.column} < $until")
            counted.append("d.decided_at < $until")
        con.execute(f"DELETE FROM {rollup.table} WHERE {' AND '.join(kept)}", values).fetchall()
        source = select(rollup, "decisions", " AND ".join(counted))
        con.execute(
            f"INSERT INTO {rollup.table} BY NAME SELECT *, false AS is_delta FROM ({source})", values
        ).fetchall()


def sums(con: duckdb.DuckDBPyConnection, rollup: Rollup) -> list[str]:
    """Columns of a roll-up that are added up (least and greatest times included), in the table's order."""
    found = con.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = $t ORDER BY ordinal_position",
        {"t": rollup.table},
    ).fetchall()
    outside = {rollup.column, "is_delta", *rollup.keys}
    return [name for (name,) in found if name not in outside]


def added(name: str) -> str:
    """SQL that adds up one column of a roll-up."""
    if name in _EARLIEST:
        return f"min({name})"
    return f"max({name})" if name in _LATEST else f"sum({name})"


def _merge(con: duckdb.DuckDBPyConnection, rollup: Rollup) -> None:
    keys = ", ".join((rollup.column, *rollup.keys))
    columns = ", ".join(f"{added(name)} AS {name}" for name in sums(con, rollup))
    touched = f"{rollup.column} IN (SELECT DISTINCT {rollup.column} FROM {rollup.table} WHERE is_delta)"
    # A period of NULL (a decision without a time) is never IN a list: its few deltas stay, and add up all the same.
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE merging AS SELECT {keys}, {columns}, false AS is_delta "
        f"FROM {rollup.table} WHERE {touched} GROUP BY {keys}"
    ).fetchall()
    con.execute(f"DELETE FROM {rollup.table} WHERE {touched}").fetchall()
    con.execute(f"INSERT INTO {rollup.table} BY NAME SELECT * FROM merging").fetchall()
    con.execute("DROP TABLE merging").fetchall()


def _month_end(until: date) -> date:
    """First day of the month after the last one that ``[.., until)`` touches."""
    first = until.replace(day=1)
    if first == until:
        return until
    return (
        first.replace(year=first.year + 1, month=1)
        if first.month == 12
        else first.replace(month=first.month + 1)
    )
