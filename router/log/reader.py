"""One way to read the log: ``open_log(data)``. Nobody waits for an owner that stays."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from router.errors import LogError, LogLocked, LogTooNew
from router.log.ingest import backlog_bytes, ingest_all, spools
from router.log.lock import LOCK, Holder, OwnerLock, holder
from router.log.owner import local_owner
from router.log.schema import DATABASE, connect

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

Mode = Literal["owner", "file", "spool"]


class Log:
    """An open decision log. Use as a context manager, or ``close()`` it.

    Attributes
    ----------
    mode : "owner" (this process owns the database), "file" (opened under the lock, which is held until ``close``)
        or "spool" (another process owns it: read from the spools into memory).
    holder : who owns the database in "spool" mode.
    note : a sentence for people when something is out of the ordinary, else "".
    read_at : when the rows were read (UTC); ``age_s`` is the seconds since.
    """

    def __init__(
        self,
        data: Path,
        con: duckdb.DuckDBPyConnection,
        mode: Mode,
        *,
        lock: OwnerLock | None = None,
        holder: Holder | None = None,
        note: str = "",
    ) -> None:
        self.data = data
        self.mode: Mode = mode
        self.holder = holder
        self.note = note
        self.read_at = datetime.now(UTC).replace(tzinfo=None)
        self._con = con
        self._lock = lock

    @property
    def age_s(self) -> float:
        """Seconds since the rows were read; in "owner" mode since the owner's last look at the spools."""
        when = self.read_at
        if self.mode == "owner" and (owner := local_owner(self.data)) is not None:
            when = owner.status().last_ingest or when
        return max((datetime.now(UTC).replace(tzinfo=None) - when).total_seconds(), 0.0)

    def refresh(self) -> None:
        """Take in what was logged since; needed in "spool" and "file" mode only."""
        if self.mode != "owner":
            ingest_all(self._con, self.data)
            self.read_at = datetime.now(UTC).replace(tzinfo=None)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A cursor of its own: one for each thread, closed by the caller."""
        return self._con.cursor()

    def rows(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a query; values are bound by name (``$name``)."""
        cursor = self.cursor()
        try:
            return cursor.execute(query, dict(parameters or {})).fetchall()
        finally:
            cursor.close()

    def frame(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        tables: Mapping[str, pd.DataFrame] | None = None,
    ) -> pd.DataFrame:
        """Run a query into a DataFrame; ``tables`` are small frames that it may join."""
        cursor = self.cursor()
        try:
            for name, table in (tables or {}).items():
                cursor.register(name, table)
            return cursor.execute(query, dict(parameters or {})).df()
        finally:
            cursor.close()

    def arrays(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        tables: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Run a query into numpy arrays by column; for numbers without NULL, where a DataFrame would cost more."""
        cursor = self.cursor()
        try:
            for name, table in (tables or {}).items():
                cursor.register(name, table)
            return dict(cursor.execute(query, dict(parameters or {})).fetchnumpy())
        finally:
            cursor.close()

    def count(self) -> int:
        """Number of decisions."""
        return int(self.rows("SELECT count(*) FROM decisions")[0][0])

    def backlog_bytes(self) -> int:
        """Bytes in the spools that these rows do not hold yet."""
        cursor = self.cursor()
        try:
            return backlog_bytes(cursor, self.data)
        finally:
            cursor.close()

    def close(self) -> None:
        """Close the connection, then give the lock up."""
        self._con.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Log(mode={self.mode!r}, age_s={self.age_s:.1f})"


def open_log(data: str | os.PathLike[str] = "data", *, wait_s: float = 2.0, take_lock: bool = True) -> Log:
    """Open the decision log of a data folder for reading.

    In the process that owns the database: a cursor of its connection. Else the file, under the lock, when that is free
    (short turns of others are waited out for ``wait_s`` seconds). Else an in-memory copy read from the spools.
    What it is reading and how old that is stand in ``mode``, ``note`` and ``age_s``. A folder without a log gives
    an empty one and stays untouched.

    Parameters
    ----------
    take_lock : False reads from the spools without ever taking the lock, for long-lived readers beside an owner.

    Raises
    ------
    LogTooNew
        The database was written by a newer version.
    """
    folder = Path(data)
    owner = local_owner(folder)
    cursor = owner.cursor() if owner is not None else None
    if cursor is not None:
        return Log(folder, cursor, "owner")
    if not (folder / DATABASE).exists() and not spools(folder):
        return Log(folder, connect(None), "spool", note="")
    if not take_lock:
        return _from_spools(folder, holder(folder), "")
    deadline = time.monotonic() + wait_s
    lock = OwnerLock(folder)
    note = ""
    while True:
        try:
            free = lock.acquire("read")
        except OSError:
            return _read_only(folder)
        if free:
            break
        who = holder(folder)
        if (who is not None and who.stays) or time.monotonic() > deadline:
            return _from_spools(folder, who, _locked_note(who))
        time.sleep(0.02)
    try:
        if not os.access(folder, os.W_OK):
            raise PermissionError
        return Log(folder, _ingested(folder), "file", lock=lock)
    except PermissionError:
        lock.release()
        return _read_only(folder)
    except LogTooNew:
        lock.release()
        raise
    except LogError as error:  # damaged, open elsewhere, or the disk is full: the spools can still be read
        note = str(error)
    except BaseException:
        lock.release()
        raise
    lock.release()
    return _from_spools(folder, None, note)


def _ingested(folder: Path) -> duckdb.DuckDBPyConnection:
    """The database with everything in it; closed again if that fails, while the caller still holds the lock."""
    con = connect(folder / DATABASE)
    try:
        ingest_all(con, folder)
    except BaseException:
        con.close()
        raise
    return con


def _from_spools(folder: Path, who: Holder | None, note: str) -> Log:
    con = connect(None)
    ingest_all(con, folder)
    return Log(folder, con, "spool", holder=who, note=note)


def _read_only(folder: Path) -> Log:
    """A folder that cannot be written: the file when it holds everything, else the spools."""
    note = "The data folder cannot be written; reading only."
    if (folder / DATABASE).exists() and not (folder / (DATABASE + ".wal")).exists():
        lock = OwnerLock(folder)
        try:
            locked = (folder / LOCK).exists() and lock.acquire("read")
        except OSError:
            locked = False
        try:
            con = connect(folder / DATABASE, read_only=True)
        except Exception as error:
            lock.release()
            return _from_spools(folder, None, str(error) if isinstance(error, LogLocked) else note)
        if backlog_bytes(con, folder) == 0:
            return Log(folder, con, "file", lock=lock if locked else None, note=note)
        con.close()
        lock.release()
    return _from_spools(folder, None, note)


def _locked_note(who: Holder | None) -> str:
    if who is None or not who.pid:
        return "Another process owns the log; reading the spools instead."
    since = f", since {who.since:%H:%M} UTC" if who.since else ""
    return f"Another process owns the log (PID {who.pid}{since}); reading the spools instead."
