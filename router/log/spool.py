"""The append side of the decision log: one file per process, one ``write()`` per record.

Nothing acknowledged is lost when the process is killed: the record is in the kernel's hands when ``append`` returns.
``append`` never raises and never waits for another process, the database or the network; what it cannot write it
counts, and the count is itself logged once writing works again.
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

from router.errors import LogError
from router.log.record import MAX_LINE_BYTES, encode, salvage

ROLL_BYTES = 64_000_000
LOOK_SECONDS = 1.0
"""How often the file is looked for: a write into a deleted file succeeds, and is lost."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_logger = logging.getLogger("routescope")
_open_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


class Spool:
    """Appends records to ``<data>/spool/<host>-<pid>-<start>-<rand>.jsonl``.

    Thread-safe; a forked child starts a file of its own. ``written`` and ``dropped`` (by reason) count this process.
    """

    def __init__(self, data: Path, *, roll_bytes: int = ROLL_BYTES) -> None:
        if os.name == "nt":
            raise LogError(
                "the decision log needs file locks that Windows does not have; run it on Linux or macOS"
            )
        self.folder = Path(data) / "spool"
        self.path: Path | None = None
        self.written = 0
        self.dropped: Counter[str] = Counter()
        self._unreported: Counter[str] = Counter()
        self._roll_bytes = roll_bytes
        self._fd = -1
        self._size = 0
        self._lock = threading.Lock()
        self._warned = False
        self._looked = 0.0
        _open_spools.add(self)

    def append(self, payload: Mapping[str, Any]) -> bool:
        """Write one record; False when it could not be written (counted in ``dropped``)."""
        line = _line(payload)
        with self._lock:
            if len(line) > MAX_LINE_BYTES + 1:
                self._drop("longer than a record may be")
                return False
            try:
                if self._unreported:
                    self._report()
                self._write(line)
            except OSError as error:
                self._failed(error)
                return False
            self.written += 1
        return True

    def close(self) -> None:
        """Close the file. A later ``append`` opens a new one."""
        with self._lock:
            if self._unreported:
                with contextlib.suppress(OSError):  # still in ``dropped``; there is nowhere to write it
                    self._report()
            self._close()

    def _write(self, line: bytes) -> None:
        if self._fd < 0 or self._size + len(line) > self._roll_bytes or self._is_gone():
            self._open()
        written = os.write(self._fd, line)
        if written != len(line):
            # A disk that fills up shows first as a short write. Cut it off, so that the next record is whole.
            os.ftruncate(self._fd, self._size)
            raise OSError(errno.ENOSPC, "No space left on device")
        self._size += written

    def _is_gone(self) -> bool:
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return False
        self._looked = now
        return os.fstat(self._fd).st_nlink == 0

    def _open(self) -> None:
        self._close()
        private_folder(self.folder)
        path = self.folder / _file_name()
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        import fcntl  # here, so that the class can say on Windows what is missing

        with contextlib.suppress(OSError):
            # Held while this process lives: whoever gets it knows that an unfinished last line will stay unfinished.
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.path, self._size, self._looked = path, 0, time.monotonic()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _failed(self, error: OSError) -> None:
        # On a full disk an empty file is kept, or every failure would leave another one behind. Else the folder may
        # have been deleted or replaced: the next append starts a new file.
        if self._size or error.errno not in _FULL:
            self._close_quietly()
        self._drop(error.strerror or type(error).__name__)

    def _drop(self, reason: str) -> None:
        self.dropped[reason] += 1
        self._unreported[reason] += 1
        if not self._warned:
            self._warned = True
            _logger.error(
                "routescope: a decision could not be logged (%s); routing goes on, drops are counted", reason
            )

    def _close_quietly(self) -> None:
        try:
            self._close()
        except OSError:
            self._fd = -1

    def _report(self) -> None:
        if self._fd < 0:
            self._open()
        spool = "" if self.path is None else self.path.name
        now = datetime.now(UTC).replace(tzinfo=None)
        for reason, n in list(self._unreported.items()):
            self._write(encode({"kind": "drop", "spool": spool, "reason": reason, "n": n, "dropped_at": now}))
            del self._unreported[reason]

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._close_quietly()
        self.path = None
        self.written = 0
        self.dropped = Counter()
        self._unreported = Counter()


def private_folder(path: Path) -> None:
    """Make a folder and its missing parents, all of mode 0700; ``mkdir(parents=True)`` leaves parents to the umask."""
    if not path.is_dir():
        if path.parent != path:
            private_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def _line(payload: Mapping[str, Any]) -> bytes:
    try:
        return encode(payload)
    except (TypeError, ValueError, RecursionError):  # orjson's own error is a TypeError
        return encode(salvage(payload))


def _file_name() -> str:
    host = re.sub(r"[^A-Za-z0-9_.]", "_", socket.gethostname())[:40] or "host"
    return f"{host}-{os.getpid()}-{time.time_ns() // 1_000_000}-{secrets.token_hex(4)}.jsonl"


def _forked() -> None:
    for spool in list(_open_spools):
        spool._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
