"""Writing the database file anew, beside the old one, and putting it in place in one step.

Without erased rows: their bytes stay in a file that they are only deleted from. Or from archive and spools alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from router.errors import LogError
from router.log import rollups
from router.log.archive import load, note_generation, noted_generation, verify
from router.log.files import quoted, sync_file, sync_folder
from router.log.ingest import ingest_all, sizes
from router.log.parts import manifests
from router.log.recovery import NEW, STAGE, set_aside, tables
from router.log.schema import (
    DATABASE,
    STORAGE_VERSION,
    connect,
    generation,
    is_damage,
    is_fatal,
    refusal,
    set_meta,
    transaction,
)

if TYPE_CHECKING:
    import duckdb

MEMORY = "384MB"
"""What a rewriting may use, whatever the number of rows; DuckDB spills the rest beside the file."""

STEP_ROWS = 1_000_000
_ROLLUPS = tuple(rollup.table for rollup in rollups.ROLLUPS)

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Fresh:
    """A database file that is ready to be put in place, and how many decisions it holds.

    ``keeps_old``: the old file is moved aside, for it knows more.
    """

    path: Path
    decisions: int
    generation: int
    keeps_old: bool = False


def copy(
    con: duckdb.DuckDBPyConnection,
    data: Path,
    *,
    leave_out: dict[str, str] | None = None,
    ordered: bool = False,
    span: tuple[date | None, date | None] | None = None,
    advance: Advance | None = None,
    step_rows: int = STEP_ROWS,
) -> Fresh:
    """Copy an open database into a new file beside it.

    Parameters
    ----------
    leave_out : SQL conditions by table: rows that are not copied.
    ordered : sort decisions by time, so that time ranges read little; else they keep their order.
    span : months whose roll-ups are counted again from the rows that were copied; None: no month.
    advance : gets the number of decisions of each step.
    step_rows : so many decisions are copied at once; a day is never split to be ordered.
    """
    import duckdb

    fresh = Path(data) / (DATABASE + NEW)
    remove(fresh)
    try:
        with _explained():
            connect(fresh).close()
            number = max(generation(con), noted_generation(data)) + 1
            con.execute(f"ATTACH {quoted(fresh)} AS fresh (STORAGE_VERSION '{STORAGE_VERSION}')").fetchall()
            try:
                steps = _by_time(con, step_rows) if ordered else _by_place(con, step_rows)
                _copy_tables(
                    con,
                    leave_out or {},
                    steps,
                    ordered=ordered,
                    counts_all=span == (None, None),
                    advance=advance,
                )
                con.execute("CHECKPOINT fresh").fetchall()
            finally:
                with suppress(duckdb.Error):  # after an error its own word counts
                    con.execute("DETACH fresh").fetchall()
            return _finished(fresh, number, span)
    except BaseException:
        remove(fresh)  # at once: a disk may be full of it
        raise


def _copy_tables(
    con: duckdb.DuckDBPyConnection,
    leave_out: dict[str, str],
    steps: Iterator[str],
    *,
    ordered: bool,
    counts_all: bool,
    advance: Advance | None,
) -> None:
    for table in tables(con):
        condition = leave_out.get(table, "false")
        if table == "decisions":
            for where in steps:
                n = _copy(con, table, f"({condition}) IS NOT TRUE AND {where}", ordered=ordered)
                if advance is not None:
                    advance(n)
        elif table not in ("meta", *(_ROLLUPS if counts_all else ())):
            _copy(con, table, f"({condition}) IS NOT TRUE")
    con.execute(
        "INSERT INTO fresh.meta SELECT * FROM meta WHERE key NOT IN (SELECT key FROM fresh.meta)"
    ).fetchall()


@contextmanager
def _explained() -> Iterator[None]:
    """DuckDB's errors in our words; damage, and being told to stop, are for others to deal with."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        if is_damage(error) or is_fatal(error) or isinstance(error, duckdb.InterruptException):
            raise
        raise LogError(
            f"the database could not be written anew ({refusal(error) or type(error).__name__}); it was left as it is"
        ) from None


def _copy(con: duckdb.DuckDBPyConnection, table: str, where: str, *, ordered: bool = False) -> int:
    order = " ORDER BY decided_at, id" if ordered else ""
    row = con.execute(
        f"INSERT INTO fresh.{table} BY NAME SELECT * FROM {table} WHERE {where}{order}"
    ).fetchone()
    return int(row[0]) if row else 0


