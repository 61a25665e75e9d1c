"""What a rule on the margin would add to the threshold: fall back as well where the two best labels are too close."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from router.analysis.cells import Counts, Floats
from router.analysis.estimates import known, mean_half_width
from router.analysis.rule import bins

STEPS = 100
"""Margins are tried in steps of 0.01."""


@dataclass(frozen=True, slots=True, eq=False)
class MarginCurve:
    """What each ``min_margin`` 0, 0.01, ... 1 does beyond the threshold, which comes first.

    Attributes
    ----------
    n, n_priced : decisions with a margin; those with known costs.
    fallback : decisions that fall back for a low margin alone. ``fallback_share``: of n; None without decisions.
    cost_per_1000 : signed USD per 1,000 priced decisions that this adds. ``cost_half``: half its 95 % interval.
    """

    min_margin: Floats
    n: int
    n_priced: int
    fallback: Counts
    fallback_share: Floats | None
    cost_per_1000: Floats | None
    cost_half: Floats | None

    def at(self, min_margin: float) -> tuple[int, float | None, float | None]:
        """Decisions, USD per 1,000 and half its interval at a multiple of 0.01."""
        k = round(min_margin * STEPS)
        cost = None if self.cost_per_1000 is None else known(float(self.cost_per_1000[k]))
        half = None if self.cost_half is None else known(float(self.cost_half[k]))
        return int(self.fallback[k]), cost, half


def margin_sums(margin: ArrayLike, is_served: ArrayLike, moved: ArrayLike) -> Floats:
    """What the curve is made of, shape (5, 101), by margin in hundredths; sums of parts of a log add up to those of the log.

    Rows: decisions, priced ones, those that the threshold would serve, and of these USD that falling back costs more, and its
    square. All arrays have shape (n,).

    Parameters
    ----------
    margin : [0, 1]; rows with NaN (one label) are left out.
    is_served : the threshold alone would follow the label.
    moved : USD that falling back costs more than the label's model, signed; NaN: not known.
    """
    m, d = np.asarray(margin, dtype=np.float64), np.asarray(moved, dtype=np.float64)
    served = np.asarray(is_served, dtype=bool)
    some = ~np.isnan(m)
    m, served, d = m[some], served[some], d[some]
    cost = np.where(served & ~np.isnan(d), d, 0.0)
    k = bins(m, STEPS)  # margin < j / 100 if and only if its bin is below j
    rows = (np.ones(len(m)), ~np.isnan(d), served, cost, cost * cost)
    return np.stack([np.bincount(k, weights=x, minlength=STEPS + 1) for x in rows], dtype=np.float64)


def margin_curve(sums: Floats) -> MarginCurve:
    """The curve from :func:`margin_sums`."""
    n, n_priced = int(sums[0].sum()), int(sums[1].sum())
    counts, cost, squares = np.hstack([np.zeros((3, 1)), np.cumsum(sums[2:, :-1], axis=1)])
    return MarginCurve(
        min_margin=np.arange(STEPS + 1) / STEPS,
        n=n,
        n_priced=n_priced,
        fallback=counts.astype(np.int64),
        fallback_share=counts / n if n else None,
        cost_per_1000=1000 * cost / n_priced if n_priced else None,
        cost_half=1000 * mean_half_width(n_priced, cost, squares) if n_priced else None,
    )
