"""Rows of a file that is to be imported: CSV, JSON Lines or Parquet, a few thousand in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, Protocol

import orjson

from router.errors import InputError
from router.log import csv_text
from router.log.formats import Format
from router.log.rows import RowError, Shape

Row = dict[str, Any]
ShapeFor = Callable[[Iterable[str]], Shape]
MAX_LINE_BYTES = 16_000_000
"""A longer line of JSON is reported as broken, so that a file without line breaks is never read whole."""

_BATCH_ROWS = 1_000
_EXACT_USD = 1_000.0
"""Below it, 12 decimals are no more digits than a double holds."""

_SPACE = json.decoder.WHITESPACE  # type: ignore[attr-defined]
_decoder = json.JSONDecoder(parse_int=str, parse_float=str)  # only where a value ends is of interest


class Notes(Protocol):
    """Where a reader puts down what is wrong (see ``Imported``)."""

    unit: str
    rows: int
    unknown: tuple[str, ...]

    def fault(self, number: int, why: str) -> None:
        """Note a row that could not be read."""


def tell_format(file: BinaryIO) -> Format:
    """Which format a file is in, by its first bytes; they are still to be read after it."""
    peek = getattr(file, "peek", None)
    if peek is not None:
        head = peek(64)[:64]
    else:
        head = file.read(64)
        file.seek(-len(head), 1)
    if head.startswith(b"PAR1"):
        return "parquet"
    return "jsonl" if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{" else "csv"


def read_rows(
    file: BinaryIO, format: Format, shape_for: ShapeFor, notes: Notes, progress: Callable[[int], None]
) -> Iterator[tuple[Shape, int, Row]]:
    """(shape, line or row number, values) of every row; what cannot be read goes to ``notes``.

    Raises
    ------
    InputError
        The file as a whole is none of ours.
    """
    return _READERS[format](file, shape_for, notes, progress)


class _Counted:
    """A file that tells how much of it was read."""

    def __init__(self, file: BinaryIO, progress: Callable[[int], None]) -> None:
        self._file = file
        self._progress = progress

    def read(self, size: int, /) -> bytes:
        block = self._file.read(size)
        self._progress(len(block))
        return block


def _csv(
    file: BinaryIO, shape_for: ShapeFor, notes: Notes, progress: Callable[[int], None]
) -> Iterator[tuple[Shape, int, Row]]:
    try:
        rows = csv_text.rows(_Counted(file, progress))
        _, header = next(rows, (1, []))
        if not header:
            return
        names, shape = _header(header, shape_for, notes, "its first line names the columns")
        for line, cells in rows:
            if len(cells) != len(names):
                notes.rows += 1
                notes.fault(line, f"found {len(cells)} cells, expected {len(names)}")
                continue
            yield (
                shape,
                line,
                {x: None if y is None else csv_text.plain(y) for x, y in zip(names, cells, strict=True)},
            )
    except csv_text.CsvError as error:
        notes.rows += 1
        notes.fault(error.line, f"{error}; nothing from here on could be read")


def _jsonl(
    file: BinaryIO, shape_for: ShapeFor, notes: Notes, progress: Callable[[int], None]
) -> Iterator[tuple[Shape, int, Row]]:
    shape: Shape | None = None
    number = read = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        read += len(line)
        if number % _BATCH_ROWS == 0:
            progress(read)
            read = 0
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            while (more := file.readline(MAX_LINE_BYTES)) and not more.endswith(b"\n"):
                read += len(more)
            notes.rows += 1
            notes.fault(number, f"longer than {MAX_LINE_BYTES:,} bytes")
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            row = _object(line)
            shape = shape or shape_for(row)
            row = _with_raw(row, line, shape)
        except RowError as error:
            notes.rows += 1
            notes.fault(number, str(error))
            continue
        _note_unknown(shape, row, notes)
        yield shape, number, row
    progress(read)


def _object(line: bytes) -> Row:
    row, column = None, 0
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        column = error.pos + 1
    # Outside the except block: a JSON error carries the line, so it must not be chained.
    if column:
        raise RowError(f"not valid JSON (column {column})")
    if not isinstance(row, dict):
        raise RowError("not an object")
    return row


def _with_raw(row: Row, line: bytes, shape: Shape) -> Row:
    """The row, with the text as it stands of what parsing would change: JSON, and money beyond a double's digits."""
    if all(row.get(name) is None for name in shape.raw) and all(
        not isinstance(row.get(name), float) or row[name] < _EXACT_USD for name in shape.money
    ):
        return row
    try:
        texts = _top_level(line.decode("utf-8"))
    except RecursionError:
        raise RowError("JSON nested too deeply") from None
    for name in shape.raw:
        if row.get(name) is not None:
            row[name] = texts[name]
    for name in shape.money:
        if isinstance(row.get(name), float):
            row[name] = texts[name]
    return row