def _by_place(con: duckdb.DuckDBPyConnection, step_rows: int) -> Iterator[str]:
    row = con.execute("SELECT max(rowid) FROM decisions").fetchone()
    last = -1 if row is None or row[0] is None else int(row[0])
    for start in range(0, last + 1, step_rows):
        yield f"rowid >= {start} AND rowid < {start + step_rows}"


def _by_time(con: duckdb.DuckDBPyConnection, step_rows: int) -> Iterator[str]:
    """Conditions that cut the decisions by days into steps that can be sorted in memory."""
    days = con.execute(
        "SELECT CAST(CAST(decided_at AS DATE) AS VARCHAR), count(*) FROM decisions WHERE decided_at IS NOT NULL "
        "GROUP BY CAST(decided_at AS DATE) ORDER BY CAST(decided_at AS DATE)"
    ).fetchall()
    start: str | None = None
    n = 0
    for day, count in days:
        if n and n + count > step_rows:
            yield _between(start, day)
            start, n = day, 0
        n += count
    yield _between(start, None)
    yield "decided_at IS NULL"


def _between(start: str | None, end: str | None) -> str:
    lower = "decided_at IS NOT NULL" if start is None else f"decided_at >= CAST('{start}' AS DATE)"
    return lower if end is None else f"{lower} AND decided_at < CAST('{end}' AS DATE)"


def _finished(path: Path, number: int, span: tuple[date | None, date | None] | None) -> Fresh:
    con = connect(path)
    try:
        con.execute(f"SET memory_limit = '{MEMORY}'").fetchall()
        with transaction(con):
            set_meta(con, "generation", str(number))
            if span is not None:
                rollups.refill(con, *span)
        con.execute("CHECKPOINT").fetchall()
        n = rows(con)
    finally:
        con.close()
    sync_file(path)
    return Fresh(path, n, number)


def put_in_place(data: Path, fresh: Fresh) -> None:
    """Make a new file the database. The old one is closed, and so is the new one."""
    path = Path(data) / DATABASE
    # The old log first: it must never be taken for the new file's. What was only in it comes back from the spools.
    path.with_name(path.name + ".wal").unlink(missing_ok=True)
    if fresh.keeps_old:
        set_aside(data, [path])
    os.rename(fresh.path, path)
    sync_folder(path.parent)
    note_generation(data, fresh.generation)
    remove(path.with_name(path.name + ".tmp"))


def remove(path: Path) -> None:
    """Remove a database file with all that DuckDB puts beside it."""
    for found in path.parent.glob(f"{path.name}*"):
        if found.is_dir():
            for spilled in found.iterdir():
                spilled.unlink(missing_ok=True)
            found.rmdir()
        else:
            found.unlink(missing_ok=True)


def rebuilt(
    data: Path,
    *,
    advance: Advance | None = None,
    ordering: Callable[[int, int], None] | None = None,
    step_rows: int = STEP_ROWS,
) -> Fresh:
    """A new database made from archive and spools alone, decisions in the order of time.

    ``advance`` gets bytes, of ``work(data)``; then ``ordering`` how many rows of how many are in their place, after each
    ``step_rows``.

    Raises
    ------
    LogError
        Parts of the archive are gone or damaged: nothing is made.
    """
    faults = verify(data)
    if faults:
        raise LogError(
            f"the archive is not whole: {'; '.join(faults[:3])}; put these files back from a backup. The database was left "
            "as it is"
        )
    stage = Path(data) / (DATABASE + STAGE)
    remove(stage)
    con = connect(stage)
    try:
        con.execute(f"SET memory_limit = '{MEMORY}'").fetchall()
        with _explained():
            load(con, data, progress=advance)
            ingest_all(con, data, progress=advance)
        total, done = rows(con), 0

        def placed(n: int) -> None:
            nonlocal done
            done += n
            if ordering is not None:
                ordering(done, total)

        return copy(con, data, ordered=True, span=(None, None), advance=placed, step_rows=step_rows)
    finally:
        con.close()
        remove(stage)


def rows(con: duckdb.DuckDBPyConnection) -> int:
    """Decisions in a database."""
    row = con.execute("SELECT count(*) FROM decisions").fetchone()
    return int(row[0]) if row else 0


def work(data: Path) -> int:
    """Bytes that ``rebuilt`` reads."""
    return sum(manifest.size for manifest in manifests(data)) + sum(sizes(data).values())
