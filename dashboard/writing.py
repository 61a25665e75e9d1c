"""The log's writer of this server: what a reader of the pages says goes the same way as a router's decisions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from dashboard import state
from router.log.writer import Writer

T = TypeVar("T")

_writers: dict[Path, Writer] = {}
_lock = threading.Lock()


def write(action: Callable[[Writer], T]) -> T:
    """Do something with the writer of the data folder; the owner takes it into the database within a second."""
    data = state.settings().data
    with _lock:
        if data not in _writers:
            _writers[data] = Writer(data, turns=False)
        return action(_writers[data])


def close_writers() -> None:
    """Close the files that were appended to, for tests: every line is in the system's hands already, and a server's end closes them."""
    with _lock:
        for writer in _writers.values():
            writer.close()
        _writers.clear()
