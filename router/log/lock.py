"""The owner's lock: whoever holds it may open the database file, nobody else.

DuckDB's own file lock is not enough: processes that take turns by it alone lose acknowledged commits (measured on
2.0.0), and none when this lock is held from before connect until after close.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import weakref
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from router.log.forks import no_fork
from router.log.schema import DATABASE

LOCK = "owner.lock"
UPKEEP = "upkeep"
_held: weakref.WeakSet[OwnerLock] = weakref.WeakSet()
_inherited: set[Path] = set()
"""Locks that were held here when this process was forked off. DuckDB would hand the child its parent's open database, as it
was at the fork, and the child would write over what the parent wrote since (measured: rows doubled). It never gets them."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lock: process, role ("dashboard" and "upkeep" stay; "turn", "ingest", "read" are short), since when (UTC).

    Role "fork": nobody may, but this process was forked beside the open database and leaves its rows to others.
    """

    pid: int
    role: str
    since: datetime | None

    @property
    def stays(self) -> bool:
        """Whether the holder keeps the log open for long and ingests what others write."""
        return self.role in ("dashboard", UPKEEP, "fork")


class OwnerLock:
    """``flock`` on ``<data>/owner.lock``. A forked child gives it up at once (flock survives fork)."""

    def __init__(self, data: Path) -> None:
        self.path = Path(data) / LOCK
        self._fd = -1

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd >= 0

    def acquire(self, role: str) -> bool:
        """Take the lock without waiting; False when another holds it, or this process was forked beside the open log.

        Raises
        ------
        OSError
            The folder cannot be written.
        """
        if self.held:
            return True
        if self.path.resolve() in _inherited:
            return False
        with no_fork():
            return self._take(role)

    def _take(self, role: str) -> bool:
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PermissionError:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)  # flock needs no write permission
        except OSError as error:
            if error.errno != errno.EROFS or not self.path.exists():
                raise
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        if not self.is_current():  # the file was deleted between open and lock: others lock another one
            self._drop()
            return False
        _held.add(self)
        note = {"pid": os.getpid(), "role": role, "since": datetime.now(UTC).replace(tzinfo=None).isoformat()}
        with contextlib.suppress(OSError):  # only a note for people: a read-only or full disk may refuse it
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(note).encode(), 0)
        return True

    def is_current(self) -> bool:
        """Whether the file that is locked is still the one that others would lock; False once the folder is deleted."""
        try:
            mine, there = os.fstat(self._fd), os.stat(self.path)
        except OSError:
            return False
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)

    def release(self) -> None:
        """Give the lock up."""
        with no_fork():
            if self.held:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, 0)
                self._drop()

    def _drop(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)

    def _after_fork(self) -> None:
        if self.held:
            path = self.path.resolve()
            _inherited.add(path)
            self._drop()  # the child's copy; the parent still holds the lock
            _blind(path.with_name(DATABASE))


def holder(data: Path) -> Holder | None:
    """Who holds the lock now, or None when it is free. Takes no lock that others could trip over for long."""
    path = Path(data) / LOCK
    with no_fork():
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_note(fd)
        finally:
            os.close(fd)
    return Holder(os.getpid(), "fork", None) if path.resolve() in _inherited else None


def _read_note(fd: int) -> Holder:
    try:
        note = json.loads(os.pread(fd, 1000, 0) or b"{}")
        return Holder(int(note["pid"]), str(note["role"]), datetime.fromisoformat(note["since"]))
    except (ValueError, KeyError, TypeError, OSError):
        return Holder(0, "unknown", None)


def _blind(database: Path) -> None:
    # Turns the inherited descriptors of a database into ones of the null device. So nothing that DuckDB does here, even
    # when it is closed, reaches the parent's file, and the numbers stay taken. Where /proc tells what is open (Linux).
    try:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{name}").startswith(str(database)):
                    os.dup2(null, int(name), inheritable=False)
        os.close(null)
    except OSError:
        return


def _forked() -> None:
    for lock in list(_held):
        lock._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
