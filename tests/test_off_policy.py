"""Another policy's value from logged propensities: near a known truth, where naive figures are not."""

from __future__ import annotations

import numpy as np
import pytest

from router.analysis.off_policy import cross_fitted, evaluate


def world(n: int = 14_000, explored: float = 0.2, seed: int = 4):
    """Traffic whose cheap model is right with chance c and whose strong one with 0.9; logged at 0.8, asked about 0.5."""
    rng = np.random.default_rng(seed)
    c = rng.uniform(0.2, 1, n)
    cheap, strong = rng.random(n) < c, rng.random(n) < 0.9
    logged = (c >= 0.8) ^ (rng.random(n) < explored)
    propensity = np.where(logged == (c >= 0.8), 1 - explored, explored)
    reward = np.where(logged, cheap, strong).astype(float)
    wanted = c >= 0.5
    truth = np.where(wanted, cheap, strong).mean()
    group = np.minimum((c * 10).astype(int), 9)
    return reward, propensity, (logged == wanted).astype(float), truth, group, logged, wanted


def test_three_estimates_are_near_the_truth_and_the_naive_ones_are_not():
    reward, propensity, target, truth, group, logged, wanted = world()
    rng = np.random.default_rng(1)
    mu = cross_fitted(group, logged, logged, reward, rng=rng)
    mu_target = cross_fitted(group, logged, wanted, reward, rng=rng)
    found = evaluate(reward, propensity, target, predicted=mu, predicted_target=mu_target)
    assert found.refused is None
    for estimate in (found.ips, found.snips, found.dr):
        assert abs(estimate.value - truth) < 3 * estimate.half / 1.96
    assert found.dr.half < found.snips.half < found.ips.half
    agreeing = reward[target == 1]
    assert abs(agreeing.mean() - truth) > 3 * agreeing.std() / np.sqrt(len(agreeing))
    assert abs(reward.mean() - truth) > 3 * reward.std() / np.sqrt(len(reward))


def test_intervals_cover_the_truth_as_often_as_they_say():
    covered = np.zeros(2)
    for seed in range(200):
        reward, propensity, target, truth, *_ = world(3000, seed=seed)
        found = evaluate(reward, propensity, target)
        covered += [abs(x.value - truth) <= x.half for x in (found.ips, found.snips)]
    assert (covered / 200 > 0.9).all()


def test_hand_worked_weights():
    reward, propensity, target = (
        np.tile([1.0, 0.0, 1.0], 100),
        np.tile([0.5, 0.5, 0.25], 100),
        np.tile([1.0, 1.0, 0.0], 100),
    )
    found = evaluate(reward, propensity, target)
    assert found.ips.value == pytest.approx(2 / 3)  # weights 2, 2, 0
    assert found.snips.value == pytest.approx(0.5)
    assert found.ess == pytest.approx(200)
    assert found.matched == pytest.approx(2 / 3)
    assert found.dr is None


def test_the_logged_policy_is_worth_what_was_logged():
    reward, propensity, *_ = world()
    assert evaluate(reward, propensity, propensity).ips.value == pytest.approx(reward.mean())


def test_a_wrong_outcome_model_does_not_bias_the_doubly_robust_estimate():
    reward, propensity, target, truth, *_ = world()
    found = evaluate(
        reward, propensity, target, predicted=np.full(14_000, 0.2), predicted_target=np.full(14_000, 0.2)
    )
    assert abs(found.dr.value - truth) < 3 * found.dr.half / 1.96


def test_too_little_overlap_is_refused_with_the_number():
    found = evaluate(np.ones(5000), np.full(5000, 0.5), np.r_[np.ones(99), np.zeros(4901)])
    assert found.ess == pytest.approx(99)
    assert "effective sample size 99, expected at least 100" in found.refused
    assert found.ips is found.snips is found.dr is None


def test_choices_that_were_not_drawn_are_left_out_and_counted():
    reward, propensity, target, *_ = world(2000)
    propensity[:500] = np.nan
    found = evaluate(reward, propensity, target)
    assert (found.n, found.n_left_out) == (1500, 500)
    nothing = evaluate(reward, np.full(2000, np.nan), target)
    assert (nothing.n, nothing.ess, nothing.matched) == (0, 0.0, None)
    assert nothing.refused


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.2])
def test_a_choice_that_was_made_had_a_chance(bad):
    with pytest.raises(ValueError, match=r"outside \(0, 1\]"):
        evaluate([1.0], [bad], [1.0])


def test_degenerate_logs():
    assert evaluate([], [], []).refused
    assert evaluate([1.0], [1.0], [1.0]).refused
    with pytest.raises(ValueError, match="one entry for each"):
        evaluate([1.0], [1.0, 0.5], [1.0])


def test_a_group_that_never_saw_a_choice_takes_its_mean_over_all():
    found = cross_fitted(["x"] * 50 + ["y"] * 50, ["cheap"] * 50 + ["dear"] * 50, ["dear"] * 100, [0.0] * 50 + [1.0] * 50,
                         rng=np.random.default_rng(0))  # fmt: skip
    assert (found == 1.0).all()


def test_a_choice_that_the_log_never_tried_has_no_value():
    n = 2_000
    rng = np.random.default_rng(1)
    chance, reward = np.where(rng.random(n) < 0.7, 0.7, 0.3), (rng.random(n) < 0.8).astype(float)
    # half of the rows want a model without any chance: the others would stand in for it with full confidence
    wants_new = rng.random(n) < 0.5
    same = np.where(wants_new, 0.0, (chance == 0.7).astype(float))
    assert evaluate(reward, chance, same).refused is None
    found = evaluate(reward, chance, same, supported=~wants_new)
    assert (found.ips, found.snips, found.dr) == (None, None, None)
    assert found.unsupported == pytest.approx(wants_new.mean())
    assert "no chance to try" in (found.refused or "")


def test_up_to_a_thousandth_without_support_is_named_beside_the_value():
    n = 4_000
    known = np.ones(n, dtype=bool)
    known[:4] = False
    found = evaluate(np.ones(n), np.full(n, 0.5), known.astype(float), supported=known)
    assert found.refused is None
    assert found.unsupported == 0.001
