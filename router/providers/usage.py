"""Token counts of any provider in one normal form with disjoint buckets.

OpenAI's ``prompt_tokens`` include what was read from and written to the cache, Anthropic's ``input_tokens`` do not;
both count reasoning as output. Counts that contradict themselves give None: unknown, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.types import Usage

MAX_TOKENS = 1_000_000_000
"""No call has more; a larger count is a fault of the server."""


class _Contradiction(Exception):
    """A count that no call can have."""


def openai_usage(raw: Any) -> Usage | None:
    """Usage of a chat completion (or of the Responses API, whose names differ), as a mapping or an SDK object.

    None when nothing is stated or when it contradicts itself: a count that is negative or no whole number, more cached
    than input, more reasoning than output, all zero.
    """
    try:
        given = _count(raw, "prompt_tokens", "input_tokens")
        made = _count(raw, "completion_tokens", "output_tokens")
        details = _get(raw, "prompt_tokens_details", "input_tokens_details")
        read = _count(details, "cached_tokens")
        written = _count(details, "cache_write_tokens")
        reasoning = _count(
            _get(raw, "completion_tokens_details", "output_tokens_details"), "reasoning_tokens"
        )
        fresh = given
        if given is not None:
            fresh = given - (read or 0) - (written or 0)
            if fresh < 0:
                return None
        return _usage(fresh, made, read, written, reasoning)
    except _Contradiction:
        return None


def anthropic_usage(raw: Any) -> Usage | None:
    """Usage of a message, as a mapping or an SDK object; None as for ``openai_usage``."""
    try:
        written = _count(raw, "cache_creation_input_tokens")
        split = _get(raw, "cache_creation")
        parts = [_count(split, f"ephemeral_{span}_input_tokens") for span in ("5m", "1h")]
        if any(part is not None for part in parts):
            total = sum(part or 0 for part in parts)
            if written is not None and written != total:
                return None
            written = total
        return _usage(
            _count(raw, "input_tokens"),
            _count(raw, "output_tokens"),
            _count(raw, "cache_read_input_tokens"),
            written,
            _count(_get(raw, "output_tokens_details"), "thinking_tokens", "reasoning_tokens"),
        )
    except _Contradiction:
        return None


def _usage(
    fresh: int | None, made: int | None, read: int | None, written: int | None, reasoning: int | None
) -> Usage | None:
    if fresh is None and made is None:
        return None
    if not any((fresh, made, read, written)):
        return None
    if reasoning is not None and reasoning > (made or 0):
        return None
    return Usage(fresh, made, read, written, reasoning)


def _get(source: Any, *names: str) -> Any:
    """The first of these fields that is stated, of a mapping or an object."""
    for name in names:
        value = source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
        if value is not None:
            return value
    return None


def _count(source: Any, *names: str) -> int | None:
    value = _get(source, *names)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # some servers write 12.0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_TOKENS:
        raise _Contradiction
    return value
