"""Import of our own exports: through a spool, and every row once, however often and whenever a file is imported."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from router.errors import ConfigurationError, InputError, LogError, LogLocked
from router.log.formats import FORMATS, Format
from router.log.import_readers import Row, read_rows, tell_format
from router.log.privacy import Privacy
from router.log.reader import Log, copy_log, open_log
from router.log.record import MAX_LINE_BYTES, line_of
from router.log.rows import KEYS, RowError, Shape, Table, with_more
from router.log.schema import connect
from router.log.spool import Spool, private_folder
from router.log.turns import take_turn

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

BATCH_ROWS = 5_000
BATCH_BYTES = 4_000_000
"""Rows that are looked up and written together end at either."""

TURN_BYTES = 200_000_000
"""So much is written before it is brought into the database, if nobody else does that: several spools are read turn about,
and rows of one time should stay together."""

LISTED_ROWS = 1_000
"""Rows that could not be read are all counted, and so many of them listed."""


@dataclass(slots=True)
class Imported:
    """What became of a file.

    Attributes
    ----------
    table : "decisions" or "feedback"; None when the file holds no row.
    rows : read, of which ``added`` are new, ``present`` were in the log (or stood twice in the file), and ``n_bad`` could
        not be read. ``bad`` lists the first of them as (line or row number, reason); never with a value.
    unit : "line" or "row", what those numbers count.
    unknown : columns that the log does not have; their values are kept in ``extra``.
    """

    format: Format
    table: Table | None = None
    rows: int = 0
    added: int = 0
    present: int = 0
    n_bad: int = 0
    bad: list[tuple[int, str]] = field(default_factory=list)
    unit: str = "line"
    unknown: tuple[str, ...] = ()

    def fault(self, number: int, why: str) -> None:
        """Note a row that could not be read."""
        self.n_bad += 1
        if len(self.bad) < LISTED_ROWS:
            self.bad.append((number, why))


def import_file(
    data: str | os.PathLike[str],
    source: str | os.PathLike[str] | BinaryIO,
    *,
    format: Format | None = None,
    privacy: Privacy | None = None,
    wait_s: float | None = None,
    turn_bytes: int = TURN_BYTES,
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Add the rows of an export (CSV, JSON Lines or Parquet; decisions or feedback) that the log does not hold yet.

    A decision is the same when its id is, a judgement when all of it is. Rows go through a spool of this process, so
    that they are in the log when this returns, whoever owns the database; an import that was killed is finished by the
    next of the same file. A row that cannot be read is noted, and the others go on.

    Policies are not in an export: decisions keep the fingerprint of theirs.

    Parameters
    ----------
    data : folder of the log; made when there is none.
    source : a path, or a binary file (for Parquet one that can seek).
    format : None tells it from the content.
    privacy : what is kept of prompts; None keeps them as they are.
    wait_s : how long to wait for another import into the same folder; None: as long as it takes.
    turn_bytes : so much is written before it is brought into the database, if nobody else does that.
    progress : called with the bytes of the file that are done.

    Raises
    ------
    InputError
        The file cannot be read, or holds no rows of the log.
    LogError
        The log cannot be read or written. What was added until then stays; import the file again for the rest.
    """
    if format is not None and format not in FORMATS:
        raise ConfigurationError(f"no format {format!r}; known: {', '.join(FORMATS)}")
    folder = Path(data)
    with _opened(source) as file:
        kind = format or tell_format(file)
        try:
            private_folder(folder)
        except OSError as error:
            raise ConfigurationError(
                f"{folder} cannot be written: {error.strerror or type(error).__name__}"
            ) from None
        with _alone(folder, wait_s):
            run = _Import(folder, Imported(kind), privacy, turn_bytes)
            try:
                run.take(read_rows(file, kind, run.shape_for, run.done, progress or _quiet))
            finally:
                run.close()
    return run.done


class _Import:
    """One import: knows what the log holds, and writes what it does not."""

    def __init__(self, folder: Path, done: Imported, privacy: Privacy | None, turn_bytes: int) -> None:
        self.done = done
        self._folder = folder
        self._privacy = None if privacy is None or privacy.keeps_all else privacy
        self._turn_bytes = turn_bytes
        self._spool = Spool(folder)
        self._memory = connect(None)
        self._shapes: dict[Table, Shape] = {}
        self._known: _Known | None = None
        self._waiting = 0

    def shape_for(self, names: Iterable[str]) -> Shape:
        """The table that rows with these columns belong to; the first row of a file decides."""
        given = set(names)
        table: Table = (
            "feedback" if {"decision_id", "verdict"} <= given and "id" not in given else "decisions"
        )
        shape = self._shapes.get(table)
        if shape is None:
            relation = self._memory.table(table)
            shape = self._shapes[table] = Shape(
                table, zip(relation.columns, map(str, relation.types), strict=True)
            )
        self.done.table = table
        return shape

    def take(self, rows: Iterator[tuple[Shape, int, Row]]) -> None:
        batch: list[tuple[str, bytes]] = []
        size = 0
        for shape, number, row in rows:
            self.done.rows += 1
            try:
                key, line = self._line(shape, row)
            except RowError as error:
                self.done.fault(number, str(error))
                continue
            batch.append((key, line))
            size += len(line)
            if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
                self._write(shape, batch)
                batch, size = [], 0
        if batch:
            self._write(shape, batch)

    def close(self) -> None:
        self._spool.close()
        self._memory.close()

    def _line(self, shape: Shape, row: Row) -> tuple[str, bytes]:
        record = shape.record(row)
        if shape.table == "decisions":
            self._keep_private(record)
        line = line_of(record)
        if len(line) > MAX_LINE_BYTES + 1:
            raise RowError(f"longer than a record may be ({MAX_LINE_BYTES:,} bytes)")
        return _key(shape, record), line

    def _keep_private(self, record: dict[str, Any]) -> None:
        extra = record.pop("extra", None)
        (self._privacy or _FULL).apply(record)
        flags = record.pop("extra", None)
        if flags:
            extra = with_more(extra, flags, replace=True)
        if extra is not None:
            record["extra"] = extra

    def _write(self, shape: Shape, batch: list[tuple[str, bytes]]) -> None:
        if self._known is None:
            self._known = _Known(self._memory, self._folder, shape)
        new = dict(batch)  # of several with one key the last; exports hold none
        for key in self._known.among(list(new)):
            del new[key]
        self.done.present += len(batch) - len(new)
        if not new:
            return
        lines = b"".join(new.values())
        written, why = self._spool.put(lines, len(new))
        self.done.added += written
        if written < len(new):
            raise LogError(
                f"{self._folder} cannot be written ({why}). {self.done.added:,} rows were added and stay; import the file "
                "again for the rest"
            )
        self._known.add(list(new))
        self._waiting += len(lines)
        if self._waiting >= self._turn_bytes:
            self._waiting = 0
            # What goes wrong there is said by whoever reads the log next; the rows are in the spool.
            with contextlib.suppress(LogError, OSError):
                take_turn(self._folder)


