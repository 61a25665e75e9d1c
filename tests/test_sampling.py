"""Queues for review: uniform, stratified and picked, with probabilities that give unbiased estimates."""

from __future__ import annotations

import numpy as np
import pytest

from router.analysis.progress import Told, half_width, progress
from router.analysis.sampling import (
    Candidates,
    allocate,
    draw_audit,
    draw_estimate,
    estimate,
    pick_learn,
)


def rng(seed: int = 3) -> np.random.Generator:
    return np.random.default_rng(seed)


def candidates(n: int, seed: int = 1, **more) -> Candidates:
    source = rng(seed)
    values = {
        "id": [f"id{i}" for i in range(n)],
        "label": np.array(["a", "b", "c", "d"], dtype=object)[source.integers(0, 4, n)],
        "confidence": np.round(0.25 + 0.75 * source.beta(3, 1, n), 3),
        "threshold": np.full(n, 0.55),
        "margin": source.random(n),
        "cost": source.exponential(0.01, n),
    }
    return Candidates(**(values | more))


def test_audit_draws_each_decision_with_the_same_chance():
    ids = [str(i) for i in range(20)]
    counts = dict.fromkeys(ids, 0)
    for seed in range(2000):
        items = draw_audit(ids, 5, rng=rng(seed))
        assert len({item.decision_id for item in items}) == 5
        for item in items:
            counts[item.decision_id] += 1
    assert {item.inclusion_probability for item in items} == {0.25}
    assert items[0].reason == "drawn uniformly, 5 of 20"
    # 2,000 draws at 0.25: sd 19.4
    assert max(abs(c - 500) for c in counts.values()) < 5 * 19.4


def test_the_same_seed_draws_the_same_queue():
    pool = candidates(500)
    assert draw_audit(pool.id, 30, rng=rng(7)) == draw_audit(pool.id, 30, rng=rng(7))
    assert draw_estimate(pool, 90, rng=rng(7)) == draw_estimate(pool, 90, rng=rng(7))


def test_allocation_follows_size_times_spread():
    assert allocate([100, 100, 3], [0.5, 0.1, 0.5], 20).tolist() == [15, 3, 2]
    assert allocate([5, 5], [0.5, 0.5], 10).tolist() == [5, 5]
    assert allocate([1000, 4], [0.5, 0.5], 4).tolist() == [2, 2]
    assert allocate([30, 10], [0, 0], 20).tolist() == [15, 5]
    for n in (40, 97, 333):
        sizes = rng(n).integers(1, 400, 17)
        found = allocate(sizes, rng(n).uniform(0.05, 0.5, 17), min(n, int(sizes.sum())))
        assert found.sum() == min(n, sizes.sum())
        assert (found >= np.minimum(sizes, 2)).all() and (found <= sizes).all()


def test_strata_keep_two_each_and_their_probability():
    pool = candidates(3000)
    items = draw_estimate(pool, 200, rng=rng())
    assert len(items) == len({item.decision_id for item in items}) == 200
    by_stratum: dict[str, list] = {}
    for item in items:
        by_stratum.setdefault(item.stratum, []).append(item)
    assert len(by_stratum) == 40
    assert min(len(x) for x in by_stratum.values()) >= 2
    # weights give back the number of decisions
    assert sum(1 / item.inclusion_probability for item in items) == pytest.approx(3000)


def test_few_labels_take_coarser_strata_and_too_few_are_refused():
    pool = candidates(3000)
    assert len({item.stratum for item in draw_estimate(pool, 45, rng=rng())}) == 20
    assert len({item.stratum for item in draw_estimate(pool, 9, rng=rng())}) == 4
    with pytest.raises(ValueError, match="at least 8"):
        draw_estimate(pool, 7, rng=rng())


def test_stratified_estimates_are_unbiased_and_nearer_than_uniform_ones():
    pool = candidates(4000)
    loss = rng(9).random(4000) < (1 - pool.confidence)
    truth, place = loss.mean(), {name: i for i, name in enumerate(pool.id)}
    stratified, uniform, covered = [], [], 0
    for seed in range(150):
        items = draw_estimate(pool, 200, rng=rng(seed))
        rows = [place[item.decision_id] for item in items]
        found = estimate(
            loss[rows], [x.inclusion_probability for x in items], [x.stratum for x in items], total=4000
        )
        assert found.stands_for == pytest.approx(4000)  # the weights sum to the total
        assert found.horvitz_thompson == pytest.approx(4000 * found.hajek)
        assert found.horvitz_thompson_half == pytest.approx(4000 * found.half)
        stratified.append(found.hajek)
        covered += abs(found.hajek - truth) <= found.half
        drawn = draw_audit(pool.id, 200, rng=rng(seed))
        uniform.append(loss[[place[x.decision_id] for x in drawn]].mean())
    assert abs(np.mean(stratified) - truth) < 3 * np.std(stratified) / np.sqrt(150)
    assert np.std(stratified) < 0.95 * np.std(uniform)
    assert covered / 150 > 0.9


def test_a_number_of_losses_is_that_of_what_the_judged_ones_stand_for():
    # two strata of 40 and 60 decisions: 2 of 4 lost, 1 of 3 lost
    found = estimate([1, 1, 0, 0, 1, 0, 0], [0.1] * 4 + [0.05] * 3, ["a"] * 4 + ["b"] * 3, total=100)
    assert (found.stands_for, found.horvitz_thompson) == (100, 40)
    variance = 40**2 * (1 - 4 / 40) * (1 / 3) / 4 + 60**2 * (1 - 3 / 60) * (1 / 3) / 3
    assert found.horvitz_thompson_half == pytest.approx(1.959963984540054 * variance**0.5)
    twice = estimate([1, 0] * 2, [0.02] * 4, ["a"] * 4, total=100)  # stand for 200 of 100
    assert (twice.hajek, twice.horvitz_thompson, twice.horvitz_thompson_half) == (0.5, None, None)
    assert estimate([], [], [], total=0).horvitz_thompson is None


