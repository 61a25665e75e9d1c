"""From records to rows: lines as an Arrow column, parsed by DuckDB, each record once."""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from router.log import rollups
from router.log.batches import TABLES
from router.log.forks import no_fork

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

BATCH = "batch"
"""The temporary table of the decisions that are being taken in."""

_SPAN = "CASE WHEN r.{0} >= TIMESTAMP '0001-01-01' AND r.{0} < TIMESTAMP '10000-01-01' THEN r.{0} END"
"""A time that nobody of ours writes, and Python cannot hold, would stop every query that rounds it."""

_TIMES = {
    "policies": "first_seen",
    "drops": "dropped_at",
    "feedback": "judged_at",
    "saved_views": "saved_at",
    "erasures": "erased_at",
}
"""When a record of a small table was made."""


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
    columns = _columns("decisions" if table == BATCH else table)
    shape = ", ".join(f'"{name}": "{kind_}"' for name, kind_ in columns)
    names = ", ".join(name for name, _ in columns)
    values = ", ".join(f"{_value(name, kind_)} AS {name}" for name, kind_ in columns)
    # Only names and types of our own schema are formatted in; the lines are bound as an Arrow column.
    query = f"SELECT {values} FROM (SELECT json_transform(line, '{{{shape}}}') AS r FROM spool_lines)"
    if table == BATCH:
        return f"INSERT INTO {table}({names}) {query}"
    # A spool that was copied, or put back after it was archived, must not count twice. No two records are legally equal,
    # and only those of the same moment can be: a table of many rows is not compared whole.
    made = _TIMES[table]
    return (
        f"INSERT INTO {table}({names}) WITH new AS MATERIALIZED ({query}) SELECT * FROM new EXCEPT SELECT {names} FROM {table} "
        f"WHERE {made} IN (SELECT {made} FROM new) OR {made} IS NULL"
    )


def _value(name: str, kind_: str) -> str:
    if name == "cache_write_1h_tokens":  # records of schema 3 have it in ``extra``
        return f"coalesce(r.{name}, writes_1h_in(r.extra))"
    return _SPAN.format(name) if kind_ == "TIMESTAMP" else f"r.{name}"


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


def insert_decisions(con: duckdb.DuckDBPyConnection, lines: list[bytes]) -> int:
    """Decisions that are not there yet and what they add to the roll-ups, in the caller's transaction; how many.

    A temporary table between, so that lines are parsed once.
    """
    with _batch(con, lines):
        row = con.execute(f"INSERT INTO decisions SELECT * FROM {BATCH}").fetchone()
        rollups.append(con, BATCH)
    return int(row[0]) if row else 0


@contextlib.contextmanager
def _batch(con: duckdb.DuckDBPyConnection, lines: list[bytes]) -> Iterator[None]:
    """A temporary table of the decisions of some lines, each once and none that is in ``decisions``.

    Offsets alone make rows count once, but for spools that were copied, or put back after they were archived. Ids begin
    with their time: of the table only those of the same span are looked at, a millisecond's work however long the log.
    """
    con.execute(f"CREATE OR REPLACE TEMP TABLE {BATCH} AS SELECT * FROM decisions LIMIT 0").fetchall()
    insert(con, BATCH, lines)
    span = con.execute(f"SELECT min(id), max(id), count(id) - count(DISTINCT id) FROM {BATCH}").fetchone()
    first, last, twice = span or (None, None, 0)
    if twice:
        con.execute(
            f"DELETE FROM {BATCH} WHERE id IS NOT NULL AND rowid NOT IN (SELECT min(rowid) FROM {BATCH} GROUP BY id)"
        ).fetchall()
    con.execute(
        f"DELETE FROM {BATCH} WHERE id IN (SELECT id FROM decisions WHERE id BETWEEN $first AND $last)",
        {"first": first, "last": last},
    ).fetchall()
    yield
    con.execute(f"DROP TABLE {BATCH}").fetchall()


def insert(con: duckdb.DuckDBPyConnection, table: str, lines: list[bytes]) -> None:
    """Records as rows of a table, in the caller's transaction; those that are there already are left out."""
    statement = _insert_sql(table)
    con.register("spool_lines", _column_of(lines))
    try:
        con.execute(statement).fetchall()
    finally:
        with contextlib.suppress(Exception):  # refused after an error, whose ROLLBACK is still to come
            con.unregister("spool_lines")


def insert_rejects(con: duckdb.DuckDBPyConnection, source: str, values: dict[str, Any]) -> None:
    """Rejects that are not there yet, in the caller's transaction.

    ``source`` selects spool, pos, bytes, reason and the time of now from ``values``.
    """
    con.execute(
        f"INSERT INTO rejects SELECT * FROM ({source}) AS new(spool, pos, bytes, reason, ingested_at) WHERE NOT EXISTS ("
        "SELECT 1 FROM rejects r WHERE (r.spool, r.pos, r.bytes, r.reason) = (new.spool, new.pos, new.bytes, new.reason))",
        values,
    ).fetchall()


def insert_lines(con: duckdb.DuckDBPyConnection, name: str, lines: list[bytes]) -> None:
    """Insert whole records of one kind, in the caller's transaction; roll-ups are left as they are."""
    if name != "decision":
        insert(con, TABLES[name], lines)
        return
    with _batch(con, lines):
        con.execute(f"INSERT INTO decisions SELECT * FROM {BATCH}").fetchall()


def warm_up() -> None:
    """Load what ingest needs (pyarrow, the schema), so that the first batch does not wait for imports."""
    with no_fork():
        _load()


@cache
def _load() -> None:
    from router.log.schema import connect

    for table in (BATCH, *_TIMES):
        _insert_sql(table)
    con = connect(None)
    try:
        con.register("spool_lines", _column_of([]))  # DuckDB 1.5 imports more of Arrow and pandas for it
    finally:
        con.close()
