"""The whole curve over the threshold, exact at every one of its 10,001 positions, from cells.

A decision falls back at the threshold k / 10,000 if and only if its bin is below k, so one running sum over the bins gives
every operating point. Costs are those of the decisions' own token counts under the model that would have answered:
they assume that another model would have used the same tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from router.analysis.cells import Counts, DenseCells, Floats, at_own
from router.analysis.estimates import known, mean_half_width, ratio_half_width, token_grade
from router.policy import GRID, Policy, confidence_bin, grid_neighbours
from router.types import Grade

VISIBLE_STEP = 10
"""Steps of the grid between two thresholds that people are offered: 0.001."""

PLATEAU = 0.01
"""Operating points within this share of the cheapest one count as equally cheap."""

MIN_CHANGED = 10
"""Below this many changed decisions the normal interval of a difference is not trusted to exclude zero."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelSweep:
    """One label's curve. Arrays have one entry per threshold 0, 1e-4, ... 1.

    Attributes
    ----------
    threshold : the label's own; None: it follows the policy's.
    fallback : decisions of the label that fall back.
    fallback_share : of the label's decisions; None when it has none.
    cost_change : USD in the period against never falling back, signed (negative: falling back saves); None: not measured.
    fallback_price, fallback_price_half : signed USD per 1,000 decisions of the label that falling back costs, were all of
        them to fall back, and half its 95 % interval. Exactly 0 when the label already goes to the fallback model.
    """

    label: str
    model: str
    threshold: float | None
    same_model: bool
    n: int
    n_priced: int
    fallback: Counts
    fallback_share: Floats | None
    cost_change: Floats | None
    fallback_price: float | None
    fallback_price_half: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """All operating points of a policy on a log. Arrays have one entry per threshold 0, 1e-4, ... 1.

    Labels with a threshold of their own stay at it. Half widths are of 95 % intervals, NaN below two priced decisions.
    Money is None where it is not measured: nothing is priced, or (savings) the policy names no baseline.

    Attributes
    ----------
    n, n_priced : decisions with scores; those with known tokens and prices, over which every cost is taken.
    n_left_out : decisions whose label is not one of this policy.
    cost_per_1000, cost_half : USD per 1,000 priced decisions, classifier included.
    savings_share, savings_half : 1 - cost / baseline, classifier included.
    crossing, changing : decisions on the other side of the line than in production; those of them whose model changes.
    classifier_known : False when some classifier cost is not known: costs are then a lower and savings an upper bound, and neither
        has an interval.
    has_margin_rule : the policy also falls back on low margins, which cells cannot show; the curve leaves it out.
    """

    thresholds: Floats
    production: float
    fallback_model: str
    baseline: str | None
    n: int
    n_priced: int
    n_left_out: int
    fallback: Counts
    fallback_share: Floats | None
    cost_per_1000: Floats | None
    cost_half: Floats | None
    savings_share: Floats | None
    savings_half: Floats | None
    crossing: Counts
    changing: Counts
    classifier_known: bool
    has_margin_rule: bool
    grade: Grade | None
    labels: tuple[LabelSweep, ...]
    _moved: Floats  # running sums over priced decisions: d = fallback cost - label cost,
    _moved_sq: Floats  # d^2,
    _moved_base: Floats  # d x baseline cost
    _baseline: float
    _baseline_sq: float


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One threshold with what it does; fields as in :class:`Sweep`, None where not measured.

    ``labels`` holds (label, threshold in force, decisions that fall back, their share) in the policy's order.
    """

    threshold: float
    n: int
    n_priced: int
    fallback: int
    fallback_share: float | None
    cost_per_1000: float | None
    cost_half: float | None
    savings_share: float | None
    savings_half: float | None
    crossing: int
    changing: int
    labels: tuple[tuple[str, float, int, float | None], ...]


@dataclass(frozen=True, slots=True)
class Cheapest:
    """The cheapest threshold (the lowest of equals) and the range around it that costs at most 1 % more."""

    threshold: float
    plateau_low: float
    plateau_high: float
    cost_per_1000: float


@dataclass(frozen=True, slots=True)
class Difference:
    """What going from one threshold to another changes, with half the 95 % interval of each change.

    ``*_excludes_zero`` is True when the interval does and at least 10 decisions change model.
    """

    crossing: int
    changing: int
    fallback_share: float | None
    cost_per_1000: float | None
    cost_half: float | None
    cost_excludes_zero: bool
    savings_share: float | None
    savings_half: float | None
    savings_excludes_zero: bool


def sweep(cells: pd.DataFrame, policy: Policy) -> Sweep:
    """Compute every operating point of ``policy`` on the decisions of ``cells``.

    Notes
    -----
    With l, f, b the cost of a decision under its label's, the fallback and the baseline model, and d = f - l:
    cost(k) = sum l + sum over bins below k of d. The classifier enters as its mean per decision. Half widths:
    :func:`~router.analysis.estimates.mean_half_width` for the cost, ``ratio_half_width`` for the savings share, both from
    sums of squares and products that move with the threshold in the same way.
    """
    dense = DenseCells(cells, policy)
    n, n_priced = int(dense.n.sum()), int(dense.n_priced.sum())
    own = [None if x.threshold is None else confidence_bin(x.threshold) for x in policy.labels]
    production = confidence_bin(policy.threshold)
    free = np.array([k is None for k in own])
    same = np.array([x.model == policy.fallback_model for x in policy.labels])

    below = dense.below(dense.n)
    fallback = at_own(below, own).sum(axis=0)
    crossed = np.abs(below - below[:, [production]])
    moved = at_own(dense.below(dense.moved), own).sum(axis=0)
    cost = dense.label_cost + moved
    squares = dense.label_sq + at_own(dense.below(dense.gain_sq), own).sum(axis=0)
    products = dense.label_base + at_own(dense.below(dense.moved_base), own).sum(axis=0)
    # the classifier's part of each decision is its mean k: (x + k)^2 = x^2 + 2 k x + k^2, and so on
    k = dense.classifier / n_priced if n_priced else 0.0
    squares = squares + 2 * k * cost + n_priced * k * k
    products = products + k * dense.baseline
    cost = cost + dense.classifier

    has_savings = n_priced > 0 and policy.baseline is not None and dense.baseline > 0
    return Sweep(
        thresholds=np.arange(GRID + 1) / GRID,
        production=policy.threshold,
        fallback_model=policy.fallback_model,
        baseline=policy.baseline,
        n=n,
        n_priced=n_priced,
        n_left_out=dense.n_left_out,
        fallback=fallback,
        fallback_share=fallback / n if n else None,
        cost_per_1000=1000 * cost / n_priced if n_priced else None,
        cost_half=1000 * mean_half_width(n_priced, cost, squares)
        if n_priced and dense.classifier_known
        else None,
        savings_share=1 - cost / dense.baseline if has_savings else None,
        savings_half=ratio_half_width(n_priced, cost, dense.baseline, squares, dense.baseline_sq, products)
        if has_savings and dense.classifier_known
        else None,
        crossing=crossed[free].sum(axis=0),
        changing=crossed[free & ~same].sum(axis=0),
        classifier_known=dense.classifier_known,
        has_margin_rule=policy.min_margin is not None,
        grade=token_grade(n_priced, dense.n_measured, dense.n_assumed),
        labels=tuple(_label_sweep(dense, below, policy, i) for i in range(len(policy.labels))),
        _moved=moved,
        _moved_sq=at_own(dense.below(dense.moved_sq), own).sum(axis=0),
        _moved_base=at_own(dense.below(dense.moved_base), own).sum(axis=0),
        _baseline=dense.baseline if policy.baseline is not None else 0.0,
        _baseline_sq=dense.baseline_sq,
    )


def operating_point(curve: Sweep, threshold: float) -> OperatingPoint:
    """Read one threshold off the curve.

    Raises
    ------
    ValueError
        The threshold is not on the 1e-4 grid; names its neighbours.
    """
    k = grid_index(threshold)

    def at(values: Floats | None) -> float | None:
        return None if values is None else known(values[k])

    labels = []
    for label in curve.labels:
        j = k if label.threshold is None else grid_index(label.threshold)
        share = None if label.fallback_share is None else float(label.fallback_share[j])
        labels.append((label.label, j / GRID, int(label.fallback[j]), share))
    return OperatingPoint(
        threshold=k / GRID,
        n=curve.n,
        n_priced=curve.n_priced,
        fallback=int(curve.fallback[k]),
        fallback_share=at(curve.fallback_share),
        cost_per_1000=at(curve.cost_per_1000),
        cost_half=at(curve.cost_half),
        savings_share=at(curve.savings_share),
        savings_half=at(curve.savings_half),
        crossing=int(curve.crossing[k]),
        changing=int(curve.changing[k]),
        labels=tuple(labels),
    )


def cheapest(curve: Sweep) -> Cheapest | None:
    """Find the cheapest threshold in steps of 0.001 and its plateau; None when no cost is measured.

    Of equally cheap ones the nearest to production, then the lower: a log cannot tell thresholds apart between which no
    decision lies.
    Cheapest is not best: nothing here knows whether the answers were good.
    """
    cost = curve.cost_per_1000
    if cost is None:
        return None
    steps = np.arange(0, GRID + 1, VISIBLE_STEP)
    least = float(cost[steps].min())
    equal = steps[
        cost[steps] <= least * (1 + 1e-12)
    ]  # running sums carry rounding: equals within it are equals
    best = int(equal[np.argmin(np.abs(equal - grid_index(curve.production)))])
    dearer = np.flatnonzero(cost > least * (1 + PLATEAU))
    after = int(np.searchsorted(dearer, best))  # the dearer points next to the best one end its plateau
    low = int(dearer[after - 1]) + 1 if after > 0 else 0
    high = int(dearer[after]) - 1 if after < len(dearer) else GRID
    return Cheapest(best / GRID, low / GRID, high / GRID, float(cost[best]))


def difference(curve: Sweep, start: float, end: float) -> Difference:
    """What changes on the way from one threshold to another: end minus start.

    Notes
    -----
    The two points share their decisions, so the interval is that of the paired difference d, which is 0 for all decisions
    that do not cross: much narrower than what the two points' own intervals would suggest.
    """
    a, b = grid_index(start), grid_index(end)
    n = curve.n_priced
    moves = [label for label in curve.labels if label.threshold is None]
    crossed = [abs(int(label.fallback[b]) - int(label.fallback[a])) for label in moves]
    changing = sum(count for count, label in zip(crossed, moves, strict=True) if not label.same_model)
    total = float(curve._moved[b] - curve._moved[a])
    squares = abs(float(curve._moved_sq[b] - curve._moved_sq[a]))
    base = float(curve._moved_base[b] - curve._moved_base[a])
    cost = cost_half = savings = savings_half = None
    if n:
        cost = 1000 * total / n
        cost_half = known(1000 * float(mean_half_width(n, total, squares)))
    if n and curve._baseline > 0:
        savings = -total / curve._baseline
        savings_half = known(
            float(ratio_half_width(n, total, curve._baseline, squares, curve._baseline_sq, base))
        )

    def excludes_zero(value: float | None, half: float | None) -> bool:
        return value is not None and half is not None and abs(value) > half and changing >= MIN_CHANGED

    return Difference(
        crossing=sum(crossed),
        changing=changing,
        fallback_share=float(curve.fallback[b] - curve.fallback[a]) / curve.n if curve.n else None,
        cost_per_1000=cost,
        cost_half=cost_half,
        cost_excludes_zero=excludes_zero(cost, cost_half),
        savings_share=savings,
        savings_half=savings_half,
        savings_excludes_zero=excludes_zero(savings, savings_half),
    )


def grid_index(threshold: float) -> int:
    """Position of a threshold in the arrays; a ValueError that names the neighbours when it is off the grid."""
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"found the threshold {threshold!r}, expected a number in [0, 1]")
    low, high = grid_neighbours(threshold)
    if low != high:
        raise ValueError(
            f"found the threshold {threshold!r}, expected a multiple of 0.0001; next to it are {low} and {high}"
        )
    return confidence_bin(threshold)


def _label_sweep(dense: DenseCells, below: Counts, policy: Policy, i: int) -> LabelSweep:
    label = policy.labels[i]
    n, n_priced = int(dense.n[i].sum()), int(dense.n_priced[i].sum())
    same = label.model == policy.fallback_model
    price = half = change = None
    if n_priced:
        total = float(dense.moved[i].sum())
        price = 1000 * total / n_priced
        half = known(1000 * float(mean_half_width(n_priced, total, float(dense.moved_sq[i].sum()))))
        change = np.concatenate([[0.0], np.cumsum(dense.moved[i, :-1])])
    return LabelSweep(
        label=label.name,
        model=label.model,
        threshold=label.threshold,
        same_model=same,
        n=n,
        n_priced=n_priced,
        fallback=below[i],
        fallback_share=below[i] / n if n else None,
        cost_change=change,
        fallback_price=price,
        fallback_price_half=half,
    )
