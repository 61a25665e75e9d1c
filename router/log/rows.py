"""A row of an export as the record it came from: every column checked, every digit kept."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, get_args

import orjson

from router.log.record import SCHEMA_VERSION
from router.types import CAUSES, VERDICTS, Grade, Outcome

Table = Literal["decisions", "feedback"]
KEYS: dict[Table, str] = {"decisions": "id", "feedback": "decision_id"}
REQUIRED: dict[Table, tuple[str, ...]] = {
    "decisions": ("id", "decided_at", "cause", "is_fallback", "model_chosen"),
    "feedback": ("decision_id", "verdict"),
}
_KINDS: dict[Table, dict[str, Any]] = {
    "decisions": {"kind": "decision", "v": SCHEMA_VERSION},
    "feedback": {"kind": "feedback"},
}
_WORDS: dict[str, tuple[str, ...]] = {
    "cause": CAUSES,
    "outcome": get_args(Outcome),
    "usage_grade": get_args(Grade),
    "verdict": VERDICTS,
}
_SHARES = ("confidence", "threshold", "propensity", "inclusion_probability")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\Z")
_INTEGER = re.compile(r"[+-]?\d{1,19}\Z")
_DECIMALS = 12
_MOST_USD = Decimal(1_000_000)
_MOST_MS = 1e12


class RowError(Exception):
    """A row that is none of this table: names the column and what was expected, never the value."""


class Shape:
    """Reads rows of one table.

    Parameters
    ----------
    columns : names and DuckDB types, as the migrated schema has them.
    """

    def __init__(self, table: Table, columns: Iterable[tuple[str, str]]) -> None:
        self.table: Table = table
        self.types = dict(columns)
        self.required = REQUIRED[table]
        self.raw = frozenset(name for name, kind in self.types.items() if kind == "JSON")
        """Columns whose JSON text is wanted as it stands, not parsed."""
        self.money = frozenset(name for name, kind in self.types.items() if kind.startswith("DECIMAL"))
        self._readers = {name: _reader(name, kind) for name, kind in self.types.items()}

    def unknown(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those names that are no columns of the table."""
        return tuple(name for name in names if name not in self.types)

    def record(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The record of a row: values as text (of CSV), or as JSON or Parquet have them; None is NULL.

        What is no column goes into ``extra``, where the table has it.

        Raises
        ------
        RowError
            A value is missing, or is none of its column.
        """
        record = dict(_KINDS[self.table])
        others = {}
        for name, value in row.items():
            if value is None:
                continue
            reader = self._readers.get(name)
            if reader is None:
                others[name] = value
                continue
            try:
                record[name] = reader(value)
            except (ValueError, OverflowError) as error:
                raise RowError(f"{name}: {error}") from None
        for name in self.required:
            if name not in record:
                raise RowError(f"{name} is missing")
        if others and "extra" in self.types:
            record["extra"] = with_more(record.get("extra"), others)
        return record


def with_more(extra: orjson.Fragment | None, more: Mapping[str, Any], *, replace: bool = False) -> Any:
    """``extra`` with further keys; what it has already stays, as it is written, unless it is to be replaced."""
    if extra is None:
        return orjson.Fragment(orjson.dumps(more, str))
    text = _text_of(extra)
    found = orjson.loads(text)
    if not isinstance(found, dict):
        return extra
    if replace and not found.keys().isdisjoint(more):
        return orjson.Fragment(orjson.dumps(found | dict(more), str))
    new = {key: value for key, value in more.items() if key not in found}
    if not new:
        return extra
    tail = orjson.dumps(new, str).decode()[1:]
    return orjson.Fragment(text.rstrip()[:-1] + ("," if found else "") + tail)


def _text_of(fragment: orjson.Fragment) -> str:
    return orjson.dumps(fragment).decode()


def _reader(name: str, kind: str) -> Callable[[Any], Any]:
    if name in _WORDS:
        return _one_of(_WORDS[name])
    if name in _SHARES:
        return _share
    if name.endswith("_ms"):
        return _milliseconds
    if kind.startswith("DECIMAL"):
        return _money
    if kind.startswith("MAP"):
        return _scores
    return _READERS[kind]


def _id(value: Any) -> str:
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, bytes) and len(value) == 16:
        return str(uuid.UUID(bytes=value))
    if isinstance(value, str) and _UUID.match(value):
        return value.lower()
    raise ValueError("no UUID, like 019a2f3c-5a00-7000-8000-0123456789ab")


def _time(value: Any) -> datetime:
    when = value
    if isinstance(value, str):
        try:
            when = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("no time in ISO form, like 2026-11-02T09:30:00Z") from None
    if not isinstance(when, datetime):
        raise ValueError("no time in ISO form, like 2026-11-02T09:30:00Z")
    if when.tzinfo is not None:
        when = when.astimezone(UTC)
    return datetime(when.year, when.month, when.day, when.hour, when.minute, when.second, when.microsecond)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def _one_of(words: tuple[str, ...]) -> Callable[[Any], str]:
    known = frozenset(words)

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"none of {', '.join(words)}")
        return value

    return read


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    found = {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("neither true nor false")
    return found


def _count(most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        number = value
        if isinstance(value, str):
            number = int(value) if _INTEGER.match(value) else None
        elif isinstance(value, float) and value.is_integer():
            number = int(value)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= most:
            raise ValueError(f"no whole number from 0 to {most:,}")
        return number

    return read


def _double(value: Any) -> float:
    number = math.nan
    if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
    if not math.isfinite(number):
        raise ValueError("no number")
    return number


def _share(value: Any) -> float:
    number = _double(value)
    if not 0.0 <= number <= 1.0:
        raise ValueError("no number in [0, 1]")
    return number


def _milliseconds(value: Any) -> float:
    number = _double(value)
    if not 0.0 <= number <= _MOST_MS:
        raise ValueError(f"no number of milliseconds from 0 to {_MOST_MS:,.0f}")
    return number


def _money(value: Any) -> Decimal:
    amount = Decimal("NaN")
    if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool):
        try:
            amount = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        except InvalidOperation:
            amount = Decimal("NaN")
    if not amount.is_finite() or not 0 <= amount < _MOST_USD:
        raise ValueError("no amount in USD from 0 to below 1,000,000")
    exact = round(amount, _DECIMALS)
    if exact != amount:
        raise ValueError(f"an amount with more than {_DECIMALS} decimals")
    return exact


def _scores(value: Any) -> dict[str, float | None]:
    given = value
    if isinstance(value, str):
        try:
            given = orjson.loads(value)
        except orjson.JSONDecodeError:
            given = None
    if not isinstance(given, Mapping):
        raise ValueError("no object of labels and numbers")
    return {_text(label): None if score is None else _double(score) for label, score in given.items()}


def _json(value: Any) -> orjson.Fragment:
    if not isinstance(value, str):
        raise ValueError("no JSON text")
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        raise ValueError("no valid JSON") from None
    return orjson.Fragment(value)


_READERS: dict[str, Callable[[Any], Any]] = {
    "UUID": _id,
    "TIMESTAMP": _time,
    "VARCHAR": _text,
    "BOOLEAN": _boolean,
    "INTEGER": _count(2**31 - 1),
    "BIGINT": _count(2**63 - 1),
    "DOUBLE": _double,
    "JSON": _json,
}
