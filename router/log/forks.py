"""Moments at which this process must not be forked, because the child could never end them."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401  (sets hooks of its own: in the middle of a fork that would be an error)
import os
import threading
from contextlib import AbstractContextManager

WAIT_SECONDS = 10.0
"""How long a fork waits at most: one that is made in the middle is better than none at all."""

_lock = threading.RLock()
_mine = threading.local()


def no_fork() -> AbstractContextManager[object]:
    """A context manager; forks of other threads wait until its block ends.

    For imports in a thread of ours (a child forked meanwhile would wait for ever for the module to be loaded) and for
    a file locked but not yet noted (the child would keep the lock).
    """
    return _lock


def _begins() -> None:
    _mine.held = _lock.acquire(timeout=WAIT_SECONDS)


def _is_done() -> None:
    if _mine.held:
        _lock.release()


def _forked() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_begins, after_in_parent=_is_done, after_in_child=_forked)
