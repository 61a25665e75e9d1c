"""Which labels collide: how often the two best scores are close, and what hangs on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from router.analysis.cells import Counts, Floats
from router.analysis.rule import bins
from router.analysis.tables import PAIRS, columns

STEPS = 100
"""Margins are counted in steps of 1/100."""

CLOSE = 0.10
"""Two labels are close when the margin between their scores is below this."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An unordered pair of labels that hold the two best scores together.

    Attributes
    ----------
    n, n_close : decisions whose two best labels they are; those of them with a margin below the bound.
    close_rate : ``n_close`` as a share of **all** decisions, so that pairs add up to the overall rate.
    n_close_priced : close decisions behind ``at_stake_usd``.
    at_stake_usd : by how much spend would change had each close decision gone to its other label's model, taken by
        direction and without sign; None: not measured. Prices may be unknown for a part: then it is a lower bound.
    """

    first: str
    second: str
    n: int
    n_close: int
    close_rate: float
    n_close_priced: int
    at_stake_usd: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """How close the calls are. ``close_rate`` is None when no decision has a margin.

    ``matrix`` holds each pair's close rate, symmetric, NaN on the diagonal; ``labels`` names its rows. ``margins`` counts
    decisions by margin: entry j for [j/100, (j+1)/100), the last one for exactly 1. ``pairs``: most close calls first.
    """

    labels: tuple[str, ...]
    bound: float
    n: int
    n_close: int
    close_rate: float | None
    pairs: tuple[Pair, ...]
    matrix: Floats
    margins: Counts

    def pair(self, one: str, other: str) -> Pair | None:
        """The pair of two labels in either order; None when they never hold the two best scores together."""
        return next((x for x in self.pairs if {x.first, x.second} == {one, other}), None)


def overlap(pairs: pd.DataFrame, labels: Sequence[str], *, bound: float = CLOSE) -> Overlap:
    """Count close calls, overall and per pair of ``labels`` (a policy's, in its order).

    A decision is close when ``margin < bound``; ``bound`` is a multiple of 0.01, at which the count is exact. Nothing is
    assumed about scores: they need not sum to 1. Labels that the table names and ``labels`` does not follow behind it.

    Raises
    ------
    ValueError
        The bound is off the 0.01 grid, or the table breaks its contract.
    """
    step = int(bins(bound, STEPS)) if 0.0 < bound <= 1.0 else 0
    if step == 0 or step / STEPS != bound:
        raise ValueError(f"found a bound of {bound!r}, expected a multiple of 0.01 in (0, 1]")
    table = pd.DataFrame(columns(pairs, PAIRS))
    names = tuple(dict.fromkeys([*labels, *table["label"], *table["runner_up"]]))
    place = {name: i for i, name in enumerate(names)}
    top = table["label"].map(place).to_numpy(dtype=np.int64)
    second = table["runner_up"].map(place).to_numpy(dtype=np.int64)
    count, priced = table["n"].to_numpy(), table["n_priced"].to_numpy()
    close = table["margin_bin"].to_numpy() < step
    shape = (len(names), len(names))

    def by_direction(values: Counts | Floats) -> Floats:
        sums = np.zeros(shape)
        np.add.at(sums, (top, second), values)
        return sums

    together, near = by_direction(count), by_direction(count * close)
    near_priced = by_direction(priced * close)
    # the sign is kept within a direction, so that merging rows changes nothing, and dropped between the two
    change = by_direction((table["label_cost"] - table["other_cost"]).to_numpy(dtype=np.float64) * close)
    total, n_close = int(count.sum()), int((count * close).sum())
    matrix = (near + near.T) / total if total else np.full(shape, np.nan)
    np.fill_diagonal(matrix, np.nan)
    found = []
    for i in range(len(names)):
        for j in range(i + 1, len(names)):
            if together[i, j] + together[j, i] == 0:
                continue
            with_price = int(near_priced[i, j] + near_priced[j, i])
            found.append(
                Pair(
                    names[i],
                    names[j],
                    int(together[i, j] + together[j, i]),
                    int(near[i, j] + near[j, i]),
                    float(matrix[i, j]),
                    with_price,
                    float(abs(change[i, j]) + abs(change[j, i])) if with_price else None,
                )
            )
    found.sort(key=lambda pair: (-pair.n_close, -pair.n, pair.first, pair.second))
    return Overlap(
        labels=names,
        bound=bound,
        n=total,
        n_close=n_close,
        close_rate=n_close / total if total else None,
        pairs=tuple(found),
        matrix=matrix,
        margins=np.bincount(table["margin_bin"].to_numpy(), weights=count, minlength=STEPS + 1).astype(
            np.int64
        ),
    )
