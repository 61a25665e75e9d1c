"""The report: one document, one file; its figures are those of the verbs, and nothing in it runs, fetches or hides."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from log_samples import SEED, decision
from typer.testing import CliRunner

from router.cli.app import app
from router.log import open_log
from router.log.owner import ingest_now
from router.log.queries import Filter
from router.log.record import feedback_payload
from router.log.spool import Spool
from router.log.writer import Writer
from router.policy import decide
from router.prices import PriceBook
from router.report.gather import Wishes, gather
from router.report.html import POLICY, render
from router.types import Attempt

N, DAYS, JUDGED = 600, 24, 300
FIRST = datetime(2026, 10, 1, 9)
NOW = datetime(2026, 11, 1, 12)
SECRET = "zebra-passphrase"
HOSTILE = "</style><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>\u202etxt\x1b[31m"


def run(*args: object) -> Any:
    return CliRunner().invoke(app, ["report", *(str(x) for x in args)])


def verb(*args: object, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [*(str(x) for x in args), "--json"])
    assert done.exit_code == code, done.stderr
    return json.loads(done.stdout)


def document(folder: Path, picked: Filter | None = None, **wishes: Any) -> dict[str, Any]:
    with open_log(folder) as log:
        return gather(
            log, picked or Filter(), SEED, PriceBook(SEED.models), clock=lambda: NOW, wishes=Wishes(**wishes)
        )


def logged(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """A log of decisions with these fields, taken into the database."""
    writer = Writer(folder, turns=False)
    for i, changes in enumerate(rows):
        writer.log(decision(i, **changes), SEED)
    writer.close()
    ingest_now(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four days of calibrated scores, half of the decisions judged in an audit sample."""
    folder, rng = tmp_path_factory.mktemp("report") / "data", np.random.default_rng(4)
    writer, ids, right = Writer(folder, turns=False), [], []
    for i in range(N):
        evidence, truth = rng.normal(size=4), int(rng.integers(4))
        evidence[truth] += 2.4
        raw = np.exp(2.4 * (evidence - evidence.max()))
        scores = {name: float(x) for name, x in zip(SEED.label_names, raw / raw.sum(), strict=True)}
        choice = decide(scores, SEED)
        one = decision(
            i, decided_at=FIRST + timedelta(days=i * DAYS // N, seconds=i), prompt=f"{SECRET} {i}", scores=scores,
            top_label=choice.top_label, confidence=choice.confidence, runner_up=choice.runner_up, margin=choice.margin,
            cause=choice.cause, is_fallback=choice.is_fallback, model_chosen=choice.model_chosen,
            model_used=choice.model_chosen, input_tokens=200 + i % 300, output_tokens=100 + i % 90, usage_grade="measured",
            classifier_cost_usd=Decimal(0),
        )  # fmt: skip
        ids.append(one.id)
        right.append(choice.top_label == SEED.label_names[truth])
        writer.log(one, SEED)
    writer.close()
    spool = Spool(folder)
    for i in rng.permutation(N)[:JUDGED].tolist():
        verdict = "right" if right[i] else "wrong"
        spool.append(feedback_payload(ids[i], verdict, NOW, queue="audit", inclusion_probability=JUDGED / N))
    spool.close()
    ingest_now(folder)
    return folder


@pytest.fixture(scope="module")
def found(data: Path) -> dict[str, Any]:
    return document(data)


@pytest.fixture(scope="module")
def page(found: dict[str, Any]) -> str:
    return render(found)


def plain_text(page: str) -> str:
    """What a reader sees of the page's body, on one line."""
    body = re.sub(r"<[^>]+>", " ", page.split("<body>", 1)[1])
    return " ".join(html.unescape(body).split())


# The file


def harmless(page: str) -> None:
    """No script, no address, no attribute that runs or fetches; the policy says so as well."""
    tags = re.findall(r"<[a-zA-Z][^>]*>", page)
    assert "<script" not in page.lower()
    assert not re.search(r"https?://|//[a-z]+\.", page)
    assert not [x for x in tags if re.search(r"\s(on[a-z]+|src|href|srcset|action|data|xlink:href)\s*=", x)]
    assert not re.search(r"url\(|@import|expression\(", page)
    assert f'http-equiv="Content-Security-Policy" content="{POLICY}"' in page
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_the_file_runs_nothing_and_asks_for_nothing(page: str) -> None:
    harmless(page)
    assert len(page.encode()) < 300_000


def test_every_picture_has_a_name_and_every_table_a_caption(page: str) -> None:
    pictures = re.findall(r"<svg[^>]*>(.{0,7})", page)
    assert len(pictures) >= 8
    assert set(pictures) == {"<title>"}
    assert page.count("<table>") == page.count("<caption>") >= 6


def test_tags_are_closed_and_sections_open_with_a_sentence(page: str) -> None:
    for tag in ("section", "figure", "svg", "table", "details", "div", "span", "p", "ul", "li", "dl"):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag
    leads = re.findall(r'<section><h2>[^<]+</h2><p class="lead">(.+?)</p>', page)
    assert len(leads) == page.count("<section>") == 9
    assert all(x.rstrip().endswith(".") for x in leads)


def test_the_same_log_and_clock_give_the_same_file(data: Path, page: str) -> None:
    assert render(document(data)) == page


def test_the_document_holds_json_alone_and_survives_it(found: dict[str, Any], page: str) -> None:
    again = json.loads(json.dumps(found, allow_nan=False))
    assert again == found
    assert render(again) == page


def test_no_prompt_is_in_the_file_unless_asked_for(data: Path, page: str, found: dict[str, Any]) -> None:
    assert SECRET not in page and SECRET not in json.dumps(found)
    shown = render(document(data, examples=2))
    assert shown.count(SECRET) == 2 * min(3, sum(1 for x in found["overlap"]["pairs"] if x["n_close"] >= 2))


# Its figures


def test_figures_on_the_page_are_those_of_the_document(found: dict[str, Any], page: str) -> None:
    text = plain_text(page)
    over, saved, part = found["overview"], found["savings"], found["threshold"]
    here = next(x for x in part["points"] if x["threshold"] == 0.55)
    assert f"Fallback share {over['fallback_share']:.1%}".replace("%", " %") in text
    assert f"Savings {saved['savings_share'] * 100:.1f} % ± {saved['share_half'] * 100:.1f}" in text
    assert f"Baseline ${saved['baseline_usd']:.2f} all to claude-opus-4-6" in text
    assert f"{here['fallback_share'] * 100:.1f} % fall back at ${here['cost_per_1000']:.2f} per 1,000" in text
    assert f"{part['optimum']['threshold']:.3f} is cheapest" in text
    pair = found["overlap"]["pairs"][0]
    assert f"{pair['first']} and {pair['second']} collide most ({pair['n_close']})" in text
    assert f"from {found['quality']['certificate']['threshold']:.3f} on at most 10.0 %" in text
    assert f"fingerprint {SEED.fingerprint}" in text
    assert "newest decision 8 days old" in text  # 24 Oct 09:10 to 1 Nov 12:00


@pytest.mark.parametrize("name", ["savings", "overlap", "sweep", "tune", "certify", "calibration"])
def test_figures_are_those_of_the_verb(name: str, data: Path, found: dict[str, Any]) -> None:
    shown = verb(name, "--data", data)
    same: dict[str, Callable[[], tuple[Any, Any]]] = {
        "savings": lambda: (shown["waterfall"], found["savings"]["waterfall"]),
        "overlap": lambda: (shown["pairs"], found["overlap"]["pairs"]),
        "sweep": lambda: (shown["cheapest"], found["threshold"]["cheapest"]),
        "tune": lambda: (shown["found"], found["threshold"]["optimum"]),
        "certify": lambda: (shown["certificates"][0]["steps"], found["quality"]["certificate"]["steps"]),
        "calibration": lambda: (shown["raw"], found["quality"]["calibration"]),
    }
    said, told = same[name]()
    assert said
    if name == "certify":
        told = [{key: x[key] for key in x if key in said[0]} for x in told]
        said = [{key: x[key] for key in told[0]} for x in said]
    assert json.loads(json.dumps(said)) == pytest.approx(told) if isinstance(said, float) else said == told


def test_drift_compares_the_newest_seven_days_of_the_data(data: Path, found: dict[str, Any]) -> None:
    shown = verb("drift", "--recent", "2026-10-18", "--data", data, code=3)  # too few to judge
    assert found["drift"]["recent_from"] == "2026-10-18"  # the last decision is of 24 October
    for key in ("n_reference", "n_recent", "confidence", "mix", "fallback", "alarms"):
        assert found["drift"][key] == shown[key], key
    assert sum(x["n"] for x in found["drift"]["periods"]) == N
    assert len(found["drift"]["periods"]) == DAYS


def test_a_filter_reaches_every_section(data: Path) -> None:
    picked = Filter(labels=("coding",))
    part = document(data, picked)
    n = part["log"]["n"]
    assert 0 < n < N == part["log"]["n_total"]
    assert part["report"]["filter"] == {"labels": ["coding"]}
    assert (
        part["overview"]["n"] == part["savings"]["n"] == part["threshold"]["n"] == part["overlap"]["n"] == n
    )
    assert sum(map(sum, part["confidence"]["counts"])) == n
    assert "labels: coding" in render(part)


def test_long_periods_are_told_by_week(tmp_path: Path) -> None:
    rows = [{"decided_at": FIRST + timedelta(days=i)} for i in range(130)]
    part = document(logged(tmp_path / "data", rows))["drift"]
    assert part["period"] == "week"
    assert [x["n"] for x in part["periods"]] == [4, *([7] * 18)]  # 1 October 2026 is a Thursday


def test_what_moved_is_said_with_its_day(tmp_path: Path) -> None:
    low = {
        "confidence": 0.4,
        "is_fallback": True,
        "cause": "low_confidence",
        "model_chosen": "gpt-4o",
        "model_used": "gpt-4o",
    }
    rows = [
        {"decided_at": FIRST + timedelta(days=day, seconds=i), **(low if day >= 13 or i == 0 else {})}
        for day in range(18)
        for i in range(60)
    ]
    part = document(logged(tmp_path / "data", rows))
    text = plain_text(render(part))
    assert part["drift"]["recent_from"] == "2026-10-12"  # the last decision is of 18 October
    assert "large enough to act on" in text
    assert "Alarm fallback share went from" in text
    assert "since 14 Oct 2026" in text  # day 13 after 1 October


def test_labels_that_do_not_follow_the_line_are_named_where_it_is_judged(data: Path) -> None:
    labels = tuple(replace(x, threshold=0.6) if x.name == "coding" else x for x in SEED.labels)
    mixed = replace(SEED, labels=labels)
    with open_log(data) as log:
        part = gather(log, Filter(), mixed, PriceBook(mixed.models), clock=lambda: NOW)
    text = plain_text(render(part))
    assert "It covers simple, reasoning, creative, not coding (own threshold 0.600)." in text
    assert "nothing of labels without a threshold of their own falls back" in text
    own = replace(SEED, labels=tuple(replace(x, threshold=0.6) for x in SEED.labels))
    with open_log(data) as log:
        part = gather(log, Filter(), own, PriceBook(own.models), clock=lambda: NOW)
    assert part["quality"]["certificate"] is None
    assert "every label has a threshold of its own" in plain_text(render(part))


def test_calls_that_ended_without_a_reply_are_counted_by_model(tmp_path: Path) -> None:
    rows = [
        {"decided_at": FIRST + timedelta(minutes=i), "outcome": "provider_error" if i < 3 else "ok"}
        for i in range(12)
    ]
    part = document(logged(tmp_path / "data", rows))
    named = {x["model"]: x for x in part["models"] if x["n_called"]}
    assert {x: (y["n_called"], y["n_failed"]) for x, y in named.items()} == {"gpt-4o-mini": (12, 3)}
    assert "3 of 12 (25.0 %)" in plain_text(render(part))


def test_words_over_the_chart_are_drawn_after_its_lines(page: str) -> None:
    words = page.index(">limit 20.0")
    chart = page[page.rindex("<svg", 0, words) : page.index("</svg>", words)]
    assert chart.index('class="muted over"') > chart.index('class="candidate"')
    assert chart.rindex("<line", 0, chart.index(">limit 20.0")) > chart.index('class="production"')
    lines = [at for at in range(len(chart)) if chart.startswith('class="production"/>', at)]
    assert lines and max(lines) < chart.index(">limit 20.0")


def test_a_limit_that_no_threshold_meets_is_said(data: Path) -> None:
    own = replace(SEED, labels=tuple(replace(x, threshold=0.9) for x in SEED.labels))
    with open_log(data) as log:
        part = gather(
            log, Filter(), own, PriceBook(own.models), clock=lambda: NOW, wishes=Wishes(max_fallback=0.01)
        )
    text = plain_text(render(part))
    assert part["threshold"]["optimum"] is None and part["threshold"]["no_optimum"]["reason"] == "infeasible"
    assert "with at most 1.0 % falling back none can be called cheapest" in text
    assert "Labels with a threshold of their own stay at it: simple 0.900" in text


# What is missing


def test_a_log_without_scores_says_so_in_every_section(tmp_path: Path) -> None:
    failed = {
        "top_label": None, "confidence": None, "scores": None, "runner_up": None, "margin": None, "cause": "classifier_error",
        "is_fallback": True, "model_chosen": "gpt-4o", "model_used": "gpt-4o",
    }  # fmt: skip
    part = document(logged(tmp_path / "data", [failed] * 3))
    page = render(part)
    harmless(page)
    assert page.count("Not measured") >= 5
    assert part["threshold"]["curve"] is None and part["savings"]["paid_usd"] is None
    assert part["overview"]["fallback_share"] is None
    assert "None" not in plain_text(page) and "nan" not in plain_text(page)


def test_one_decision_is_enough_for_a_report(tmp_path: Path) -> None:
    row = {"input_tokens": 500, "output_tokens": 500, "usage_grade": "measured"}
    part = document(logged(tmp_path / "data", [row]))
    page = render(part)
    harmless(page)
    # gpt-4o-mini: 500 x 0.15 + 500 x 0.60 USD per million; claude-opus-4-6: 500 x 5 + 500 x 25
    assert part["savings"]["paid_usd"] == pytest.approx(0.000375)
    assert part["savings"]["baseline_usd"] == pytest.approx(0.015)
    assert "1 decision on 20 Nov 2026" in plain_text(page)
    assert "97.5 % ±" not in plain_text(page)  # one decision has no interval
    assert "22 audit judgements promise" in plain_text(page)
    assert "nothing was logged before" in plain_text(page)


def test_lower_bounds_carry_a_plus_and_what_is_no_part_of_the_savings_is_said(tmp_path: Path) -> None:
    told = {"input_tokens": 500, "output_tokens": 500, "usage_grade": "measured", "outcome": "ok"}
    charged = {"classifier_cost_usd": Decimal("0.25")}
    lost = charged | {
        "outcome": "timeout", "attempts": 2, "failed_cost_usd": Decimal("0.5"),
        "failed_attempts": (Attempt("gpt-4o", "malformed", cost_usd=Decimal("0.5")),),
    }  # fmt: skip
    rows = [told | charged, charged | {"outcome": "spend_cap"}, lost]
    part = document(logged(tmp_path / "data", rows))
    saved, page = part["savings"], plain_text(render(part))
    assert (saved["n_unanswered"], saved["unmatched_usd"], saved["is_whole"]) == (1, 0.5, False)
    assert (
        "Cost $1.25+ " in page and "Baseline $0.0150+ " in page
    )  # three classifications, a failed attempt, an answer
    assert "From $0.0150+ on one model to $1.25+ as routed" in page
    assert "No model answered, and no provider charges for that: 1 decision, at $0." in page
    assert "$0.50 of what was paid, for answers and classifying, has no known baseline" in page
    assert (
        "$0.50 of them for decisions that have no baseline" in page and "A plus marks a lower bound" in page
    )
    whole = plain_text(render(document(logged(tmp_path / "whole", [told | charged]))))
    assert (
        "Cost $0.25 " in whole
        and "$0.25+" not in whole
        and "lower bound" not in whole
        and "Savings at most" not in whole
    )
    unsure = document(
        logged(
            tmp_path / "unsure", [told | {"attempts": 2, "failed_attempts": (Attempt("gpt-4o", "timeout"),)}]
        )
    )
    page = plain_text(render(unsure))
    assert unsure["savings"]["missing"] == "the classifier's cost and that of failed attempts"
    assert "Routing saved at most $0.01" in page and "Savings at most " in page
    assert (
        "cost and that of failed attempts is not known for some decisions: paid is at least, saved at most,"
        in page
    )


def test_an_empty_choice_renders_too(data: Path) -> None:
    page = render(document(data, Filter(text="nobody wrote this")))
    harmless(page)
    assert "No decision matches." in page


def test_names_and_prompts_from_outside_stay_text(tmp_path: Path) -> None:
    row = {
        "prompt": HOSTILE, "top_label": HOSTILE, "runner_up": "coding", "scores": {HOSTILE: 0.5, "coding": 0.45},
        "confidence": 0.5, "margin": 0.05, "model_chosen": HOSTILE, "model_used": HOSTILE,
    }  # fmt: skip
    close = {
        "prompt": HOSTILE,
        "margin": 0.01,
        "scores": {"simple": 0.51, "coding": 0.5, "reasoning": 0.1, "creative": 0.0},
    }
    folder = logged(tmp_path / "data", [row, close])
    page = render(document(folder, Filter(text="script"), examples=3))
    harmless(page)
    assert "&lt;script&gt;alert(1)" in page
    assert "⟦U+202E⟧" in page and "⟦U+001B⟧" in page
    assert "\u202e" not in page and "\x1b" not in page


# The verb


def test_the_verb_writes_the_file_and_says_where(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "r.html"
    target.parent.mkdir()
    done = run("--data", data, "-o", target)
    assert (done.exit_code, done.stdout) == (0, "")
    assert str(target) in done.stderr
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [x.name for x in target.parent.iterdir()] == ["r.html"]


def test_the_verb_prints_every_figure_or_writes_them(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "r.json"
    assert run("--data", data, "-o", target).exit_code == 0
    written, printed = (
        json.loads(target.read_text(encoding="utf-8")),
        json.loads(run("--data", data, "--json").stdout),
    )
    for key in printed.keys() - {"report", "log"}:  # they hold the time
        assert printed[key] == written[key], key
    assert not (tmp_path / "report.html").exists()


def test_the_page_goes_to_standard_output_where_asked(data: Path) -> None:
    done = run("--data", data, "-o", "-")
    assert done.exit_code == 0
    assert done.stdout.startswith("<!DOCTYPE html>") and done.stdout.endswith("</html>\n")


def test_nothing_found_is_no_report_and_leaves_an_older_one_alone(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "r.html"
    target.write_text("older", encoding="utf-8")
    assert run("--data", tmp_path / "none", "-o", target).exit_code == 3
    assert run("--data", data, "--text", "nobody wrote this", "-o", target).exit_code == 3
    assert target.read_text(encoding="utf-8") == "older"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--output", "r.pdf"], "expected a name that ends in .html or .json"),
        (["--output", "-", "--json"], "give one of them"),
        (["--output", "missing/r.html"], "cannot be written"),
        (["--max-fallback", "2"], "expected a share in [0, 1]"),
        (["--alpha", "0"], "expected a number between 0 and 1"),
    ],
)
def test_bad_input_is_said_with_exit_code_two(
    args: list[str], said: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("--data", data, *args)
    assert done.exit_code == 2
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []
