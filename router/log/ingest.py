"""From spool lines to rows, exactly once: rows, rejects and the new offset are one transaction."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING

from router.log.batches import BATCH_BYTES, TABLES, Batch, read_batch
from router.log.inserting import insert, insert_decisions, insert_rejects
from router.log.schema import transaction

if TYPE_CHECKING:
    import duckdb

COMPACT_ROWS = 500
"""Rows of ``ingest`` that are kept before only the newest of each spool are."""


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


def ingest_batches(con: duckdb.DuckDBPyConnection, batches: Sequence[Batch]) -> Ingested:
    """Insert some batches, of different spools, and their offsets in one transaction; returns what was inserted.

    A line whose checksum fits but which DuckDB does not take as JSON must not hold up all others: it becomes a reject.
    """
    import duckdb

    try:
        rows = _commit(con, batches)
    except duckdb.InvalidInputException:
        batches = [sifted(con, batch) for batch in batches]
        rows = _commit(con, batches)
    return Ingested(rows, sum(len(x.rejects) for x in batches), sum(x.bytes for x in batches))


def sifted(con: duckdb.DuckDBPyConnection, batch: Batch) -> Batch:
    """The batch with its lines that are no JSON as rejects."""
    whole = {name: _are_json(con, found) for name, found in batch.lines.items()}
    lines = {name: list(compress(found, whole[name])) for name, found in batch.lines.items()}
    places = {name: list(compress(found, whole[name])) for name, found in batch.places.items()}
    rejects = [
        (place, len(line), "not JSON")
        for name, found in batch.lines.items()
        for line, place, is_json in zip(found, batch.places[name], whole[name], strict=True)
        if not is_json
    ]
    return Batch(batch.spool, batch.upto, lines, places, batch.rejects + rejects, batch.bytes)


def _are_json(con: duckdb.DuckDBPyConnection, lines: list[bytes]) -> list[bool]:
    """Whether DuckDB takes each line as JSON, all in one statement."""
    row = con.execute(
        "SELECT list_transform($lines::VARCHAR[], lambda line: json_valid(line))",
        {"lines": [line.decode() for line in lines]},
    ).fetchone()
    return list(row[0]) if row else []


def _commit(con: duckdb.DuckDBPyConnection, batches: Sequence[Batch]) -> int:
    """Returns the decisions that were new."""
    now = datetime.now(UTC).replace(
        tzinfo=None
    )  # DuckDB's now() would be local time once it is cast to TIMESTAMP
    lines: dict[str, list[bytes]] = {}
    for batch in batches:
        for name, found in batch.lines.items():
            lines.setdefault(name, []).extend(found)
    rejects = [(batch.spool, *reject) for batch in batches for reject in batch.rejects]
    rows = 0
    with transaction(con):
        for name, found in lines.items():
            if name == "decision":
                rows = insert_decisions(con, found)
            else:
                insert(con, TABLES[name], found)
        if rejects:
            # One statement: a file of short lines that are none of ours has half a million rejects in a batch.
            spool, pos, size, why = (list(column) for column in zip(*rejects, strict=True))
            insert_rejects(
                con,
                "SELECT unnest($spool::VARCHAR[]), unnest($pos::BIGINT[]), unnest($size::BIGINT[]), unnest($why::VARCHAR[]), $now",
                {"spool": spool, "pos": pos, "size": size, "why": why, "now": now},
            )
        con.execute(
            "INSERT INTO ingest SELECT unnest($spools::VARCHAR[]), unnest($upto::BIGINT[]), $now",
            {"spools": [x.spool for x in batches], "upto": [x.upto for x in batches], "now": now},
        ).fetchall()
    return rows


def compact_offsets(con: duckdb.DuckDBPyConnection, *, most: int = COMPACT_ROWS) -> None:
    """Keep only the newest offset of each spool, once there are more rows than that: they are summed up at every look."""
    row = con.execute("SELECT count(*) FROM ingest").fetchone()
    if row is None or row[0] <= most:
        return
    with transaction(con):
        con.execute(
            "CREATE TEMP TABLE newest AS SELECT spool, max(upto) AS upto, max(ingested_at) AS ingested_at FROM ingest "
            "GROUP BY spool"
        ).fetchall()
        con.execute("DELETE FROM ingest").fetchall()
        con.execute("INSERT INTO ingest SELECT spool, upto, ingested_at FROM newest").fetchall()
        con.execute("DROP TABLE newest").fetchall()


def ingest_once(
    con: duckdb.DuckDBPyConnection, data: Path, *, until: Callable[[], bool] | None = None
) -> Ingested:
    """One pass: at most one batch of each spool that has grown, small ones of many spools in one transaction."""
    total = Ingested()
    done = offsets(con)
    batches: list[Batch] = []
    waiting = 0
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
        batches.append(batch)
        waiting += batch.bytes
        if waiting >= BATCH_BYTES:
            total += ingest_batches(con, batches)
            batches, waiting = [], 0
            if until is not None and until():
                break
    if batches:
        total += ingest_batches(con, batches)
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
