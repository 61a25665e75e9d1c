"""Records of the spool: how a decision becomes one line, and how a line proves that it is whole."""

from __future__ import annotations

import os
import re
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import orjson

from router.log_settings import MAX_PROMPT_CHARS
from router.types import Decision

if TYPE_CHECKING:
    from router.log.privacy import Privacy

SCHEMA_VERSION = 1
MAX_LINE_BYTES = 1_000_000

CLOCK_STEP_MS = 10_000
"""A clock that is set back by less than this does not disturb the order of ids; further back is another time, meant."""

MARK = b'{"crc":"'
"""Begins every record. In a text it stands in none: JSON writes its quotes as \\"."""

_HEAD = len(b'{"crc":"00000000",')
_BRACE = ord("{")
_FIELDS = tuple(field.name for field in fields(Decision))
_values = attrgetter(*_FIELDS)
_TEMPLATE: dict[str, Any] = {"kind": "decision", "v": SCHEMA_VERSION, **dict.fromkeys(_FIELDS)}
_RANDOM_BLOCK = 4096
_MAX_DEPTH = 32
_NESTED = 16

_ids = threading.RLock()  # of a signal handler too, which may log in the middle
_last_ms = 0
_counter = 0
_random = b""
_random_at = 0


def uuid7(when_ms: int) -> str:
    """A UUIDv7 (RFC 9562) for a Unix time in ms: ids of one process sort in the order they were made.

    The 12 bits after the time count within a millisecond; when they run out the time part steps one ahead.
    """
    global _last_ms, _counter, _random, _random_at
    with _ids:
        if _last_ms - CLOCK_STEP_MS < when_ms <= _last_ms:
            when_ms = _last_ms
            _counter += 1
            if _counter > 0xFFF:
                when_ms, _counter = when_ms + 1, 0
        else:
            _counter = 0
        _last_ms = when_ms
        count = _counter
        if _random_at >= len(_random):
            _random, _random_at = os.urandom(_RANDOM_BLOCK), 0
        tail = int.from_bytes(_random[_random_at : _random_at + 8], "big") & 0x3FFF_FFFF_FFFF_FFFF
        _random_at += 8
    text = f"{when_ms << 80 | 0x7 << 76 | count << 64 | 0x2 << 62 | tail:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def decision_payload(decision: Decision, privacy: Privacy | None = None) -> dict[str, Any]:
    """The record of a decision; fields that are None are left out, and of the prompt what ``privacy`` keeps away."""
    payload = _TEMPLATE.copy()  # with room for every key: growing a dict key by key takes half as long again
    for name, value in zip(_FIELDS, _values(decision), strict=False):
        if value is None:
            del payload[name]
        else:
            payload[name] = value
    if not decision.scores:
        payload.pop("scores", None)
    if not decision.extra:
        payload.pop("extra", None)
    if not decision.failed_attempts:
        payload.pop("failed_attempts", None)
    # As text already, and written out: with cold caches every function, and the encoder's call back, costs a microsecond.
    cost = decision.cost_usd
    if cost.__class__ is Decimal:
        text = str(cost)
        payload["cost_usd"] = f"{cost:f}" if "E" in text else text
    cost = decision.classifier_cost_usd
    if cost.__class__ is Decimal:
        text = str(cost)
        payload["classifier_cost_usd"] = f"{cost:f}" if "E" in text else text
    cost = decision.failed_cost_usd
    if cost.__class__ is Decimal:
        text = str(cost)
        payload["failed_cost_usd"] = f"{cost:f}" if "E" in text else text
    if privacy is not None:
        privacy.apply(payload)
        return payload
    prompt = decision.prompt
    if prompt is not None and len(prompt) > MAX_PROMPT_CHARS:
        payload["prompt"] = prompt[:MAX_PROMPT_CHARS]
        payload["extra"] = {**decision.extra, "prompt_cut": MAX_PROMPT_CHARS}
    return payload


def feedback_payload(
    decision_id: str,
    verdict: str,
    judged_at: datetime,
    *,
    queue: str | None = None,
    inclusion_probability: float | None = None,
    correct_label: str | None = None,
    note: str | None = None,
    judged_by: str | None = None,
) -> dict[str, Any]:
    """The record of a person's judgement of a decision; the columns of ``feedback``."""
    return {
        "kind": "feedback",
        "decision_id": decision_id,
        "queue": queue,
        "inclusion_probability": inclusion_probability,
        "verdict": verdict,
        "correct_label": correct_label,
        "note": note,
        "judged_by": judged_by,
        "judged_at": judged_at,
    }


def view_payload(name: str, page: str, query: str | None, saved_at: datetime) -> dict[str, Any]:
    """The record of a named view of a page; a ``query`` of None takes the name away."""
    return {"kind": "view", "name": name, "page": page, "query": query, "saved_at": saved_at}


