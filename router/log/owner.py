"""The one process at a time that holds the database: election, short turns, and the thread that keeps ingesting."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from router.errors import LogError
from router.log import drops, rewrite, tasks
from router.log.batches import BATCH_BYTES
from router.log.compaction import compact
from router.log.ingest import Ingested, backlog_bytes, ingest_all, ingest_once, offsets, sizes
from router.log.inserting import warm_up
from router.log.lending import QUERY_SECONDS, Lender
from router.log.lock import OwnerLock, holder
from router.log.precedence import Precedence
from router.log.recovery import is_suspect, last_damage, open_database, suspect
from router.log.schema import DATABASE, WAL_BYTES, is_damage, is_fatal, keep_private
from router.log.spool import private_folder
from router.log.status import Activity, Backlog, OwnerStatus, Publisher
from router.log.status import read as status
from router.log.turns import checkpoint, ingest_now, said, take_turn
from router.log.upkeep import carry_out

if TYPE_CHECKING:
    import duckdb

__all__ = ["Owner", "OwnerStatus", "backlog", "ingest_now", "local_owner", "status", "take_turn"]

CHECKPOINT_SECONDS = 60.0
TURN_LOOK_SECONDS = 0.01
"""How often a waiting owner looks again while others take short turns."""

_LINE_BYTES = 1_000.0  # of a decision, until some were seen
_logger = logging.getLogger("routescope")
_owners: dict[Path, Owner] = {}
_owners_lock = threading.Lock()


class _Stopped(Exception):
    """The owner was told to stop in the middle of something that can be left."""


class Owner:
    """Ingests every spool of a data folder while it runs, and lends cursors of its connection to readers.

    ``start`` returns at once: a thread keeps trying to get the lock. One owner per data folder and process. It looks at the
    spools each ``interval_s``, checkpoints each ``checkpoint_s``, and gives queries ``patience_s`` to end (all in seconds)
    before it replaces the file that they read.
    """

    def __init__(
        self,
        data: Path,
        *,
        role: str = "dashboard",
        interval_s: float = 0.25,
        checkpoint_s: float = CHECKPOINT_SECONDS,
        patience_s: float = QUERY_SECONDS,
    ) -> None:
        self.data = Path(data)
        self.role = role
        self._interval = interval_s
        self._checkpoint_s = checkpoint_s
        self._lock = OwnerLock(self.data)
        self._precedence = Precedence(self.data)
        self._lender = Lender(patience_s)
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._state = "stopped"
        self._activity: Activity | None = None
        self._error: str | None = None
        self._since: datetime | None = None
        self._last: datetime | None = None
        self.complete_at: datetime | None = None
        """Every decision logged before then (UTC) is in the database; None until that is known."""
        self._total = Ingested()
        self._checkpointed = time.monotonic()
        self._next_task = 0.0
        self._fatal = 0
        self._publisher = Publisher(self.data, role)
        self._backlog = Backlog(self.data)
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
        """Ingest what is there, checkpoint, close and give the lock up. A task that is going on is left to the next owner."""
        self._stop.set()
        if self._activity is not None:
            self._lender.interrupt()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with _owners_lock:
            if _owners.get(self.data.resolve()) is self:
                del _owners[self.data.resolve()]
        self._state = "stopped"

    @property
    def is_open(self) -> bool:
        """Whether this owner has the database open, or will in a moment."""
        return self._lender.is_open

    @property
    def mending(self) -> str:
        """A sentence while the database is made again, else ""."""
        activity = self._activity
        if self._state != "mending" or activity is None:
            return ""
        return (
            "the database is damaged or gone and is being made again from archive and spools: "
            f"{activity.share:.0%} so far. No decision is lost; look again in a moment"
        )

    def cursor(self, wait_s: float = 2 * QUERY_SECONDS) -> duckdb.DuckDBPyConnection | None:
        """A cursor of the open database, to be closed soon; None while another process owns it, or it is made again.

        While the file is replaced by another this waits, at most ``wait_s`` seconds.
        """
        return self._lender.cursor(wait_s)

    def status(self) -> OwnerStatus:
        """What the owner is doing now."""
        total = self._total
        return OwnerStatus(
            self._state, self._since, self._last, total.rows, total.rejects, self._error, self._activity
        )

    def _run(self) -> None:
        while not self._stop.is_set():
            wait = self._interval
            try:
                warm_up()
                if self._lender.con is not None and (not self._lock.is_current() or is_suspect(self.data)):
                    # Another folder, or a file to be mended: own what stands there now.
                    self._close(final=False)
                if self._lender.con is None and not self._open():
                    who = holder(self.data)
                    self._stop.wait(self._interval if who is not None and who.stays else TURN_LOOK_SECONDS)
                    continue
                self._work()
                if self._ingest():
                    wait = 0.0
                self._error = None
                self._fatal = 0
            except Exception as error:  # the thread must live; the state says what happened
                self._failed(error)
            self._publish()
            if wait:
                self._stop.wait(wait)
        self._precedence.drop()
        self._close()

    def _open(self) -> bool:
        private_folder(self.data)
        if not self._lock.acquire(self.role):
            self._state = "waiting"
            self._precedence.claim()
            return False
        self._precedence.drop()
        before = last_damage(self.data)
        con = open_database(self.data, progress=self._mending)
        if last_damage(self.data) != before:
            self._ingest_again(con)
        self._activity = None
        self._error = None  # before the state: whoever sees "owning" must not see why it was not
        self._since = self._since if self._state == "mending" else _now()
        self.complete_at = None  # others may have been behind, or the database be made again
        self._lender.put(con)
        self._state = "owning"
        return True

    def _ingest_again(self, con: duckdb.DuckDBPyConnection) -> None:
        """After a damage pages wait until the spools are read again: fewer rows than before would look like a loss."""
        goal = sum(sizes(self.data).values()) - sum(offsets(con).values())
        done = 0

        def advance(n: int) -> None:
            nonlocal done
            done += n
            self._mending(done, goal)

        try:
            ingest_all(con, self.data, progress=advance)
        except BaseException:
            con.close()
            raise

    def _mending(self, done: int, total: int) -> None:
        if self._stop.is_set():
            raise LogError("stopped while the database was made again; the next owner goes on with it")
        if self._state != "mending":
            self._since = _now()
        self._report(Activity("rebuild", "archive and spools", done, total), "mending")

    def _report(self, activity: Activity, state: str = "working") -> None:
        self._activity, self._state = activity, state
        self._publish()

    def _work(self) -> None:
        """Carry out what was asked for: by this process or another, or by one that did not live to see it done."""
        if time.monotonic() < self._next_task:
            return
        for task in tasks.pending(self.data):
            assert self._lender.con is not None
            try:
                carry_out(self._lender.con, self.data, task, swap=self._swap, report=self._report)
            except Exception as error:
                self._next_task = time.monotonic() + tasks.RETRY_SECONDS
                if not self._stop.is_set():
                    tasks.fail(self.data, task, said(error))
                raise
            finally:
                self._activity = None
            self._state = "owning"

    def _swap(self, fresh: rewrite.Fresh) -> duckdb.DuckDBPyConnection:
        self._lender.replace()
        try:
            rewrite.put_in_place(self.data, fresh)
            con = open_database(self.data)
            self._lender.put(con)
        finally:
            self._lender.give_up()
        return con

    def _ingest(self) -> bool:
        assert self._lender.con is not None
        begun = _now()
        step = ingest_once(self._lender.con, self.data, until=self._stop.is_set)
        self._total += step
        self._last = _now()
        # Only a batch that was full is followed by the next at once; else a steady trickle would keep a core busy.
        busy = step.bytes >= BATCH_BYTES // 2
        if not busy:  # no spool had more than one batch
            self.complete_at = begun
            self._ready.set()
        if step.bytes:
            keep_private(self.data / DATABASE)
        self._checkpoint_when_due()
        return busy

    def _checkpoint_when_due(self) -> None:
        wal = self.data / (DATABASE + ".wal")
        size = wal.stat().st_size if wal.exists() else 0
        due = time.monotonic() - self._checkpointed > self._checkpoint_s
        if self._lender.con is None or not (due or size > WAL_BYTES):
            return
        self._checkpointed = time.monotonic()
        if size:
            checkpoint(self._lender.con)
        looked = time.monotonic()

        def meanwhile() -> None:  # rows must not wait until the archive is written
            nonlocal looked
            if self._stop.is_set():
                raise _Stopped
            if self._lender.con is not None and time.monotonic() - looked > self._interval:
                self._total += ingest_once(self._lender.con, self.data)
                self._last = _now()
                looked = time.monotonic()

        with contextlib.suppress(_Stopped):
            compact(self._lender.con, self.data, meanwhile=meanwhile)
        drops.tidy(self.data)

    def _failed(self, error: Exception) -> None:
        text = said(error)
        if self._error != text:
            _logger.error("routescope: the log's owner has a problem (%s); decisions stay in the spool", text)
        self._state, self._error = "failed", text
        self._publish()
        self._fatal += is_fatal(error)
        if is_damage(error) or self._fatal > 1:
            suspect(self.data)
        # Close before anything touches the file again: a live connection would hand back the same broken instance.
        self._close(final=False)

    def _publish(self) -> None:
        if not self._lock.held or not self._publisher.is_due(self._state):
            return
        left = (0, 0, 0.0)
        if self._lender.con is not None and self._activity is None:
            try:
                total = self._total
                mean = total.bytes / total.rows if total.rows else _LINE_BYTES
                left = self._backlog.measure(
                    sizes(self.data), offsets(self._lender.con), now=time.time(), line_bytes=mean
                )
            except Exception as error:  # a status is not worth a failure; the next pass finds it
                _logger.debug("routescope: the backlog is not known (%s)", type(error).__name__)
        self._publisher.publish(self.status(), left)

    def _close(self, *, final: bool = True) -> None:
        con = self._lender.con
        try:
            if con is not None and final:
                ingest_all(con, self.data)
                checkpoint(con)
        except Exception as error:  # the spool still has every row; closing must go on
            _logger.error("routescope: the last ingest failed (%s)", type(error).__name__)
        try:
            self._lender.close()
        except LogError as error:
            _logger.error("routescope: %s", error)
        if final and self._lock.held:
            self._state = "stopped"
            self._publish()
        self._lock.release()

    def _after_fork(self) -> None:
        # The child must touch neither the parent's connection (the schema module keeps it from being closed there) nor
        # its lock (the lock module closes its descriptor).
        self._thread = None
        self._state = "stopped"


def local_owner(data: Path) -> Owner | None:
    """The owner of a data folder that runs in this process, if any."""
    with _owners_lock:
        owner = _owners.get(Path(data).resolve())
    return owner if owner is not None and owner._pid == os.getpid() else None


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
