"""What the log's owner is doing, for every other process: ``<data>/owner.json``, written at most once a second."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from router.log.files import write_whole
from router.log.lock import holder
from router.log.recovery import damage_note

STATUS = "owner.json"


@dataclass(frozen=True, slots=True)
class Activity:
    """A long piece of work: what it is, and how much of how much is done (bytes or rows)."""

    name: str
    step: str
    done: int
    total: int

    @property
    def share(self) -> float:
        """How much is done, [0, 1]."""
        return min(self.done / self.total, 1.0) if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Status:
    """What the last owner of a log wrote about itself.

    Attributes
    ----------
    state : "owning", "mending" (the database is made again), "working" (see ``activity``), "failed" (see ``error``) or
        "stopped".
    since : when it got the log; ``written_at`` when this was written (both UTC).
    backlog_bytes, backlog_rows, backlog_s : what is in the spools and not in the database; rows are counted up to a MB, and
        estimated from the mean line beyond; seconds are those since the spool furthest behind was last read to its end.
    rows, rejects : ingested by this owner.
    note : a sentence about a damage that was mended within the last day, else "".
    is_alive : whether that process still holds the log.
    """

    pid: int
    role: str
    state: str
    since: datetime | None
    written_at: datetime | None
    backlog_bytes: int = 0
    backlog_rows: int = 0
    backlog_s: float = 0.0
    rows: int = 0
    rejects: int = 0
    last_ingest: datetime | None = None
    error: str | None = None
    activity: Activity | None = None
    note: str = ""
    is_alive: bool = False

    @property
    def sentence(self) -> str:
        """One line for people."""
        who = f"process {self.pid} ({self.role})"
        problem = "" if self.error is None else f"; problem: {self.error}"
        if not self.is_alive:
            seen = f", last seen {self.written_at:%Y-%m-%d %H:%M} UTC" if self.written_at else ""
            return f"nobody owns the log; the last was {who}{seen}{problem}"
        since = f" since {self.since:%Y-%m-%d %H:%M} UTC" if self.since else ""
        text = f"{who} owns the log{since}; {self.rows:,} decisions ingested"
        if self.backlog_bytes:
            text += f"; {self.backlog_rows:,} decisions ({self.backlog_bytes:,} bytes) wait, the oldest {self.backlog_s:.0f} s"
        if self.activity is not None:
            text += f"; {self.activity.name}: {self.activity.step}, {self.activity.share:.0%}"
        return text + problem


def write(data: Path, status: Status) -> None:
    """Write the status; a disk that refuses it is nobody's problem."""
    content = {key: value for key, value in asdict(status).items() if key != "is_alive"}
    try:
        write_whole(Path(data) / STATUS, orjson.dumps(content), durable=False)
    except OSError:
        return


def read(data: Path) -> Status | None:
    """What the last owner wrote, and whether it still holds the log; None when there was none."""
    try:
        raw: dict[str, Any] = orjson.loads((Path(data) / STATUS).read_bytes())
        for key in ("since", "written_at", "last_ingest"):
            raw[key] = datetime.fromisoformat(raw[key]) if raw.get(key) else None
        if raw.get("activity"):
            raw["activity"] = Activity(**raw["activity"])
        known = {field.name for field in fields(Status)}
        found = {key: value for key, value in raw.items() if key in known}
        who = holder(data)
        is_alive = who is not None and (who.pid, who.role) == (found["pid"], found["role"])
        return Status(**found | {"is_alive": is_alive})
    except (OSError, ValueError, TypeError, KeyError):
        return None


@dataclass(frozen=True, slots=True)
class OwnerStatus:
    """What an owner is doing.

    ``state``: waiting (another holds the lock), mending (the database is made again), owning, working (on ``activity``),
    stopped, or failed (``error``).
    """

    state: str
    since: datetime | None
    last_ingest: datetime | None
    rows: int
    rejects: int
    error: str | None = None
    activity: Activity | None = None


class Publisher:
    """Writes the status of one owner, at most once a second unless its state changes."""

    SECONDS = 1.0

    def __init__(self, data: Path, role: str) -> None:
        self.data = Path(data)
        self.role = role
        self._at = -self.SECONDS
        self._state = ""

    def is_due(self, state: str) -> bool:
        """Whether it is time."""
        return state != self._state or time.monotonic() - self._at >= self.SECONDS

    def publish(self, owner: OwnerStatus, backlog: tuple[int, int, float]) -> None:
        """Write it; ``backlog`` as bytes, rows and seconds."""
        self._at, self._state = time.monotonic(), owner.state
        now = datetime.now(UTC).replace(tzinfo=None)
        write(
            self.data,
            Status(
                os.getpid(),
                self.role,
                owner.state,
                owner.since,
                now,
                *backlog,
                owner.rows,
                owner.rejects,
                owner.last_ingest,
                owner.error,
                owner.activity,
                damage_note(self.data),
            ),
        )


class Backlog:
    """How far behind the database is."""

    COUNTED_BYTES = 1_000_000

    def __init__(self, data: Path) -> None:
        self._folder = Path(data) / "spool"
        self._caught_up: dict[str, float] = {}

    def measure(
        self, sizes: dict[str, int], done: dict[str, int], *, now: float, line_bytes: float
    ) -> tuple[int, int, float]:
        """Bytes, rows and seconds that are not in the database yet.

        Parameters
        ----------
        sizes, done : bytes of each spool, and those that were read.
        now : seconds since the epoch; a spool never read to its end is as far behind as it is old, by its name.
        line_bytes : mean length of a line.
        """
        left = {name: size - done.get(name, 0) for name, size in sizes.items() if size > done.get(name, 0)}
        self._caught_up = {name: self._caught_up.get(name, 0.0) for name in sizes}
        self._caught_up |= dict.fromkeys(sizes.keys() - left.keys(), now)
        waiting = sum(left.values())
        oldest = min((self._caught_up[name] or _began(name, now) for name in left), default=now)
        rows = round(waiting / line_bytes)
        if waiting <= self.COUNTED_BYTES:
            rows = sum(self._lines(name, done.get(name, 0)) for name in left)
        return waiting, rows, max(now - oldest, 0.0)

    def _lines(self, name: str, start: int) -> int:
        try:
            with open(self._folder / name, "rb") as file:
                file.seek(start)
                return file.read(self.COUNTED_BYTES).count(b"\n")
        except OSError:
            return 0


def _began(name: str, now: float) -> float:
    try:
        return min(int(name.rsplit("-", 2)[1]) / 1000, now)
    except (IndexError, ValueError):
        return now
