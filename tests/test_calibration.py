"""Reliability, its noise floor, and one temperature: on scores whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from router.analysis.binomial import clopper_pearson
from router.analysis.calibration import (
    calibration,
    fit_temperature,
    is_simplex,
    isotonic,
    isotonic_out_of_fold,
    meaning,
    normalised,
    temperature,
    with_temperature,
)


def rng(seed: int = 5) -> np.random.Generator:
    return np.random.default_rng(seed)


def drawn(n: int, sharpness: float = 1.0, seed: int = 2):
    """Calibrated scores over four labels raised to a power (which miscalibrates them), and true labels."""
    source = rng(seed)
    truth = source.integers(0, 4, n)
    evidence = source.normal(size=(n, 4))
    evidence[np.arange(n), truth] += 2.0
    return with_temperature(
        np.exp(2.0 * (evidence - evidence.max(axis=1, keepdims=True))), 1 / sharpness
    ), truth


def test_hand_worked_bins_and_errors():
    p = np.array([0.6, 0.6, 0.9, 0.9])
    found = calibration(p, [1, 0, 1, 1], rng=rng(), bins=2)
    assert [(x.low, x.high, x.n, x.accuracy) for x in found.bins] == [(0.6, 0.6, 2, 0.5), (0.9, 0.9, 2, 1.0)]
    assert found.bins[0].bar == clopper_pearson(1, 2)
    assert found.ece == pytest.approx((2 * 0.1 + 2 * 0.1) / 4)
    assert found.brier == pytest.approx((0.4**2 + 0.6**2 + 2 * 0.1**2) / 4)
    assert found.nll == pytest.approx(-(np.log(0.6) + np.log(0.4) + 2 * np.log(0.9)) / 4)
    assert (found.n, found.accuracy, found.mean_confidence) == (4, 0.75, 0.75)


def test_equal_confidences_share_a_bin():
    found = calibration(np.repeat([0.5, 0.7], [90, 10]), np.ones(100), rng=rng())
    assert [x.n for x in found.bins] == [90, 10]


def test_bins_hold_equally_many():
    p = rng().uniform(0.3, 1, 1500)
    found = calibration(p, np.ones(1500), rng=rng())
    assert [x.n for x in found.bins] == [100] * 15
    assert all(a.high <= b.low for a, b in zip(found.bins, found.bins[1:], strict=False))


def test_a_perfect_classifier_stays_at_its_noise_floor_and_a_bad_one_does_not():
    flagged = 0
    for seed in range(60):
        scores, truth = drawn(400, seed=seed)
        flagged += calibration(
            scores.max(axis=1), scores.argmax(axis=1) == truth, rng=rng(seed)
        ).is_miscalibrated
    assert flagged <= 9  # 3 expected; more than 9 of 60 at 5 % has a chance of 0.0006
    flat, truth = drawn(2000, sharpness=0.5)
    found = calibration(flat.max(axis=1), flat.argmax(axis=1) == truth, rng=rng())
    assert found.is_miscalibrated
    assert found.accuracy > found.mean_confidence  # too modest


def test_the_floor_of_many_decisions_agrees_with_the_drawn_one():
    p = rng().uniform(0.3, 1, 20_000)
    y = rng(1).random(20_000) < p
    few = calibration(p, y, rng=rng(8), repeats=200)
    many = calibration(p, y, rng=rng(8), repeats=2000)  # over the limit: normal sums
    assert many.floor_mean == pytest.approx(few.floor_mean, rel=0.1)


def test_the_same_seed_gives_the_same_floor():
    scores, truth = drawn(300)
    both = [calibration(scores.max(axis=1), scores.argmax(axis=1) == truth, rng=rng(9)) for _ in range(2)]
    assert both[0] == both[1]


def test_the_temperature_that_was_applied_is_found():
    scores, truth = drawn(20_000, sharpness=0.5)
    assert fit_temperature(scores, truth) == pytest.approx(0.5, rel=0.05)
    assert fit_temperature(drawn(20_000)[0], truth) == pytest.approx(1.0, rel=0.05)


def test_knowing_only_that_the_top_label_is_wrong_is_enough():
    scores, truth = drawn(20_000, sharpness=0.5)
    partly = np.where(scores.argmax(axis=1) == truth, truth, -1)
    assert fit_temperature(scores, partly) == pytest.approx(0.5, rel=0.05)


def test_temperature_mends_calibration_out_of_fold_and_moves_no_label():
    scores, truth = drawn(4000, sharpness=0.4)
    found = temperature(scores, truth, rng=rng())
    assert found.before.is_miscalibrated and not found.after.is_miscalibrated
    assert found.after.ece < found.before.ece / 3
    assert found.after.nll < found.before.nll
    assert found.after.accuracy == found.before.accuracy
    assert (with_temperature(scores, 0.4).argmax(axis=1) == scores.argmax(axis=1)).all()


def test_what_a_raw_threshold_means():
    scores, truth = drawn(4000, sharpness=0.4)
    raw, correct = scores.max(axis=1), scores.argmax(axis=1) == truth
    mended = temperature(scores, truth, rng=rng()).confidence
    found = meaning(raw, mended, correct, 0.55)
    assert found.fallback_share == np.mean(raw < 0.55)
    assert found.calibrated_fallback_share == np.mean(mended < 0.55)
    assert (
        found.fallback_share > 2 * found.calibrated_fallback_share
    )  # a modest score sends far too much away
    assert np.mean(mended < found.same_share_threshold) == pytest.approx(found.fallback_share, abs=1e-3)
    assert found.n_near == np.sum(np.abs(raw - 0.55) <= 0.02)
    assert found.bar_near.low <= found.accuracy_near <= found.bar_near.high
    assert found.accuracy_near > 0.6  # 0.55 is not 55 %


def test_the_isotonic_curve_never_falls_and_keeps_the_mean():
    p = np.round(rng().uniform(0.3, 1, 3000), 2)
    y = rng(1).random(3000) < p**2
    at, accuracy = isotonic(p, y)
    assert (np.diff(accuracy) >= 0).all()
    counts = np.array([np.sum(p == x) for x in at])
    assert np.sum(counts * accuracy) == pytest.approx(y.sum())
    assert accuracy[np.searchsorted(at, 0.7)] == pytest.approx(0.49, abs=0.08)
    assert [x.size for x in isotonic([], [])] == [0, 0]


def test_an_isotonic_curve_out_of_fold_mends_what_it_has_not_seen():
    p = rng().uniform(0.3, 1, 3000)
    y = rng(1).random(3000) < p**3
    after = isotonic_out_of_fold(p, y, rng=rng(2))
    assert calibration(p, y, rng=rng(3)).is_miscalibrated
    mended = calibration(after, y, rng=rng(3))
    assert mended.ece < 0.04
    assert np.corrcoef(after, p**3)[0, 1] > 0.98
    assert isotonic_out_of_fold([0.5], [1], rng=rng()).tolist() == [0.5]


def test_degenerate_logs():
    nothing = calibration([], [], rng=rng())
    assert (nothing.n, nothing.ece, nothing.bins) == (0, None, ())
    one = calibration([0.7], [1], rng=rng())
    assert (one.n, one.ece) == (1, pytest.approx(0.3))
    certain = calibration(np.ones(50), np.ones(50), rng=rng())
    assert (certain.ece, certain.floor_p95, certain.is_miscalibrated) == (0.0, 0.0, False)
    assert np.isfinite(calibration(np.ones(3), [0, 1, 1], rng=rng()).nll)
    assert meaning([], [], [], 0.5).fallback_share is None
    everything = meaning([0.2], [0.3], [1], 0.9)
    assert (everything.same_share_threshold, everything.n_near, everything.bar_near) == (1.0, 0, None)


def test_what_is_no_distribution_gets_no_temperature():
    assert is_simplex([[0.5, 0.5], [0.2004, 0.8]])
    assert not is_simplex([[0.9, 0.9]])
    for scores, truth, words in (
        ([[0.9, 0.9]], [0], "do not sum to 1"),
        ([[0.4, 0.6]], [2], "expected -1 to 1"),
        (np.empty((0, 2)), [], "a row for each label"),
    ):
        with pytest.raises(ValueError, match=words):
            fit_temperature(scores, truth)
    with pytest.raises(ValueError, match="at least 5"):
        temperature([[0.4, 0.6]], [1], rng=rng())
    with pytest.raises(ValueError, match=r"not a number in \[0, 1\]"):
        calibration([1.5], [1], rng=rng())
    with pytest.raises(ValueError, match="one confidence for each"):
        calibration([0.5], [1, 0], rng=rng())


def test_a_threshold_relative_to_the_number_of_labels():
    assert normalised(0.25, 4) == 0.0
    assert normalised(1.0, 7) == 1.0
    assert normalised(0.5, 1) is None
