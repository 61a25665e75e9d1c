"""More about labels that collide, from all scores of each decision: what goes together, what merging would do, what to split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.analysis.cells import Floats
from router.analysis.overlap import CLOSE
from router.analysis.scored import How, Scored, merged_policy
from router.policy import Policy

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
MIN_GROUP = 30
"""Decisions that each side of a suggested split needs."""

MIN_SHARE = 0.2
"""Share of a label's decisions that each side of a suggested split needs."""

LEANS = 1 / 3
"""A decision leans to its runner-up when that has at least this share of the best score: beyond, second place means nothing."""

EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class MergeEffect:
    """What fallback, cost and closeness become were two labels one. None where not measured.

    ``how``: "sum" (scores that sum to 1) or "max". ``model``: who would answer the new label: the model of the more frequent one.
    Costs are USD per 1,000 decisions that are priced before and after; ``cost_change`` is after minus before.
    """

    first: str
    second: str
    how: How
    model: str
    n: int
    n_priced: int
    fallback_before: float | None
    fallback_after: float | None
    close_before: float | None
    close_after: float | None
    cost_before: float | None
    cost_after: float | None

    @property
    def cost_change(self) -> float | None:
        """USD per 1,000; negative: merging saves."""
        return (
            None
            if self.cost_before is None or self.cost_after is None
            else self.cost_after - self.cost_before
        )


@dataclass(frozen=True, slots=True)
class Split:
    """A label that holds two kinds of prompts, told apart by which other label comes second.

    ``n_towards`` decisions of ``label`` lean to ``towards`` (their runner-up), ``n_other`` to ``other``; ``examples`` and
    ``other_examples`` are ids of those with the smallest margins on each side.
    """

    label: str
    n: int
    towards: str
    n_towards: int
    other: str
    n_other: int
    examples: tuple[str, ...]
    other_examples: tuple[str, ...]


def coactivation(scores: Floats, tau: float) -> Floats:
    """C[a, b] = P(s_a >= tau | s_b >= tau), shape (labels, labels): how often a is on where b is. NaN where b never is.

    Not symmetric: a narrow label inside a broad one gives near 1 one way and little the other.
    """
    on = (scores >= tau).astype(np.float64)
    count = on.sum(axis=0)
    both = on.T @ on
    found: Floats = np.divide(both, count, out=np.full_like(both, np.nan), where=count > 0)
    return found


def bhattacharyya(scores: Floats) -> Floats:
    """Bhattacharyya coefficient of each two label columns, sum sqrt(a b) / sqrt(sum a sum b), in [0, 1]; NaN for a column of 0.

    References
    ----------
    A. Bhattacharyya, On a measure of divergence between two multinomial populations, Sankhya 7 (1946).
    """
    roots = np.sqrt(scores)
    size = np.sqrt(scores.sum(axis=0))
    scale = np.outer(size, size)
    found: Floats = np.divide(roots.T @ roots, scale, out=np.full(scale.shape, np.nan), where=scale > 0)
    return found


def order_by_likeness(likeness: Floats) -> list[int]:
    """Places of the labels so that like ones stand side by side: the order of the second eigenvector of the graph Laplacian.

    The first label stands in the first half, so that the order does not flip between runs.

    References
    ----------
    Atkins, Boman and Hendrickson, A spectral algorithm for seriation, SIAM J. Computing 28 (1998).
    """
    count = len(likeness)
    if count < 3:
        return list(range(count))
    weight = np.nan_to_num(likeness, nan=0.0)
    np.fill_diagonal(weight, 0.0)
    laplacian = np.diag(weight.sum(axis=1)) - weight
    vector = np.linalg.eigh(laplacian)[1][:, 1]
    order: list[int] = np.argsort(np.round(vector, 9), kind="stable").tolist()
    return order if order.index(0) < count / 2 else order[::-1]


def margin_quantiles(scores: Floats) -> tuple[tuple[float, float], ...]:
    """Quantiles of the margin between the two best scores as (share, margin); empty with one label or no decision."""
    margin = _margins(scores)
    return (
        tuple((q, float(x)) for q, x in zip(QUANTILES, np.quantile(margin, QUANTILES), strict=True))
        if len(margin)
        else ()
    )


