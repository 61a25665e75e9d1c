"""A filled-in review file, line by line: what people said in it, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import orjson

from router.errors import InputError
from router.log.judging import Judgement

MAX_LINE_BYTES = 16_000_000
"""A longer line is reported as broken, so that a file without line breaks is never read whole."""

_KEYS = (
    "decision_id",
    "verdict",
    "correct_label",
    "note",
    "queue",
    "inclusion_probability",
    "judged_by",
)


@dataclass(slots=True)
class Filled:
    """What stands in a file.

    Attributes
    ----------
    said : (line number, judgement). ``n_open``: lines without a verdict yet.
    bad : (line number, reason) of those that could not be read; never with their text.
    """

    said: list[tuple[int, Judgement]] = field(default_factory=list)
    n_open: int = 0
    bad: list[tuple[int, str]] = field(default_factory=list)


def read_filled(file: BinaryIO, judged_by: str | None = None) -> Filled:
    """Read JSON Lines as ``routescope review next --output`` writes them; other keys than a judgement's are passed over.

    ``judged_by`` fills in where a line does not say who judged.
    """
    found = Filled()
    seen: dict[tuple[str, str | None], int] = {}
    for number, line in _lines(file):
        try:
            values = _values(line)
            if values.get("verdict") in (None, ""):
                found.n_open += 1
                continue
            one = Judgement(**{"judged_by": judged_by, "decision_id": None, **values})
            first = seen.setdefault((one.decision_id, one.queue), number)
            if first != number:
                raise InputError(f"the decision of line {first} once more; one line a decision and queue")
        except InputError as error:
            found.bad.append((number, str(error)))
        else:
            found.said.append((number, one))
    return found


def _values(line: bytes) -> dict[str, Any]:
    value, column = None, 0
    if len(line) >= MAX_LINE_BYTES:
        raise InputError(f"longer than {MAX_LINE_BYTES:,} bytes")
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        column = error.pos + 1
    # Outside the except block: a JSON error carries the line, so it must not be chained.
    if column:
        raise InputError(f"not valid JSON (column {column})")
    if not isinstance(value, dict):
        raise InputError("not an object, expected one with 'decision_id' and 'verdict'")
    # A text that was cleared to "" says as little as a null.
    return {key: value[key] for key in _KEYS if value.get(key) not in (None, "")}


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers, the empty ones left out; of one that is too long only the beginning."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        rest = line
        while not rest.endswith(b"\n") and (rest := file.readline(MAX_LINE_BYTES)):
            pass
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield number, line
