"""More about labels that collide, from all scores of each decision: what goes together, what merging would do, what to split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.analysis.cells import Floats
from router.analysis.overlap import CLOSE
from router.analysis.scored import How, Scored, merged_policy
from router.policy import Policy

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
FINE = 10_000
"""Margins and sums of scores are counted in steps of 1/10,000."""

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

    ``how``: "sum" (scores that sum to 1) or "max". ``kept``: the more frequent of the two labels (of equals the first), whose
    model and place the new one has, as in :func:`~router.analysis.scored.merged_policy` when it is named first. ``model``: that
    model. Costs are USD per 1,000 decisions that are priced before and after; ``cost_change`` is after minus before.
    """

    first: str
    second: str
    how: How
    kept: str
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
    def names(self) -> tuple[str, str]:
        """Both labels, the one whose model answers first: the order in which ``--merge`` gives this effect."""
        return (self.first, self.second) if self.kept == self.first else (self.second, self.first)

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


class ScoreSums:
    """What the scores of decisions add up to, part by part: which labels are on together, alike and close.

    Nothing is assumed about what scores sum to. ``tau``: from which score on a label counts as on.
    """

    def __init__(self, n_labels: int, tau: float) -> None:
        self.tau, self.n_labels, self.n = tau, n_labels, 0
        self._both = np.zeros((n_labels, n_labels))
        self._roots = np.zeros((n_labels, n_labels))
        self._size = np.zeros(n_labels)
        self._margins = np.zeros(FINE + 1, dtype=np.int64)
        self._totals = np.zeros(n_labels * FINE + 1, dtype=np.int64)

    def add(self, scores: Floats) -> None:
        """Count more decisions, shape (n, labels)."""
        on, roots, total = (scores >= self.tau).astype(np.float64), np.sqrt(scores), scores.sum(axis=1)
        self.n += len(scores)
        self._both += on.T @ on
        self._roots += roots.T @ roots
        self._size += scores.sum(axis=0)
        self._margins += np.bincount(_rounded(_margins(scores)), minlength=FINE + 1)
        self._totals += np.bincount(_rounded(total), minlength=len(self._totals))[: len(self._totals)]

    def coactivation(self) -> Floats:
        """C[a, b] = P(s_a >= tau | s_b >= tau), shape (labels, labels): how often a is on where b is. NaN where b never is.

        Not symmetric: a narrow label inside a broad one gives near 1 one way and little the other.
        """
        count = np.diag(self._both)
        found: Floats = np.divide(self._both, count, out=np.full_like(self._both, np.nan), where=count > 0)
        return found

    def bhattacharyya(self) -> Floats:
        """Bhattacharyya coefficient of each two label columns, sum sqrt(a b) / sqrt(sum a sum b), in [0, 1]; NaN for a column of 0.

        References
        ----------
        A. Bhattacharyya, On a measure of divergence between two multinomial populations, Sankhya 7 (1946).
        """
        size = np.sqrt(self._size)
        scale = np.outer(size, size)
        found: Floats = np.divide(self._roots, scale, out=np.full(scale.shape, np.nan), where=scale > 0)
        return found

    def margin_quantiles(self) -> tuple[tuple[float, float], ...]:
        """Margins between the two best scores, to 0.0001, as (share of decisions at or below, margin); empty without one."""
        return tuple((q, _quantile(self._margins, q)) for q in QUANTILES) if self._margins.any() else ()

    def score_sums(self) -> tuple[float, float, float] | None:
        """5, 50 and 95 % quantiles of the sum of a decision's scores, to 0.0001: 1 says distribution, else they are independent."""
        if not self.n:
            return None
        low, middle, high = (_quantile(self._totals, q) for q in (0.05, 0.5, 0.95))
        return low, middle, high


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


