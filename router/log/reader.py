"""One way to read the log: ``open_log(data)``. Nobody waits for an owner that stays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from router.errors import LogDamaged, LogError, LogLocked, LogTooNew
from router.log.archive import catch_up, has_log
from router.log.ingest import backlog_bytes, ingest_all, spools
from router.log.lock import LOCK, Holder, OwnerLock, holder
from router.log.owner import local_owner
from router.log.recovery import damage_note, open_database, suspect
from router.log.schema import DATABASE, connect, is_damage, is_fatal, migrations, schema_version

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

_TRIES = 5
BUFFERS = "512MB"
"""What DuckDB keeps of the file in memory while a whole log goes through it; its own choice is most of the machine's."""

Mode = Literal["owner", "file", "spool"]


class Log:
    """An open decision log. Use as a context manager, or ``close()`` it.

    Attributes
    ----------
    mode : "owner" (this process owns the database), "file" (opened under the lock, which is held until ``close``)
        or "spool" (another process owns it: read from archive and spools into memory).
    holder : who owns the database in "spool" mode.
    note : a sentence for people when something is out of the ordinary, else "".
    read_at : every decision logged before then (UTC) is among the rows; ``age_s`` is the seconds since.
    """

    def __init__(
        self,
        data: Path,
        con: duckdb.DuckDBPyConnection | None,
        mode: Mode,
        *,
        lock: OwnerLock | None = None,
        holder: Holder | None = None,
        note: str = "",
        read_at: datetime | None = None,
    ) -> None:
        self.data = data
        self.mode: Mode = mode
        self.holder = holder
        self.note = note
        self.read_at = read_at or _now()
        self._con = con
        self._lock = lock

    @property
    def age_s(self) -> float:
        """Seconds since the rows were read; in "owner" mode since the owner last had everything in."""
        when = self.read_at
        if self.mode == "owner" and (owner := local_owner(self.data)) is not None:
            when = owner.complete_at or _oldest_start(self.data) or when
        return max((_now() - when).total_seconds(), 0.0)

    def refresh(self) -> None:
        """Take in what was logged since; needed in "spool" and "file" mode only."""
        if self.mode != "owner":
            begun = _now()  # what is logged while the spools are read may be missed
            if self.mode == "file":
                ingest_all(self._connection(), self.data)
            elif catch_up(self._connection(), self.data) is None:
                self._con, _ = _copied(self.data)  # the old one goes when its last cursor does
            self.read_at = begun

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A cursor of its own: one for each thread, closed by the caller. It can only read, and sees the log as it is now."""
        cursor = self._lent()
        cursor.execute("BEGIN TRANSACTION READ ONLY").fetchall()
        return cursor

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor for one query; damage that shows while it reads is remembered, and mended by whoever opens the file next."""
        import duckdb

        cursor = self.cursor()
        try:
            yield cursor
        except duckdb.Error as error:
            if self.mode != "spool" and is_damage(error):
                suspect(self.data)
                raise LogDamaged(
                    "the database is damaged; it is made again from archive and spools, which hold every decision: at once "
                    "where a dashboard runs, else by the next command"
                ) from None
            if self.mode == "owner" and isinstance(
                error, duckdb.InterruptException | duckdb.ConnectionException
            ):
                raise LogLocked("the database was replaced while it was read; read it again") from None
            raise
        finally:
            with suppress(duckdb.Error):  # the owner may be closing it as well
                cursor.close()

    def _lent(self) -> duckdb.DuckDBPyConnection:
        if self._con is not None:
            return self._con.cursor()
        owner = local_owner(
            self.data
        )  # whose connection may be another one now: a rewritten file is opened anew
        cursor = owner.cursor() if owner is not None else None
        if cursor is None:
            raise LogLocked("the log is closed or being made again; read it again in a moment")
        return cursor

    def _connection(self) -> duckdb.DuckDBPyConnection:
        if self._con is None:
            raise LogError("the owner's own connection is not given away")
        return self._con

    def locked_down(self, settings: Sequence[str]) -> duckdb.DuckDBPyConnection:
        """The connection itself after these settings, for SQL that nobody has checked; a file is opened read-only."""
        if self.mode == "file":
            self._connection().close()
            self._con = connect(self.data / DATABASE, read_only=True)
        con = self._connection()
        for setting in settings:
            con.execute(setting).fetchall()
        return con

    def rows(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a query; values are bound by name (``$name``)."""
        with self._reading() as cursor:
            return cursor.execute(query, dict(parameters or {})).fetchall()

    def frame(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        tables: Mapping[str, pd.DataFrame] | None = None,
    ) -> pd.DataFrame:
        """Run a query into a DataFrame; ``tables`` are small frames that it may join."""
        with self._reading() as cursor:
            for name, table in (tables or {}).items():
                cursor.register(name, table)
            return cursor.execute(query, dict(parameters or {})).df()

    def batches(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        tables: Mapping[str, Any] | None = None,
        *,
        size: int,
    ) -> Iterator[pd.DataFrame]:
        """Run a query and give its rows in frames of at most ``size``: a long log takes no more memory than a short one."""
        with self._reading() as cursor:
            for name, table in (tables or {}).items():
                cursor.register(name, table)
            if self.mode == "file":  # else the file's blocks would be kept in memory, as far as there is any
                cursor.execute(f"SET memory_limit = '{BUFFERS}'").fetchall()
            try:
                for batch in cursor.sql(query, params=dict(parameters or {})).to_arrow_reader(size):
                    yield batch.to_pandas()
            finally:
                if self.mode == "file":
                    self.rows("RESET memory_limit")

    def arrays(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        tables: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Run a query into numpy arrays by column; for numbers without NULL, where a DataFrame would cost more."""
        with self._reading() as cursor:
            for name, table in (tables or {}).items():
                cursor.register(name, table)
            return dict(cursor.execute(query, dict(parameters or {})).fetchnumpy())

    def count(self) -> int:
        """Number of decisions."""
        return int(self.rows("SELECT count(*) FROM decisions")[0][0])

    def backlog_bytes(self) -> int:
        """Bytes in the spools that these rows do not hold yet."""
        with self._reading() as cursor:
            return backlog_bytes(cursor, self.data)

    def close(self) -> None:
        """Close the connection, then give the lock up."""
        if self._con is not None:
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
    if owner is not None and owner.is_open:
        return Log(folder, None, "owner", note=damage_note(folder))
    begun = _now()
    if not has_log(folder):
        return Log(folder, connect(None), "spool", read_at=begun)
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
        begun = _now()
        con = _ingested(folder)
        return Log(folder, con, "file", lock=lock, note=damage_note(folder), read_at=begun)
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


def copy_log(data: str | os.PathLike[str]) -> Log:
    """A copy in memory, read from archive and spools: every decision logged until now, whoever owns the database.

    Also in the owner's own process, where its connection may lag behind and is nobody else's to change.
    """
    folder = Path(data)
    return _from_spools(folder, holder(folder), "")


def _ingested(folder: Path) -> duckdb.DuckDBPyConnection:
    """The database with everything in it, made again when it turns out to be damaged."""
    for _ in range(_TRIES):
        con = _ingested_once(folder)
        if con is not None:
            return con
    raise LogDamaged(
        f"{DATABASE} cannot be read; archive and spools are read instead, which hold every decision"
    )


def _ingested_once(folder: Path) -> duckdb.DuckDBPyConnection | None:
    """None: it is to be opened again. The exception must be gone by then: it would keep the broken instance alive."""
    import duckdb

    con = open_database(folder)
    try:
        ingest_all(con, folder)
    except duckdb.Error as error:
        con.close()
        if not is_fatal(error) and not (is_damage(error) and suspect(folder)):
            raise LogError(
                f"{DATABASE} cannot take in what is new ({type(error).__name__}); archive and spools are read instead"
            ) from None
        return None
    except BaseException:
        con.close()
        raise
    return con


def _from_spools(folder: Path, who: Holder | None, note: str) -> Log:
    begun = _now()
    con, lost = _copied(folder)
    if lost:
        note = f"{note} The archive is not whole: {'; '.join(lost[:3])}.".strip()
    return Log(folder, con, "spool", holder=who, note=note, read_at=begun)


def _copied(folder: Path) -> tuple[duckdb.DuckDBPyConnection, list[str]]:
    """A copy of archive and spools in memory, and what of them cannot be read."""
    import duckdb

    for _ in range(_TRIES):
        con = connect(None)
        try:
            lost = catch_up(con, folder)
        except duckdb.IOException:
            lost = None  # a part went away while it was read
        except BaseException:
            con.close()
            raise
        if lost is not None:
            return con, lost
        con.close()  # the owner archived or erased meanwhile
    raise LogLocked("the log's owner is rewriting the archive; read it again in a moment")


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
        begun = _now()
        # An older schema cannot be brought up to date here; a copy in memory has today's.
        if schema_version(con) == migrations()[-1][0] and backlog_bytes(con, folder) == 0:
            return Log(folder, con, "file", lock=lock if locked else None, note=note, read_at=begun)
        con.close()
        lock.release()
    return _from_spools(folder, None, note)


def _oldest_start(folder: Path) -> datetime | None:
    """When the oldest spool was begun, by its name."""
    for path in spools(folder):
        with suppress(ValueError, IndexError, OverflowError, OSError):
            return datetime.fromtimestamp(int(path.name.rsplit("-", 2)[1]) / 1000, UTC).replace(tzinfo=None)
    return None


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _locked_note(who: Holder | None) -> str:
    if who is None or not who.pid:
        return "Another process owns the log; reading the spools instead."
    since = f", since {who.since:%H:%M} UTC" if who.since else ""
    return f"Another process owns the log (PID {who.pid}{since}); reading the spools instead."
