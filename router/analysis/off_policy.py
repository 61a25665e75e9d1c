"""What another policy would have earned on logged traffic, where the log holds the chance with which each choice was made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router.analysis.cells import Floats
from router.analysis.estimates import Z95

LEAST_ESS = 100.0
"""Below this effective sample size a few heavy rows decide, and no figure is given."""

MOST_UNSUPPORTED = 0.001
"""Above this share of rows whose wanted choice had no chance in the log, no figure is given: weights cannot speak of what was
never tried, and the rows that were tried stand in for it with full confidence."""


@dataclass(frozen=True, slots=True)
class Value:
    """An estimated mean reward with half its 95 % interval."""

    value: float
    half: float


@dataclass(frozen=True, slots=True)
class OffPolicy:
    """Estimates of one policy's mean reward; all None when refused.

    Attributes
    ----------
    ess : effective sample size, (sum w)^2 / sum w^2. ``matched``: share of rows whose choice the policy would repeat.
    n_left_out : rows without a propensity: their choice was not drawn, so nothing is known of the other one.
    unsupported : share of rows whose wanted choice the logging policy could not have made; None: nobody said.
    refused : why no figure is given, or None.
    ips, snips, dr : inverse propensity, self-normalised, doubly robust (needs an outcome model).
    """

    n: int
    n_left_out: int
    ess: float
    matched: float | None
    unsupported: float | None
    refused: str | None
    ips: Value | None
    snips: Value | None
    dr: Value | None


def evaluate(
    reward: ArrayLike,
    propensity: ArrayLike,
    target: ArrayLike,
    *,
    predicted: ArrayLike | None = None,
    predicted_target: ArrayLike | None = None,
    supported: ArrayLike | None = None,
) -> OffPolicy:
    """Estimate the mean reward of a policy from rows logged under another one. All arguments have shape (n,).

    Parameters
    ----------
    reward : of the choice that was made. ``propensity``: chance with which it was made, (0, 1]; NaN: not drawn.
    target : chance with which the policy in question makes the same choice; 0 or 1 for a deterministic one.
    predicted, predicted_target : an outcome model's reward for the choice that was made, and for the policy's own choice; it must
        not have been fitted on the same rows (:func:`cross_fitted`).
    supported : whether the logging policy had any chance to make the policy's own choice; left out: it always had one, which
        the caller must know. A model that the log never tried has no weight anywhere, so IPS counts it as reward 0 and SNIPS as
        the mean of the others.

    Raises
    ------
    ValueError
        A propensity is not in (0, 1], or arrays differ in length.

    Notes
    -----
    w = target / propensity. IPS = mean(w r); SNIPS = sum(w r) / sum(w), se from its residuals (delta method); DR = mean(mu_target
    + w (r - mu)). DR is unbiased when either the propensities or the model are right. The outcome model alone is not, and the
    mean of agreeing rows is not either. Refused under an effective sample size of 100, and where more than 0.1 % of the rows
    want a choice without support.

    References
    ----------
    Horvitz and Thompson (1952); Swaminathan and Joachims, The self-normalized estimator (NeurIPS 2015); Dudik, Langford and
    Li, Doubly robust policy evaluation and learning (arXiv 1103.4601), section 2; Kong (1992) for the sample size.
    """
    r, p, pi = (np.asarray(x, dtype=np.float64) for x in (reward, propensity, target))
    if not r.shape == p.shape == pi.shape:
        raise ValueError(
            f"found shapes {r.shape}, {p.shape} and {pi.shape}, expected one entry for each decision"
        )
    drawn = ~np.isnan(p) & ~np.isnan(r)
    r, p, pi = r[drawn], p[drawn], pi[drawn]
    left_out = int(np.sum(~drawn))
    if len(p) and not bool(np.all((p > 0) & (p <= 1))):
        raise ValueError("propensity: found one outside (0, 1]; a choice that was made had a chance above 0")
    w = pi / p
    total, squares = float(w.sum()), float(np.sum(w * w))
    ess = total * total / squares if squares > 0 else 0.0
    matched = float(np.mean(pi > 0)) if len(pi) else None
    without = None
    if supported is not None and len(r):
        without = float(np.mean(~np.asarray(supported, dtype=bool)[drawn]))
    if without is not None and without > MOST_UNSUPPORTED:
        why = (
            f"{100 * without:.1f} % of the decisions would go to a model that the log had no chance to try there, expected at most "
            f"{100 * MOST_UNSUPPORTED:g} %: nothing is known of its answers; log them with exploration, or judge pairs"
        )
        return OffPolicy(len(r), left_out, ess, matched, without, why, None, None, None)
    if ess < LEAST_ESS:
        why = (
            f"effective sample size {ess:.0f}, expected at least {LEAST_ESS:.0f}: the logged choices hardly overlap with the policy's; "
            "log more, or explore with a larger share"
        )
        return OffPolicy(len(r), left_out, ess, matched, without, why, None, None, None)
    n = len(r)
    snips = float(np.sum(w * r)) / total
    dr = None
    if predicted is not None and predicted_target is not None:
        mu, mu_target = (np.asarray(x, dtype=np.float64)[drawn] for x in (predicted, predicted_target))
        dr = _mean(mu_target + w * (r - mu))
    return OffPolicy(
        n=n,
        n_left_out=left_out,
        ess=ess,
        matched=matched,
        unsupported=without,
        refused=None,
        ips=_mean(w * r),
        snips=Value(snips, Z95 * float(np.sqrt(np.sum((w * (r - snips)) ** 2))) / total),
        dr=dr,
    )


def cross_fitted(
    group: ArrayLike,
    choice: ArrayLike,
    asked: ArrayLike,
    reward: ArrayLike,
    *,
    rng: np.random.Generator,
    folds: int = 5,
) -> Floats:
    """Mean reward of ``asked`` among rows of the same group and that choice, from the folds that do not hold the row.

    The simplest outcome model for :func:`evaluate`: ask once for the logged choice and once for the policy's. ``group`` is
    whatever rewards depend on, like label and confidence decile. Where a group never saw the choice its mean over all groups
    stands in.
    """
    _, g = np.unique(np.asarray(group).astype(str), return_inverse=True)
    names, both = np.unique(
        np.r_[np.asarray(choice).astype(str), np.asarray(asked).astype(str)], return_inverse=True
    )
    n = len(g)
    made, want = both[:n], both[n:]
    r = np.asarray(reward, dtype=np.float64)
    fold = rng.permutation(n) % folds
    found = np.empty(n)
    for k in range(folds):
        found[fold == k] = _means(g, made, r, len(names), fold != k)[g[fold == k], want[fold == k]]
    return found


def _means(
    g: NDArray[np.int64], made: NDArray[np.int64], r: Floats, n_choices: int, rows: NDArray[np.bool_]
) -> Floats:
    """Table of mean rewards by group and choice over some rows."""
    shape = (int(g.max()) + 1, n_choices)
    count, total = np.zeros(shape), np.zeros(shape)
    np.add.at(count, (g[rows], made[rows]), 1.0)
    np.add.at(total, (g[rows], made[rows]), r[rows])
    everywhere = total.sum(axis=0) / np.maximum(count.sum(axis=0), 1.0)
    return np.where(count > 0, total / np.maximum(count, 1.0), everywhere)


def _mean(values: Floats) -> Value:
    return Value(float(values.mean()), Z95 * float(values.std(ddof=1)) / float(np.sqrt(len(values))))
