"""One total deadline around a network call, whatever the server does.

Timeouts of HTTP clients are per read: a server that sends one byte now and then holds a call for as long as it
likes, in the headers too. Here every call is a coroutine on one event loop in a daemon thread, cut off by one timer on
the monotonic clock: name look-up, connecting, TLS, headers, body, waiting between attempts. A synchronous caller
waits for it and leaves at the deadline even if that loop should be stuck. One loop for all also means that pooled
connections never belong to an event loop of the caller that has ended.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import math
import os
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

T = TypeVar("T")

GRACE_S = 0.2
"""How long a caller waits beyond the deadline for the loop to report how the call ended."""

MAX_WAIT_S = 20.0
"""A longer Retry-After is not waited for: the caller is better served by another model now."""

_lock = threading.Lock()
_running: Background | None = None
_left_behind: list[object] = []


class Background:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="routescope-calls", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start a coroutine; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def stop(self) -> None:
        """Cancel what runs and end the thread; called at interpreter exit."""
        self.loop.call_soon_threadsafe(self._cancel_all)
        self._thread.join(1.0)
        if not self._thread.is_alive():
            self.loop.close()

    def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        ended = asyncio.gather(*tasks, return_exceptions=True)
        ended.add_done_callback(lambda _: self.loop.stop())


def background() -> Background:
    """The loop of this process, started on first use and anew in a forked child."""
    global _running
    with _lock:
        if _running is None:
            _running = Background()
        return _running


def run(work: Coroutine[Any, Any, T], deadline: float, late: Callable[[], T]) -> T:
    """Run a coroutine that ends itself at ``deadline`` (monotonic seconds); ``late()`` should it not.

    A KeyboardInterrupt, or whatever else is raised in the waiting thread, cancels the work and passes through.
    """
    future = background().submit(work)
    try:
        return future.result(max(deadline - time.monotonic(), 0.0) + GRACE_S)
    except (TimeoutError, concurrent.futures.CancelledError):
        future.cancel()
        return late()
    except BaseException:
        future.cancel()
        raise


def leave_behind(thing: object) -> None:
    """Keep what belongs to the parent process alive in a forked child: closing it would disturb the parent.

    Both share one epoll instance, so that a child that unregisters a socket does it for the parent too.
    """
    _left_behind.append(thing)


def _after_fork() -> None:
    global _lock, _running
    _lock = threading.Lock()
    if _running is not None:
        leave_behind(_running)
        _running = None


def _at_exit() -> None:
    if _running is not None:
        _running.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)


def retry_after_s(headers: Mapping[str, str], now: Callable[[], float] = time.time) -> float | None:
    """Seconds a server asks to wait (``retry-after-ms``, ``Retry-After`` in seconds or as a date); None: it does not.

    A wait that is negative, not a number or in the past is 0 or None, never an error; one beyond all measure is infinite.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = (headers.get(name) or "").strip()
        if not text:
            continue
        try:
            seconds = float(text) * unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - now()
            except (ValueError, TypeError, OverflowError):
                continue
        if not math.isnan(seconds):
            return max(seconds, 0.0)
    return None


def backoff_s(
    attempt: int, asked: float | None, left: float, jitter: float, most: float = MAX_WAIT_S
) -> float | None:
    """Seconds to wait before the next attempt, or None when none is worth it.

    The wait is what the server ``asked`` for in seconds, never cut short to fit; else it doubles from 0.25 s to at most
    4 s over the attempts made (from 1), less up to a quarter by ``jitter`` in [0, 1), so that clients do not return in
    step. A wait that leaves no time to ask again before the deadline, ``left`` seconds away, is not waited, nor one of more
    than ``most`` seconds.
    """
    wait = asked if asked is not None else min(0.25 * 2 ** (attempt - 1), 4.0) * (1.0 - jitter / 4.0)
    return wait if wait <= min(most, MAX_WAIT_S) and wait < left else None
