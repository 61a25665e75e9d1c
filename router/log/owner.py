"""The one process at a time that holds the database: election, short turns, and the thread that keeps ingesting."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from router.errors import LogError, LogLocked
from router.log.ingest import (
    BATCH_BYTES,
    Ingested,
    backlog_bytes,
    compact_offsets,
    ingest_all,
    ingest_once,
    warm_up,
)
from router.log.lock import OwnerLock, holder
from router.log.schema import DATABASE, connect, keep_private
from router.log.spool import private_folder

if TYPE_CHECKING:
    import duckdb

CHECKPOINT_SECONDS = 60.0
CHECKPOINT_WAL_BYTES = 16_000_000
_logger = logging.getLogger("routescope")
_owners: dict[Path, Owner] = {}
_owners_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class OwnerStatus:
    """What an owner is doing. ``state``: waiting (another holds the lock), owning, stopped or failed."""

    state: str
    since: datetime | None
    last_ingest: datetime | None
    rows: int
    rejects: int
    error: str | None = None


class Owner:
    """Ingests every spool of a data folder while it runs, and lends cursors of its connection to readers.

    ``start`` returns at once: a thread keeps trying to get the lock. One owner per data folder and process.
    """

    def __init__(self, data: Path, *, role: str = "dashboard", interval_s: float = 0.25) -> None:
        self.data = Path(data)
        self.role = role
        self._interval = interval_s
        self._lock = OwnerLock(self.data)
        self._con: duckdb.DuckDBPyConnection | None = None
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._state = "stopped"
        self._error: str | None = None
        self._since: datetime | None = None
        self._last: datetime | None = None
        self._total = Ingested()
        self._checkpointed = time.monotonic()
        self._pid = os.getpid()

    def start(self) -> None:
        """Begin to own, or to wait for the lock."""
        if self._thread is not None:
            return
        self._stop.clear()
        self._state = "waiting"
        with _owners_lock:
            _owners[self.data.resolve()] = self
        self._thread = threading.Thread(target=self._run, name="routescope-owner", daemon=True)
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the log is open and was ingested once; False when that took longer."""
        return self._ready.wait(timeout_s)

    def stop(self) -> None:
        """Ingest what is there, checkpoint, close and give the lock up."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with _owners_lock:
            if _owners.get(self.data.resolve()) is self:
                del _owners[self.data.resolve()]
        self._state = "stopped"

    def cursor(self) -> duckdb.DuckDBPyConnection | None:
        """A cursor of the open database, or None while another process owns it."""
        con = self._con
        return None if con is None or os.getpid() != self._pid else con.cursor()

    def status(self) -> OwnerStatus:
        """What the owner is doing now."""
        return OwnerStatus(
            self._state, self._since, self._last, self._total.rows, self._total.rejects, self._error
        )

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                warm_up()
                if self._con is not None and not self._lock.is_current():
                    self._close(final=False)  # the folder was deleted or replaced: own what stands there now
                if self._con is None and not self._open():
                    self._stop.wait(self._interval)
                    continue
                busy = self._ingest()
                self._error = None
                if busy:
                    continue
            except Exception as error:  # the thread must live; the state says what happened
                self._failed(error)
            self._stop.wait(self._interval)
        self._close()

    def _open(self) -> bool:
        private_folder(self.data)
        if not self._lock.acquire(self.role):
            self._state = "waiting"
            return False
        self._con = connect(self.data / DATABASE)
        self._error = None  # before the state: whoever sees "owning" must not see why it was not
        self._state, self._since = "owning", _now()
        return True

    def _ingest(self) -> bool:
        assert self._con is not None
        step = ingest_once(self._con, self.data, until=self._stop.is_set)
        self._total += step
        self._last = _now()
        # Only a batch that was full is followed by the next at once; else a steady trickle would keep a core busy.
        busy = step.bytes >= BATCH_BYTES // 2
        if not busy:
            self._ready.set()
        if step.bytes:
            keep_private(self.data / DATABASE)
        self._checkpoint_when_due()
        return busy

    def _checkpoint_when_due(self) -> None:
        wal = self.data / (DATABASE + ".wal")
        size = wal.stat().st_size if wal.exists() else 0
        due = time.monotonic() - self._checkpointed > CHECKPOINT_SECONDS
        if self._con is not None and size and (size > CHECKPOINT_WAL_BYTES or due):
            compact_offsets(self._con)
            self._con.execute("CHECKPOINT").fetchall()
            self._checkpointed = time.monotonic()

    def _failed(self, error: Exception) -> None:
        text = str(error) if isinstance(error, LogError) else type(error).__name__
        if self._error != text:
            _logger.error("routescope: the log's owner has a problem (%s); decisions stay in the spool", text)
        self._state, self._error = "failed", text
        # Close before anything touches the file again: a live connection would hand back the same broken instance.
        self._close(final=False)

    def _close(self, *, final: bool = True) -> None:
        con, self._con = self._con, None
        if con is not None:
            try:
                if final:
                    ingest_all(con, self.data)
                    compact_offsets(con)
                    con.execute("CHECKPOINT").fetchall()
            except Exception as error:  # the spool still has every row; closing must go on
                _logger.error("routescope: the last ingest failed (%s)", type(error).__name__)
            finally:
                con.close()
        self._lock.release()

    def _after_fork(self) -> None:
        # The child must touch neither the parent's connection (the schema module keeps it from being closed there) nor
        # its lock (the lock module closes its descriptor).
        self._con = None
        self._thread = None
        self._state = "stopped"


def local_owner(data: Path) -> Owner | None:
    """The owner of a data folder that runs in this process, if any."""
    with _owners_lock:
        owner = _owners.get(Path(data).resolve())
    return owner if owner is not None and owner._pid == os.getpid() else None


def take_turn(
    data: Path, *, role: str = "turn", progress: Callable[[int], None] | None = None
) -> Ingested | None:
    """Ingest everything in one short ownership; None when another holds the lock."""
    data = Path(data)
    lock = OwnerLock(data)
    if not lock.acquire(role):
        return None
    try:
        con = connect(data / DATABASE)
        try:
            done = ingest_all(con, data, progress=progress)
            compact_offsets(con)
            return done
        finally:
            con.close()
    finally:
        lock.release()


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


def backlog(data: Path) -> int:
    """Bytes in the spools that the database does not have, counted by whoever may open it; spool bytes otherwise."""
    owner = local_owner(data)
    cursor = owner.cursor() if owner is not None else None
    if cursor is None:
        return 0
    try:
        return backlog_bytes(cursor, Path(data))
    finally:
        cursor.close()


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _forked() -> None:
    global _owners_lock
    _owners_lock = threading.Lock()
    for owner in list(_owners.values()):
        owner._after_fork()
    _owners.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
