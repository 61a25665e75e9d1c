"""Every page in every state, run by Streamlit's own AppTest over a real log."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fake_apis import FakeApis
from log_samples import decision
from streamlit.testing.v1 import AppTest

from dashboard import describe, loaders, state
from dashboard.scenario_editor import decode
from router import Policy
from router.analysis.scenarios import preset_plan
from router.cli.demo import build
from router.errors import InputError
from router.log import open_log, queries
from router.log.owner import ingest_now
from router.log.privacy import Privacy
from router.log.record import decision_payload, feedback_payload, unix_ms, uuid7
from router.log.spool import Spool
from router.log.writer import policy_payload
from router.policy import decide
from router.prices import PriceBook
from router.spend import DayLedger
from router.types import Attempt, Decision

APP = str(Path(state.__file__).with_name("app.py"))
PAGES = ("overview", "decisions", "labels", "threshold", "savings", "playground", "review")
TITLES = {name: name.capitalize() for name in PAGES}
POLICY = Policy.preset("seed")


def write_log(
    data: Path,
    rows: int,
    *,
    tokens: bool = True,
    prompt: str = "what is rule {i}?",
    privacy: Privacy | None = None,
    **more: Any,
) -> None:
    """A log of decisions whose scores sweep through every confidence and label."""
    spool = Spool(data)
    now = datetime.now().replace(microsecond=0) - timedelta(hours=1)
    spool.append(policy_payload(POLICY, now))
    names = POLICY.label_names
    for i in range(rows):
        top, other = names[i % 4], names[(i + 1 + i // 4 % 3) % 4]
        best = 0.30 + (i * 37 % 700) / 1000
        scores = {name: (1 - best) / 4 for name in names} | {other: (1 - best) / 2} | {top: best}
        choice = decide(scores, POLICY)
        when = now - timedelta(minutes=7 * (rows - i))
        spool.append(
            decision_payload(
                replace(
                    Decision(
                        id=uuid7(unix_ms(when)),
                        decided_at=when,
                        prompt=prompt.format(i=i),
                        prompt_sha256=hashlib.sha256(prompt.format(i=i).encode()).hexdigest(),
                        prompt_chars=20,
                        top_label=choice.top_label,
                        confidence=choice.confidence,
                        scores=scores,
                        runner_up=choice.runner_up,
                        margin=choice.margin,
                        threshold=0.55,
                        cause=choice.cause,
                        is_fallback=choice.is_fallback,
                        model_chosen=choice.model_chosen,
                        model_used=choice.model_chosen,
                        classifier="test-1",
                        calibrated=True,
                        classify_ms=12.0,
                        policy_fingerprint=POLICY.fingerprint,
                        labels_fingerprint=POLICY.labels_fingerprint,
                        classifier_cost_usd=Decimal(0),
                        input_tokens=500 if tokens else None,
                        output_tokens=300 + i % 50 if tokens else None,
                        usage_grade="measured" if tokens else None,
                        outcome="ok" if tokens else None,
                    ),
                    **more,
                ),
                privacy,
            )
        )
    spool.close()
    ingest_now(data)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data"
    state.configure(state.Settings(folder))
    yield folder
    loaders.close_readers()
    state.configure(None)


def open_page(page: str) -> AppTest:
    """The page as a reader opens it, run to its end without an exception."""
    test = AppTest.from_file(APP, default_timeout=60)
    test.run()
    if page != "overview":
        test.switch_page(state.VIEWS[page]).run()
    assert not test.exception, [error.value for error in test.exception]
    return test


def words(test: AppTest) -> str:
    """All text on the page."""
    found = [
        element.value
        for kind in ("title", "subheader", "caption", "markdown", "text", "code")
        for element in test.get(kind)
    ]
    return "\n".join(str(word) for word in found)


@pytest.mark.parametrize("page", PAGES)
def test_page_of_an_empty_log_says_what_to_do_next(page: str, data: Path) -> None:
    test = open_page(page)
    assert test.title[0].value == TITLES[page]
    if page != "playground":
        assert "No decisions yet." in words(test)
        assert f"data={str(data)!r}" in words(test) and "client.route(" in words(test)
    assert not data.exists(), "looking at a log must not make one"


@pytest.mark.parametrize("page", PAGES)
def test_page_of_one_decision(page: str, data: Path) -> None:
    write_log(data, 1)
    test = open_page(page)
    assert test.title[0].value == TITLES[page]


@pytest.mark.parametrize("page", PAGES)
def test_page_of_a_log_with_many_decisions(page: str, data: Path) -> None:
    write_log(data, 600)
    test = open_page(page)
    assert test.title[0].value == TITLES[page]
    assert "No decision" not in words(test)


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo as the command makes it: real classifications, drawn traffic, assumed tokens, a policy file."""
    folder = tmp_path_factory.mktemp("pages") / "demo"
    build(folder, 200)
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_page_of_the_demo(page: str, data: Path, demo_folder: Path) -> None:
    state.configure(state.Settings(demo_folder))
    test = open_page(page)
    assert not test.exception
    assert test.title[0].value == TITLES[page]
    assert page == "playground" or "Sample traffic" in words(test)
    if page == "savings":
        assert "assumed" in words(test)


