"""The tuning verbs on a real log with an audit sample: the analysis of the same rows, and exit codes that say what is missing."""

from __future__ import annotations

import json
import re
import tomllib
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

from router.analysis.certify import certify
from router.analysis.judgements import Judgements
from router.analysis.sweep import sweep
from router.analysis.tune import cheapest_with_fallback
from router.cli.app import app
from router.cli.output import money, signed_money
from router.log import evidence, open_log
from router.log.owner import ingest_now
from router.log.queries import Filter, bins, cells
from router.log.record import feedback_payload
from router.log.spool import Spool
from router.log.writer import Writer
from router.policy import Policy, decide
from router.prices import PriceBook

N, DAYS, JUDGED = 900, 28, 400
FIRST = datetime(2026, 10, 1, 9)
SECRET = "zebra-passphrase"


def run(*args: object, stdin: bytes | None = None) -> Any:
    return CliRunner().invoke(app, [str(x) for x in args], input=stdin)


def document(*args: object) -> Any:
    done = run(*args, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def written(
    folder: Path,
    *,
    judged: int = JUDGED,
    moved_from: int | None = None,
    queue: str = "audit",
    explored: float = 0.0,
    policy: Policy = SEED,
    source: Callable[[int], str] | None = None,
    classifier: Callable[[int], str] | None = None,
    classifier_cost: Decimal | None = None,
) -> Path:
    """Four weeks of decisions with calibrated scores, a uniform part of them judged.

    From a day on scores may be flatter; a share of choices may go the other way, with the chance of it logged.
    """
    writer, rng, ids, right = Writer(folder, turns=False), np.random.default_rng(4), [], []
    for i in range(N):
        day = i * DAYS // N
        evidence_for = rng.normal(size=4)
        truth = int(rng.integers(4))
        evidence_for[truth] += 2.4 if moved_from is None or day < moved_from else 0.8
        raw = np.exp(2.4 * (evidence_for - evidence_for.max()))
        scores = {name: float(x) for name, x in zip(SEED.label_names, raw / raw.sum(), strict=True)}
        choice = decide(scores, SEED)
        at = FIRST + timedelta(days=day, seconds=i)
        other = SEED.by_name[choice.top_label].model if choice.is_fallback else SEED.fallback_model
        swapped = explored > 0 and other != choice.model_chosen and rng.random() < explored
        model = other if swapped else choice.model_chosen
        chance = explored if swapped else 1 - explored if other != model else 1.0
        one = decision(
            i, decided_at=at, prompt=f"{SECRET} {i}", scores=scores, top_label=choice.top_label, confidence=choice.confidence,
            runner_up=choice.runner_up, margin=choice.margin, cause=choice.cause, is_fallback=choice.is_fallback,
            model_chosen=model, model_used=model, input_tokens=200 + i % 300, output_tokens=100 + i % 90,
            usage_grade="measured", propensity=chance if explored else None, outcome="ok",
            total_ms=None if "opus" in model else 500.0 + i % 400, classifier_cost_usd=classifier_cost,
        )  # fmt: skip
        ids.append(one.id)
        right.append(choice.top_label == SEED.label_names[truth])
        one = one if source is None else replace(one, source=source(i))
        one = one if classifier is None else replace(one, classifier=classifier(i))
        writer.log(replace(one, policy_fingerprint=policy.fingerprint), policy)
    writer.close()
    spool = Spool(folder)
    for i in rng.permutation(N)[:judged].tolist():
        verdict = "right" if right[i] else "wrong"
        spool.append(
            feedback_payload(
                ids[i], verdict, FIRST + timedelta(days=40), queue=queue, inclusion_probability=judged / N
            )
        )
    spool.close()
    ingest_now(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("tuning") / "data")


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("few") / "data", judged=20, moved_from=20)


# judging


