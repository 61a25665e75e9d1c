"""The database file: opening it so that both ends of the DuckDB range can, and migrating it forward."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.errors import LogDamaged, LogError, LogLocked, LogTooNew

if TYPE_CHECKING:
    import duckdb

DATABASE = "decisions.duckdb"
STORAGE_VERSION = "v1.5.0"
"""Files of this version are opened and appended to by DuckDB 1.5.5 and 2.x alike."""

WAL_BYTES = 64_000_000
"""Most in the write-ahead log before it is written into the file, which rewrites the last, unfilled row group each time.

At DuckDB's own 16 MiB a file of 150,000 real rows weighs 468 bytes a row, a third of it free blocks; at this 344.
"""

_NO_ACCESS = (
    "permission denied",
    "no space left",
    "read-only file system",
    "disk quota",
    "too many open files",
    "no locks available",
    "file too large",
)
_DAMAGE = (
    "corrupt",
    "could not read enough bytes",
    "not a valid duckdb database",
    "replaying wal",
    "checksum",
)
_connections: weakref.WeakSet[Any] = weakref.WeakSet()


@cache
def sql(name: str) -> str:
    """Text of a packaged query, ``router/log/sql/<name>.sql``, without its lines of comment: they name placeholders."""
    text = resources.files("router.log").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))


@cache
def migrations() -> tuple[tuple[int, str], ...]:
    """Numbered migrations in order: (version, SQL)."""
    folder = resources.files("router.log").joinpath("sql", "migrations")
    found = [
        (int(file.name[:3]), file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if re.match(r"\d{3}_.*\.sql\Z", file.name)
    ]
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
    LogLocked
        Another program has it open, without the owner's lock.
    LogError
        The file may be sound, but the system refuses access to it or the disk is full.
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
        # A log of a newer state of this file ("newer version of this database") is damage: an older copy was put in its place.
        if ("newer version" in text or "version number" in text) and "checkpoint iteration" not in text:
            raise LogTooNew(
                f"{name} was written by a newer DuckDB than this one ({duckdb.__version__}); upgrade duckdb, or move the "
                "file elsewhere and run 'routescope rebuild': archive and spools hold every decision"
            ) from None
        reason = refusal(error)
        if isinstance(error, duckdb.IOException) and reason is not None:
            raise LogError(
                f"{name} cannot be opened ({reason}); decisions stay in the spool until it can"
            ) from None
        if _is_open_elsewhere(error):
            raise LogLocked(
                f"{name} is open in another program{_pid_in(text)}; close it there. "
                "Every decision is safe in the spool."
            ) from None
        raise LogDamaged(
            f"{name} cannot be opened as a database ({type(error).__name__}); 'routescope rebuild' makes it again: archive "
            "and spools hold every decision"
        ) from None
    try:
        _connections.add(con)
        # On by default in an interactive interpreter and under ``python -c``: it would stand in the user's output.
        con.execute("SET enable_progress_bar = false").fetchall()
        con.execute(f"SET checkpoint_threshold = '{WAL_BYTES} bytes'").fetchall()
        if read_only:
            _check_version(con)
        else:
            if path is not None:
                os.chmod(path, 0o600)
            migrate(con)
            if path is not None:
                keep_private(path)
    except BaseException:
        con.close()
        raise
    return con


def refusal(error: BaseException) -> str | None:
    """The system's own words, when it is what refused something: no space, no permission; None for any other error."""
    text = str(error).lower()
    return next((x for x in _NO_ACCESS if x in text), None)


def is_damage(error: BaseException) -> bool:
    """Whether an error says that the database file itself is broken; a full disk or a refused access does not."""
    import duckdb

    if isinstance(error, LogDamaged):
        return True
    text = str(error).lower()
    # The exact classes (2.0 raises its base class for a bad checksum): messages of others may quote a row.
    if type(error) not in (duckdb.Error, duckdb.IOException, duckdb.FatalException, duckdb.InternalException):
        return isinstance(error, duckdb.SerializationException)
    return any(x in text for x in _DAMAGE) and refusal(error) is None


def is_fatal(error: BaseException) -> bool:
    """Whether DuckDB has given this instance up. The file may be sound: it is to be opened again first."""
    import duckdb

    return isinstance(error, duckdb.FatalException | duckdb.InternalException)


def _is_open_elsewhere(error: duckdb.Error) -> bool:
    import duckdb

    text = str(error).lower()
    if isinstance(error, duckdb.IOException):
        return "could not set lock on file" in text or "conflicting lock" in text
    # A connection of this very process that was not made here.
    return isinstance(error, duckdb.ConnectionException) and "different configuration" in text


