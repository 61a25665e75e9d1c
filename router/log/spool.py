"""The append side of the decision log: one file per process, one ``write()`` per record.

Nothing acknowledged is lost when the process is killed: the record is in the kernel's hands when ``append`` returns
(durability ``async`` aside, see ``router.log.background``). ``append`` never raises and never waits for another process,
the database or the network; what it cannot write it counts, and the count is itself logged once writing works again.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import secrets
import socket
import threading
import time
import weakref
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from router.errors import ConfigurationError, LogError
from router.log.background import QUEUE_BYTES, TOO_LONG, Queue, Syncer, SyncState
from router.log.drops import DropNote
from router.log.record import MAX_LINE_BYTES, encode, line_of
from router.log_settings import DURABILITIES, LogSettings
from router.types import Decision, Durability

ROLL_BYTES = 64_000_000
LOOK_SECONDS = 0.1
"""How often it is looked whether the file is still there, and in place: what is written to a deleted one is lost."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
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
        self.path: Path | None = None
        self.durability: Durability = durability
        self.written = 0
        self.bytes = 0
        self.dropped: Counter[str] = Counter()
        self._unreported: Counter[str] = Counter()
        self._roll_bytes = roll_bytes
        self._os = system
        self._fd = -1
        self._inode = (0, 0)
        self._size = 0
        self._suspect = False
        self._kept = 0
        self.alone = threading.RLock()
        """Held while something is written; not while it is synced."""
        self._counting = threading.RLock()  # never held while anything is written: a full queue must not wait
        self._busy = False
        self._late: list[bytes] = []
        self._warned = False
        self._look_at = 0.0
        self._note = DropNote(system)
        self._queue = Queue(self, queue_bytes) if durability == "async" else None
        self._syncer = Syncer(self, system) if durability == "power" else None
        _open_spools.add(self)

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
            self._busy, self._kept = True, 0
            try:
                if self._unreported:
                    self._report()
                self._write(lines)
                self.written += n
                self.bytes += len(lines)
            except Exception as error:
                kept = lines.count(b"\n", 0, self._kept)
                self.written += kept
                self.bytes += self._kept
                return kept, self._failed(error)
            finally:
                self._busy = False
                if self._late:
                    self._write_late()
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
            self._close()
            self.note_drops()
            if not self._unreported:
                self._note.close()
        if self._syncer is not None:
            self._syncer.close()

    def _write(self, lines: bytes) -> None:
        fd, now = self._fd, time.monotonic()
        try:
            # A descriptor that became another file's does not stand where our last write ended.
            is_sure = (
                0 < self._size <= self._roll_bytes - len(lines)
                and now < self._look_at
                and not self._suspect
                and self._os.lseek(fd, 0, os.SEEK_CUR) == self._size
            )
        except OSError:
            is_sure = False
        if not is_sure:
            fd = self._ready(len(lines), now)
        try:
            self._write_to(fd, lines)
        except OSError as error:
            if error.errno in _FULL or not self._size:
                raise  # a new file would fare no better
            self._close()
            rest = lines[self._kept :]
            self._write_to(self._ready(len(rest), now), rest)

    def _write_to(self, fd: int, lines: bytes) -> None:
        self._suspect = True  # until it is known that the file ends with a whole line
        try:
            done = self._os.write(fd, lines)
        except OSError:
            self._suspect = False
            raise
        if done != len(lines):
            self._write_rest(fd, lines, done)
        self._size += len(lines)
        self._suspect = False
        if self._syncer is not None:
            self._syncer.due()

    def _write_rest(self, fd: int, lines: bytes, done: int) -> None:
        """Go on after a short write, which is how a full disk first shows; else cut it off, so that the next line is whole."""
        try:
            while done < len(lines):
                more = self._os.write(fd, lines[done:])
                if more <= 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                done += more
        except OSError as error:
            try:
                self._os.ftruncate(fd, self._os.fstat(fd).st_size - done)
            except OSError:
                self._kept += (
                    lines.rfind(b"\n", 0, done) + 1
                )  # the file is given up, with the lines that are whole
            else:
                self._suspect = False
            raise error

    def _ready(self, more: int, now: float) -> int:
        """The descriptor to write ``more`` bytes to, after a close look."""
        if self._fd < 0 or not self._is_usable(more):
            self._open()
        self._look_at = now + LOOK_SECONDS
        return self._fd

    def _is_usable(self, more: int) -> bool:
        try:
            found = self._os.fstat(self._fd)
        except OSError as error:
            if error.errno == errno.EBADF:
                self._fd = -1
            return False
        if (found.st_dev, found.st_ino) != self._inode:
            self._fd = (
                -1
            )  # closed behind our back, and the number is another file's by now: not ours to close
            return False
        self._size = found.st_size
        if self._suspect or not found.st_nlink or (self._size and self._size + more > self._roll_bytes):
            return False
        return self._is_in_place()

    def _is_in_place(self) -> bool:
        """Whether the folder still has the file: else nobody would read what is written to it."""
        try:
            found = self._os.stat(self.path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._inode

    def _open(self) -> None:
        self._close()
        self._size = 0
        private_folder(self.folder, self._os)
        path = self.folder / _file_name()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = self._os.open(path, flags, 0o600)
        try:
            found = self._os.fstat(fd)
        except BaseException:
            self._os.close(fd)
            raise
        import fcntl  # here, so that the class can say on Windows what is missing

        with contextlib.suppress(OSError):
            # Held while this process lives: whoever gets it knows that an unfinished last line will stay unfinished.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._fd, self._inode, self.path = fd, (found.st_dev, found.st_ino), path
        self._note.ensure(path)

    def _close(self) -> None:
        """Give the file up; an empty one is taken away, or every failure would leave another behind."""
        fd, self._fd = self._fd, -1
        self._suspect = False
        if fd < 0:
            return
        try:
            found = self._os.fstat(fd)
        except Exception as error:
            if getattr(error, "errno", None) == errno.EBADF:
                return
        else:
            if (found.st_dev, found.st_ino) != self._inode:
                return
            if not found.st_size and self.path is not None:
                with contextlib.suppress(Exception):
                    self._os.unlink(self.path)
            elif self._syncer is not None:
                self._syncer.retire(fd)
                return
        with contextlib.suppress(Exception):
            self._os.close(fd)

    def duplicate(self) -> list[int]:
        """A second descriptor of the file, the caller's to close; none when no file is open."""
        return [self._os.dup(self._fd)] if self._fd >= 0 else []

    def _failed(self, error: Exception) -> str:
        # On a full disk the file is kept. Else the folder may have been deleted or replaced: the next append starts anew.
        if self._suspect or not isinstance(error, OSError) or error.errno not in _FULL:
            self._close()
        return getattr(error, "strerror", None) or type(error).__name__

    def _write_late(self) -> None:
        late, self._late = self._late, []
        for lines in late:
            done, why = self.put(lines)
            if not done:
                self.drop(why)

    def _report(self) -> None:
        self._ready(0, time.monotonic())
        spool = "" if self.path is None else self.path.name
        now = datetime.now(UTC).replace(tzinfo=None)
        for reason, n in self._counted().items():
            self._write(encode({"kind": "drop", "spool": spool, "reason": reason, "n": n, "dropped_at": now}))
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
        if self._syncer is not None:
            self._syncer.after_fork()
        if self._queue is not None:
            self._queue.after_fork()
        self._forget()
        self.path = None
        self.written = self.bytes = 0
        self.dropped, self._unreported = Counter(), Counter()

    def _forget(self) -> None:
        """Close this process's copies of the descriptors; the files are the parent's."""
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):
            found = os.fstat(fd)
            if (found.st_dev, found.st_ino) == self._inode:
                os.close(fd)
        self._note.let_go()
        self._note = DropNote(self._os)


def private_folder(path: Path, system: Any = os) -> None:
    """Make a folder and its missing parents, all of mode 0700; ``mkdir(parents=True)`` leaves parents to the umask."""
    if not path.is_dir():
        if path.parent != path:
            private_folder(path.parent, system)
        try:
            system.mkdir(path, 0o700)
        except FileExistsError:
            if not path.is_dir():
                raise


def _file_name() -> str:
    host = re.sub(r"[^A-Za-z0-9_.]", "_", socket.gethostname())[:40] or "host"
    return f"{host}-{os.getpid()}-{time.time_ns() // 1_000_000}-{secrets.token_hex(4)}.jsonl"


def _forked() -> None:
    for spool in list(_open_spools):
        spool._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
