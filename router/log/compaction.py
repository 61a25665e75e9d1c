"""Changes of the archive: spools become batches, small batches become larger ones, erased rows leave their parts.

Each step leaves either the old files or the new ones in force, whatever interrupts it: parts are written under other
names, the manifest comes last and in one step, and what it replaces is removed after the database has taken note. The
caller holds the owner's lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.errors import LogError
from router.log.archive import columns, held, note
from router.log.batches import BATCH_BYTES as INGEST_BYTES
from router.log.batches import Batch, read_batch
from router.log.files import TEMPORARY, quoted, sync_folder
from router.log.ingest import offsets, sifted, spools
from router.log.inserting import insert_lines
from router.log.parts import (
    Manifest,
    Part,
    broken,
    fault,
    folder,
    manifests,
    names,
    read_parts,
    remove_manifest,
    remove_parts,
    write_manifest,
    write_part,
)
from router.log.schema import connect, transaction
from router.log.spool import private_folder

if TYPE_CHECKING:
    import duckdb

MIN_SPOOLS = 64
MIN_BYTES = 64_000_000
"""Ended spools, or their bytes, that are worth a batch."""

BATCH_BYTES = 64_000_000
"""Text of spools in one batch; a spool is never split."""

SMALL_BATCH_BYTES = 8_000_000
SMALL_BATCHES = 16
"""Batches smaller than that are put together once there are this many."""

BUSY = "busy"
"""A file that stands in the archive while it is being changed: whoever finds it there clears up."""

_SCRATCH_MEMORY = "256MB"
_EMPTY_SECONDS = 86_400.0
_DAY = r"coalesce(nullif(regexp_extract(CAST(CAST(decided_at AS DATE) AS VARCHAR), '^\d{4}-\d{2}-\d{2}$'), ''), 'unknown')"


def compact(
    con: duckdb.DuckDBPyConnection,
    data: Path,
    *,
    min_spools: int = MIN_SPOOLS,
    min_bytes: int = MIN_BYTES,
    largest: int | None = None,
    min_batches: int = SMALL_BATCHES,
    meanwhile: Callable[[], None] = lambda: None,
) -> int:
    """Archive the spools of ended processes that are wholly in the database, when there are enough; returns how many.

    Parameters
    ----------
    min_spools, min_bytes : enough is so many spools, or so many bytes in them.
    largest : spools above this size (bytes) are left for another time; None: none are.
    min_batches : so many small batches are put together.
    meanwhile : called between pieces of work of some tenths of a second; may ingest.
    """
    there = spools(data)
    if len(there) < min_spools and sum(map(_size, there)) < min_bytes:
        return 0  # without a look at the database: this is asked after every short turn
    found = _ended(con, data, largest)
    if not found or (len(found) < min_spools and sum(size for _, size in found) < min_bytes):
        return 0
    con.execute("CHECKPOINT").fetchall()  # a damaged write-ahead log must not take rows whose spools are gone
    with changing(con, data):
        for group in _groups(found):
            _archive(con, data, group, meanwhile)
        _absorb(con, data, min_batches)
    return len(found)


def _ended(con: duckdb.DuckDBPyConnection, data: Path, largest: int | None) -> list[tuple[Path, int]]:
    done = offsets(con)
    found = []
    for path in spools(data):
        try:
            status = path.stat()
            size = status.st_size
            if size == 0 and time.time() - status.st_mtime > _EMPTY_SECONDS and _is_free(path):
                path.unlink()
            # An empty one may be about to be written to: its writer locks it first, but not before it makes it.
            elif (
                size
                and done.get(path.name) == size
                and (largest is None or size <= largest)
                and _is_free(path)
            ):
                found.append((path, size))
        except OSError:
            continue
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _is_free(path: Path) -> bool:
    """Whether no process has a spool open for writing: its writer holds a lock on it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _groups(found: list[tuple[Path, int]]) -> Iterator[list[tuple[Path, int]]]:
    group: list[tuple[Path, int]] = []
    total = 0
    for path, size in found:
        if group and total + size > BATCH_BYTES:
            yield group
            group, total = [], 0
        group.append((path, size))
        total += size
    yield group


