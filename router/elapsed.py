"""Latencies, as they are logged."""

from __future__ import annotations

import time


def ms_since(started: float) -> float:
    """Milliseconds since a ``time.monotonic()``, to the microsecond.

    The digits after it are noise of the machine, and cost 4 bytes a row each in the database and 10 in a spool.

    Examples
    --------
    >>> 0 <= ms_since(time.monotonic()) < 1000
    True
    """
    return round((time.monotonic() - started) * 1000, 3)
