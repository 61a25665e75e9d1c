"""What people judged, in arrays; and the one kind of it that may feed a promise: a uniform random audit sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from router.analysis.cells import Floats

Loss = Literal["label", "answer"]
"""What a judgement of "wrong" means: the top label is wrong, or the answer of the label's model is not adequate."""

LOSSES: tuple[Loss, ...] = ("label", "answer")

COLUMNS = (
    "label",
    "confidence",
    "verdict",
    "queue",
    "inclusion_probability",
    "threshold",
    "is_served",
    "true_label",
)
"""A table of judgements: one row per judged decision, verdict "right" or "wrong"; see :class:`Judgements`."""


@dataclass(frozen=True, slots=True, eq=False)
class Judgements:
    """Judged decisions, one entry each.

    Attributes
    ----------
    label : top label. ``confidence``: its score, [0, 1].
    loss : whether it was judged wrong.
    queue : one of QUEUES, or None: nobody drew it (a complaint, a thumb), so that it proves nothing about others.
    inclusion : probability with which it was drawn, NaN where it was not drawn.
    threshold : the line that was in force. ``is_served``: the label's own model answered.
    true_label : what the label should have been, None where nobody said.
    """

    label: NDArray[Any]
    confidence: Floats
    loss: NDArray[np.bool_]
    queue: NDArray[Any]
    inclusion: Floats
    threshold: Floats
    is_served: NDArray[np.bool_]
    true_label: NDArray[Any]

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> Judgements:
        """Read a table with COLUMNS; judgements that are neither right nor wrong, and rows without a confidence, are left out.

        Raises
        ------
        ValueError
            A column is missing, or a confidence is outside [0, 1].
        """
        missing = [name for name in COLUMNS if name not in table.columns]
        if missing:
            raise ValueError(f"judgements: no column {', '.join(missing)}; expected {', '.join(COLUMNS)}")
        usable = (
            table["verdict"].isin(("right", "wrong")) & table["confidence"].notna() & table["label"].notna()
        )
        part = table[usable]
        confidence = part["confidence"].to_numpy(dtype=np.float64)
        if confidence.size and not 0.0 <= confidence.min() <= confidence.max() <= 1.0:
            raise ValueError(
                f"judgements.confidence: found {confidence.min()!r} to {confidence.max()!r}, expected numbers in [0, 1]"
            )
        return cls(
            label=_texts(part["label"]),
            confidence=confidence,
            loss=(part["verdict"] == "wrong").to_numpy(dtype=bool),
            queue=_texts(part["queue"]),
            inclusion=part["inclusion_probability"].to_numpy(dtype=np.float64, na_value=np.nan),
            threshold=part["threshold"].to_numpy(dtype=np.float64, na_value=np.nan),
            is_served=part["is_served"].fillna(False).to_numpy(dtype=bool),
            true_label=_texts(part["true_label"]),
        )

    def of(self, rows: NDArray[np.bool_]) -> Judgements:
        """The judgements that a mask picks."""
        return Judgements(**{name: getattr(self, name)[rows] for name in Judgements.__dataclass_fields__})

    @property
    def audit(self) -> Audit:
        """Those of the audit queue."""
        mine = self.of(self.queue == "audit")
        return Audit(
            label=mine.label,
            confidence=mine.confidence,
            loss=mine.loss,
            queue=mine.queue,
            threshold=mine.threshold,
            is_served=mine.is_served,
        )

    def __len__(self) -> int:
        return len(self.confidence)


class Audit:
    """A uniform random sample of decisions, judged: all that a promise may rest on.

    Binomial p-values hold for uniform draws alone. A queue that is sorted by doubt overstates the risk several times, and
    complaints are self-selected; so this type refuses rows of any other queue.

    Parameters
    ----------
    label, confidence, loss : as in :class:`Judgements`.
    queue : the queue of each row; "audit" for every one.
    threshold, is_served : as in :class:`Judgements`; left out: the line was at 0 and every decision was served.

    Raises
    ------
    ValueError
        A row comes from another queue, the arrays differ in length, or a confidence is outside [0, 1].
    """

    __slots__ = ("confidence", "is_served", "label", "loss", "threshold")

    def __init__(
        self,
        *,
        label: ArrayLike,
        confidence: ArrayLike,
        loss: ArrayLike,
        queue: ArrayLike,
        threshold: ArrayLike | None = None,
        is_served: ArrayLike | None = None,
    ) -> None:
        self.label = np.asarray(label, dtype=object)
        self.confidence = np.asarray(confidence, dtype=np.float64)
        self.loss = np.asarray(loss, dtype=bool)
        n = len(self.confidence)
        self.threshold = np.zeros(n) if threshold is None else np.asarray(threshold, dtype=np.float64)
        self.is_served = np.ones(n, dtype=bool) if is_served is None else np.asarray(is_served, dtype=bool)
        drawn = np.asarray(queue, dtype=object)
        for name, values in (("label", self.label), ("loss", self.loss), ("queue", drawn)):
            if values.shape != (n,):
                raise ValueError(
                    f"audit: {name} has the shape {values.shape}, expected ({n},), as confidence has"
                )
        if n and not bool(np.all((self.confidence >= 0) & (self.confidence <= 1))):
            raise ValueError("audit: a confidence is not a number in [0, 1]")
        others = sorted({str(x) for x in drawn[drawn != "audit"]})
        if others:
            raise ValueError(
                f"audit: {int(np.sum(drawn != 'audit'))} rows come from queue {', '.join(others)}; only rows that were drawn "
                "uniformly (queue 'audit') can carry a promise"
            )

    def of(self, rows: NDArray[np.bool_]) -> Audit:
        """The rows that a mask picks; the mask must not look at ``loss``."""
        return Audit(
            label=self.label[rows],
            confidence=self.confidence[rows],
            loss=self.loss[rows],
            queue=np.full(int(np.sum(rows)), "audit", dtype=object),
            threshold=self.threshold[rows],
            is_served=self.is_served[rows],
        )

    def __len__(self) -> int:
        return len(self.confidence)


def _texts(values: pd.Series) -> NDArray[Any]:
    found: NDArray[Any] = values.astype(object).where(values.notna(), None).to_numpy(dtype=object)
    return found
