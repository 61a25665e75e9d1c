"""Tools and tool turns reach each API in its own form, and the calls of a reply come back as data."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from fake_apis import FakeApis
from log_samples import Fixed

from router import AsyncRouter, Policy, Router
from router.prompts import ready
from router.providers.tools import (
    chat_choice,
    chat_messages,
    chat_tools,
    messages_choice,
    messages_messages,
    messages_tools,
    responses_choice,
    responses_input,
    responses_tools,
)
from router.types import Reply, ToolCall

SCHEMA = {"type": "object", "properties": {"of": {"type": "string"}}}
CHAT = {"type": "function", "function": {"name": "look_up", "description": "Looks up.", "parameters": SCHEMA}}
FLAT = {"type": "function", "name": "look_up", "description": "Looks up.", "parameters": SCHEMA}
MESSAGES = {"name": "look_up", "description": "Looks up.", "input_schema": SCHEMA}
APIS = ("openai", "responses", "anthropic")

CHAT_TURNS = [
    {"role": "user", "content": "capital of Japan?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"of": "Japan"}'}},
            {"id": "c2", "type": "function", "function": {"name": "look_up", "arguments": "not JSON"}},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "Tokyo"},
    {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "nothing"}]},
    {"role": "user", "content": "sure?"},
]
MESSAGES_TURNS = [
    {"role": "user", "content": "capital of Japan?"},
    {
        "role": "assistant",
        "content": [
            {"type": "tool_use", "id": "c1", "name": "look_up", "input": {"of": "Japan"}},
            {"type": "tool_use", "id": "c2", "name": "look_up", "input": {"arguments": "not JSON"}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": "Tokyo"},
            {"type": "tool_result", "tool_use_id": "c2", "content": "nothing"},
        ],
    },
    {"role": "user", "content": "sure?"},
]


@pytest.mark.parametrize("given", [CHAT, FLAT, MESSAGES], ids=["chat", "responses", "messages"])
def test_a_tool_in_any_form_is_sent_in_the_form_of_each_api(given: dict[str, Any]) -> None:
    assert chat_tools([given]) == [CHAT]
    assert responses_tools([given]) == [{**FLAT, "strict": False}]
    assert messages_tools([given]) == [MESSAGES]


def test_what_is_in_no_known_form_is_passed_on_as_it_is() -> None:
    own = {"type": "web_search_20260101", "name": "web_search"}
    assert chat_tools([own]) == responses_tools([own]) == messages_tools([own]) == [own]
    odd = {"type": "allowed_tools", "mode": "auto"}
    assert chat_choice(odd) == responses_choice(odd) == messages_choice(odd) == odd


def test_a_tool_that_takes_nothing_has_a_schema_where_one_is_needed() -> None:
    bare = {"type": "function", "function": {"name": "now"}}
    assert messages_tools([bare]) == [{"name": "now", "input_schema": {"type": "object", "properties": {}}}]


@pytest.mark.parametrize(
    ("given", "chat", "flat", "messages"),
    [
        ("auto", "auto", "auto", {"type": "auto"}),
        ("none", "none", "none", {"type": "none"}),
        ("required", "required", "required", {"type": "any"}),
        ({"type": "any"}, "required", "required", {"type": "any"}),
        (
            {"type": "auto", "disable_parallel_tool_use": True}, "auto", "auto",
            {"type": "auto", "disable_parallel_tool_use": True},
        ),
        (
            {"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "f"}},
            {"type": "function", "name": "f"}, {"type": "tool", "name": "f"},
        ),
        (
            {"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}},
            {"type": "function", "name": "f"}, {"type": "tool", "name": "f"},
        ),
    ],
)  # fmt: skip
def test_a_choice_of_tool_means_the_same_everywhere(given: Any, chat: Any, flat: Any, messages: Any) -> None:
    assert (chat_choice(given), responses_choice(given), messages_choice(given)) == (chat, flat, messages)


def test_tool_turns_are_translated_both_ways() -> None:
    assert messages_messages(CHAT_TURNS) == MESSAGES_TURNS
    back = chat_messages(MESSAGES_TURNS)
    assert [turn["role"] for turn in back] == ["user", "assistant", "tool", "tool", "user"]
    assert [call["id"] for call in back[1]["tool_calls"]] == ["c1", "c2"]
    assert back[2:4] == [
        {"role": "tool", "tool_call_id": "c1", "content": "Tokyo"},
        {"role": "tool", "tool_call_id": "c2", "content": "nothing"},
    ]


def test_turns_that_are_in_the_right_form_already_are_left_alone() -> None:
    assert chat_messages(CHAT_TURNS) == CHAT_TURNS
    assert messages_messages(MESSAGES_TURNS) == MESSAGES_TURNS


def test_text_beside_a_tool_turn_is_kept_and_thoughts_stay_with_their_maker() -> None:
    turns = [
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "one moment"},
                {"type": "tool_use", "id": "c1", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": None},
                {"type": "text", "text": "and?"},
            ],
        },
    ]
    said, result, asked = chat_messages(turns)
    assert said["content"] == [{"type": "text", "text": "one moment"}]
    assert (result["content"], asked["content"]) == ("", [{"type": "text", "text": "and?"}])
    again = messages_messages([said, result, asked])
    assert again[0]["content"] == turns[0]["content"][1:]


def test_a_conversation_becomes_items_of_the_responses_api() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    turns = [
        {"role": "system", "content": "be brief"},
        *MESSAGES_TURNS[:3],
        {"role": "assistant", "content": [{"type": "text", "text": "Tokyo."}]},
        {"role": "user", "content": [{"type": "text", "text": "and this?"}, picture]},
    ]
    assert responses_input(turns) == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "capital of Japan?"},
        {"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": '{"of": "Japan"}'},
        {
            "type": "function_call", "call_id": "c2", "name": "look_up",
            "arguments": '{"arguments": "not JSON"}',
        },
        {"type": "function_call_output", "call_id": "c1", "output": "Tokyo"},
        {"type": "function_call_output", "call_id": "c2", "output": "nothing"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Tokyo."}]},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "and this?"},
                {"type": "input_image", "image_url": "https://x/y.png", "detail": "auto"},
            ],
        },
    ]  # fmt: skip


def test_the_answer_of_a_tool_is_not_taken_for_what_the_user_said() -> None:
    assert ready(MESSAGES_TURNS[:3]).text == ready(CHAT_TURNS[:4]).text == "capital of Japan?"
    assert ready(CHAT_TURNS).text == "sure?"


async def asked_async(rule: Policy, data: Path, given: dict[str, Any], asked: dict[str, Any]) -> Reply:
    async with AsyncRouter(rule, data=data, **given) as router:
        return await router.ask(CHAT_TURNS[:4], **asked)


def policy(fake: FakeApis, api: str) -> Policy:
    provider, url = ("anthropic", fake.anthropic_url) if api == "anthropic" else ("openai", fake.openai_url)
    chosen = 'api = "responses"\n' if api == "responses" else ""
    return Policy.from_toml(
        f'threshold = 0\nfallback_model = "m"\n[[labels]]\nname = "simple"\nrubric = "?"\nmodel = "m"\n'
        f'[models.m]\nprovider = "{provider}"\nbase_url = "{url}"\n{chosen}'
    )


@pytest.mark.parametrize("fault", ["tool_call", "tool_named"])
@pytest.mark.parametrize("mode", ["ask", "stream", "async"])
@pytest.mark.parametrize("api", APIS)
def test_a_call_comes_back_with_its_name_and_arguments(
    fake: FakeApis, tmp_path: Path, api: str, mode: str, fault: str
) -> None:
    fake.always(fault)
    rule, given = policy(fake, api), {"classifier": Fixed({"simple": 0.9}), "log": False}
    asked = {"tools": [CHAT], "tool_choice": "required", "system": "use tools"}
    if mode == "async":
        reply = asyncio.run(asked_async(rule, tmp_path, given, asked))
    else:
        with Router(rule, data=tmp_path, **given) as router:
            if mode == "ask":
                reply = router.ask(CHAT_TURNS[:4], **asked)
            else:
                stream = router.stream(CHAT_TURNS[:4], **asked)
                assert list(stream) == []
                reply = stream.reply
    assert (reply.outcome, reply.text) == ("tool_call", "")
    assert reply.tool_calls == (ToolCall("c1", "look_up", '{"of": "Tokyo"}'),)
    body = fake.requests[0].body
    assert body["tools"] == {
        "openai": [CHAT], "responses": [{**FLAT, "strict": False}], "anthropic": [MESSAGES],
    }[api]  # fmt: skip
    assert body["tool_choice"] == ({"type": "any"} if api == "anthropic" else "required")
    sent = json.dumps(body["input" if api == "responses" else "messages"])
    assert "Tokyo" in sent
    assert ("tool_result" in sent) == (api == "anthropic")


@pytest.mark.parametrize("api", APIS)
def test_without_tools_nothing_is_said_about_them(fake: FakeApis, tmp_path: Path, api: str) -> None:
    with Router(policy(fake, api), data=tmp_path, classifier=Fixed({"simple": 0.9}), log=False) as router:
        reply = router.ask("hello", tool_choice="auto")
    assert (reply.text, reply.tool_calls) == (fake.text, ())
    assert not {"tools", "tool_choice"} & fake.requests[0].body.keys()


def test_the_responses_api_is_asked_to_keep_nothing(fake: FakeApis, tmp_path: Path) -> None:
    rule = policy(fake, "responses")
    with Router(rule, data=tmp_path, classifier=Fixed({"simple": 0.9}), log=False) as router:
        reply = router.ask("hello", system="be brief", max_tokens=99)
    assert (reply.text, reply.usage.input_tokens, reply.usage.output_tokens) == (fake.text, 12, 7)
    assert fake.requests[0].path == "/v1/responses"
    assert fake.requests[0].body == {
        "model": "m", "input": [{"role": "user", "content": "hello"}], "instructions": "be brief",
        "max_output_tokens": 99, "store": False,
    }  # fmt: skip