def _top_level(text: str) -> dict[str, str]:
    """The text of each value of an object that is known to be valid."""
    found = {}
    at = _after_space(text, text.index("{") + 1)
    while text[at] != "}":
        key, at = json.decoder.scanstring(text, at + 1)  # type: ignore[attr-defined]
        at = _after_space(text, _after_space(text, at) + 1)
        _, end = _decoder.raw_decode(text, at)
        found[key] = text[at:end]
        at = _after_space(text, end)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return found


def _after_space(text: str, at: int) -> int:
    return int(_SPACE.match(text, at).end())


def _parquet(
    file: BinaryIO, shape_for: ShapeFor, notes: Notes, progress: Callable[[int], None]
) -> Iterator[tuple[Shape, int, Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    notes.unit = "row"
    try:
        size = file.seek(0, 2)
        file.seek(0)
    except OSError:
        raise InputError("Parquet cannot be read from a pipe; give the name of a file") from None
    try:
        opened = pq.ParquetFile(file)
    except (pa.ArrowException, OSError):
        raise InputError("this is no whole Parquet file; export it again") from None
    names, shape = _header(opened.schema_arrow.names, shape_for, notes, "its columns are the log's")
    number, total = 0, max(opened.metadata.num_rows, 1)
    try:
        for batch in opened.iter_batches(_BATCH_ROWS):
            columns = [_values(column) for column in batch.columns]
            for row in zip(*columns, strict=True):
                number += 1
                yield shape, number, dict(zip(names, row, strict=True))
            progress(size * batch.num_rows // total)
    except (pa.ArrowException, OSError):
        notes.rows += 1
        notes.fault(number + 1, "damaged; nothing from here on could be read")


def _values(column: Any) -> list[Any]:
    import pyarrow as pa
    import pyarrow.types as types

    if types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    values: list[Any] = (
        column.to_pylist(maps_as_pydicts="lossy") if types.is_nested(column.type) else column.to_pylist()
    )
    return values


def _header(
    given: Iterable[str | None], shape_for: ShapeFor, notes: Notes, expected: str
) -> tuple[list[str], Shape]:
    names = [name or "" for name in given]
    shape = shape_for(names)
    missing = [name for name in shape.required if name not in names]
    if missing:
        raise InputError(
            f"this is no export of the log: no column {', '.join(missing)}; expected a file of 'routescope export', where "
            f"{expected}"
        )
    if len(set(names)) != len(names):
        raise InputError("a column stands twice in this file; expected a file of 'routescope export'")
    notes.unknown = shape.unknown(names)
    return names, shape


def _note_unknown(shape: Shape, row: Row, notes: Notes) -> None:
    if not row.keys() <= shape.types.keys():
        notes.unknown = tuple(dict.fromkeys((*notes.unknown, *shape.unknown(row))))


_READERS: dict[Format, Callable[..., Iterator[tuple[Shape, int, Row]]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
