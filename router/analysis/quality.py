"""Quality by threshold: of the decisions that a line lets through, the share whose label reviewers found right.

Only a uniform audit sample speaks here. A judgement of the label does not depend on who answered, so both sides of the
production line can be known, the lower one too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.analysis.binomial import Interval, upper_bound
from router.analysis.cells import Counts, Floats
from router.analysis.judgements import Audit
from router.analysis.rule import confidence_bins
from router.analysis.sweep import grid_index
from router.policy import Policy, confidence_bin

ENOUGH = 20
"""Judged decisions from which on a share is shown at all."""

ENOUGH_SERVED = 10
"""Judged decisions at or above a line below which its share is not shown: the interval would span half of everything."""

TAIL = 0.025
"""Of each side of a 95 % interval."""


@dataclass(frozen=True, slots=True, eq=False)
class Quality:
    """Steps of the curve. Arrays have one entry per step; each holds from its ``start`` until the next.

    Attributes
    ----------
    start : grid index of the lowest threshold of the step, ascending, the first 0.
    n, right : judged decisions that the line lets through; those of them whose top label is right.
    low, high : 95 % interval of right / n, each threshold by itself; 0 and 1 where n is 0.
    """

    start: Counts
    n: Counts
    right: Counts
    low: Floats
    high: Floats

    def at(self, threshold: float) -> QualityPoint:
        """The step that holds at a threshold.

        Raises
        ------
        ValueError
            The threshold is not on the 1e-4 grid; names its neighbours.
        """
        i = int(np.searchsorted(self.start, grid_index(threshold), side="right")) - 1
        n, right = int(self.n[i]), int(self.right[i])
        if n < ENOUGH_SERVED:
            return QualityPoint(n, right, None, None)
        return QualityPoint(n, right, right / n, Interval(float(self.low[i]), float(self.high[i])))


@dataclass(frozen=True, slots=True)
class QualityPoint:
    """Judged decisions at one threshold; share and interval None where fewer than 10 are let through."""

    n: int
    right: int
    share: float | None
    interval: Interval | None


def quality(audit: Audit, policy: Policy) -> Quality | None:
    """The curve of an audit sample; None with fewer than 20 judged decisions of the policy's labels.

    Labels with a threshold of their own stay at it.

    Notes
    -----
    Intervals are exact (Clopper-Pearson): the lower end for r of n is 1 minus the upper end for n - r. They are for one threshold
    looked at alone. To choose a threshold by them breaks its promise too often: that is what ``certify`` is for.
    """
    own = {x.name: x.threshold for x in policy.labels}
    inside = np.array([name in own for name in audit.label], dtype=bool)
    if int(inside.sum()) < ENOUGH:
        return None
    audit = audit.of(inside)
    bins = confidence_bins(audit.confidence)
    right = ~audit.loss
    fixed = np.array([own[name] is not None for name in audit.label], dtype=bool)
    lines = np.array([confidence_bin(own[name] or 0.0) for name in audit.label], dtype=np.int64)
    always = fixed & (bins >= lines)

    order = np.argsort(bins[~fixed], kind="stable")
    ordered, hits = bins[~fixed][order], right[~fixed][order]
    start = np.unique(
        np.concatenate([[0], ordered + 1])
    )  # a decision of bin b is let through up to the line b
    below = np.searchsorted(ordered, start)
    n = int(always.sum()) + len(ordered) - below
    good = int((right & always).sum()) + int(hits.sum()) - np.concatenate([[0], np.cumsum(hits)])[below]
    return Quality(
        start=start,
        n=n,
        right=good,
        low=1.0 - upper_bound(n - good, n, TAIL),
        high=upper_bound(good, n, TAIL),
    )
