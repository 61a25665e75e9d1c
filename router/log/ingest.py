"""From spool lines to rows, exactly once: rows, rejects and the new offset are one transaction."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from router.log import rollups
from router.log.forks import no_fork
from router.log.record import MAX_LINE_BYTES, fault, kind

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

BATCH_BYTES = 4_000_000
"""Bytes of one transaction: its fixed cost (six statements, a sync of the log) is 25 ms, and a kill must not undo much."""
COMPACT_ROWS = 500
"""Rows of ``ingest`` that are kept before only the newest of each spool are."""

_BREATH = 64
_PAUSE_SECONDS = 1e-6  # not 0, after which this thread would have the GIL back before the other wakes up
_TABLES = {
    "decision": "decisions",
    "policy": "policies",
    "drop": "drops",
    "feedback": "feedback",
    "view": "saved_views",
    "erasure": "erasures",
}
"""Kinds of records and the tables they become rows of."""

ERASED = "erased"
"""Kind of the record that stands where another one was erased, as long as that was: a row of nothing."""


@dataclass(slots=True)
class Ingested:
    """What one pass over the spools did."""

    rows: int = 0
    rejects: int = 0
    bytes: int = 0

    def __iadd__(self, other: Ingested) -> Ingested:
        self.rows += other.rows
        self.rejects += other.rejects
        self.bytes += other.bytes
        return self


@dataclass(frozen=True, slots=True)
class Batch:
    """Whole lines of one spool up to byte ``upto``, by kind, and where each begins; ``rejects`` as (pos, bytes, why)."""

    spool: str
    upto: int
    lines: dict[str, list[bytes]]
    places: dict[str, list[int]]
    rejects: list[tuple[int, int, str]]
    rows: int
    bytes: int


def spools(data: Path) -> list[Path]:
    """Spool files, oldest first (the start time stands in the name)."""

    def started(path: Path) -> tuple[str, str]:
        parts = path.stem.rsplit("-", 2)
        return (parts[1] if len(parts) == 3 else "", path.name)

    try:
        # A link could name a spool twice, a FIFO would block; what others put there must not hold up the spools.
        with os.scandir(Path(data) / "spool") as found:
            names = [x.name for x in found if x.name.endswith(".jsonl") and x.is_file(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    return sorted((Path(data) / "spool" / name for name in names if _is_text(name)), key=started)


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False  # not a name that we gave, and none that DuckDB could hold
    return True


def backlog_bytes(con: duckdb.DuckDBPyConnection, data: Path) -> int:
    """Bytes in the spools that are not in the database yet."""
    done = offsets(con)
    return sum(max(size - done.get(name, 0), 0) for name, size in sizes(data).items())


def sizes(data: Path) -> dict[str, int]:
    """Bytes of every spool, by name."""
    found = {}
    for path in spools(data):
        with contextlib.suppress(FileNotFoundError):  # deleted between listing and looking
            found[path.name] = path.stat().st_size
    return found


def offsets(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Bytes read so far, by spool."""
    return dict(con.execute("SELECT spool, max(upto) FROM ingest GROUP BY spool").fetchall())


def read_batch(path: Path, start: int, limit: int = BATCH_BYTES) -> Batch | None:
    """Next whole lines of a spool from byte ``start``, or None when there is none yet.

    A last line without its end is left for later while its writer lives, and is a reject when that is gone.
    """
    cut = False
    with open(path, "rb") as file:
        file.seek(start)
        block = file.read(max(limit, MAX_LINE_BYTES + 1))
        end = block.rfind(b"\n") + 1
        if end == 0 and len(block) <= MAX_LINE_BYTES:
            cut = bool(block) and _is_abandoned(file.fileno()) and not file.read(1)
            if not cut:
                return None  # a line that is still being written
        if end == 0:
            end = len(block)  # or no newline in more bytes than a record may have: damage
    lines: dict[str, list[bytes]] = {}
    places: dict[str, list[int]] = {}
    rejects: list[tuple[int, int, str]] = []
    rows, position = 0, 0
    for number, line in enumerate(block[:end].split(b"\n")):
        if number % _BREATH == 0:
            time.sleep(
                _PAUSE_SECONDS
            )  # hands the GIL to whoever waits for it: a thread that routes should not wait for a batch
        size = len(line) + 1
        if line:
            why = fault(line)
            found = _kind(line) if why is None else ""
            if why is not None and cut:
                why = "cut off"
            elif why is None and found not in _TABLES and found != ERASED:
                why = "unknown kind of record"
            if why is not None:
                rejects.append((start + position, len(line), why))
            elif found != ERASED:
                lines.setdefault(found, []).append(_utf8(line))
                places.setdefault(found, []).append(start + position)
                rows += found == "decision"
        position += size
        if position >= limit and position < end:
            end = position
            break
    return Batch(path.name, start + end, lines, places, rejects, rows, end)


