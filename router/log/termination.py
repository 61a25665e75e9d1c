"""How a process that is told to end (SIGTERM) leaves no decision in memory, without taking over anybody's handler."""

from __future__ import annotations

import _thread
import atexit
import contextlib
import os
import signal
import sys
import threading
import time
import weakref
from typing import Protocol

END_SECONDS = 1.5
"""The process ends after this long even if the disk does not answer."""


class _Flushed(Protocol):
    def end(self) -> None: ...


_open: weakref.WeakSet[_Flushed] = weakref.WeakSet()
_worker_pid = 0


def watch(spool: _Flushed) -> None:
    """Have ``spool.end()`` called before this process ends."""
    _open.add(spool)


def arm() -> bool:
    """Flush on SIGTERM too, where that would end the process at once; False when this thread cannot say.

    Any handler that is there stays: a server stops in its own way, and at the end of the interpreter all is flushed.
    """
    _arm_worker()
    if threading.current_thread() is not threading.main_thread():
        return False
    with contextlib.suppress(ValueError):  # a subinterpreter has no signals
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _terminate)
    return True


def flush_all() -> None:
    """Write what is queued anywhere; from now on callers write themselves."""
    for spool in list(_open):
        with contextlib.suppress(Exception):  # nobody is left to hear of it; what is lost is counted
            spool.end()


def _terminate(number: int, frame: object) -> None:
    # The interrupted code may hold any lock, so the flush is a thread's, and the code goes on meanwhile. A second
    # signal ends the process at once. A bare thread: threading.Thread takes locks of its own.
    signal.signal(number, signal.SIG_DFL)
    try:
        _thread.start_new_thread(_end_at_last, (number,))
        _thread.start_new_thread(_flush_and_end, (number,))
    except RuntimeError:
        os.kill(os.getpid(), number)


def _flush_and_end(number: int) -> None:
    flush_all()
    os.kill(os.getpid(), number)


def _end_at_last(number: int) -> None:
    time.sleep(END_SECONDS)
    os.kill(os.getpid(), number)


def _arm_worker() -> None:
    """A ``multiprocessing`` worker ends without calling exit hooks."""
    global _worker_pid
    util, process = (sys.modules.get(f"multiprocessing.{name}") for name in ("util", "process"))
    if util is None or process is None or _worker_pid == os.getpid() or process.parent_process() is None:
        return
    _worker_pid = os.getpid()
    util.Finalize(None, flush_all, exitpriority=-10)


atexit.register(flush_all)