def erasure_payload(selector: str, n: int, erased_at: datetime) -> dict[str, Any]:
    """The record of an erasure: by what it was selected ("id", "session", "days", ...), never by which value."""
    return {"kind": "erasure", "selector": selector, "n": n, "erased_at": erased_at}


def line_of(record: Mapping[str, Any] | Decision) -> bytes:
    """The line of a record; a value that JSON cannot hold is replaced rather than losing the rest."""
    payload = decision_payload(record) if isinstance(record, Decision) else record
    try:
        body = orjson.dumps(payload, default=_default)
    except (TypeError, ValueError, RecursionError):  # orjson's own error is a TypeError
        return encode(salvage(payload))
    return _sealed(body)


def encode(payload: Mapping[str, Any]) -> bytes:
    """One line: the record as JSON with the CRC-32 of its bytes as first key, ended by a newline.

    Raises
    ------
    TypeError
        A value that JSON cannot hold (see ``salvage``), or something that is no mapping.
    """
    return _sealed(orjson.dumps(payload, default=_default))


def _sealed(body: bytes) -> bytes:
    if body[0] != _BRACE:
        raise TypeError("not a mapping, so no record")
    return b'{"crc":"%08x",' % zlib.crc32(body) + body[1:] + b"\n"


def salvage(value: Any, depth: int = 0) -> Any:
    """The same record with every value that JSON cannot hold replaced, so that one odd value does not lose the rest.

    Lone surrogates become U+FFFD, subclasses of numbers plain numbers, integers beyond 64 bits text, anything else the
    name of its type.
    """
    if value is None or isinstance(value, bool | datetime | Decimal):
        return value
    if isinstance(value, str):
        return str(value).encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int):
        return int(value) if value.bit_length() < 64 else f"<{value.bit_length()} bits>"
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return {salvage(_key(k), depth): salvage(v, depth + 1) for k, v in value.items()}
    if depth < _MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        return [salvage(item, depth + 1) for item in value]
    return f"<{type(value).__name__}>"


def _key(key: Any) -> str:
    return (
        key if isinstance(key, str) else f"<{type(key).__name__}>" if not isinstance(key, int) else f"{key}"
    )


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
    if not line.startswith(MARK) or line[16:_HEAD] != b'",':
        return "not a record"
    try:
        expected = int(line[8:16], 16)
    except ValueError:
        return "not a record"
    return None if zlib.crc32(line[_HEAD:], zlib.crc32(b"{")) == expected else "checksum does not match"


def pieces(line: bytes) -> Iterator[tuple[int, bytes]]:
    """A line that is not a whole record, cut so that every whole record in it stands alone: (place in the line, bytes).

    A record that was torn, or bytes that were put in, then cost no neighbour whose own bytes are all there.
    """
    starts = [found.start() for found in re.finditer(re.escape(MARK), line)]
    done = begun = 0
    for start, end in pairwise([*starts, len(line)]):
        if start < done:
            continue  # inside the record before
        whole = _whole(line[start:end])
        if not whole and begun < _NESTED and end < len(line):
            begun += 1
            whole = _whole(
                line[start:]
            )  # what a caller put into ``extra`` may look like the beginning of a record
        if whole:
            if start > done:
                yield done, line[done:start]
            yield start, line[start : start + whole]
            done = start + whole
        elif start > done:
            yield done, line[done:start]
            done = start
    if done < len(line):
        yield done, line[done:]


def _whole(part: bytes) -> int:
    """Length of the record that ``part`` begins with, 0 when there is none."""
    if not part.startswith(MARK) or part[16:_HEAD] != b'",':
        return 0
    try:
        expected = int(part[8:16], 16)
    except ValueError:
        return 0
    crc, done = zlib.crc32(b"{"), _HEAD
    while end := part.find(b"}", done, MAX_LINE_BYTES) + 1:
        crc = zlib.crc32(part[done:end], crc)
        if crc == expected:
            return end
        done = end
    return 0


def kind(line: bytes) -> str:
    """Kind of a whole record."""
    mark = b'"kind":"'
    if line.startswith(mark, _HEAD):
        start = _HEAD + len(mark)
        return line[start : line.index(b'"', start)].decode("ascii", "replace")
    return str(orjson.loads(line).get("kind", ""))


_EPOCH = datetime(1970, 1, 1)


def unix_ms(when: datetime) -> int:
    """Unix time in ms of a naive UTC time."""
    delta = when - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000


def _forked() -> None:
    # A lock held by another thread at the fork would never be given up, and shared random bytes would give equal ids.
    global _ids, _random
    _ids, _random = threading.RLock(), b""


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
