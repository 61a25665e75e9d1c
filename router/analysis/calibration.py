"""Whether a confidence means what it says: reliability with exact bars, errors with their noise floor, one temperature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router.analysis.binomial import Interval, clopper_pearson
from router.analysis.cells import Floats

BINS = 15
REPEATS = 200
SIMPLEX = 1e-3
"""Scores whose sum is within this of 1 count as a distribution over labels."""

NEAR = 0.02
"""What counts as beside the line, on either side of it."""

_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Decisions of one range of confidence, both ends inside; ``bar`` is the 95 % Clopper-Pearson interval of the accuracy."""

    low: float
    high: float
    n: int
    mean_confidence: float
    accuracy: float
    bar: Interval


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far confidences are from accuracy; every figure None without a judged decision.

    Attributes
    ----------
    ece : expected calibration error over equal-mass bins, sum n_b / n |accuracy_b - confidence_b|.
    floor_mean, floor_p95 : what a perfectly calibrated classifier would show with these confidences, mean and 95 % quantile.
    is_miscalibrated : ``ece`` is above ``floor_p95``; False does not prove calibration, it may be too few judged.
    brier, nll : mean (p - y)^2 and mean -log P(y), of the confidence as the chance that the top label is right.
    """

    n: int
    accuracy: float | None
    mean_confidence: float | None
    ece: float | None
    floor_mean: float | None
    floor_p95: float | None
    is_miscalibrated: bool
    brier: float | None
    nll: float | None
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Temperature:
    """One temperature, fitted on all judged decisions, and the confidences that it gives out of fold.

    ``before`` and ``after`` describe the same decisions; ``after`` uses confidences from folds that did not see them.
    """

    temperature: float
    n: int
    before: Calibration
    after: Calibration
    confidence: Floats


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a raw threshold means.

    Attributes
    ----------
    fallback_share : at this threshold on raw confidences. ``calibrated_fallback_share``: were they calibrated.
    same_share_threshold : threshold on calibrated confidences with the nearest fallback share.
    n_near, accuracy_near, bar_near : judged decisions within 0.02 of the line, and how often their label is right.
    """

    threshold: float
    n: int
    fallback_share: float | None
    calibrated_fallback_share: float | None
    same_share_threshold: float | None
    n_near: int
    accuracy_near: float | None
    bar_near: Interval | None


def calibration(
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    rng: np.random.Generator,
    bins: int = BINS,
    repeats: int = REPEATS,
) -> Calibration:
    """Describe how confidences, shape (n,), agree with whether the top label was right, shape (n,).

    Notes
    -----
    Bins hold equally many decisions; equal confidences stay together. The floor redraws every outcome from its confidence
    ``repeats`` times: an ECE under it is what a perfect classifier shows on as few decisions. Equal-width bins are not used:
    their small bins are noise.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks (arXiv 1706.04599), section 2 (ECE) and 4.2
    (temperature); Nixon et al., Measuring calibration in deep learning (arXiv 1904.01685), section 3 (equal mass).
    """
    p, y = _pair(confidence, correct)
    n = len(p)
    if n == 0:
        return Calibration(0, None, None, None, None, None, False, None, None, ())
    group = _groups(p, bins)
    count = np.bincount(group).astype(np.float64)
    expected: Floats = np.bincount(group, weights=p).astype(np.float64)
    ece = float(np.abs(np.bincount(group, weights=y) - expected).sum() / n)
    floor = _floor(p, group, expected, rng, repeats)
    inside = np.clip(p, _TINY, 1 - _TINY)
    rows = tuple(_bin(p[group == g], y[group == g]) for g in range(len(count)))
    p95 = float(np.quantile(floor, 0.95))
    return Calibration(
        n=n,
        accuracy=float(y.mean()),
        mean_confidence=float(p.mean()),
        ece=ece,
        floor_mean=float(floor.mean()),
        floor_p95=p95,
        is_miscalibrated=ece > p95,
        brier=float(np.mean((p - y) ** 2)),
        nll=float(-np.mean(np.where(y == 1, np.log(inside), np.log1p(-inside)))),
        bins=rows,
    )


