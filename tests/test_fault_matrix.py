"""Every fault of every API, through the whole router: a typed outcome in time, a row in the log, and nothing given away.

All faults of one API and one mode run at once, each as a model of its own, so that the matrix takes as long as its
slowest case. Each is asserted by its name.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_apis import FAULTS, FakeApis
from log_samples import Fixed
from test_providers import MAYBE_LATE, expected

from router import AsyncRouter, Policy
from router.errors import ProviderError
from router.log import open_log
from router.types import REPLIES

KEY = "sk-canary-9e8f7a6b"
PROMPT = "canary prompt: what is the capital of Japan?"
DEADLINE_S = 2.5
APIS = ("openai", "responses", "anthropic")
CASES = [name for name in FAULTS if name != "huge"]
"""A server that pours a gigabyte keeps both cores busy: it has a test of its own in test_providers."""

LATE = MAYBE_LATE | {"503", "429", "429-after-1", "429-after-minus", "429-after-past"}
"""What is tried again may meet the deadline on the way."""


@dataclass
class Case:
    """How one fault ended: outcome, seconds, and all that a caller could see or print."""

    outcome: str
    spent_s: float
    seen: str


def policy(fake: FakeApis, api: str) -> Policy:
    provider, url = ("anthropic", fake.anthropic_url) if api == "anthropic" else ("openai", fake.openai_url)
    chosen = 'api = "responses"\n' if api == "responses" else ""
    return Policy.from_toml(
        'threshold = 0\nfallback_model = "ok"\n[[labels]]\nname = "simple"\nrubric = "?"\nmodel = "ok"\n'
        + "".join(
            f'[models."{name}"]\nprovider = "{provider}"\nbase_url = "{url}"\nkey_env = "MATRIX_KEY"\n{chosen}'
            for name in CASES
        )
    )


async def one(router: AsyncRouter, fault: str, stream: bool) -> Case:
    started = time.monotonic()
    text = ""
    try:
        if stream:
            async for piece in router.stream(PROMPT, model=fault, session_id=fault):
                text += piece
            outcome = "a reply"
        else:
            reply = await router.ask(PROMPT, model=fault, session_id=fault)
            text, outcome = repr(reply), reply.outcome
    except ProviderError as error:
        outcome = error.outcome
        chained = repr(error.__cause__) + repr(error.__context__)
        text = f"{error!r} {error} {error.decision!r} {chained}"
    return Case(outcome, time.monotonic() - started, text)


async def all_of(rule: Policy, data: Path, stream: bool) -> dict[str, Case]:
    async with AsyncRouter(
        rule, classifier=Fixed({"simple": 0.9}), data=data, deadline_s=DEADLINE_S
    ) as router:
        await router.ask(PROMPT, model="ok")  # the SDK is imported, the client built
        found = await asyncio.gather(*(one(router, fault, stream) for fault in CASES))
    return dict(zip(CASES, found, strict=True))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("api", APIS)
def test_every_fault_is_typed_in_time_and_logged(
    api: str, stream: bool, fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATRIX_KEY", KEY)
    fake.by_model |= {name: name for name in CASES}
    cases = asyncio.run(all_of(policy(fake, api), tmp_path, stream))
    assert len(cases) >= 60

    with open_log(tmp_path) as log:
        rows = log.rows(
            "SELECT session_id, outcome, to_json(d) FROM decisions d WHERE session_id IS NOT NULL"
        )
    logged = {fault: outcome for fault, outcome, _ in rows}
    assert len(rows) == len(cases)  # one row each

    wanted = {fault: expected(api, stream, fault) for fault in CASES}
    wrong = {
        fault: (outcome, wanted[fault])
        for fault, outcome in logged.items()
        if outcome != wanted[fault] and not (outcome == "timeout" and fault in LATE)
    }
    assert not wrong
    raised = {
        fault: (case.outcome, logged[fault])
        for fault, case in cases.items()
        if case.outcome != ("a reply" if stream and logged[fault] in REPLIES else logged[fault])
    }
    assert not raised  # what the caller is told is what the log says

    # The deadline holds for each; 70 calls at once on a busy machine are woken a little later.
    assert {
        fault: case.spent_s for fault, case in cases.items() if case.spent_s > DEADLINE_S * 1.1 + 0.4
    } == {}
    for fault, case in cases.items():
        assert KEY not in case.seen, fault
        assert "canary" not in case.seen, fault
    for fault, _, row in rows:
        assert KEY not in row, fault
        assert "canary" not in json.dumps({k: v for k, v in json.loads(row).items() if k != "prompt"}), fault


def test_a_reply_that_was_not_finished_is_charged_for_what_it_told(fake: FakeApis, tmp_path: Path) -> None:
    """Anthropic tells the input at the start of a stream; the output of one that was cut is unknown, not the stale 1."""
    rule = policy(fake, "anthropic")
    fake.by_model["cut_stream"] = "cut_stream"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MATRIX_KEY", KEY)

        async def run() -> Case:
            async with AsyncRouter(rule, classifier=Fixed({"simple": 0.9}), data=tmp_path) as router:
                return await one(router, "cut_stream", True)

        assert asyncio.run(run()).outcome == "cut_stream"
    with open_log(tmp_path) as log:
        found = log.rows("SELECT input_tokens, output_tokens, cost_usd, first_token_ms > 0 FROM decisions")
    assert found == [(12, None, None, True)]
