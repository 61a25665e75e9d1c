"""SQL of a user's own over the log: it reads, and can change nothing and reach nothing else."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from router.errors import InputError, LogError
from router.log.formats import Format, json_values, write
from router.log.reader import Log, copy_log, open_log

if TYPE_CHECKING:
    import duckdb

BATCH_ROWS = 2_000
_T = TypeVar("_T")

_SETTINGS = (
    "SET TimeZone = 'UTC'",  # as the log's times are; else now() is compared with them in the machine's zone
    "SET python_enable_replacements = false",  # no variables of this process as tables
    "SET python_scan_all_frames = false",
    "SET autoload_known_extensions = false",
    "SET autoinstall_known_extensions = false",
    "SET allow_community_extensions = false",
    "SET temp_directory = ''",  # nothing is spilled: prompts would stand in a file that a killed process leaves
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
_READS = ("SELECT", "EXPLAIN")
_EXPLAIN = re.compile(r"\s*EXPLAIN\b(?:\s+ANALYZE\b|\s*\([^)]*\))*(.*)\Z", re.IGNORECASE | re.DOTALL)
_UNCHECKED = re.compile(
    r"\b(enable_logging|enable_profil\w*|json_execute_serialized_sql|query)\"?(?:\s|/\*.*?\*/|--[^\n]*\n)*\(",
    re.IGNORECASE | re.DOTALL,
)
"""Functions that run SQL nobody has looked at, or that DuckDB 1.5 lets change its settings although they are locked."""

_KEPT = re.compile(r"(BOOLEAN|U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\)|VARCHAR|JSON)\Z")
_NUMBER = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\))\Z")
_LISTS = re.compile(
    r"(BOOLEAN|U?(TINY|SMALL|BIG)?INT(EGER)?|DOUBLE|VARCHAR)\[\]\Z|MAP\(VARCHAR, (DOUBLE|U?BIGINT)\)\Z"
)
_HINTS = {
    "ConversionException": "a value could not be converted; TRY_CAST gives NULL instead",
    "InvalidInputException": "a function was given a value that it cannot use",
    "OutOfRangeException": "a value is out of range",
    "OutOfMemoryException": "it needs more memory than there is; narrow it, or export to Parquet and query that",
    "PermissionException": "SQL here reads the log alone: no files, other databases, settings or extensions",
}


class Answer:
    """The rows of one query, which runs each time they are asked for.

    Attributes
    ----------
    columns : names, made distinct; ``types`` are DuckDB's.
    """

    def __init__(self, relation: duckdb.DuckDBPyRelation, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con
        self.columns: tuple[str, ...] = tuple(relation.project("*").columns)
        self.types: tuple[str, ...] = tuple(map(str, relation.types))
        self._relation = relation

    @property
    def numbers(self) -> tuple[str, ...]:
        """Columns of numbers."""
        return tuple(name for name, kind in zip(self.columns, self.types, strict=True) if _NUMBER.match(kind))

    def texts(self, limit: int | None = None) -> list[tuple[str | None, ...]]:
        """Rows as DuckDB writes their values, NULL as None; at most ``limit``."""
        found = self._projected(limit, lambda kind: True)

        def read() -> list[tuple[str | None, ...]]:
            rows = found.to_arrow_reader(BATCH_ROWS).read_all()
            return list(zip(*(column.to_pylist() for column in rows.columns), strict=True))

        return self._in_thread(read)

    def values(self, limit: int | None = None) -> list[list[Any]]:
        """Rows as orjson takes them; see ``write`` for the types."""
        found = self._projected(limit, _is_other)

        def read() -> list[list[Any]]:
            rows = found.to_arrow_reader(BATCH_ROWS).read_all()
            columns = [
                json_values(column.combine_chunks(), name in self._json)
                for name, column in zip(self.columns, rows.columns, strict=True)
            ]
            return [list(row) for row in zip(*columns, strict=True)]

        return self._in_thread(read)

    def write(
        self,
        format: Format,
        file: BinaryIO,
        *,
        limit: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Write the rows to a binary file, batch by batch; returns how many.

        Numbers, texts, and lists and maps of them keep their type; anything else is text as DuckDB writes it.
        """
        found = self._projected(limit, _is_other)

        def run() -> int:
            reader = found.to_arrow_reader(BATCH_ROWS)
            return write(format, reader.schema, reader, file, json=self._json, progress=progress)

        return self._in_thread(run)

    def _in_thread(self, read: Callable[[], _T]) -> _T:
        """Run it beside this thread, which can then be interrupted: DuckDB looks for Ctrl+C in some of its loops alone."""
        import duckdb

        done: list[_T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                done.append(read())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run, name="routescope-sql", daemon=True)
        thread.start()
        try:
            thread.join()
        finally:
            while thread.is_alive():
                self._con.interrupt()
                thread.join(0.05)
        if failed:
            if isinstance(failed[0], duckdb.Error):
                raise _failed(failed[0]) from None
            raise failed[0]
        return done[0]

    @property
    def _json(self) -> tuple[str, ...]:
        return tuple(name for name, kind in zip(self.columns, self.types, strict=True) if kind == "JSON")

    def _projected(self, limit: int | None, as_text: Callable[[str], bool]) -> duckdb.DuckDBPyRelation:
        relation = self._relation if limit is None else self._relation.limit(limit)
        # By position: names may stand twice, and hold anything.
        cells = [
            f"{f'CAST(#{at} AS VARCHAR)' if as_text(kind) else f'#{at}'} AS {_quoted(name)}"
            for at, (name, kind) in enumerate(zip(self.columns, self.types, strict=True), 1)
        ]
        return relation.project(", ".join(cells))