def is_simplex(scores: ArrayLike) -> bool:
    """Whether every row of scores sums to 1 within 1e-3: temperatures and entropies mean nothing otherwise."""
    matrix = np.asarray(scores, dtype=np.float64)
    return bool(np.all(np.abs(matrix.sum(axis=1) - 1.0) <= SIMPLEX))


def with_temperature(scores: ArrayLike, temperature: float) -> Floats:
    """Scores, shape (n, labels), at another temperature: softmax(log s / T). Below 1 sharpens; the top label never changes."""
    logits = np.log(np.maximum(np.asarray(scores, dtype=np.float64), _TINY)) / temperature
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def fit_temperature(scores: ArrayLike, truth: ArrayLike) -> float:
    """The temperature that makes judged labels most likely.

    Parameters
    ----------
    scores : shape (n, labels), rows that sum to 1.
    truth : shape (n,), the right label's column; -1: the top label was judged wrong and nobody said which is right.

    Raises
    ------
    ValueError
        There is no row, the scores are no distribution, or truth names no column.

    Notes
    -----
    Minimises the mean of -log p(truth), and of -log(1 - p(top)) where only the top label's being wrong is known, over T in
    [0.05, 20] (Guo et al. 2017, section 4.2).
    """
    from scipy.optimize import minimize_scalar

    matrix, right = _checked(scores, truth)
    rows, top = np.arange(len(matrix)), matrix.argmax(axis=1)
    known = right >= 0

    def loss(log_t: float) -> float:
        p = with_temperature(matrix, float(np.exp(log_t)))
        likelihood = np.where(known, p[rows, np.where(known, right, 0)], 1.0 - p[rows, top])
        return float(-np.mean(np.log(np.maximum(likelihood, _TINY))))

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(found.x))


def temperature(
    scores: ArrayLike, truth: ArrayLike, *, rng: np.random.Generator, folds: int = 5, bins: int = BINS
) -> Temperature:
    """Fit one temperature and show what it does on decisions that it was not fitted on. Arguments as ``fit_temperature``.

    Raises
    ------
    ValueError
        As :func:`fit_temperature`, or there are fewer rows than folds.
    """
    matrix, right = _checked(scores, truth)
    n = len(matrix)
    if n < folds:
        raise ValueError(f"found {n} judged decisions, expected at least {folds}, one for each fold")
    fold = rng.permutation(n) % folds
    top = matrix.argmax(axis=1)
    correct = right == top
    after = np.empty(n)
    for k in range(folds):
        held = fold == k
        after[held] = with_temperature(matrix[held], fit_temperature(matrix[~held], right[~held])).max(axis=1)
    return Temperature(
        temperature=fit_temperature(matrix, right),
        n=n,
        before=calibration(matrix.max(axis=1), correct, rng=rng, bins=bins),
        after=calibration(after, correct, rng=rng, bins=bins),
        confidence=after,
    )


def isotonic(confidence: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats]:
    """The non-decreasing curve from confidence to accuracy that fits best: distinct confidences and their accuracy.

    To draw and to order, never to promise: its values carry no finite-sample guarantee.

    References
    ----------
    Zadrozny and Elkan, Transforming classifier scores into accurate multiclass probability estimates (KDD 2002), section 3.
    """
    from scipy.optimize import isotonic_regression

    p, y = _pair(confidence, correct)
    if len(p) == 0:
        return np.empty(0), np.empty(0)
    at, place, count = np.unique(p, return_inverse=True, return_counts=True)
    mean = np.bincount(place, weights=y) / count
    return at, np.asarray(isotonic_regression(mean, weights=count.astype(np.float64)).x)


def isotonic_out_of_fold(
    confidence: ArrayLike, correct: ArrayLike, *, rng: np.random.Generator, folds: int = 5
) -> Floats:
    """Each decision's accuracy by the isotonic curve of the folds that do not hold it, shape (n,); fewer rows than folds: raw."""
    p, y = _pair(confidence, correct)
    if len(p) < folds:
        return p.copy()
    fold = rng.permutation(len(p)) % folds
    found = np.empty(len(p))
    for k in range(folds):
        at, accuracy = isotonic(p[fold != k], y[fold != k])
        found[fold == k] = np.interp(p[fold == k], at, accuracy)
    return found


