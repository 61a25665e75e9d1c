"""Drops that could not be reported yet: a small file that is overwritten in place, and so needs no space on a full disk."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from router.log.record import encode, fault

NOTE_BYTES = 512
SUFFIX = ".drops"
OTHERS = "other reasons"
_EMPTY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Unreported:
    """Decisions that a process could not write, and could not report in its spool so far. ``last_at`` is UTC."""

    spool: str
    reason: str
    n: int
    last_at: datetime


class DropNote:
    """``<spool>.drops``: the counts of one process, made when the disk still has room and written over in place.

    What cannot be noted is still counted by the process.
    """

    def __init__(self, system: Any = os) -> None:
        self._os = system
        self._path: Path | None = None
        self._fd = -1
        self._inode = (0, 0)
        self._held = b""
        self._litter: list[Path] = []

    def ensure(self, spool: Path) -> None:
        """Make the file beside a spool, unless there is one in that folder already."""
        if self._is_in(spool.parent):
            return
        self.write({})  # a folder that was moved away keeps no count that is told elsewhere
        self.close()
        path = spool.with_suffix(SUFFIX)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with contextlib.suppress(Exception):
            self._fd = self._os.open(path, flags, 0o600)
            self._path, self._held = path, b""
            _hold(self._fd)
            found = self._os.fstat(self._fd)
            self._inode = (found.st_dev, found.st_ino)
            self.write({})

    def write(self, counts: Mapping[str, int]) -> None:
        """Put down what is not reported, by reason."""
        if self._path is None:
            return
        text = _note(self._path.stem, counts)
        if text != self._held and self._is_ours():
            with contextlib.suppress(Exception):
                self._os.pwrite(self._fd, text, 0)
                self._held = text

    def close(self) -> None:
        """Close the file and take it away."""
        if self._path is not None:
            self._litter.append(self._path)
        self._let_go()
        for path in list(self._litter):
            try:
                self._os.unlink(path)
            except FileNotFoundError:
                pass
            except Exception:
                continue  # tried again with the next
            self._litter.remove(path)

    def after_fork(self) -> None:
        """Close this process's copy; the file is the parent's."""
        self._let_go()
        self._litter.clear()

    def _let_go(self) -> None:
        if self._is_ours():
            with contextlib.suppress(Exception):
                self._os.close(self._fd)
        self._fd, self._path = -1, None

    def _is_ours(self) -> bool:
        """Whether the descriptor still is that of the file, not of one that was opened after somebody closed it."""
        if self._fd < 0:
            return False
        try:
            found = self._os.fstat(self._fd)
        except Exception:
            return False
        return (found.st_dev, found.st_ino) == self._inode

    def _is_in(self, folder: Path) -> bool:
        if self._path is None or self._path.parent != folder or not self._is_ours():
            return False
        try:
            found = self._os.stat(self._path)
        except Exception:
            return False
        return (found.st_dev, found.st_ino) == self._inode


def unreported(data: Path) -> list[Unreported]:
    """Drops of a data folder's processes that no spool reports: they ended, or still run, on a disk that is full."""
    found = []
    for path in sorted((Path(data) / "spool").glob("*" + SUFFIX)):
        with contextlib.suppress(OSError):
            last = datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None)
            counts = _counts(path.read_bytes())
            found += [Unreported(path.stem + ".jsonl", reason, n, last) for reason, n in counts.items()]
    return found


def tidy(data: Path) -> int:
    """Remove the notes of ended processes that hold nothing; how many. What was never reported stays, to be told."""
    removed = 0
    for path in (Path(data) / "spool").glob("*" + SUFFIX):
        with contextlib.suppress(OSError):
            if _is_being_made(path):
                continue
            with open(path, "rb") as file:
                if _hold(file.fileno()) and not _counts(file.read()):
                    path.unlink()
                    removed += 1
    return removed


def _is_being_made(path: Path) -> bool:
    """Whether its process may not have locked it yet: it does before it writes, and a lock of ours would be in its way."""
    found = path.stat()
    return not found.st_size and time.time() - found.st_mtime < _EMPTY_SECONDS


def _hold(fd: int) -> bool:
    """Lock a note, which tells that its process lives; False when another has."""
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _note(stem: str, counts: Mapping[str, int]) -> bytes:
    text = encode({"kind": "drops", "spool": stem, "dropped": dict(counts)})
    if len(text) > NOTE_BYTES:
        text = encode({"kind": "drops", "dropped": {OTHERS: sum(counts.values())}})
    return text[:-1].ljust(NOTE_BYTES - 1) + b"\n"


def _counts(text: bytes) -> dict[str, int]:
    line = text.rstrip()
    if not line or fault(line) is not None:
        return {}
    return {str(reason): int(n) for reason, n in orjson.loads(line)["dropped"].items() if n}
