"""Reading a spool: whole lines from an offset on, sorted by kind, and what is wrong with the others."""

from __future__ import annotations

import fcntl
import time
from dataclasses import dataclass, replace
from pathlib import Path

from router.log.record import MARK, MAX_LINE_BYTES, fault, kind, pieces

BATCH_BYTES = 4_000_000
"""Bytes of one transaction: its fixed cost (statements, a sync of the log) is 25 ms, and a kill must not undo much."""
_BREATH = 64
_PAUSE_SECONDS = 1e-6  # not 0, after which this thread would have the GIL back before the other wakes up
TABLES = {
    "decision": "decisions",
    "policy": "policies",
    "drop": "drops",
    "feedback": "feedback",
    "view": "saved_views",
    "erasure": "erasures",
}
"""Kinds of records and the tables they become rows of."""

ERASED = "erased"
"""Kind of the record that stands where another one was erased, as long as that was: a row of nothing."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Whole lines of one spool up to byte ``upto``, by kind, and where each begins; ``rejects`` as (pos, bytes, why)."""

    spool: str
    upto: int
    lines: dict[str, list[bytes]]
    places: dict[str, list[int]]
    rejects: list[tuple[int, int, str]]
    bytes: int


def read_batch(path: Path, start: int, limit: int = BATCH_BYTES) -> Batch | None:
    """Next whole lines of a spool from byte ``start``, or None when there is none yet.

    A last line without its end is left for later while its writer lives, and is a reject when that is gone.
    """
    cut = False
    with open(path, "rb") as file:
        file.seek(start)
        block = file.read(max(limit, MAX_LINE_BYTES + 1))
        end = span(block)
        if end == 0:
            cut = bool(block) and _is_abandoned(file.fileno()) and not file.read(1)
            if not cut:
                return None  # a line that is still being written
            end = len(block)
    batch = Batch(path.name, start + end, {}, {}, [], end)
    position = 0
    for number, line in enumerate(block[:end].split(b"\n")):
        if (
            number % _BREATH == _BREATH - 1
        ):  # hands the GIL over: a thread that routes should not wait for a batch
            time.sleep(_PAUSE_SECONDS)
        size = len(line) + 1
        if fault(line) is None:
            _take(batch, start + position, line)
        elif line:
            for place, piece in pieces(line):
                _take(batch, start + position + place, piece, cut=cut and place + len(piece) == len(line))
        position += size
        if position >= limit and position < end:
            return replace(batch, upto=start + position, bytes=position)
    return batch


def span(block: bytes) -> int:
    """How many bytes of a stretch of a spool can be judged now: whole lines, or damage that is longer than a record may be.

    Of bytes without a newline the end waits for its rest from the first beginning of a record on that is not all here.
    """
    end = block.rfind(b"\n") + 1
    if end or len(block) <= MAX_LINE_BYTES:
        return end
    for place, piece in pieces(block):
        if (
            place + len(piece) > len(block) - MAX_LINE_BYTES
            and piece.startswith(MARK)
            and fault(piece) is not None
        ):
            return place or len(piece)
    return len(block) - next((n for n in range(len(MARK) - 1, 0, -1) if block.endswith(MARK[:n])), 0)


def _take(batch: Batch, place: int, line: bytes, *, cut: bool = False) -> None:
    """Sort one line, or piece of one, into the batch."""
    why = fault(line)
    if why is not None:
        batch.rejects.append((place, len(line), "cut off" if cut else why))
        return
    name = _kind(line)
    if name in TABLES:
        batch.lines.setdefault(name, []).append(_utf8(line))
        batch.places.setdefault(name, []).append(place)
    elif name != ERASED:
        batch.rejects.append((place, len(line), "unknown kind of record"))


def _kind(line: bytes) -> str:
    try:
        return kind(line)
    except ValueError:
        return ""  # the checksum fits, and it is no JSON


def _utf8(line: bytes) -> bytes:
    """The line, with anything that is not UTF-8 replaced: Arrow and DuckDB take a column's word for it."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("utf-8", "replace").encode("utf-8")
    return line


def _is_abandoned(fd: int) -> bool:
    """Whether the process that wrote a spool is gone: it holds a lock on the file while it lives."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True  # given up when the file is closed