def meaning(raw: ArrayLike, calibrated: ArrayLike, correct: ArrayLike, threshold: float) -> Meaning:
    """Say what ``threshold`` on raw confidences means; the three arrays, shape (n,), describe the same decisions."""
    p, y = _pair(raw, correct)
    q = np.asarray(calibrated, dtype=np.float64)
    n = len(p)
    if n == 0:
        return Meaning(threshold, 0, None, None, None, 0, None, None)
    falls = int(np.sum(p < threshold))
    near = np.abs(p - threshold) <= NEAR
    n_near, right = int(near.sum()), int(y[near].sum())
    ordered = np.sort(q)
    return Meaning(
        threshold=threshold,
        n=n,
        fallback_share=falls / n,
        calibrated_fallback_share=float(np.mean(q < threshold)),
        same_share_threshold=1.0 if falls == n else float(ordered[falls]),
        n_near=n_near,
        accuracy_near=right / n_near if n_near else None,
        bar_near=clopper_pearson(right, n_near) if n_near else None,
    )


def normalised(threshold: float, labels: int) -> float | None:
    """A threshold on scores that sum to 1, from 0 at 1 / K to 1 at 1, so that label sets compare; None with one label.

    With K labels no top score is below 1/K, so 0.55 asks more of two labels than of ten.

    >>> normalised(0.55, 2), normalised(0.55, 10)
    (0.10000000000000009, 0.5000000000000001)
    """
    return None if labels < 2 else (threshold - 1 / labels) / (1 - 1 / labels)


def _pair(confidence: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats]:
    p, y = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if p.shape != y.shape or p.ndim != 1:
        raise ValueError(f"found shapes {p.shape} and {y.shape}, expected one confidence for each judgement")
    if len(p) and not bool(np.all((p >= 0) & (p <= 1))):
        raise ValueError("a confidence is not a number in [0, 1]")
    return p, y


def _groups(p: Floats, bins: int) -> NDArray[np.int64]:
    """Equal-mass groups numbered from 0 without gaps; equal confidences are in one."""
    ordered = np.sort(p)
    edges = np.unique(ordered[(np.arange(1, bins) * len(p)) // bins])
    group = np.searchsorted(edges, p, side="right")
    return np.asarray(np.unique(group, return_inverse=True)[1], dtype=np.int64)


def _floor(
    p: Floats, group: NDArray[np.int64], expected: Floats, rng: np.random.Generator, repeats: int
) -> Floats:
    """ECE of outcomes drawn from the confidences themselves, ``repeats`` times."""
    if len(p) * repeats > 5_000_000:  # the sum of many coins is normal; drawing each would take a second
        spread = np.sqrt(np.bincount(group, weights=p * (1 - p)))
        gaps = rng.normal(size=(repeats, len(expected))) * spread
    else:
        gaps = np.empty((repeats, len(expected)))
        for i in range(repeats):
            gaps[i] = np.bincount(group, weights=(rng.random(len(p)) < p)) - expected
    return np.asarray(np.abs(gaps).sum(axis=1) / len(p))


def _bin(p: Floats, y: Floats) -> ReliabilityBin:
    n, right = len(p), int(y.sum())
    return ReliabilityBin(
        float(p.min()), float(p.max()), n, float(p.mean()), right / n, clopper_pearson(right, n)
    )


def _checked(scores: ArrayLike, truth: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    matrix, right = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=np.int64)
    if matrix.ndim != 2 or right.shape != (len(matrix),) or len(matrix) == 0:
        raise ValueError(
            f"found scores of shape {matrix.shape} and {right.shape} labels, expected a row for each label"
        )
    if not is_simplex(matrix):
        raise ValueError("scores do not sum to 1; a temperature needs a distribution over labels")
    if right.max() >= matrix.shape[1] or right.min() < -1:
        raise ValueError(f"truth: found {right.min()} to {right.max()}, expected -1 to {matrix.shape[1] - 1}")
    return matrix, right
