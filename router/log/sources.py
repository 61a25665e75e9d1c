"""Where a query takes its sums from: roll-ups for the whole periods of a range, rows for what is left at its ends."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from itertools import product
from typing import TYPE_CHECKING, Any

from router.log.filters import Filter, where
from router.log.rollups import BY_TABLE, PRICE_BANDS, SUMS, Rollup, select
from router.policy import GRID
from router.types import REPLIES, UNCHARGED

if TYPE_CHECKING:
    from router.log.reader import Log
    from router.prices import PriceBook

_ANSWERABLE = {
    "hourly": {"policy", "labels", "models", "causes", "source", "outcomes", "failed", "unmeasured"},
    "cells": {"policy", "labels", "models", "causes", "source", "confidence"},
    "margins": {"policy", "labels", "models", "causes", "source"},
    "latencies": {"policy", "labels", "models", "causes", "source"},
}
"""Conditions of a filter that a roll-up's keys can answer."""

_NEEDLESS = {
    "hourly": ("policy_fingerprint", "source"),
    "cells": ("policy_fingerprint", "source", "cause", "model_used", "model_chosen"),
    "margins": ("policy_fingerprint", "source", "cause", "model_used", "model_chosen"),
    "latencies": ("policy_fingerprint", "source", "cause", "model_used", "model_chosen", "top_label"),
}
"""Columns that only filters need: rows that were filtered are not grouped by them."""


@dataclass(frozen=True, slots=True)
class Source:
    """SQL of a subquery with a roll-up's columns, its bound values, and whether it reads decisions at all."""

    sql: str
    values: dict[str, Any]
    reads_rows: bool


def source(
    log: Log,
    chosen: Filter,
    table: str,
    *,
    period: str,
    whole: bool = True,
    rows_for: Sequence[date] = (),
    tiers: Collection[int] = (),
) -> Source:
    """Sums of the decisions that match, as rows of a roll-up.

    Parameters
    ----------
    period : SQL of the period that decisions read as rows are summed by.
    whole : False reads rows alone.
    rows_for : first days of months that are read from rows.
    tiers : where price tiers start. One that roll-ups cannot tell apart has everything read from rows.
    """
    steps = tuple(sorted({*PRICE_BANDS, *tiers}))
    whole = whole and steps == PRICE_BANDS
    rollup = BY_TABLE[table]
    chosen = _within(log, chosen)
    condition = _keys_condition(chosen, table) if whole else None
    if condition is None:
        text, values = _rows(rollup, chosen, period, steps)
        return Source(text, values, True)
    low, high = _ceil(chosen.start, rollup), _floor(chosen.end, rollup)
    if low is not None and high is not None and low >= high:
        text, values = _rows(rollup, chosen, period, steps)
        return Source(text, values, True)
    keys, values = condition
    parts = [f"{rollup.column} >= $whole_from"] if low is not None else []
    parts += [f"{rollup.column} < $whole_to"] if high is not None else []
    parts += [f"{rollup.column} NOT IN (SELECT unnest($rows_for))"] if rows_for else []
    values |= {
        name: value
        for name, value in (("whole_from", low), ("whole_to", high), ("rows_for", list(rows_for)))
        if value is not None and value != []
    }
    pieces = [f"SELECT * FROM {table} s WHERE {' AND '.join(['true', *keys, *parts])}"]
    for number, (start, end) in enumerate(_ends(chosen, low, high, rows_for)):
        text, bound = _rows(
            rollup, replace(chosen, start=start, end=end, upto=None), period, steps, suffix=f"_{number}"
        )
        pieces.append(text)
        values |= bound
    if chosen.upto is not None:  # what was ingested since is taken away again: few rows, and those at the end
        text, bound = _rows(rollup, chosen, period, steps, since=True)
        less = ", ".join(f"-{name} AS {name}" for name in SUMS[table])
        pieces.append(f"SELECT * REPLACE ({less}) FROM ({text})")
        values |= bound
    return Source(" UNION ALL BY NAME ".join(f"({piece})" for piece in pieces), values, len(pieces) > 1)


