"""A thread that works when there is something to do, for what a spool leaves to the background."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

RETRY_SECONDS = 1.0
"""Longest wait before what failed is tried again."""

_logger = logging.getLogger("routescope")


class Worker:
    """A daemon thread that sleeps until it is rung for, waits a little so that more may gather, and works.

    The bell is a bare lock: ``threading.Event`` could deadlock a signal handler that logs.
    """

    def __init__(
        self, name: str, work: Callable[[], bool], has_work: Callable[[], bool], wait_s: float
    ) -> None:
        self._name = name
        self._work = work
        self._has_work = has_work
        self._wait_s = wait_s
        self.reset()

    def reset(self) -> None:
        """Forget the thread: it is not there in a forked child."""
        self._thread: threading.Thread | None = None
        self._starting = threading.RLock()
        self._bell = threading.Lock()

    def wake(self) -> bool:
        """Have the work done soon; False when there is no thread to do it and none can be started."""
        if self._thread is None:
            return self._start()
        if self._bell.locked():
            self._ring()
        return True

    def stop(self) -> None:
        """Let the thread end; ``wake`` starts another."""
        self._thread = None
        self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # somebody else has just done so
            self._bell.release()

    def _start(self) -> bool:
        with self._starting:
            if self._thread is None:
                self._bell = (
                    threading.Lock()
                )  # of its own: a thread that is about to end must not take the ring
                self._bell.acquire()
                thread = threading.Thread(target=self._run, args=(self._bell,), name=self._name, daemon=True)
                self._thread = thread
                try:
                    thread.start()
                except (RuntimeError, MemoryError):  # no more threads, or the interpreter is going down
                    self._thread = None
                    return False
                except BaseException:  # Ctrl+C: one that did start sees that it is not the one, and ends
                    self._thread = None
                    raise
        return True

    def _run(self, bell: threading.Lock) -> None:
        me, pause = threading.current_thread(), self._wait_s
        while self._thread is me:
            if not self._has_work():
                bell.acquire()
            time.sleep(pause)
            try:
                done = self._work()
            except Exception as error:  # the thread must live
                done = False
                _logger.error(
                    "routescope: writing the log in the background failed (%s)", type(error).__name__
                )
            pause = self._wait_s if done else min(pause * 2, RETRY_SECONDS)
