"""The database file: opening it so that both ends of the DuckDB range can, and migrating it forward."""

from __future__ import annotations

import os
import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.errors import LogDamaged, LogTooNew

if TYPE_CHECKING:
    import duckdb

DATABASE = "decisions.duckdb"
STORAGE_VERSION = "v1.5.0"
"""Files of this version are opened and appended to by DuckDB 1.5.5 and 2.x alike."""


@cache
def sql(name: str) -> str:
    """Text of a packaged query, ``router/log/sql/<name>.sql``."""
    return resources.files("router.log").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


@cache
def migrations() -> tuple[tuple[int, str], ...]:
    """Numbered migrations in order: (version, SQL)."""
    folder = resources.files("router.log").joinpath("sql", "migrations")
    found = [(int(file.name[:3]), file.read_text(encoding="utf-8")) for file in folder.iterdir()
             if re.match(r"\d{3}_.*\.sql\Z", file.name)]
    return tuple(sorted(found))


def connect(path: Path | None, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Open the database file (None: in memory) and bring its schema up to date.

    The caller holds the owner's lock from before this call until after ``close()``.

    Raises
    ------
    LogDamaged
        The file cannot be opened as a database.
    LogTooNew
        It was written by a newer version.
    """
    import duckdb

    config: dict[str, Any] = {"autoload_known_extensions": False, "autoinstall_known_extensions": False}
    target = ":memory:" if path is None else str(path)
    if path is not None:
        config["storage_compatibility_version"] = STORAGE_VERSION
    try:
        con = duckdb.connect(target, read_only=read_only, config=config)
    except duckdb.Error as error:
        text = str(error)
        name = DATABASE if path is None else path.name
        if "newer version" in text or "version number" in text:
            raise LogTooNew(f"{name} was written by a newer DuckDB than this one; upgrade duckdb") from None
        if isinstance(error, duckdb.IOException) and "lock" in text.lower():
            raise
        raise LogDamaged(
            f"{name} cannot be opened as a database ({type(error).__name__}); move it aside and run "
            "'routescope ingest': every decision is still in the spool"
        ) from None
    try:
        if path is not None and not read_only:
            os.chmod(path, 0o600)
        if not read_only:
            migrate(con)
        else:
            _check_version(con)
    except BaseException:
        con.close()
        raise
    return con


def migrate(con: duckdb.DuckDBPyConnection) -> int:
    """Apply what is missing, each step in a transaction; returns the version reached."""
    version = schema_version(con)
    known = migrations()[-1][0]
    if version > known:
        _too_new(version, known)
    for number, script in migrations():
        if number <= version:
            continue
        con.execute("BEGIN").fetchall()
        try:
            con.execute(script).fetchall()
            con.execute("DELETE FROM meta WHERE key = 'schema_version'").fetchall()
            con.execute("INSERT INTO meta VALUES ('schema_version', $v)", {"v": str(number)}).fetchall()
            con.execute("COMMIT").fetchall()
        except BaseException:
            con.execute("ROLLBACK").fetchall()
            raise
        version = number
    return version


def schema_version(con: duckdb.DuckDBPyConnection) -> int:
    """Version of the schema in a database; 0 when it is empty."""
    has = con.execute("SELECT count(*) FROM information_schema.tables WHERE table_name = 'meta'").fetchone()
    if not has or not has[0]:
        return 0
    row = con.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    return int(row[0]) if row else 0


def _check_version(con: duckdb.DuckDBPyConnection) -> None:
    version, known = schema_version(con), migrations()[-1][0]
    if version > known:
        _too_new(version, known)


def _too_new(version: int, known: int) -> None:
    raise LogTooNew(
        f"{DATABASE} has schema {version}, this version knows up to {known}; upgrade routescope, or read the spool "
        "with another data folder"
    )
