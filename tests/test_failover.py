"""When a model fails another answers, in one deadline, and every attempt is in the row with what it cost."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fake_apis import FakeApis
from log_samples import Fixed

from router import AsyncRouter, Policy, Router
from router.errors import ConfigurationError, MissingKeyError, ProviderError, ProviderTimeout
from router.failover import MOVES_ON, PATIENCE_S
from router.log import open_log
from router.log.queries import Filter, spend
from router.prices import PriceBook
from router.providers.streams import CompletionStream
from router.routing import RouterBase
from router.types import Reply

KEY = "sk-canary-5a6b7c8d"
PROMPT = "canary prompt: name a river"
MODES = ("ask", "stream", "async ask", "async stream")


@dataclass
class Desk:
    """Routers over a fake server, and what their log holds."""

    fake: FakeApis
    data: Path
    spent_s: float = 0.0
    """Of the last call alone: opening and closing the log takes longer."""

    def policy(self, chain: tuple[str, ...], **changes: Any) -> Policy:
        """A label that is answered by "first" (OpenAI), then by a chain of which those in "an-..." are Anthropic's."""
        tables = "".join(
            f'[models."{name}"]\nprovider = "{"anthropic" if name.startswith("an") else "openai"}"\n'
            f'base_url = "{self.fake.anthropic_url if name.startswith("an") else self.fake.openai_url}"\n'
            "price = {input = 1, output = 2}\n"
            for name in ("first", "spare", "third", "an-other")
        )
        text = (
            f'threshold = 0.5\nfallback_model = "first"\nfailover = ["third"]\n[[labels]]\nname = "simple"\nrubric = "?"\n'
            f'model = "first"\nfailover = {json.dumps(chain)}\n{tables}'
        )
        return replace(Policy.from_toml(text), **changes)

    def run(
        self, chain: tuple[str, ...], mode: str = "ask", *, deadline_s: float = 5.0, **options: Any
    ) -> Reply:
        """One call; its reply, or the error that it raised."""
        given = {"classifier": Fixed({"simple": 0.9}), "data": self.data, "deadline_s": deadline_s}
        rule = options.pop("policy", None) or self.policy(chain)
        if mode.startswith("async"):
            return asyncio.run(self._run_async(rule, mode, given, options))
        with Router(rule, **given) as router, self.timed(router):
            if mode == "ask":
                return router.ask(PROMPT, **options)
            stream = router.stream(PROMPT, **options)
            text = "".join(stream)
            assert stream.reply is not None
            assert stream.reply.text == text
            return stream.reply

    @contextlib.contextmanager
    def timed(self, router: RouterBase) -> Iterator[None]:
        """Time a call. SDKs are imported and clients built before it: no deadline holds for that, as it happens once."""
        for name in router.policy.model_names:
            with contextlib.suppress(ConfigurationError):
                router._provider(name)
        started = time.monotonic()
        try:
            yield
        finally:
            self.spent_s = time.monotonic() - started

    async def _run_async(self, rule: Policy, mode: str, given: Any, options: Any) -> Reply:
        async with AsyncRouter(rule, **given) as router:
            with self.timed(router):
                if mode == "async ask":
                    return await router.ask(PROMPT, **options)
                text = "".join([piece async for piece in router.stream(PROMPT, **options)])
        row = self.rows()[-1]
        return Reply(row, text, None, row.cost_usd, row.outcome)

    def ended(self, pieces: CompletionStream) -> None:
        """Wait until a call is over, whatever of it has been read."""
        concurrent.futures.wait([pieces._future], 5)

    def rows(self) -> list[Any]:
        names = "model_chosen, model_used, outcome, attempts, failed_attempts, failed_cost_usd, cost_usd, total_ms"
        with open_log(self.data) as log:
            return [Row(*row) for row in log.rows(f"SELECT {names} FROM decisions ORDER BY decided_at, id")]


@dataclass
class Row:
    """A row of the log, as far as these tests look at it."""

    model_chosen: str
    model_used: str | None
    outcome: str
    attempts: int | None
    failed_attempts: Any
    failed_cost_usd: Decimal | None
    cost_usd: Decimal | None
    total_ms: float | None

    def __post_init__(self) -> None:
        self.failed_attempts = json.loads(self.failed_attempts) if self.failed_attempts else []

    @property
    def failed(self) -> list[tuple[str, str]]:
        return [(x["model"], x["outcome"]) for x in self.failed_attempts]


@pytest.fixture
def desk(fake: FakeApis, tmp_path: Path) -> Iterator[Desk]:
    yield Desk(fake, tmp_path)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("spare", ["spare", "an-other"])
