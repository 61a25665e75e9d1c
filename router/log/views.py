"""Saved views of the dashboard, as the log holds them: the last word for each name counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.log.reader import Log


@dataclass(frozen=True, slots=True)
class SavedView:
    """A page of the dashboard and the query of its address under a name; ``query`` None: it was taken away."""

    name: str
    page: str
    query: str | None
    saved_at: datetime


def newest(log: Log) -> list[SavedView]:
    """The last view saved under each name, also where it was taken away."""
    rows = log.rows(
        "SELECT name, page, query, saved_at FROM saved_views WHERE name IS NOT NULL AND page IS NOT NULL AND saved_at IS NOT NULL "
        "QUALIFY row_number() OVER (PARTITION BY name ORDER BY saved_at DESC, rowid DESC) = 1"
    )
    return [SavedView(*row) for row in rows]
