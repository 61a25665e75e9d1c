"""Decisions drawn for review: a small file beside the log, so that a judgement keeps the queue and the chance it was drawn with.

``<data>/review.jsonl`` (0600) has one line per drawn decision: its id and why, never its prompt. Lines are appended under a
lock on the file, and stay as they are; erasing a decision overwrites its line by spaces, in place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from router.errors import LogError, LogLocked
from router.log.archive import noted_generation
from router.log.spool import private_folder
from router.types import QUEUES, Queue

if TYPE_CHECKING:
    import duckdb

    from router.log.filters import Filter

DRAWN = "review.jsonl"
_BATCH_IDS = 50_000


class DrawnMeanwhile(LogLocked):
    """What a draw was made from has changed: it is to be made again."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Which decisions a draw was made from: the conditions that an audit may have. None: no such condition.

    ``start, end`` are naive UTC, half-open; ``policy`` is a fingerprint.
    """

    start: datetime | None = None
    end: datetime | None = None
    policy: str | None = None
    source: str | None = None

    def holds(self, chosen: Filter, first: datetime | None = None, last: datetime | None = None) -> bool:
        """Whether all that a filter asks about was drawn from; a part of it is drawn as uniformly as the whole.

        ``first, last``: times of the log's first and last decision, where every one has a time: a period that they lie in leaves
        nothing out.
        """
        start = chosen.start if first is None or (chosen.start and chosen.start > first) else first
        within = chosen.end is not None and self.end is not None and chosen.end <= self.end
        return (
            (self.start is None or (start is not None and start >= self.start))
            and (self.end is None or within or (last is not None and last < self.end))
            and self.policy in (None, chosen.policy)
            and self.source in (None, chosen.source)
        )


@dataclass(frozen=True, slots=True)
class Drawn:
    """One decision as it was drawn: none of this changes afterwards.

    Attributes
    ----------
    inclusion_probability : chance with which it was drawn, (0, 1]; None for ``learn``, where nothing is left to chance.
    stratum : what it was drawn among, for ``estimate``.
    drawn_at : naive UTC.
    traffic : what an audit was drawn from; None for other queues, and where a former version did not note it.
    """

    decision_id: str
    queue: Queue
    reason: str
    inclusion_probability: float | None
    stratum: str | None
    drawn_at: datetime
    traffic: Traffic | None = None


def read_drawn(data: Path) -> tuple[Drawn, ...]:
    """Everything that was drawn, in that order; a damaged line is passed over.

    Raises
    ------
    LogError
        The file is there and cannot be read.
    """
    path = Path(data) / DRAWN
    try:
        state = path.stat()
        return _read(path, state.st_ino, state.st_size, state.st_mtime_ns)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise LogError(f"{path} cannot be read ({_words(error)})") from None


@lru_cache(maxsize=4)
def _read(path: Path, inode: int, size: int, changed_ns: int) -> tuple[Drawn, ...]:
    """The file in this state: who judges one decision after the other need not read it each time."""
    return tuple(x for line in path.read_bytes().split(b"\n") if (x := _parsed(line)) is not None)


def _parsed(line: bytes) -> Drawn | None:
    try:
        found = orjson.loads(line)
        times = {"drawn_at": datetime.fromisoformat(found["drawn_at"])}
        drawn = Drawn(**found | times | {"traffic": _traffic(found.get("traffic"))})
        chance = drawn.inclusion_probability
        is_one = drawn.queue in QUEUES and drawn.decision_id == str(uuid.UUID(drawn.decision_id))
        has_chance = chance is None if drawn.queue == "learn" else 0.0 < float(chance or 0.0) <= 1.0
        return drawn if is_one and has_chance else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _traffic(found: dict[str, Any] | None) -> Traffic | None:
    if found is None:
        return None
    times = {x: None if found[x] is None else datetime.fromisoformat(found[x]) for x in ("start", "end")}
    return Traffic(**found | times)


def note_drawn(data: Path, items: Sequence[Drawn], *, generation: int) -> None:
    """Write down what was drawn, all of it or nothing; on the disk when this returns.

    Parameters
    ----------
    generation : the log's number (``noted_generation``) from before it was read for the draw.

    Raises
    ------
    DrawnMeanwhile
        Decisions were erased since, or another process drew one of these for the same queue.
    LogError
        The file cannot be written.
    """
    if not items:
        return
    path = Path(data) / DRAWN
    text = b"".join(orjson.dumps(asdict(item)) + b"\n" for item in items)
    try:
        private_folder(path.parent)
        with _locked(path, os.O_RDWR | os.O_CREAT) as fd:
            if noted_generation(data) != generation:
                raise DrawnMeanwhile("decisions were erased while others were drawn; draw again")
            size = os.fstat(fd).st_size
            held = _content(fd, size)
            taken = {(x.decision_id, x.queue) for line in held.split(b"\n") if (x := _parsed(line))}
            if any((item.decision_id, item.queue) in taken for item in items):
                raise DrawnMeanwhile("another process drew the same decisions; draw again")
            try:
                # A line that a killed process left without its end stays a line of its own.
                _put(fd, (b"\n" if held and not held.endswith(b"\n") else b"") + text, size)
                os.fsync(fd)
            except BaseException:
                os.ftruncate(fd, size)
                raise
    except OSError as error:
        raise LogError(f"{path} cannot be written ({_words(error)}); nothing was drawn") from None


def erase_drawn(con: duckdb.DuckDBPyConnection, data: Path) -> int:
    """Overwrite the lines of decisions that the database does not hold, and damaged ones; returns how many.

    Called after an erasure, and after the log's generation was noted: a draw made from older rows is refused since.

    Raises
    ------
    LogError
        The file cannot be written.
    """
    path = Path(data) / DRAWN
    gone = 0
    try:
        with _locked(path, os.O_RDWR) as fd:
            lines = _content(fd, os.fstat(fd).st_size).split(b"\n")
            items = [_parsed(line) for line in lines]
            held = _held(con, sorted({item.decision_id for item in items if item is not None}))
            at = 0
            for line, item in zip(lines, items, strict=True):
                if line.strip() and (item is None or item.decision_id not in held):
                    _put(fd, b" " * len(line), at)
                    gone += 1
                at += len(line) + 1
            if gone:
                os.fsync(fd)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise LogError(f"{path} cannot be written ({_words(error)}); the erasure is not whole yet") from None
    if gone:
        _read.cache_clear()
    return gone


def _held(con: duckdb.DuckDBPyConnection, ids: list[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(ids), _BATCH_IDS):
        rows = con.execute(
            "SELECT CAST(id AS VARCHAR) FROM decisions WHERE id IN (SELECT CAST(unnest($ids::VARCHAR[]) AS UUID))",
            {"ids": ids[start : start + _BATCH_IDS]},
        ).fetchall()
        found |= {str(id) for (id,) in rows}
    return found


@contextlib.contextmanager
def _locked(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def _content(fd: int, size: int) -> bytes:
    blocks, at = [], 0
    while at < size and (block := os.pread(fd, size - at, at)):
        blocks.append(block)
        at += len(block)
    return b"".join(blocks)


def _put(fd: int, text: bytes, at: int) -> None:
    while text:
        n = os.pwrite(fd, text, at)
        text, at = text[n:], at + n


def _words(error: OSError) -> str:
    return error.strerror or type(error).__name__