@pytest.mark.parametrize("page", PAGES)
def test_page_without_token_counts_says_not_measured(page: str, data: Path) -> None:
    write_log(data, 60, tokens=False)
    test = open_page(page)
    assert "$0.00" not in words(test), "an unknown cost is not zero"


@pytest.mark.parametrize("prompts", ["hash", "none"])
@pytest.mark.parametrize("page", PAGES)
def test_page_of_a_log_without_prompts(page: str, prompts: str, data: Path) -> None:
    write_log(data, 120, privacy=Privacy(prompts))
    test = open_page(page)
    assert test.title[0].value == TITLES[page]
    assert "what is rule" not in words(test)
    if page == "decisions":
        assert set(test.dataframe(key="decisions_table").value["Prompt"]) == {"not stored"}
        assert "The prompt was not stored." in words(test), "and everything else of the first row is shown"


def test_unreadable_policy_is_a_written_state_with_its_faults(data: Path) -> None:
    data.mkdir()
    (data / "policy.toml").write_text('treshold = 0.5\nfallback_model = "gpt-4o"\n')
    test = AppTest.from_file(APP, default_timeout=60).run()
    assert not test.exception
    assert "The policy cannot be read" in words(test)
    assert "did you mean 'threshold'?" in words(test)


def test_log_owned_by_another_process_is_read_from_the_spools(data: Path) -> None:
    write_log(data, 50)
    script = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from router.log.owner import Owner
        owner = Owner(Path(sys.argv[1]), role="dashboard"); owner.start(); owner.wait_ready(20)
        print("ready", flush=True); sys.stdin.read()
    """)
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == "ready\n"
        test = open_page("decisions")
        assert f"PID {other.pid}" in words(test)
        assert "50 of 50 decisions" in words(test)
    finally:
        other.communicate("", timeout=20)


def test_playground_without_a_key_shows_the_decision_and_names_the_variable(data: Path) -> None:
    test = open_page("playground")
    test.text_area(key="playground_prompt").set_value("what is the capital of peru").run()
    assert not test.exception
    assert "Set OPENAI" in words(test).replace("\\", "") or "Set ANTHROPIC" in words(test).replace("\\", "")
    assert not (data / "spool").exists(), "the playground logs nothing unless asked"


def test_playground_logs_when_asked(data: Path) -> None:
    test = open_page("playground")
    test.text_area(key="playground_prompt").set_value("what is the capital of peru").run()
    test.button(key="log_decision").click().run()
    assert not test.exception
    deadline = time.monotonic() + 10
    counted = "SELECT source, count(*) FROM decisions GROUP BY 1"
    while not (rows := loaders.get_log().rows(counted)) and time.monotonic() < deadline:
        time.sleep(0.1)  # beside a running server the pages read the spool once a second
    assert rows == [("playground", 1)]


def test_a_decision_shows_the_attempts_that_failed_before_its_answer(data: Path) -> None:
    failed = (
        Attempt("first-model", "rate_limited", total_ms=812.0),
        Attempt("<b>second</b>", "empty", cost_usd=Decimal("0.0034"), total_ms=2900.0),
    )
    spool = Spool(data)
    at = datetime.now() - timedelta(hours=1)
    spool.append(decision_payload(decision(decided_at=at, failed_attempts=failed, attempts=3, outcome="ok")))
    spool.close()
    ingest_now(data)
    test = open_page("decisions")
    facts = dict(test.dataframe[1].value.itertuples(index=False, name=None))
    assert facts["Failed 1"] == "first-model: rate limited, 812 ms, cost not measured"
    assert facts["Failed 2"] == "<b>second</b>: empty, 2.9 s, $0.0034"


def test_playground_shows_the_attempts_that_failed_before_a_live_answer(
    data: Path, fake: FakeApis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", fake.openai_url)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.anthropic_url)
    fake.then("503")
    test = open_page("playground")
    test.text_area(key="playground_prompt").set_value("what is the capital of peru").run()
    asking = [button for button in test.button if str(button.key).startswith("ask_")]
    asking[0].click().run()
    assert not test.exception
    said = [text.value for text in test.text]
    assert fake.text in said
    assert any(text.startswith("Failed first: ") and ": overloaded, " in text for text in said)


def test_saving_a_candidate_changes_one_line_of_the_policy_and_keeps_its_comments(data: Path) -> None:
    write_log(data, 100)
    test = open_page("threshold")
    test.number_input(key="t").set_value(0.64).run()
    test.button(key="save").click().run()
    assert not test.exception
    assert any("+threshold = 0.64" in code.value for code in test.code)
    test.button(key="confirm_save").click().run()
    saved = (data / "policy.toml").read_text()
    assert Policy.load(data / "policy.toml").threshold == 0.64
    assert "# follow the top label from this confidence on" in saved


def test_decisions_do_not_shift_when_rows_arrive(data: Path) -> None:
    write_log(data, 250)
    test = open_page("decisions")
    assert "250 of 250 decisions" in words(test)
    first = test.dataframe(key="decisions_table").value["Prompt"].tolist()
    write_log(data, 30, prompt="a new one {i}")
    deadline = time.monotonic() + 10
    while not any("30 new" in button.label for button in test.button) and time.monotonic() < deadline:
        test.run()  # a reader beside the owner looks at the spools once a second
    assert any("30 new" in button.label for button in test.button)
    assert test.dataframe(key="decisions_table").value["Prompt"].tolist() == first
    test.button(key="show_new").click().run()
    assert "280 of 280 decisions" in words(test)


def test_candidate_stays_while_pages_are_walked(data: Path) -> None:
    write_log(data, 40)
    test = open_page("threshold")
    test.number_input(key="t").set_value(0.7).run()
    test.switch_page(state.VIEWS["playground"]).run()
    assert test.number_input(key="t").value == 0.7


def test_savings_starts_from_the_guides_table_and_works_out_what_an_address_holds(data: Path) -> None:
    write_log(data, 40)
    test = open_page("savings")
    shown = {metric.label: metric.value for metric in test.metric}
    assert (shown["Baseline a day"], shown["Routed a day"], shown["Savings a day"]) == (
        "$15,000.00",
        "$4,800.00",
        "$10,200.00",
    )
    test.button(key="scenario_from_list-prices").click().run()
    assert not test.exception
    shown = {metric.label: metric.value for metric in test.metric}
    assert shown["Routed a day"] == "$5,887.50"
    assert "scenario" not in test.query_params, "a packaged one needs no address"


def test_an_edited_scenario_goes_into_the_address_and_comes_back(data: Path) -> None:
    write_log(data, 40)
    test = open_page("savings")
    test.number_input(key="scenario_requests_1").set_value(2_000_000).run()
    assert not test.exception
    assert {m.label: m.value for m in test.metric}["Routed a day"] == "$9,600.00"
    found = test.query_params["scenario"]
    address = found if isinstance(found, str) else found[0]
    again = AppTest.from_file(APP, default_timeout=60)
    again.query_params["scenario"] = address
    again.run()
    again.switch_page(state.VIEWS["savings"]).run()
    assert not again.exception
    assert {m.label: m.value for m in again.metric}["Routed a day"] == "$9,600.00"
    assert decode(address) == replace(
        preset_plan("guide"),
        requests=2_000_000,
        name="own",
        title="Own scenario",
        assumptions="",
        source="scenario",
    )


@pytest.mark.parametrize(
    "address", ["", "x", "[]", '[1,"m",null,"0",null,[["a","0.5","m",1,1,0]]]', "[1,2,3,4,5,6]", "[[[[[["]
)
def test_an_address_that_is_no_scenario_is_refused_in_words(address: str) -> None:
    with pytest.raises(InputError):
        decode(address)


def test_savings_lists_what_has_no_price_by_name_and_marks_the_lower_bound(data: Path) -> None:
    write_log(data, 60)
    write_log(data, 30, tokens=False)
    test = open_page("savings")
    assert "Not priced: " in words(test)
    assert {m.label: m.value for m in test.metric}["Paid"].endswith("+")


def test_overview_and_savings_show_one_sum_with_failed_attempts_and_classifier(data: Path) -> None:
    free = Attempt("gpt-4o", "malformed", cost_usd=Decimal("1.25"))
    write_log(
        data,
        8,
        classifier_cost_usd=Decimal("0.5"),
        attempts=2,
        failed_attempts=(free,),
        failed_cost_usd=Decimal("1.25"),
    )
    cost = {m.label: m.value for m in open_page("overview").metric}["Cost"]
    shown = open_page("savings")
    paid = {m.label: m.value for m in shown.metric}["Paid"]
    assert cost == paid
    assert "not projected: that needs a full day of priced decisions" in words(shown)
    assert 14.0 <= float(cost.lstrip("$")) < 15.0  # 8 x (0.5 + 1.25), and the answers
    write_log(data, 4, outcome="auth", tokens=False)  # known to cost nothing: no plus
    loaders.close_readers()
    again = open_page("savings")
    assert {m.label: m.value for m in open_page("overview").metric}["Cost"] == cost
    assert {m.label: m.value for m in again.metric}["Paid"] == cost
    assert "No model answered, and no provider charges for that: 4 decisions" in words(again)
    write_log(data, 1, attempts=2, failed_attempts=(Attempt("gpt-4o", "timeout"),))
    loaders.close_readers()
    shown = {m.label.split(" vs ")[0]: m.value for m in open_page("overview").metric}
    assert shown["Cost"].endswith("+") and shown["Savings"].startswith("At most ")
    test = open_page("savings")
    assert "The cost of failed attempts is not known for some decisions: paid is at least" in words(test)
    saved = {m.label: m.value for m in test.metric}["Savings"]
    assert saved.startswith("At most ") and "±" not in saved
    assert {m.label: m.value for m in test.metric}["Paid"].endswith("+")
    table = next(x.value for x in test.dataframe if "Paid" in x.value)
    assert sorted(set(table["Bound"])) == ["", "at least; savings at most"]
    bounded = table[table["Bound"] != ""]
    assert len(bounded) == 1 and bounded["Share"].iloc[0].startswith("≤ ")
    assert not table[table["Bound"] == ""]["Share"].dropna().str.contains("≤").any()


def test_savings_against_the_policy_before_and_the_dearest_model(data: Path) -> None:
    write_log(data, 80)
    data.joinpath("policy.toml").write_text(POLICY.with_threshold(0.7).to_toml())
    test = open_page("savings")
    test.selectbox(key="baseline").set_value("previous").run()
    assert not test.exception
    assert "policy seed · " in words(test).replace("\\", "")
    # The log's own policy made all of it, so against it nothing was saved.
    assert {m.label: m.value for m in test.metric}["Savings"].startswith("$0.00")
    test.selectbox(key="baseline").set_value("dearest").run()
    assert not test.exception
    assert "all to claude-opus-4-6" in words(test).replace("\\", "")


def test_playground_says_how_much_of_the_cap_is_used(data: Path) -> None:
    data.mkdir()
    data.joinpath("policy.toml").write_text(POLICY.to_toml() + '\n[spend]\nper_day_usd = "5.00"\n')
    DayLedger(data).hold("a", Decimal("1.25"), Decimal(5))
    test = open_page("playground")
    assert "$1.25 of today's cap of $5.00 is spent or under way." in words(test).replace("\\", "")


def test_a_decision_names_its_service_tier_and_what_was_written_to_the_cache(tmp_path):
    told = {
        "input_tokens": 1000, "output_tokens": 200, "cache_write_tokens": 300, "cache_write_1h_tokens": 100,
        "service_tier": "scale", "usage_grade": "measured", "outcome": "ok",
    }  # fmt: skip
    spool = Spool(tmp_path)
    spool.append(decision_payload(one := decision(**told)))
    spool.close()
    ingest_now(tmp_path)
    with open_log(tmp_path) as log:
        row = queries.decision(log, one.id, PriceBook())
    found = dict(describe.facts(row, UTC, "UTC"))
    assert found["Tokens"] == "1,000 in, 200 out, 300 to cache (100 for an hour)"
    assert (found["Service tier"], found["Cost"]) == ("scale", "not measured")


def test_a_decision_says_what_people_judged_the_last_word_of_each_queue(data: Path) -> None:
    write_log(data, 3)
    with open_log(data) as log:
        [(id,)] = log.rows("SELECT CAST(id AS VARCHAR) FROM decisions ORDER BY decided_at DESC LIMIT 1")
    spool, noon = Spool(data), datetime(2026, 11, 20, 12)
    audit = {"queue": "audit", "inclusion_probability": 1.0}
    spool.append(feedback_payload(id, "right", noon, judged_by="Ana", **audit))
    later = noon + timedelta(minutes=1)
    spool.append(feedback_payload(id, "wrong", later, correct_label="coding", judged_by="Ben", **audit))
    spool.append(feedback_payload(id, "right", later + timedelta(minutes=1), note="thumb"))
    spool.close()
    ingest_now(data)
    test = open_page("decisions")
    facts = next(x.value for x in test.dataframe if list(x.value.columns) == ["", "Value"])
    assert facts[facts[""] == "Judged"]["Value"].tolist() == [
        "right (feedback) thumb",
        "wrong: coding (audit, by Ben)",
    ]
