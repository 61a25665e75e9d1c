"""Intervals of means and ratios from sums alone, and the grade of the tokens behind a figure."""

from __future__ import annotations

from typing import Any

import numpy as np

from router.types import Grade

Z95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""

_ROUNDING = 1e-13
"""Relative to the sums: some hundred times what doubles lose, and an interval of 3e-7 of the figure."""

Number = Any
"""A float or an array of them: the formulas below take both."""


def mean_half_width(n: Number, total: Number, squares: Number) -> Number:
    """Half the 95 % interval of a mean, from n, the sum and the sum of squares; NaN below two values.

    Notes
    -----
    ``z sqrt(s2 / n)`` with ``s2 = (sum x^2 - (sum x)^2 / n) / (n - 1)``, the textbook normal interval. It takes decisions
    as independent; where days differ much, it is too narrow.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = _above_rounding(squares - total * total / n, squares) / (n - 1)
        return np.where(np.greater(n, 1), Z95 * np.sqrt(variance / n), np.nan)


def ratio_half_width(
    n: Number, top: Number, bottom: Number, top_sq: Number, bottom_sq: Number, product: Number
) -> Number:
    """Half the 95 % interval of ``sum top / sum bottom``, from five sums; NaN below two values or over a sum of 0.

    Notes
    -----
    The delta method for a ratio R of means: ``se = sd(top_i - R bottom_i) / (sqrt(n) mean(bottom))``, where the residuals
    sum to 0, so their squares are ``top_sq - 2 R product + R^2 bottom_sq``.

    References
    ----------
    W. G. Cochran, Sampling Techniques (3rd ed., 1977), section 6.4.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = top / bottom
        squares = top_sq - 2 * ratio * product + ratio * ratio * bottom_sq
        residual = _above_rounding(squares, top_sq + ratio * ratio * bottom_sq) / (n - 1)
        half = Z95 * np.sqrt(residual / n) * n / np.abs(bottom)
        return np.where(np.greater(n, 1) & np.not_equal(bottom, 0), half, np.nan)


def _above_rounding(difference: Number, size: Number) -> Number:
    """A difference of sums that are as large as ``size``; 0 where nothing is left of it but rounding."""
    return np.where(difference > _ROUNDING * size, difference, 0.0)


def known(value: float) -> float | None:
    """The value, or None when it is NaN: the tables' way to say "not known"."""
    return None if np.isnan(value) else float(value)


def token_grade(n_priced: int, n_measured: int, n_assumed: int) -> Grade | None:
    """Weakest grade among the token counts behind a figure; None when nothing is priced.

    One assumed count makes the sum assumed; ``measured`` means that the provider reported every priced one.
    """
    if n_priced == 0:
        return None
    if n_assumed > 0:
        return "assumed"
    return "measured" if n_measured >= n_priced else "estimated"
