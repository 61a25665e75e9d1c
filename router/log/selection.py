"""Which decisions an erasure is about, in the words of each place that holds them: tables, parts of the archive, lines."""

from __future__ import annotations

import re
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import orjson

from router.errors import InputError

if TYPE_CHECKING:
    import duckdb

    from router.log.tasks import Selector

Verdict = Literal["none", "some", "all"]
_CONDITIONS = {
    "id": "id IN (SELECT unnest($values::VARCHAR[]))",
    "session": "session_id IN (SELECT unnest($values::VARCHAR[]))",
    "prompt_hash": "prompt_sha256 IN (SELECT unnest($values::VARCHAR[]))",
    "days": "decided_at < CAST($values[1] AS TIMESTAMP)",
}
_IDS_IN_TABLE = "id IN (SELECT CAST(unnest($values::VARCHAR[]) AS UUID))"
_MOST_NEEDLES = 10
_FIELDS = {"id": "id", "session": "session_id", "prompt_hash": "prompt_sha256"}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which decisions to erase: by any of some "id", "session", "prompt_hash" (SHA-256, hex), or "days": all before one UTC time."""

    selector: Selector
    values: tuple[str, ...]
    _set: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_set", frozenset(self.values))

    @classmethod
    def of(cls, selector: Selector, *values: str) -> Selection:
        """A selection with its values in the form that the log has them in.

        Raises
        ------
        InputError
            No UUID, no SHA-256, no time, or nothing.
        """
        return cls(selector, tuple(dict.fromkeys(_value(selector, value) for value in values)))

    @property
    def cutoff(self) -> datetime | None:
        """The time before which decisions are erased, for "days"."""
        return datetime.fromisoformat(self.values[0]) if self.selector == "days" else None

    @property
    def bound(self) -> dict[str, list[str]]:
        """The one parameter of its SQL."""
        return {"values": list(self.values)}

    @property
    def in_table(self) -> str:
        """SQL over ``decisions``; its only parameter is ``$values``."""
        return _IDS_IN_TABLE if self.selector == "id" else _CONDITIONS[self.selector]

    @property
    def in_part(self) -> str:
        """SQL over a part of the archive, where ids are text."""
        return _CONDITIONS[self.selector]

    def literal(self, condition: str) -> str:
        """The same SQL with the values in it, where none can be bound."""
        quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in self.values)
        return condition.replace("$values", f"[{quoted}]")

    def day(self, day: str) -> Verdict:
        """Whether a day of the archive holds none, some or nothing but such decisions."""
        cutoff = self.cutoff
        if cutoff is None:
            return "some"
        if day == "unknown":
            return "some"  # no time at all, or one that is no date: the rows decide
        if day < cutoff.date().isoformat():
            return "all"
        return "some" if day == cutoff.date().isoformat() else "none"

    def matches(self, record: dict[str, Any]) -> bool:
        """Whether the record of a decision is one."""
        cutoff = self.cutoff
        if cutoff is not None:
            at = time_of(record.get("decided_at"))
            return at is not None and at < cutoff
        found = record.get(_FIELDS[self.selector])
        if self.selector == "id":
            with suppress(ValueError, TypeError, AttributeError):
                return str(uuid.UUID(found)) in self._set
            return False
        return isinstance(found, str) and found in self._set

    @property
    def needles(self) -> list[bytes]:
        """The line of such a decision holds one of these (in lower case); empty: every line has to be looked at.

        Of many values too: looking for a thousand takes a hundred times as long as reading the record.
        """
        if self.selector == "days" or len(self.values) > _MOST_NEEDLES:
            return []
        return [orjson.dumps(x)[1:-1].lower() for x in self.values]


def _value(selector: Selector, value: str) -> str:
    value = value.strip() if selector != "session" else value
    if selector == "id":
        with suppress(ValueError):
            return str(uuid.UUID(value))
        raise InputError("expected the id of a decision: a UUID, 32 hexadecimal digits")
    if selector == "prompt_hash":
        if re.fullmatch(r"[0-9a-fA-F]{64}", value):
            return value.lower()
        raise InputError("expected the SHA-256 of a prompt: 64 hexadecimal digits")
    if selector == "days":
        with suppress(ValueError):
            return datetime.fromisoformat(value).isoformat()
        raise InputError("expected a UTC time like 2026-11-01T00:00:00")
    if not value:
        raise InputError("expected a session's name, found nothing")
    return value.encode("utf-8", "replace").decode()  # a lone surrogate as the log has it


def count(con: duckdb.DuckDBPyConnection, selection: Selection) -> int:
    """Decisions in a database that match."""
    row = con.execute(
        f"SELECT count(*) FROM decisions WHERE {selection.in_table}", selection.bound
    ).fetchone()
    return int(row[0]) if row else 0


def span(con: duckdb.DuckDBPyConnection, selection: Selection) -> tuple[date | None, date | None] | None:
    """Days from the first such decision to the day after the last: all days when one has no date, None when there is none."""
    (first, last, n, n_dated), *_ = con.execute(
        "SELECT CAST(min(decided_at) AS VARCHAR), CAST(max(decided_at) AS VARCHAR), count(*), count(decided_at) "
        f"FROM decisions WHERE {selection.in_table}",
        selection.bound,
    ).fetchall()
    if not n:
        return None
    try:
        if n == n_dated:
            return date.fromisoformat(first[:10]), date.fromisoformat(last[:10]) + timedelta(days=1)
    except (ValueError, OverflowError):
        pass  # infinity, or a year that no calendar has
    return None, None


def judged(con: duckdb.DuckDBPyConnection, selection: Selection) -> list[str]:
    """Ids of such decisions that have feedback, which goes with them; ids asked for themselves are among them."""
    rows = con.execute(
        "SELECT DISTINCT CAST(f.decision_id AS VARCHAR) FROM feedback f JOIN decisions d ON d.id = f.decision_id "
        f"WHERE {selection.in_table}",
        selection.bound,
    ).fetchall()
    found = {str(id) for (id,) in rows}
    return sorted(found | (set(selection.values) if selection.selector == "id" else set()))


def feedback_in_table(selection: Selection, ids: list[str]) -> str:
    """SQL over ``feedback``: what was said about those decisions, and for "days" all that is as old."""
    return _feedback(selection, ids, "CAST(decision_id AS VARCHAR)", "judged_at")


def feedback_in_part(selection: Selection, ids: list[str]) -> str:
    """The same over the records of an archive's part."""
    at = "TRY_CAST(json_extract_string(line, '$.judged_at') AS TIMESTAMP)"
    return f"(kind = 'feedback' AND {_feedback(selection, ids, _ID_IN_LINE, at)})"


_ID_IN_LINE = "lower(json_extract_string(line, '$.decision_id'))"


def _feedback(selection: Selection, ids: list[str], id: str, at: str) -> str:
    listed = ", ".join(f"'{uuid.UUID(one)}'" for one in ids)
    known = f"{id} IN ({listed})" if ids else "false"
    cutoff = selection.cutoff
    return known if cutoff is None else f"({known} OR {at} < TIMESTAMP '{cutoff.isoformat(' ')}')"


def time_of(text: Any) -> datetime | None:
    """A record's time, naive UTC; None when it is none."""
    try:
        when = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return when.astimezone(UTC).replace(tzinfo=None) if when.tzinfo is not None else when
