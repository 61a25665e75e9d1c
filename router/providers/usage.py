"""Token counts of any provider in one normal form with disjoint buckets.

OpenAI's ``prompt_tokens`` include what was read from and written to the cache, Anthropic's ``input_tokens`` do not;
both count reasoning as output. Some compatible servers do not, which their total tells. DeepSeek and others
name cached tokens in words of their own. Counts that contradict themselves give None: unknown, never zero. So does what
is charged beside or at other rates than tokens of text (audio, images made, tools the provider ran): it has no price here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from router.types import Usage

CHARGED_BESIDE = (
    "server_tool_use",
    "server_tool_use_details",
    "num_sources_used",
    "num_search_queries",
    "prompt_audio_seconds",
)
"""Fields of a usage that count what is charged beside tokens: tools that the provider ran, searches, audio by time."""

MAX_TOKENS = 1_000_000_000
"""No call has more; a larger count is a fault of the server."""


class _Contradiction(Exception):
    """A count that no call can have."""


def openai_usage(raw: Any) -> Usage | None:
    """Usage of a chat completion (or of the Responses API, whose names differ), as a mapping or an SDK object.

    None when nothing is stated, when something else than tokens of text is charged, or when it contradicts itself: a count that is negative or no whole number, more cached
    than input, parts that do not add up, more reasoning than output, all zero; and when the total is more than input and
    output without reasoning that explains it, as then some output was billed that is not told.
    """
    try:
        given = _count(raw, "prompt_tokens", "input_tokens")
        made = _count(raw, "completion_tokens", "output_tokens")
        details = _get(raw, "prompt_tokens_details", "input_tokens_details")
        told = _get(raw, "completion_tokens_details", "output_tokens_details")
        dearer = (_count(details, "audio_tokens"), _count(told, "audio_tokens"), _count(told, "image_tokens"))
        if any(dearer) or _charged_beside(raw):
            return None  # at the rate of text it would look fully known, and be several times too low
        read = _read_from_cache(raw, details, given)
        written = _count(details, "cache_write_tokens", "cache_creation_tokens")
        split = _get(details, "cache_write_tokens_details")
        parts = [_count(split, f"ttl_{span}_tokens") for span in ("30m", "12h")]
        if any(part is not None for part in parts):
            written = _agreed(written, sum(part or 0 for part in parts))
        if (made_there := _count(raw, "cache_creation_input_tokens")) is not None:
            written = _agreed(written, made_there)
        reasoning = _count(told, "reasoning_tokens")
        total = _count(raw, "total_tokens")
        given = _all_input(raw, given, made, (read or 0) + (written or 0), total)
        made = _all_output(given, made, reasoning, total)
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
    if (
        _get(raw, "speed") not in (None, "standard")
        or _get(raw, "inference_geo") == "us"
        or _charged_beside(raw)
    ):
        return None  # fast mode and inference in the US cost a multiple of the rates, a web search a fee of its own
    try:
        written = _count(raw, "cache_creation_input_tokens")
        split = _get(raw, "cache_creation")
        parts = [_count(split, f"ephemeral_{span}_input_tokens") for span in ("5m", "1h")]
        if any(part is not None for part in parts):
            written = _agreed(written, sum(part or 0 for part in parts))
        usage = _usage(
            _count(raw, "input_tokens"),
            _count(raw, "output_tokens"),
            _count(raw, "cache_read_input_tokens"),
            written,
            _count(_get(raw, "output_tokens_details"), "thinking_tokens", "reasoning_tokens"),
        )
        return usage if usage is None or not parts[1] else replace(usage, cache_write_1h_tokens=parts[1])
    except _Contradiction:
        return None


def _charged_beside(raw: Any) -> bool:
    """Whether anything is counted that is charged beside tokens."""
    return any(_counts(_get(raw, name)) for name in CHARGED_BESIDE)


def _counts(used: Any) -> bool:
    """Whether a count, or any in a record of counts, is not zero."""
    if used is None:
        return False
    if isinstance(used, (list, int, float, str)):
        return bool(used)
    if not isinstance(used, Mapping):
        used = {**getattr(used, "__dict__", {}), **(getattr(used, "model_extra", None) or {})}
    return any(used.values())


def _read_from_cache(raw: Any, details: Any, given: int | None) -> int | None:
    read, hit = _count(details, "cached_tokens"), _count(raw, "prompt_cache_hit_tokens")
    missed = _count(raw, "prompt_cache_miss_tokens")
    if None not in (hit, missed, given) and (hit or 0) + (missed or 0) != given:
        raise _Contradiction
    for told in (hit, _count(raw, "cached_tokens"), _count(raw, "cache_read_input_tokens")):
        read = read if told is None else _agreed(read, told)
    return read


def _all_input(raw: Any, given: int | None, made: int | None, cached: int, total: int | None) -> int | None:
    """The input with what is cached, which a gateway that keeps Anthropic's names may count beside it, as its total tells."""
    beside = _get(raw, "cache_read_input_tokens", "cache_creation_input_tokens") is not None
    if beside and given is not None and made is not None and total == given + made + cached:
        return given + cached
    return given


def _agreed(stated: int | None, added: int) -> int:
    """A count that is told twice; both must be the same."""
    if stated is not None and stated != added:
        raise _Contradiction
    return added


def _all_output(given: int | None, made: int | None, reasoning: int | None, total: int | None) -> int | None:
    """The output with its reasoning, which some servers count beside it: their total then holds all three."""
    if given is None or made is None or not total or total == given + made:
        return made
    if reasoning and total == given + made + reasoning:
        return made + reasoning
    raise _Contradiction


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
