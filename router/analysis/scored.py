"""Decisions with all their scores, in arrays: what replays, policy diffs and questions about single labels are answered from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from router.analysis.calibration import is_simplex
from router.analysis.cells import Floats
from router.analysis.rule import Choices, decide_many
from router.policy import Policy
from router.types import Label

How = Literal["sum", "max"]

COLUMNS = (
    "id",
    "decided_at",
    "model_chosen",
    "cause",
    "policy",
    "prompt_chars",
    "source",
    "propensity",
    "classifier_cost",
)
SCORE, COST, NEW_COST = "score:", "cost:", "new_cost:"
"""Prefixes of the columns with a label's score, with a model's cost in USD, and with that under another policy's prices."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Decisions that have a score for every label of ``labels``.

    Attributes
    ----------
    scores : shape (n, labels), [0, 1]; nothing is assumed about their sum.
    costs : USD of each decision under each model of ``models``, shape (n, models); NaN: not known.
    new_costs : the same under another policy's prices; None: the same prices.
    meta : the other COLUMNS, one row per decision; ``classifier_cost`` in USD, NaN: not known. ``n_left_out``: decisions that lack a score.
    """

    labels: tuple[str, ...]
    models: tuple[str, ...]
    scores: Floats
    costs: Floats
    meta: pd.DataFrame
    n_left_out: int
    new_costs: Floats | None = None

    @classmethod
    def from_table(cls, table: pd.DataFrame, labels: Sequence[str], models: Sequence[str]) -> Scored:
        """Read a table with COLUMNS, ``score:<label>`` and ``cost:<model>``; rows without a score for each label are left out.

        Other prices are read where the table has ``new_cost:<model>`` for each model.

        Raises
        ------
        ValueError
            A column is missing.
        """
        wanted = [*COLUMNS, *(SCORE + x for x in labels), *(COST + x for x in models)]
        missing = [name for name in wanted if name not in table.columns]
        if missing:
            raise ValueError(f"decisions: no column {', '.join(missing)}")
        scores = table[[SCORE + x for x in labels]].to_numpy(dtype=np.float64, na_value=np.nan)
        whole = ~np.isnan(scores).any(axis=1)
        costs = table[[COST + x for x in models]].to_numpy(dtype=np.float64, na_value=np.nan)
        others = [NEW_COST + x for x in models]
        new_costs = None
        if others and all(name in table.columns for name in others):
            new_costs = table[others].to_numpy(dtype=np.float64, na_value=np.nan)[whole]
        return cls(
            labels=tuple(labels),
            models=tuple(models),
            scores=scores[whole],
            costs=costs[whole],
            meta=table.loc[whole, list(COLUMNS)].reset_index(drop=True),
            n_left_out=int(np.sum(~whole)),
            new_costs=new_costs,
        )

    def __len__(self) -> int:
        return len(self.scores)

    def of(self, rows: NDArray[np.bool_]) -> Scored:
        """The decisions that a mask picks."""
        return replace(
            self,
            scores=self.scores[rows],
            costs=self.costs[rows],
            new_costs=None if self.new_costs is None else self.new_costs[rows],
            meta=self.meta[rows].reset_index(drop=True),
        )

    def decide(self, policy: Policy) -> Choices:
        """What a policy with these labels, in any order, chooses.

        Raises
        ------
        ValueError
            It has a label that these decisions have no score for.
        """
        place = {name: i for i, name in enumerate(self.labels)}
        unknown = [name for name in policy.label_names if name not in place]
        if unknown:
            raise ValueError(
                f"no scores for label {', '.join(unknown)}; the log has {', '.join(self.labels)}. Merge labels, or classify anew"
            )
        return decide_many(self.scores[:, [place[x] for x in policy.label_names]], policy)

    def cost_of(self, model: NDArray[Any], *, new: bool = False) -> Floats:
        """USD of each decision under the model named for it; NaN where it is not known. ``new``: at the other policy's prices."""
        costs = self.new_costs if new and self.new_costs is not None else self.costs
        place = {name: i for i, name in enumerate(self.models)}
        column = np.array([place.get(x, -1) for x in model.tolist()], dtype=np.int64)
        found = np.where(
            column >= 0, costs[np.arange(len(column)), column] if self.models else np.nan, np.nan
        )
        return np.asarray(found, dtype=np.float64)

    def classifier_costs(self) -> Floats:
        """USD that the classifier was paid for each decision; NaN where it is not known."""
        return np.asarray(self.meta["classifier_cost"].to_numpy(dtype=np.float64, na_value=np.nan))

    @property
    def natural_merge(self) -> How:
        """How scores of two labels become one: "sum" where they sum to 1, else "max"."""
        return "sum" if is_simplex(self.scores) else "max"

    def merged(self, merges: Mapping[str, Sequence[str]], how: How | None = None) -> Scored:
        """The same decisions with labels made one: each new name takes the place of the first of its labels.

        ``how``: "sum" for scores that share one unit of belief, "max" for independent ones; None tells by whether they sum to 1.

        Raises
        ------
        ValueError
            A label is unknown, or stands in two merges.
        """
        gone = [x for parts in merges.values() for x in parts]
        unknown = [x for x in gone if x not in self.labels]
        if unknown or len(set(gone)) != len(gone):
            raise ValueError(
                f"merge: found {', '.join(unknown or gone)}, expected each of {', '.join(self.labels)} at most once"
            )
        way = how or self.natural_merge
        first = {parts[0]: name for name, parts in merges.items()}
        names, columns = [], []
        for i, label in enumerate(self.labels):
            if label in first:
                part = self.scores[:, [self.labels.index(x) for x in merges[first[label]]]]
                names.append(first[label])
                columns.append(np.minimum(part.sum(axis=1), 1.0) if way == "sum" else part.max(axis=1))
            elif label not in gone:
                names.append(label)
                columns.append(self.scores[:, i])
        return replace(self, labels=tuple(names), scores=np.stack(columns, axis=1))


def in_parts(rows: Scored | Iterable[Scored]) -> Iterable[Scored]:
    """Decisions that came whole, or in parts because a log of them does not fit into memory."""
    return (rows,) if isinstance(rows, Scored) else rows


def merged_policy(policy: Policy, merges: Mapping[str, Sequence[str]]) -> Policy:
    """A policy whose labels are made one as in :meth:`Scored.merged`.

    A new label has the model and rubric of the first of its labels. A line that a merged label had of its own belonged to that label: the new one follows the policy's.
    """
    first = {parts[0]: name for name, parts in merges.items()}
    gone = {x for parts in merges.values() for x in parts}
    labels: list[Label] = []
    for label in policy.labels:
        if label.name in first:
            labels.append(replace(label, name=first[label.name], threshold=None))
        elif label.name not in gone:
            labels.append(label)
    return replace(policy, labels=tuple(labels))
