"""Usage of every shape the providers send, as disjoint buckets; what contradicts itself is unknown."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types import Usage as AnthropicUsage
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CompletionUsage
from openai.types.responses import ResponseUsage

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
    "audio heard": ({"prompt_tokens": 12, "completion_tokens": 7, "prompt_tokens_details": {"audio_tokens": 9}}, None),
    "audio spoken": (
        {"prompt_tokens": 12, "completion_tokens": 7, "completion_tokens_details": {"audio_tokens": 3}}, None,
    ),
    "no audio": (
        {
            "prompt_tokens": 12, "completion_tokens": 7, "prompt_tokens_details": {"audio_tokens": 0},
            "completion_tokens_details": {"audio_tokens": 0},
        },
        Usage(12, 7),
    ),
}  # fmt: skip

# What servers that speak chat completions send, in the shapes that their documentation or source shows.
COMPATIBLE = {
    "cached tokens at the top": (
        {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110, "cached_tokens": 60}, Usage(40, 10, 60),
    ),
    "Anthropic's names for the cache, inside the input": (
        {
            "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110,
            "cache_read_input_tokens": 60, "cache_creation_input_tokens": 20,
        },
        Usage(20, 10, 60, 20),
    ),
    "Anthropic's names for the cache, beside the input": (
        {
            "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 190,
            "cache_read_input_tokens": 60, "cache_creation_input_tokens": 20,
        },
        Usage(100, 10, 60, 20),
    ),
    "LiteLLM, which tells it twice": (
        {
            "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110, "cache_read_input_tokens": 60,
            "prompt_tokens_details": {"cached_tokens": 60, "cache_creation_tokens": 20}, "cache_creation_input_tokens": 20,
        },
        Usage(20, 10, 60, 20),
    ),
    "two counts of the cache that differ": (
        {"prompt_tokens": 100, "completion_tokens": 10, "cached_tokens": 60, "prompt_tokens_details": {"cached_tokens": 50}},
        None,
    ),
    "more cached at the top than input": ({"prompt_tokens": 100, "completion_tokens": 10, "cached_tokens": 160}, None),
    "xAI, sources of a live search": (
        {"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 21, "num_sources_used": 5}, None,
    ),
    "xAI, no source": (
        {"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 21, "num_sources_used": 0}, Usage(12, 9),
    ),
    "Perplexity, its searches": (
        {"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 21, "num_search_queries": 3}, None,
    ),
    "OpenRouter, a web search": (
        {"prompt_tokens": 12, "completion_tokens": 9, "server_tool_use_details": {"web_search_requests": 1}}, None,
    ),
    "OpenRouter, no web search": (
        {"prompt_tokens": 12, "completion_tokens": 9, "server_tool_use_details": {"web_search_requests": 0}},
        Usage(12, 9),
    ),
    "Mistral, audio by the second": ({"prompt_tokens": 12, "completion_tokens": 9, "prompt_audio_seconds": 30}, None),
    "Mistral, no audio": ({"prompt_tokens": 12, "completion_tokens": 9, "prompt_audio_seconds": {}}, Usage(12, 9)),
    "vLLM": (
        {"prompt_tokens": 34, "total_tokens": 134, "completion_tokens": 100, "prompt_tokens_details": None},
        Usage(34, 100),
    ),
    "vLLM with prefix caching told": (
        {
            "prompt_tokens": 2000, "total_tokens": 2100, "completion_tokens": 100,
            "prompt_tokens_details": {"cached_tokens": 1984},
        },
        Usage(16, 100, 1984),
    ),
    "Ollama": ({"prompt_tokens": 26, "completion_tokens": 298, "total_tokens": 324}, Usage(26, 298)),
    "Ollama with the whole prompt in its own cache": (
        {"prompt_tokens": 0, "completion_tokens": 298, "total_tokens": 298}, Usage(0, 298),
    ),
    "LM Studio": (
        {
            "prompt_tokens": 24, "completion_tokens": 5, "total_tokens": 29,
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
        Usage(24, 5, None, None, 0),
    ),
    "llama.cpp": (
        {"completion_tokens": 8, "prompt_tokens": 15, "total_tokens": 23, "prompt_tokens_details": {"cached_tokens": 14}},
        Usage(1, 8, 14),
    ),
    "DeepSeek": (
        {
            "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 36, "prompt_tokens_details": {"cached_tokens": 64},
            "completion_tokens_details": {"reasoning_tokens": 12},
        },
        Usage(36, 20, 64, None, 12),
    ),
    "DeepSeek in its own words alone": (
        {
            "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 36,
        },
        Usage(36, 20, 64),
    ),
    "DeepSeek, hit and miss that do not add up": (
        {
            "prompt_tokens": 100, "completion_tokens": 20, "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 64,
        },
        None,
    ),
    "DeepSeek, told twice and not the same": (
        {
            "prompt_tokens": 100, "completion_tokens": 20, "prompt_cache_hit_tokens": 64,
            "prompt_tokens_details": {"cached_tokens": 32},
        },
        None,
    ),
    "Groq": (
        {
            "queue_time": 0.037, "prompt_tokens": 18, "prompt_time": 0.0007, "completion_tokens": 556,
            "completion_time": 0.46, "total_tokens": 574, "total_time": 0.46,
        },
        Usage(18, 556),
    ),
    "OpenRouter": (
        {
            "prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196, "cost": 0.95,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 100, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0}, "cost_details": {"upstream_inference_cost": 19},
        },
        Usage(94, 2, 0, 100, 0),
    ),
    "xAI, reasoning beside the output": (
        {
            "prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 661,
            "completion_tokens_details": {"reasoning_tokens": 640},
        },
        Usage(12, 649, None, None, 640),
    ),
    "Gemini, thoughts in the total alone": (
        {"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 661}, None,
    ),
    "a total that is too small": ({"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 12}, None),
    "a total that is left out as zero": ({"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 0}, Usage(12, 9)),
    "Responses API, cache write by lifetime": (
        {
            "input_tokens": 3000, "output_tokens": 50, "total_tokens": 3050,
            "input_tokens_details": {
                "cached_tokens": 1000, "cache_write_tokens": 1500,
                "cache_write_tokens_details": {"ttl_30m_tokens": 1000, "ttl_12h_tokens": 500},
            },
            "output_tokens_details": {"reasoning_tokens": 0},
        },
        Usage(500, 50, 1000, 1500, 0),
    ),
    "Responses API, lifetimes that do not add up": (
        {
            "input_tokens": 3000, "output_tokens": 50, "total_tokens": 3050,
            "input_tokens_details": {
                "cached_tokens": 1000, "cache_write_tokens": 1500,
                "cache_write_tokens_details": {"ttl_30m_tokens": 1000, "ttl_12h_tokens": 0},
            },
        },
        None,
    ),
    "Responses API, SDK object": (
        ResponseUsage.model_validate(
            {
                "input_tokens": 75, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": 1186, "output_tokens_details": {"reasoning_tokens": 1024}, "total_tokens": 1261,
            }
        ),
        Usage(75, 1186, 0, 0, 1024),
    ),
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
        Usage(12, 7, None, 300, cache_write_1h_tokens=200),
    ),
    "split alone": (
        {"input_tokens": 12, "output_tokens": 7, "cache_creation": {"ephemeral_1h_input_tokens": 200}},
        Usage(12, 7, None, 200, cache_write_1h_tokens=200),
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
    "web search": ({"input_tokens": 12, "output_tokens": 7, "server_tool_use": {"web_search_requests": 1}}, None),
    "sdk object with a web search": (
        AnthropicUsage.model_validate(
            {"input_tokens": 5, "output_tokens": 9, "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0}}
        ),
        None,
    ),
    "fast mode": ({"input_tokens": 12, "output_tokens": 7, "speed": "fast"}, None),
    "inference in the US": ({"input_tokens": 12, "output_tokens": 7, "inference_geo": "us"}, None),
    "nothing charged beside": (
        {
            "input_tokens": 12, "output_tokens": 7, "speed": "standard", "inference_geo": "global",
            "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
        },
        Usage(12, 7),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "usage"), COMPATIBLE.values(), ids=COMPATIBLE)
def test_usage_of_compatible_servers_and_of_the_responses_api(raw: Any, usage: Usage | None) -> None:
    assert openai_usage(raw) == usage


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
