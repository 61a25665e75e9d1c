"""Short turns as the log's owner: what a plain script and ``routescope ingest`` take."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from router.errors import LogError, LogLocked
from router.log import drops, rollups, tasks
from router.log.compaction import compact
from router.log.ingest import Ingested, compact_offsets, ingest_all
from router.log.lock import OwnerLock, holder
from router.log.precedence import give_way
from router.log.recovery import open_database, suspect
from router.log.schema import is_damage, is_fatal
from router.log.status import OwnerStatus, Publisher
from router.log.upkeep import Here

if TYPE_CHECKING:
    import duckdb

_TURN_SPOOL_BYTES = 4_000_000
_BULK_WAL_BYTES = 256_000_000
"""Most in the write-ahead log while ``routescope ingest`` brings in what has piled up: each row group is written about once, where
at ``WAL_BYTES`` a third of the file ends as free blocks (150,000 real rows: 283 bytes a row instead of 346). A process that routes
has no memory to spare for it, and after a crash the log is replayed: about a second for 100 MB."""
_TRIES = 3
_logger = logging.getLogger("routescope")


def take_turn(
    data: Path, *, role: str = "turn", progress: Callable[[int], None] | None = None
) -> Ingested | None:
    """Ingest everything in one short ownership; None when another holds the lock.

    Finishes what a process that is gone had asked for, and archives ended spools when there are many.
    """
    data = Path(data)
    give_way(data)
    lock = OwnerLock(data)
    if not lock.acquire(role):
        return None
    since, error = _now(), None
    done = None
    try:
        tries = _TRIES
        while done is None:
            tries -= 1
            done = _turn(data, role, progress, is_last=tries == 0)
        return done
    except Exception as failure:
        error = said(failure)
        raise
    finally:
        total = done or Ingested()
        state = "stopped" if error is None else "failed"
        report = OwnerStatus(state, since, _now(), total.rows, total.rejects, error)
        Publisher(data, role).publish(report, (0, 0, 0.0))
        lock.release()


def _turn(data: Path, role: str, progress: Callable[[int], None] | None, *, is_last: bool) -> Ingested | None:
    """None: the database is damaged, and will be mended when it is opened again. The exception must be gone by then."""
    import duckdb

    here = Here(open_database(data), data)
    try:
        if role == "ingest":
            here.con.execute(f"SET checkpoint_threshold = '{_BULK_WAL_BYTES} bytes'").fetchall()
        done = ingest_all(here.con, data, progress=progress)
        compact_offsets(here.con)
        rollups.merge(here.con)
        _keep_up(here, data, role)
        return done
    except duckdb.Error as error:
        if is_last or not (is_fatal(error) or (is_damage(error) and suspect(data))):
            raise
        return None
    finally:
        here.con.close()


def _keep_up(here: Here, data: Path, role: str) -> None:
    """Archive, and finish what a process that is gone had asked for. When that fails the rows are in all the same."""
    import duckdb

    task = None
    try:
        compact(here.con, data, largest=_TURN_SPOOL_BYTES if role == "turn" else None)
        drops.tidy(data)
        for task in tasks.pending(data, orphans=True):
            here.run(task)
    except (LogError, OSError, duckdb.Error) as error:
        if is_damage(error) or is_fatal(error):
            raise
        if task is not None:
            tasks.fail(data, task, said(error))
        what = (
            "the archive could not be written"
            if task is None
            else f"what was asked for ({task.kind}) could not be done"
        )
        _logger.error("routescope: %s (%s); it is tried again", what, said(error))


def ingest_now(
    data: Path, *, wait_s: float = 10.0, role: str = "ingest", progress: Callable[[int], None] | None = None
) -> Ingested | None:
    """Ingest everything, waiting out short turns of others; None when an owner that stays will do it.

    Raises
    ------
    LogLocked
        Others kept taking turns for ``wait_s`` seconds.
    """
    deadline = time.monotonic() + wait_s
    while True:
        done = take_turn(data, role=role, progress=progress)
        if done is not None:
            return done
        who = holder(data)
        if who is not None and who.stays:
            return None
        if time.monotonic() > deadline:
            pid = who.pid if who is not None else 0
            raise LogLocked(
                f"another process (PID {pid}) has held the log for {wait_s:.0f} s; every decision is in the spool, "
                "run 'routescope ingest' when it is done"
            )
        time.sleep(0.02)


def said(error: BaseException) -> str:
    """What may be said of an error: DuckDB's own messages can quote a row."""
    if isinstance(error, LogError):
        return str(error)
    return getattr(error, "strerror", None) or type(error).__name__


def checkpoint(con: duckdb.DuckDBPyConnection) -> None:
    """Merge what is better merged, and write the write-ahead log into the file."""
    compact_offsets(con)
    rollups.merge(con)
    con.execute("CHECKPOINT").fetchall()


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
