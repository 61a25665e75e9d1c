"""How sure the classifier was: shares below a confidence and histograms, per label, from cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from router.analysis.cells import Counts, DenseCells, Floats
from router.analysis.sweep import grid_index
from router.policy import GRID, Policy


@dataclass(frozen=True, slots=True, eq=False)
class ConfidenceCurve:
    """Share of a label's decisions below each confidence of ``confidence``; empty arrays when it has none.

    ``share_below`` at a threshold is the label's fallback share there: equality is not below.
    """

    label: str
    n: int
    confidence: Floats
    share_below: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts per label (rows, in the policy's order) and interval [edge, next edge); the last one holds 1 too."""

    labels: tuple[str, ...]
    edges: Floats
    counts: Counts


def confidence_curves(
    cells: pd.DataFrame, policy: Policy, *, step: float = 0.001
) -> tuple[ConfidenceCurve, ...]:
    """Compute the empirical distribution of each label's confidence at multiples of ``step``, exact at each.

    ``step`` is a multiple of 1e-4 that divides 1. Example: confidences 0.3, 0.5, 0.5, 0.9 have a share below 0.5 of 0.25.
    """
    stride = _stride(step)
    dense = DenseCells(cells, policy)
    below = dense.below(dense.n)[:, ::stride]
    grid = np.arange(0, GRID + 1, stride) / GRID
    curves = []
    for i, name in enumerate(policy.label_names):
        n = int(dense.n[i].sum())
        none = np.empty(0)
        curves.append(ConfidenceCurve(name, n, grid if n else none, below[i] / n if n else none))
    return tuple(curves)


def confidence_histogram(cells: pd.DataFrame, policy: Policy, *, width: float = 0.02) -> Histogram:
    """Count decisions per label and interval of confidence; ``width`` is a multiple of 1e-4 that divides 1."""
    stride = _stride(width)
    dense = DenseCells(cells, policy)
    counts = dense.n[:, :GRID].reshape(len(policy.labels), GRID // stride, stride).sum(axis=2)
    counts[:, -1] += dense.n[:, GRID]
    return Histogram(policy.label_names, np.arange(0, GRID + 1, stride) / GRID, counts)


def share_below(
    cells: pd.DataFrame, policy: Policy, threshold: float, label: str | None = None
) -> float | None:
    """Share of decisions (of one label, or of all) with a confidence below a threshold of the grid; None: no decisions.

    Raises
    ------
    ValueError
        The threshold is off the grid.
    KeyError
        The policy has no such label.
    """
    k = grid_index(threshold)
    counts = DenseCells(cells, policy).n
    if label is not None:
        if label not in policy.by_name:
            raise KeyError(f"no label {label!r}; known: {', '.join(policy.label_names)}")
        counts = counts[[policy.label_names.index(label)]]
    total = int(counts.sum())
    return int(counts[:, :k].sum()) / total if total else None


def _stride(width: float) -> int:
    steps = round(width * GRID)
    if steps < 1 or steps / GRID != width or GRID % steps:
        raise ValueError(f"found a width of {width!r}, expected a multiple of 0.0001 that divides 1, as 0.02")
    return steps
