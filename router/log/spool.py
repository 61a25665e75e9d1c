"""The append side of the decision log: one file per process, one ``write()`` per record.

Nothing acknowledged is lost when the process is killed: the record is in the kernel's hands when ``append`` returns.
``append`` never raises and never waits for another process, the database or the network; what it cannot write it
counts, and the count is itself logged once writing works again.
"""

from __future__ import annotations

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
from router.log.record import encode

ROLL_BYTES = 64_000_000
_logger = logging.getLogger("routescope")
_open_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


class Spool:
    """Appends records to ``<data>/spool/<host>-<pid>-<start>-<rand>.jsonl``.

    Thread-safe; a forked child starts a file of its own. ``written`` and ``dropped`` (by reason) count this process.
    """

    def __init__(self, data: Path, *, roll_bytes: int = ROLL_BYTES) -> None:
        if os.name == "nt":
            raise LogError("the decision log needs file locks that Windows does not have; run it on Linux or macOS")
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
        _open_spools.add(self)

    def append(self, payload: Mapping[str, Any]) -> bool:
        """Write one record; False when it could not be written (counted in ``dropped``)."""
        try:
            line = encode(payload)
        except (TypeError, ValueError, RecursionError):
            # Covers orjson's encode errors (a TypeError): nothing of the value is repeated in the log.
            self._drop("not encodable")
            return False
        with self._lock:
            try:
                if self._unreported:
                    self._report()
                self._write(line)
            except OSError as error:
                self._drop(error.strerror or type(error).__name__)
                return False
            self.written += 1
        return True

    def close(self) -> None:
        """Close the file. A later ``append`` opens a new one."""
        with self._lock:
            if self._unreported:
                try:
                    self._report()
                except OSError:
                    pass  # still in ``dropped``; there is nowhere to write it
            self._close()

    def _write(self, line: bytes) -> None:
        if self._fd < 0 or self._size + len(line) > self._roll_bytes:
            self._open()
        written = os.write(self._fd, line)
        if written != len(line):
            # A disk that fills up shows first as a short write. Cut it off, so that the next record is whole.
            os.ftruncate(self._fd, self._size)
            raise OSError(28, "No space left on device")
        self._size += written

    def _open(self) -> None:
        self._close()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / _file_name()
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.path, self._size = path, 0

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _drop(self, reason: str) -> None:
        self.dropped[reason] += 1
        self._unreported[reason] += 1
        self._close_quietly()
        if not self._warned:
            self._warned = True
            _logger.error("routescope: a decision could not be logged (%s); routing goes on, drops are counted", reason)

    def _close_quietly(self) -> None:
        # The folder may have been deleted or replaced: the next append starts a new file.
        try:
            self._close()
        except OSError:
            self._fd = -1

    def _report(self) -> None:
        now = datetime.now(UTC).replace(tzinfo=None)
        for reason, n in list(self._unreported.items()):
            self._write(encode({"kind": "drop", "reason": reason, "n": n, "dropped_at": now}))
            del self._unreported[reason]

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._close_quietly()
        self.path = None
        self.written = 0
        self.dropped = Counter()
        self._unreported = Counter()


def _file_name() -> str:
    host = re.sub(r"[^A-Za-z0-9_.]", "_", socket.gethostname())[:40] or "host"
    return f"{host}-{os.getpid()}-{time.time_ns() // 1_000_000}-{secrets.token_hex(4)}.jsonl"


def _forked() -> None:
    for spool in list(_open_spools):
        spool._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