def days(log: Log, chosen: Filter) -> list[date]:
    """Days (UTC) of the decisions in a filter's time range, in order."""
    return [
        day
        for (day,) in log.rows(
            *_in_range("SELECT DISTINCT CAST(hour AS DATE) AS day FROM hourly", chosen, "day")
        )
    ]


def models(log: Log, chosen: Filter | None = None) -> list[str]:
    """Models that answered (or were to) in a filter's time range, in the order of their first decision."""
    query = "SELECT model FROM hourly"
    return [
        name
        for (name,) in log.rows(*_in_range(query, chosen or Filter(), "min(first_at), model", group="model"))
    ]


def service_tiers(log: Log) -> list[str]:
    """Service tiers at which calls were served, the plain one ("") always among them."""
    rows = log.rows("SELECT DISTINCT service_tier FROM hourly WHERE service_tier IS NOT NULL")
    return sorted({"", *(tier for (tier,) in rows)})


def token_kinds(log: Log) -> list[str]:
    """Kinds of tokens that the log has any of, input and output always among them, in the order of ``pricing``.

    Caches are rare, and nothing has to be added up of a kind that nobody was charged for.
    """
    kinds = {"read": "cache_read_tokens", "write": "cache_write_tokens", "long": "cache_write_1h_tokens"}
    [told] = log.rows(
        f"SELECT {', '.join(f'coalesce(sum({x}), 0) <> 0' for x in kinds.values())} FROM hourly"
    )
    there = {kind for kind, some in zip(kinds, told, strict=True) if some}
    return [x for x in ("input", "read", "write", "output", "long") if x in there or x in ("input", "output")]


def varying_months(
    prices: PriceBook, names: Sequence[str], seen: Sequence[date], tiers: Sequence[str] = ("",)
) -> list[date]:
    """First days of the months in which a model's price changes before the last day that has decisions.

    Sums of a month are priced on its first day, so that one is compared too, decisions or not.
    """
    first: dict[tuple[str, str, date], Any] = {}
    varying = set()
    for day in sorted({*seen, *(day.replace(day=1) for day in seen)}):
        month = day.replace(day=1)
        for name, tier in product(names, tiers):
            rate = prices.rate(name, day, tier=tier)
            if first.setdefault((name, tier, month), rate) != rate:
                varying.add(month)
    return sorted(varying)


def _in_range(query: str, chosen: Filter, order: str, group: str = "") -> tuple[str, dict[str, Any]]:
    parts, values = ["hour IS NOT NULL"], {}
    if chosen.start is not None:
        parts.append("hour >= date_trunc('hour', $start)")
        values["start"] = chosen.start
    if chosen.end is not None:
        parts.append("hour < $end")
        values["end"] = chosen.end
    grouped = f" GROUP BY {group}" if group else ""
    return f"{query} WHERE {' AND '.join(parts)}{grouped} ORDER BY {order}", values


def _within(log: Log, chosen: Filter) -> Filter:
    """The filter without ends that lie outside the log: an open end needs no rows."""
    if chosen.upto is not None:
        total = log.rows("SELECT coalesce(max(rowid) + 1, 0) FROM decisions")[0][0]
        chosen = replace(chosen, upto=None) if chosen.upto >= total else chosen
    if chosen.start is None and chosen.end is None:
        return chosen
    first, last, timeless = log.rows(
        "SELECT min(first_at), max(last_at), count(*) FILTER (WHERE hour IS NULL) FROM hourly"
    )[0]
    if timeless:  # rows without a time match no range, and every open one
        return chosen
    start = None if first is not None and chosen.start is not None and chosen.start <= first else chosen.start
    end = None if last is not None and chosen.end is not None and chosen.end > last else chosen.end
    return replace(chosen, start=start, end=end)


