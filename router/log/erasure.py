"""Erasing decisions from the files that are the truth: spools and archive. The database is written anew after them.

A spool's line is overwritten in place by a record of the same length, so that offsets hold while its process writes on.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from router.errors import LogError
from router.log.batches import ERASED, span
from router.log.compaction import changing
from router.log.ingest import spools
from router.log.parts import (
    Manifest,
    Part,
    broken,
    folder,
    manifests,
    read_parts,
    remove_manifest,
    remove_parts,
    write_manifest,
    write_part,
)
from router.log.record import MARK, fault, kind, pieces
from router.log.schema import refusal
from router.log.selection import Selection, feedback_in_part, time_of

if TYPE_CHECKING:
    import duckdb

Advance = Callable[[int], None]
_BLOCK = 4_000_000
_HEAD = len(b'{"crc":"00000000",')
_UNKNOWN = "unknown"
_SHORTEST = 50
"""Bytes of the shortest record that says nothing. No record of ours is as short."""

_OTHERS = ("policy", "view", "drop", "erasure", ERASED)


def erase_from_spools(
    data: Path, selection: Selection, ids: list[str], *, advance: Advance | None = None
) -> int:
    """Overwrite every line of such a decision and feedback on it.

    For "days" also damaged lines among them. Returns how many decisions that were. ``ids``: of decisions whose feedback goes; ``advance`` gets bytes.
    """
    return sum(_Spool(path, selection, set(ids)).erase(advance) for path in spools(data))


class _Spool:
    """One spool while decisions are erased from it."""

    def __init__(self, path: Path, selection: Selection, ids: set[str]) -> None:
        self.path = path
        self.selection = selection
        self.ids = ids
        asked = selection.needles
        self.needles = [*asked, *(id.encode() for id in ids)] if asked else []
        self.is_old = self._began_before_cutoff()

    def erase(self, advance: Advance | None) -> int:
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        gone = 0
        try:
            for start, block in _blocks(fd):
                if self._may_hold(block):
                    for at, line in _lines(start, block):
                        gone += self._erase_line(fd, at, line)
                if advance is not None:
                    advance(len(block))
            os.fsync(fd)
        finally:
            os.close(fd)
        return gone

    def _erase_line(self, fd: int, at: int, line: bytes) -> int:
        if not line or not self._may_hold(line):
            return 0
        wrong = fault(line)
        if wrong is not None:
            if self.is_old:  # it tells no time, so it counts as old as the decision before it
                os.pwrite(fd, _spoiled(line, wrong), at)
            return 0
        name, record = _record(line)
        goes = False
        if name == "decision":
            goes = self.is_old = self.selection.matches(record)
        elif name == "feedback":
            goes = self._is_about_one(record)
        if goes:
            os.pwrite(fd, filler(len(line), ERASED), at)
        return goes and name == "decision"

    def _may_hold(self, text: bytes) -> bool:
        if not self.needles:
            return True
        lower = text.lower()
        return any(needle in lower for needle in self.needles)

    def _is_about_one(self, record: dict[str, Any]) -> bool:
        if str(record.get("decision_id")).lower() in self.ids:
            return True
        at, cutoff = time_of(record.get("judged_at")), self.selection.cutoff
        return cutoff is not None and at is not None and at < cutoff

    def _began_before_cutoff(self) -> bool:
        cutoff = self.selection.cutoff
        with suppress(IndexError, ValueError, OverflowError, OSError):
            began = datetime.fromtimestamp(int(self.path.stem.rsplit("-", 2)[1]) / 1000, UTC)
            return cutoff is not None and began.replace(tzinfo=None) < cutoff
        return False


def _blocks(fd: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines of a spool, some MB at a time, with their position; a last line without its end once its writer is gone."""
    at = 0
    while block := os.pread(fd, _BLOCK, at):
        end = span(block)
        if end == 0:
            if not _is_abandoned(fd):
                return  # a line that is being written
            end = len(block)
        yield at, block[:end]
        at += end


