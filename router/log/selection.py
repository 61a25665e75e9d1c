"""Which decisions an erasure is about, in the words of each place that holds them: tables, parts of the archive, lines."""

from __future__ import annotations

import re
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import orjson

from router.errors import InputError

if TYPE_CHECKING:
    import duckdb

    from router.log.tasks import Selector

Verdict = Literal["none", "some", "all"]
_CONDITIONS = {
    "id": "id = $value",
    "session": "session_id = $value",
    "prompt_hash": "prompt_sha256 = $value",
    "days": "decided_at < CAST($value AS TIMESTAMP)",
}
_FIELDS = {"id": "id", "session": "session_id", "prompt_hash": "prompt_sha256"}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which decisions to erase: by "id", "session", "prompt_hash" (SHA-256, hex), or "days": all before ``value``, a UTC time."""

    selector: Selector
    value: str

    @classmethod
    def of(cls, selector: Selector, value: str) -> Selection:
        """A selection with its value in the form that the log has it in.

        Raises
        ------
        InputError
            No UUID, no SHA-256, no time, or nothing.
        """
        value = value.strip() if selector != "session" else value
        if selector == "id":
            with suppress(ValueError):
                return cls(selector, str(uuid.UUID(value)))
            raise InputError("expected the id of a decision: a UUID, 32 hexadecimal digits")
        if selector == "prompt_hash":
            if re.fullmatch(r"[0-9a-fA-F]{64}", value):
                return cls(selector, value.lower())
            raise InputError("expected the SHA-256 of a prompt: 64 hexadecimal digits")
        if selector == "days":
            with suppress(ValueError):
                return cls(selector, datetime.fromisoformat(value).isoformat())
            raise InputError("expected a UTC time like 2026-11-01T00:00:00")
        if not value:
            raise InputError("expected a session's name, found nothing")
        return cls(selector, value)

    @property
    def cutoff(self) -> datetime | None:
        """The time before which decisions are erased, for "days"."""
        return datetime.fromisoformat(self.value) if self.selector == "days" else None

    @property
    def in_table(self) -> str:
        """SQL over ``decisions``; its only value is ``$value``."""
        return "id = CAST($value AS UUID)" if self.selector == "id" else _CONDITIONS[self.selector]

    @property
    def in_part(self) -> str:
        """SQL over a part of the archive, where ids are text."""
        return _CONDITIONS[self.selector]

    def literal(self, condition: str) -> str:
        """The same SQL with the value in it, where none can be bound."""
        return condition.replace("$value", "'" + self.value.replace("'", "''") + "'")

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
                return str(uuid.UUID(found)) == self.value
            return False
        return bool(found == self.value)

    @property
    def needle(self) -> bytes | None:
        """Bytes that the line of such a decision holds (in lower case); None: every line has to be looked at."""
        return None if self.selector == "days" else orjson.dumps(self.value)[1:-1].lower()


def count(con: duckdb.DuckDBPyConnection, selection: Selection) -> int:
    """Decisions in a database that match."""
    row = con.execute(
        f"SELECT count(*) FROM decisions WHERE {selection.in_table}", {"value": selection.value}
    ).fetchone()
    return int(row[0]) if row else 0


def span(con: duckdb.DuckDBPyConnection, selection: Selection) -> tuple[date | None, date | None] | None:
    """Days from the first such decision to the day after the last: all days when one has no date, None when there is none."""
    (first, last, n, n_dated), *_ = con.execute(
        "SELECT CAST(min(decided_at) AS VARCHAR), CAST(max(decided_at) AS VARCHAR), count(*), count(decided_at) "
        f"FROM decisions WHERE {selection.in_table}",
        {"value": selection.value},
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
    """Ids of such decisions that have feedback, which goes with them; the id asked for itself is one."""
    rows = con.execute(
        "SELECT DISTINCT CAST(f.decision_id AS VARCHAR) FROM feedback f JOIN decisions d ON d.id = f.decision_id "
        f"WHERE {selection.in_table}",
        {"value": selection.value},
    ).fetchall()
    found = {str(id) for (id,) in rows}
    return sorted(found | ({selection.value} if selection.selector == "id" else set()))


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