def _keys_condition(chosen: Filter, table: str) -> tuple[list[str], dict[str, Any]] | None:
    """The filter as conditions on a roll-up's keys; None when they cannot answer it."""
    if not set(chosen.active) <= _ANSWERABLE[table]:
        return None
    parts: list[str] = []
    values: dict[str, Any] = {}
    for name, column in (
        ("labels", "label"),
        ("models", "model"),
        ("causes", "cause"),
        ("outcomes", "outcome"),
    ):
        if wanted := getattr(chosen, name):
            parts.append(f"list_contains(${name}, s.{column})")
            values[name] = list(wanted)
    for name, column in (("policy", "policy_fingerprint"), ("source", "source")):
        if (one := getattr(chosen, name)) is not None:
            parts.append(f"s.{column} = ${name}")
            values[name] = one
    if chosen.failed:
        parts.append("s.outcome IS NOT NULL AND NOT list_contains($replies, s.outcome)")
        values["replies"] = list(REPLIES)
    if chosen.unmeasured:
        parts.append("NOT s.usage_known AND NOT coalesce(list_contains($uncharged, s.outcome), false)")
        values["uncharged"] = sorted(UNCHARGED)
    if chosen.confidence is not None:
        low, high = chosen.confidence
        bins = (_bin(low), _bin(high) if high < 1.0 else GRID + 1)
        if bins[0] is None or bins[1] is None:
            return None
        parts.append("s.bin >= $bin_from AND s.bin < $bin_to")
        values |= {"bin_from": bins[0], "bin_to": bins[1]}
    return parts, values


def _bin(edge: float) -> int | None:
    """The bin that begins at an edge; None off the grid, where a bin would be cut in two."""
    k = round(edge * GRID)
    return k if k / GRID == edge else None


def _rows(
    rollup: Rollup, chosen: Filter, period: str, steps: Sequence[int], suffix: str = "", since: bool = False
) -> tuple[str, dict[str, Any]]:
    """SQL that sums up the rows that match; ``since``: those that were ingested after ``upto``, not those before."""
    condition, values = where(chosen)
    if since:
        condition = condition.replace("d.rowid < $upto", "d.rowid >= $upto")
    if suffix:  # several of these in one statement bind their own times
        for name in ("start", "end"):
            condition = condition.replace(f"${name}", f"${name}{suffix}")
        values = {f"{k}{suffix}" if k in ("start", "end") else k: v for k, v in values.items()}
    blank = ", ".join(f"NULL::VARCHAR AS {name}" for name in _NEEDLESS[rollup.table])
    rows = f"(SELECT d.* REPLACE ({blank}) FROM decisions d WHERE {condition})"
    return select(rollup, rows, period=period, steps=steps), values


def _ends(
    chosen: Filter, low: datetime | None, high: datetime | None, rows_for: Sequence[date]
) -> list[tuple[datetime | None, datetime | None]]:
    """Spans that are read from rows: before the first whole period, after the last, and the months asked for."""
    spans: list[tuple[datetime | None, datetime | None]] = []
    if chosen.start is not None and chosen.start != low:
        spans.append((chosen.start, low))
    if chosen.end is not None and chosen.end != high:
        spans.append((high, chosen.end))
    for month in rows_for:
        first = datetime.combine(month, time())
        last = datetime.combine(_next_month(month), time())
        if (low is None or first >= low) and (high is None or last <= high):
            spans.append((first, last))
    return spans


def _next_month(month: date) -> date:
    return (
        month.replace(year=month.year + 1, month=1)
        if month.month == 12
        else month.replace(month=month.month + 1)
    )


def _floor(moment: datetime | None, rollup: Rollup) -> datetime | None:
    if moment is None:
        return None
    whole = moment.replace(minute=0, second=0, microsecond=0)
    if rollup.column != "hour":
        whole = whole.replace(hour=0)
    return whole.replace(day=1) if rollup.column == "month" else whole


def _ceil(moment: datetime | None, rollup: Rollup) -> datetime | None:
    whole = _floor(moment, rollup)
    if whole is None or whole == moment:
        return whole
    if rollup.column == "month":
        return datetime.combine(_next_month(whole.date()), time())
    return whole + (timedelta(hours=1) if rollup.column == "hour" else timedelta(days=1))