def _pid_in(text: str) -> str:
    """The process that DuckDB says holds the file, as " (PID n)"; nothing else of its text, which has paths in it."""
    if "different configuration" in text:
        return f" (PID {os.getpid()}, this one)"
    found = re.search(r"\(PID (\d+)\)", text[text.lower().rfind("conflicting lock") :])
    return f" (PID {found[1]})" if found and int(found[1]) else ""


def keep_private(path: Path) -> None:
    """Mode 0600 for the file's write-ahead log, which DuckDB makes anew with whatever the umask leaves."""
    with contextlib.suppress(FileNotFoundError):
        os.chmod(path.with_name(path.name + ".wal"), 0o600)


def migrate(con: duckdb.DuckDBPyConnection) -> int:
    """Apply what is missing, each step in a transaction; returns the version reached.

    No copy of the file is kept: a step that fails is rolled back whole, and archive and spools, which no migration
    touches, make the database again.
    """
    version = schema_version(con)
    known = migrations()[-1][0]
    if version > known:
        _too_new(version, known)
    for number, script in migrations():
        if number <= version:
            continue
        with transaction(con):
            con.execute(script).fetchall()
            if number in _AFTER:
                _AFTER[number](con)
            set_meta(con, "schema_version", str(number))
        version = number
    return version


def _fill_rollups(con: duckdb.DuckDBPyConnection) -> None:
    from router.log import rollups

    if con.execute("SELECT 1 FROM decisions LIMIT 1").fetchone():
        rollups.refill(con)


_AFTER: dict[int, Callable[[duckdb.DuckDBPyConnection], None]] = {4: _fill_rollups}
"""What a migration does to rows that are there already, beyond its SQL; in its transaction.

Roll-ups are filled once, after the last step that changes them: their SQL asks for the columns of that step.
"""


def schema_version(con: duckdb.DuckDBPyConnection) -> int:
    """Version of the schema in a database; 0 when it is empty."""
    has = con.execute("SELECT count(*) FROM information_schema.tables WHERE table_name = 'meta'").fetchone()
    if not has or not has[0]:
        return 0
    return int(get_meta(con, "schema_version") or 0)


def get_meta(con: duckdb.DuckDBPyConnection, key: str) -> str | None:
    """What the database notes about itself under a key."""
    row = con.execute("SELECT value FROM meta WHERE key = $key", {"key": key}).fetchone()
    return None if row is None else str(row[0])


def set_meta(con: duckdb.DuckDBPyConnection, key: str, value: str | None) -> None:
    """Note something about the database; None takes it away. In the caller's transaction, if there is one."""
    con.execute("DELETE FROM meta WHERE key = $key", {"key": key}).fetchall()
    if value is not None:
        con.execute("INSERT INTO meta VALUES ($key, $value)", {"key": key, "value": value}).fetchall()


def generation(con: duckdb.DuckDBPyConnection) -> int:
    """How often rows were erased or the file was rewritten: what was read under another number must not be shown again."""
    return int(get_meta(con, "generation") or 0)


@contextlib.contextmanager
def transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit what is done inside, or nothing of it."""
    con.execute("BEGIN").fetchall()
    try:
        yield
        con.execute("COMMIT").fetchall()
    except BaseException:
        with contextlib.suppress(Exception):  # an error in COMMIT has ended the transaction already
            con.execute("ROLLBACK").fetchall()
        raise


def _check_version(con: duckdb.DuckDBPyConnection) -> None:
    version, known = schema_version(con), migrations()[-1][0]
    if version > known:
        _too_new(version, known)


def _too_new(version: int, known: int) -> None:
    raise LogTooNew(
        f"{DATABASE} has schema {version}, this version knows up to {known}; upgrade routescope, or move the file "
        "elsewhere and run 'routescope rebuild': archive and spools hold every decision"
    )


def _forked() -> None:
    # Closing a connection writes to the file and joins threads that a forked child does not have. So the child keeps
    # the parent's connections for ever: one reference more than anybody will give back.
    for con in list(_connections):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(con))
    _connections.clear()
    duckdb = sys.modules.get("duckdb")
    if duckdb is not None and getattr(duckdb, "__version__", "2") < "2":
        # DuckDB 1.5 makes one of its own when it is imported; closing that at the child's exit faults or never ends.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(duckdb.default_connection()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
