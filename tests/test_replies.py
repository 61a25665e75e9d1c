"""Replies that are rare or of servers with ways of their own: tool calls, charges and endings as they are handed back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_apis import FakeApis

from router.config import Endpoint
from router.policy import Model
from router.providers import provider_for
from router.types import Completion, ToolCall, Usage

Ask = Callable[..., Completion]
COUNTS = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
TOKENS = {"input_tokens": 10, "output_tokens": 5}
HELLO = {"type": "text", "text": "hello"}
SAID = {
    "type": "message",
    "id": "msg",
    "content": [{"type": "output_text", "text": "hello", "annotations": []}],
}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeApis]:
    with FakeApis() as fake:
        yield fake


@pytest.fixture
def ask(server: FakeApis) -> Iterator[Ask]:
    """One call of an API that answers with this whole reply, or with this list of events."""
    server.reset()

    def call(api: str, reply: Any) -> Completion:
        server.verbatim = reply
        sdk = "anthropic" if api == "messages" else "openai"
        url = server.anthropic_url if sdk == "anthropic" else server.openai_url
        provider = provider_for(sdk, Endpoint(sdk, "sk-key", url))
        model = Model("m", max_tokens=50, api="responses" if api == "responses" else "chat")
        asked = [{"role": "user", "content": "hi"}]
        try:
            if not isinstance(reply, list):
                return provider.complete(model, asked, deadline_s=5)
            stream = provider.stream(model, asked, deadline_s=5)
            assert "".join(stream) == stream.completion.text
            return stream.completion
        finally:
            provider.close()

    yield call
    server.reset()


def chat(finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    told = {"role": "assistant", "content": None, **message}
    choice = {"index": 0, "message": told, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion", "choices": [choice], "usage": COUNTS}


def chunk(finish: str | None = None, usage: Any = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion.chunk", "choices": [choice], "usage": usage}


def message(*content: Any, stop: str | None = "end_turn", **usage: Any) -> dict[str, Any]:
    head = {"id": "m", "type": "message", "role": "assistant", "model": "m"}
    return {**head, "content": list(content), "stop_reason": stop, "usage": {**TOKENS, **usage}}


def message_events(*blocks: Any) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [{"type": "message_start", "message": message(stop=None)}]
    for index, block in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events.append({"type": "content_block_stop", "index": index})
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}
    return [*events, end, {"type": "message_stop"}]


def response(*output: Any, status: str = "completed", **told: Any) -> dict[str, Any]:
    usage = {**TOKENS, "total_tokens": 15}
    head = {"id": "r", "object": "response", "created_at": 1, "model": "m", "error": None}
    return {**head, "status": status, "output": list(output), "usage": usage, **told}


def response_events(end: dict[str, Any], *items: Any, text: str = "") -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [{"type": "response.created", "response": response(status="in_progress")}]
    for index, item in enumerate(items):
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    place = {"output_index": len(items), "content_index": 0, "item_id": "msg"}
    if text:
        events.append({"type": "response.output_text.delta", **place, "delta": text})
    return [*events, {"type": f"response.{end['status']}", "response": end}]


SQL = 'SELECT "ü"\n'
CUSTOM = {"id": "c1", "type": "custom", "custom": {"name": "run_sql", "input": SQL}}
CUSTOM_ITEM = {"type": "custom_tool_call", "id": "x", "call_id": "c1", "name": "run_sql", "input": SQL}
BEGUN = {"id": "c1", "type": "custom", "custom": {"name": "run_sql", "input": ""}}


@pytest.mark.parametrize(
    ("api", "reply"),
    [
        ("chat", chat("tool_calls", tool_calls=[CUSTOM])),
        (
            "chat",
            [
                chunk(tool_calls=[{"index": 0, **BEGUN}]),
                chunk(tool_calls=[{"index": 0, "custom": {"input": SQL[:4]}}]),
                chunk(tool_calls=[{"index": 0, "custom": {"input": SQL[4:]}}]),
                chunk("tool_calls"),
            ],
        ),
        ("responses", response(CUSTOM_ITEM)),
        ("responses", response_events(response(CUSTOM_ITEM), CUSTOM_ITEM)),
    ],
    ids=["chat whole", "chat stream", "responses whole", "responses stream"],
)
def test_a_call_of_a_custom_tool_has_its_name_and_its_text_as_given(ask: Ask, api: str, reply: Any) -> None:
    completion = ask(api, reply)
    assert completion.tool_calls == (ToolCall("c1", "run_sql", SQL),)
    assert completion.outcome == "tool_call"


def test_a_custom_tool_that_was_given_nothing_is_given_no_json(ask: Ask) -> None:
    assert ask("chat", chat("tool_calls", tool_calls=[BEGUN])).tool_calls == (ToolCall("c1", "run_sql", ""),)


def called(name: Any, arguments: Any) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize("given", [{"of": "Köln"}, [1, "ü"], {}], ids=json.dumps)
def test_arguments_that_are_no_text_are_handed_back_as_json(ask: Ask, given: Any) -> None:
    use = {"type": "tool_use", "id": "c1", "name": "f", "input": given}
    item = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": given}
    begun = {"index": 0, **called("f", given)}
    for api, reply in (
        ("chat", chat("tool_calls", tool_calls=[called("f", given)])),
        ("chat", [chunk(tool_calls=[begun]), chunk("tool_calls")]),
        ("chat", chat("function_call", function_call={"name": "f", "arguments": given})),
        ("messages", message(use, stop="tool_use")),
        ("messages", message_events(use)),
        ("responses", response(item)),
        ("responses", response_events(response(item), item)),
    ):
        completion = ask(api, reply)
        (call,) = completion.tool_calls
        wanted = json.dumps(given, ensure_ascii=False)
        assert (completion.outcome, call.name, call.arguments) == ("tool_call", "f", wanted), (api, reply)


@pytest.mark.parametrize(
    ("api", "reply"),
    [
        ("chat", chat("tool_calls", tool_calls=["x", None])),
        ("chat", chat("tool_calls", tool_calls=[called("f", "{}"), called("", "{}")])),
        ("chat", chat("tool_calls", tool_calls=[called(None, "{}")])),
        ("chat", chat("tool_calls", tool_calls=[{"id": "c1", "type": "custom", "custom": {"input": "x"}}])),
        ("chat", [chunk(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}]), chunk("tool_calls")]),
        ("messages", message({"type": "tool_use", "id": "c1", "input": {}}, stop="tool_use")),
        ("messages", message_events({"type": "tool_use", "id": "c1", "name": "", "input": {}})),
        ("responses", response({"type": "function_call", "call_id": "c1", "arguments": "{}"})),
    ],
)  # fmt: skip
def test_a_reply_with_a_call_of_no_name_is_malformed(ask: Ask, api: str, reply: Any) -> None:
    completion = ask(api, reply)
    assert (completion.outcome, completion.error_type) == ("malformed", "MalformedReply")
    assert all(call.name for call in completion.tool_calls)


def test_a_name_that_comes_after_the_arguments_began_is_a_name(ask: Ask) -> None:
    pieces = [{"arguments": '{"a"'}, {"name": "f", "arguments": ": 1}"}]
    events = [chunk(tool_calls=[{"index": 0, "id": "c1", "function": piece}]) for piece in pieces]
    completion = ask("chat", [*events, chunk("tool_calls")])
    assert completion.tool_calls == (ToolCall("c1", "f", '{"a": 1}'),)
    assert completion.outcome == "tool_call"


def test_a_function_beside_an_empty_custom_tool_is_the_call(ask: Ask) -> None:
    both = {**called("f", "{}"), "custom": {}}
    assert ask("chat", chat(tool_calls=[both])).tool_calls == (ToolCall("c1", "f", "{}"),)


def test_an_empty_older_call_beside_text_is_none(ask: Ask) -> None:
    older = {"name": "", "arguments": ""}
    completion = ask("chat", chat(content="hello", function_call=older))
    assert (completion.outcome, completion.text, completion.tool_calls) == ("ok", "hello", ())


RAN = {"type": "server_tool_use", "id": "s", "name": "code_execution", "input": {"code": "1"}}
RESULT = {"type": "bash_code_execution_tool_result", "tool_use_id": "s", "content": {"stdout": "1"}}
SEARCH = {"type": "web_search_call", "id": "w", "status": "completed"}


@pytest.mark.parametrize(
    ("api", "reply"),
    [
        ("messages", message(RAN, HELLO)),
        ("messages", message({**RAN, "name": "web_search"}, HELLO)),
        ("messages", message(RESULT, HELLO)),
        ("messages", message_events(RAN, HELLO)),
        ("messages", message_events(RESULT, HELLO)),
        ("messages", message(HELLO, server_tool_use_details={"web_search_requests": 1})),
        ("responses", response(SEARCH, SAID)),
        ("responses", response_events(response(), SEARCH, text="hello")),
        ("responses", response_events(response(SEARCH, SAID), text="hello")),
        ("chat", {**chat(content="hello"), "usage": {**COUNTS, "num_search_queries": 2}}),
    ],
)
def test_a_tool_that_the_provider_ran_makes_the_usage_unknown(ask: Ask, api: str, reply: Any) -> None:
    completion = ask(api, reply)
    assert (completion.outcome, completion.text, completion.usage) == ("ok", "hello", None)
    assert completion.tool_calls == ()


@pytest.mark.parametrize("end", ["added", "done"])
def test_a_stream_cut_after_the_provider_ran_a_tool_has_no_known_usage(ask: Ask, end: str) -> None:
    ran = {"type": f"response.output_item.{end}", "output_index": 0, "item": SEARCH}
    failed = response(status="failed", error={"code": "server_error", "message": "x"})
    begun, *rest = response_events(failed, text="hello")
    completion = ask("responses", [begun, ran, *rest])
    assert (completion.outcome, completion.usage) == ("cut_stream", None)


def test_a_tool_of_the_callers_own_leaves_the_usage_known(ask: Ask) -> None:
    use = {"type": "tool_use", "id": "c1", "name": "f", "input": {}}
    for api, reply in (
        ("messages", message(use, stop="tool_use")),
        ("messages", message_events(use)),
        ("responses", response_events(response(), CUSTOM_ITEM)),
    ):
        assert ask(api, reply).usage == Usage(10, 5), api


@pytest.mark.parametrize(
    "reply",
    [chat("error", content="hel"), [chunk(content="hel"), chunk("error")], chat("error")],
    ids=["whole", "stream", "no text"],
)
def test_a_chat_that_finished_by_an_error_is_no_good_reply(ask: Ask, reply: Any) -> None:
    completion = ask("chat", reply)
    assert (completion.outcome, completion.error_type) == ("error", "FailedReply")
    assert completion.text in ("hel", "")
    assert completion.finish_reason == "error"


@pytest.mark.parametrize("reason", [None, "steered", "max_messages"])
@pytest.mark.parametrize(("item", "outcome"), [(SAID, "cut_stream"), (None, "malformed")])
def test_a_response_that_is_incomplete_for_no_known_reason_is_no_good_reply(
    ask: Ask, item: Any, outcome: str, reason: str | None
) -> None:
    told = {"reason": reason} if reason else None
    whole = response(*([item] if item else []), status="incomplete", incomplete_details=told)
    for reply in (whole, response_events(whole, text="hello" if item else "")):
        completion = ask("responses", reply)
        assert (completion.outcome, completion.error_type) == (outcome, "UnfinishedReply")
        assert completion.text == ("hello" if item else "")
        assert completion.finish_reason == (reason or "incomplete")
        assert completion.usage == Usage(10, 5)  # the last word about it


@pytest.mark.parametrize(
    ("reason", "outcome"), [("max_output_tokens", "length"), ("content_filter", "content_filter")]
)
def test_a_response_that_is_incomplete_for_a_known_reason_is_a_reply(
    ask: Ask, reason: str, outcome: str
) -> None:
    whole = response(SAID, status="incomplete", incomplete_details={"reason": reason})
    completion = ask("responses", whole)
    assert (completion.outcome, completion.error_type) == (outcome, None)


POLICIES = ("misalignment_policy_violation", "bio_policy", "image_content_policy_violation")


@pytest.mark.parametrize("code", POLICIES)
def test_a_response_that_a_policy_forbids_is_filtered(ask: Ask, code: str) -> None:
    for item in (SAID, None):
        output, text = ([item], "hello") if item else ([], "")
        failed = response(*output, status="failed", error={"code": code, "message": "x"})
        for reply in (failed, response_events(failed, text=text)):
            completion = ask("responses", reply)
            assert (completion.outcome, completion.text, completion.attempts) == ("content_filter", text, 1)
            assert (completion.error_type, completion.usage) == (None, Usage(10, 5))


def test_an_error_event_about_a_policy_is_filtered(ask: Ask) -> None:
    begun = response_events(response(), text="hello")[:-1]
    completion = ask("responses", [*begun, {"type": "error", "code": "bio_policy", "message": "x"}])
    assert (completion.outcome, completion.text, completion.usage) == ("content_filter", "hello", None)


def test_an_ending_that_is_told_twice_is_the_last_one(ask: Ask) -> None:
    events = response_events(response(status="incomplete"), text="hello")
    completion = ask("responses", [*events, {"type": "error", "code": "bio_policy", "message": "x"}])
    assert (completion.outcome, completion.error_type) == ("content_filter", None)


@pytest.mark.parametrize(
    ("code", "whole"),
    [("server_error", "broken_off"), ("invalid_image", "rejected"), ("data_residency_mismatch", "error")],
)
def test_a_whole_response_that_failed_after_text_is_what_its_code_says(
    ask: Ask, code: str, whole: str
) -> None:
    failed = response(SAID, status="failed", error={"code": code, "message": "x"})
    completion = ask("responses", failed)
    assert (completion.outcome, completion.error_type) == (whole, "FailedResponse")
    assert (completion.text, completion.usage) == ("hello", Usage(10, 5))


def test_a_streamed_response_that_broke_off_after_text_was_cut(ask: Ask) -> None:
    failed = response(status="failed", error={"code": "server_error", "message": "x"})
    completion = ask("responses", response_events(failed, text="hello"))
    assert (completion.outcome, completion.text) == ("cut_stream", "hello")


RUNNING = {"prompt_tokens": 10, "completion_tokens": 1}


@pytest.mark.parametrize(
    ("events", "usage"),
    [
        ([chunk(usage=RUNNING, content="a"), chunk("stop", content="b")], Usage(10, None)),
        ([chunk(usage=RUNNING, content="a"), chunk(reasoning_content="hm"), chunk("stop")], Usage(10, None)),
        ([chunk(usage={"completion_tokens": 1}, content="a"), chunk("stop", content="b")], None),
        ([chunk(content="a"), chunk("stop", usage=RUNNING, content="b")], Usage(10, 1)),
        ([chunk(content="a", usage=RUNNING), chunk("stop", content="")], Usage(10, 1)),
        (
            [chunk(content="a", usage=RUNNING), chunk("stop", content="b"), {"choices": [], "usage": COUNTS}],
            Usage(10, 5),
        ),
    ],
    ids=["text goes on", "thought goes on", "no input told", "told with the last text", "no more text", "told at the end"],
)  # fmt: skip
def test_a_count_that_ran_along_is_not_the_output_of_text_that_went_on(
    ask: Ask, events: Any, usage: Usage | None
) -> None:
    completion = ask("chat", events)
    assert (completion.outcome, completion.usage) == ("ok", usage)


def test_text_and_calls_that_stand_only_in_the_last_event_are_handed_back(ask: Ask) -> None:
    completion = ask("responses", response_events(response(SAID, CUSTOM_ITEM)))
    assert (completion.outcome, completion.text) == ("tool_call", "hello")
    assert completion.tool_calls == (ToolCall("c1", "run_sql", SQL),)
    said = ask("responses", response_events(response(SAID)))
    assert (said.outcome, said.text, said.usage) == ("ok", "hello", Usage(10, 5))
    assert said.first_token_ms is not None


def test_what_the_events_gave_is_not_taken_again_from_the_last_one(ask: Ask) -> None:
    completion = ask("responses", response_events(response(CUSTOM_ITEM, SAID), CUSTOM_ITEM, text="hello"))
    assert completion.text == "hello"
    assert completion.tool_calls == (ToolCall("c1", "run_sql", SQL),)
