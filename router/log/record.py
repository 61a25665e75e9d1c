"""Records of the spool: how a decision becomes one line, and how a line proves that it is whole."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

import orjson

from router.types import Decision

SCHEMA_VERSION = 1
MAX_PROMPT_CHARS = 100_000
"""Longer prompts are cut in the log and flagged; their length and hash are those of the whole."""

MAX_LINE_BYTES = 1_000_000

_HEAD = len(b'{"crc":"00000000",')
_ids = threading.Lock()
_last_ms = 0
_counter = 0


def uuid7(when_ms: int) -> str:
    """A UUIDv7 (RFC 9562) for a Unix time in ms: ids of one process sort in the order they were made.

    The 12 bits after the time count within a millisecond; when they run out the time part steps one ahead.
    """
    global _last_ms, _counter
    with _ids:
        if when_ms == _last_ms:
            _counter += 1
            if _counter > 0xFFF:
                when_ms, _counter = when_ms + 1, 0
        else:
            _counter = 0
        _last_ms = when_ms
        count = _counter
    tail = int.from_bytes(os.urandom(8), "big") & 0x3FFF_FFFF_FFFF_FFFF
    value = when_ms << 80 | 0x7 << 76 | count << 64 | 0x2 << 62 | tail
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


@cache
def _decision_fields() -> tuple[str, ...]:
    return tuple(field.name for field in fields(Decision))


def decision_payload(decision: Decision) -> dict[str, Any]:
    """The record of a decision; fields that are None are left out."""
    payload: dict[str, Any] = {"kind": "decision", "v": SCHEMA_VERSION}
    for name in _decision_fields():
        value = getattr(decision, name)
        if value is None or (name in ("scores", "extra") and not value):
            continue
        payload[name] = value
    prompt = decision.prompt
    if prompt is not None and len(prompt) > MAX_PROMPT_CHARS:
        payload["prompt"] = prompt[:MAX_PROMPT_CHARS]
        payload["extra"] = {**decision.extra, "prompt_cut": MAX_PROMPT_CHARS}
    return payload


def encode(payload: Mapping[str, Any]) -> bytes:
    """One line: the record as JSON with the CRC-32 of its bytes as first key, ended by a newline.

    Raises
    ------
    TypeError
        A value that JSON cannot hold.
    """
    body = orjson.dumps(payload, default=_default, option=orjson.OPT_NON_STR_KEYS)
    return b'{"crc":"%08x",' % zlib.crc32(body) + body[1:] + b"\n"


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    raise TypeError(f"a {type(value).__name__} cannot be logged")


def fault(line: bytes) -> str | None:
    """Why a line (without its newline) is not a whole record, or None when it is."""
    if len(line) > MAX_LINE_BYTES:
        return f"longer than {MAX_LINE_BYTES} bytes"
    if not line.startswith(b'{"crc":"') or line[16:_HEAD] != b'",':
        return "not a record"
    try:
        expected = int(line[8:16], 16)
    except ValueError:
        return "not a record"
    return None if zlib.crc32(line[_HEAD:], zlib.crc32(b"{")) == expected else "checksum does not match"


def kind(line: bytes) -> str:
    """Kind of a whole record."""
    mark = b'"kind":"'
    if line.startswith(mark, _HEAD):
        start = _HEAD + len(mark)
        return line[start : line.index(b'"', start)].decode("ascii", "replace")
    return str(orjson.loads(line).get("kind", ""))


def unix_ms(when: datetime) -> int:
    """Unix time in ms of a naive UTC time."""
    delta = when - datetime(1970, 1, 1)
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000
