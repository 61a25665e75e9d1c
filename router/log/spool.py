"""The append side of the decision log: one file per process, one ``write()`` per record.

Nothing acknowledged is lost when the process is killed: the record is in the kernel's hands when ``append`` returns
(durability ``async`` aside, see ``router.log.queued``). ``append`` never raises and never waits for another process,
the database or the network; what it cannot write it counts, and the count is itself logged once writing works again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from router.errors import ConfigurationError, LogError
from router.log.drops import DropNote
from router.log.queued import QUEUE_BYTES, TOO_LONG, Queue
from router.log.record import MAX_LINE_BYTES, encode, line_of
from router.log.spool_file import SpoolFile
from router.log.spool_file import private_folder as private_folder
from router.log.syncing import Syncer, SyncState
from router.log_settings import DURABILITIES, LogSettings
from router.types import Decision, Durability

ROLL_BYTES = 64_000_000

_logger = logging.getLogger("routescope")
_open_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


class Spool:
    """Appends records to ``<data>/spool/<host>-<pid>-<start>-<rand>.jsonl``.

    Safe with threads, asyncio and signal handlers; a forked child starts a file of its own. ``written`` and ``bytes``
    (in the file) and ``dropped`` (by reason) count this process.

    Parameters
    ----------
    durability : "process" writes on the caller's thread; "async" queues, a thread writes within 20 ms; "power" is
        "process" and a thread that syncs the file to the disk within 100 ms.
    queue_bytes : most that "async" holds in memory; what does not fit is dropped and counted.
    system : where the calls to the system come from; for tests.
    """

    def __init__(
        self,
        data: Path,
        *,
        durability: Durability = "process",
        roll_bytes: int = ROLL_BYTES,
        queue_bytes: int = QUEUE_BYTES,
        system: Any = os,
    ) -> None:
        if os.name == "nt":
            raise LogError(
                "the decision log needs file locks that Windows does not have; run it on Linux or macOS"
            )
        if durability not in DURABILITIES:
            raise ConfigurationError("\n".join(LogSettings(durability=durability).faults()))
        self.folder = Path(data) / "spool"
        self.durability: Durability = durability
        self.written = 0
        self.bytes = 0
        self.dropped: Counter[str] = Counter()
        self.alone = threading.RLock()
        """Held while something is written; not while it is synced."""
        self._counting = threading.RLock()  # never held while anything is written: a full queue must not wait
        self._unreported: Counter[str] = Counter()
        self._busy = False
        self._late: list[bytes] = []
        self._warned = False
        self._note = DropNote(system)
        self._queue = Queue(self, queue_bytes) if durability == "async" else None
        self._syncer = Syncer(self, system) if durability == "power" else None
        self.file = SpoolFile(
            self.folder,
            roll_bytes=roll_bytes,
            system=system,
            opened=self._note.ensure,
            retire=None if self._syncer is None else self._syncer.retire,
        )
        _open_spools.add(self)

    @property
    def path(self) -> Path | None:
        """The file that was written to last; None before the first."""
        return self.file.path

    def append(self, record: Mapping[str, Any] | Decision) -> bool:
        """Log one record; False when it had to be dropped (counted in ``dropped``)."""
        if self._queue is not None:
            return self._queue.put(record)
        return self.write(record)

    def write(self, record: Mapping[str, Any] | Decision) -> bool:
        """Write one record on this thread, whatever the durability."""
        try:
            line = line_of(record)
        except Exception as error:  # no memory, or a value whose own methods raise
            return self.drop(f"cannot be encoded ({type(error).__name__})")
        if len(line) > MAX_LINE_BYTES + 1:
            return self.drop(TOO_LONG)
        done, why = self.put(line)
        return True if done else self.drop(why)

    def put(self, lines: bytes, n: int = 1) -> tuple[int, str]:
        """Write ``n`` whole lines; how many are there, and why not all. What is not there is not counted as dropped here.

        All or none, or the first few, where they could not be taken back.
        """
        with self.alone:
            if self._busy:
                # A signal handler or a finalizer logs in the middle of an append of its own thread, which goes on after it.
                self._late.append(lines)
                return n, ""
            self._busy = True
            try:
                if self._unreported:
                    self._report()
                self.file.append(lines)
            except Exception as error:
                kept = lines[: self.file.kept].count(b"\n")
                self.written += kept
                self.bytes += self.file.kept
                return kept, getattr(error, "strerror", None) or type(error).__name__
            else:
                self.written += n
                self.bytes += len(lines)
            finally:
                self._busy = False
                if self._late:
                    self._write_late()
            if self._syncer is not None:
                self._syncer.due()
        return n, ""

    def drop(self, reason: str, n: int = 1) -> bool:
        """Count records that are lost; always False."""
        with self._counting:
            self.dropped[reason] += n
            self._unreported[reason] += n
            first, self._warned = not self._warned, True
        if self._queue is None:
            self.note_drops()
        if first:
            with contextlib.suppress(Exception):  # a handler of the user's own may raise
                _logger.error(
                    "routescope: a decision could not be logged (%s); routing goes on, drops are counted",
                    reason,
                )
        return False

    def note_drops(self) -> None:
        """Put down in place what is not reported in the spool yet."""
        with self.alone, contextlib.suppress(Exception):
            self._note.write(self._counted())

    @property
    def queue_bytes(self) -> int:
        """Bytes that wait in memory; 0 unless durability is "async"."""
        return 0 if self._queue is None else self._queue.size

    @property
    def synced(self) -> SyncState | None:
        """When the file last reached the disk; None unless durability is "power"."""
        return None if self._syncer is None else self._syncer.state

    def drain(self) -> bool:
        """Write what is queued; False when something stays in memory."""
        return True if self._queue is None else self._queue.drain()

    def flush(self) -> bool:
        """Write what is queued and, with durability "power", sync it; False when something stays in memory."""
        done = self.drain()
        if self._syncer is not None:
            self._syncer.sync()
        return done

    def close(self) -> None:
        """Write what is queued and close the file. A later ``append`` opens a new one."""
        if self._queue is not None:
            self._queue.close()
        with self.alone:
            if self._busy:
                return  # a signal handler closes in the middle of an append of its own thread, which goes on after it
            if self._unreported:
                with contextlib.suppress(Exception):  # still in ``dropped``; there is nowhere to write it
                    self._report()
            self.file.close()
            self.note_drops()
            if not self._unreported:
                self._note.close()
        if self._syncer is not None:
            self._syncer.close()

    def _write_late(self) -> None:
        late, self._late = self._late, []
        for lines in late:
            done, why = self.put(lines)
            if not done:
                self.drop(why)

    def _report(self) -> None:
        spool = self.file.ready().name
        now = datetime.now(UTC).replace(tzinfo=None)
        for reason, n in self._counted().items():
            self.file.append(
                encode({"kind": "drop", "spool": spool, "reason": reason, "n": n, "dropped_at": now})
            )
            with self._counting:
                self._unreported[reason] -= n
                if not self._unreported[reason]:
                    del self._unreported[reason]
        self._note.write(self._counted())

    def _counted(self) -> dict[str, int]:
        """What is not reported yet, by reason."""
        with self._counting:
            return dict(self._unreported)

    def _after_fork(self) -> None:
        self.alone, self._counting = threading.RLock(), threading.RLock()
        self._busy, self._late = False, []
        if self._queue is not None:
            self._queue.after_fork()
        if self._syncer is not None:
            self._syncer.after_fork()
        self.file.after_fork()
        self._note.after_fork()
        self.written = self.bytes = 0
        self.dropped, self._unreported = Counter(), Counter()


def _forked() -> None:
    for spool in list(_open_spools):
        spool._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