def judged_by(file: Path, wrong: Callable[[int, dict[str, Any]], bool]) -> None:
    """Fill a drawn file in, as a person would."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    file.write_text(
        "".join(
            json.dumps(row | {"verdict": "wrong" if wrong(k, row) else "right"}) + "\n"
            for k, row in enumerate(rows)
        ),
        encoding="utf-8",
    )


def test_a_drawn_audit_is_judged_and_certified(tmp_path: Path) -> None:
    folder, file = written(tmp_path / "data", judged=0), tmp_path / "audit.jsonl"
    assert (
        run("review", "next", "--queue", "audit", "--n", "300", "-o", file, "--data", folder).exit_code == 0
    )
    judged_by(file, lambda k, row: k % 20 == 0)
    assert run("feedback", "--from", file, "--data", folder).exit_code == 0
    (one,) = document("certify", "--alpha", "0.15", "--data", folder)["certificates"]
    assert (one["n_labels"], one["ended_by"]) == (300, "grid")


def test_a_drawn_estimate_is_near_the_truth(tmp_path: Path) -> None:
    folder, file = written(tmp_path / "data", judged=60), tmp_path / "estimate.jsonl"
    assert (
        run("review", "next", "--queue", "estimate", "--n", "120", "-o", file, "--data", folder).exit_code
        == 0
    )
    judged_by(file, lambda k, row: row["confidence"] < 0.5)
    assert run("feedback", "--from", file, "--data", folder).exit_code == 0
    found = document("calibration", "--data", folder)["estimate"]
    with open_log(folder) as log:
        truth = log.rows("SELECT avg(CAST(confidence < 0.5 AS INTEGER)) FROM decisions")[0][0]
    assert found["n"] == 120
    assert abs(found["hajek"] - truth) < 0.03  # strata of confidence leave little to chance
    assert found["stands_for"] == pytest.approx(N - 60)  # decisions of the audit are not drawn again
    assert abs(found["horvitz_thompson"] - (N - 60) * truth) < N * 0.03
    assert f" of the {N - 60} that they stand for" in run("calibration", "--data", folder).stderr


# tune


def test_tune_is_the_analysis_of_the_same_log(data: Path) -> None:
    found = document("tune", "--max-fallback", "0.15", "--data", data)
    with open_log(data) as log:
        curve = sweep(cells(log, Filter(), SEED, PriceBook(SEED.models)), SEED)
    expected = cheapest_with_fallback(curve, 0.15, rng=np.random.default_rng(0))
    assert found["found"]["threshold"] == expected.threshold
    assert found["found"]["range"] == list(expected.range)
    assert found["n"] == N
    assert found["normalised_production"] == pytest.approx((0.55 - 0.25) / 0.75)
    ahead = found["next_days"]
    assert ahead["share"] == pytest.approx(found["found"]["fallback_share"])
    assert ahead["low"] < ahead["share"] < ahead["high"]
    assert ahead["days"] == DAYS
    shown = run("tune", "--max-fallback", "0.15", "--data", data)
    assert "of the next 7 days" in shown.stderr
    assert f"{expected.threshold:g}" in shown.stdout
    assert "does not know whether the answers were good" in shown.stderr


def test_tune_under_every_objective(data: Path) -> None:
    certified = document("tune", "--objective", "certified", "--alpha", "0.15", "--data", data)["found"]
    passed = document("certify", "--alpha", "0.15", "--data", data)["certificates"][0]
    assert certified["threshold"] >= passed["threshold"]
    cost = ("tune", "--objective", "cost", "--fallback-usd", "0.05")
    low = document(*cost, "--data", data)["found"]
    high = document(*cost, "--wrong-usd", "1", "--data", data)["found"]
    assert low["threshold"] < high["threshold"] < 1  # a fallback has a price, then a wrong route has one too
    labels = document("tune", "--per-label", "--max-fallback", "0.3", "--data", data)["found"]
    assert [name for name, _ in labels["thresholds"]] == list(SEED.label_names)
    assert labels["fallback_share"] <= 0.3
    assert "simple" in run("tune", "--per-label", "--data", data).stdout


def test_one_threshold_for_all_is_what_tune_finds(data: Path) -> None:
    apart = document("tune", "--per-label", "--max-fallback", "0.3", "--data", data)["found"]
    shared = document("tune", "--max-fallback", "0.3", "--data", data)["found"]
    assert apart["single_threshold"] == shared["threshold"]
    assert apart["single_cost_per_1000"] == shared["cost_per_1000"]
    said = run("tune", "--per-label", "--max-fallback", "0.3", "--data", data).stderr
    assert "one threshold for all under the same limit: $" in said and f", at {shared['threshold']:g}" in said


def test_costs_are_lower_bounds_where_the_classifier_s_is_not_known(data: Path, tmp_path: Path) -> None:
    known = written(tmp_path / "known", classifier_cost=Decimal("0.00002"))
    asked = (
        ("tune",),
        ("tune", "--per-label"),
        ("tune", "--objective", "certified", "--alpha", "0.15"),
        ("tune", "--objective", "cost", "--wrong-usd", "1"),
    )
    for folder, is_known in ((known, True), (data, False)):
        for verb in asked:
            shown = run(*verb, "--data", folder)
            figures = re.findall(r"\$[0-9]+\.\d+\+?(?= per 1,000|, at |\n)", shown.stdout + shown.stderr)
            assert len(figures) >= 2 and all(x.endswith("+") is not is_known for x in figures), shown.output
            assert ("the classifier's cost is not known for some decisions" not in shown.stderr) is is_known
            assert document(*verb, "--data", folder)["classifier_known"] is is_known


def test_a_range_takes_more_than_a_handful_of_decisions(tmp_path: Path) -> None:
    writer = Writer(tmp_path, turns=False)
    writer.log(decision(0, input_tokens=9, output_tokens=9, usage_grade="measured"), SEED)
    writer.close()
    found = document("tune", "--data", tmp_path)["found"]
    assert (found["range"], found["no_range"]) == (None, "it takes 30 decisions of known cost, found 1")
    shown = run("tune", "--data", tmp_path)
    assert "not known" in shown.stdout and "no range is given: it takes 30 decisions" in shown.stderr


def test_sums_say_how_many_scores_of_other_classifiers_are_in_them(data: Path, tmp_path: Path) -> None:
    names = ("old/1", "older/1")
    folder = written(tmp_path / "data", classifier=lambda i: names[i % 2] if i < 400 else "fixed/1")
    told = "400 scored by other classifiers than the newest (fixed/1): old/1, older/1"
    for verb in (("sweep",), ("tune",), ("tune", "--per-label"), ("overlap",)):
        shown = run(*verb, "--data", folder)
        assert f"of all {N} decisions," in shown.stderr and told in shown.stderr
        assert document(*verb, "--data", folder)["n_mixed"] == 400
        assert "scored by other" not in run(*verb, "--data", data).stderr
    apart = document("overlap", "--more", "--data", folder)
    assert (apart["n"], apart["n_other"], apart["more"]["n_rows"]) == (N - 400, 400, N - 400)
    assert "note: 400 decisions are counted apart" in run("overlap", "--more", "--data", folder).stderr


def test_an_infeasible_condition_exits_with_4_and_says_why(data: Path, tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "router" / "presets" / "seed.toml").read_text(encoding="utf-8")
    own = tmp_path / "own.toml"
    own.write_text(text.replace('name = "simple"', 'name = "simple"\nthreshold = 1.0', 1), encoding="utf-8")
    done = run("tune", "--max-fallback", "0.01", "--policy", own, "--data", data)
    assert done.exit_code == 4
    assert "falls back at every threshold" in done.stderr
    flat = written(tmp_path / "flat", moved_from=0)
    for verb in (("tune", "--objective", "certified"), ("certify",)):
        strict = run(*verb, "--alpha", "0.02", "--data", flat)
        assert strict.exit_code == 4
        assert "more" not in strict.stderr.split("no threshold")[1].split(";")[0]
    assert "at this rate of losses no number of judgements would" in strict.stderr
    more = run("tune", "--objective", "certified", "--alpha", "0.02", "--data", data)
    assert more.exit_code == run("certify", "--alpha", "0.02", "--data", data).exit_code == 3
    assert "no threshold is certified at 0.02; about" in more.stderr


# certify


def test_certify_is_the_analysis_of_the_audit_rows(data: Path) -> None:
    found = document("certify", "--alpha", "0.15", "--data", data)
    with open_log(data) as log:
        audit = Judgements.from_table(evidence.judgements(log, Filter())).audit
        expected = certify(audit, bins(log, Filter()), SEED.label_names, alpha=0.15)
    (one,) = found["certificates"]
    assert one["threshold"] == expected.threshold is not None
    assert one["n_labels"] == JUDGED
    assert [x["p_value"] for x in one["steps"]] == [x.p_value for x in expected.steps]
    assert one["operating_point"]["fallback_share"] is not None
    assert found["ground"]["classifiers"] == ["fixed/1"]
    assert found["ground"]["labels_fingerprint"] == SEED.labels_fingerprint
    shown = run("certify", "--alpha", "0.15", "--data", data)
    assert (
        f"at {expected.threshold:g}, at most 15.0% of what is served is a loss, with 90.0% confidence"
        in shown.stderr
    )
    assert SECRET not in shown.output + shown.stderr


def test_too_few_labels_exit_with_3_and_the_number_that_is_missing(few: Path) -> None:
    done = run("certify", "--json", "--data", few)
    assert done.exit_code == 3
    (one,) = json.loads(done.stdout)["certificates"]
    assert (one["threshold"], one["ended_by"]) == (None, "labels")
    assert one["labels_missing"] > 0
    assert f"about {one['labels_missing']:,} more judgements may do" in done.stderr


def test_tune_for_a_promise_exits_with_3_when_judgements_are_missing_and_counts_its_look(
    few: Path, data: Path
) -> None:
    done = run("tune", "--objective", "certified", "--data", few)
    assert done.exit_code == 3
    assert "more audit judgements may do" in done.stderr
    once = document("tune", "--objective", "certified", "--alpha", "0.15", "--data", data)
    later = document("tune", "--objective", "certified", "--alpha", "0.15", "--look", "3", "--data", data)
    assert later["found"]["threshold"] >= once["found"]["threshold"]


def test_a_promise_names_the_labels_it_covers(data: Path, tmp_path: Path) -> None:
    labels = tuple(replace(x, threshold=0.6) if x.name == "coding" else x for x in SEED.labels)
    mixed = tmp_path / "mixed.toml"
    mixed.write_text(replace(SEED, labels=labels).to_toml(), encoding="utf-8")
    shown = run("certify", "--alpha", "0.15", "--policy", mixed, "--data", data)
    assert shown.exit_code == 0
    assert "simple, reasoning, creative" in shown.stdout and "all " not in shown.stdout
    assert "simple, reasoning, creative: at " in shown.stderr
    assert "not covered: coding (own threshold 0.6); --per-label promises each" in shown.stderr
    own = tmp_path / "own.toml"
    own.write_text(
        replace(SEED, labels=tuple(replace(x, threshold=0.6) for x in SEED.labels)).to_toml(),
        encoding="utf-8",
    )
    refused = run("certify", "--policy", own, "--data", data)
    assert refused.exit_code == 2
    assert "every label has a threshold of its own" in refused.stderr


def test_a_loss_that_is_too_high_exits_with_4(data: Path) -> None:
    done = run("certify", "--alpha", "0.01", "--data", data)
    assert done.exit_code in (3, 4)
    assert "none" in done.stdout


def test_promises_per_label_and_by_look_share_delta(data: Path) -> None:
    labels = document("certify", "--per-label", "--alpha", "0.3", "--data", data)["certificates"]
    assert [x["label"] for x in labels] == list(SEED.label_names)
    assert {x["delta"] for x in labels} == {0.025}
    second = document("certify", "--alpha", "0.2", "--look", "2", "--data", data)["certificates"][0]
    assert second["delta"] < 0.1 / 6


def test_answers_are_certified_above_the_line_alone(data: Path) -> None:
    one = document("certify", "--loss", "answer", "--alpha", "0.3", "--data", data)["certificates"][0]
    assert one["supported_from"] == 0.55
    assert one["threshold"] >= 0.55
    shown = run("certify", "--loss", "answer", "--alpha", "0.3", "--data", data)
    assert "below 0.55 the log never saw the label's model answer" in shown.stderr


def test_draws_with_other_chances_are_no_uniform_sample(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", judged=100)
    with open_log(folder) as log:
        judged = set(evidence.judgements(log, Filter())["id"])
        others = [x for (x,) in log.rows("SELECT CAST(id AS VARCHAR) FROM decisions") if x not in judged][:50]
    spool = Spool(folder)
    for name in others:
        spool.append(
            feedback_payload(
                name, "right", FIRST + timedelta(days=41), queue="audit", inclusion_probability=0.5
            )
        )
    spool.close()
    assert "no uniform sample" in run("certify", "--alpha", "0.3", "--data", folder).stderr


def test_other_queues_feed_no_promise(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", queue="learn")
    for verb in ("certify", "calibration"):
        done = run(verb, "--data", folder)
        assert (done.exit_code, done.stdout) == (3, "")
        assert "no decision of the audit queue was judged" in done.stderr
    # 0.9 ** 22 < 0.1; the second figure is that of labels_needed
    assert (
        "takes 22 judgements among the served without a loss, and about 152"
        in run("certify", "--data", folder).stderr
    )


# calibration


def test_calibration_describes_the_audit_sample(data: Path) -> None:
    found = document("calibration", "--data", data)
    assert found["raw"]["n"] == JUDGED
    assert not found["raw"]["is_miscalibrated"]  # the scores are posteriors
    assert 0.7 < found["temperature"] < 1.4
    assert found["meaning"]["threshold"] == 0.55
    assert sum(x["n"] for x in found["raw"]["bins"]) == JUDGED
    again = run("calibration", "--json", "--data", data)
    assert json.loads(again.stdout) == found  # seeded
    shown = run("calibration", "-t", "0.7", "--data", data)
    assert "a threshold of 0.7 sends" in shown.stderr


# drift


def test_drift_that_cannot_judge_says_so_and_nothing_of_a_certificate(data: Path, tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.json"
    certificate.write_text(
        run("certify", "--alpha", "0.3", "--json", "--data", data).stdout, encoding="utf-8"
    )
    last = (FIRST + timedelta(days=DAYS - 2)).date().isoformat()
    done = run("drift", "--recent", last, "--certificate", certificate, "--data", data)
    assert done.exit_code == 3
    assert "too few decisions to judge" in done.stderr and "is not known" in done.stderr
    assert "nothing moved" not in done.stderr and "the certificate holds" not in done.stderr
    found = json.loads(run("drift", "--recent", last, "--json", "--data", data).stdout)
    assert found["can_judge"] is False and set(found["not_judged"]) == set(SEED.label_names)


def test_drift_tells_what_moved_and_since_when(few: Path, data: Path) -> None:
    found = document("drift", "--recent", "2026-10-21", "--data", few)
    assert found["confidence"][0]["is_alarm"]
    assert found["confidence"][0]["since"] == "2026-10-21"
    assert "alarm: confidence moved" in run("drift", "--recent", "2026-10-21", "--data", few).stderr
    assert document("drift", "--recent", "2026-10-21", "--data", data)["alarms"] == []
    for recent, which in (("2030-01-01", "from then on"), ("2020-01-01", "before it")):
        refused = run("drift", "--recent", recent, "--data", data)
        assert (refused.exit_code, refused.stdout) == (3, "")
        assert (
            f"cannot compare: the recent period begins on {recent}, and no decision is {which}"
            in refused.stderr
        )
        assert "nothing moved" not in refused.stderr


def test_alarms_show_prompts_only_when_asked_for(few: Path) -> None:
    words = ("drift", "--recent", "2026-10-21", "--data", few)
    assert SECRET not in run(*words).stdout + run(*words, "--json").stdout
    asked = run(*words, "--examples", "2")
    found = document(*words, "--examples", "2")
    assert [len(x) for x in found["examples"]] == [2] * len(found["alarms"])
    assert asked.stdout.count(SECRET) == 2 * len(found["alarms"])
    newest = found["examples"][0][0]
    assert newest["prompt"] == f"{SECRET} {N - 1}"


def test_a_certificate_lapses_on_drift(data: Path, few: Path, tmp_path: Path) -> None:
    file = tmp_path / "certificate.json"
    file.write_bytes(run("certify", "--alpha", "0.15", "--json", "--data", data).stdout_bytes)
    holds = document("drift", "--recent", "2026-10-21", "--certificate", file, "--data", data)
    assert holds["certificate_lapses"] == []
    done = run("drift", "--recent", "2026-10-21", "--certificate", file, "--data", few, "--json")
    assert done.exit_code == 3
    ended = json.loads(done.stdout)
    assert any("PSI" in x for x in ended["certificate_lapses"])
    other = json.loads(file.read_text())
    other["ground"]["classifiers"] = ["local/0"]
    file.write_text(json.dumps(other))
    assert (
        "the classifier was local/0 and is fixed/1"
        in run("drift", "--certificate", file, "--recent", "2026-10-21", "--data", data).stderr
    )


# replay and diff


def test_replay_reproduces_the_log_and_tries_merged_labels(data: Path) -> None:
    found = document("replay", "--data", data)
    assert (found["reproduction"]["n"], found["reproduction"]["n_equal"]) == (N, N)
    assert found["n_priced"] == N
    merged = document("replay", "--merge", "coding,reasoning", "--data", data)
    assert merged["fallback_share"] < found["fallback_share"]
    said = run("replay", "--data", data).stderr
    assert "900 of 900 decisions choose the same model" in said and "no chance" not in said
    assert (
        "certifies raising a threshold, never lowering it"
        in run("replay", "--merge", "coding,reasoning", "--data", data).stderr
    )


def test_what_another_classifier_scored_is_counted_apart(tmp_path: Path) -> None:
    old = N // 3
    folder = written(tmp_path / "data", classifier=lambda i: "old/1" if i < old else "fixed/1")
    found = document("replay", "--data", folder)
    assert (found["n"], found["n_other"]) == (N - old, old)
    assert found["reproduction"]["n"] == N  # what was logged is checked whoever scored it
    diff = document("policy", "diff", "-t", "0.8", "--data", folder)
    assert (diff["total"]["n"], diff["n_other"]) == (N - old, old)
    (one,) = document("certify", "--alpha", "0.15", "--data", folder)["certificates"]
    with open_log(folder) as log:
        audited = log.rows(
            "SELECT count(*) FROM decisions d JOIN feedback f ON f.decision_id = d.id WHERE d.classifier = 'fixed/1'"
        )
    assert one["n_labels"] == audited[0][0] < JUDGED
    assert one["n_unlabelled"] == N - old - one["n_labels"]
    quality = document("report", "--alpha", "0.15", "--data", folder)["quality"]
    assert quality["audit"]["counted_apart"] == old
    assert (quality["certificate"]["threshold"], quality["certificate"]["n_unlabelled"]) == (
        one["threshold"],
        one["n_unlabelled"],
    )
    for verb in (("replay",), ("certify",), ("policy", "diff", "-t", "0.8")):
        assert f"note: {old} decisions are counted apart" in run(*verb, "--data", folder).stderr
    labels = tuple(replace(x, rubric="in other words") if x.name == "coding" else x for x in SEED.labels)
    reworded = tmp_path / "reworded.toml"
    reworded.write_text(replace(SEED, labels=labels).to_toml(), encoding="utf-8")
    shown = run("replay", "--policy", reworded, "--data", folder)
    assert shown.exit_code == 0
    assert "no decision was scored for exactly this policy's labels" in shown.stderr


def test_replay_takes_other_prices(data: Path, tmp_path: Path) -> None:
    priced = tmp_path / "dear.toml"
    price = 'price = { input = "0", output = "1000", source = "test" }'
    models = "".join(f'[models."{name}"]\nprovider = "openai"\n{price}\n' for name in SEED.model_names)
    priced.write_text(SEED.to_toml().split("[models")[0] + models, encoding="utf-8")
    found = document("replay", "--policy", priced, "--data", data)
    assert found["cost_usd"] == pytest.approx(sum(100 + i % 90 for i in range(N)) * 1000 / 1e6)


@pytest.mark.parametrize("cost", [None, Decimal("0"), Decimal("0.0002")], ids=str)
def test_replay_diff_and_sweep_cost_the_same_at_the_same_point(cost: Decimal | None, tmp_path: Path) -> None:
    folder = written(tmp_path / "data", classifier_cost=cost)
    plus = "+" if cost is None else ""
    here, there = document("sweep", "-t", "0.55", "-t", "0.8", "--data", folder)["points"]
    other = tmp_path / "other.toml"
    other.write_text(SEED.with_threshold(0.8).to_toml(), encoding="utf-8")
    for point, more in ((here, ()), (there, ("--policy", other))):
        found = document("replay", *more, "--data", folder)
        assert found["cost_per_1000"] == pytest.approx(point["cost_per_1000"], rel=1e-9)
        assert found["cost_half"] == (None if cost is None else pytest.approx(point["cost_half"]))
        assert found["classifier_known"] == (cost is not None)
        if cost is not None:
            assert found["classifier_usd"] == pytest.approx(N * float(cost))
        shown = run("replay", *more, "--data", folder)
        assert f"{money(found['cost_per_1000'])}{plus}" in shown.stdout
        assert ("+" in shown.stdout) == (cost is None)
        assert ("the classifier's cost is not known for some decisions" in shown.stderr) == (cost is None)
    diff = document("policy", "diff", "-t", "0.8", "--data", folder)
    assert diff["old_cost"] == pytest.approx(here["cost_per_1000"], rel=1e-9)
    assert diff["new_cost"] == pytest.approx(there["cost_per_1000"], rel=1e-9)
    said = run("policy", "diff", "-t", "0.8", "--data", folder).stderr
    change = signed_money(diff["new_cost"] - diff["old_cost"])
    assert (
        f"{money(diff['old_cost'])}{plus} before, {money(diff['new_cost'])}{plus} after, {change} ± " in said
    )
    assert ("the classifier's cost is not known for some decisions" in said) == (cost is None)


def test_replay_weighs_choices_that_were_drawn(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", judged=700, explored=0.3)
    found = document("replay", "--data", folder)["off_policy"]
    assert found["refused"] is None
    assert found["n"] == 700
    assert found["ess"] > 100
    # choices were drawn whatever the label's fate, so the truth is the share that is right of all judged
    with open_log(folder) as log:
        right = log.rows("SELECT avg(CAST(verdict = 'right' AS INTEGER)) FROM feedback")[0][0]
    assert abs(found["snips"]["value"] - right) < 3 * found["snips"]["half"] / 1.96
    assert "would have been right under this policy" in run("replay", "--data", folder).stderr
    assert document("replay", "--data", written(tmp_path / "few", judged=60, explored=0.3))["off_policy"][
        "refused"
    ]


def test_replay_gives_no_value_for_a_model_that_the_log_never_tried(tmp_path: Path) -> None:
    exploring = replace(SEED, exploration=0.3)
    folder = written(tmp_path / "data", judged=700, explored=0.3, policy=exploring)
    labels = tuple(replace(x, model="claude-haiku-4-5") if x.name == "simple" else x for x in SEED.labels)
    new = tmp_path / "new.toml"
    new.write_text(replace(exploring, labels=labels).to_toml(), encoding="utf-8")
    found = document("replay", "--policy", new, "--data", folder)["off_policy"]
    assert (found["ips"], found["snips"], found["dr"]) == (None, None, None)
    assert 0.1 < found["unsupported"] < 0.5
    assert "no chance to try" in run("replay", "--policy", new, "--data", folder).stderr
    same = document("replay", "--data", folder)["off_policy"]
    assert same["unsupported"] == 0.0
    assert abs(same["dr"]["value"] - same["snips"]["value"]) < same["snips"]["half"]


def test_a_diff_is_shown_as_table_json_and_patch_which_can_be_applied(data: Path, tmp_path: Path) -> None:
    found = document("policy", "diff", "-t", "0.8", "--data", data)
    below = found["total"]["new_fallback"] - found["total"]["old_fallback"]
    assert found["total"]["crossing"] == below > 0
    shown = run("policy", "diff", "-t", "0.8", "--data", data)
    assert "label" not in shown.stdout.splitlines()[1] and "change in USD" in shown.stdout.splitlines()[0]
    simple = next(x for x in found["by_label"] if x["name"] == "simple")
    assert simple["cost_change"] > 0 and f"{signed_money(simple['cost_change'])} ±" in shown.stdout
    assert "not in the log" in shown.stderr
    patch = run("policy", "diff", "-t", "0.8", "--toml", "--data", data).stdout
    assert tomllib.loads(patch) == {"threshold": 0.8}
    own = tmp_path / "own"
    shown = run("policy", "apply", "-", "--dry-run", "--data", own, stdin=patch.encode())
    assert "+threshold = 0.8 " in shown.stdout and not (own / "policy.toml").exists()
    assert run("policy", "apply", "-", "--data", own, stdin=patch.encode()).exit_code == 0
    assert document("policy", "show", "--data", own)["threshold"] == 0.8
    assert "nothing to change" in run("policy", "apply", "-", "--data", own, stdin=patch.encode()).stderr
    assert f"# evidence: {N} decisions from 2026-10-01 to 2026-10-28" in patch


def test_a_diff_says_savings_as_a_change_and_what_it_leaves_alone(data: Path, tmp_path: Path) -> None:
    labels = tuple(replace(x, threshold=0.6) if x.name == "coding" else x for x in SEED.labels)
    mixed = tmp_path / "mixed.toml"
    mixed.write_text(replace(SEED, labels=labels).to_toml(), encoding="utf-8")
    shown = run("policy", "diff", "-t", "0.8", "--policy", mixed, "--data", data)
    change = document("policy", "diff", "-t", "0.8", "--policy", mixed, "--data", data)["savings_change"]
    assert f"savings against claude-opus-4-6 change by {100 * change:+.1f} ±" in shown.stderr
    assert "coding keeps its own threshold (0.6); -t does not move it" in shown.stderr
    merged = run("policy", "diff", "--merge", "coding,reasoning", "--toml", "--data", data)
    assert "edit the policy by hand" in merged.stderr
    for verb in (("policy", "diff"), ("replay",)):
        said = run(*verb, "--merge", "coding,reasoning", "--data", data).stderr
        assert "merged scores are added (they sum to 1)" in said


def test_each_side_of_a_diff_is_priced_by_its_own_policy(data: Path, tmp_path: Path) -> None:
    own = 'price = { input = "2.5", output = "12.5", source = "test" }'
    new = tmp_path / "new.toml"
    new.write_text(
        SEED.to_toml().replace('[models."claude-opus-4-6"]', f'[models."claude-opus-4-6"]\n{own}'),
        encoding="utf-8",
    )
    before = document("replay", "--data", data)["cost_per_1000"]
    after = document("replay", "--policy", new, "--data", data)["cost_per_1000"]
    assert after < 0.9 * before
    seed = tmp_path / "seed.toml"
    seed.write_text(SEED.to_toml(), encoding="utf-8")
    forth, back = ("policy", "diff", new), ("policy", "diff", seed, "--policy", new)
    for args, costs in ((forth, (before, after)), (back, (after, before))):
        found = document(*args, "--data", data)
        assert (found["old_cost"], found["new_cost"]) == (pytest.approx(costs[0]), pytest.approx(costs[1]))
        assert found["repriced"] == ["claude-opus-4-6"]
        assert found["total"]["cost_change"] == pytest.approx(sum(x["cost_change"] for x in found["stays"]))
        patch = run(*args, "--toml", "--data", data).stdout
        assert (
            "# prices differ between the policies: claude-opus-4-6; each side is priced by its own" in patch
        )
        shown = run(*args, "--data", data)
        assert "prices differ between the policies: claude-opus-4-6" in shown.stderr
        assert "the same, at another price" in shown.stdout
    assert "prices differ" not in run("policy", "diff", "-t", "0.8", "--data", data).stderr


def test_a_patch_that_cannot_say_what_differs_says_that_it_is_empty(data: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.toml"
    new.write_text(replace(SEED, exploration=0.1, tiers=()).to_toml(), encoding="utf-8")
    found = document("policy", "diff", new, "--data", data)
    assert [x["key"] for x in found["not_in_patch"]] == ["exploration", "tiers"]
    words = "not in the patch: exploration: 0.0 -> 0.1; not compared in the diff"
    assert words in run("policy", "diff", new, "--data", data).stderr
    patch = run("policy", "diff", new, "--toml", "--data", data).stdout
    assert patch.startswith("# this patch is empty: it sets no key, because the policies differ only in what")
    assert f"# {words}" in patch
    done = run("policy", "apply", "-", "--data", tmp_path / "own", stdin=patch.encode())
    assert done.exit_code == 2
    assert "it is empty: it sets no key, because the policies differ only" in done.stderr
    assert "Not in the patch: exploration: 0.0 -> 0.1; not compared in the diff; tiers: " in done.stderr
    new.write_text(replace(SEED, exploration=0.1, threshold=0.7).to_toml(), encoding="utf-8")
    patch = run("policy", "diff", new, "--toml", "--data", data).stdout
    assert tomllib.loads(patch) == {"threshold": 0.7} and "empty" not in patch
    done = run("policy", "apply", "-", "--data", tmp_path / "own", stdin=patch.encode())
    assert done.exit_code == 0
    assert f"note: {words}; edit the policy" in done.stderr


def test_a_diff_takes_a_file(data: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.toml"
    new.write_text(SEED.with_threshold(0.7).to_toml(), encoding="utf-8")
    from_file = document("policy", "diff", new, "--data", data)
    assert from_file["total"] == document("policy", "diff", "-t", "0.7", "--data", data)["total"]
    merged = document("policy", "diff", "--merge", "coding,reasoning", "--data", data)
    assert merged["total"]["new_fallback"] < merged["total"]["old_fallback"]


# overlap and sweep


def test_overlap_tells_what_merging_would_do(data: Path) -> None:
    more = document("overlap", "--more", "--data", data)["more"]
    assert more["n_rows"] == N
    assert more["merges"][0]["how"] == "sum"
    assert more["merges"][0]["fallback_after"] <= more["merges"][0]["fallback_before"]
    assert sorted(more["order"]) == [0, 1, 2, 3]
    assert np.diag(np.array(more["coactivation"])).tolist() == [1, 1, 1, 1]
    shown = run("overlap", "--more", "--data", data)
    assert "were one label" in shown.stdout
    assert "sum to 1" in shown.stderr


def test_overlap_replay_and_diff_merge_by_one_rule(data: Path, tmp_path: Path) -> None:
    now = document("replay", "--data", data)["cost_per_1000"]
    merges = document("overlap", "--more", "--data", data)["more"]["merges"]
    with open_log(data) as log:
        rows = log.rows("SELECT top_label, count(*) FROM decisions GROUP BY ALL")
    often = dict(rows)
    assert any(x["names"] != [x["first"], x["second"]] for x in merges)
    for x in merges:
        one, other = x["names"]
        assert often[one] >= often[other]
        assert x["model"] == SEED.by_name[one].model
        merge = ("--merge", ",".join(x["names"]), "--data", data)
        assert document("replay", *merge)["cost_per_1000"] - now == pytest.approx(x["cost_change"])
        found = document("policy", "diff", *merge)
        assert found["new_cost"] - found["old_cost"] == pytest.approx(x["cost_change"])
        assert f"answers ({one} + {other}: {x['model']})" in run("replay", *merge).stderr
    shown = run("overlap", "--more", "--data", data)
    assert "change in USD per 1,000" in shown.stdout and "answered by" in shown.stdout
    assert (
        "merged scores are added (they sum to 1); the model of the label named first answers" in shown.stderr
    )
    lines = [x.split() for x in shown.stdout.splitlines()]
    for x in merges:
        (line,) = [y for y in lines if y[:3] == [x["names"][0], "+", x["names"][1]]]
        assert line[3] == x["model"] and line[-1].startswith("+$" if x["cost_change"] > 0 else "-$")
    html = tmp_path / "report.html"
    assert run("report", "-o", html, "--data", data).exit_code == 0
    text = html.read_text(encoding="utf-8")
    assert "If one label: answered by" in text and "the model of the more frequent label answers" in text


def test_what_a_margin_rule_adds_is_signed(data: Path) -> None:
    points = document("sweep", "--margins", "--data", data)["margins"]["points"]
    shown = run("sweep", "--margins", "--data", data).stdout
    assert "change in USD per 1,000" in shown
    assert points[-1]["cost_per_1000"] != 0
    sign = "+$" if points[-1]["cost_per_1000"] > 0 else "-$"
    (line,) = [x for x in shown.splitlines() if x.split()[:1] == ["0.2"] and "±" in x and x.count("%") == 1]
    assert sign in line


def test_overlap_and_a_diff_show_prompts_that_the_log_stores(data: Path, tmp_path: Path) -> None:
    leaning = {"simple": 0.6, "coding": 0.3, "reasoning": 0.06, "creative": 0.04}
    other = leaning | {"coding": 0.04, "creative": 0.3}
    for privacy, shown in (("full", "hide \\u202e me"), ("hash", "not stored")):
        folder = tmp_path / privacy
        writer = Writer(folder, turns=False)
        for i in range(80):
            prompt = f"hide \u202e me\n{i} " + "x" * 200 if privacy == "full" else None
            scores = leaning if i % 2 else other
            writer.log(decision(i, prompt=prompt, scores=scores, confidence=0.6, margin=0.3, runner_up="coding" if i % 2 else "creative"), SEED)  # fmt: skip
        writer.close()
        ingest_now(folder)
        (split,) = document("overlap", "--more", "--data", folder)["more"]["splits"]
        assert len(split["examples"]) == len(split["other_examples"]) == 5
        assert (split["examples"][0]["prompt"] is None) == (privacy == "hash")
        for verb in (("overlap", "--more"), ("policy", "diff", "-t", "0.7")):
            said = run(*verb, "--data", folder).stdout
            assert shown in said and "xxx" * 30 not in said and "\u202e" not in said
            assert (split["examples"][0]["id"] in said) or verb[0] == "policy"
    more = run("overlap", "--more", "--data", data)
    assert "of those with" in more.stdout and "likeness" in more.stdout
    assert "margins at or below" in more.stderr


def test_a_promise_where_no_label_s_model_ever_answered_is_not_enough_evidence(tmp_path: Path) -> None:
    folder, even = tmp_path / "data", dict.fromkeys(SEED.label_names, 0.25)
    writer, ids = Writer(folder, turns=False), []
    for i in range(60):
        one = decision(
            i, scores=even, confidence=0.25, margin=0.0, cause="low_confidence", is_fallback=True,
            model_chosen="gpt-4o", model_used="gpt-4o", input_tokens=9, output_tokens=9, usage_grade="measured",
        )  # fmt: skip
        ids.append(one.id)
        writer.log(one, SEED)
    writer.close()
    spool = Spool(folder)
    for name in ids:
        spool.append(
            feedback_payload(
                name, "right", FIRST + timedelta(days=60), queue="audit", inclusion_probability=1.0
            )
        )
    spool.close()
    ingest_now(folder)
    for verb in (("certify",), ("tune", "--objective", "certified")):
        done = run(*verb, "--loss", "answer", "--data", folder)
        assert done.exit_code == 3
    assert (
        "there is none to judge: let the policy explore"
        in run("certify", "--loss", "answer", "--data", folder).stderr
    )
    shown = run("policy", "diff", "-t", "0.7", "--data", folder)
    assert "change by +0.0 ± 0.0 points" in shown.stderr
    said = run("sweep", "--data", folder).stderr
    assert "at thresholds up to 0.25 nothing falls back" in said
    assert "coding is never the top label: no decision reaches claude-sonnet-4-5 through it" in said
    assert "simple is the top label of 60 decisions and always falls back" in said
    assert "of 4 labels, 0.55 is 40.0% of the way" in said


def test_sweep_projects_times_and_says_what_they_rest_on(data: Path) -> None:
    found = document("sweep", "--data", data)
    by_model = {x["model"]: x for x in found["latency"]}
    with open_log(data) as log:
        rows = log.rows("SELECT model_used, count(total_ms), avg(total_ms) FROM decisions GROUP BY ALL")
    for model, n, mean in rows:
        assert (by_model[model]["n_calls"], by_model[model]["mean_ms"]) == (n, pytest.approx(mean))
    at = {x["threshold"]: x["latency"] for x in found["points"]}
    assert at[1.0]["mean_ms"] == pytest.approx(by_model["gpt-4o"]["mean_ms"])  # all fall back
    assert (at[0.0]["mean_ms"], at[0.0]["never_timed"]) == (None, ["claude-opus-4-6"])
    assert found["curve"]["mean_ms"][0] is None and found["curve"]["mean_ms"][-1] == at[1.0]["mean_ms"]
    shown = run("sweep", "--data", data)
    assert "median ms" in shown.stdout
    assert "are projected" in shown.stderr and "never timed: claude-opus-4-6" in shown.stderr


def test_sweep_shows_the_share_of_right_labels_above_each_line(data: Path, few: Path, tmp_path: Path) -> None:
    found = document("sweep", "--data", data)
    with open_log(data) as log:
        audit = Judgements.from_table(evidence.judgements(log, Filter())).audit
    for point in found["points"]:
        passes = audit.confidence >= point["threshold"]
        n, right = int(passes.sum()), int((passes & ~audit.loss).sum())
        assert (point["quality"]["n"], point["quality"]["right"]) == (n, right)
        assert point["quality"]["share"] == (right / n if n >= 10 else None)
    shown = run("sweep", "--data", data)
    assert "right labels" in shown.stdout and f"of {JUDGED:,} audited decisions" in shown.stderr
    report = document("report", "--data", data)["threshold"]
    at = {x["threshold"]: x["quality"] for x in found["points"]}
    both = {x["threshold"]: x["quality"] for x in report["points"] if x["threshold"] in at}
    assert len(both) > 20 and both == {k: at[k] for k in both}
    drawn = report["quality"]
    assert drawn["thresholds"][110] == 0.55 and drawn["share"][110] == at[0.55]["share"]
    assert drawn["low"][110] == at[0.55]["interval"]["low"]
    for folder, there in ((data, True), (few, True), (written(tmp_path / "none", judged=0), False)):
        page = tmp_path / f"{folder.parent.name}.html"
        assert run("report", "-o", page, "--data", folder).exit_code == 0
        assert ("Right labels above the line" in page.read_text(encoding="utf-8")) is there

    half = written(tmp_path / "half", judged=0)
    assert (
        run(
            "review", "next", "--queue", "audit", "--n", "30", "-o", tmp_path / "drawn.jsonl", "--data", half
        ).exit_code
        == 0
    )
    judged_by(tmp_path / "drawn.jsonl", lambda k, _: k % 5 == 0)
    rows = (tmp_path / "drawn.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "some.jsonl").write_text("".join(rows[:19]), encoding="utf-8")
    assert run("feedback", "--from", tmp_path / "some.jsonl", "--data", half).exit_code == 0
    assert all(x["quality"] is None for x in document("sweep", "--data", half)["points"])
    assert (
        "right labels: not measured, it takes 20 audited decisions; 19 are judged"
        in run("sweep", "--data", half).stderr
    )
    (tmp_path / "one.jsonl").write_text(rows[19], encoding="utf-8")
    assert run("feedback", "--from", tmp_path / "one.jsonl", "--data", half).exit_code == 0
    shown = run("sweep", "--data", half)
    assert "of 20 audited decisions" in shown.stderr and "10 drawn ones wait for a judgement" in shown.stderr
    assert document("sweep", "--data", half)["points"][0]["quality"]["right"] == 16


def test_sweep_and_report_say_when_the_classifier_s_cost_is_not_known(data: Path, tmp_path: Path) -> None:
    known = written(tmp_path / "known", judged=0, classifier_cost=Decimal("0.00002"))
    for folder, is_known in ((known, True), (data, False)):
        assert document("sweep", "--data", folder)["classifier_known"] is is_known
        shown, page = run("sweep", "--data", folder), tmp_path / f"{is_known}.html"
        assert ("≤ " not in shown.stdout and "+ ±" not in shown.stdout) is is_known
        assert ("the classifier's cost is not known for some decisions" not in shown.stderr) is is_known
        assert run("report", "-o", page, "--data", folder).exit_code == 0
        text = page.read_text(encoding="utf-8")
        operating = text[text.index("Operating points") :]
        assert ("≤ " not in operating) is is_known
        assert ("cost is not known for some decisions" not in operating) is is_known


def test_sweep_shows_the_margin_rule(data: Path) -> None:
    found = document("sweep", "--margins", "--data", data)
    with open_log(data) as log:
        expected = log.rows("SELECT count(*) FROM decisions WHERE confidence >= 0.55 AND margin < 0.2")[0][0]
    assert found["margins"]["points"][3]["fallback"] == expected > 0
    assert isinstance(found["dead_zones"], list)
    assert "fall back as well" in run("sweep", "--margins", "--data", data).stdout


# pairs


def test_pairs_need_no_log_and_draw_the_baselines(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [f'"p {i}",{int(rng.random() < 0.9 - 0.4 * s)},1,{s:.3f}' for i, s in enumerate(rng.random(900))]
    file = tmp_path / "pairs.csv"
    file.write_text("prompt,weak,strong,score\n" + "\n".join(rows))
    found = document("pairs", file, "--alpha", "0.25")
    assert [x["name"] for x in found["lines"]] == ["random", "score", "length", "oracle"]
    assert found["lines"][1]["apgr"] > 0.55
    assert 0 < found["certificate"]["threshold"] < 1
    piped = run("pairs", "-", "--alpha", "0.25", "--json", stdin=file.read_bytes())
    assert json.loads(piped.stdout)["lines"] == found["lines"]
    shown = run("pairs", file)
    assert "CPT50" in shown.stdout and "not better than random" in shown.stderr


def test_models_that_cannot_be_told_apart_exit_with_3(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("id,weak,strong\n1,1,0\n2,0,1\n3,1,1\n")
    done = run("pairs", file)
    assert done.exit_code == 3
    assert "models not separable on this data" in done.stderr


BAD = {
    "objective": (["tune", "--objective", "best"], 2, "fallback, certified, cost"),
    "share": (["tune", "--max-fallback", "1.2"], 2, "a share in [0, 1]"),
    "price": (["tune", "--objective", "cost", "--wrong-usd", "-1"], 2, "USD, 0 or more"),
    "labels of another objective": (["tune", "--objective", "cost", "--per-label"], 2, "certify --per-label"),
    "alpha": (["certify", "--alpha", "0"], 2, "between 0 and 1"),
    "alpha nan": (["certify", "--alpha", "nan"], 2, "between 0 and 1"),
    "loss": (["certify", "--loss", "x"], 2, "label, answer"),
    "look": (["certify", "--look", "0"], 2, "--look"),
    "threshold": (["calibration", "-t", "0.55555"], 2, "0.5555 and 0.5556"),
    "recent": (["drift", "--recent", "lately"], 2, "an age like 90m"),
    "certificate": (["drift", "--certificate", "{tmp}/none.json"], 2, "cannot be read"),
    "no certificate": (["drift", "--certificate", "{tmp}/list.json"], 2, "not a certificate"),
    "no JSON": (["drift", "--certificate", "{tmp}/text.json"], 2, "is not JSON"),
    "merge": (["replay", "--merge", "coding,none"], 2, "like A,B"),
    "merge one": (["replay", "--merge", "coding"], 2, "like A,B"),
    "merge twice": (["replay", "--merge", "coding,simple", "--merge", "simple,creative"], 2, "each once"),
    "nothing to compare": (["policy", "diff"], 2, "give a policy file"),
    "both forms": (["policy", "diff", "-t", "0.6", "--toml", "--json"], 2, "not both"),
    "no pairs": (["pairs", "{tmp}/none.csv"], 2, "cannot be read"),
    "empty pairs": (["pairs", "{tmp}/empty.csv"], 3, "no row with both outcomes"),
    "no such period": (["tune", "--since", "2030-01-01"], 3, "no decisions"),
    "no such period to replay": (["replay", "--since", "2030-01-01"], 3, "no decisions"),
    "no such period to compare": (["drift", "--since", "2030-01-01"], 3, "no decisions"),
    "no log": (["certify", "--data", "{tmp}/none"], 3, "no decisions in"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_message_and_its_exit_code(name: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "text.json").write_text("no")
    (tmp_path / "empty.csv").write_text("id,weak,strong\n")
    args, code, words = BAD[name]
    where = [] if "--data" in args or args[0] == "pairs" else ["--data", str(data)]
    done = run(*[part.format(tmp=tmp_path) for part in args], *where)
    assert (done.exit_code, words in done.stderr) == (code, True), done.stderr
    assert "unexpected" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("args", [["tune"], ["tune", "--objective", "cost"], ["policy", "diff", "-t", "0.6"], ["replay"], ["drift"],
                                  ["sweep", "--margins"], ["overlap", "--more"], ["certify"], ["calibration"]], ids=" ".join)  # fmt: skip
@pytest.mark.parametrize(
    ("n", "tokens"), [(1, None), (1, 100), (40, 100)], ids=["no costs", "priced", "equal scores"]
)
def test_a_log_that_says_little_is_answered_or_refused(
    args: list[str], n: int, tokens: int | None, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    writer = Writer(folder, turns=False)
    more: dict[str, Any] = (
        {"input_tokens": tokens, "output_tokens": tokens, "usage_grade": "measured"} if tokens else {}
    )
    if n > 1:
        more |= {
            "scores": dict.fromkeys(SEED.label_names, 0.25),
            "confidence": 0.25,
            "margin": 0.0,
            "is_fallback": True,
        }
        more |= {"cause": "low_confidence", "model_chosen": "gpt-4o", "model_used": "gpt-4o"}
    for i in range(n):
        writer.log(decision(i, **more), SEED)
    writer.close()
    done = run(*args, "--data", folder)
    assert done.exit_code in (0, 3), done.stderr
    assert "unexpected" not in done.stderr


def test_sweep_and_replay_keep_what_is_known_of_a_partly_unknown_classifier_cost(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", judged=0)
    spool = Spool(folder)
    writer = Writer(folder, turns=False)
    for i in range(40):  # beside 900 that do not say, in bins of their own and in shared ones
        scores = {"simple": 0.97, "coding": 0.01, "reasoning": 0.01, "creative": 0.01}
        writer.log(
            decision(
                10_000 + i, decided_at=FIRST + timedelta(days=3, seconds=i), scores=scores, top_label="simple", confidence=0.97,
                runner_up="coding", margin=0.96, model_chosen="gpt-4o-mini", model_used="gpt-4o-mini", input_tokens=300,
                output_tokens=100, usage_grade="measured", outcome="ok", classifier_cost_usd=Decimal("0.001") if i % 2 else None,
            ),
            SEED,
        )  # fmt: skip
    writer.close()
    spool.close()
    ingest_now(folder)
    one = document("sweep", "--threshold", "0.55", "--data", folder)
    assert one["classifier_known"] is False
    other = document("replay", "--data", folder)
    assert one["points"][0]["cost_per_1000"] == pytest.approx(other["cost_per_1000"])