class MergeSums:
    """The decisions replayed with two labels made one, part by part; ``how`` their scores become one.

    Raises
    ------
    ValueError
        A label is not one of the policy's.
    """

    def __init__(self, policy: Policy, first: str, second: str, how: How, *, bound: float = CLOSE) -> None:
        for name in (first, second):
            if name not in policy.by_name:
                raise ValueError(f"merge: no label {name!r}; known: {', '.join(policy.label_names)}")
        self.policy, self.pair, self.how, self.bound = policy, (first, second), how, bound
        # By which label is named first, because the more frequent one is known in the end.
        self._counts = np.zeros((2, 7), dtype=np.int64)  # n; fallback, close and margins before; these after
        self._tops = np.zeros(2, dtype=np.int64)
        self._costs = np.zeros((2, 3))  # priced both times, USD before and after

    def add(self, rows: Scored) -> None:
        """Replay more decisions."""
        before = rows.decide(self.policy)
        names = self.policy.label_names
        self._tops += [int(np.sum(before.top == names.index(x))) for x in self.pair]
        cost_before = rows.cost_of(before.model)
        for k, pair in enumerate((self.pair, self.pair[::-1])):
            merges = {pair[0]: pair}
            after = rows.merged(merges, self.how).decide(merged_policy(self.policy, merges))
            cost_after = rows.cost_of(after.model)
            both = ~np.isnan(cost_before) & ~np.isnan(cost_after)
            self._costs[k] += (both.sum(), cost_before[both].sum(), cost_after[both].sum())
            counts = [
                (x.is_fallback.sum(), np.sum(x.margin < self.bound), np.sum(~np.isnan(x.margin)))
                for x in (before, after)
            ]
            self._counts[k] += np.array([len(rows), *counts[0], *counts[1]], dtype=np.int64)

    def effect(self) -> MergeEffect:
        """What fallback, cost and closeness become."""
        kept = int(self._tops[1] > self._tops[0])
        n, fell, near, known, fell_after, near_after, known_after = self._counts[kept].tolist()
        n_priced, cost_before, cost_after = self._costs[kept].tolist()
        return MergeEffect(
            first=self.pair[0],
            second=self.pair[1],
            how=self.how,
            kept=self.pair[kept],
            model=self.policy.by_name[self.pair[kept]].model,
            n=n,
            n_priced=int(n_priced),
            fallback_before=fell / n if n else None,
            fallback_after=fell_after / n if n else None,
            close_before=near / known if known else None,
            close_after=near_after / known_after if known_after else None,
            cost_before=1000 * cost_before / n_priced if n_priced else None,
            cost_after=1000 * cost_after / n_priced if n_priced else None,
        )


def merge_effect(
    rows: Scored, policy: Policy, first: str, second: str, *, how: How | None = None, bound: float = CLOSE
) -> MergeEffect:
    """The effect on decisions that came whole; ``how`` None: the sum where scores sum to 1, else the larger one."""
    sums = MergeSums(policy, first, second, how or rows.natural_merge, bound=bound)
    sums.add(rows)
    return sums.effect()


class SplitSums:
    """Labels whose decisions lean to two different other labels, 20 % and 30 decisions each at least; counted part by part.

    A decision leans to its runner-up when that has a third of the best score or more.

    A hint where to look, not a finding: read the examples of both sides and see whether one rubric covers two things.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        count = len(policy.labels)
        self._n = np.zeros(count, dtype=np.int64)
        self._sides = np.zeros((count, count), dtype=np.int64)
        self._nearest: dict[tuple[int, int], list[tuple[float, str]]] = {}

    def add(self, rows: Scored) -> None:
        """Count more decisions."""
        count = len(self.policy.labels)
        if count < 3 or len(rows) == 0:
            return
        choices = rows.decide(self.policy)
        leans = choices.confidence - choices.margin >= LEANS * choices.confidence
        ids = rows.meta["id"].to_numpy(dtype=object)
        self._n += np.bincount(choices.top, minlength=count)
        for i in range(count):
            for j in range(count):
                part = np.flatnonzero(leans & (choices.top == i) & (choices.runner_up == j))
                self._sides[i, j] += len(part)
                margin = choices.margin[part]
                if len(part) > EXAMPLES:
                    near = margin <= np.partition(margin, EXAMPLES - 1)[EXAMPLES - 1]
                    part, margin = part[near], margin[near]
                found = zip(margin.tolist(), map(str, ids[part]), strict=True)
                self._nearest[i, j] = sorted([*self._nearest.get((i, j), []), *found])[:EXAMPLES]

    def suggestions(self) -> tuple[Split, ...]:
        """The labels, most decisions first."""
        found, names = [], self.policy.label_names
        for i, name in enumerate(names):
            order = np.argsort(-self._sides[i], kind="stable")[:2].tolist()
            n = int(self._n[i])
            if len(order) < 2 or self._sides[i, order[1]] < max(MIN_GROUP, MIN_SHARE * n):
                continue
            (a, n_a), (b, n_b) = ((names[k], int(self._sides[i, k])) for k in order)
            examples = [tuple(x for _, x in self._nearest[i, k]) for k in order]
            found.append(Split(name, n, a, n_a, b, n_b, examples[0], examples[1]))
        return tuple(sorted(found, key=lambda x: (-x.n, x.label)))


def split_suggestions(rows: Scored, policy: Policy) -> tuple[Split, ...]:
    """The suggestions on decisions that came whole."""
    sums = SplitSums(policy)
    sums.add(rows)
    return sums.suggestions()


def _margins(scores: Floats) -> Floats:
    if scores.shape[1] < 2:
        return np.empty(0)
    top = np.partition(scores, -2, axis=1)[:, -2:]
    return np.asarray(top[:, 1] - top[:, 0])


def _rounded(values: Floats) -> NDArray[np.int64]:
    return np.rint(values * FINE).astype(np.int64)


def _quantile(counts: NDArray[np.int64], q: float) -> float:
    """The least step that a share q of what is counted is at or below."""
    sums = np.cumsum(counts)
    return int(np.searchsorted(sums, q * sums[-1])) / FINE