def _kind(line: bytes) -> str:
    try:
        return kind(line)
    except ValueError:
        return ""  # the checksum fits, and it is no JSON


def _utf8(line: bytes) -> bytes:
    """The line, with anything that is not UTF-8 replaced: Arrow and DuckDB take a column's word for it."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("utf-8", "replace").encode("utf-8")
    return line


def _is_abandoned(fd: int) -> bool:
    """Whether the process that wrote a spool is gone: it holds a lock on the file while it lives."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True  # given up when the file is closed


def ingest_batch(con: duckdb.DuckDBPyConnection, batch: Batch) -> Batch:
    """Insert one batch and its offset in one transaction; returns what was inserted.

    A line whose checksum fits but which DuckDB does not take must not hold up all others: it becomes a reject.
    """
    import duckdb

    try:
        _commit(con, batch)
    except (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.OutOfRangeException):
        batch = _sifted(con, batch)
        _commit(con, batch)
    return batch


def _sifted(con: duckdb.DuckDBPyConnection, batch: Batch) -> Batch:
    lines: dict[str, list[bytes]] = {}
    places: dict[str, list[int]] = {}
    rejects = list(batch.rejects)
    for name, found in batch.lines.items():
        unfit = _unfit(con, name, found, 0, len(found))
        lines[name] = [line for number, line in enumerate(found) if number not in unfit]
        places[name] = [place for number, place in enumerate(batch.places[name]) if number not in unfit]
        for number in sorted(unfit):
            why = "a value out of range" if _is_json(con, found[number]) else "not JSON"
            rejects.append((batch.places[name][number], len(found[number]), why))
    rows = len(lines.get("decision", ()))
    return Batch(batch.spool, batch.upto, lines, places, rejects, rows, batch.bytes)


def _unfit(con: duckdb.DuckDBPyConnection, name: str, lines: list[bytes], start: int, stop: int) -> set[int]:
    """Which of the lines DuckDB does not take; halved again and again, for one trial costs much and bad lines are few."""
    import duckdb

    con.execute("BEGIN").fetchall()
    try:
        _insert_records(con, name, lines[start:stop])
    except (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.OutOfRangeException):
        fits = False
    else:
        fits = True
    finally:
        con.execute("ROLLBACK").fetchall()
    if fits:
        return set()
    if stop - start == 1:
        return {start}
    half = (start + stop) // 2
    return _unfit(con, name, lines, start, half) | _unfit(con, name, lines, half, stop)


def _is_json(con: duckdb.DuckDBPyConnection, line: bytes) -> bool:
    row = con.execute("SELECT json_valid($line)", {"line": line.decode()}).fetchone()
    return bool(row and row[0])


def _insert_records(con: duckdb.DuckDBPyConnection, name: str, lines: list[bytes]) -> None:
    if name == "decision":
        _insert_decisions(con, lines)
    else:
        _insert(con, _TABLES[name], lines)


def _commit(con: duckdb.DuckDBPyConnection, batch: Batch) -> None:
    now = datetime.now(UTC).replace(
        tzinfo=None
    )  # DuckDB's now() would be local time once it is cast to TIMESTAMP
    con.execute("BEGIN").fetchall()
    try:
        for name, lines in batch.lines.items():
            _insert_records(con, name, lines)
        if batch.rejects:
            # One statement: a file of short lines that are none of ours has half a million rejects in a batch.
            pos, size, why = zip(*batch.rejects, strict=True)
            con.execute(
                "INSERT INTO rejects SELECT $spool, unnest($pos::BIGINT[]), unnest($size::BIGINT[]), "
                "unnest($why::VARCHAR[]), $now",
                {"spool": batch.spool, "pos": list(pos), "size": list(size), "why": list(why), "now": now},
            ).fetchall()
        con.execute(
            "INSERT INTO ingest VALUES ($spool, $upto, $now)",
            {"spool": batch.spool, "upto": batch.upto, "now": now},
        ).fetchall()
        con.execute("COMMIT").fetchall()
    except BaseException:
        with contextlib.suppress(Exception):  # an error in COMMIT has ended the transaction already
            con.execute("ROLLBACK").fetchall()
        raise


def compact_offsets(con: duckdb.DuckDBPyConnection) -> None:
    """Keep only the newest offset of each spool, once there are many rows: they are summed up at every look."""
    row = con.execute("SELECT count(*) FROM ingest").fetchone()
    if row is None or row[0] <= COMPACT_ROWS:
        return
    con.execute("BEGIN").fetchall()
    try:
        con.execute(
            "CREATE TEMP TABLE newest AS SELECT spool, max(upto) AS upto, max(ingested_at) AS ingested_at FROM ingest "
            "GROUP BY spool"
        ).fetchall()
        con.execute("DELETE FROM ingest").fetchall()
        con.execute("INSERT INTO ingest SELECT spool, upto, ingested_at FROM newest").fetchall()
        con.execute("DROP TABLE newest").fetchall()
        con.execute("COMMIT").fetchall()
    except BaseException:
        with contextlib.suppress(Exception):
            con.execute("ROLLBACK").fetchall()
        raise


