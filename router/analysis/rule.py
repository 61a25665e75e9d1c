"""The rule of :func:`router.policy.decide` on whole columns, in numpy: equal to it decision by decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router.errors import ScoresError
from router.policy import GRID, SCORE_TOLERANCE, Policy

CAUSES = ("routed", "low_confidence", "low_margin")
"""Names of the codes in :attr:`Choices.cause`."""


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """What the rule chose, one entry per decision.

    ``top`` and ``runner_up`` count the policy's labels from 0 (-1: none, with one label), ``margin`` is NaN with one label,
    ``cause`` counts :data:`CAUSES`, ``model`` holds names.
    """

    top: NDArray[np.int64]
    confidence: NDArray[np.float64]
    runner_up: NDArray[np.int64]
    margin: NDArray[np.float64]
    cause: NDArray[np.int64]
    is_fallback: NDArray[np.bool_]
    model: NDArray[Any]


def bins(values: ArrayLike, grid: int = GRID) -> NDArray[np.int64]:
    """Largest k in 0..grid with ``k / grid <= value`` in doubles, for each value; see ``confidence_bin``.

    Multiplying and flooring alone is wrong next to grid points (0.29 x 100 is 28.999...), so the result is corrected by
    one step where the division says so.

    >>> bins([0.0, 0.29, 0.5499999, 1.0]).tolist()
    [0, 2900, 5499, 10000]
    >>> bins([0.29], grid=100).tolist()
    [29]
    """
    value = np.asarray(values, dtype=np.float64)
    k = np.clip(np.floor(value * grid), 0, grid)
    up = (k < grid) & ((k + 1) / grid <= value)
    down = ~up & (k > 0) & (k / grid > value)
    return np.asarray(k + up - down, dtype=np.int64)


def confidence_bins(confidence: ArrayLike) -> NDArray[np.int64]:
    """Bin of each confidence on the 1e-4 grid: ``router.policy.confidence_bin``, in numpy."""
    return bins(confidence, GRID)


def fallback_mask(confidence: ArrayLike, threshold: ArrayLike) -> NDArray[np.bool_]:
    """Whether each decision falls back: ``confidence < threshold``, so equality is served. Thresholds may differ."""
    return np.asarray(np.asarray(confidence, dtype=np.float64) < np.asarray(threshold, dtype=np.float64))


def decide_many(scores: ArrayLike, policy: Policy) -> Choices:
    """Decide on n rows of scores at once, a column per label in the policy's order.

    Raises
    ------
    ScoresError
        The matrix has another number of columns, or a value that is not a number in [0, 1] (1e-9 over is clipped).
    """
    matrix = np.asarray(scores, dtype=np.float64)
    count = len(policy.labels)
    if matrix.ndim != 2 or matrix.shape[1] != count:
        raise ScoresError(
            f"scores have the shape {matrix.shape}, expected one column for each of {count} labels"
        )
    wrong = ~((matrix >= 0.0) & (matrix <= 1.0 + SCORE_TOLERANCE))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ScoresError(
            f"the score of label {policy.label_names[column]!r} in row {row} is {float(matrix[row, column])!r}, expected "
            "a number in [0, 1]"
        )
    matrix = np.minimum(matrix, 1.0)
    rows = np.arange(len(matrix))
    top = np.argmax(matrix, axis=1)  # the first of equals, as the scalar rule takes the label listed first
    confidence = matrix[rows, top]
    if count == 1:
        runner_up = np.full(len(matrix), -1)
        margin = np.full(len(matrix), np.nan)
    else:
        rest = matrix.copy()
        rest[rows, top] = -1.0
        runner_up = np.argmax(rest, axis=1)
        margin = confidence - rest[rows, runner_up]
    thresholds = np.array([policy.threshold_for(name) for name in policy.label_names])
    low_confidence = fallback_mask(confidence, thresholds[top])
    low_margin = ~low_confidence & (margin < (0.0 if policy.min_margin is None else policy.min_margin))
    cause = np.where(low_confidence, 1, np.where(low_margin, 2, 0))
    models = np.array([label.model for label in policy.labels], dtype=object)
    return Choices(
        top=top,
        confidence=confidence,
        runner_up=runner_up,
        margin=margin,
        cause=cause,
        is_fallback=cause > 0,
        model=np.where(cause > 0, policy.fallback_model, models[top]),
    )
