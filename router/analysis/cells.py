"""Cells in dense form: one row of bins per label, ready for running sums over the threshold."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from router.analysis.tables import BINS, CELLS, columns
from router.policy import GRID, Policy

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
_Values = TypeVar("_Values", Floats, Counts)


class DenseCells:
    """Cells as one row of 10,001 bins per label of the policy, with totals. Money is USD, over priced decisions.

    Attributes
    ----------
    n, n_priced : decisions per label and bin. ``n_left_out``: those whose label is not one of the policy.
    moved, moved_sq, moved_base : sums of d = fallback cost - label cost, of d^2 and of d x baseline cost.
    gain_sq : sums of fallback cost^2 - label cost^2.
    label_cost, label_sq, label_base : totals were every label followed, their squares, products with the baseline.
    classifier : total; ``classifier_known`` is False when a part of it is not known and left out.
    """

    def __init__(self, cells: pd.DataFrame, policy: Policy) -> None:
        table = columns(cells, CELLS)
        inside: Any
        place = {name: i for i, name in enumerate(policy.label_names)}
        codes, names = pd.factorize(table["label"])
        # the last slot takes rows without a place: labels of other policies
        row = np.array([place.get(name, -1) for name in names] + [-1], dtype=np.int64)[codes]
        found = row >= 0
        self.n_left_out = int(table["n"][~found].sum())
        inside = slice(None) if self.n_left_out == 0 and found.all() else found  # a slice copies nothing
        shape = (len(policy.labels), GRID + 1)
        index = row[inside] * (GRID + 1) + table["bin"][inside]

        def dense(name: str) -> Floats:
            weights = table[name][inside]
            sums = np.bincount(index, weights=weights, minlength=shape[0] * shape[1])
            return sums.astype(np.float64, copy=False).reshape(shape)

        def total(name: str) -> float:
            return float(table[name][inside].sum())

        self.n = dense("n").astype(np.int64)
        self.n_priced = dense("n_priced").astype(np.int64)
        label, fallback, product = dense("label_cost"), dense("fallback_cost"), dense("label_fallback")
        label_sq, fallback_sq = dense("label_cost_sq"), dense("fallback_cost_sq")
        self.moved = fallback - label
        self.gain_sq = fallback_sq - label_sq
        self.moved_sq = np.maximum(fallback_sq - 2 * product + label_sq, 0.0)
        self.moved_base = dense("fallback_baseline") - dense("label_baseline")
        for i, item in enumerate(policy.labels):
            if item.model == policy.fallback_model:  # no rounding noise where nothing can change
                for values in (self.moved, self.gain_sq, self.moved_sq, self.moved_base):
                    values[i] = 0.0
        self.label_cost, self.label_sq = float(label.sum()), float(label_sq.sum())
        self.label_base = total("label_baseline")
        self.baseline, self.baseline_sq = total("baseline_cost"), total("baseline_cost_sq")
        classifier = table["classifier_cost"][inside]
        unknown = np.isnan(classifier) & (table["n_priced"][inside] > 0)
        some = "n_classifier_unknown" in table and bool(table["n_classifier_unknown"][inside].any())
        self.classifier_known = not (bool(unknown.any()) or some)
        self.classifier = float(np.nansum(classifier))
        self.n_measured, self.n_assumed = int(total("n_measured")), int(total("n_assumed"))

    @staticmethod
    def below(values: _Values) -> _Values:
        """Sum over the bins below each threshold."""
        sums = np.zeros_like(values)
        np.cumsum(values[:, :-1], axis=1, out=sums[:, 1:])
        return sums


def dense_counts(bins: pd.DataFrame, policy: Policy) -> Counts:
    """Decisions by label of the policy and bin, shape (labels, 10,001), of a table of bins or cells."""
    table = columns(bins, BINS)
    place = {name: i for i, name in enumerate(policy.label_names)}
    codes, names = pd.factorize(table["label"])
    row = np.array([place.get(name, -1) for name in names] + [-1], dtype=np.int64)[codes]
    n = np.zeros((len(policy.labels), GRID + 1), dtype=np.int64)
    np.add.at(n, (row[row >= 0], table["bin"][row >= 0]), table["n"][row >= 0])
    return n


def at_own(sums: _Values, own: list[int | None]) -> _Values:
    """Hold the running sums of labels that have a threshold of their own at it (its bin, None: none)."""
    if all(k is None for k in own):
        return sums
    held = sums.copy()
    for i, k in enumerate(own):
        if k is not None:
            held[i] = sums[i, k]
    return held
