"""Usage of every shape the providers send, as disjoint buckets; what contradicts itself is unknown."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types import Usage as AnthropicUsage
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CompletionUsage

from router.providers.usage import anthropic_usage, openai_usage
from router.types import Usage

# input, output, cache read, cache write, reasoning; OpenAI's prompt tokens include both kinds of cache
OPENAI = {
    "plain": ({"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}, Usage(12, 7)),
    "cached": (
        {"prompt_tokens": 1200, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 1024}},
        Usage(176, 7, 1024),
    ),
    "cached nothing": (
        {"prompt_tokens": 12, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 0}},
        Usage(12, 7, 0),
    ),
    "all of it cached": (
        {"prompt_tokens": 1024, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 1024}},
        Usage(0, 7, 1024),
    ),
    "read and written": (
        {
            "prompt_tokens": 3000, "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 1500},
        },
        Usage(500, 5, 1000, 1500),
    ),
    "reasoning": (
        {"prompt_tokens": 12, "completion_tokens": 700, "completion_tokens_details": {"reasoning_tokens": 640}},
        Usage(12, 700, None, None, 640),
    ),
    "empty details": (
        {"prompt_tokens": 12, "completion_tokens": 7, "prompt_tokens_details": None, "completion_tokens_details": {}},
        Usage(12, 7),
    ),
    "responses names": (
        {
            "input_tokens": 1200, "output_tokens": 70, "input_tokens_details": {"cached_tokens": 200},
            "output_tokens_details": {"reasoning_tokens": 64},
        },
        Usage(1000, 70, 200, None, 64),
    ),
    "whole numbers as floats": ({"prompt_tokens": 12.0, "completion_tokens": 7.0}, Usage(12, 7)),
    "no output": ({"prompt_tokens": 12, "completion_tokens": 0}, Usage(12, 0)),
    "only input stated": ({"prompt_tokens": 12}, Usage(12, None)),
    "sdk object": (
        CompletionUsage.model_validate(
            {
                "prompt_tokens": 100, "completion_tokens": 9, "total_tokens": 109,
                "prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 4},
            }
        ),
        Usage(36, 9, 64, None, 4),
    ),
    "missing": (None, None),
    "empty": ({}, None),
    "text": ("12 tokens", None),
    "list": ([12, 7], None),
    "negative": ({"prompt_tokens": -3, "completion_tokens": 7}, None),
    "text count": ({"prompt_tokens": "12", "completion_tokens": 7}, None),
    "truth value": ({"prompt_tokens": True, "completion_tokens": 7}, None),
    "half a token": ({"prompt_tokens": 12.5, "completion_tokens": 7}, None),
    "not a number": ({"prompt_tokens": float("nan"), "completion_tokens": 7}, None),
    "infinite": ({"prompt_tokens": float("inf"), "completion_tokens": 7}, None),
    "beyond all measure": ({"prompt_tokens": 10**12, "completion_tokens": 7}, None),
    "more cached than input": (
        {"prompt_tokens": 12, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 13}},
        None,
    ),
    "more reasoning than output": (
        {"prompt_tokens": 12, "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 8}},
        None,
    ),
    "all zero": ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, None),
}  # fmt: skip

# Anthropic's input tokens leave out both kinds of cache
ANTHROPIC = {
    "plain": ({"input_tokens": 12, "output_tokens": 7}, Usage(12, 7)),
    "cache read": (
        {"input_tokens": 12, "output_tokens": 7, "cache_read_input_tokens": 1024},
        Usage(12, 7, 1024),
    ),
    "cache write": (
        {"input_tokens": 12, "output_tokens": 7, "cache_creation_input_tokens": 2048, "cache_read_input_tokens": 0},
        Usage(12, 7, 0, 2048),
    ),
    "more cached than input": (
        {"input_tokens": 3, "output_tokens": 7, "cache_read_input_tokens": 100_000},
        Usage(3, 7, 100_000),
    ),
    "split by lifetime": (
        {
            "input_tokens": 12, "output_tokens": 7, "cache_creation_input_tokens": 300,
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
        },
        Usage(12, 7, None, 300),
    ),
    "split alone": (
        {"input_tokens": 12, "output_tokens": 7, "cache_creation": {"ephemeral_1h_input_tokens": 200}},
        Usage(12, 7, None, 200),
    ),
    "split that does not add up": (
        {
            "input_tokens": 12, "output_tokens": 7, "cache_creation_input_tokens": 300,
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 100},
        },
        None,
    ),
    "thinking": (
        {"input_tokens": 12, "output_tokens": 700, "output_tokens_details": {"thinking_tokens": 640}},
        Usage(12, 700, None, None, 640),
    ),
    "more thinking than output": (
        {"input_tokens": 12, "output_tokens": 7, "output_tokens_details": {"thinking_tokens": 8}},
        None,
    ),
    "sdk object": (
        AnthropicUsage.model_validate({"input_tokens": 5, "output_tokens": 9, "cache_read_input_tokens": 64}),
        Usage(5, 9, 64),
    ),
    "stream cut before its end": ({"input_tokens": 12, "output_tokens": None}, Usage(12, None)),
    "everything from the cache": (
        {"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 10},
        Usage(0, 0, 10),
    ),
    "all zero": ({"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 0}, None),
    "negative": ({"input_tokens": 12, "output_tokens": -7}, None),
    "text count": ({"input_tokens": 12, "output_tokens": "many"}, None),
    "missing": (None, None),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "usage"), OPENAI.values(), ids=OPENAI)
def test_openai_usage(raw: Any, usage: Usage | None) -> None:
    assert openai_usage(raw) == usage


@pytest.mark.parametrize(("raw", "usage"), ANTHROPIC.values(), ids=ANTHROPIC)
def test_anthropic_usage(raw: Any, usage: Usage | None) -> None:
    assert anthropic_usage(raw) == usage


count = st.integers(0, 10**6)


@given(prompt=count, made=count, read=count, written=count, reasoning=count)
def test_openai_buckets_add_up_to_what_was_stated(
    prompt: int, made: int, read: int, written: int, reasoning: int
) -> None:
    usage = openai_usage(
        {
            "prompt_tokens": prompt, "completion_tokens": made,
            "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }
    )  # fmt: skip
    sound = read + written <= prompt and reasoning <= made and prompt + made > 0
    assert (usage is not None) == sound
    if usage is not None:
        assert (usage.input_tokens, usage.output_tokens) == (prompt - read - written, made)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([
        "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "cached_tokens", "cache_creation",
        "prompt_tokens_details", "output_tokens_details", "cache_creation_input_tokens", "thinking_tokens",
    ]), inner),
    max_leaves=12,
)  # fmt: skip


@given(raw=junk)
def test_no_shape_raises_or_gives_a_negative_count(raw: Any) -> None:
    for read in (openai_usage, anthropic_usage):
        usage = read(raw)
        if usage is not None:
            counts = [
                usage.input_tokens,
                usage.output_tokens,
                usage.cache_read_tokens,
                usage.cache_write_tokens,
            ]
            assert all(isinstance(n, int) and n >= 0 for n in counts if n is not None)
