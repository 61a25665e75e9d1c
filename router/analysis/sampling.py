"""What people should judge: three queues that are never mixed, each item with the reason it was drawn for.

``audit`` is drawn uniformly and feeds promises; ``estimate`` is drawn by strata, with inclusion probabilities, and feeds
estimates from fewer labels; ``learn`` is picked where there is something to see, and feeds nothing but reading: what is sorted
by doubt says nothing about the rest (measured: a share of losses of 0.142 looks like 0.52 to 0.58 there).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router.analysis.cells import Counts, Floats
from router.analysis.estimates import Z95, known
from router.types import Queue

TWICE = 0.05
"""Weights that stand for so much more than there is come from several draws, not from chance."""

FLOOR = 2
"""Least labels per stratum: with one there is no variance to be seen."""

DECILES = (10, 5, 2, 1)
"""Ranges of confidence per label that are tried, finest first, until every stratum can have FLOOR labels."""


@dataclass(frozen=True, slots=True)
class Item:
    """One decision to judge, as drawn: none of this changes afterwards.

    ``inclusion_probability`` is None where nothing was drawn (``learn``). ``stratum`` is None outside ``estimate``.
    """

    decision_id: str
    queue: Queue
    reason: str
    inclusion_probability: float | None
    stratum: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Decisions to draw from, one entry each; NaN where a margin or a cost (USD) is not known."""

    id: Sequence[str]
    label: NDArray[Any]
    confidence: Floats
    threshold: Floats
    margin: Floats
    cost: Floats

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share of losses, and their number, with half their 95 % intervals; None without a judged decision.

    Attributes
    ----------
    hajek : the share, sum(y / pi) / sum(1 / pi). ``half``: from the variance within strata.
    horvitz_thompson : the number, sum(y / pi), of the ``stands_for`` = sum(1 / pi) decisions that the judged ones stand for, and
        ``horvitz_thompson_half``. None where more is stood for than there is: several draws then count decisions twice.
    n, n_strata : judged decisions, and strata they come from.
    """

    n: int
    n_strata: int
    hajek: float | None
    half: float | None
    stands_for: float = 0.0
    horvitz_thompson: float | None = None
    horvitz_thompson_half: float | None = None


def draw_audit(ids: Sequence[str], n: int, *, rng: np.random.Generator) -> tuple[Item, ...]:
    """Draw n decisions uniformly, without replacement; all of them when there are no more. In random order."""
    total = len(ids)
    drawn = rng.permutation(total)[: max(n, 0)]
    share = len(drawn) / total if total else 0.0
    return tuple(Item(ids[i], "audit", f"drawn uniformly, {len(drawn):,} of {total:,}", share) for i in drawn)


def draw_estimate(candidates: Candidates, n: int, *, rng: np.random.Generator) -> tuple[Item, ...]:
    """Draw n decisions by strata of label and confidence, most where judgements will differ most. In random order.

    Raises
    ------
    ValueError
        n is too small for two labels per label of the policy; says how many it takes.

    Notes
    -----
    Neyman's allocation, n_h proportional to N_h s_h, with s_h = sqrt(c (1 - c)) guessed from the stratum's mean confidence c:
    the sd of right and wrong were the confidence true. A bad guess costs precision, never bias. Floor of 2 a stratum. Against
    uniform draws this takes 0.56 to 0.81 of the labels for the same error (measured, n = 100 to 1,000).

    References
    ----------
    W. G. Cochran, Sampling Techniques (3rd ed., 1977), sections 5.5 (optimum allocation) and 5A.2.
    """
    total = len(candidates)
    if total == 0 or n <= 0:
        return ()
    if n >= total:
        n = total
    names, place = np.unique(candidates.label.astype(str), return_inverse=True)
    for ranges in DECILES:
        edges = (
            np.unique(np.quantile(candidates.confidence, np.arange(1, ranges) / ranges))
            if ranges > 1
            else np.empty(0)
        )
        band = np.searchsorted(edges, candidates.confidence, side="right")
        keys, stratum, sizes = np.unique(place * ranges + band, return_inverse=True, return_counts=True)
        if np.minimum(sizes, FLOOR).sum() <= n:
            break
    else:
        least = int(np.minimum(np.bincount(place), FLOOR).sum())
        raise ValueError(
            f"found n = {n}, expected at least {least}: two labels for each of {len(names)} labels"
        )
    mean = np.bincount(stratum, weights=candidates.confidence) / sizes
    shares = allocate(sizes, np.sqrt(np.clip(mean * (1 - mean), 1e-4, None)), n)
    items = []
    for h in range(len(keys)):
        members = np.flatnonzero(stratum == h)
        low, high = float(candidates.confidence[members].min()), float(candidates.confidence[members].max())
        name = f"{names[keys[h] // ranges]}, confidence {low:.3g} to {high:.3g}"
        reason = f"stratum {name}: {shares[h]:,} of {sizes[h]:,}"
        for i in rng.permutation(members)[: shares[h]]:
            items.append(Item(candidates.id[i], "estimate", reason, float(shares[h] / sizes[h]), name))
    return tuple(items[i] for i in rng.permutation(len(items)))


def allocate(sizes: ArrayLike, spread: ArrayLike, n: int) -> Counts:
    """Split n labels over strata by Neyman's rule: at least two each (or all of a smaller one), at most all, summing to n.

    >>> allocate([100, 100, 3], [0.5, 0.1, 0.5], 20).tolist()
    [15, 3, 2]
    """
    most = np.asarray(sizes, dtype=np.int64)
    least = np.minimum(most, FLOOR)
    weight = most * np.asarray(spread, dtype=np.float64)
    if not bool((weight > 0).any()):
        weight = most.astype(np.float64)  # no spread anywhere: by size alone
    low, high = 0.0, float(n) / float(weight[weight > 0].min()) + 1.0
    for _ in range(60):  # the scale at which the clipped shares sum to n
        middle = (low + high) / 2
        low, high = (middle, high) if np.clip(middle * weight, least, most).sum() < n else (low, middle)
    exact = np.clip(high * weight, least, most)
    whole = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - whole), kind="stable")
    for h in order.tolist() * 2:
        if whole.sum() >= min(n, int(most.sum())):
            break
        if whole[h] < most[h]:
            whole[h] += 1
    found: Counts = whole
    return found


def pick_learn(candidates: Candidates, n: int) -> tuple[Item, ...]:
    """Pick up to n decisions to learn from: a third each nearest its line, with the smallest margin, and the dearest."""
    total = len(candidates)
    to_line = np.abs(candidates.confidence - candidates.threshold)
    orders = [
        np.argsort(np.where(np.isnan(key), np.inf, key), kind="stable")[: int(np.sum(~np.isnan(key)))]
        for key in (to_line, candidates.margin, -candidates.cost)
    ]
    words = (_line_reason, _margin_reason, _cost_reason)
    taken: dict[int, str] = {}
    at = [0, 0, 0]
    while len(taken) < min(n, total):
        before = len(taken)
        for k, order in enumerate(orders):
            while at[k] < len(order) and int(order[at[k]]) in taken:
                at[k] += 1
            if at[k] < len(order) and len(taken) < n:
                i = int(order[at[k]])
                taken[i] = words[k](candidates, i)
        if len(taken) == before:
            break
    return tuple(Item(candidates.id[i], "learn", reason, None) for i, reason in taken.items())


def estimate(
    loss: ArrayLike, inclusion: ArrayLike, strata: ArrayLike, *, total: int | None = None
) -> Estimate:
    """Estimate the share and the number of losses from a drawn queue, whatever the probabilities, by weights 1 / pi.

    Parameters
    ----------
    loss, inclusion, strata : shape (n,); inclusion in (0, 1]. Equal strata were drawn together.
    total : number of decisions drawn from, where it is known: weights cannot stand for more in one draw.

    Notes
    -----
    Var of the number = sum_h (sum_h 1/pi)^2 (1 - n_h / N_h) s_h^2 / n_h; of the share, over the squared total weight. A stratum of which one was judged
    borrows the variance of all: with one value it would look certain.

    References
    ----------
    Sarndal, Swensson and Wretman, Model Assisted Survey Sampling (1992), results 3.7.2 (strata) and 5.7.1 (Hajek's ratio).
    D. G. Horvitz and D. J. Thompson, A generalization of sampling without replacement, JASA 47 (1952).
    """
    y, pi = np.asarray(loss, dtype=np.float64), np.asarray(inclusion, dtype=np.float64)
    n = len(y)
    if n == 0:
        return Estimate(0, 0, None, None)
    if not bool(np.all((pi > 0) & (pi <= 1))):
        raise ValueError(
            "inclusion probabilities: found one outside (0, 1]; only drawn queues can be estimated from"
        )
    weight = 1 / pi
    _, place = np.unique(np.asarray(strata).astype(str), return_inverse=True)
    count = np.bincount(place)
    size = np.bincount(place, weights=weight)
    mean = np.bincount(place, weights=y) / count
    squares = np.bincount(place, weights=(y - mean[place]) ** 2)
    pooled = float(y.var(ddof=1)) if n > 1 else float("nan")
    within = np.where(count > 1, squares / np.maximum(count - 1, 1), pooled)
    finite = np.clip(1 - count / np.maximum(size, count), 0.0, 1.0)
    spread = Z95 * float(np.sqrt(np.sum(size**2 * finite * within / count)))
    half, stands_for = known(spread), float(weight.sum())
    once = total is None or stands_for <= total * (1 + TWICE)
    return Estimate(
        n=n,
        n_strata=len(count),
        hajek=float(np.sum(y * weight)) / stands_for,
        half=None if half is None else half / stands_for,
        stands_for=stands_for,
        horvitz_thompson=float(np.sum(y * weight)) if once else None,
        horvitz_thompson_half=half if once else None,
    )


def _line_reason(candidates: Candidates, i: int) -> str:
    c, t = float(candidates.confidence[i]), float(candidates.threshold[i])
    return f"near the line: confidence {floor(c * 1e4) / 1e4:g} against {t:g}"


def _margin_reason(candidates: Candidates, i: int) -> str:
    return f"two labels nearly tie: margin {float(candidates.margin[i]):.3g}"


def _cost_reason(candidates: Candidates, i: int) -> str:
    return f"among the dearest: ${float(candidates.cost[i]):.4g}"