def test_another_model_answers_and_the_row_tells_of_both(desk: Desk, spare: str, mode: str) -> None:
    faults = {
        "401": "auth", "402": "auth", "404": "not_found", "429-after-200": "rate_limited", "html": "malformed",
        "empty_content": "empty",
    }  # fmt: skip
    for fault in faults:
        desk.fake.then(fault, "ok")
        reply = desk.run((spare,), mode)
        assert (reply.text, reply.outcome) == (desk.fake.text, "ok"), fault
    rows = desk.rows()
    assert [row.failed for row in rows] == [[("first", outcome)] for outcome in faults.values()]
    for row in rows:
        assert (row.model_chosen, row.model_used, row.outcome, row.attempts) == ("first", spare, "ok", 2)
        assert row.cost_usd == Decimal("0.000026")  # 12 tokens in at $1, 7 out at $2 a million


@pytest.mark.parametrize("mode", MODES)
def test_what_the_model_meant_is_handed_back(desk: Desk, mode: str) -> None:
    meant = ("refusal", "content_filter", "length", "tool_call")
    for outcome in meant:
        desk.fake.then(outcome)
        assert desk.run(("spare",), mode).outcome == outcome
    found = [(row.model_used, row.outcome, row.attempts, row.failed) for row in desk.rows()]
    assert found == [("first", outcome, 1, []) for outcome in meant]


@pytest.mark.parametrize("mode", MODES)
def test_a_request_that_is_refused_as_such_is_not_sent_to_others(desk: Desk, mode: str) -> None:
    desk.fake.by_model["first"] = "400"
    with pytest.raises(ProviderError):
        desk.run(("spare",), mode)
    assert [request.body["model"] for request in desk.fake.requests] == ["first"]
    assert [(row.outcome, row.failed) for row in desk.rows()] == [("rejected", [])]


@pytest.mark.parametrize("mode", ["stream", "async stream"])
def test_a_stream_that_has_shown_text_never_goes_to_another_model(desk: Desk, mode: str) -> None:
    desk.fake.by_model["first"] = "cut_stream"
    with pytest.raises(ProviderError):
        desk.run(("spare",), mode)
    assert [(row.model_used, row.outcome, row.failed) for row in desk.rows()] == [("first", "cut_stream", [])]


@pytest.mark.parametrize("mode", ["stream", "async stream"])
def test_a_stream_that_ended_before_any_text_goes_to_another_model(desk: Desk, mode: str) -> None:
    desk.fake.by_model["first"] = "silent_end"
    assert desk.run(("spare",), mode).text == desk.fake.text
    assert [row.failed for row in desk.rows()] == [[("first", "cut_stream")]]


@pytest.mark.parametrize("mode", MODES)
def test_a_model_that_hangs_has_its_share_of_the_time_alone(desk: Desk, mode: str) -> None:
    desk.fake.by_model |= {"first": "hang", "spare": "drip"}
    reply = desk.run(("spare", "third"), mode, deadline_s=0.9)
    assert reply.text == desk.fake.text
    assert 0.55 <= desk.spent_s < 1.0
    (row,) = desk.rows()
    assert row.failed == [("first", "timeout"), ("spare", "timeout")]
    assert [x["total_ms"] for x in row.failed_attempts] == pytest.approx([300, 300], abs=90)
    assert (row.model_used, row.attempts, row.failed_cost_usd) == ("third", 3, None)


@pytest.mark.parametrize("mode", MODES)
def test_all_of_a_chain_that_fails_ends_within_the_one_deadline(desk: Desk, mode: str) -> None:
    desk.fake.always("hang")
    with pytest.raises(ProviderTimeout) as error:
        desk.run(("spare", "an-other"), mode, deadline_s=0.6)
    assert desk.spent_s < 0.6 * 1.1 + 0.2
    assert "an-other did not answer in its share of 0.6 s" in str(error.value)
    assert "Before it failed: first (timeout), spare (timeout)." in str(error.value)
    (row,) = desk.rows()
    assert (row.model_used, row.outcome, row.attempts) == ("an-other", "timeout", 3)
    assert row.failed == [("first", "timeout"), ("spare", "timeout")]


def test_time_that_a_model_leaves_goes_to_those_behind_it(desk: Desk) -> None:
    desk.fake.by_model |= {"first": "404", "spare": "404", "third": "hang"}
    with pytest.raises(ProviderTimeout):
        desk.run(("spare", "third"), deadline_s=0.6)
    assert 0.5 < desk.spent_s < 0.6 * 1.1 + 0.2


def test_a_provider_that_asks_to_wait_is_left_for_the_next_one(desk: Desk) -> None:
    desk.fake.by_model["first"] = "429-after-3"
    assert desk.run(("spare",), deadline_s=30).text == desk.fake.text
    assert desk.spent_s < PATIENCE_S
    assert [row.failed for row in desk.rows()] == [[("first", "rate_limited")]]