class Shell:
    """An open log that a user's SQL may read. Use as a context manager, or ``close()`` it.

    ``log`` says what is read (``mode``, ``note``, ``age_s``); its connection is locked down from here on.
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self._con = log.locked_down(_SETTINGS)

    def run(self, query: str) -> Answer:
        """One SELECT (also WITH, FROM, VALUES, DESCRIBE, SUMMARIZE, SHOW), or EXPLAIN of one.

        Raises
        ------
        InputError
            Another statement, several of them, or one that DuckDB cannot parse or bind; says where.
        LogError
            The query failed while it ran. DuckDB's own words could quote a prompt, so its class is named and a hint
            given.
        """
        import duckdb

        with contextlib.suppress(duckdb.TransactionException):  # there is none at first
            self._con.rollback()
        self._check(query)
        self._con.execute("BEGIN TRANSACTION READ ONLY").fetchall()
        explains = _EXPLAIN.match(query) is not None
        try:
            relation = self._con.sql(query)
            if relation is None:
                raise InputError("this statement gives no rows; expected a SELECT")
            return Answer(relation, self._con)
        except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
            if explains:  # it has run, if it was to be analysed
                raise _failed(error) from None
            raise InputError(_own_words(error)) from None
        except duckdb.PermissionException as error:
            raise InputError(_HINTS[type(error).__name__]) from None
        except duckdb.Error as error:
            if "read-only mode" in str(error):  # a change inside a WITH, which DuckDB 2 has
                raise InputError("the statement would change the log, and SQL here only reads") from None
            raise _failed(error) from None

    def _check(self, query: str) -> None:
        import duckdb

        if found := _UNCHECKED.search(query):
            raise InputError(f"{found[1].lower()}() is not for SQL here, also not within a text")
        try:
            statements = self._con.extract_statements(query)
        except duckdb.Error as error:
            raise InputError(_own_words(error)) from None
        kinds = [statement.type.name for statement in statements]
        if kinds == ["MULTI"] or (len(kinds) == 2 and not any(x.query for x in statements)):
            raise InputError("PIVOT needs its values here: ON column IN ('a', 'b')")
        if len(kinds) != 1:
            raise InputError(f"found {len(kinds)} statements, expected one SELECT")
        if kinds[0] not in _READS:
            word = kinds[0].replace("_", " ")
            raise InputError(
                f"found {_article(word)} {word} statement, expected a SELECT: SQL here only reads"
            )
        if kinds[0] == "EXPLAIN":
            explained = _EXPLAIN.match(query)
            inner = self._con.extract_statements(explained[1]) if explained else []
            if [statement.type.name for statement in inner] != ["SELECT"]:
                raise InputError("EXPLAIN is for one SELECT here")

    def close(self) -> None:
        """Close the log."""
        self.log.close()

    def __enter__(self) -> Shell:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_shell(data: str | os.PathLike[str] = "data", *, wait_s: float = 2.0) -> Shell:
    """Open the log of a data folder for SQL that nobody has checked.

    As ``open_log`` does, but for two things: the database is opened read-only, and the owner's connection is never
    used (in its process the log is read from the spools). Then everything but reading is shut: files and the network,
    settings, extensions, variables of the process. Nothing is ever spilled to disk.

    Raises
    ------
    LogError
        See ``open_log``.
    """
    log = open_log(data, wait_s=wait_s)
    if log.mode == "owner":
        log.close()
        log = copy_log(data)
    try:
        return Shell(log)
    except BaseException:
        log.close()
        raise


def _failed(error: Exception) -> LogError:
    name = type(error).__name__
    hint = _HINTS.get(name, "its message is not shown, as it may quote a prompt")
    return LogError(f"the query failed ({name}): {hint}")


def _own_words(error: Exception) -> str:
    """What DuckDB says of a query that it could not begin to run: it has seen no row yet."""
    return "\n".join(line for line in str(error).splitlines() if line.strip())


def _article(word: str) -> str:
    return "an" if word[0] in "AEIOU" else "a"


def _is_other(kind: str) -> bool:
    return not (_KEPT.match(kind) or _LISTS.match(kind))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
