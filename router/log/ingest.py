"""From spool lines to rows, exactly once: rows, rejects and the new offset are one transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from router.log.record import MAX_LINE_BYTES, fault, kind

if TYPE_CHECKING:
    import duckdb

BATCH_BYTES = 1_000_000
_TABLES = {"decision": "decisions", "policy": "policies", "drop": "drops"}


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
    """Whole lines of one spool from ``start`` up to ``upto`` (bytes), sorted by kind; ``rejects`` as (pos, bytes, why)."""

    spool: str
    upto: int
    lines: dict[str, list[str]]
    rejects: list[tuple[int, int, str]]
    rows: int
    bytes: int


def spools(data: Path) -> list[Path]:
    """Spool files, oldest first (the start time stands in the name)."""
    def started(path: Path) -> tuple[str, str]:
        parts = path.stem.rsplit("-", 2)
        return (parts[1] if len(parts) == 3 else "", path.name)

    return sorted((Path(data) / "spool").glob("*.jsonl"), key=started)


def backlog_bytes(con: duckdb.DuckDBPyConnection, data: Path) -> int:
    """Bytes in the spools that are not in the database yet."""
    done = offsets(con)
    return sum(max(path.stat().st_size - done.get(path.name, 0), 0) for path in spools(data))


def offsets(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Bytes read so far, by spool."""
    return dict(con.execute("SELECT spool, max(upto) FROM ingest GROUP BY spool").fetchall())


def read_batch(path: Path, start: int, limit: int = BATCH_BYTES) -> Batch | None:
    """Next whole lines of a spool from byte ``start``, or None when there is none yet."""
    with open(path, "rb") as file:
        file.seek(start)
        block = file.read(max(limit, MAX_LINE_BYTES + 1))
    end = block.rfind(b"\n") + 1
    if end == 0:
        if len(block) <= MAX_LINE_BYTES:
            return None  # a line that is still being written
        end = len(block)  # no newline in more bytes than a record may have: damage
    lines: dict[str, list[str]] = {}
    rejects: list[tuple[int, int, str]] = []
    rows, position = 0, 0
    for line in block[:end].split(b"\n"):
        size = len(line) + 1
        if line:
            why = fault(line)
            found = kind(line) if why is None else ""
            if why is None and found not in _TABLES:
                why = "unknown kind of record"
            if why is not None:
                rejects.append((start + position, len(line), why))
            else:
                lines.setdefault(found, []).append(line.decode("utf-8", "replace"))
                rows += found == "decision"
        position += size
        if position >= limit and position < end:
            end = position
            break
    return Batch(path.name, start + end, lines, rejects, rows, end)


def ingest_batch(con: duckdb.DuckDBPyConnection, batch: Batch) -> None:
    """Insert one batch and its offset in one transaction."""
    now = datetime.now(UTC).replace(tzinfo=None)  # DuckDB's now() would be local time once it is cast to TIMESTAMP
    con.execute("BEGIN").fetchall()
    try:
        for name, lines in batch.lines.items():
            _insert(con, _TABLES[name], lines)
        for pos, size, why in batch.rejects:
            con.execute(
                "INSERT INTO rejects VALUES ($spool, $pos, $size, $why, $now)",
                {"spool": batch.spool, "pos": pos, "size": size, "why": why, "now": now},
            ).fetchall()
        con.execute(
            "INSERT INTO ingest VALUES ($spool, $upto, $now)", {"spool": batch.spool, "upto": batch.upto, "now": now}
        ).fetchall()
        con.execute("COMMIT").fetchall()
    except BaseException:
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
        except FileNotFoundError:
            continue  # deleted between listing and reading
        if batch is None:
            continue
        ingest_batch(con, batch)
        total += Ingested(batch.rows, len(batch.rejects), batch.bytes)
        if until is not None and until():
            break
    return total


def ingest_all(
    con: duckdb.DuckDBPyConnection, data: Path, *, progress: Callable[[int], None] | None = None
) -> Ingested:
    """Passes until nothing new is found. ``progress`` is called with the bytes of each pass."""
    total = Ingested()
    while True:
        step = ingest_once(con, data)
        if not step.bytes:
            return total
        total += step
        if progress is not None:
            progress(step.bytes)


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
    columns = _columns(table)
    shape = ", ".join(f'"{name}": "{kind_}"' for name, kind_ in columns)
    names = ", ".join(name for name, _ in columns)
    values = ", ".join(f"r.{name}" for name, _ in columns)
    # Only names and types of our own schema are formatted in; the lines are bound as an Arrow column.
    return f"INSERT INTO {table}({names}) SELECT {values} FROM (SELECT json_transform(line, '{{{shape}}}') AS r FROM spool_lines)"


def _insert(con: duckdb.DuckDBPyConnection, table: str, lines: list[str]) -> None:
    import pyarrow as pa

    statement = _insert_sql(table)
    con.register("spool_lines", pa.table({"line": pa.array(lines, pa.string())}))
    try:
        con.execute(statement).fetchall()
    finally:
        con.unregister("spool_lines")


def warm_up() -> None:
    """Load what ingest needs (pyarrow, the schema), so that the first batch does not wait for imports."""
    import pyarrow  # noqa: F401

    for table in _TABLES.values():
        _insert_sql(table)
