r"""Cells of our CSV: what is written can be read back exactly, and no spreadsheet runs it.

* NULL is an empty cell, empty text is ``""``.
* Text that a spreadsheet could take for a formula gets one leading apostrophe; so does text that would look like it,
  apostrophes before a formula. Hence one apostrophe is taken away from whatever is an apostrophe before such a start.
* Rows end in CR LF; a cell with a comma, a quotation mark or a line end is quoted.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Protocol

BLOCK_BYTES = 1_000_000
MAX_ROW_CHARS = 16_000_000
"""A row that is longer is none of ours: most likely a quotation mark that is never closed."""

_FORMULA = "=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20"
"""A spreadsheet may run a cell that starts so (the last four are the full-width forms of the first four)."""

_RISKY = re.compile(f"'*[{_FORMULA}]")
_ESCAPED = re.compile(f"''*[{_FORMULA}]")
_QUOTED = re.compile('[,"\r\n]')
_CELL = re.compile('("[^"]*(?:""[^"]*)*"|[^",\r\n]*)(,|\r\n|\r|\n)')


class CsvError(Exception):
    """Text that is no CSV from here on. ``line`` counts from 1."""

    def __init__(self, line: int, why: str) -> None:
        self.line = line
        super().__init__(why)


def cell(text: str) -> str:
    r"""A text as a cell.

    >>> print(cell("=1+1"), cell("'=1"), cell("'tis"), cell(""), cell('a "b" c'))
    '=1+1 ''=1 'tis "" "a ""b"" c"
    """
    if _RISKY.match(text):
        text = "'" + text
    if not text or _QUOTED.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def plain(text: str) -> str:
    """What ``cell`` was given, from the unquoted content of a cell.

    >>> plain("'=1+1"), plain("''=1"), plain("'tis")
    ('=1+1', "'=1", "'tis")
    """
    return text[1:] if text.startswith("'") and _ESCAPED.match(text) else text


class Readable(Protocol):
    """A binary file, as far as it is needed here."""

    def read(self, size: int, /) -> bytes:
        """The next bytes; none at the end."""


def rows(
    file: Readable, *, block_bytes: int = BLOCK_BYTES, max_row_chars: int = MAX_ROW_CHARS
) -> Iterator[tuple[int, list[str | None]]]:
    """(line number, cells) of every row, the header included; an empty cell is None. Bytes that are no UTF-8 become U+FFFD.

    ``block_bytes`` are read at once; a row of more than ``max_row_chars`` is given up on.

    Raises
    ------
    CsvError
        A quotation mark that is never closed, or one inside a cell that is not quoted.
    """
    line = 1
    for text in _whole_rows(file, block_bytes, max_row_chars):
        at = 0
        found: list[str | None] = []
        began = line
        while match := _CELL.match(text, at):
            at = match.end()
            raw, end = match.groups()
            if raw.startswith('"'):
                line += _line_ends(raw)
                found.append(raw[1:-1].replace('""', '"'))
            else:
                found.append(raw or None)
            if end != ",":
                line += 1
                if len(found) > 1 or found[0] is not None:
                    yield began, found
                found, began = [], line
        if at != len(text):
            raise CsvError(line, "a quotation mark that is never closed, or stands inside a cell")


def _line_ends(text: str) -> int:
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def _whole_rows(file: Readable, block_bytes: int, max_row_chars: int) -> Iterator[str]:
    """The text in pieces of about ``block_bytes`` that end where a row ends."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    parts: list[str] = []
    size, is_open = 0, False
    while True:
        block = file.read(block_bytes)
        text = decoder.decode(block, final=not block)
        if not block:
            rest = "".join(parts) + text
            if rest:
                yield rest if rest.endswith(("\n", "\r")) and not is_open else rest + "\n"
            return
        cut, is_open_after = _last_row_end(text, is_open)
        if cut:
            yield "".join(parts) + text[:cut]
            parts, size = [], 0
        parts.append(text[cut:])
        size += len(text) - cut
        is_open = is_open_after
        if size > max_row_chars:
            # What follows is not looked for: the mark may have turned every later quotation inside out.
            yield "".join(parts)
            return


def _last_row_end(text: str, is_open: bool) -> tuple[int, bool]:
    """(position after the last line feed outside quotation marks, whether a quotation is open at the end).

    Only a line feed counts: a CR at the end of a block may be half a CR LF.
    """
    marks = text.count('"')
    is_open_at_end = is_open ^ bool(marks & 1)
    at, outside = len(text), not is_open_at_end
    while True:
        before = text.rfind("\n", 0, at)
        if before < 0:
            return 0, is_open_at_end
        outside ^= bool(text.count('"', before, at) & 1)
        if outside:
            return before + 1, is_open_at_end
        at = before
