"""Ratios of lengths: sums over sums, from the same prompts or like ones, and what they do to the baseline."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from log_samples import SEED, START, decision

from router.analysis.lengths import factors, length_ratios
from router.analysis.savings import savings
from router.log.ingest import ingest_all
from router.log.queries import Filter, dearest, lengths, previous_policy, spend
from router.log.reader import Log
from router.log.record import decision_payload
from router.log.schema import connect
from router.log.spool import Spool
from router.log.writer import policy_payload
from router.policy import Policy, decide
from router.prices import PriceBook
from router.types import Decision, Usage

SMALL, BIG = "gpt-4o-mini", "claude-opus-4-6"
BOOK = PriceBook()
NO_PAIRS = pd.DataFrame({"model": pd.Series(dtype=object)})
NO_STRATA = pd.DataFrame({"model": pd.Series(dtype=object)})


def opened(data, made: list[Decision], *policies: Policy) -> Log:
    spool = Spool(data)
    for number, policy in enumerate(policies):
        spool.append(policy_payload(policy, START + timedelta(seconds=number)))
    for one in made:
        assert spool.append(decision_payload(one))
    spool.close()
    con = connect(None)
    ingest_all(con, data)
    return Log(data, con, "spool")


def answer(number: int, model: str, prompt: str, read: int, written: int, **changes) -> Decision:
    return decision(
        number,
        prompt=prompt,
        model_used=model,
        model_chosen=model,
        input_tokens=read,
        output_tokens=written,
        usage_grade="measured",
        outcome="ok",
        **changes,
    )


def test_paired_prompts_give_the_ratio_of_the_sums(tmp_path):
    rng = np.random.default_rng(5)
    own, other = rng.integers(5, 900, 40), rng.integers(5, 900, 40)
    made = []
    for i in range(40):
        made += [
            answer(3 * i, SMALL, f"prompt {i}", 20 + i, int(own[i])),
            answer(3 * i + 1, BIG, f"prompt {i}", 24 + i, int(other[i])),
            answer(3 * i + 2, SMALL, f"alone {i}", 9_000, 9_000),  # never answered by the other: no pair
        ]
    with opened(tmp_path, made) as log:
        found = length_ratios(*lengths(log, Filter(), BIG), BIG)[SMALL]
    assert (found.ground, found.n) == ("paired", 40)
    assert found.output == pytest.approx(other.sum() / own.sum())
    assert found.input == pytest.approx(sum(24 + i for i in range(40)) / sum(20 + i for i in range(40)))
    mean_of_ratios = float((other / own).mean())
    assert abs(mean_of_ratios - found.output) > 0.5  # what short answers would make of it
    draws = rng.integers(0, 40, (4_000, 40))
    resampled = other[draws].sum(axis=1) / own[draws].sum(axis=1)
    assert found.output_half == pytest.approx(1.96 * resampled.std(), rel=0.12)


def test_repeated_answers_of_one_prompt_count_as_their_mean(tmp_path):
    made = []
    for i in range(25):
        made += [answer(10 * i + k, SMALL, f"prompt {i}", 10, 100 * k) for k in (1, 2, 3)]
        made += [answer(10 * i + 4, BIG, f"prompt {i}", 10, 100 + i)]
    with opened(tmp_path, made) as log:
        found = length_ratios(*lengths(log, Filter(), BIG), BIG)[SMALL]
    assert found.n == 25
    assert found.output == pytest.approx(sum(100 + i for i in range(25)) / (25 * 200))


def test_cut_answers_assumed_tokens_and_unknown_usage_are_no_pairs(tmp_path):
    made = []
    for i in range(30):
        made.append(answer(4 * i, SMALL, f"prompt {i}", 10, 100))
        made.append(
            [
                answer(4 * i + 1, BIG, f"prompt {i}", 10, 5, finish_reason="length"),
                answer(4 * i + 1, BIG, f"prompt {i}", 10, 5),
                answer(4 * i + 1, BIG, f"prompt {i}", 0, 0),
            ][i % 3]
        )
    made = [
        replace(x, outcome="length")
        if x.finish_reason
        else replace(x, usage_grade="assumed")
        if x.model_used == BIG and x.output_tokens
        else x
        for x in made
    ]
    with opened(tmp_path, made) as log:
        assert length_ratios(*lengths(log, Filter(), BIG), BIG) == {}


def test_like_prompts_are_weighted_by_the_models_own_traffic(tmp_path):
    # Two labels: the big model writes 1.5 times as much on simple ones, twice as much on coding. The small one answers
    # mostly simple ones, so its ratio must lie near 1.5, wherever the big one's own traffic lies.
    rng = np.random.default_rng(2)
    made, number = [], 0
    for label, factor, small, big in (("simple", 1.5, 400, 130), ("coding", 2.0, 40, 400)):
        for model, count in ((SMALL, small), (BIG, big)):
            for _ in range(count):
                number += 1
                size = int(rng.integers(20, 400))
                written = size * (factor if model == BIG else 1.0) * rng.uniform(0.8, 1.2)
                made.append(
                    answer(number, model, f"{number} ".ljust(size, "x"), size, int(written), top_label=label)
                )
    with opened(tmp_path, made) as log:
        found = length_ratios(*lengths(log, Filter(), BIG), BIG)[SMALL]
    assert found.ground == "matched"
    own = {
        label: sum(x.output_tokens for x in made if x.model_used == SMALL and x.top_label == label)
        for label in ("simple", "coding")
    }
    truth = (1.5 * own["simple"] + 2.0 * own["coding"]) / sum(own.values())
    assert found.output == pytest.approx(truth, rel=0.05)
    assert abs(found.output - truth) < 1.5 * found.output_half
    assert found.output_half < 0.1


def test_too_little_traffic_gives_no_ratio_rather_than_a_guess(tmp_path):
    made = [
        answer(2 * i + k, m, f"prompt {i}", 10, 100) for i in range(15) for k, m in enumerate((SMALL, BIG))
    ]
    with opened(tmp_path, made) as log:
        assert length_ratios(*lengths(log, Filter(), BIG), BIG) == {}
        assert length_ratios(*lengths(log, Filter(), "nobody"), "nobody") == {}
    assert length_ratios(NO_PAIRS, NO_STRATA, BIG) == {}


def test_spend_with_lengths_prices_the_baselines_own_tokens(tmp_path):
    made = [
        answer(2 * i + k, m, f"prompt {i}", 100 + i, (200 + i) * (k + 1))
        for i in range(30)
        for k, m in enumerate((SMALL, BIG))
    ]
    with opened(tmp_path, made) as log:
        ratios = length_ratios(*lengths(log, Filter(), BIG), BIG)
        table = spend(log, Filter(), SEED, BOOK, baseline=BIG, lengths=factors(ratios))
        plain = spend(log, Filter(), SEED, BOOK, baseline=BIG)
    day = START.date()
    truth = sum(
        float(BOOK.price(Usage(x.input_tokens, x.output_tokens), BIG, day))
        for x in made
        if x.model_used == BIG
    )
    # twice the tokens for the small model's answers, exactly the measured ones for the big one's: the truth twice
    assert table["baseline_cost"].sum() == pytest.approx(2 * truth, rel=1e-9)
    assert table["same_tokens_cost"].sum() == pytest.approx(plain["baseline_cost"].sum(), rel=1e-12)
    assert ratios[SMALL].output == pytest.approx(2.0)
    found = savings(table, BIG, lengths=ratios)
    assert found.baseline_grade == "estimated"
    assert {x.kind: x.amount_usd for x in found.effects}["length"] == pytest.approx(
        plain["baseline_cost"].sum() - table["baseline_cost"].sum()
    )


def test_the_dearest_candidate_is_found_on_the_traffic_itself(tmp_path):
    # $10 in and $1 out against $1 in and $10 out: which is dearer depends on the tokens
    rules = Policy.from_toml(
        SEED.to_toml()
        .replace('[models."gpt-4o-mini"]', '[models."gpt-4o-mini"]\nprice = { input = 100, output = 1 }')
        .replace('[models."gpt-4o"]', '[models."gpt-4o"]\nprice = { input = 1, output = 100 }')
    )
    book = PriceBook(rules.models)
    for read, written, dear in ((5_000, 10, "gpt-4o-mini"), (10, 5_000, "gpt-4o")):
        with opened(tmp_path / dear, [answer(i, BIG, f"p {i}", read, written) for i in range(5)]) as log:
            assert dearest(log, Filter(), rules, book) == dear


def routed(number: int, scores: dict[str, float], policy: Policy, **changes) -> Decision:
    choice = decide(scores, policy)
    values = {
        "top_label": choice.top_label,
        "confidence": choice.confidence,
        "scores": scores,
        "runner_up": choice.runner_up,
        "margin": choice.margin,
        "cause": choice.cause,
        "threshold": policy.threshold_for(choice.top_label),
        "is_fallback": choice.is_fallback,
        "policy_fingerprint": policy.fingerprint,
    }
    return answer(number, choice.model_chosen, f"p {number}", 100 + number, 50 + number, **values | changes)


@pytest.mark.parametrize("margin", [None, 0.3])
def test_the_policy_before_is_replayed_row_by_row(margin, tmp_path):
    earlier = replace(SEED.with_threshold(0.8).with_threshold(0.3, "coding"), min_margin=margin)
    rng = np.random.default_rng(9)
    names = SEED.label_names
    made = []
    for i in range(200):
        scores = dict(zip(names, (float(x) for x in rng.random(4)), strict=True))
        one = routed(i, scores, SEED if i > 20 else earlier)
        if i % 17 == 0:
            one = replace(one, model_chosen=BIG, model_used=BIG, cause="forced")
        if i % 23 == 0:
            one = replace(
                one,
                top_label=None,
                confidence=None,
                scores={},
                runner_up=None,
                margin=None,
                cause="classifier_error",
                model_chosen="gpt-4o",
                model_used="gpt-4o",
                is_fallback=False,
            )
        made.append(one)
    with opened(tmp_path, made, earlier, SEED) as log:
        before = previous_policy(log, SEED)
        assert before == earlier
        assert previous_policy(log, earlier) == SEED
        table = spend(log, Filter(), SEED, BOOK, baseline=before)
    expected = Decimal(0)
    for one in made:
        if one.cause == "forced":
            model = one.model_chosen
        elif not one.scores:
            model = earlier.fallback_model
        else:
            model = decide(one.scores, earlier).model_chosen
        expected += BOOK.price(Usage(one.input_tokens, one.output_tokens), model, one.decided_at.date())
    assert table["baseline_cost"].sum() == pytest.approx(float(expected), rel=1e-9)
    assert table["n_priced"].sum() == 200


def test_a_log_of_one_policy_has_none_before_it(tmp_path):
    with opened(tmp_path, [routed(0, {x: 0.5 for x in SEED.label_names}, SEED)], SEED) as log:
        assert previous_policy(log, SEED) is None
