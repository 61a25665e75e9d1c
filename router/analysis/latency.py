"""How long answers would take at each threshold: the mix of the models' own logged times, by who would answer.

A projection, not a measurement: it takes each model to be as quick on prompts that it would get as on those that it got.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from router.analysis.cells import Floats
from router.analysis.sweep import Sweep, grid_index
from router.analysis.tables import CALLS, columns


@dataclass(frozen=True, slots=True)
class ModelTimes:
    """Milliseconds of a model's logged calls; None where none was timed. The quantiles are within 1 %."""

    model: str
    n_calls: int
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True, slots=True)
class MixTimes:
    """Projected milliseconds at a threshold, resting on ``n_calls``; None where a model that would answer was never timed.

    ``never_timed`` names those models.
    """

    threshold: float
    n_calls: int
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    never_timed: tuple[str, ...]


class Latency:
    """The times of the models that a curve's thresholds send decisions to.

    Attributes
    ----------
    models : times of each, the fallback model first.
    mean_ms : projected mean at each of the curve's thresholds; NaN where a model that would answer was never timed.
    """

    def __init__(self, curve: Sweep, calls: pd.DataFrame) -> None:
        table = columns(calls, CALLS)
        names = tuple(dict.fromkeys((curve.fallback_model, *(x.model for x in curve.labels))))
        place = {name: i for i, name in enumerate(names)}
        row = np.array([place.get(x, -1) for x in table["model"]], dtype=np.int64)
        self._ms, column = np.unique(table["ms"], return_inverse=True)
        self._n = np.zeros((len(names), len(self._ms)))
        mine = row >= 0
        np.add.at(self._n, (row[mine], column[mine]), table["n"][mine])
        self._calls = self._n.sum(axis=1)
        total = np.bincount(row[mine], weights=table["total_ms"][mine], minlength=len(names))
        mean = np.divide(total, self._calls, out=np.full(len(names), np.nan), where=self._calls > 0)
        self._curve, self._names = curve, names
        self._answers = np.zeros((len(names), len(curve.thresholds)))
        for label in curve.labels:
            fell = label.fallback
            if label.threshold is not None:
                fell = np.full_like(fell, fell[grid_index(label.threshold)])
            self._answers[place[label.model]] += label.n - fell
            self._answers[0] += fell
        parts = np.where(self._answers > 0, self._answers * mean[:, None], 0.0)
        self.mean_ms: Floats = (
            parts.sum(axis=0) / curve.n if curve.n else np.full(len(curve.thresholds), np.nan)
        )
        self.models = tuple(
            ModelTimes(
                name,
                int(self._calls[i]),
                float(mean[i]) if self._calls[i] else None,
                *self._quantiles(self._n[i]),
            )
            for i, name in enumerate(names)
        )

    def at(self, threshold: float) -> MixTimes:
        """The mix at a threshold: each model's times, weighted by how many decisions it would answer.

        Raises
        ------
        ValueError
            The threshold is not on the 1e-4 grid; names its neighbours.
        """
        k = grid_index(threshold)
        answers = self._answers[:, k]
        asked = answers > 0
        never = tuple(x for x, there in zip(self._names, asked & (self._calls == 0), strict=True) if there)
        n_calls = int(self._calls[asked].sum())
        if never or not asked.any():
            return MixTimes(threshold, n_calls, None, None, None, never)
        weights = (answers[asked] / self._calls[asked]) @ self._n[asked]
        return MixTimes(threshold, n_calls, float(self.mean_ms[k]), *self._quantiles(weights), never)

    def _quantiles(self, weights: Floats) -> tuple[float | None, float | None]:
        if not weights.any():
            return None, None
        sums = np.cumsum(weights)
        # a rounding error below the line must not move it to the next time
        low, high = (float(self._ms[np.searchsorted(sums, q * sums[-1] * (1 - 1e-12))]) for q in (0.5, 0.95))
        return low, high
