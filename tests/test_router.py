"""The router on the request path: every prompt gets a model, every decision a row, and nothing says the prompt."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import shutil
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pytest
from log_samples import SCORES, SEED, Fixed

from router import AsyncRouter, ClassifierError, ClassifierTimeout, InputError, Policy, Router, decide
from router.endings import MAX_EXTRA_LABELS
from router.errors import ConfigurationError, MissingKeyError, PolicyError, RouterError
from router.log import open_log
from router.log_settings import MAX_PROMPT_CHARS
from router.prompts import ready
from router.routing import EMPTY_PROMPT
from router.types import Classification

SECRET = "the launch code is 0000"


class Raising:
    name = "raising/1"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def classify(self, text, labels):
        raise self.error


class Replying(Fixed):
    """Gives back whatever it was made with, as it is."""

    def classify(self, text, labels):
        return self.scores


def rows(data, columns: str = "*") -> list[tuple]:
    with open_log(data) as log:
        assert log.rows("SELECT count(*) FROM rejects") == [(0,)]
        return log.rows(f"SELECT {columns} FROM decisions ORDER BY decided_at, id")


def routed(data, classifier, policy: Policy = SEED, prompt="hello", **options):
    with Router(policy, classifier=classifier, data=data) as router:
        return router.route(prompt, **options)


def spread(top: float, second: float) -> dict[str, float]:
    return {"simple": second, "coding": top, "reasoning": 0.0, "creative": 0.0}


@pytest.mark.parametrize(
    ("classifier", "policy", "options", "cause", "model", "fallback"),
    [
        pytest.param(Fixed(), SEED, {}, "routed", "gpt-4o-mini", False, id="routed"),
        pytest.param(
            Fixed(spread(0.55, 0.45)), SEED, {}, "routed", "claude-sonnet-4-5", False, id="at the threshold"
        ),
        pytest.param(
            Fixed(spread(0.5499, 0.45)), SEED, {}, "low_confidence", SEED.fallback_model, True, id="under it"
        ),
        pytest.param(
            Fixed(spread(0.75, 0.7)),
            Policy.from_toml(SEED.to_toml().replace("\n", "\nmin_margin = 0.1\n", 1)),
            {},
            "low_margin",
            SEED.fallback_model,
            True,
            id="close",
        ),
        pytest.param(
            Raising(ClassifierError("no")),
            SEED,
            {},
            "classifier_error",
            SEED.fallback_model,
            False,
            id="error",
        ),
        pytest.param(
            Raising(ClassifierTimeout("late")),
            SEED,
            {},
            "classifier_timeout",
            SEED.fallback_model,
            False,
            id="timeout",
        ),
        pytest.param(Fixed(), SEED, {"model": "gpt-9"}, "forced", "gpt-9", False, id="forced"),
        pytest.param(
            Raising(ValueError("x")),
            SEED,
            {"model": "gpt-9"},
            "forced",
            "gpt-9",
            False,
            id="forced, classifier down",
        ),
    ],
)
def test_every_cause_is_decided_and_logged(tmp_path, classifier, policy, options, cause, model, fallback):
    made = routed(tmp_path, classifier, policy, **options)
    assert (made.cause, made.model_chosen, made.model_used, made.is_fallback) == (
        cause,
        model,
        model,
        fallback,
    )
    assert rows(tmp_path, "cause, model_chosen, is_fallback, policy_fingerprint") == [
        (cause, model, fallback, policy.fingerprint)
    ]


@pytest.mark.parametrize(
    "scores",
    [
        pytest.param(SCORES | {"coding": math.nan}, id="NaN"),
        pytest.param(SCORES | {"coding": -0.1}, id="negative"),
        pytest.param(SCORES | {"coding": 1.5}, id="above one"),
        pytest.param(SCORES | {"coding": math.inf}, id="infinite"),
        pytest.param(SCORES | {"coding": 10**5000}, id="a huge whole number"),
        pytest.param(SCORES | {"coding": SECRET}, id="text"),
        pytest.param(SCORES | {"coding": None}, id="nothing"),
        pytest.param({"simple": 1.0}, id="missing labels"),
        pytest.param({}, id="empty"),
        pytest.param({1: 0.5, None: 0.5, "\ud800": 0.5}, id="keys of every kind"),
    ],
)
def test_scores_the_rule_cannot_use_are_a_logged_classifier_error(tmp_path, scores):
    made = routed(tmp_path, Fixed(scores))
    assert (made.cause, made.error_type, made.top_label, made.scores) == (
        "classifier_error",
        "ScoresError",
        None,
        {},
    )
    assert made.model_chosen == SEED.fallback_model
    assert set(made.extra) == {"raw_scores"}
    assert rows(tmp_path, "cause, error_type, confidence, scores, is_fallback") == [
        ("classifier_error", "ScoresError", None, None, False)
    ]


@pytest.mark.parametrize(
    "reply", [None, {}, "simple", Classification("simple", None, "x", True, 1.0)], ids=repr
)
def test_a_reply_that_is_no_classification_is_a_logged_classifier_error(tmp_path, reply):
    made = routed(tmp_path, Replying(reply))
    assert (made.cause, made.error_type) == ("classifier_error", "BadReply")
    assert rows(tmp_path, "cause, error_type, model_chosen") == [
        ("classifier_error", "BadReply", SEED.fallback_model)
    ]


@pytest.mark.parametrize(
    ("cost", "taken"),
    [
        *(
            (x, None)
            for x in (Decimal("NaN"), Decimal("Infinity"), Decimal(-5), -0.1, float("nan"), "0.1", True)
        ),
        *((x, Decimal(str(x))) for x in (0.001, 0, Decimal("0.002"))),
    ],
    ids=repr,
)
def test_a_classifiers_cost_that_is_no_amount_is_unknown_to_the_row_and_the_cap(tmp_path, cost, taken):
    reply = Classification("simple", spread(0.9, 0.1), "x", True, 1.0, cost_usd=cost)
    with Router(SEED, classifier=Replying(reply), data=tmp_path, max_usd=1) as client:
        assert client.route("hello").classifier_cost_usd == taken
        assert client._spend.spent_usd == (taken or 0)
    assert rows(tmp_path, "cause, classifier_cost_usd") == [("routed", taken)]


def test_other_labels_are_kept_ignored_and_counted(tmp_path):
    made = routed(tmp_path, Fixed(SCORES | {"poetry": 0.99}))
    assert (made.top_label, made.scores["poetry"], made.extra) == ("simple", 0.99, {"extra_labels": 1})
    assert rows(tmp_path, "scores['poetry'], extra->>'extra_labels'") == [(0.99, "1")]


def test_a_flood_of_other_labels_does_not_cost_the_row(tmp_path):
    flood = {f"x{n}" * 50: 0.5 for n in range(30_000)} | {"o": object(), 7: 0.5}
    made = routed(tmp_path, Fixed(SCORES | flood))
    assert made.extra == {"extra_labels": 30_002}
    assert len(made.scores) == len(SCORES) + MAX_EXTRA_LABELS
    assert rows(tmp_path, "top_label") == [("simple",)]


def test_a_reported_top_label_that_is_not_the_best_is_flagged_and_the_best_is_followed(tmp_path):
    made = routed(tmp_path, Fixed(top_label="creative"))
    assert (made.top_label, made.extra) == ("simple", {"reported_top_label": "creative"})
    assert rows(tmp_path, "extra->>'reported_top_label'") == [("creative",)]


def test_scores_of_numpy_are_logged_as_plain_numbers(tmp_path):
    made = routed(tmp_path, Fixed({k: np.float64(v) for k, v in SCORES.items()}))
    assert rows(tmp_path, "scores, confidence") == [(SCORES, 0.7)]
    assert {type(v) for v in made.scores.values()} == {float}


def test_replaying_the_log_under_its_policy_gives_every_model_again(tmp_path):
    rng = np.random.default_rng(5)
    classifier = Fixed()
    with Router(SEED, classifier=classifier, data=tmp_path) as router:
        for _ in range(300):
            classifier.scores = dict(zip(SEED.label_names, rng.dirichlet([0.6] * 4).tolist(), strict=True))
            router.route("x")
    logged = rows(tmp_path, "scores, model_chosen, cause, runner_up")
    assert len({cause for _, _, cause, _ in logged}) == 2
    for scores, *found in logged:
        again = decide(scores, SEED)
        assert [again.model_chosen, again.cause, again.runner_up] == found


@pytest.mark.parametrize("prompt", ["", "   \n\t", "\u2003"])
def test_an_empty_prompt_goes_to_the_fallback_unasked(tmp_path, prompt):
    classifier = Fixed()
    made = routed(tmp_path, classifier, prompt=prompt)
    assert (made.cause, made.error_type, classifier.seen) == ("classifier_error", EMPTY_PROMPT, [])
    assert rows(tmp_path, "prompt, error_type") == [(prompt, EMPTY_PROMPT)]


def test_ten_megabytes_are_routed_and_logged_cut_with_their_length_and_hash(tmp_path):
    prompt = "\u00e9\x00" * 5_000_000
    made = routed(tmp_path, Fixed(), prompt=prompt)
    assert made.prompt_chars == 10_000_000
    assert rows(tmp_path, "length(prompt), prompt_chars, prompt_sha256, extra->>'prompt_cut'") == [
        (MAX_PROMPT_CHARS, 10_000_000, hashlib.sha256(prompt.encode()).hexdigest(), str(MAX_PROMPT_CHARS))
    ]


def test_nul_and_lone_surrogates_come_through(tmp_path):
    made = routed(tmp_path, Fixed(), prompt="a\x00b\ud800c\udfff", session_id="s\ud800")
    assert (made.prompt, made.extra) == ("a\x00b\ufffdc\ufffd", {"replaced_surrogates": 2})
    assert rows(tmp_path, "prompt, prompt_chars, session_id")[0][:2] == ("a\x00b\ufffdc\ufffd", 6)


def test_the_last_user_turn_of_a_message_list_is_classified_and_logged(tmp_path):
    classifier = Fixed()
    prompt = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": None},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "second"},
                {"type": "image"},
                {"type": "text", "text": "third"},
            ],
        },
        {"role": "assistant", "content": "sure"},
    ]
    made = routed(tmp_path, classifier, prompt=prompt)
    assert made.prompt == "second\nthird" == classifier.seen[0]


def test_messages_are_sent_on_without_what_no_encoding_can_carry():
    asked = ready(
        [
            {"role": "system", "content": "x\ud800"},
            {"role": "user", "content": [{"type": "text", "text": "y\udfff"}]},
        ]
    )
    assert asked.messages == [
        {"role": "system", "content": "x\ufffd"},
        {"role": "user", "content": [{"type": "text", "text": "y\ufffd"}]},
    ]
    assert asked.text == "y\ufffd"


@pytest.mark.parametrize(
    "prompt",
    [
        None,
        7,
        b"bytes",
        {"role": "user"},
        [],
        ["text"],
        [{"content": "x"}],
        [{"role": "system", "content": SECRET}],
        [{"role": "user", "content": 7}],
        [{"role": "user"}],
        {1, 2},
    ],
    ids=repr,
)
def test_what_is_no_prompt_is_an_input_error_that_does_not_repeat_it(tmp_path, prompt):
    with Router(SEED, classifier=Fixed(), data=tmp_path) as router, pytest.raises(InputError) as error:
        router.route(prompt)
    assert SECRET not in str(error.value)
    assert not (tmp_path / "spool").exists()


def test_neither_prompt_nor_key_stand_in_a_repr_a_log_line_or_an_error(tmp_path, monkeypatch, caplog):
    key = "sk-" + "4f" * 20
    monkeypatch.setenv("OPENAI_API_KEY", key)
    folder = tmp_path / "file"
    folder.write_text("in the way")
    with caplog.at_level(logging.DEBUG):
        router = Router(SEED, classifier=Raising(RuntimeError(SECRET)), data=folder)
        made = router.route(SECRET)
        router.close()
    texts = [repr(made), repr(ready(SECRET)), repr(router), caplog.text, str(made)]
    assert made.cause == "classifier_error"
    assert "could not be logged" in caplog.text
    for text in texts:
        assert SECRET not in text
        assert key not in text
        assert made.prompt_sha256 not in text


def test_an_error_that_is_no_classifiers_names_its_type_in_the_row(tmp_path):
    assert routed(tmp_path, Raising(ZeroDivisionError(SECRET))).error_type == "ZeroDivisionError"
    assert rows(tmp_path, "error_type") == [("ZeroDivisionError",)]


def test_a_configuration_error_of_the_classifier_reaches_its_owner(tmp_path):
    with (
        Router(SEED, classifier=Raising(MissingKeyError("set X")), data=tmp_path) as router,
        pytest.raises(MissingKeyError),
    ):
        router.route("hello")
    assert rows(tmp_path, "cause, model_chosen, error_type") == [
        ("classifier_error", "gpt-4o", "MissingKeyError")
    ]


def test_asking_without_a_key_names_the_variable_and_logs_the_decision(tmp_path):
    with (
        Router(SEED, classifier=Fixed(), data=tmp_path) as router,
        pytest.raises(MissingKeyError, match="OPENAI_API_KEY"),
    ):
        router.ask("hello")
    assert rows(tmp_path, "cause, model_chosen, model_used, outcome, error_type") == [
        ("routed", "gpt-4o-mini", None, "no_key", "MissingKeyError")
    ]


def test_asking_a_model_of_no_known_provider_names_the_key_to_add(tmp_path):
    with (
        Router(SEED, classifier=Fixed(), data=tmp_path) as router,
        pytest.raises(ConfigurationError, match=r'\[models."what-model"\]'),
    ):
        router.ask("hello", model="what-model")
    assert rows(tmp_path, "cause, outcome") == [("forced", "error")]


def test_an_api_that_the_models_provider_does_not_have_is_named(tmp_path):
    rule = Policy.from_toml(SEED.to_toml().replace('provider = "anthropic"', 'api = "responses"'))
    with (
        Router(rule, classifier=Fixed(), data=tmp_path) as router,
        pytest.raises(
            ConfigurationError,
            match=r'api = "responses" of model .claude-sonnet-4-5. is an API of provider "openai"',
        ),
    ):
        router.ask("hello", model="claude-sonnet-4-5")


def test_a_data_folder_that_is_a_file_does_not_stop_routing(tmp_path):
    (tmp_path / "data").write_text("x")
    router = Router(SEED, classifier=Fixed(), data=tmp_path / "data")
    assert [router.route("hello").model_chosen for _ in range(3)] == ["gpt-4o-mini"] * 3
    assert sum(router.dropped.values()) == 3
    router.close()


def test_a_data_folder_deleted_while_running_does_not_stop_routing(tmp_path):
    with Router(SEED, classifier=Fixed(), data=tmp_path / "data") as router:
        router.route("one")
        shutil.rmtree(tmp_path / "data")
        assert router.route("two").model_chosen == "gpt-4o-mini"


def test_without_a_log_nothing_is_written(tmp_path):
    with Router(SEED, classifier=Fixed(), data=tmp_path / "data", log=False) as router:
        assert router.route("hello").top_label == "simple"
        assert not router.dropped
    assert not (tmp_path / "data").exists()


def test_a_router_that_routed_nothing_leaves_nothing(tmp_path):
    Router(SEED, classifier=Fixed(), data=tmp_path / "data").close()
    assert not (tmp_path / "data").exists()


def test_the_policy_is_taken_from_a_file_the_folder_or_the_preset(tmp_path):
    file = tmp_path / "policy.toml"
    assert Router(data=tmp_path, classifier=Fixed()).policy == SEED
    file.write_text(SEED.with_threshold(0.6).to_toml())
    assert Router(data=tmp_path, classifier=Fixed()).policy.threshold == 0.6
    assert Router(file, data=tmp_path / "x", classifier=Fixed()).policy.threshold == 0.6
    file.write_text("threshold = 7")
    with pytest.raises(PolicyError):
        Router(data=tmp_path, classifier=Fixed())


def test_a_clock_with_a_zone_is_logged_in_utc(tmp_path):
    at = datetime(2026, 11, 1, 1, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    with Router(SEED, classifier=Fixed(), data=tmp_path, clock=lambda: at) as router:
        assert router.route("hello").decided_at == datetime(2026, 10, 31, 20, 0)
    assert rows(tmp_path, "decided_at") == [(at.astimezone(UTC).replace(tzinfo=None),)]


def test_threads_share_a_router(tmp_path):
    with Router(SEED, classifier=Fixed(), data=tmp_path) as router:
        threads = [
            threading.Thread(target=lambda: [router.route(f"x{n}") for n in range(50)]) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with open_log(tmp_path) as log:
        assert log.rows("SELECT count(*), count(DISTINCT id) FROM decisions") == [(400, 400)]


def test_the_async_router_decides_and_logs_the_same(tmp_path):
    async def main():
        async with AsyncRouter(SEED, classifier=Fixed(), data=tmp_path) as router:
            made = await asyncio.gather(*(router.route(f"prompt {n}") for n in range(20)))
            await router.flush()
            with pytest.raises(InputError):
                await router.route(7)
            with pytest.raises(MissingKeyError):
                await router.ask("hello")
            with pytest.raises(MissingKeyError):
                async for _ in router.stream("hello"):
                    pass
            return made

    made = asyncio.run(main())
    assert {(d.cause, d.model_chosen) for d in made} == {("routed", "gpt-4o-mini")}
    found = rows(tmp_path, "CAST(id AS VARCHAR), outcome")
    assert len(found) == 22
    assert {d.id for d in made} == {x for x, outcome in found if outcome is None}


def test_a_classifier_does_not_hold_up_the_event_loop(tmp_path):
    class Slow(Fixed):
        def classify(self, text, labels):
            time.sleep(0.2)
            return super().classify(text, labels)

    async def main():
        async with AsyncRouter(SEED, classifier=Slow(), data=tmp_path) as router:
            task = asyncio.create_task(router.route("x"))
            ticks = 0
            while not task.done():
                await asyncio.sleep(0.01)
                ticks += 1
            return ticks

    assert asyncio.run(main()) >= 3


@pytest.mark.parametrize(
    ("answer", "cause", "error_type"),
    [
        (Classification("simple", SCORES, "own/1", True, 1.0), "routed", None),
        (None, "classifier_error", "BadReply"),
        (ClassifierTimeout("late"), "classifier_timeout", "ClassifierTimeout"),
        (RuntimeError(SECRET), "classifier_error", "RuntimeError"),
    ],
)
def test_a_classifier_with_a_coroutine_is_awaited_on_the_loop(tmp_path, answer, cause, error_type):
    class Own(Fixed):
        threads: tuple[threading.Thread, ...] = ()

        async def aclassify(self, text, labels):
            self.threads += (threading.current_thread(),)
            if isinstance(answer, Exception):
                raise answer
            return answer

    async def main():
        async with AsyncRouter(SEED, classifier=own, data=tmp_path) as router:
            assert (await router.route("  ")).error_type == EMPTY_PROMPT
            return await router.route("hello")

    own = Own()
    made = asyncio.run(main())
    assert (made.cause, made.error_type) == (cause, error_type)
    assert own.threads == (threading.current_thread(),)


def test_a_configuration_error_of_a_coroutine_reaches_its_owner_too(tmp_path):
    class Own(Fixed):
        async def aclassify(self, text, labels):
            raise MissingKeyError("set X")

    async def main():
        async with AsyncRouter(SEED, classifier=Own(), data=tmp_path) as router:
            await router.route("hello")

    with pytest.raises(MissingKeyError):
        asyncio.run(main())
    assert rows(tmp_path, "cause, error_type") == [("classifier_error", "MissingKeyError")]


@pytest.mark.parametrize("method", ["route", "ask", "stream"])
def test_ctrl_c_while_the_classifier_works_is_logged(tmp_path, method):
    with (
        Router(SEED, classifier=Raising(KeyboardInterrupt()), data=tmp_path) as router,
        pytest.raises(KeyboardInterrupt),
    ):
        getattr(router, method)("hello", session_id="s")
    found = rows(tmp_path, "outcome, cause, error_type, model_used, session_id, attempts")
    assert found == [("cancelled", "classifier_error", "KeyboardInterrupt", None, "s", None)]


@pytest.mark.parametrize("own", [False, True], ids=["thread", "coroutine"])
@pytest.mark.parametrize("method", ["route", "ask", "stream"])
def test_a_task_that_is_cancelled_while_the_classifier_works_is_logged(tmp_path, method, own):
    class Slow(Fixed):
        def classify(self, text, labels):
            begun.set()
            end.wait(5)
            return super().classify(text, labels)

    class Own(Fixed):
        async def aclassify(self, text, labels):
            begun.set()
            await asyncio.sleep(5)

    async def asked(router):
        if method == "stream":
            return [piece async for piece in router.stream("hello", session_id="s")]
        return await getattr(router, method)("hello", session_id="s")

    async def main():
        async with AsyncRouter(SEED, classifier=Own() if own else Slow(), data=tmp_path) as router:
            task = asyncio.create_task(asked(router))
            await asyncio.to_thread(begun.wait, 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            end.set()

    begun, end = threading.Event(), threading.Event()
    asyncio.run(main())
    found = rows(tmp_path, "outcome, error_type, model_used, session_id")
    assert found == [("cancelled", "CancelledError", None, "s")]


@pytest.mark.parametrize(
    ("prompt", "options", "said"),
    [
        ([{"role": "user", "content": [{"type": "image", "data": SECRET.encode()}]}], {}, "message 1 holds a value of type bytes"),
        ([{"role": "user", "content": "x", "note": {SECRET}}], {}, "message 1 holds a value of type set"),
        ([{"role": "user", "content": "x", "note": {7: SECRET}}], {}, "message 1 holds a key of type int"),
        ("x", {"tools": [SECRET]}, "tools: found str, expected a list of mappings"),
        ("x", {"tools": [{"type": "function", "function": {"parameters": {SECRET}}}]}, "tools holds a value of type set"),
        ("x", {"tool_choice": {"type": SECRET.encode()}}, "tool_choice holds a value of type bytes"),
        ("x", {"system": SECRET.encode()}, "system: found bytes, expected text"),
        ("x", {"max_tokens": SECRET}, "max_tokens: found str, expected a whole number"),
        ("x", {"max_tokens": True}, "max_tokens: found bool, expected a whole number"),
        ("x", {"max_tokens": 0}, "max_tokens: found 0, expected 1 or more"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_what_no_api_can_be_sent_is_the_callers_error_before_anything_is_decided(
    tmp_path, prompt, options, said, asynchronous
):
    classifier = Fixed()

    async def main():
        async with AsyncRouter(SEED, classifier=classifier, data=tmp_path) as router:
            await router.ask(prompt, **options)

    with pytest.raises(InputError, match=said) as error:
        if asynchronous:
            asyncio.run(main())
        else:
            with Router(SEED, classifier=classifier, data=tmp_path) as router:
                router.ask(prompt, **options)
    assert SECRET not in str(error.value)
    assert classifier.seen == []
    assert rows(tmp_path) == []


def test_every_error_of_the_router_has_one_base():
    assert issubclass(InputError, RouterError)
    assert issubclass(ClassifierTimeout, ClassifierError)


def test_closing_gives_the_providers_connections_back(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", fake.openai_url)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.anthropic_url)
    router = Router(Policy.preset("seed"), classifier=Fixed(), data=tmp_path)
    router.ask("hello")
    (provider,) = router._providers.values()
    router.close()
    assert router._providers == {}
    assert provider._built[1].is_closed()


def test_a_stream_that_nobody_reads_is_in_the_log(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", fake.openai_url)
    with Router(SEED, classifier=Fixed(), data=tmp_path) as router:
        stream = router.stream("hello")
        del stream
    assert rows(tmp_path, "cause, outcome") == [("routed", "cancelled")]
