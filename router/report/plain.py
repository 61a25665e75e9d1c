"""Results as plain JSON values: what a document holds can be written, read back and compared as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Dictionaries, lists, text, numbers, booleans and None alone.

    Frozen results become dictionaries of their public fields, arrays lists, days and times ISO text (times with a Z), money
    doubles; what is not a finite number becomes None, since JSON has no word for it.

    >>> plain({"at": datetime(2026, 11, 1), "x": (1, float("nan"), np.float64(0.5))})
    {'at': '2026-11-01T00:00:00.000Z', 'x': [1, None, 0.5]}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | Decimal):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds") + "Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {x.name: plain(getattr(value, x.name)) for x in fields(value) if not x.name.startswith("_")}
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    raise TypeError(f"a {type(value).__name__} has no JSON form")
