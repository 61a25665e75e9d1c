"""The hosted classifier against a loopback server: its wire format, its scores, and every way it can fail."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_apis import BODIES, STATUSES, FakeApis
from typer.testing import CliRunner

from router import Router
from router.classifiers.scaledown import FAILURES_TO_OPEN, OPEN_S, ScaleDownClassifier, read_reply
from router.cli.app import app
from router.errors import ClassifierError, ClassifierTimeout, ConfigurationError, MissingKeyError, ScoresError
from router.log.reader import open_log
from router.policy import ClassifierPrice, Policy
from router.types import Classifier, Label

KEY = "sd-canary-9a8b7c"
TEXT = "canary text: name the capital of Japan"
LABELS = (
    Label("simple", "Is this easy?", examples=("never sent",)),
    Label("coding", "Is this about code?"),
    Label("creative", "Is this creative?"),
)
NAMES = [label.name for label in LABELS]


@pytest.fixture
def classifier(fake: FakeApis) -> Iterator[ScaleDownClassifier]:
    with ScaleDownClassifier(KEY, fake.scaledown_url, deadline_s=20) as made:
        yield made


@pytest.fixture
def hasty(fake: FakeApis) -> Iterator[ScaleDownClassifier]:
    with ScaleDownClassifier(KEY, fake.scaledown_url, deadline_s=0.6) as made:
        yield made


def test_the_request_has_the_documented_form(fake: FakeApis, classifier: ScaleDownClassifier) -> None:
    classifier.classify(TEXT, LABELS)
    request = fake.requests[0]
    assert request.path == "/classify"
    assert request.headers["x-api-key"] == KEY
    assert request.headers["content-type"] == "application/json"
    assert request.body == {"text": TEXT, "labels": [{"name": x.name, "rubric": x.rubric} for x in LABELS]}


def test_the_answer_is_a_classification(fake: FakeApis, classifier: ScaleDownClassifier) -> None:
    fake.scores = {"simple": 0.2, "coding": 0.7, "creative": 0.1}
    answer = classifier.classify(TEXT, LABELS)
    assert (answer.top_label, answer.scores) == ("coding", fake.scores)
    assert (answer.classifier, answer.calibrated, answer.cost_usd) == ("scaledown", False, None)
    assert answer.latency_ms > 0
    assert answer.reported_top_label is None
    assert isinstance(classifier, Classifier)


def test_its_coroutine_gives_the_same_and_many_wait_at_once(
    fake: FakeApis, classifier: ScaleDownClassifier, hasty: ScaleDownClassifier
) -> None:
    async def many() -> list[Any]:
        return await asyncio.gather(*(classifier.aclassify(TEXT, LABELS) for _ in range(20)))

    async def late() -> list[Any]:
        calls = [hasty.aclassify(TEXT, LABELS) for _ in range(20)]
        return await asyncio.gather(*calls, return_exceptions=True)

    fake.scores = {"simple": 0.2, "coding": 0.7, "creative": 0.1}
    assert {(x.top_label, x.cost_usd) for x in asyncio.run(many())} == {("coding", None)}
    fake.always("hang")
    started = time.monotonic()
    assert {type(x) for x in asyncio.run(late())} == {ClassifierTimeout}
    assert time.monotonic() - started < 0.6 * 1.1 + 0.5  # not one after the other


def test_a_price_per_call_is_the_cost(fake: FakeApis) -> None:
    with ScaleDownClassifier(KEY, fake.scaledown_url, price_per_call=Decimal("0.000015")) as priced:
        assert priced.classify(TEXT, LABELS).cost_usd == Decimal("0.000015")


def test_a_policy_states_the_price_of_a_call_and_every_decision_logs_it(
    fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALEDOWN_API_KEY", KEY)
    monkeypatch.setenv("SCALEDOWN_BASE_URL", fake.scaledown_url)
    hosted = replace(Policy.preset("seed"), classifier="scaledown")
    price = ClassifierPrice(Decimal("0.000015"), source="contract", date=date(2026, 11, 1))
    for name, policy, cost in (
        ("unknown", hosted, None),
        ("stated", replace(hosted, classifier_price=price), price.per_call),
    ):
        with Router(policy, data=tmp_path / name) as router:
            assert router.route("What is the capital of Japan?").classifier_cost_usd == cost
        with open_log(tmp_path / name) as log:
            assert log.rows("SELECT classifier, classifier_cost_usd FROM decisions") == [("scaledown", cost)]
        (tmp_path / name / "policy.toml").write_text(policy.to_toml())
        said = CliRunner().invoke(app, ["doctor", "--data", str(tmp_path / name)]).stdout
        assert ("what a call costs is not known" in said) is (cost is None)
        assert ("a call costs $0.000015 (contract), as of 2026-11-01" in said) is (cost is not None)


def test_ties_go_to_the_label_listed_first(fake: FakeApis, classifier: ScaleDownClassifier) -> None:
    fake.scores = {"creative": 0.4, "coding": 0.4, "simple": 0.2}
    assert classifier.classify(TEXT, LABELS).top_label == "coding"


@pytest.mark.parametrize("said", ["simple", "poetry"])
def test_a_reported_top_label_that_is_not_the_best_is_kept(
    fake: FakeApis, classifier: ScaleDownClassifier, said: str
) -> None:
    scores = {"simple": 0.2, "coding": 0.7, "creative": 0.1}
    fake.scores = lambda body: {"top_label": said, "scores": scores}
    answer = classifier.classify(TEXT, LABELS)
    assert (answer.top_label, answer.reported_top_label) == ("coding", said)


GOOD = {"simple": 0.2, "coding": 0.7, "creative": 0.1}
AS_LIST = [{"label": name, "score": score, "rubric": "?"} for name, score in GOOD.items()]


@pytest.mark.parametrize(
    "reply",
    [
        {"top_label": "coding", "scores": GOOD, "labels": AS_LIST},
        {"top_label": "coding", "scores": GOOD},
        {"top_label": "coding", "labels": AS_LIST},
        {"labels": [{"name": x["label"], "score": x["score"]} for x in AS_LIST]},
        {"scores": {"coding": 0.7}, "labels": AS_LIST, "ocr_text": None, "new_field": [1]},
    ],
    ids=["both", "scores", "list", "list by name", "half and half"],
)
def test_scores_are_read_from_either_form(reply: dict[str, Any]) -> None:
    assert read_reply(reply, NAMES)[0] == GOOD


def test_scores_of_other_labels_are_kept_when_valid() -> None:
    scores, _ = read_reply({"scores": GOOD | {"poetry": 0.05, "broken": math.nan}}, NAMES)
    assert scores == GOOD | {"poetry": 0.05}


def test_scores_need_not_sum_to_one() -> None:
    assert read_reply({"scores": dict.fromkeys(NAMES, 0.9)}, NAMES)[0] == dict.fromkeys(NAMES, 0.9)


def test_rounding_above_one_is_clipped() -> None:
    assert read_reply({"scores": GOOD | {"coding": 1 + 1e-12}}, NAMES)[0]["coding"] == 1.0


@pytest.mark.parametrize(
    "score",
    [math.nan, math.inf, -0.1, 1.01, "0.7", True, [0.7], {}, 10**400, 1e400],
    ids=["nan", "inf", "negative", "above 1", "text", "bool", "list", "object", "huge", "overflow"],
)
def test_a_score_that_is_no_score_is_an_error_that_names_its_label(score: Any) -> None:
    with pytest.raises(ScoresError, match="coding"):
        read_reply({"scores": GOOD | {"coding": score}}, NAMES)


@pytest.mark.parametrize(
    "reply",
    [
        {"scores": {"simple": 0.9}}, {"scores": {}}, {}, {"scores": None, "labels": None}, {"scores": [0.1, 0.2]},
        {"labels": [None, 3, {"label": 7, "score": 1}]}, {"scores": GOOD | {"coding": None}},
    ],
)  # fmt: skip
def test_a_missing_label_is_a_scores_error(reply: dict[str, Any]) -> None:
    with pytest.raises(ScoresError, match=r"no score for .*coding"):
        read_reply(reply, NAMES)


RETRIED = [name for name, (status, _) in STATUSES.items() if status == 429 or status >= 500]
WIRE_FAULTS = ["closed", "hang", "drip", "drip_headers", "huge", "gzip", "short_body"]


@pytest.mark.parametrize("fault", [*STATUSES, *BODIES, *WIRE_FAULTS])
def test_every_fault_is_a_typed_error_within_the_deadline(
    fake: FakeApis, hasty: ScaleDownClassifier, fault: str
) -> None:
    fake.always(fault)
    started = time.monotonic()
    with pytest.raises(ClassifierError) as caught:
        hasty.classify(TEXT, LABELS)
    assert time.monotonic() - started <= 0.6 * 1.1 + 0.3
    assert 1 <= len(fake.requests) <= 2
    assert_says_nothing(caught.value)


def assert_says_nothing(error: BaseException | None) -> None:
    """No message down the chain of causes, and no attribute in reach, holds the key or the text."""
    while error is not None:
        for secret in (KEY, "canary"):
            assert secret not in f"{error} {error!r} {vars(error)}"
        assert not isinstance(error, httpx.HTTPError)  # it would carry the request and its headers
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("fault", ["hang", "drip", "drip_headers"])
def test_a_reply_that_never_ends_is_a_timeout(fake: FakeApis, hasty: ScaleDownClassifier, fault: str) -> None:
    fake.always(fault)
    with pytest.raises(ClassifierTimeout, match=r"within 0\.6 s"):
        hasty.classify(TEXT, LABELS)


@pytest.mark.parametrize("fault", ["401", "403"])
def test_a_refused_key_says_which_variable(
    fake: FakeApis, classifier: ScaleDownClassifier, fault: str
) -> None:
    fake.always(fault)
    with pytest.raises(ClassifierError, match="check SCALEDOWN_API_KEY"):
        classifier.classify(TEXT, LABELS)
    assert len(fake.requests) == 1


def test_a_redirect_is_not_followed_and_its_host_is_named(
    fake: FakeApis, classifier: ScaleDownClassifier
) -> None:
    fake.always("307")
    with pytest.raises(ClassifierError, match=r"redirects \(307\) to 127\.0\.0\.1"):
        classifier.classify(TEXT, LABELS)
    assert len(fake.requests) == 1


@pytest.mark.parametrize("fault", ["429", "500", "503", "closed"])
def test_a_failure_that_passes_is_tried_again(fake: FakeApis, fault: str) -> None:
    fake.then(fault)
    with ScaleDownClassifier(KEY, fake.scaledown_url) as patient:
        assert patient.classify(TEXT, LABELS).top_label == "simple"
    assert len(fake.requests) == 2


@pytest.mark.parametrize("fault", ["400", "404", "html", "object"])
def test_what_trying_again_cannot_mend_is_asked_once(fake: FakeApis, fault: str) -> None:
    fake.always(fault)
    with ScaleDownClassifier(KEY, fake.scaledown_url) as patient, pytest.raises(ClassifierError):
        patient.classify(TEXT, LABELS)
    assert len(fake.requests) == 1


def test_a_retry_after_beyond_the_deadline_is_not_waited_for(fake: FakeApis) -> None:
    fake.always("429-after-200")
    started = time.monotonic()
    with ScaleDownClassifier(KEY, fake.scaledown_url) as patient, pytest.raises(ClassifierError, match="429"):
        patient.classify(TEXT, LABELS)
    assert time.monotonic() - started < 1


def test_lone_surrogates_are_replaced(fake: FakeApis, classifier: ScaleDownClassifier) -> None:
    classifier.classify("half \ud83d of it", LABELS)
    assert fake.requests[0].body["text"] == "half � of it"


def test_after_failures_in_a_row_it_is_left_alone_for_a_while(fake: FakeApis) -> None:
    now = [100.0]
    with ScaleDownClassifier(KEY, fake.scaledown_url, retries=0, clock=lambda: now[0]) as broken:
        fake.always("500")
        for _ in range(FAILURES_TO_OPEN):
            with pytest.raises(ClassifierError, match="500"):
                broken.classify(TEXT, LABELS)
        with pytest.raises(ClassifierError, match="left alone"):
            broken.classify(TEXT, LABELS)
        assert len(fake.requests) == FAILURES_TO_OPEN
        fake.always("ok")
        now[0] += OPEN_S
        assert broken.classify(TEXT, LABELS).top_label == "simple"
        assert broken.classify(TEXT, LABELS).top_label == "simple"


def test_key_and_url_come_from_the_environment(fake: FakeApis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALEDOWN_API_KEY", KEY)
    monkeypatch.setenv("SCALEDOWN_BASE_URL", fake.scaledown_url + "/")
    with ScaleDownClassifier() as made:
        made.classify(TEXT, LABELS)
        assert KEY not in repr(made)
    assert (fake.requests[0].path, fake.requests[0].headers["x-api-key"]) == ("/classify", KEY)


def test_the_environments_key_does_not_go_to_another_host(
    fake: FakeApis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALEDOWN_API_KEY", KEY)
    with ScaleDownClassifier(base_url=fake.scaledown_url) as made:
        made.classify(TEXT, LABELS)
    assert KEY not in str(fake.requests[0].headers)


def test_with_a_key_alone_the_service_itself_is_asked() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json={"scores": GOOD})

    with ScaleDownClassifier(KEY, transport=httpx.MockTransport(answer)) as made:
        assert made.classify(TEXT, LABELS).top_label == "coding"
    assert asked == ["https://api.scaledown.xyz/classify"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ScaleDownClassifier(), MissingKeyError, "SCALEDOWN_API_KEY"),
        (lambda: ScaleDownClassifier("sd-canary\n1"), ConfigurationError, "position 10"),
        (lambda: ScaleDownClassifier(KEY, "ftp://host"), ConfigurationError, "http"),
        (lambda: ScaleDownClassifier(KEY, deadline_s=0), ConfigurationError, "above 0"),
        (lambda: ScaleDownClassifier(KEY, timeout_s=math.nan), ConfigurationError, "above 0"),
        (lambda: ScaleDownClassifier(KEY, retries=-1), ConfigurationError, "0 or more"),
    ],
)
def test_construction_checks_its_arguments(
    make: Callable[[], ScaleDownClassifier], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        make()
    assert "canary" not in str(caught.value)


def test_no_labels_and_a_closed_classifier_are_typed_errors(fake: FakeApis) -> None:
    made = ScaleDownClassifier(KEY, fake.scaledown_url)
    with pytest.raises(ClassifierError, match="no labels"):
        made.classify(TEXT, [])
    made.close()
    made.close()
    with pytest.raises(ClassifierError) as caught:
        made.classify(TEXT, LABELS)
    assert_says_nothing(caught.value)


def test_many_threads_share_one_classifier(fake: FakeApis) -> None:
    results: list[str] = []
    with ScaleDownClassifier(KEY, fake.scaledown_url) as shared:
        threads = [
            threading.Thread(target=lambda: results.append(shared.classify(TEXT, LABELS).top_label))
            for _ in range(24)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == ["simple"] * 24


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_can_classify(fake: FakeApis, classifier: ScaleDownClassifier) -> None:
    classifier.classify(TEXT, LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons warn of fork beside threads
        child = os.fork()
    if child == 0:
        try:
            top = classifier.classify(TEXT, LABELS).top_label
        except ClassifierError:
            top = ""
        os._exit(0 if top == "simple" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert classifier.classify(TEXT, LABELS).top_label == "simple"