def ingest_once(
    con: duckdb.DuckDBPyConnection, data: Path, *, until: Callable[[], bool] | None = None
) -> Ingested:
    """One pass: at most one batch of each spool that has grown."""
    total = Ingested()
    done = offsets(con)
    for path in spools(data):
        start = done.get(path.name, 0)
        try:
            if path.stat().st_size <= start:
                continue
            batch = read_batch(path, start)
        except OSError:
            continue  # deleted since, or not to be read now: its bytes stay in the backlog, the others go on
        if batch is None:
            continue
        batch = ingest_batch(con, batch)
        total += Ingested(batch.rows, len(batch.rejects), batch.bytes)
        if until is not None and until():
            break
    return total


def ingest_all(
    con: duckdb.DuckDBPyConnection, data: Path, *, progress: Callable[[int], None] | None = None
) -> Ingested:
    """Passes until everything is in that the spools held at the start. ``progress`` gets the bytes of each pass.

    Not until nothing new is found: beside a busy writer that would never end.
    """
    total = Ingested()
    goal = sizes(data)
    while True:
        step = ingest_once(con, data)
        total += step
        if progress is not None and step.bytes:
            progress(step.bytes)
        done = offsets(con)
        if not step.bytes or all(done.get(name, 0) >= size for name, size in goal.items()):
            return total


@cache
def _columns(table: str) -> tuple[tuple[str, str], ...]:
    """Column names and types of a table, read off the migrated schema itself."""
    from router.log.schema import connect

    con = connect(None)
    try:
        rows = con.execute(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = $t ORDER BY ordinal_position",
            {"t": table},
        ).fetchall()
    finally:
        con.close()
    return tuple((str(name), str(kind_)) for name, kind_ in rows)


@cache
def _insert_sql(table: str) -> str:
    columns = _columns("decisions" if table == "batch" else table)
    shape = ", ".join(f'"{name}": "{kind_}"' for name, kind_ in columns)
    names = ", ".join(name for name, _ in columns)
    values = ", ".join(f"r.{name}" for name, _ in columns)
    # Only names and types of our own schema are formatted in; the lines are bound as an Arrow column.
    return f"INSERT INTO {table}({names}) SELECT {values} FROM (SELECT json_transform(line, '{{{shape}}}') AS r FROM spool_lines)"


def _column_of(lines: list[bytes]) -> pa.Table:
    """Lines as an Arrow column, put together from its buffers.

    ``pyarrow.array`` would import pandas: slow in a script, and an error while the interpreter goes down.
    """
    import pyarrow as pa

    ends = array("i", accumulate(map(len, lines), initial=0))
    column = pa.Array.from_buffers(
        pa.string(), len(lines), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(lines))]
    )
    return pa.Table.from_arrays([column], names=["line"])


def _insert_decisions(con: duckdb.DuckDBPyConnection, lines: list[bytes]) -> None:
    """Decisions and what they add to the roll-ups. A temporary table between, so that lines are parsed once."""
    con.execute("CREATE OR REPLACE TEMP TABLE batch AS SELECT * FROM decisions LIMIT 0").fetchall()
    _insert(con, "batch", lines)
    con.execute("INSERT INTO decisions SELECT * FROM batch").fetchall()
    rollups.append(con, "batch")
    con.execute("DROP TABLE batch").fetchall()


def _insert(con: duckdb.DuckDBPyConnection, table: str, lines: list[bytes]) -> None:
    statement = _insert_sql(table)
    con.register("spool_lines", _column_of(lines))
    try:
        con.execute(statement).fetchall()
    finally:
        with contextlib.suppress(Exception):  # refused after an error, whose ROLLBACK is still to come
            con.unregister("spool_lines")


def insert_lines(con: duckdb.DuckDBPyConnection, name: str, lines: list[bytes]) -> None:
    """Insert whole records of one kind, in the caller's transaction; roll-ups are left as they are."""
    _insert(con, _TABLES[name], lines)


def warm_up() -> None:
    """Load what ingest needs (pyarrow, the schema), so that the first batch does not wait for imports."""
    with no_fork():
        _load()


@cache
def _load() -> None:
    from router.log.schema import connect

    for table in _TABLES.values():
        _insert_sql(table)
    con = connect(None)
    try:
        con.register("spool_lines", _column_of([]))  # DuckDB 1.5 imports more of Arrow and pandas for it
    finally:
        con.close()
