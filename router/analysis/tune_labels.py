"""A threshold for each label, together the cheapest under one condition on how much falls back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from router.analysis.cells import DenseCells, Floats
from router.analysis.sweep import sweep
from router.analysis.tune import STEPS, NoOptimum, Optimum, cheapest_with_fallback, nearest
from router.policy import GRID, Policy, confidence_bin


@dataclass(frozen=True, slots=True)
class LabelThresholds:
    """A threshold for each label of the policy, in its order.

    Attributes
    ----------
    fallback_usd : shadow price of a fallback at this limit, USD each; 0 where the limit does not bind.
    cost_per_1000, fallback_share : what they cost and send away together.
    single_threshold, single_cost_per_1000 : the best threshold that labels share under the same limit, and what it costs; None: there
        is none. As :func:`~router.analysis.tune.cheapest_with_fallback` finds it: every label follows it, but those that the policy
        gives a threshold of their own. So it may be cheaper where the limit is used up by labels that keep their threshold here.
    """

    thresholds: tuple[tuple[str, float], ...]
    fallback_usd: float
    cost_per_1000: float
    fallback_share: float
    single_threshold: float | None
    single_cost_per_1000: float | None


def label_thresholds(cells: pd.DataFrame, policy: Policy, most: float) -> LabelThresholds | NoOptimum:
    """Find a threshold for each label, together the cheapest with at most the share ``most`` falling back.

    Notes
    -----
    Costs and fallbacks add over labels, so one multiplier u (USD per fallback) makes the labels independent: each takes the
    threshold with the least cost + u x fallbacks, and the smallest u that meets the condition is found by halving. Where a
    label's cost falls evenly with its fallbacks no multiplier reaches the points between; so each label in turn then takes the
    cheapest threshold that the others leave room for, from there and from the best shared threshold, until nothing changes. A
    label that goes to the fallback model anyway keeps its threshold.

    References
    ----------
    H. Everett, Generalized Lagrange multiplier method, Operations Research 11 (1963).
    """
    name = f"thresholds per label with at most {most:.1%} fallback"
    dense = DenseCells(cells, policy)
    n, n_priced = int(dense.n.sum()), int(dense.n_priced.sum())
    if n == 0 or n_priced == 0:
        return NoOptimum(
            name, "not_measured", "no decision has a known cost: token counts or prices are missing"
        )
    now = [confidence_bin(policy.threshold_for(x)) for x in policy.label_names]
    is_free = np.array([x.model != policy.fallback_model for x in policy.labels])
    free = np.flatnonzero(is_free)
    held = sum(int(dense.n[i, : now[i]].sum()) for i in np.flatnonzero(~is_free).tolist())
    room = most * n - held
    if room < 0:
        return NoOptimum(
            name, "infeasible", f"{held / n:.1%} falls back in labels that go to the fallback model anyway"
        )
    search = _Search(
        falls=dense.below(dense.n)[free][:, STEPS].astype(np.float64),
        cost=dense.below(dense.moved)[free][:, STEPS],
        now=[now[i] for i in free.tolist()],
        room=room,
    )
    price, places = search.by_price()
    tried = [search.improved(x) for x in (places, search.shared()) if x is not None]
    best = min(tried, key=search.total)
    lines = {int(i): int(STEPS[k]) / GRID for i, k in zip(free, best, strict=True)}
    base = dense.label_cost + dense.classifier

    def per_1000(chosen: list[int]) -> float:
        return 1000 * (base + search.total(chosen)) / n_priced

    single = cheapest_with_fallback(sweep(cells, policy), most)
    return LabelThresholds(
        thresholds=tuple(
            (x, lines.get(i, policy.threshold_for(x))) for i, x in enumerate(policy.label_names)
        ),
        fallback_usd=price,
        cost_per_1000=per_1000(best),
        fallback_share=(held + search.fell(best)) / n,
        single_threshold=single.threshold if isinstance(single, Optimum) else None,
        single_cost_per_1000=single.cost_per_1000 if isinstance(single, Optimum) else None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """Running sums of fallbacks and of added USD, shape (labels, steps), lines in force, and how many may fall back."""

    falls: Floats
    cost: Floats
    now: list[int]
    room: float

    def fell(self, places: list[int]) -> float:
        return float(sum(self.falls[i, k] for i, k in enumerate(places)))

    def total(self, places: list[int]) -> float:
        return float(sum(self.cost[i, k] for i, k in enumerate(places)))

    def at(self, price: float) -> list[int]:
        return [nearest(self.cost[i] + price * self.falls[i], line) for i, line in enumerate(self.now)]

    def by_price(self) -> tuple[float, list[int]]:
        """The smallest price of a fallback, in USD, that keeps within the room, and the places under it."""
        if self.fell(self.at(0.0)) <= self.room:
            return 0.0, self.at(0.0)
        low, high = 0.0, 1e-9
        while self.fell(self.at(high)) > self.room and high < 1e9:
            high *= 8
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if self.fell(self.at(middle)) > self.room else (low, middle)
        places = self.at(high)
        return high, places if self.fell(places) <= self.room else [0] * len(self.now)

    def shared(self) -> list[int] | None:
        """The best place that all share; None without a label to choose for."""
        if not self.now:
            return None
        ok = self.falls.sum(axis=0) <= self.room
        place = nearest(np.where(ok, self.cost.sum(axis=0), np.inf), self.now[0])
        return [place] * len(self.now)

    def improved(self, places: list[int]) -> list[int]:
        """Let each label in turn take the cheapest place that the others leave room for, until nothing changes."""
        best = list(places)
        for _ in range(20):
            before = self.total(best)
            for i, line in enumerate(self.now):
                left = self.room - self.fell(best) + self.falls[i, best[i]]
                best[i] = nearest(np.where(self.falls[i] <= left, self.cost[i], np.inf), line)
            if self.total(best) >= before - 1e-12 * abs(before):
                break
        return best
