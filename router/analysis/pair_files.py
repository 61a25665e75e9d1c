"""Outcomes of two models per prompt, read from CSV or JSON Lines."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from router.analysis.cells import Floats
from router.analysis.pairs import Paired
from router.errors import InputError

Format = Literal["csv", "jsonl"]

ALIASES = {
    "id": ("id", "prompt_id", "question_id"),
    "prompt": ("prompt", "question", "text"),
    "weak": ("weak", "weak_correct", "weak_score"),
    "strong": ("strong", "strong_correct", "strong_score"),
    "score": ("score", "strong_win_rate"),
    "weak_cost": ("weak_cost", "weak_cost_usd"),
    "strong_cost": ("strong_cost", "strong_cost_usd"),
}
"""Names under which each column is known; the first is the documented one."""


MANY = 3
"""So many 0s and 1s make a column one of 0s and 1s."""

FEW = 0.1
"""Up to this share of a column that otherwise holds 0 and 1, and always one of them, other values are taken for mistakes."""


def parse_pairs(text: str, format: Format | None = None, *, scale: float | None = None) -> Paired:
    """Read outcomes; ``format`` None: JSON Lines when the text begins with a brace, else CSV with a header.

    Columns: ``prompt`` or ``id``, ``weak``, ``strong``; optionally ``score`` (how much the prompt needs the strong model),
    ``weak_cost`` and ``strong_cost`` in USD. Outcomes are true/false, 0/1 or a score of 0 or more. One that is empty or negative
    (-1 is how judges write "not parsed") is missing: its row is counted and left out.

    Parameters
    ----------
    scale : the best possible outcome, where outcomes are graded; None: a stray other value among 0s and 1s is a mistake.

    Raises
    ------
    InputError
        A column is missing, a line is not JSON, a value is no number, or an outcome is off the scale. Rows are named by number,
        their text is never shown.
    """
    kind = format or ("jsonl" if text.lstrip().startswith("{") else "csv")
    rows = list(_json_rows(text)) if kind == "jsonl" else _csv_rows(text)
    names = {key: _name(rows, key) for key in ALIASES}
    for key in ("weak", "strong"):
        if rows and names[key] is None:
            raise InputError(f"pairs: no column {key!r}; expected prompt or id, weak and strong")
    if rows and names["id"] is None and names["prompt"] is None:
        raise InputError("pairs: no column 'prompt' or 'id'; expected one of them beside weak and strong")
    usable = []
    for number, row in enumerate(rows, 1):
        values = {
            key: _number(row, names[key], number)
            for key in ("weak", "strong", "score", "weak_cost", "strong_cost")
        }
        if values["weak"] >= 0 and values["strong"] >= 0:  # NaN is not
            usable.append((number, row, values))
    for key in ("weak", "strong"):
        _check_scale(usable, key, names[key], scale)
    return Paired(
        id=tuple(str(row[names["id"]]) if names["id"] else str(number) for number, row, _ in usable),
        weak=_column(usable, "weak"),
        strong=_column(usable, "strong"),
        chars=np.array([float(len(str(row.get(names["prompt"]) or ""))) for _, row, _ in usable])
        if names["prompt"]
        else None,
        score=_whole(usable, "score", names),
        weak_cost=_whole(usable, "weak_cost", names),
        strong_cost=_whole(usable, "strong_cost", names),
        n_missing=len(rows) - len(usable),
    )


def _csv_rows(text: str) -> list[Mapping[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        return list(reader)
    except csv.Error:
        raise InputError(
            f"pairs: line {reader.line_num} is not CSV, or holds a field of more than {csv.field_size_limit():,} characters; give JSON "
            "Lines instead"
        ) from None


def _json_rows(text: str) -> Iterable[Mapping[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):  # prompts hold other line ends of Unicode
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            raise InputError(f"pairs: line {number} is not JSON; expected one object a line") from None
        if not isinstance(row, dict):
            raise InputError(f"pairs: line {number} is a {type(row).__name__}, expected an object")
        yield row


def _name(rows: list[Mapping[str, Any]], key: str) -> str | None:
    return next((name for name in ALIASES[key] if rows and name in rows[0]), None)


def _number(row: Mapping[str, Any], name: str | None, number: int) -> float:
    value = row.get(name) if name is not None else None
    if value is None or (isinstance(value, str) and value.strip().casefold() in ("", "null", "nan", "none")):
        return math.nan
    if isinstance(value, str) and value.strip().casefold() in ("true", "false"):
        return float(value.strip().casefold() == "true")
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise InputError(f"pairs: {name} of row {number} is no number; expected 0, 1 or a score") from None
    if math.isinf(found):
        raise InputError(f"pairs: {name} of row {number} is infinite; expected 0, 1 or a score")
    return found


def _check_scale(
    usable: list[tuple[int, Mapping[str, Any], dict[str, float]]],
    key: str,
    name: str | None,
    scale: float | None,
) -> None:
    """Refuse outcomes above the stated scale, or without one a few that are neither 0 nor 1 among many that are."""
    values = _column(usable, key)
    if scale is not None:
        strange, expected = np.flatnonzero(values > scale), f"at most {scale:g}, as --scale says"
    else:
        strange, expected = np.flatnonzero(~np.isin(values, (0, 1))), "0 or 1 as elsewhere in the column"
        if len(strange) > max(1, FEW * len(values)) or len(values) - len(strange) < MANY:
            return
    if not len(strange):
        return
    number, found = usable[strange[0]][0], values[strange[0]]
    more = f" (and {len(strange) - 1:,} more)" if len(strange) > 1 else ""
    way = (
        ""
        if scale is not None
        else "; where outcomes are graded, say the best one with --scale, like --scale 10"
    )
    raise InputError(
        f"pairs: {name} of row {number} is {found:g}{more}, expected {expected}; mend it or leave it empty, which counts as missing{way}"
    )


def _column(usable: list[tuple[int, Mapping[str, Any], dict[str, float]]], key: str) -> Floats:
    return np.array([values[key] for _, _, values in usable], dtype=np.float64)


def _whole(
    usable: list[tuple[int, Mapping[str, Any], dict[str, float]]], key: str, names: Mapping[str, str | None]
) -> Floats | None:
    """An optional column; a gap in it is an error, as a line through a part of the prompts would be of other prompts."""
    if names[key] is None:
        return None
    found = _column(usable, key)
    gaps = np.flatnonzero(np.isnan(found))
    if gaps.size:
        raise InputError(
            f"pairs: {names[key]} of row {usable[gaps[0]][0]} is missing; expected it in every row or in none"
        )
    return found