def _is_abandoned(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True


def _lines(start: int, block: bytes) -> Iterator[tuple[int, bytes]]:
    """Every line; of a damaged one the pieces, as when they were read."""
    at = start
    for line in block.split(b"\n"):
        if not line or fault(line) is None:
            yield at, line
        else:
            yield from ((at + place, piece) for place, piece in pieces(line))
        at += len(line) + 1


def _record(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        name = kind(line)
        if name in ("decision", "feedback"):
            return name, orjson.loads(line)
        return (name if name in _OTHERS else _UNKNOWN), {}
    except ValueError:
        return _UNKNOWN, {}


def filler(length: int, name: str) -> bytes:
    """A whole record of ``length`` bytes that holds nothing; 50 bytes and more."""
    start, end = b'{"kind":"' + name.encode() + b'","pad":"', b'"}'
    body = start + b"x" * (length + 1 - _HEAD - len(start) - len(end)) + end
    return b'{"crc":"%08x",' % zlib.crc32(body) + body[1:]


def erase_rejects(con: duckdb.DuckDBPyConnection, data: Path) -> None:
    """Overwrite every line that could not be read: nobody can say whose it is. They stay rejects, for the same reason."""
    rows = con.execute("SELECT spool, pos, bytes, reason FROM rejects ORDER BY spool, pos").fetchall()
    for path in spools(data):
        found = [(pos, size, why) for spool, pos, size, why in rows if spool == path.name]
        if not found:
            continue
        with open(path, "r+b", buffering=0) as file:
            for pos, size, why in found:
                os.pwrite(file.fileno(), _spoiled(os.pread(file.fileno(), size, pos), why), pos)
            os.fsync(file.fileno())


def _spoiled(line: bytes, why: str) -> bytes:
    """As many bytes that are refused for the same reason, so that a rebuilt database counts the same."""
    n = len(line)
    if why.startswith("checksum"):
        for pad in (b"x", b"y"):
            text = line[:_HEAD] + pad * (n - _HEAD)
            if fault(text) is not None:
                return text
    if why.startswith("unknown"):
        return filler(n, _UNKNOWN) if n >= _SHORTEST else line
    if why == "not JSON" and n >= _SHORTEST:
        body = b'{"kind":"decision",' + b"x" * (n + 1 - _HEAD - 20) + b"}"
        return b'{"crc":"%08x",' % zlib.crc32(body) + body[1:]
    if line.startswith(MARK):
        return MARK + b"x" * (n - len(MARK))  # still a piece of its own
    return b"x" * n


def erase_from_archive(
    con: duckdb.DuckDBPyConnection,
    data: Path,
    selection: Selection,
    ids: list[str],
    *,
    advance: Advance | None = None,
) -> int:
    """Rewrite the parts that hold such decisions or feedback on them; returns how many decisions that were.

    Whole days go without being read. ``con`` is settled with the archive; ``advance`` gets bytes.

    Raises
    ------
    LogError
        A part or a manifest cannot be read, so that nobody can say what it holds.
    """
    if unread := broken(data):
        raise LogError(
            f"{unread[0]}.json in the archive cannot be read, so nothing there can be erased; put it back from a backup, or "
            "move it and its parts away"
        )
    gone = 0
    found = manifests(data)
    if not found:
        return 0
    with changing(con, data):
        for manifest in found:
            gone += _erase_from_batch(
                con, data, manifest, selection, feedback_in_part(selection, ids), advance
            )
    return gone


def _erase_from_batch(
    con: duckdb.DuckDBPyConnection,
    data: Path,
    manifest: Manifest,
    selection: Selection,
    feedback: str,
    advance: Advance | None,
) -> int:
    kept: list[Part] = []
    old: list[Part] = []
    gone = 0
    for part in manifest.parts:
        verdict = "some" if part.day is None else selection.day(part.day)
        new: Part | None = part
        n = 0
        if verdict == "all":
            new, n = None, part.rows
        elif verdict == "some":
            condition = feedback if part.day is None else selection.literal(selection.in_part)
            new, n = _without(con, data, manifest, part, condition)
        if new is not None:
            kept.append(new)
        if new is not part:
            old.append(part)
        if part.day is not None:
            gone += n
        if advance is not None:
            advance(part.bytes)
    if old:
        changed = replace(manifest, parts=tuple(kept))
        if kept:
            write_manifest(data, changed)
        else:
            remove_manifest(data, changed)
        remove_parts(data, old)
    return gone


def _without(
    con: duckdb.DuckDBPyConnection, data: Path, manifest: Manifest, part: Part, condition: str
) -> tuple[Part | None, int]:
    """The part without the rows that match (None: none are left), and how many those were."""
    source, values = read_parts([folder(data) / part.path])
    try:
        row = con.execute(f"SELECT count(*) FROM {source} WHERE {condition}", values).fetchone()
        n = int(row[0]) if row else 0
        if n == 0:
            return part, 0
        if n == part.rows:
            return None, n
        name = f"{manifest.name}-{secrets.token_hex(4)}.parquet"
        path = name if part.day is None else f"day={part.day}/{name}"
        query = f"SELECT * FROM {source} WHERE ({condition}) IS NOT TRUE"
        return write_part(con, data, path, query, values), n
    except Exception as error:
        import duckdb

        if not isinstance(error, duckdb.Error) or isinstance(error, duckdb.InterruptException):
            raise
        raise LogError(
            f"{part.path} in the archive cannot be read or written anew ({refusal(error) or type(error).__name__})"
        ) from None
