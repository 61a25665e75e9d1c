"""Export of the log as CSV, JSON Lines or Parquet: streamed, and never half a file under the target's name."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal, get_args

from router.errors import ConfigurationError, LogError
from router.log.filters import Filter, where
from router.log.formats import FORMATS, Format, write
from router.log.reader import BUFFERS, Log

What = Literal["decisions", "feedback"]
WHATS: tuple[What, ...] = get_args(What)

BATCH_ROWS = 2_000
"""Rows in memory at a time, about what DuckDB itself hands on: 200 MB with the longest prompts that the log keeps."""

_QUERIES = {
    "decisions": "SELECT d.* REPLACE (CAST(d.id AS VARCHAR) AS id, CAST(d.extra AS VARCHAR) AS extra, "
    "CAST(d.failed_attempts AS VARCHAR) AS failed_attempts) FROM decisions d WHERE {filter}",
    "feedback": "SELECT f.* REPLACE (CAST(f.decision_id AS VARCHAR) AS decision_id) FROM feedback f "
    "WHERE $all OR f.decision_id IN (SELECT d.id FROM decisions d WHERE {filter}) "
    # Ingest does not keep their order. Few rows, unlike decisions.
    "ORDER BY f.judged_at, f.decision_id, f.verdict, f.note",
}
_JSON = ("extra", "failed_attempts")


def export(
    log: Log,
    chosen: Filter,
    out: BinaryIO | str | os.PathLike[str],
    format: Format,
    *,
    what: What = "decisions",
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write the decisions that match, or what people said of them, in the order they were logged; returns how many.

    Every column of the table is written, times in UTC.

    * CSV: UTF-8 with a header; NULL is an empty cell and empty text ``""``; ``scores``, ``extra`` and
      ``failed_attempts`` are JSON text; a text cell that a spreadsheet could take for a formula gets a leading apostrophe, numbers are left alone.
    * JSON Lines: every key in every line; money as a JSON number with all its decimals.
    * Parquet: zstd; ``scores`` is a map, ``decided_at`` a timestamp without zone (UTC), money decimal(18, 12).

    ``import_file`` reads each of them back exactly.

    Parameters
    ----------
    out : a binary file, or a path: written under no name first (mode 0600), then moved in place in one step.
    progress : called with the number of rows of each batch.

    Raises
    ------
    ConfigurationError
        An unknown format, or a path that cannot be written.
    LogError
        The rows cannot be read.
    """
    if format not in FORMATS:
        raise ConfigurationError(f"no format {format!r}; known: {', '.join(FORMATS)}")
    if what not in WHATS:
        raise ConfigurationError(f"no export of {what!r}; known: {', '.join(WHATS)}")

    def into(file: BinaryIO) -> int:
        return _export(log, chosen, file, format, what, progress)

    if not isinstance(out, str | os.PathLike):
        return into(out)
    path = Path(os.path.realpath(out))
    try:
        with new_file(path) as file:
            return into(file)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror or type(error).__name__}"
        ) from None


@contextmanager
def new_file(path: Path, *, unnamed: bool = True) -> Iterator[BinaryIO]:
    """A file to write that stands under its path when all went well, and leaves nothing behind when it did not.

    Until then it has no name, where the file system can do that (and with ``unnamed``): then not even SIGKILL leaves a part
    of it. A pipe or a device is written as it is.
    """
    if path.exists() and not path.is_file():
        if stat.S_ISDIR(path.stat().st_mode):
            raise ConfigurationError(f"{path} is a folder; expected a file to write to")
        with open(path, "wb") as file:
            yield file
        return
    part = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.part")
    fd, has_name = _unnamed(path.parent) if unnamed else -1, False
    if fd < 0:
        fd, has_name = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), True
    try:
        with open(fd, "wb") as file:
            yield file
            file.flush()
            os.fsync(fd)
            if not has_name:
                _link(fd, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _unnamed(folder: Path) -> int:
    """A descriptor of a new file without a name, or -1 where there is no such thing."""
    if hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd"):
        with suppress(OSError):
            return os.open(folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    return -1


def _link(fd: int, path: Path) -> None:
    folder = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # With a folder's descriptor Python follows the link, as is needed here; without one it does not.
        os.link(str(fd), path, src_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)


def _export(
    log: Log,
    chosen: Filter,
    file: BinaryIO,
    format: Format,
    what: What,
    progress: Callable[[int], None] | None,
) -> int:
    import duckdb

    condition, values = where(chosen)
    if what == "feedback":
        values["all"] = chosen == Filter()  # then also of decisions that are not in the log (any more)
    cursor = log.cursor()
    try:
        if log.mode == "file":
            cursor.execute(f"SET memory_limit = '{BUFFERS}'").fetchall()
        # A relation, not execute(): DuckDB 2.0 warns that a result of execute() copies its rows on the way to Arrow.
        relation = cursor.sql(_QUERIES[what].replace("{filter}", condition), params=values)
        reader = relation.to_arrow_reader(BATCH_ROWS)
        return write(format, reader.schema, reader, file, json=_JSON, progress=progress)
    except duckdb.Error as error:
        raise LogError(
            f"the {what} cannot be read ({type(error).__name__}); run 'routescope doctor'"
        ) from None
    finally:
        cursor.close()  # an open result owns its connection in DuckDB 2.0: closed whole, also half-way
        if log.mode == "file":
            log.rows("RESET memory_limit")
