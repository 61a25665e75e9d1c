"""Every fault of a provider ends as a typed completion in time, over both real SDKs against a loopback server."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from fake_apis import BODIES, FAULTS, REPLIES, STREAMS, FakeApis

from router.config import Endpoint
from router.errors import ConfigurationError
from router.policy import Model
from router.providers import provider_for
from router.providers.base import MAX_ATTEMPTS, Provider
from router.providers.call import SETTLE_S, clean
from router.providers.deadline import backoff_s, retry_after_s
from router.providers.http import json_of
from router.types import Completion, Usage

KEY = "sk-canary-1f2e3d4c"
PROMPT = "canary prompt: what is the capital of Japan?"
MODEL = Model("model-one", max_tokens=64)
MESSAGES = [{"role": "user", "content": PROMPT}]
SDKS = ("openai", "anthropic")
DEADLINE_S = 0.6


@dataclass
class Lab:
    """One server and a provider of each SDK for it."""

    fake: FakeApis
    providers: dict[str, Provider]

    def __getitem__(self, sdk: str) -> Provider:
        return self.providers["openai" if sdk == "responses" else sdk]


@pytest.fixture(scope="module")
def shared() -> Iterator[Lab]:
    with FakeApis() as fake:
        providers = {sdk: provider_for(sdk, endpoint_of(fake, sdk)) for sdk in SDKS}
        yield Lab(fake, providers)
        for provider in providers.values():
            provider.close()


@pytest.fixture
def lab(shared: Lab) -> Lab:
    shared.fake.reset()
    return shared


def endpoint_of(fake: FakeApis, sdk: str) -> Endpoint:
    return Endpoint(sdk, KEY, fake.openai_url if sdk == "openai" else fake.anthropic_url)


def streamed(
    provider: Provider, model: Model = MODEL, deadline_s: float = 5.0
) -> tuple[list[str], Completion]:
    stream = provider.stream(model, MESSAGES, deadline_s=deadline_s)
    return list(stream), stream.completion


STATUS_OUTCOMES = {
    "301": "rejected", "307": "rejected", "400": "rejected", "401": "auth", "402": "auth", "403": "auth",
    "404": "not_found", "408": "timeout", "409": "rejected", "413": "rejected", "422": "rejected",
    "429": "rate_limited", "429-after-1": "rate_limited", "429-after-3": "rate_limited", "429-after-200": "rate_limited",
    "429-after-minus": "rate_limited", "429-after-nan": "rate_limited", "429-after-huge": "rate_limited",
    "429-after-past": "rate_limited", "500": "server_error", "502": "server_error", "503": "overloaded",
    "529": "overloaded",
}  # fmt: skip
SAME_OUTCOMES = STATUS_OUTCOMES | {
    "cut_json": "malformed", "empty_body": "malformed", "html": "malformed", "null": "malformed",
    "object": "malformed", "list": "malformed", "text_body": "malformed", "not_utf8": "malformed",
    "closed": "broken_off", "hang": "timeout", "drip": "timeout", "drip_headers": "timeout", "gzip": "malformed", "gzip_error": "rate_limited",
    "short_body": "broken_off", "huge": "malformed", "ok": "ok", "empty_content": "empty", "whitespace": "empty", "refusal": "refusal",
    "tool_call": "tool_call", "thinking_first": "ok", "no_usage": "ok", "bad_usage": "ok", "length": "length",
    "surrogate": "ok", "too_many_tokens": "rejected", "tool_named": "tool_call",
}  # fmt: skip
STREAM_OUTCOMES = {
    "cut_stream": "cut_stream", "cut_chunk": "cut_stream", "cut_before": "broken_off", "silent_end": "cut_stream",
    "error_event": "cut_stream", "bad_json_event": "malformed", "stall": "timeout",
    "stall_at_end": "ok", "error_first": "broken_off",
}  # fmt: skip
OWN = {
    ("openai", False, "null_content"): "empty",
    ("openai", False, "content_filter"): "content_filter",
    ("openai", True, "content_filter"): "content_filter",
    ("openai", False, "no_choices"): "empty",
    ("openai", True, "no_choices"): "cut_stream",  # no finish reason ever came
    ("openai", True, "null_content"): "empty",
    ("anthropic", False, "null_content"): "malformed",  # its content is always a list
    ("anthropic", True, "null_content"): "empty",
    ("anthropic", False, "no_choices"): "empty",
    ("anthropic", True, "no_choices"): "empty",
    ("anthropic", False, "content_filter"): "refusal",  # it has no other word for it
    ("anthropic", True, "content_filter"): "refusal",
    ("anthropic", False, "reject_max_tokens"): "rejected",
    ("anthropic", True, "reject_max_tokens"): "rejected",
}


# Where the Responses API differs: its last event holds everything about the end, and a reply may say that it failed.
RESPONSES = {
    "null_content": "empty", "no_choices": "empty", "content_filter": "content_filter", "reject_max_tokens": "ok",
    "failed_reply": "broken_off", "failed_image": "rejected",
}  # fmt: skip
RESPONSES_STREAM = RESPONSES | {
    "error_event": "cut_stream",
    "error_first": "broken_off",
    "stall_at_end": "timeout",
}
OWN |= {("responses", False, fault): outcome for fault, outcome in RESPONSES.items()}
OWN |= {("responses", True, fault): outcome for fault, outcome in RESPONSES_STREAM.items()}


def expected(sdk: str, stream: bool, fault: str) -> str:
    own = OWN.get((sdk, stream, fault))
    return own or SAME_OUTCOMES.get(fault) or (STREAM_OUTCOMES.get(fault, "ok") if stream else "ok")


# A server that pours a gigabyte is stopped at the size limit or at the deadline, whichever comes first; a call that is
# tried again may meet the deadline on the way.
MAYBE_LATE = {
    "huge",
    "cut_before",
    "408",
    "429-after-nan",
    "500",
    "502",
    "529",
    "closed",
    "short_body",
    "gzip_error",
    "error_first",
    "failed_reply",
}


# Statuses and wire faults are met before any API's format is read: one SDK, one path.
CASES = [(sdk, fault) for fault in FAULTS for sdk in SDKS]
CASES += [
    ("responses", fault) for fault in (*BODIES, *REPLIES, *STREAMS, "401", "429", "hang", "drip", "closed")
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("sdk", "fault"), CASES)
def test_every_fault_ends_typed_within_the_deadline(lab: Lab, fault: str, sdk: str, stream: bool) -> None:
    lab.fake.always(fault)
    # A refused parameter is remembered for the model.
    model = Model(f"model-{fault}", api="responses" if sdk == "responses" else "chat")
    started = time.monotonic()
    if stream:
        pieces, completion = streamed(lab[sdk], model, deadline_s=DEADLINE_S)
        assert "".join(pieces) == completion.text
    else:
        completion = lab[sdk].complete(model, MESSAGES, deadline_s=DEADLINE_S)
    assert time.monotonic() - started <= DEADLINE_S * 1.1 + 0.3
    late = completion.outcome == "timeout" and fault in MAYBE_LATE
    assert late or completion.outcome == expected(sdk, stream, fault)
    assert 1 <= completion.attempts <= MAX_ATTEMPTS + 1
    assert completion.total_ms is not None and completion.total_ms > 0
    assert (completion.first_token_ms is not None) == (stream and completion.text != "")
    assert (completion.error_type is None) == (completion.outcome in FINISHED)
    assert KEY not in repr(completion) and "canary" not in repr(completion)


FINISHED = {"ok", "length", "tool_call", "refusal", "content_filter", "empty"}


@pytest.mark.parametrize("sdk", SDKS)
def test_text_usage_and_finish_reason_of_a_good_reply(lab: Lab, sdk: str) -> None:
    completion = lab[sdk].complete(MODEL, MESSAGES, deadline_s=5)
    assert completion.text == lab.fake.text
    assert completion.usage == Usage(12, 7)
    assert completion.finish_reason == {"openai": "stop", "anthropic": "end_turn"}[sdk]
    assert (completion.model, completion.attempts, completion.error_type) == ("model-one", 1, None)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("api", "tier"),
    [
        *(("chat", x) for x in ("default", "flex", "priority", "scale", "nobody-knows-this")),
        *(("responses", x) for x in ("default", "flex", "priority", "ultrafast")),
        *(("messages", x) for x in ("standard", "priority", "batch")),
    ],
)
def test_the_service_tier_is_the_providers_word(lab: Lab, api: str, tier: str, stream: bool) -> None:
    lab.fake.service_tier = tier
    model = Model("model-one", api="responses" if api == "responses" else "chat")
    provider = lab["anthropic" if api == "messages" else "openai"]
    if stream:
        _, completion = streamed(provider, model)
    else:
        completion = provider.complete(model, MESSAGES, deadline_s=5)
    assert completion.usage is not None
    assert (completion.usage.service_tier, completion.usage.input_tokens) == (tier, 12)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("api", "beside", "known"),
    [
        ("messages", {"server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0}}, False),
        ("messages", {"speed": "fast"}, False),
        ("messages", {"inference_geo": "us"}, False),
        ("messages", {"server_tool_use": {"web_search_requests": 0}, "speed": "standard"}, True),
        ("responses", {"type": "web_search_call", "id": "ws", "status": "completed"}, False),
        ("responses", {"type": "code_interpreter_call", "id": "ci", "status": "completed"}, False),
        ("responses", {"type": "reasoning", "id": "rs", "summary": []}, True),
    ],
)
def test_what_is_charged_beside_tokens_of_text_makes_the_usage_unknown(
    lab: Lab, api: str, beside: dict[str, Any], known: bool, stream: bool
) -> None:
    lab.fake.beside = beside
    model = Model("model-one", api="responses" if api == "responses" else "chat")
    provider = lab["anthropic" if api == "messages" else "openai"]
    made = streamed(provider, model)[1] if stream else provider.complete(model, MESSAGES, deadline_s=5)
    assert (made.outcome, made.text) == ("ok", lab.fake.text)
    assert (made.usage is not None) == known


def test_a_count_that_ran_along_is_not_the_output_of_a_stream_that_was_cut(lab: Lab) -> None:
    lab.fake.running_usage = True
    assert streamed(lab["openai"])[1].usage == Usage(12, 7)
    lab.fake.always("cut_stream")
    _, completion = streamed(lab["openai"])
    assert (completion.outcome, completion.usage) == ("cut_stream", Usage(12, None))
    assert completion.text != ""


@pytest.mark.parametrize("sdk", SDKS)
def test_text_that_took_no_tokens_has_no_known_usage(
    lab: Lab, sdk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab.fake, "usage", {"input": 12, "output": 0})
    assert lab[sdk].complete(MODEL, MESSAGES, deadline_s=5).usage is None
    assert streamed(lab[sdk])[1].usage is None
    lab.fake.always("empty_content")
    assert lab[sdk].complete(MODEL, MESSAGES, deadline_s=5).usage == Usage(12, 0)


@pytest.mark.parametrize("sdk", SDKS)
def test_a_stream_gives_the_same_as_a_whole_reply(lab: Lab, sdk: str) -> None:
    pieces, completion = streamed(lab[sdk])
    assert len(pieces) > 1
    assert (completion.text, completion.usage, completion.outcome) == (lab.fake.text, Usage(12, 7), "ok")
    assert completion.first_token_ms is not None and completion.total_ms is not None
    assert completion.first_token_ms <= completion.total_ms


@pytest.mark.parametrize("sdk", SDKS)
def test_async_twins_give_the_same(lab: Lab, sdk: str) -> None:
    async def both() -> tuple[Completion, str, Completion]:
        whole = await lab[sdk].acomplete(MODEL, MESSAGES, deadline_s=5)
        async with lab[sdk].astream(MODEL, MESSAGES, deadline_s=5) as stream:
            text = "".join([piece async for piece in stream])
        return whole, text, stream.completion

    for _ in range(2):  # a second event loop may use the same provider; the first gave its connections back
        whole, text, completion = asyncio.run(both())
        assert whole.text == text == completion.text == lab.fake.text
        assert whole.usage == completion.usage == Usage(12, 7)
        assert (whole.outcome, completion.outcome) == ("ok", "ok")


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("fault", ["hang", "drip", "drip_headers", "stall"])
def test_async_calls_end_at_the_deadline_too(lab: Lab, sdk: str, fault: str) -> None:
    async def both() -> list[Completion]:
        stream = lab[sdk].astream(MODEL, MESSAGES, deadline_s=0.3)
        whole = lab[sdk].acomplete(MODEL, MESSAGES, deadline_s=0.3) if fault != "stall" else None
        async for _ in stream:
            pass
        return [stream.completion] + ([await whole] if whole else [])

    lab.fake.always(fault)
    started = time.monotonic()
    outcomes = {completion.outcome for completion in asyncio.run(both())}
    assert outcomes == {"timeout"}
    assert time.monotonic() - started <= 2 * 0.33 + 0.3


@pytest.mark.parametrize("sdk", SDKS)
def test_a_cancelled_task_cancels_the_call(lab: Lab, sdk: str) -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(lab[sdk].acomplete(MODEL, MESSAGES, deadline_s=30))
        while not lab.fake.requests:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    lab.fake.always("hang")
    started = time.monotonic()
    asyncio.run(cancelled())
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("sdk", SDKS)
def test_a_stream_closed_early_is_cancelled_and_keeps_its_text(lab: Lab, sdk: str) -> None:
    lab.fake.always("stall")
    with lab[sdk].stream(MODEL, MESSAGES, deadline_s=30) as stream:
        first = next(stream)
        with pytest.raises(RuntimeError, match="has not ended"):
            _ = stream.completion
    assert stream.completion.outcome == "cancelled"
    assert stream.completion.text.startswith(first)
    assert list(stream) == []


@pytest.mark.parametrize("sdk", SDKS)
def test_an_async_stream_closed_early_is_cancelled(lab: Lab, sdk: str) -> None:
    async def early() -> Completion:
        async with lab[sdk].astream(MODEL, MESSAGES, deadline_s=30) as stream:
            async for _ in stream:
                break
        return stream.completion

    lab.fake.always("stall")
    assert asyncio.run(early()).outcome == "cancelled"


def test_a_cut_anthropic_stream_has_input_tokens_but_no_invented_output(lab: Lab) -> None:
    lab.fake.always("cut_stream")
    _, completion = streamed(lab["anthropic"])
    assert completion.text and completion.usage == Usage(12, None)


@pytest.mark.parametrize("sdk", SDKS)
def test_a_complete_reply_is_not_held_up_by_a_stream_that_stays_open(lab: Lab, sdk: str) -> None:
    lab.fake.always("stall_at_end")
    started = time.monotonic()
    _, completion = streamed(lab[sdk], deadline_s=60)
    assert time.monotonic() - started < SETTLE_S + 2
    assert (completion.outcome, completion.text, completion.error_type) == ("ok", lab.fake.text, None)
    assert completion.usage == {"openai": None, "anthropic": Usage(12, 7)}[sdk]


@pytest.mark.parametrize("sdk", SDKS)
def test_a_stream_that_fails_before_any_text_is_tried_again(lab: Lab, sdk: str) -> None:
    lab.fake.then("error_first")
    pieces, completion = streamed(lab[sdk], deadline_s=20)
    assert (completion.outcome, completion.attempts, "".join(pieces)) == ("ok", 2, lab.fake.text)


@pytest.mark.parametrize("sdk", SDKS)
def test_a_large_token_limit_needs_no_stream(lab: Lab, sdk: str) -> None:
    assert lab[sdk].complete(MODEL, MESSAGES, deadline_s=20, max_tokens=64_000).outcome == "ok"
    assert lab.fake.requests[0].body["max_tokens"] == 64_000


@pytest.mark.parametrize("sdk", SDKS)
def test_an_endless_deadline_is_allowed(lab: Lab, sdk: str) -> None:
    assert lab[sdk].complete(MODEL, MESSAGES, deadline_s=float("inf")).outcome == "ok"


def test_a_cut_openai_stream_has_unknown_usage(lab: Lab) -> None:
    lab.fake.always("cut_stream")
    _, completion = streamed(lab["openai"])
    assert completion.text and completion.usage is None


@pytest.mark.parametrize("sdk", SDKS)
def test_contradictory_usage_is_unknown(lab: Lab, sdk: str) -> None:
    lab.fake.always("bad_usage")
    assert lab[sdk].complete(MODEL, MESSAGES, deadline_s=5).usage is None


@pytest.mark.parametrize("sdk", SDKS)
def test_a_failure_that_passes_is_tried_again_and_counted(lab: Lab, sdk: str) -> None:
    lab.fake.then("503", "closed")
    completion = lab[sdk].complete(MODEL, MESSAGES, deadline_s=10)
    assert (completion.outcome, completion.attempts, len(lab.fake.requests)) == ("ok", 3, 3)


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("fault", ["400", "401", "404", "409", "html", "307"])
def test_what_trying_again_cannot_mend_is_asked_once(lab: Lab, sdk: str, fault: str) -> None:
    lab.fake.always(fault)
    assert lab[sdk].complete(MODEL, MESSAGES, deadline_s=5).attempts == 1
    assert len(lab.fake.requests) == 1


@pytest.mark.parametrize("sdk", SDKS)
def test_retry_after_is_waited_for_when_it_fits(lab: Lab, sdk: str) -> None:
    lab.fake.then("429-after-1")
    started = time.monotonic()
    completion = lab[sdk].complete(MODEL, MESSAGES, deadline_s=5)
    assert (completion.outcome, completion.attempts) == ("ok", 2)
    assert 1.0 <= time.monotonic() - started < 2.0


@pytest.mark.parametrize("sdk", SDKS)
def test_retry_after_beyond_the_deadline_ends_the_call_at_once(lab: Lab, sdk: str) -> None:
    lab.fake.always("429-after-200")
    started = time.monotonic()
    completion = lab[sdk].complete(MODEL, MESSAGES, deadline_s=60)
    assert (completion.outcome, completion.attempts) == ("rate_limited", 1)
    assert time.monotonic() - started < 1.0


def test_the_token_limit_has_the_older_name_for_compatible_servers(lab: Lab) -> None:
    lab["openai"].complete(MODEL, MESSAGES, deadline_s=5, max_tokens=9)
    assert lab.fake.requests[0].body["max_tokens"] == 9
    assert "max_completion_tokens" not in lab.fake.requests[0].body


@pytest.mark.parametrize("host", ["https://api.openai.com/v1", "https://eu.api.openai.com/v1", None])
def test_the_token_limit_has_the_newer_name_at_openai(host: str | None) -> None:
    provider = provider_for("openai", Endpoint("openai", KEY, host))
    assert provider.dialect("gpt-4o").limit_name == "max_completion_tokens"
    provider.close()


def test_a_refused_parameter_is_renamed_once_and_remembered(fake: FakeApis) -> None:
    provider = provider_for("openai", endpoint_of(fake, "openai"))
    fake.always("reject_max_tokens")
    first = provider.complete(MODEL, MESSAGES, deadline_s=5)
    second = provider.complete(MODEL, MESSAGES, deadline_s=5)
    assert (first.outcome, first.attempts, second.outcome, second.attempts) == ("ok", 2, "ok", 1)
    assert [("max_completion_tokens" in x.body) for x in fake.requests] == [False, True, True]
    provider.close()


def test_a_limit_that_is_too_large_is_not_taken_for_an_unknown_name(lab: Lab) -> None:
    lab.fake.always("too_many_tokens")
    completion = lab["openai"].complete(MODEL, MESSAGES, deadline_s=5)
    assert (completion.outcome, completion.attempts) == ("rejected", 1)


def test_stream_options_are_dropped_when_a_server_refuses_them(fake: FakeApis) -> None:
    provider = provider_for("openai", endpoint_of(fake, "openai"))
    fake.always("reject_stream_options")
    outcomes = [streamed(provider)[1] for _ in range(2)]
    assert [x.outcome for x in outcomes] == ["ok", "ok"]
    assert [x.attempts for x in outcomes] == [2, 1]
    assert [x.usage for x in outcomes] == [None, None]
    provider.close()


@pytest.mark.parametrize("fault", ["301", "307"])
@pytest.mark.parametrize("sdk", SDKS)
def test_redirects_are_not_followed(lab: Lab, sdk: str, fault: str) -> None:
    lab.fake.always(fault)
    lab[sdk].complete(MODEL, MESSAGES, deadline_s=5)
    assert len(lab.fake.requests) == 1


def test_system_messages_are_lifted_for_anthropic(lab: Lab) -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
        {"role": "developer", "content": [{"type": "text", "text": "in French"}]},
    ]
    lab["anthropic"].complete(MODEL, messages, system="be kind", deadline_s=5)
    body = lab.fake.requests[0].body
    assert body["system"] == "be kind\n\nbe brief\n\nin French"
    assert body["messages"] == [{"role": "user", "content": "hi"}]
    assert body["max_tokens"] == 64
    assert "temperature" not in body


def test_the_system_prompt_comes_first_for_openai(lab: Lab) -> None:
    lab["openai"].complete(MODEL, MESSAGES, system="be kind", deadline_s=5)
    assert lab.fake.requests[0].body["messages"] == [{"role": "system", "content": "be kind"}, *MESSAGES]


@pytest.mark.parametrize("sdk", SDKS)
def test_lone_surrogates_are_replaced_before_sending(lab: Lab, sdk: str) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "broken \ud83d here"}]}]
    completion = lab[sdk].complete(MODEL, messages, system="\udc00", deadline_s=5)
    assert completion.outcome == "ok"
    assert lab.fake.requests[0].body["messages"][-1]["content"][0]["text"] == "broken � here"


def test_a_surrogate_pair_becomes_the_character_it_stands_for() -> None:
    assert clean("\ud83d\ude00") == "😀"
    assert clean("plain") == "plain"


@pytest.mark.parametrize("sdk", SDKS)
def test_nothing_listens_there(sdk: str) -> None:
    provider = provider_for(sdk, Endpoint(sdk, KEY, "http://127.0.0.1:9"))
    completion = provider.complete(MODEL, MESSAGES, deadline_s=3)
    assert (completion.outcome, completion.error_type) == ("unreachable", "APIConnectionError")
    assert completion.attempts == MAX_ATTEMPTS
    provider.close()


@pytest.mark.parametrize("sdk", SDKS)
def test_messages_that_are_no_messages_are_an_outcome_too(lab: Lab, sdk: str) -> None:
    completion = lab[sdk].complete(MODEL, [None, 7], deadline_s=5)  # type: ignore[list-item]
    assert completion.outcome in {"malformed", "error", "ok"}
    assert lab[sdk].complete(MODEL, [{"role": "user", "content": object()}], deadline_s=5).outcome in {
        "malformed", "error"
    }  # fmt: skip


@pytest.mark.parametrize("sdk", SDKS)
def test_no_time_at_all_is_a_timeout(lab: Lab, sdk: str) -> None:
    assert lab[sdk].complete(MODEL, MESSAGES, deadline_s=0).outcome == "timeout"


def test_only_the_models_own_deprecation_is_silenced(lab: Lab) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        completion = lab["anthropic"].complete(Model("claude-sonnet-4-5"), MESSAGES, deadline_s=5)
        assert completion.outcome == "ok"
        with pytest.raises(DeprecationWarning):
            warnings.warn("The model 'claude-sonnet-4-50' is deprecated", DeprecationWarning, stacklevel=1)


def test_keyboard_interrupt_passes_through(lab: Lab) -> None:
    import signal

    lab.fake.always("hang")
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        lab["openai"].complete(MODEL, MESSAGES, deadline_s=30)
    assert time.monotonic() - started < 3


def test_many_threads_share_one_provider(lab: Lab) -> None:
    lab.fake.by_model["slow"] = "hang"
    results: list[str] = []

    def call(name: str, deadline_s: float) -> None:
        results.append(lab["openai"].complete(Model(name), MESSAGES, deadline_s=deadline_s).outcome)

    kinds = [("slow", 0.8) if i % 4 == 0 else ("fast", 30.0) for i in range(32)]
    threads = [threading.Thread(target=call, args=kind) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["ok"] * 24 + ["timeout"] * 8


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.parametrize("sdk", SDKS)
def test_a_forked_child_can_call_and_the_parent_still_can(lab: Lab, sdk: str) -> None:
    assert lab[sdk].complete(MODEL, MESSAGES, deadline_s=5).outcome == "ok"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons warn of fork beside threads
        child = os.fork()
    if child == 0:
        outcome = lab[sdk].complete(MODEL, MESSAGES, deadline_s=5).outcome
        os._exit(0 if outcome == "ok" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert lab[sdk].complete(MODEL, MESSAGES, deadline_s=5).outcome == "ok"


def test_an_unknown_provider_is_named() -> None:
    with pytest.raises(ConfigurationError, match="known: openai, anthropic"):
        provider_for("acme", Endpoint("acme", KEY))


@pytest.mark.parametrize("sdk", SDKS)
def test_the_key_is_sent_but_never_shown(lab: Lab, sdk: str) -> None:
    lab[sdk].complete(MODEL, MESSAGES, deadline_s=5)
    assert lab.fake.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(lab[sdk])


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "NaN"}, None),
        ({"retry-after": "1e400"}, float("inf")),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 10.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:40 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_retry_after_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, now=lambda: 90.0) == seconds


@pytest.mark.parametrize(
    ("attempt", "asked", "left", "wait"),
    [
        (1, None, 10.0, 0.25),
        (2, None, 10.0, 0.5),
        (9, None, 10.0, 4.0),
        (1, 3.0, 10.0, 3.0),
        (1, 3.0, 3.0, None),
        (1, 25.0, 600.0, None),
        (1, 0.0, 10.0, 0.0),
    ],
)
def test_waits_between_attempts(attempt: int, asked: float | None, left: float, wait: float | None) -> None:
    assert backoff_s(attempt, asked, left, jitter=0.0) == wait


def test_a_reply_nested_beyond_reading_is_malformed_and_text_is_none() -> None:
    def raw(content: bytes, kind: str) -> SimpleNamespace:
        return SimpleNamespace(
            http_response=httpx2.Response(200, content=content, headers={"content-type": kind})
        )

    for content in (b"[" * 200_000, b'{"a": '):
        with pytest.raises(ValueError):
            json_of(raw(content, "application/json"))
    assert json_of(raw(b"<html>", "text/html")) is None
    assert json_of(raw(b'{"a": "\\ud800"}', "text/plain")) == {"a": "\ud800"}