def test_what_is_picked_by_doubt_is_biased_and_gives_no_estimate():
    pool = candidates(4000)
    loss = rng(9).random(4000) < (1 - pool.confidence)
    items = pick_learn(pool, 150)
    assert {item.inclusion_probability for item in items} == {None}
    place = {name: i for i, name in enumerate(pool.id)}
    nearest = [place[x.decision_id] for x in items if x.reason.startswith("near")]
    assert loss[nearest].mean() > loss.mean() + 0.1
    with pytest.raises(ValueError, match="only drawn queues"):
        estimate([True], [np.nan], ["x"])


def test_learning_takes_a_third_of_each_reason():
    pool = candidates(6, confidence=np.array([0.549, 0.9, 0.8, 0.7, 0.95, 0.99]), margin=np.array([0.5, 0.01, 0.4, 0.6, 0.3, 0.2]),
                      cost=np.array([0.1, 0.1, 9.0, 0.1, 0.1, 0.2]))  # fmt: skip
    items = pick_learn(pool, 3)
    assert [(x.decision_id, x.reason) for x in items] == [
        ("id0", "near the line: confidence 0.549 against 0.55"),
        ("id1", "two labels nearly tie: margin 0.01"),
        ("id2", "among the dearest: $9"),
    ]
    assert len(pick_learn(pool, 50)) == 6
    unknown = candidates(3, margin=np.full(3, np.nan), cost=np.full(3, np.nan))
    assert len(pick_learn(unknown, 3)) == 3


def test_a_stratum_with_one_judgement_borrows_the_variance_of_all():
    found = estimate([1, 0, 0, 1, 0], [0.1, 0.1, 0.1, 0.1, 0.1], ["x", "x", "x", "x", "alone"])
    s2 = np.var([1, 0, 0, 1, 0], ddof=1)
    expected = (40**2 * 0.9 * (1 / 3) / 4 + 10**2 * 0.9 * s2) / 50**2
    assert found.half == pytest.approx(1.959963984540054 * np.sqrt(expected))


def test_degenerate_pools():
    empty = candidates(0)
    assert draw_audit([], 5, rng=rng()) == draw_estimate(empty, 5, rng=rng()) == pick_learn(empty, 5) == ()
    assert len(draw_audit(["x"], 5, rng=rng())) == len(draw_estimate(candidates(1), 5, rng=rng())) == 1
    equal = candidates(50, confidence=np.full(50, 0.5), label=np.full(50, "a", dtype=object))
    assert len({x.stratum for x in draw_estimate(equal, 10, rng=rng())}) == 1
    everything = draw_estimate(candidates(40), 400, rng=rng())
    assert {x.inclusion_probability for x in everything} == {1.0}
    assert estimate([], [], []).hajek is None
    assert estimate([1], [0.5], ["x"]).half is None
    assert estimate([1, 0, 1], [1, 1, 1], ["x"] * 3).half == 0.0  # everything was judged


def test_progress_of_an_audit_is_exact_and_leaves_unsure_out() -> None:
    told = [Told(v, 0.5, None) for v in ("right", "right", "wrong", "unsure", None)]
    found = progress("audit", told)
    assert (found.n, found.n_judged, found.n_unsure, found.n_open) == (5, 4, 1, 1)
    assert found.right == pytest.approx(2 / 3)
    # Clopper and Pearson's for 2 of 3: beta quantiles, as in their table
    assert (found.low, found.high) == (pytest.approx(0.0943, abs=1e-4), pytest.approx(0.9916, abs=1e-4))
    assert found.half_when_done == half_width(5), "before 20 judgements a plan takes 80 %"


def test_progress_of_an_estimate_weighs_by_the_chance_of_being_drawn() -> None:
    told = [Told("right", 0.5, "a"), Told("wrong", 0.1, "b")]
    found = progress("estimate", told)
    assert found.right == pytest.approx(2 / 12)  # weights 2 and 10
    assert found.low is None, "two judgements give no interval"
    alike = progress("estimate", [Told("wrong", 0.5, "a")] * 30)
    assert (alike.right, alike.low, alike.half_when_done) == (0.0, None, half_width(30))
    mixed = progress("estimate", [Told("wrong", 0.5, "a")] * 15 + [Told("right", 0.5, "a")] * 15)
    assert mixed.low is not None and mixed.high is not None and mixed.low < 0.5 < mixed.high


def test_what_was_picked_by_doubt_gives_no_share_and_nothing_drawn_gives_no_plan() -> None:
    found = progress("learn", [Told("wrong", None, None)] * 30)
    assert (found.right, found.low, found.half_when_done) == (None, None, None)
    assert progress("audit", []).half_when_done is None


def test_a_plan_from_enough_judgements_takes_their_share_and_never_promises_certainty() -> None:
    half = progress("audit", [Told("right", 0.5, None)] * 30 + [Told(None, 0.5, None)] * 70).half_when_done
    assert half == half_width(100, 1 - 1 / 32)
    seen = progress("audit", [Told("right", 0.5, None)] * 10 + [Told("wrong", 0.5, None)] * 10)
    assert seen.half_when_done == half_width(20, 0.5)
