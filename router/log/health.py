"""What there is to say about how a log is kept: its owner, its archive, damages that were mended, requests that wait."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from router.log import status, tasks
from router.log.lock import holder
from router.log.parts import broken, folder, manifests
from router.log.recovery import SAID_FOR, last_damage

State = Literal["ok", "note", "warn", "fail"]


class Remark(NamedTuple):
    """One remark; ``fail``: rows are lost or erased rows are still there."""

    about: str
    state: State
    text: str


def remarks(data: Path) -> Iterator[Remark]:
    """All there is to say, without opening the database."""
    yield from _owner(data)
    yield from _damage(data)
    yield from _archive(data)
    for task in tasks.pending(data):
        what = "rebuild the database" if task.kind == "rebuild" else f"erase decisions by {task.selector}"
        yield Remark(
            "requests", "warn",
            f"a request to {what}, of {task.asked_at[:16].replace('T', ' ')} UTC, waits; the next owner carries it out: "
            "'routescope ingest' does it now",
        )  # fmt: skip


def _owner(data: Path) -> Iterator[Remark]:
    found, who = status.read(data), holder(data)
    if who is not None and (found is None or not found.is_alive):  # it has just begun, or only reads
        since = f" since {who.since:%Y-%m-%d %H:%M} UTC" if who.since else ""
        yield Remark("owner", "ok", f"process {who.pid} ({who.role}) owns the log{since}")
    elif found is None:
        yield Remark(
            "owner", "ok", "nobody owned the log yet; a router takes short turns, a dashboard would keep it"
        )
    else:
        yield Remark("owner", "ok" if found.error is None else "warn", found.sentence)


def _damage(data: Path) -> Iterator[Remark]:
    found = last_damage(data)
    if found is None:
        return
    is_recent = datetime.now(UTC).replace(tzinfo=None) - found.at < SAID_FOR
    yield Remark("database", "fail" if found.lost else "warn" if is_recent else "note", found.sentence)


def _archive(data: Path) -> Iterator[Remark]:
    batches = manifests(data)
    for name in broken(data):
        yield Remark("archive", "fail", f"{name}.json cannot be read; put it back from a backup")
    gone = [p.path for m in batches for p in m.parts if not (folder(data) / p.path).exists()]
    for path in gone[:3]:
        yield Remark("archive", "fail", f"{path} is gone; put it back from a backup")
    if batches:
        n, size = sum(x.decisions for x in batches), sum(x.size for x in batches)
        days = sorted({p.day for m in batches for p in m.parts if p.day is not None})
        period = f", {days[0]} to {days[-1]}" if days else ""
        yield Remark("archive", "ok", f"{n:,} decisions in {size / 1e6:,.1f} MB of Parquet{period}")