class _Known:
    """Keys of the rows that the log holds: 16 bytes each, in memory."""

    def __init__(self, con: duckdb.DuckDBPyConnection, folder: Path, shape: Shape) -> None:
        self._con = con
        con.execute("CREATE TABLE known(key UUID)").fetchall()
        with _everything(folder) as log:
            for keys in _keys_of(log, shape):
                self.add(keys)

    def among(self, keys: list[str]) -> list[str]:
        """Those of the keys that are known."""
        self._con.register("given", _column(keys))
        try:
            # The small side is the one that is hashed, and ids of one time stand together: most of the rest is skipped.
            rows = self._con.execute(
                "SELECT DISTINCT CAST(key AS VARCHAR) FROM known SEMI JOIN "
                "(SELECT CAST(key AS UUID) AS key FROM given) g USING (key) "
                "WHERE key BETWEEN CAST($low AS UUID) AND CAST($high AS UUID)",
                {"low": min(keys), "high": max(keys)},
            ).fetchall()
        finally:
            self._con.unregister("given")
        return [key for (key,) in rows]

    def add(self, keys: list[str]) -> None:
        """Know these as well."""
        self._con.register("given", _column(keys))
        try:
            self._con.execute("INSERT INTO known SELECT CAST(key AS UUID) FROM given").fetchall()
        finally:
            self._con.unregister("given")


def _column(keys: list[str]) -> pa.Table:
    import pyarrow as pa

    return pa.table({"key": pa.array(keys, pa.string())})


def _key(shape: Shape, record: dict[str, Any]) -> str:
    if shape.table == "decisions":
        return str(record["id"])
    # A judgement has no id of its own: it is the same when all of it is.
    whole = orjson.dumps(record, str, orjson.OPT_SORT_KEYS)
    return str(uuid.UUID(bytes=hashlib.blake2b(whole, digest_size=16).digest()))


def _keys_of(log: Log, shape: Shape) -> Iterator[list[str]]:
    cursor = log.cursor()
    try:
        if shape.table == "decisions":
            reader = cursor.sql("SELECT CAST(id AS VARCHAR) AS id FROM decisions").to_arrow_reader(100_000)
            for batch in reader:
                yield [key for key in batch.column(0).to_pylist() if key is not None]
            return
        columns = ", ".join(
            f'CAST("{x}" AS VARCHAR) AS "{x}"' if x == KEYS["feedback"] else f'"{x}"' for x in shape.types
        )
        for batch in cursor.sql(f"SELECT {columns} FROM feedback").to_arrow_reader(10_000):
            keys = []
            for row in batch.to_pylist():
                with contextlib.suppress(
                    RowError
                ):  # logged by other means; no export of ours would be taken for it
                    keys.append(_key(shape, shape.record(row)))
            yield keys
    finally:
        cursor.close()


def _everything(folder: Path) -> Log:
    """The log with every row that was written until now; an owner of this process may lag behind."""
    log = open_log(folder)
    if log.mode == "owner":
        log.close()
        log = copy_log(folder)
    return log


@contextlib.contextmanager
def _alone(folder: Path, wait_s: float | None) -> Iterator[None]:
    """One import into a folder at a time: the next has to know what this one adds. A lock on the folder leaves no file."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    begun = time.monotonic()
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if wait_s is not None and time.monotonic() - begun > wait_s:
                    raise LogLocked(
                        f"another import into {folder} has been running for {wait_s:.0f} s; import again when it is done"
                    ) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _opened(source: str | os.PathLike[str] | BinaryIO) -> Iterator[BinaryIO]:
    if not isinstance(source, str | os.PathLike):
        yield source
        return
    try:
        file = open(source, "rb")  # noqa: SIM115 - closed below; only opening is to be caught here
    except OSError as error:
        raise InputError(
            f"{os.fspath(source)} cannot be read: {error.strerror}; expected an export of the log"
        ) from None
    with file:
        yield file


def _quiet(done: int) -> None:
    """Progress nobody asked for."""


_FULL = Privacy()
