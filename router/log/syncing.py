"""Durability "power": what is written reaches the disk soon, in a thread."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.log.worker import Worker

if TYPE_CHECKING:
    from router.log.spool import Spool

SYNC_SECONDS = 0.1
"""A record waits at most this long for the disk, the time of syncing aside."""

_logger = logging.getLogger("routescope")


@dataclass(frozen=True, slots=True)
class SyncState:
    """What of a spool is on the disk: records so far, when that was (UTC), and syncs that failed."""

    records: int = 0
    last_at: datetime | None = None
    failures: int = 0
    error: str | None = None


class Syncer:
    """Syncs what a spool writes in a thread, never under the lock that writing takes."""

    def __init__(self, spool: Spool, system: Any = os) -> None:
        self._spool = spool
        self._os = system
        self._retired: list[int] = []
        self._open: list[int] = []
        self._worker = Worker("routescope-sync", self._work, self._has_work, SYNC_SECONDS / 2)
        self.after_fork()

    def after_fork(self) -> None:
        """Start anew: the parent syncs its files."""
        for fd in self._retired + self._open:
            with contextlib.suppress(OSError):
                os.close(fd)
        self.state = SyncState()
        self._retired, self._open = [], []
        self._is_due = False
        self._folder: Path | None = None
        self._syncing = threading.RLock()
        self._worker.reset()

    def due(self) -> None:
        """Something was written."""
        if not self._is_due:
            self._is_due = True
            with contextlib.suppress(Exception):  # it is written, and the next sync finds it
                self._worker.wake()

    def retire(self, fd: int) -> None:
        """Sync, then close, the descriptor of a file that is not written to any more."""
        self._retired.append(fd)
        self.due()

    def sync(self) -> None:
        """Bring everything written so far to the disk, on this thread."""
        with self._syncing:
            try:
                with self._spool.alone:
                    self._is_due = False
                    self._open, self._retired = self._open + self._retired, []
                    records, path = self._spool.written, self._spool.path
                    self._open += self._spool.file.duplicate()
                for fd in self._open:
                    _to_disk(self._os, fd)
                self._sync_folders(path)
            except OSError as error:
                self._failed(error.strerror or type(error).__name__)
            else:
                self.state = replace(
                    self.state, records=records, last_at=datetime.now(UTC).replace(tzinfo=None)
                )
            finally:
                while self._open:
                    with contextlib.suppress(OSError):
                        self._os.close(self._open.pop())

    def close(self) -> None:
        """Sync what is left, and let the thread end."""
        self._worker.stop()
        if self._is_due:
            self.sync()

    def _work(self) -> bool:
        self.sync()
        return True

    def _has_work(self) -> bool:
        return self._is_due

    def _sync_folders(self, path: Path | None) -> None:
        """The names of a new file and its folder reach the disk too."""
        if path is None or path == self._folder:
            return
        for folder in (path.parent, path.parent.parent):
            fd = self._os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._os.fsync(fd)
            finally:
                self._os.close(fd)
        self._folder = path

    def _failed(self, reason: str) -> None:
        first = not self.state.failures
        self.state = replace(self.state, failures=self.state.failures + 1, error=reason)
        if first:
            _logger.error(
                "routescope: the log could not be synced to the disk (%s); it is written, but a power cut may take it",
                reason,
            )


def _to_disk(system: Any, fd: int) -> None:
    if sys.platform == "darwin":  # where fsync stops at the drive's own memory
        import fcntl

        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        system.fdatasync(fd)
