"""A dashboard that waits for the log goes before short turns, which could follow one another without a gap for it."""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from pathlib import Path

NEXT = "owner.next"
YIELD_SECONDS = 0.05
"""How long a short turn holds back: five times as long as one who waits takes to look. No longer: that one may be stopped."""

_waiting: weakref.WeakSet[Precedence] = weakref.WeakSet()


class Precedence:
    """Says that this process waits for the log, for as long as it is claimed."""

    def __init__(self, data: Path) -> None:
        self.path = Path(data) / NEXT
        self._fd = -1

    def claim(self) -> None:
        """Ask for precedence; quietly nothing when another waits already, or the folder cannot be written."""
        if self._fd >= 0:
            return
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return
        self._fd = fd
        _waiting.add(self)

    def drop(self) -> None:
        """Take it back."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def give_way(data: Path) -> None:
    """Wait a moment when somebody has precedence."""
    try:
        fd = os.open(Path(data) / NEXT, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(YIELD_SECONDS)
    except OSError:
        return
    finally:
        os.close(fd)


def _forked() -> None:
    for waiting in list(_waiting):
        waiting.drop()  # the child's copy; it does not wait for anything


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
