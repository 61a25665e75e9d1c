"""Exact binomial tests and bounds: what n judged decisions with f losses say about the true share of losses."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log, log1p
from typing import Any

import numpy as np

Number = Any
"""A number or an array of them: the formulas below take both."""

MOST_LABELS = 10_000_000
"""Beyond so many labels an answer is "none": nobody judges as many."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval, ``low <= value <= high``."""

    low: float
    high: float


def p_value(failures: Number, n: Number, alpha: float) -> Number:
    """P(at most ``failures`` losses among n) were the true risk exactly ``alpha``; 1 where n is 0.

    Notes
    -----
    The p-value of "the risk is above alpha" against "at most alpha": BinomialCDF(f; n, alpha) = 1 - I_alpha(f + 1, n - f), with
    I the regularised incomplete beta function (Johnson, Kotz and Kemp, Univariate Discrete Distributions, section 3.4).
    scipy.special is loaded instead of scipy.stats, which takes a second.

    Examples
    --------
    >>> round(float(p_value(0, 22, 0.1)), 4)  # 0.9 ** 22
    0.0985
    """
    from scipy.special import betaincc

    f, count = np.asarray(failures, dtype=np.float64), np.asarray(n, dtype=np.float64)
    some = count > f  # else every judged one is a loss, or none was judged
    with np.errstate(invalid="ignore"):
        return np.where(some, betaincc(f + 1, np.where(some, count - f, 1.0), alpha), 1.0)[()]


def upper_bound(failures: Number, n: Number, delta: float) -> Number:
    """Largest risk that f losses among n do not rule out at level ``delta`` (one-sided Clopper-Pearson); 1 where n is 0.

    Notes
    -----
    The (1 - delta) quantile of Beta(f + 1, n - f): it is at most alpha exactly when :func:`p_value` is at most delta.

    References
    ----------
    C. J. Clopper and E. S. Pearson, The use of confidence or fiducial limits, Biometrika 26 (1934).
    """
    from scipy.special import betaincinv

    f, count = np.asarray(failures, dtype=np.float64), np.asarray(n, dtype=np.float64)
    some = count > f
    return np.where(some, betaincinv(f + 1, np.where(some, count - f, 1.0), 1.0 - delta), 1.0)[()]


def clopper_pearson(hits: int, n: int, level: float = 0.95) -> Interval:
    """Exact two-sided interval of a share, (0, 1) when n is 0.

    >>> round(clopper_pearson(0, 10).high, 6)  # 1 - 0.025 ** (1 / 10)
    0.308497
    """
    from scipy.special import betaincinv

    tail = (1.0 - level) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, tail))
    return Interval(low, float(upper_bound(hits, n, tail)))


def zero_failures_needed(alpha: float, delta: float) -> int:
    """Labels that certify ``alpha`` when none of them is a loss: the smallest n with (1 - alpha)^n <= delta.

    >>> zero_failures_needed(0.01, 0.1), zero_failures_needed(0.1, 0.1)
    (230, 22)
    """
    return ceil(log(delta) / log1p(-alpha))


def labels_needed(alpha: float, delta: float, risk: float, *, power: float = 0.8) -> int | None:
    """Labels at one threshold that certify ``alpha`` with this power when the true risk is ``risk``; None: no number does.

    The count of tolerated losses is whole, so power has teeth: this is the number from which on it is never below.
    """
    from scipy.special import betaincc

    if risk >= alpha:
        return None
    teeth = 64
    while True:
        losses = np.arange(teeth + 1)
        starts = _smallest_certified(losses, alpha, delta)  # where so many losses begin to be tolerated
        ends = starts[1:] - 1
        lowest = betaincc(losses[:-1] + 1.0, ends - losses[:-1], risk)
        short = np.flatnonzero(lowest < power)
        after = int(short[-1]) + 1 if short.size else 0
        if after <= 0.75 * teeth:  # the teeth are small by then: none reaches down again that far out
            return int(starts[after])
        if starts[-1] > MOST_LABELS:
            return None
        teeth *= 2


def _smallest_certified(losses: Any, alpha: float, delta: float) -> Any:
    """Smallest n at which each number of losses still certifies ``alpha``."""
    low, high = np.asarray(losses), np.full(len(losses), 16)  # low never does: every one of them a loss
    while bool(np.any(short := p_value(losses, high, alpha) > delta)):
        high = np.where(short, high * 2, high)
    while bool(np.any(high - low > 1)):
        middle = (low + high) // 2
        passes = p_value(losses, middle, alpha) <= delta
        low, high = np.where(passes, low, middle), np.where(passes, middle, high)
    return high


def largest_passing(n: Number, alpha: float, delta: float) -> Number:
    """Most losses among n with which ``alpha`` is still certified, whole; -1: not even with none."""
    count = np.asarray(n, dtype=np.int64)
    low, high = np.full(count.shape, -1), count.copy()  # low passes (or is -1), high does not
    while bool(np.any(high - low > 1)):
        middle = (low + high) // 2
        passes = (p_value(middle, count, alpha) <= delta) & (middle >= 0)
        low, high = np.where(passes, middle, low), np.where(passes, high, middle)
    return low[()]


def labels_missing(failures: int, n: int, alpha: float, delta: float) -> int | None:
    """Fewest further labels that would certify ``alpha`` if losses went on at the present rate; 0: certified; None: no number does.

    The losses expected among the further ones are rounded up, so that the figure is not an optimistic one.

    Notes
    -----
    The j-th further loss comes with the label after the (j - 1) n / f-th, so that between two losses more labels only help: the
    stretch of each j is tried at its last label, and the first that passes holds the answer. One stretch may pass and the next
    one fail again. Most are ruled out by a bound below the p-value, P(X <= f) >= Phi(-sqrt(2 n D(f / n, alpha))), with D the
    Kullback-Leibler divergence of two coins (Zubkov and Serov, arXiv 1207.3838, theorem 1).
    """
    if float(p_value(failures, n, alpha)) <= delta:
        return 0
    if failures == 0:
        more = zero_failures_needed(alpha, delta) - n
        return more if more <= MOST_LABELS else None
    if failures / n >= alpha:  # in this form: 0.07 * 100 is a little more than 7
        return None
    start, size, most = 1, 256, MOST_LABELS * failures // n
    while start <= most:
        further = np.arange(start, min(start + size, most + 1))
        losses, last = failures + further, further * n // failures
        for k in np.flatnonzero(_least_p_value(losses, n + last, alpha) <= delta).tolist():
            if float(p_value(losses[k], n + last[k], alpha)) <= delta:
                first = int((further[k] - 1) * n // failures) + 1
                return _fewest(int(losses[k]), n, first, int(last[k]), alpha, delta)
        start, size = start + size, size * 2
    return None


def _least_p_value(failures: Any, n: Any, alpha: float) -> Any:
    """A bound that :func:`p_value` is never below, a hundred times as fast; failures between 1 and n - 1, their share below alpha."""
    from scipy.special import ndtr

    rate = failures / n
    divergence = rate * np.log(rate / alpha) + (1 - rate) * np.log((1 - rate) / (1 - alpha))
    return np.where(rate < alpha, ndtr(-np.sqrt(np.maximum(2 * n * divergence, 0.0)) - 1e-6), 0.0)


def _fewest(losses: int, n: int, low: int, high: int, alpha: float, delta: float) -> int:
    """The fewest of ``low`` to ``high`` labels beyond n with which so many losses pass; with ``high`` they do."""
    while low < high:
        middle = (low + high) // 2
        passes = float(p_value(losses, n + middle, alpha)) <= delta
        low, high = (low, middle) if passes else (middle + 1, high)
    return low