def _archive(
    con: duckdb.DuckDBPyConnection, data: Path, group: list[tuple[Path, int]], meanwhile: Callable[[], None]
) -> None:
    name = _batch_name()
    with _scratch(data, name) as scratch:
        _read_into(scratch, group, meanwhile)
        parts = _write_days(scratch, data, name, meanwhile)
        parts += _write_records(scratch, data, name, "SELECT * FROM records")
    manifest = Manifest(name, {path.name: size for path, size in group}, (), tuple(parts))
    write_manifest(data, manifest)
    with transaction(con):
        note(con, manifest)
    con.execute("CHECKPOINT").fetchall()
    _remove_spools(con, data, manifest)


@contextlib.contextmanager
def _scratch(data: Path, name: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory with the log's schema and a table of records, bounded: what is more goes to the archive's folder."""
    spill = folder(data) / f"{name}{TEMPORARY}"
    con = connect(None)
    try:
        con.execute(f"SET memory_limit = '{_SCRATCH_MEMORY}'").fetchall()
        con.execute(f"SET temp_directory = {quoted(spill)}").fetchall()
        con.execute(
            "CREATE TABLE records(kind VARCHAR, spool VARCHAR, pos BIGINT, bytes BIGINT, reason VARCHAR, line VARCHAR)"
        ).fetchall()
        yield con
    finally:
        con.close()
        shutil.rmtree(spill, ignore_errors=True)


def _read_into(
    scratch: duckdb.DuckDBPyConnection, group: list[tuple[Path, int]], meanwhile: Callable[[], None]
) -> None:
    """Take spools in as ingest does, so that their rows are the same to the last value; many small ones at once."""
    read: list[Batch] = []
    for path, size in group:
        at = 0
        while at < size:
            batch = read_batch(path, at)
            if batch is None:
                raise LogError(f"{path.name} cannot be read to its end")
            read.append(batch)
            at = batch.upto
            if sum(batch.bytes for batch in read) >= INGEST_BYTES:
                _take_in(scratch, read)
                read = []
                meanwhile()
    _take_in(scratch, read)


def _take_in(scratch: duckdb.DuckDBPyConnection, read: list[Batch]) -> None:
    import duckdb

    try:
        _insert(scratch, read)
    except duckdb.InvalidInputException:
        read = [sifted(scratch, batch) for batch in read]
        _insert(scratch, read)
    for batch in read:
        _add_records(scratch, batch)


def _insert(scratch: duckdb.DuckDBPyConnection, read: list[Batch]) -> None:
    lines: dict[str, list[bytes]] = {}
    for batch in read:
        for kind, found in batch.lines.items():
            lines.setdefault(kind, []).extend(found)
    with transaction(scratch):
        for kind, found in lines.items():
            insert_lines(scratch, kind, found)


def _add_records(scratch: duckdb.DuckDBPyConnection, batch: Batch) -> None:
    columns: list[tuple[str, int, int, str | None, str | None]] = [
        (kind, place, len(line), None, line.decode())
        for kind, lines in batch.lines.items()
        if kind != "decision"
        for place, line in zip(batch.places[kind], lines, strict=True)
    ]
    columns += [("reject", pos, size, why, None) for pos, size, why in batch.rejects]
    if columns:
        kinds, pos, size, why, text = (list(column) for column in zip(*columns, strict=True))
        scratch.execute(
            "INSERT INTO records SELECT unnest($kind::VARCHAR[]), $spool, unnest($pos::BIGINT[]), unnest($size::BIGINT[]), "
            "unnest($why::VARCHAR[]), unnest($text::VARCHAR[])",
            {"kind": kinds, "spool": batch.spool, "pos": pos, "size": size, "why": why, "text": text},
        ).fetchall()


def _write_days(
    scratch: duckdb.DuckDBPyConnection, data: Path, name: str, meanwhile: Callable[[], None]
) -> list[Part]:
    # Plain types, which every reader of Parquet knows.
    plain = ", ".join(
        f"CAST({column} AS VARCHAR) AS {column}" if kind in ("UUID", "JSON") else column
        for column, kind in columns(scratch, "decisions")
    )
    days = scratch.execute(
        f"SELECT {_DAY} AS day, count(*) FROM decisions GROUP BY day ORDER BY day"
    ).fetchall()
    parts = []
    for day, n in days:
        query = f"SELECT {plain} FROM decisions WHERE {_DAY} = '{day}' ORDER BY decided_at, id"
        part = write_part(scratch, data, f"day={day}/{name}.parquet", query)
        if part.rows != n:
            raise LogError(f"the archive took {part.rows} decisions of {day}, expected {n}")
        parts.append(part)
        meanwhile()
    return parts


def _write_records(
    con: duckdb.DuckDBPyConnection, data: Path, name: str, query: str, values: dict[str, Any] | None = None
) -> list[Part]:
    row = con.execute(f"SELECT count(*) FROM ({query})", values).fetchone()
    return [write_part(con, data, f"{name}.parquet", query, values)] if row and row[0] else []


def _remove_spools(con: duckdb.DuckDBPyConnection, data: Path, manifest: Manifest) -> None:
    """Remove archived spools, and only then what the database knows of how far they were read."""
    if not manifest.spools:
        return
    for name in manifest.spools:
        (Path(data) / "spool" / name).unlink(missing_ok=True)
    sync_folder(Path(data) / "spool")
    with transaction(con):
        con.execute(
            "DELETE FROM ingest WHERE spool IN (SELECT unnest($names::VARCHAR[]))",
            {"names": list(manifest.spools)},
        ).fetchall()


def _absorb(con: duckdb.DuckDBPyConnection, data: Path, min_batches: int) -> None:
    """Put small batches together, so that thousands of short scripts do not leave thousands of files."""
    small = [manifest for manifest in manifests(data) if manifest.size < SMALL_BATCH_BYTES]
    if len(small) >= min_batches:  # a part that is damaged must not hold up the others
        small = [x for x in small if not any(fault(data, part) for part in x.parts)]
    if len(small) < min_batches:
        return
    name = _batch_name()
    by_day: dict[str | None, list[Path]] = {}
    for manifest in small:
        for part in manifest.parts:
            by_day.setdefault(part.day, []).append(folder(data) / part.path)
    parts = []
    with _scratch(data, name) as scratch:
        for day, paths in sorted(by_day.items(), key=lambda found: found[0] or ""):
            source, values = read_parts(paths)
            if day is None:
                parts += _write_records(scratch, data, name, f"SELECT * FROM {source}", values)
            else:
                query = f"SELECT * FROM {source} ORDER BY decided_at, id"
                parts.append(write_part(scratch, data, f"day={day}/{name}.parquet", query, values))
    whole = Manifest(name, {}, tuple(manifest.name for manifest in small), tuple(parts))
    if whole.decisions != sum(manifest.decisions for manifest in small):
        raise LogError("batches put together do not have the rows of their parts")
    write_manifest(data, whole)
    with transaction(con):
        note(con, whole)
    con.execute("CHECKPOINT").fetchall()
    for manifest in small:
        remove_manifest(data, manifest)  # first: a manifest's parts are always there
        remove_parts(data, manifest.parts)


@contextlib.contextmanager
def changing(con: duckdb.DuckDBPyConnection, data: Path) -> Iterator[None]:
    """Mark the archive as being changed, so that whoever comes after an interruption clears up."""
    private_folder(folder(data))
    busy = folder(data) / BUSY
    if busy.exists():
        tidy(con, data)
    busy.touch(mode=0o600)
    sync_folder(busy.parent)
    yield
    busy.unlink(missing_ok=True)


def tidy(con: duckdb.DuckDBPyConnection, data: Path) -> None:
    """Remove what an interrupted change of the archive left. The database must be settled with it."""
    busy = folder(data) / BUSY
    if not busy.exists():
        return
    active = manifests(data)
    known = held(con)
    for name in names(data) - {manifest.name for manifest in active} - set(broken(data)):
        (folder(data) / f"{name}.json").unlink(missing_ok=True)
    for manifest in active:
        if manifest.name in known:
            _remove_spools(con, data, manifest)
    whole = not broken(data)  # else a part may be named where it cannot be read
    wanted = {part.path for manifest in active for part in manifest.parts}
    for path in [*folder(data).iterdir(), *folder(data).glob("day=*/*")]:
        inside = path.relative_to(folder(data)).as_posix()
        if path.suffix == TEMPORARY and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix == TEMPORARY or (path.suffix == ".parquet" and inside not in wanted and whole):
            path.unlink(missing_ok=True)
    for path in folder(data).glob("day=*"):
        with contextlib.suppress(OSError):
            path.rmdir()
    busy.unlink(missing_ok=True)


def _batch_name() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