def test_a_failed_attempt_that_was_charged_is_paid_and_savings_know_it(desk: Desk) -> None:
    desk.fake.by_model |= {"first": "whitespace", "spare": "empty_content"}
    reply = desk.run(("spare", "third"))
    assert reply.decision.failed_cost_usd == Decimal("0.000052")  # both told their 12 and 7 tokens
    (row,) = desk.rows()
    assert [Decimal(x["cost_usd"]) for x in row.failed_attempts] == [Decimal("0.000026")] * 2
    assert (row.failed_cost_usd, row.cost_usd) == (Decimal("0.000052"), Decimal("0.000026"))
    rule = desk.policy(("spare", "third"))
    with open_log(desk.data) as log:
        found = spend(log, Filter(), rule, PriceBook(rule.models), baseline="first")
    assert found["failed_cost"].tolist() == [pytest.approx(0.000052)]
    assert found["n_failed_unknown"].tolist() == [0]


def test_requests_that_were_made_again_stand_in_the_row_too(desk: Desk) -> None:
    desk.fake.then("503", "429", "ok")
    reply = desk.run(("spare",))
    (row,) = desk.rows()
    assert row.failed == [("first", "overloaded"), ("first", "rate_limited")]
    assert (row.model_used, row.attempts) == ("first", 3)
    assert len(reply.decision.failed_attempts) == 2


def test_a_model_without_a_key_is_passed_over_and_its_absence_recorded(desk: Desk) -> None:
    rule = desk.policy(("third",))
    rule = replace(rule, models={k: m for k, m in rule.models.items() if k != "first"} | {"first": replace(rule.models["first"], base_url=None)})  # fmt: skip
    assert desk.run((), policy=rule).text == desk.fake.text
    (row,) = desk.rows()
    assert (row.model_used, row.attempts, row.failed) == ("third", 1, [("first", "no_key")])


def test_without_any_key_the_first_models_error_is_raised(desk: Desk) -> None:
    rule = desk.policy(("third",))
    rule = replace(rule, models={k: replace(m, base_url=None) for k, m in rule.models.items()})
    with pytest.raises(MissingKeyError, match="OPENAI_API_KEY"):
        desk.run((), policy=rule)
    (row,) = desk.rows()
    assert (row.model_used, row.outcome, row.attempts) == (None, "no_key", None)
    assert row.failed == [("first", "no_key"), ("third", "no_key")]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("SSL_CERT_FILE", "/nonexistent.pem", "FileNotFoundError"),
        ("HTTPS_PROXY", "foo://user:secret@x:1", "ValueError"),
    ],
)
def test_a_client_that_cannot_be_built_is_logged_and_named_without_what_its_error_quotes(
    desk: Desk, name: str, value: str, kind: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(
        ConfigurationError, match=rf"client of openai could not be built \({kind}\)"
    ) as caught:
        desk.run(("an-other",), mode)
    assert value not in str(caught.value)
    (row,) = desk.rows()
    assert (row.model_used, row.outcome) == (None, "error")
    assert row.failed == [("first", "error"), ("an-other", "error")]


def test_a_model_of_no_known_provider_is_passed_over(desk: Desk) -> None:
    desk.fake.by_model["first"] = "404"
    rule = desk.policy(("what-model", "third"))
    assert desk.run((), policy=rule).text == desk.fake.text
    assert [row.failed for row in desk.rows()] == [[("first", "not_found"), ("what-model", "error")]]


def test_the_fallback_model_has_the_policys_own_chain(desk: Desk) -> None:
    desk.fake.by_model["first"] = "404"
    rule = desk.policy(("spare",), threshold=0.95)
    assert desk.run((), policy=rule).decision.model_used == "third"


def test_a_forced_model_is_the_only_one_asked(desk: Desk) -> None:
    desk.fake.by_model["first"] = "404"
    with pytest.raises(ProviderError):
        desk.run(("spare",), model="first")
    assert len(desk.fake.requests) == 1


def test_a_task_that_is_cancelled_on_the_second_model_is_logged_with_the_first(desk: Desk) -> None:
    desk.fake.by_model |= {"first": "empty_content", "spare": "hang"}

    async def cancelled() -> None:
        async with AsyncRouter(
            desk.policy(("spare",)), classifier=Fixed({"simple": 0.9}), data=desk.data
        ) as router:
            task = asyncio.create_task(router.ask(PROMPT))
            while len(desk.fake.requests) < 2:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancelled())
    (row,) = desk.rows()
    assert (row.model_used, row.outcome, row.attempts) == ("spare", "cancelled", 2)
    assert (row.failed, row.failed_cost_usd) == ([("first", "empty")], Decimal("0.000026"))


