"""The decision log: spools written by every process, one DuckDB file owned by one, and one way to read."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from router.log.owner import Owner
    from router.log.reader import Log, open_log
    from router.log.spool import Spool

_LAZY = {
    "Log": "router.log.reader",
    "Owner": "router.log.owner",
    "Spool": "router.log.spool",
    "open_log": "router.log.reader",
}

__all__ = ["Log", "Owner", "Spool", "open_log"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
