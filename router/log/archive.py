"""The archive: ingested spools of ended processes as Parquet, and how its rows come back.

``archive/day=YYYY-MM-DD/<batch>.parquet`` holds decisions, ``archive/<batch>.parquet`` every other record as its line and
the rejects, ``archive/<batch>.json`` (the manifest) names both. A batch is there once its manifest is: its spools are done,
never ingested again. The database notes which batches it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from router.log import rollups
from router.log.files import write_whole
from router.log.ingest import ingest_all, offsets, spools
from router.log.inserting import insert_lines, insert_rejects
from router.log.parts import Manifest, broken, fault, folder, manifests, names, read_parts
from router.log.schema import DATABASE, generation, get_meta, set_meta, transaction

if TYPE_CHECKING:
    import duckdb

_NOTE = "archive:"
_FILLING = "filling"
GENERATION = "generation"
"""A file beside the database that says how often rows were erased: an older copy of the database knows less."""


def has_log(data: Path) -> bool:
    """Whether a folder holds a decision log: a database, a spool or an archive."""
    return (Path(data) / DATABASE).exists() or bool(spools(data)) or bool(names(data))


def held(con: duckdb.DuckDBPyConnection) -> set[str]:
    """Batches that a database notes to hold."""
    rows = con.execute("SELECT key FROM meta WHERE starts_with(key, $note)", {"note": _NOTE}).fetchall()
    return {str(key).removeprefix(_NOTE) for (key,) in rows}


def note(con: duckdb.DuckDBPyConnection, manifest: Manifest) -> None:
    """Note that a batch is held, and that those it absorbed need no note of their own."""
    for name in manifest.absorbs:
        set_meta(con, _NOTE + name, None)
    set_meta(con, _NOTE + manifest.name, "held")


def settle(con: duckdb.DuckDBPyConnection, data: Path) -> bool:
    """Whether a database holds every batch; notes those whose rows it has from elsewhere (their spools, absorbed batches).

    False: rows are missing, and only a database made anew (``load``) is sure to hold each once.
    """
    known = held(con)
    if get_meta(con, _FILLING) is not None:
        return False
    if names(data) <= known:
        return True
    done = offsets(con)
    for manifest in manifests(data):
        if manifest.name in known:
            continue
        absorbed = bool(manifest.absorbs) and set(manifest.absorbs) <= known
        ingested = bool(manifest.spools) and all(
            done.get(name, -1) >= size for name, size in manifest.spools.items()
        )
        if manifest.parts and not absorbed and not ingested:
            return False
        with transaction(con):
            note(con, manifest)
    return True


def catch_up(con: duckdb.DuckDBPyConnection, data: Path) -> list[str] | None:
    """Bring a copy in memory up to archive and spools, while their owner may be changing them.

    Returns parts that cannot be read; None when only a new copy can be right: rows were erased, or archived meanwhile.
    """
    before, lost = manifests(data), []
    if is_fresh(con):
        set_meta(con, "generation", str(noted_generation(data)))
        lost = load(con, data)
    if noted_generation(data) != generation(con):
        return None
    ingest_all(con, data)
    # A spool that went away while it was read is in a batch that came since.
    if not settle(con, data) or (lost and manifests(data) != before):
        return None
    return lost


def noted_generation(data: Path) -> int:
    """How often rows were erased, as noted beside the database."""
    try:
        return int((Path(data) / GENERATION).read_text())
    except (OSError, ValueError):
        return 0


def note_generation(data: Path, number: int) -> None:
    """Note that rows were erased; once the database without them is in place."""
    write_whole(Path(data) / GENERATION, str(number).encode())


def is_fresh(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether a database holds nothing yet, or was left while it was filled from the archive."""
    rows = con.execute(
        "SELECT EXISTS(SELECT 1 FROM meta WHERE key = $filling), EXISTS(SELECT 1 FROM meta WHERE starts_with(key, $note)), "
        "EXISTS(SELECT 1 FROM ingest), EXISTS(SELECT 1 FROM decisions)",
        {"filling": _FILLING, "note": _NOTE},
    ).fetchall()
    is_filling, *holds = rows[0]
    return bool(is_filling) or not any(holds)


