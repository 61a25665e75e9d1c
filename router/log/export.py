"""Export decisions as CSV, JSON Lines or Parquet: streamed, and never half a file under the target's name."""

from __future__ import annotations

import csv
import io
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, get_args

import orjson

from router.errors import ConfigurationError, LogError
from router.log.queries import Filter, where
from router.log.reader import Log

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["csv", "jsonl", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)

BATCH_ROWS = 2_000
"""Rows in memory at a time, about what DuckDB itself hands on: 200 MB with the longest prompts that the log keeps."""

_FORMULA_START = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""A spreadsheet may run a cell that starts so (the last four are the full-width forms of the first four)."""


def export(
    log: Log,
    chosen: Filter,
    out: BinaryIO | str | os.PathLike[str],
    format: Format,
    *,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write the decisions that match, in the order they were logged; returns how many.

    Every column of ``decisions`` is written, times in UTC.

    * CSV: UTF-8 with a header; NULL is an empty cell; ``scores`` and ``extra`` are JSON text; a text cell that a
      spreadsheet could take for a formula gets a leading apostrophe, numbers are left alone.
    * JSON Lines: exact. Every key in every line; money as a JSON number with all its decimals.
    * Parquet: zstd; ``scores`` is a map, ``decided_at`` a timestamp without zone (UTC), money decimal(18, 12).

    Parameters
    ----------
    out : a binary file, or a path: written beside it first (mode 0600), then moved in place in one step.
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
    if not isinstance(out, str | os.PathLike):
        return _export(log, chosen, out, format, progress)
    path = Path(os.path.realpath(out))
    try:
        if path.exists() and not path.is_file():
            return _to_special(log, chosen, path, format, progress)
        return _to_file(log, chosen, path, format, progress)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror or type(error).__name__}"
        ) from None


def _to_file(
    log: Log, chosen: Filter, path: Path, format: Format, progress: Callable[[int], None] | None
) -> int:
    part = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            n = _export(log, chosen, file, format, progress)
            file.flush()
            os.fsync(fd)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return n


def _to_special(
    log: Log, chosen: Filter, path: Path, format: Format, progress: Callable[[int], None] | None
) -> int:
    """A pipe or a device cannot be replaced by a file; a folder is refused by ``open``."""
    if stat.S_ISDIR(path.stat().st_mode):
        raise ConfigurationError(f"{path} is a folder; expected a file to write the export to")
    with open(path, "wb") as file:
        return _export(log, chosen, file, format, progress)


def _export(
    log: Log, chosen: Filter, file: BinaryIO, format: Format, progress: Callable[[int], None] | None
) -> int:
    import duckdb

    condition, values = where(chosen)
    columns = "d.* REPLACE (CAST(d.id AS VARCHAR) AS id, CAST(d.extra AS VARCHAR) AS extra)"
    cursor = log.cursor()
    try:
        # A relation, not execute(): DuckDB 2.0 warns that a result of execute() copies its rows on the way to Arrow.
        relation = cursor.sql(f"SELECT {columns} FROM decisions d WHERE {condition}", params=values)
        reader = relation.to_arrow_reader(BATCH_ROWS)
        return _WRITERS[format](reader.schema, reader, file, progress or _quiet)
    except duckdb.Error as error:
        raise LogError(
            f"the decisions cannot be read ({type(error).__name__}); run 'routescope doctor'"
        ) from None
    finally:
        cursor.close()  # an open result owns its connection in DuckDB 2.0: closed whole, also half-way


def _write_csv(
    schema: pa.Schema, batches: Iterator[pa.RecordBatch], file: BinaryIO, progress: Callable[[int], None]
) -> int:
    n = 0
    text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")
    try:
        writer = csv.writer(
            text, lineterminator="\r\n"
        )  # with "\n" alone, a lone CR in a cell would stay unquoted
        writer.writerow(schema.names)
        for batch in batches:
            columns = [_csv_cells(batch.column(i), name) for i, name in enumerate(schema.names)]
            writer.writerows(zip(*columns, strict=True))
            n += batch.num_rows
            progress(batch.num_rows)
    finally:
        text.detach()  # flushes, and leaves closing the file to whoever opened it
    return n


def _csv_cells(column: pa.Array, name: str) -> list[Any]:
    values = column.to_pylist()
    if name == "scores":
        return ["" if v is None else orjson.dumps(dict(v)).decode() for v in values]
    return [_csv_cell(value) for value in values]


def _csv_cell(value: Any) -> Any:
    if isinstance(value, str):
        return "'" + value if value.startswith(_FORMULA_START) else value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return _utc(value)
    return value


def _write_jsonl(
    schema: pa.Schema, batches: Iterator[pa.RecordBatch], file: BinaryIO, progress: Callable[[int], None]
) -> int:
    n = 0
    for batch in batches:
        columns = [_json_values(batch.column(i), name) for i, name in enumerate(schema.names)]
        for row in zip(*columns, strict=True):
            file.write(
                orjson.dumps(dict(zip(schema.names, row, strict=True)), option=orjson.OPT_APPEND_NEWLINE)
            )
        n += batch.num_rows
        progress(batch.num_rows)
    return n


def _json_values(column: pa.Array, name: str) -> list[Any]:
    values = column.to_pylist()
    if name == "scores":
        return [None if v is None else dict(v) for v in values]
    if name == "extra":
        return [None if v is None else orjson.Fragment(v) for v in values]
    return [_json_value(value) for value in values]


def _json_value(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f"))  # a number with all its digits, which a double would round
    return _utc(value) if isinstance(value, datetime) else value


def _write_parquet(
    schema: pa.Schema, batches: Iterator[pa.RecordBatch], file: BinaryIO, progress: Callable[[int], None]
) -> int:
    import pyarrow.parquet as pq

    n = 0
    with pq.ParquetWriter(_Counted(file), schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            n += batch.num_rows
            progress(batch.num_rows)
    return n


class _Counted:
    """A file that knows how much was written, for Parquet into a pipe, which cannot tell."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = 0

    def write(self, block: Any) -> int:
        self._file.write(block)
        self._at += len(block)
        return len(block)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Closing is up to whoever opened the file."""


def _utc(when: datetime) -> str:
    return when.isoformat() + "Z"


def _quiet(rows: int) -> None:
    """Progress nobody asked for."""


_WRITERS = {"csv": _write_csv, "jsonl": _write_jsonl, "parquet": _write_parquet}
