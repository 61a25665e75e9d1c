"""An Arrow stream as CSV, JSON Lines or Parquet: batch by batch, so that memory does not grow with the rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, get_args

import orjson

from router.log.csv_text import cell

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["csv", "jsonl", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)

GROUP_ROWS = 100_000
GROUP_BYTES = 64_000_000
"""A Parquet row group ends at either: small ones are slow to read, and one is held in memory while it is written."""

Progress = Callable[[int], None]


def write(
    format: Format,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    file: BinaryIO,
    *,
    json: Collection[str] = (),
    progress: Progress | None = None,
) -> int:
    """Write the batches to a binary file, which stays open; returns the number of rows.

    Times are written in UTC, money with all its decimals, maps and lists in CSV as JSON text.

    Parameters
    ----------
    json : columns whose text is JSON already; written as such in JSON Lines.
    progress : called with the number of rows of each batch.
    """
    return _WRITERS[format](schema, _counted(batches, progress), file, json)


def _counted(batches: Iterable[pa.RecordBatch], progress: Progress | None) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
        if progress is not None:
            progress(batch.num_rows)


def _write_csv(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], file: BinaryIO, json: Collection[str]
) -> int:
    n = 0
    file.write((",".join(map(cell, schema.names)) + "\r\n").encode("utf-8", "replace"))
    for batch in batches:
        columns = [_cells(column) for column in batch.columns]
        # A row of one empty cell would be an empty line, which readers take for none.
        lines = (
            map(",".join, zip(*columns, strict=True)) if len(columns) > 1 else (x or '""' for x in columns[0])
        )
        if batch.num_rows:
            file.write(("\r\n".join(lines) + "\r\n").encode("utf-8", "replace"))
        n += batch.num_rows
    return n


def _cells(column: pa.Array) -> list[str]:
    import pyarrow.types as types

    kind = column.type
    values = column.to_pylist(maps_as_pydicts="lossy") if types.is_nested(kind) else column.to_pylist()
    if types.is_string(kind) or types.is_large_string(kind):
        return ["" if x is None else cell(x) for x in values]
    if types.is_nested(kind):
        return ["" if x is None else cell(_json_text(x)) for x in values]
    if types.is_boolean(kind):
        return ["" if x is None else "true" if x else "false" for x in values]
    return ["" if x is None else _scalar(x) for x in values]


def _scalar(value: Any) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return _utc(value)
    return repr(value) if isinstance(value, int | float) else cell(str(value))


def _write_jsonl(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], file: BinaryIO, json: Collection[str]
) -> int:
    n = 0
    for batch in batches:
        columns = [json_values(batch.column(i), name in json) for i, name in enumerate(schema.names)]
        for row in zip(*columns, strict=True):
            file.write(
                orjson.dumps(dict(zip(schema.names, row, strict=True)), _plain, orjson.OPT_APPEND_NEWLINE)
            )
        n += batch.num_rows
    return n


def json_values(column: pa.Array, is_json: bool) -> list[Any]:
    """Values of a column as orjson takes them; ``is_json`` text is JSON already."""
    import pyarrow.types as types

    values: list[Any]
    if types.is_nested(column.type):
        values = column.to_pylist(maps_as_pydicts="lossy")
        return values
    values = column.to_pylist()
    if is_json:
        return [None if x is None else orjson.Fragment(x) for x in values]
    if types.is_decimal(column.type):
        # A number with all its digits, which a double would round.
        return [None if x is None else orjson.Fragment(format(x, "f")) for x in values]
    if types.is_timestamp(column.type):
        return [None if x is None else _utc(x) for x in values]
    return values


def _json_text(value: Any) -> str:
    return orjson.dumps(value, _plain).decode()


def _plain(value: Any) -> Any:
    return orjson.Fragment(format(value, "f")) if isinstance(value, Decimal) else str(value)


def _write_parquet(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], file: BinaryIO, json: Collection[str]
) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    group: list[pa.RecordBatch] = []
    n = size = 0
    with pq.ParquetWriter(_Counted(file), schema, compression="zstd") as writer:

        def end_group() -> None:
            nonlocal group, size
            rows = sum(batch.num_rows for batch in group)
            writer.write_table(pa.Table.from_batches(group, schema), row_group_size=max(rows, 1))
            group, size = [], 0

        for batch in batches:
            group.append(batch)
            size += batch.nbytes
            n += batch.num_rows
            if size >= GROUP_BYTES or sum(x.num_rows for x in group) >= GROUP_ROWS:
                end_group()
        if group:
            end_group()
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


_WRITERS = {"csv": _write_csv, "jsonl": _write_jsonl, "parquet": _write_parquet}
