"""How far a review queue is, what it says so far, and what judging the rest would buy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from router.analysis.binomial import clopper_pearson
from router.analysis.estimates import Z95
from router.analysis.sampling import estimate
from router.types import Queue, Verdict

GUESS = 0.8
"""Share of right labels that a plan assumes before anything is judged."""

ENOUGH = 20
"""Judgements from which a plan takes the share seen so far instead of the guess."""


@dataclass(frozen=True, slots=True)
class Told:
    """One decision of a queue: what was said of it (None: it waits), its chance of being drawn, its stratum."""

    verdict: Verdict | None
    inclusion_probability: float | None
    stratum: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a queue stands.

    Attributes
    ----------
    n, n_judged, n_unsure : decisions drawn, judged, and judged "unsure".
    right : share of right labels among those judged right or wrong; None before the first, and for queue ``learn``, where
        what is picked by doubt says nothing about the rest.
    low, high : its 95 % interval; None where ``right`` is, and for an estimate of fewer than 20 judgements or of none that differ.
    half_when_done : half the interval's width once all are judged; None for ``learn`` and an empty queue.
    """

    n: int
    n_judged: int
    n_unsure: int
    right: float | None
    low: float | None
    high: float | None
    half_when_done: float | None

    @property
    def n_open(self) -> int:
        """Decisions that wait."""
        return self.n - self.n_judged


def half_width(n: int, share: float = GUESS) -> float:
    """Half the 95 % interval of a share seen in n uniform draws, by the normal approximation.

    >>> round(half_width(240), 3)
    0.051
    """
    return Z95 * sqrt(share * (1 - share) / n)


def progress(queue: Queue, told: Sequence[Told]) -> Progress:
    """Sum a queue up.

    Notes
    -----
    ``audit``: Clopper and Pearson's exact interval. ``estimate``: Hajek's ratio with the variance within strata
    (``sampling.estimate``), which a plan for the rest shrinks by the root of the counts. The plan for an audit is the normal
    approximation at the share seen, or at 80 % before 20 judgements; it is a plan, not a result.
    """
    said = [x for x in told if x.verdict in ("right", "wrong")]
    unsure = sum(x.verdict == "unsure" for x in told)
    n, n_said = len(told), len(said)
    right, low, high = _share(queue, said)
    return Progress(n, n_said + unsure, unsure, right, low, high, _plan(queue, n, n_said, right, low, high))


def _share(queue: Queue, said: Sequence[Told]) -> tuple[float | None, float | None, float | None]:
    if not said or queue == "learn":
        return None, None, None
    hits = sum(x.verdict == "right" for x in said)
    if queue == "audit":
        bar = clopper_pearson(hits, len(said))
        return hits / len(said), bar.low, bar.high
    found = estimate(
        np.array([x.verdict == "wrong" for x in said]),
        np.array([x.inclusion_probability or 1.0 for x in said]),
        [x.stratum or "" for x in said],
    )
    assert found.hajek is not None
    right = 1 - found.hajek
    # Too few judgements, or all alike, leave strata without a variance: their interval would look certain.
    if not found.half or len(said) < ENOUGH:
        return right, None, None
    return right, max(right - found.half, 0.0), min(right + found.half, 1.0)


def _plan(
    queue: Queue, n: int, n_said: int, right: float | None, low: float | None, high: float | None
) -> float | None:
    if queue == "learn" or n == 0:
        return None
    if right is None or low is None or high is None or n_said < ENOUGH:
        return half_width(n)
    if queue == "estimate":
        return (high - low) / 2 * sqrt(n_said / n)
    # None wrong so far: the normal formula would promise an interval without width.
    return half_width(n, min(max(right, 1 / (n_said + 2)), 1 - 1 / (n_said + 2)))