def load(
    con: duckdb.DuckDBPyConnection, data: Path, *, progress: Callable[[int], None] | None = None
) -> list[str]:
    """Bring every batch that is missing into a fresh database, a transaction each; returns what could not be read.

    ``progress`` gets the bytes of each batch. An interrupted load goes on where it stopped.
    """
    wanted = sorted(manifests(data), key=lambda manifest: min((p.path for p in manifest.parts), default=""))
    lost = [f"{name}.json cannot be read" for name in broken(data)]
    if not wanted:
        return lost
    set_meta(con, _FILLING, "archive")
    known = held(con)
    for manifest in wanted:
        if manifest.name not in known:
            with transaction(con):
                lost += _load(con, data, manifest)
        if progress is not None:
            progress(manifest.size)
    with transaction(con):
        rollups.refill(con)
        set_meta(con, _FILLING, None)
    return lost


def _load(con: duckdb.DuckDBPyConnection, data: Path, manifest: Manifest) -> list[str]:
    lost = []
    for part in sorted(manifest.parts, key=lambda part: part.path):
        path = folder(data) / part.path
        wrong = fault(data, part)
        if wrong is not None:
            lost.append(f"{part.path} {wrong} ({part.rows:,} rows)")
        elif part.day is not None:
            insert_decisions(con, [path])
        else:
            _insert_records(con, path)
    # Their files may still be there, when the process that archived them was killed: they are done.
    spool_names, sizes = list(manifest.spools), list(manifest.spools.values())
    con.execute(
        "INSERT INTO ingest SELECT unnest($names::VARCHAR[]), unnest($sizes::BIGINT[]), $now",
        {"names": spool_names, "sizes": sizes, "now": _now()},
    ).fetchall()
    note(con, manifest)
    return lost


def verify(data: Path) -> list[str]:
    """Parts that are gone or damaged, as sentences; reads every byte."""
    found = ((part, fault(data, part)) for manifest in manifests(data) for part in manifest.parts)
    faults = [f"{part.path} {wrong} ({part.rows:,} rows)" for part, wrong in found if wrong is not None]
    return [f"{name}.json cannot be read" for name in broken(data)] + faults


def insert_decisions(con: duckdb.DuckDBPyConnection, paths: Iterable[Path]) -> None:
    """Insert the decisions of some parts, each once; columns that they do not have yet are NULL.

    A spool that was archived, put back and archived again is in two parts.
    """
    source, values = read_parts(paths)
    there = {
        str(name) for name, *_ in con.execute(f"SELECT * FROM {source} LIMIT 0", values).description or []
    }
    chosen = [(name, kind) for name, kind in columns(con, "decisions") if name in there]
    values_of = {name: f"CAST({name} AS {kind})" for name, kind in chosen}
    if "extra" in there:  # where version 3 has it; beside newer rows, where small batches were put together
        own = values_of.get("cache_write_1h_tokens", "NULL")
        values_of["cache_write_1h_tokens"] = f"coalesce({own}, writes_1h_in(extra))"
    listed = ", ".join(values_of)
    taken = ", ".join(f"{value} AS {name}" for name, value in values_of.items())
    span = con.execute(
        f"SELECT CAST(min(id) AS VARCHAR), CAST(max(id) AS VARCHAR), count(id) - count(DISTINCT id) FROM {source}",
        values,
    ).fetchone()
    first, last, twice = span or (None, None, 0)
    once = " QUALIFY p.id IS NULL OR row_number() OVER (PARTITION BY p.id) = 1" if twice else ""
    con.execute(
        f"INSERT INTO decisions({listed}) SELECT {taken} FROM {source} p WHERE p.id IS NULL OR CAST(p.id AS UUID) NOT IN "
        "(SELECT id FROM decisions WHERE id BETWEEN CAST($first AS UUID) AND CAST($last AS UUID))" + once,
        values | {"first": first, "last": last},
    ).fetchall()


def columns(con: duckdb.DuckDBPyConnection, table: str) -> list[tuple[str, str]]:
    """Names and types of a table's columns, in order."""
    rows = con.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = $t AND database_name = current_database() "
        "ORDER BY column_index",
        {"t": table},
    ).fetchall()
    return [(str(name), str(kind)) for name, kind in rows]


def _insert_records(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    source, values = read_parts([path])
    insert_rejects(
        con,
        f"SELECT spool, pos, bytes, reason, $now FROM {source} WHERE kind = 'reject'",
        {**values, "now": _now()},
    )
    rows = con.execute(f"SELECT kind, line FROM {source} WHERE kind <> 'reject'", values).fetchall()
    by_kind: dict[str, list[bytes]] = {}
    for kind, line in rows:
        by_kind.setdefault(kind, []).append(line.encode())
    for kind, lines in by_kind.items():
        insert_lines(con, kind, lines)


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
