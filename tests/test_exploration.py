"""An exploring policy: the other side of the rule by chance, with its propensity, and everything else as the rule says."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from log_samples import SEED, Fixed, decision
from typer.testing import CliRunner

from router import ClassifierError, Policy, Router, decide
from router.analysis.off_policy import evaluate
from router.analysis.savings import savings
from router.cli.app import app
from router.errors import PolicyError
from router.exploration import explore
from router.log import open_log
from router.log.export import export
from router.log.filters import Filter
from router.log.importers import import_file
from router.log.queries import baseline_of, spend, summary
from router.log.writer import Writer
from router.prices import PriceBook

E = 0.1
EXPLORING = replace(SEED, exploration=E)
N = 2000


def scores(top: str, value: float) -> dict[str, float]:
    return dict.fromkeys(SEED.label_names, (1 - value) / 3) | {top: value}


@pytest.mark.parametrize(
    ("value", "draw", "model", "cause", "is_fallback", "propensity"),
    [
        pytest.param(0.9, 0.5, "gpt-4o-mini", "routed", False, 0.9, id="follows"),
        pytest.param(0.9, 0.0999, "gpt-4o", "explored", False, 0.1, id="follows, explored"),
        pytest.param(0.4, 0.1, "gpt-4o", "low_confidence", True, 0.9, id="falls back, at the edge"),
        pytest.param(0.4, 0.0, "gpt-4o-mini", "explored", False, 0.1, id="falls back, explored"),
    ],
)
def test_the_other_side_of_the_rule_is_taken_by_chance(value, draw, model, cause, is_fallback, propensity):
    found, chance = explore(decide(scores("simple", value), EXPLORING), EXPLORING, draw)
    assert (found.model_chosen, found.cause, found.is_fallback, chance) == (
        model,
        cause,
        is_fallback,
        propensity,
    )


@pytest.mark.parametrize("value", [0.4, 0.9])
def test_where_both_sides_are_one_model_there_is_nothing_to_explore(value):
    policy = replace(EXPLORING, fallback_model=SEED.by_name["simple"].model)
    rule = decide(scores("simple", value), policy)
    assert explore(rule, policy, 0.0) == (rule, 1.0)


# The policy


def test_exploration_is_in_the_file_and_in_the_fingerprint():
    again = Policy.from_toml(EXPLORING.to_toml())
    assert again == replace(EXPLORING, source=again.source)
    assert again.exploration == E
    assert again.fingerprint == EXPLORING.fingerprint
    assert len({SEED.fingerprint, EXPLORING.fingerprint, replace(SEED, exploration=0.2).fingerprint}) == 3
    assert EXPLORING.labels_fingerprint == SEED.labels_fingerprint


def test_policies_without_it_keep_the_fingerprint_and_text_of_their_logs():
    assert SEED.fingerprint == "073e867af2c556bc"
    assert "exploration" not in SEED.to_toml()


@pytest.mark.parametrize("value", [0.6, -0.1, float("nan"), True, "often"])
def test_a_chance_beyond_a_half_is_a_fault_of_the_policy(value):
    with pytest.raises(PolicyError, match="exploration: found"):
        replace(SEED, exploration=value)
    if value == value:
        text = SEED.to_toml().replace("\nthreshold", f"\nexploration = {json.dumps(value)}\nthreshold", 1)
        with pytest.raises(PolicyError, match="exploration: found"):
            Policy.from_toml(text)


def test_policy_show_says_it(tmp_path):
    (tmp_path / "policy.toml").write_text(EXPLORING.to_toml())
    shown = CliRunner().invoke(app, ["policy", "show", "--data", str(tmp_path)])
    assert "exploration 0.1" in shown.stdout
    document = CliRunner().invoke(app, ["policy", "show", "--json", "--data", str(tmp_path)])
    assert json.loads(document.stdout)["exploration"] == E
    assert "exploration" not in CliRunner().invoke(app, ["policy", "show", "--preset", "seed"]).stdout


# The log


def logged(data: Path, policy: Policy, n: int, seed: int, **options: Any) -> list:
    source, classifier = np.random.default_rng(7), Fixed()
    made = []
    rng = random.Random(seed).random
    with Router(policy, classifier=classifier, data=data, rng=rng, **options) as router:
        for _ in range(n):
            classifier.scores = dict(zip(SEED.label_names, source.dirichlet([0.6] * 4).tolist(), strict=True))
            made.append(router.route("x"))
    return made


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    data = tmp_path_factory.mktemp("exploration")
    return data, logged(data, EXPLORING, N, seed=1)


def test_every_choice_is_the_rules_or_its_other_side_and_the_row_says_which(run):
    data, made = run
    with open_log(data) as log:
        rows = log.rows(
            "SELECT scores, model_chosen, model_used, cause, is_fallback, propensity, "
            "json_extract_string(extra, '$.explored_from') FROM decisions"
        )
    assert len(rows) == N
    n_explored = n_drawn = 0
    for found, model, used, cause, is_fallback, propensity, was in rows:
        rule = decide(found, EXPLORING)
        own = SEED.by_name[rule.top_label].model
        assert used == model
        n_drawn += own != SEED.fallback_model
        if cause != "explored":
            assert (model, cause, is_fallback, was) == (rule.model_chosen, rule.cause, rule.is_fallback, None)
            assert propensity == (1.0 if own == SEED.fallback_model else 0.9)
        else:
            n_explored += 1
            assert {model, rule.model_chosen} == {own, SEED.fallback_model}
            assert model != rule.model_chosen
            assert (is_fallback, was, propensity) == (False, rule.cause, E)
    assert abs(n_explored - n_drawn * E) < 3 * (n_drawn * E * (1 - E)) ** 0.5
    assert n_explored == sum(x.cause == "explored" for x in made)


def test_the_same_numbers_explore_the_same_requests(tmp_path):
    first, again, other = (logged(tmp_path, EXPLORING, 60, seed, log=False) for seed in (1, 1, 2))
    causes = [[x.cause for x in one] for one in (first, again, other)]
    assert causes[0] == causes[1] != causes[2]
    assert "explored" in causes[0]


def test_without_exploration_nothing_is_drawn_and_no_propensity_is_logged(tmp_path):
    def drawn() -> float:
        raise AssertionError("a number was drawn")

    with Router(SEED, classifier=Fixed(), data=tmp_path, rng=drawn) as router:
        made = router.route("x")
    assert (made.cause, made.propensity) == ("routed", None)
    assert Router(EXPLORING, classifier=Fixed(), log=False, data=tmp_path).route("x").propensity in (E, 0.9)


def test_a_forced_model_was_not_drawn_and_a_failed_classifier_leaves_no_choice(tmp_path):
    class Failing(Fixed):
        def classify(self, text, labels):
            raise ClassifierError("down")

    options: dict[str, Any] = {"data": tmp_path, "log": False, "rng": lambda: 0.0}
    forced = Router(EXPLORING, classifier=Fixed(), **options).route("x", model="gpt-4o")
    assert (forced.cause, forced.propensity) == ("forced", None)
    failed = Router(EXPLORING, classifier=Failing(), **options).route("x")
    assert (failed.cause, failed.propensity, failed.model_chosen) == ("classifier_error", 1.0, "gpt-4o")


def test_another_policy_is_valued_from_the_log_alone(run):
    _, made = run
    lower = SEED.with_threshold(0.4)
    values = np.random.default_rng(3)
    good = {model: values.random(N) < 0.3 + 0.1 * k for k, model in enumerate(sorted(SEED.model_names))}
    target = [decide(x.scores, lower).model_chosen for x in made]
    truth = np.mean([good[model][i] for i, model in enumerate(target)])
    found = evaluate(
        [float(good[x.model_chosen][i]) for i, x in enumerate(made)],
        [x.propensity for x in made],
        [float(model == x.model_chosen) for model, x in zip(target, made, strict=True)],
    )
    assert found.refused is None
    assert found.n_left_out == 0
    assert abs(found.ips.value - truth) <= found.ips.half < 0.15
    assert abs(found.snips.value - truth) <= found.snips.half < 0.15


def test_explored_decisions_are_counted_apart(tmp_path):
    writer, usage = (
        Writer(tmp_path, turns=False),
        {"input_tokens": 100, "output_tokens": 50, "usage_grade": "measured"},
    )
    kinds = [("routed", "gpt-4o-mini", 6), ("low_confidence", "gpt-4o", 3), ("explored", "gpt-4o", 2)]
    number = 0
    for cause, model, n in kinds:
        for _ in range(n):
            number += 1
            changes = {"cause": cause, "is_fallback": cause == "low_confidence", "model_chosen": model}
            writer.log(decision(number, model_used=model, cost_usd=Decimal("0.001"), **changes, **usage))
    writer.close()
    book, against = PriceBook(), baseline_of(SEED)
    with open_log(tmp_path) as log:
        counted = log.rows("SELECT cause, CAST(sum(n) AS BIGINT) FROM hourly GROUP BY 1 ORDER BY 1")
        figures = savings(spend(log, Filter(), SEED, book, baseline=against), against)
        shares = summary(log, Filter(), book)
    assert counted == [("explored", 2), ("low_confidence", 3), ("routed", 6)]
    assert shares["n_fallback"] == 3
    steps = {step.kind: step for step in figures.waterfall}
    rate = {x: book.rate(x, decision(1).decided_at.date()) for x in ("gpt-4o", against)}
    cost = {x: (100 * r.input + 50 * r.output) / 1_000_000 for x, r in rate.items()}
    assert steps["explored"].amount_usd == pytest.approx(2 * float(cost["gpt-4o"] - cost[against]), rel=1e-9)
    assert figures.waterfall[-1].amount_usd == pytest.approx(
        sum(x.amount_usd for x in figures.waterfall[:-1]), rel=1e-9
    )
    assert "forced" not in steps


def test_explored_decisions_survive_export_and_import(run, tmp_path):
    data, _ = run
    query = "SELECT id, cause, propensity, CAST(extra AS VARCHAR) FROM decisions WHERE cause = 'explored' ORDER BY id"
    with open_log(data) as log:
        before = log.rows(query)
        export(log, Filter(causes=("explored",)), str(tmp_path / "out.csv"), "csv")
    done = import_file(tmp_path / "other", tmp_path / "out.csv")
    assert (done.added, done.n_bad) == (len(before), 0)
    with open_log(tmp_path / "other") as log:
        assert log.rows(query) == before
