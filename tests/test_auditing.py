"""What a promise may rest on: the whole draw, of the traffic that was drawn from, under today's labels, classifier and models."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from log_samples import SEED
from test_cli_tuning import document, judged_by, run, written

from router.analysis.auditing import sample
from router.analysis.certify import certify
from router.analysis.judgements import Audit
from router.analysis.sweep import sweep
from router.analysis.tables import BINS, empty
from router.analysis.tune import accuracy_on_grid, cheapest_priced
from router.log import open_log
from router.log.drawn import Traffic
from router.log.filters import Filter
from router.log.owner import ingest_now
from router.log.queries import cells
from router.log.record import feedback_payload
from router.log.spool import Spool
from router.prices import PriceBook


def rows(n: int = 100, **columns: Any) -> pd.DataFrame:
    """Audit decisions for "simple", all served and judged right."""
    usual: dict[str, Any] = {
        "id": [f"{i}" for i in range(n)],
        "label": "simple",
        "confidence": 0.9,
        "margin": 0.8,
        "classifier": "local@1",
        "labels_fingerprint": SEED.labels_fingerprint,
        "cause": "routed",
        "model": SEED.by_name["simple"].model,
        "is_served": True,
        "threshold": 0.55,
        "verdict": "right",
    }
    return pd.DataFrame(usual | columns, index=range(n))


def first(n: int, value: object, other: object, of: int = 100) -> list[object]:
    return [value] * n + [other] * (of - n)


# The rows themselves


def test_what_nobody_could_judge_counts_as_a_loss():
    found = sample(rows(verdict=first(7, "unsure", "right")), SEED, classifier="local@1")
    assert (found.n_drawn, found.n_judged, found.n_unsure, found.n_open) == (100, 100, 7, 0)
    assert int(found.audit.loss.sum()) == 7
    assert found.refused is None


@pytest.mark.parametrize(("n_open", "is_refused"), [(5, False), (6, True)])
def test_more_than_a_twentieth_without_a_verdict_is_refused_unless_it_is_wished(n_open, is_refused):
    table = rows(verdict=first(n_open, None, "right"))
    found = sample(table, SEED, classifier="local@1")
    assert (found.n_open, found.refused is not None) == (n_open, is_refused)
    if is_refused:
        assert "6 of 100 audit decisions are not judged yet" in (found.refused or "")
    assert sample(table, SEED, classifier="local@1", partial=True).refused is None


@pytest.mark.parametrize(
    ("column", "other", "loss", "n_left_out"),
    [
        ("labels_fingerprint", "older", "label", 30),
        ("classifier", "local@0", "label", 30),
        ("model", "gpt-3.5-turbo", "answer", 30),
        ("model", "gpt-3.5-turbo", "label", 0),
        ("labels_fingerprint", None, "label", 0),
    ],
)
def test_rows_of_another_ground_are_left_out_with_a_note(column, other, loss, n_left_out):
    usual = rows()[column][0]
    found = sample(rows(**{column: first(30, other, usual)}), SEED, classifier="local@1", loss=loss)
    assert len(found.audit) == 100 - n_left_out
    assert sum(n for n, _ in found.left_out) == n_left_out
    gone = sample(rows(**{column: other}), SEED, classifier="local@1", loss=loss)
    assert (gone.refused is not None) == bool(n_left_out)
    if n_left_out:
        assert "draw a new audit" in (gone.refused or "")


def test_what_the_margin_rule_holds_back_is_not_served():
    policy = replace(SEED, min_margin=0.45)
    found = sample(rows(margin=first(60, 0.44, 0.45)), policy, classifier="local@1")
    assert (found.n_judged, len(found.audit)) == (100, 40)
    one_label = sample(rows(margin=np.nan), policy, classifier="local@1")
    assert len(one_label.audit) == 100


def test_a_margin_rule_that_was_wider_leaves_answers_unseen():
    table = rows(cause=first(3, "low_margin", "routed"), is_served=first(3, False, True))
    assert "fell back for a margin" in (sample(table, SEED, classifier=None, loss="answer").refused or "")
    assert sample(table, SEED, classifier=None, loss="label").refused is None
    still = replace(SEED, min_margin=0.9)
    assert sample(table, still, classifier=None, loss="answer").refused is None


def test_explored_decisions_make_a_promise_for_all_answers_impossible():
    table = rows(cause=first(20, "explored", "routed"), is_served=first(20, False, True))
    assert "--per-label" in (sample(table, SEED, classifier=None, loss="answer").refused or "")
    assert sample(table, SEED, classifier=None, loss="answer", per_label=True).refused is None
    assert sample(table, SEED, classifier=None, loss="label").refused is None


# The certificate over them


def bins_at(counts: dict[float, int]) -> pd.DataFrame:
    table = pd.DataFrame(
        {"label": "a", "bin": [round(x * 10_000) for x in counts], "n": list(counts.values())}
    )
    return table if len(table) else empty(BINS)


def audit(n: int, confidence: float = 0.9, threshold: float = 0.0) -> Audit:
    return Audit(
        label=["a"] * n,
        confidence=np.full(n, confidence),
        loss=np.zeros(n),
        queue=["audit"] * n,
        threshold=np.full(n, threshold),
        is_served=np.ones(n),
    )


def test_answers_start_by_their_coverage_of_what_is_served():
    # a tenth of the traffic is above the line, and every judged row: 60 of them are more than 2 x 22
    traffic = bins_at({0.9: 100, 0.2: 900})
    found = certify(audit(60, threshold=0.5), traffic, ["a"], alpha=0.1, loss="answer", holds_audit=False)
    assert (found.threshold, found.ended_by) == (0.5, "support")
    assert found.step is not None and found.step.share_served == 0.1
    few = certify(audit(30, threshold=0.5), traffic, ["a"], alpha=0.1, loss="answer", holds_audit=False)
    assert (few.threshold, few.ended_by) == (None, "labels")
    assert few.labels_missing == 140  # 14 served ones are lacking, and one in ten that are drawn is


def test_shares_are_of_the_whole_where_a_margin_rule_holds_some_back():
    found = certify(
        audit(60),
        bins_at({0.9: 100}),
        ["a"],
        alpha=0.1,
        holds_audit=False,
        whole=bins_at({0.9: 400}),
    )
    assert found.step is not None and found.step.share_served == 0.25


# The draw


@pytest.mark.parametrize(
    ("drawn_from", "asked", "holds"),
    [
        (Traffic(), Filter(), True),
        (Traffic(), Filter(source="web", policy="f"), True),
        (Traffic(source="web"), Filter(source="web"), True),
        (Traffic(source="web"), Filter(), False),
        (Traffic(source="web"), Filter(source="batch"), False),
        (Traffic(policy="f"), Filter(source="web"), False),
        (Traffic(start=datetime(2026, 10, 2)), Filter(), False),
        (Traffic(start=datetime(2026, 10, 2)), Filter(start=datetime(2026, 10, 3)), True),
        (Traffic(end=datetime(2026, 10, 2)), Filter(start=datetime(2026, 10, 1)), False),
        (Traffic(end=datetime(2026, 10, 2)), Filter(end=datetime(2026, 10, 2)), True),
    ],
)
def test_a_draw_speaks_for_the_traffic_it_was_made_from_and_for_parts_of_it(drawn_from, asked, holds):
    assert drawn_from.holds(asked) is holds


@pytest.mark.parametrize(
    ("drawn_from", "asked", "holds"),
    [
        (Traffic(start=datetime(2026, 10, 1)), Filter(), True),
        (Traffic(start=datetime(2026, 10, 5, 12)), Filter(), True),
        (Traffic(start=datetime(2026, 10, 5, 13)), Filter(), False),
        (Traffic(start=datetime(2026, 10, 7)), Filter(start=datetime(2026, 10, 6)), False),
        (Traffic(start=datetime(2026, 10, 1)), Filter(start=datetime(2026, 9, 1)), True),
        (Traffic(end=datetime(2026, 10, 10)), Filter(), True),
        (
            Traffic(end=datetime(2026, 10, 9, 12)),
            Filter(),
            False,
        ),  # half-open: the last decision is not in it
        (Traffic(start=datetime(2026, 10, 1), source="web"), Filter(), False),
    ],
)
def test_a_period_that_the_whole_log_lies_in_leaves_nothing_out(drawn_from, asked, holds):
    span = datetime(2026, 10, 5, 12), datetime(2026, 10, 9, 12)
    assert drawn_from.holds(asked, *span) is holds


def test_an_audit_drawn_from_the_last_days_of_a_younger_log_speaks_for_all_of_it(tmp_path: Path) -> None:
    folder, drawn = written(tmp_path / "data", judged=0), tmp_path / "audit.jsonl"
    since = ("--since", "2020-01-01", "--seed", 1)
    assert (
        run("review", "next", "--queue", "audit", "--n", 300, *since, "-o", drawn, "--data", folder).exit_code
        == 0
    )
    judged_by(drawn, lambda k, _: k % 20 == 0)
    assert run("feedback", "--from", drawn, "--data", folder).exit_code == 0
    done = run("certify", "--alpha", 0.2, "--data", folder)
    assert done.exit_code == 0, done.stderr
    assert "of 300 audited decisions" in run("sweep", "--data", folder).stderr


def test_an_audit_of_one_source_promises_nothing_for_all_traffic(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", judged=0, source=lambda i: "easy" if i % 2 else "hard")
    drawn = tmp_path / "audit.jsonl"
    run(
        "review",
        "next",
        "--queue",
        "audit",
        "--n",
        200,
        "--seed",
        1,
        "--source",
        "easy",
        "-o",
        drawn,
        "--data",
        folder,
    )
    judged_by(drawn, lambda k, row: False)
    assert run("feedback", "--from", drawn, "--data", folder).exit_code == 0
    for verb in (("certify",), ("tune", "--objective", "certified")):
        refused = run(*verb, "--data", folder)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "with --source easy" in refused.stderr
    held = document("certify", "--source", "easy", "--data", folder)
    assert held["certificates"][0]["threshold"] is not None
    assert held["traffic"] == {"since": None, "until": None, "source": "easy", "made_by": None}
    assert run("certify", "--source", "hard", "--data", folder).exit_code == 3


def test_open_and_unsure_rows_are_counted_and_too_many_open_ones_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", judged=0)
    drawn = tmp_path / "audit.jsonl"
    run("review", "next", "--queue", "audit", "--n", 200, "--seed", 1, "-o", drawn, "--data", folder)
    lines = [json.loads(x) for x in drawn.read_text(encoding="utf-8").splitlines()]
    said = ["right"] * 150 + ["unsure"] * 10 + [None] * 40

    def give(verdicts: list[str | None]) -> None:
        drawn.write_text(
            "".join(json.dumps(x | {"verdict": y}) + "\n" for x, y in zip(lines, verdicts, strict=True)),
            encoding="utf-8",
        )
        assert run("feedback", "--from", drawn, "--data", folder).exit_code == 0

    give(said)
    refused = run("certify", "--data", folder)
    assert refused.exit_code == 3
    assert "40 of 200 audit decisions are not judged yet" in refused.stderr
    assert "200 drawn, 160 judged (10 unsure, counted as losses), 40 open" in refused.stderr
    assert "10 unsure and 40 open audit decisions left out" in run("calibration", "--data", folder).stderr
    part = document("certify", "--partial", "--alpha", "0.3", "--data", folder)
    assert part["audit"] == {"drawn": 200, "judged": 160, "unsure": 10, "open": 40, "left_out": []}
    assert part["certificates"][0]["n_labels"] == 160
    give(["right"] * 150 + ["unsure"] * 50)
    whole = document("certify", "--alpha", "0.5", "--data", folder)
    assert whole["audit"]["unsure"] == 50
    assert max(x["failures"] for x in whole["certificates"][0]["steps"]) > 10


def test_an_audit_of_former_labels_promises_nothing(tmp_path: Path) -> None:
    folder = written(tmp_path / "data")
    labels = (replace(SEED.labels[0], rubric="Something else?"), *SEED.labels[1:])
    policy = tmp_path / "new.toml"
    policy.write_text(replace(SEED, labels=labels).to_toml(), encoding="utf-8")
    refused = run("certify", "--policy", policy, "--data", folder)
    assert refused.exit_code == 3
    assert "draw a new audit from decisions since the change" in refused.stderr


def test_a_promise_is_for_what_the_margin_rule_serves(tmp_path: Path) -> None:
    folder = written(tmp_path / "data")
    policy = tmp_path / "margin.toml"
    policy.write_text(replace(SEED, min_margin=0.5).to_toml(), encoding="utf-8")
    plain = document("certify", "--data", folder)["certificates"][0]
    narrow = document("certify", "--policy", policy, "--data", folder)["certificates"][0]
    assert narrow["n_labels"] < plain["n_labels"] == 400
    assert narrow["n_unlabelled"] < plain["n_unlabelled"]
    assert max(x["share_served"] for x in narrow["steps"]) < 0.9
    assert max(x["n"] for x in narrow["steps"]) <= narrow["n_labels"]


def test_a_draw_of_a_former_version_is_used_and_said_to_be_of_unknown_traffic(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", judged=0)
    drawn = tmp_path / "audit.jsonl"
    run("review", "next", "--queue", "audit", "--n", 200, "--seed", 1, "-o", drawn, "--data", folder)
    noted = folder / "review.jsonl"
    lines = [json.loads(x) for x in noted.read_text(encoding="utf-8").splitlines()]
    assert {json.dumps(x.pop("traffic")) for x in lines} == {
        '{"start": null, "end": null, "policy": null, "source": null}'
    }
    noted.write_text("".join(json.dumps(x) + "\n" for x in lines), encoding="utf-8")
    judged_by(drawn, lambda k, row: False)
    run("feedback", "--from", drawn, "--data", folder)
    held = run("certify", "--data", folder)
    assert held.exit_code == 0
    assert "200 were drawn by a version that did not note from which traffic" in held.stderr


def test_only_the_newest_classifiers_rows_carry_a_promise(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", classifier=lambda i: "local@1" if i < 450 else "local@2")
    made = document("certify", "--alpha", "0.3", "--data", folder)
    assert made["ground"]["classifiers"] == ["local@2"]
    (gone,) = made["audit"]["left_out"]
    assert gone["why"] == "scored by another classifier"
    assert gone["n"] + made["audit"]["drawn"] == 400


PRICED = ("tune", "--objective", "cost", "--wrong-usd", "0.05")


def test_prices_and_calibration_rest_on_todays_classifier_alone(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", classifier=lambda i: "local@1" if i < 450 else "local@2")
    made = document("certify", "--alpha", "0.3", "--data", folder)["audit"]
    (gone,) = made["left_out"]
    told = f"note: {gone['n']} audit decisions left out: scored by another classifier"
    found = document("calibration", "--data", folder)
    assert (found["raw"]["n"], found["audit"]) == (made["judged"], made | {"parts": []})
    for verb in (PRICED, ("calibration",)):
        assert told in run(*verb, "--data", folder).stderr
    at = found["isotonic"]
    with open_log(folder) as log:
        curve = sweep(cells(log, Filter(), SEED, PriceBook(SEED.models)), SEED)
    expected = cheapest_priced(curve, accuracy_on_grid(at["confidence"], at["accuracy"]), wrong_usd=0.05)
    priced = document(*PRICED, "--data", folder)["found"]
    assert priced["production_value"] == pytest.approx(expected.production_value)
    newest = written(tmp_path / "newest", classifier=lambda i: "local@1" if i < 890 else "local@2")
    refused = run(*PRICED, "--data", newest)
    assert refused.exit_code == 3
    assert "takes 20 audited decisions, found" in refused.stderr and "left out: scored by" in refused.stderr


def test_prices_and_calibration_are_refused_in_the_words_of_certify(tmp_path: Path) -> None:
    folder = written(tmp_path / "data")
    labels = (replace(SEED.labels[0], rubric="Something else?"), *SEED.labels[1:])
    policy = tmp_path / "new.toml"
    policy.write_text(replace(SEED, labels=labels).to_toml(), encoding="utf-8")
    why = (
        "all 400 audit decisions are of other labels, another classifier or another model than the policy's today; "
        "draw a new audit from decisions since the change"
    )
    for verb in (("certify",), PRICED, ("calibration",)):
        refused = run(*verb, "--policy", policy, "--data", folder)
        assert (refused.exit_code, refused.stdout) == (3, "")
        assert why in refused.stderr
        assert "note: 400 audit decisions left out: of other labels, rubrics or examples" in refused.stderr
    made = run("certify", "--json", "--policy", policy, "--data", folder)
    assert made.exit_code == 3
    told = json.loads(made.stdout)
    assert (told["certificates"], told["refused"].startswith(why)) == ([], True)
    assert told["audit"]["left_out"] == [{"n": 400, "why": "of other labels, rubrics or examples"}]
    (tmp_path / "refused.json").write_text(made.stdout, encoding="utf-8")
    recent = ("drift", "--recent", "2026-10-21")
    lapsed = run(*recent, "--certificate", tmp_path / "refused.json", "--data", folder)
    assert (lapsed.exit_code, "not a certificate" in lapsed.stderr) == (2, True)
    for verb in (PRICED, ("tune", "--objective", "certified")):
        priced = run(*verb, "--json", "--policy", policy, "--data", folder)
        assert priced.exit_code == 3
        answer = json.loads(priced.stdout)["found"]
        assert (answer["reason"], answer["text"].startswith(why)) == ("not_measured", True)
    none = run("certify", "--json", "--since", "2030-01-01", "--data", folder)
    assert none.exit_code == 3
    assert "no decisions" in json.loads(none.stdout)["refused"]
    assert document("certify", "--alpha", "0.3", "--data", folder)["refused"] is None


def test_an_audit_of_a_part_prices_nothing_and_calibration_says_which_part(tmp_path: Path) -> None:
    folder, drawn = written(tmp_path / "data", judged=0), tmp_path / "audit.jsonl"
    draw = ("review", "next", "--queue", "audit", "--n", 100, "--since", "2026-10-10", "-o", drawn)
    assert run(*draw, "--data", folder).exit_code == 0
    judged_by(drawn, lambda k, row: k % 9 == 0)
    assert run("feedback", "--from", drawn, "--data", folder).exit_code == 0
    words = [run(*verb, "--data", folder) for verb in (("certify",), PRICED)]
    assert {x.exit_code for x in words} == {2} and words[0].stderr == words[1].stderr
    assert "drawn from a part of this traffic alone" in words[0].stderr
    said = run("calibration", "--data", folder).stderr
    assert "drawn from a part of this traffic alone (--since 2026-10-10T00:00:00)" in said
    assert document("calibration", "--data", folder)["audit"]["parts"] == ["--since 2026-10-10T00:00:00"]
    assert run(*PRICED, "--since", "2026-10-10", "--data", folder).exit_code == 0


def test_what_nobody_could_judge_is_priced_as_wrong(tmp_path: Path) -> None:
    folder, drawn = written(tmp_path / "data", judged=0), tmp_path / "audit.jsonl"
    run("review", "next", "--queue", "audit", "--n", 200, "--seed", 1, "-o", drawn, "--data", folder)
    lines = [json.loads(x) for x in drawn.read_text(encoding="utf-8").splitlines()]
    said = [x | {"verdict": "unsure" if k % 2 else "right"} for k, x in enumerate(lines)]
    drawn.write_text("".join(json.dumps(x) + "\n" for x in said), encoding="utf-8")
    assert run("feedback", "--from", drawn, "--data", folder).exit_code == 0
    free = document("tune", "--objective", "cost", "--data", folder)["found"]["production_value"]
    priced = document(*PRICED, "--data", folder)["found"]["production_value"]
    assert priced - free == pytest.approx(
        1000 * 0.05 * 0.5 * 0.75, rel=0.2
    )  # half are wrong, a quarter is "creative"


def test_report_and_calibration_describe_the_same_rows_when_the_classifier_changed(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", classifier=lambda i: "old" if i < 800 else "new")
    found = document("calibration", "--data", folder)
    report = document("report", "--data", folder)["quality"]
    assert 0 < report["n_audit"] == found["raw"]["n"] < report["n_judged"]
    assert report["calibration"]["accuracy"] == found["raw"]["accuracy"]


def test_the_estimate_queue_counts_for_todays_classifier_alone(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", classifier=lambda i: "old" if i < 450 else "new")
    spool = Spool(folder)
    with open_log(folder) as log:
        rows = log.rows("SELECT CAST(id AS VARCHAR), classifier FROM decisions ORDER BY id")
    for id, classifier in rows[::5]:
        verdict = "wrong" if classifier == "old" else "right"
        spool.append(
            feedback_payload(id, verdict, datetime(2026, 12, 1), queue="estimate", inclusion_probability=0.2)
        )
    spool.close()
    ingest_now(folder)
    found = document("calibration", "--data", folder)["estimate"]
    assert found["hajek"] == 0.0 and found["n"] == 90
