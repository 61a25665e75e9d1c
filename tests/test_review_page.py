"""The Review page in every state, by Streamlit's own AppTest over a real log; what is judged there is read back from the log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from test_pages import APP, words, write_log

from dashboard import loaders, reviewing, state
from dashboard.writing import close_writers
from router.log import open_log
from router.log.drawn import DRAWN, read_drawn
from router.log.filters import Filter
from router.log.judged import judged
from router.log.judging import Judgement
from router.log.privacy import Privacy
from router.log.writer import Writer
from router.prices import PriceBook
from router.review import draw

HOSTILE = "![x](http://127.0.0.1/x.png) **bold** <b>{i}</b>"


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data"
    state.configure(state.Settings(folder))
    yield folder
    close_writers()
    loaders.close_readers()
    state.configure(None)


def drawn_log(data: Path, n: int, queue: str = "audit", rows: int = 60) -> None:
    write_log(data, rows)
    with open_log(data) as log:
        draw(log, queue, n, PriceBook({}), seed=1, now=datetime.now)  # type: ignore[arg-type]


def open_page(page: str) -> AppTest:
    """The page itself as the first one of a session."""
    test = AppTest.from_file(APP, default_timeout=60).switch_page(state.VIEWS[page]).run()
    assert not test.exception, [error.value for error in test.exception]
    return test


def named(test: AppTest) -> AppTest:
    return test.text_input(key="review_name").set_value("Ana").run()


def judge(test: AppTest, key: str) -> AppTest:
    test.button(key=key).click().run()
    assert not test.exception, [error.value for error in test.exception]
    return test


def said(data: Path) -> list[tuple[str, str | None, str | None]]:
    """(verdict, correct label, who) of the audit, as the log holds it."""
    close_writers()
    with open_log(data) as log:
        table = judged(log)
    assert set(table["queue"]) <= {"audit"}
    assert table["inclusion_probability"].between(0, 1, inclusive="right").all()
    columns = (table[name] for name in ("verdict", "correct_label", "judged_by"))
    return [(v, c if isinstance(c, str) else None, by) for v, c, by in zip(*columns, strict=True)]


def metric(test: AppTest, label: str) -> str:
    return {m.label: m.value for m in test.metric}[label]


def test_before_a_draw_the_page_offers_one_and_says_what_it_buys(data: Path) -> None:
    write_log(data, 300)
    test = open_page("review")
    assert "240 uniform reviews" in words(test)
    assert "± 5.1 pts" in words(test)
    assert not (data / DRAWN).exists(), "looking draws nothing"
    test.number_input(key="review_n_audit").set_value(12).run()
    test.button(key="draw").click().run()
    assert len(read_drawn(data)) == 12
    assert metric(test, "Judged") == "0 of 12"
    assert "drawn uniformly, 12 of 300" in words(test).replace("\\", "")


def test_the_classifiers_label_shows_only_after_the_judgement(data: Path) -> None:
    drawn_log(data, 8, "estimate")
    test = open_page("review")
    test.segmented_control(key="queue").set_value("Estimate").run()
    named(test)
    first = test.code[0].value
    before = words(test)
    assert "wins with" not in before
    assert "stratum" not in before
    assert "with a chance of" in before
    judge(test, "unsure")
    assert test.code[0].value != first
    assert "Judged unsure. The classifier said" in words(test)
    judge(test, "change")
    assert test.code[0].value == first
    assert "wins with" in words(test)
    assert "stratum" in words(test)


def test_nobody_judges_before_saying_who_and_then_it_goes_with_each_judgement(data: Path) -> None:
    drawn_log(data, 5)
    test = open_page("review")
    assert test.button(key="label_1").disabled
    named(test)
    assert not test.button(key="label_1").disabled
    top = {x.id: x.top_label for x in reviewing_items(data)}
    order = [x.decision_id for x in read_drawn(data)]
    labels = ["simple", "coding", "reasoning", "creative"]
    judge(test, f"label_{labels.index(top[order[0]]) + 1}")
    wrong = next(i for i, x in enumerate(labels, 1) if x != top[order[1]])
    judge(test, f"label_{wrong}")
    judge(test, "none")
    assert metric(test, "Judged") == "3 of 5", "at once, whatever the log shows"
    assert metric(test, "Right labels") == "33.3 %"
    judge(test, "change")
    judge(test, "unsure")
    assert metric(test, "Right labels") == "50.0 %", "the last word counts"
    assert said(data) == [
        ("right", top[order[0]], "Ana"),
        ("wrong", labels[wrong - 1], "Ana"),
        ("unsure", None, "Ana"),
    ]
    time.sleep(loaders.REFRESH_SECONDS)  # a page beside another owner is as old as that at most
    assert metric(open_page("review"), "Judged") == "3 of 5", "and for everybody else"


def reviewing_items(data: Path) -> list[reviewing.Item]:
    with open_log(data) as log:
        rows = log.rows("SELECT CAST(id AS VARCHAR), top_label FROM decisions")
    drawn = {x.decision_id: x for x in read_drawn(data)}
    return [reviewing.Item(drawn[id], None, label, None, None) for id, label in rows if id in drawn]


def test_a_queue_that_is_done_says_what_it_found_and_offers_more(data: Path) -> None:
    drawn_log(data, 2)
    test = named(open_page("review"))
    first = test.code[0].value
    judge(test, "skip")
    assert test.code[0].value != first
    judge(test, "none")
    assert test.code[0].value == first, "what was skipped comes last"
    assert metric(test, "Judged") == "1 of 2"
    judge(test, "none")
    assert "Every item is judged." in words(test)
    assert "**0.0 %** of the labels are right" in words(test)
    test.number_input(key="review_n_audit").set_value(3).run()
    test.button(key="draw").click().run()
    assert metric(test, "Judged") == "2 of 5"


@pytest.mark.parametrize("drawn", [False, True])
def test_a_log_without_prompts_says_that_review_needs_them(data: Path, drawn: bool) -> None:
    write_log(data, 20, privacy=Privacy("hash"))
    if drawn:
        with open_log(data) as log:
            draw(log, "audit", 4, PriceBook({}), seed=1, now=datetime.now)
    test = open_page("review")
    assert "Review needs prompts." in words(test)
    assert 'prompts = "full"' in words(test)
    assert not any(button.key == "label_1" for button in test.button)


def test_a_queue_that_cannot_be_read_is_a_written_state(data: Path) -> None:
    write_log(data, 5)
    (data / DRAWN).mkdir()
    test = open_page("review")
    assert "The queue cannot be read." in words(test)
    assert f"{DRAWN} cannot be read" in words(test)


def test_a_draw_that_is_refused_says_why_and_an_audit_is_not_narrowed_by_the_bar(data: Path) -> None:
    write_log(data, 60)
    test = open_page("review")
    test.segmented_control(key="queue").set_value("Estimate").run()
    test.number_input(key="review_n_estimate").set_value(3).run()
    test.button(key="draw").click().run()
    assert "expected at least 8" in words(test)
    assert not read_drawn(data)
    test.segmented_control(key="queue").set_value("Audit").run()
    test.multiselect(key="label").set_value(["coding"]).run()
    assert "do not narrow an audit" in words(test)
    test.number_input(key="review_n_audit").set_value(60).run()
    test.button(key="draw").click().run()
    assert len(read_drawn(data)) == 60


def test_a_prompt_is_never_markdown(data: Path) -> None:
    write_log(data, 8, prompt=HOSTILE)
    with open_log(data) as log:
        draw(log, "audit", 3, PriceBook({}), seed=1, now=datetime.now)
    test = named(open_page("review"))
    judge(test, "none")
    assert "![x](http" in test.code[0].value
    drawn_as_markdown = [e.value for kind in ("markdown", "caption", "subheader") for e in test.get(kind)]
    assert not any("x.png" in text for text in drawn_as_markdown)


def test_labels_and_threshold_take_up_an_audit(data: Path) -> None:
    drawn_log(data, 50)
    writer = Writer(data, turns=False)
    for i, item in enumerate(read_drawn(data)):
        verdict = "wrong" if i % 5 == 0 else "right"
        assert writer.judge(Judgement(item.decision_id, verdict, queue="audit"), datetime.now())
    writer.close()
    assert "80.0 % of 50 audited labels are right" in words(open_page("labels"))
    assert "80.0 % of 50 audited labels are right" in words(open_page("threshold"))
    deadline = time.monotonic() + 10
    while loaders.reliability(Filter(), state.production_policy()).n != 50 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert loaders.reliability(Filter(), state.production_policy()).accuracy == pytest.approx(0.8)
    assert all(x.n >= 20 for x in loaders.reliability(Filter(), state.production_policy()).bins)