def test_a_stream_closed_on_the_second_model_is_logged_as_cancelled(desk: Desk) -> None:
    desk.fake.by_model |= {"first": "404", "spare": "stall"}
    with Router(desk.policy(("spare",)), classifier=Fixed({"simple": 0.9}), data=desk.data) as router:
        stream = router.stream(PROMPT)
        for _ in stream:
            break
        stream.close()
    assert [(row.model_used, row.outcome, row.failed) for row in desk.rows()] == [
        ("spare", "cancelled", [("first", "not_found")])
    ]


@pytest.mark.parametrize("mode", ["ask", "stream"])
def test_a_task_that_is_cancelled_is_logged_with_the_requests_to_its_own_model(desk: Desk, mode: str) -> None:
    desk.fake.then("503", "408")
    desk.fake.always("hang")

    async def asked(router: AsyncRouter) -> None:
        if mode == "ask":
            await router.ask(PROMPT)
        else:
            async for _ in router.stream(PROMPT):
                pass

    async def cancelled() -> None:
        async with AsyncRouter(desk.policy(()), classifier=Fixed({"simple": 0.9}), data=desk.data) as router:
            task = asyncio.create_task(asked(router))
            while len(desk.fake.requests) < 3:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancelled())
    (row,) = desk.rows()
    assert (row.model_used, row.outcome, row.attempts) == ("first", "cancelled", 3)
    assert row.failed == [("first", "overloaded"), ("first", "timeout")]


def test_an_error_of_the_caller_in_a_stream_is_not_replaced_by_how_the_call_ended(desk: Desk) -> None:
    desk.fake.always("cut_stream")
    with Router(desk.policy(()), classifier=Fixed({"simple": 0.9}), data=desk.data) as router:
        with pytest.raises(ZeroDivisionError), router.stream(PROMPT) as stream:
            for _ in stream:
                desk.ended(stream._pieces)
                raise ZeroDivisionError
        with pytest.raises(ProviderError), router.stream(PROMPT) as stream:
            desk.ended(stream._pieces)  # nobody's error but the call's
    assert [row.outcome for row in desk.rows()] == ["cut_stream"] * 2


def test_leaving_an_async_stream_that_was_cut_leaves_no_unread_exception(desk: Desk) -> None:
    desk.fake.always("cut_stream")
    unread: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unread.append(context))
        async with AsyncRouter(desk.policy(()), classifier=Fixed({"simple": 0.9}), data=desk.data) as router:
            async for _ in router.stream(PROMPT):
                await asyncio.sleep(0.3)  # the rest arrives, and its end
                break
            gc.collect()
            await asyncio.sleep(0.05)

    asyncio.run(main())
    gc.collect()
    assert unread == []
    assert [row.outcome for row in desk.rows()] == ["cut_stream"]


def test_a_row_names_the_version_of_the_price_that_was_used(desk: Desk) -> None:
    assert desk.run(()).decision.price_version == "policy"


def test_what_cannot_be_mended_elsewhere_is_never_tried_elsewhere() -> None:
    assert not MOVES_ON & {
        "ok",
        "length",
        "tool_call",
        "refusal",
        "content_filter",
        "cancelled",
        "rejected",
        "error",
    }


def test_no_message_of_a_failed_chain_holds_the_prompt_or_a_key(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARE_KEY", KEY)
    desk.fake.always("401")
    rule = desk.policy(("spare",))
    rule = replace(rule, models={k: replace(m, key_env="SPARE_KEY") for k, m in rule.models.items()})
    with pytest.raises(ProviderError) as error:
        desk.run((), policy=rule)
    assert KEY not in str(error.value) + repr(error.value.decision)
    assert "canary" not in str(error.value) + repr(error.value.decision)
    assert KEY not in json.dumps([row.failed_attempts for row in desk.rows()])


@pytest.mark.parametrize(("fault", "cost", "unknown"), [
    ("429-after-200", Decimal(0), 0), ("500", Decimal(0), 0), ("hang", None, 1),
    ("closed", None, 1),  # the connection is lost after the request was sent
    ("short_body", None, 1),  # a 200 whose body breaks
])  # fmt: skip
def test_a_refused_request_costs_nothing_and_one_that_may_have_been_answered_is_unknown(
    desk: Desk, fault: str, cost: Decimal | None, unknown: int
) -> None:
    desk.fake.by_model["first"] = fault
    assert desk.run(("spare",), deadline_s=0.8).decision.failed_cost_usd == cost
    rule = desk.policy(("spare",))
    with open_log(desk.data) as log:
        found = spend(log, Filter(), rule, PriceBook(rule.models), baseline="first")
    assert found["n_failed_unknown"].tolist() == [unknown]