def score_sums(scores: Floats) -> tuple[float, float, float] | None:
    """5, 50 and 95 % quantiles of the sum of a decision's scores: 1 says distribution, else they are independent."""
    if len(scores) == 0:
        return None
    low, middle, high = np.quantile(scores.sum(axis=1), [0.05, 0.5, 0.95])
    return float(low), float(middle), float(high)


def merge_effect(
    rows: Scored, policy: Policy, first: str, second: str, *, how: How | None = None, bound: float = CLOSE
) -> MergeEffect:
    """Replay the decisions with two labels made one; ``how`` None: the sum where scores sum to 1, else the larger one.

    Raises
    ------
    ValueError
        A label is not one of the policy's.
    """
    for name in (first, second):
        if name not in policy.by_name:
            raise ValueError(f"merge: no label {name!r}; known: {', '.join(policy.label_names)}")
    before = rows.decide(policy)
    counts = [int(np.sum(before.top == policy.label_names.index(x))) for x in (first, second)]
    kept = (first, second)[counts[1] > counts[0]]
    model = policy.by_name[kept].model
    merges, way = {first: (first, second)}, how or rows.natural_merge
    after = rows.merged(merges, way).decide(merged_policy(policy, merges, {first: model}))
    cost_before, cost_after = rows.cost_of(before.model), rows.cost_of(after.model)
    both = ~np.isnan(cost_before) & ~np.isnan(cost_after)
    n, n_priced = len(rows), int(both.sum())

    def close(margin: Floats) -> float | None:
        known = margin[~np.isnan(margin)]
        return float(np.mean(known < bound)) if len(known) else None

    return MergeEffect(
        first=first,
        second=second,
        how=way,
        model=model,
        n=n,
        n_priced=n_priced,
        fallback_before=float(before.is_fallback.mean()) if n else None,
        fallback_after=float(after.is_fallback.mean()) if n else None,
        close_before=close(before.margin),
        close_after=close(after.margin),
        cost_before=1000 * float(cost_before[both].mean()) if n_priced else None,
        cost_after=1000 * float(cost_after[both].mean()) if n_priced else None,
    )


def split_suggestions(rows: Scored, policy: Policy) -> tuple[Split, ...]:
    """Labels whose decisions lean to two different other labels, 20 % and 30 decisions each at least; largest first.

    A decision leans to its runner-up when that has a third of the best score or more.

    A hint where to look, not a finding: read the examples of both sides and see whether one rubric covers two things.
    """
    if len(policy.labels) < 3 or len(rows) == 0:
        return ()
    choices = rows.decide(policy)
    leans = choices.confidence - choices.margin >= LEANS * choices.confidence
    ids = rows.meta["id"].to_numpy(dtype=object)
    found = []
    for i, name in enumerate(policy.label_names):
        mine = np.flatnonzero(choices.top == i)
        sides = np.bincount(choices.runner_up[mine[leans[mine]]], minlength=len(policy.labels))
        order = np.argsort(-sides, kind="stable")[:2]
        least = max(MIN_GROUP, MIN_SHARE * len(mine))
        if sides[order[1]] < least:
            continue
        examples = []
        for side in order.tolist():
            part = mine[leans[mine] & (choices.runner_up[mine] == side)]
            nearest = part[np.argsort(choices.margin[part], kind="stable")][:EXAMPLES]
            examples.append(tuple(str(x) for x in ids[nearest]))
        a, b = (policy.label_names[k] for k in order.tolist())
        found.append(
            Split(name, len(mine), a, int(sides[order[0]]), b, int(sides[order[1]]), examples[0], examples[1])
        )
    return tuple(sorted(found, key=lambda x: (-x.n, x.label)))


def _margins(scores: Floats) -> Floats:
    if scores.shape[1] < 2:
        return np.empty(0)
    top = np.partition(scores, -2, axis=1)[:, -2:]
    return np.asarray(top[:, 1] - top[:, 0])
