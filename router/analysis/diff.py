"""Two policies on one log: what changes, and for whom it gets dearer; router.analysis.patch makes the change a patch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from router.analysis.cells import Floats
from router.analysis.estimates import known, mean_half_width, ratio_half_width
from router.analysis.rule import Choices
from router.analysis.scored import How, Scored, in_parts
from router.analysis.sweep import MIN_CHANGED
from router.analysis.unsaid import Unsaid, call_prices, unsaid
from router.policy import Policy

EXAMPLES = 20
"""Decisions that are shown of all that change model."""

_FLIP = ("id", "label", "confidence", "old_model", "new_model", "cost_change")


@dataclass(frozen=True, slots=True)
class Change:
    """What changes for a part of the decisions: old and new policy compared decision by decision.

    Attributes
    ----------
    n : decisions of the part. ``crossing``: fall back under one policy only. ``changing``: go to another model.
    n_priced : those whose cost is known under both; ``cost_change`` (USD, new minus old) and half its 95 % interval are over
        these. ``n_other_cost``: those of them that cost another sum, by going to another model or by its price.
    old_fallback, new_fallback : decisions that fall back.
    is_dearer, is_cheaper : the interval excludes 0 and at least 10 decisions cost another sum.
    """

    name: str
    n: int
    crossing: int
    changing: int
    old_fallback: int
    new_fallback: int
    n_priced: int
    n_other_cost: int
    cost_change: float | None
    cost_half: float | None
    is_dearer: bool
    is_cheaper: bool


@dataclass(frozen=True, slots=True)
class Move:
    """Decisions that go from one model to another; cost change in USD over the n_priced."""

    old_model: str
    new_model: str
    n: int
    n_priced: int
    cost_change: float | None


@dataclass(frozen=True, slots=True)
class Flip:
    """A decision that goes to another model; ``label`` and ``confidence`` under the old policy, cost change in USD."""

    id: str
    label: str
    confidence: float
    old_model: str
    new_model: str
    cost_change: float | None


@dataclass(frozen=True, slots=True)
class PolicyDiff:
    """Everything that changes from ``old`` to ``new``.

    Attributes
    ----------
    total : all decisions. ``by_label``: by top label under the old policy. ``moves``: by model, most first. ``stays``: by model
        that they keep, those that cost another sum by its price.
    segments : parts by label, prompt length and source. ``worse``: those of them that get dearer.
    old_cost, new_cost : USD per 1,000 priced decisions, the classifier's logged cost included: the same on both sides, so that
        no change holds any of it (but see ``call_prices``). Unless ``classifier_known`` some of it is not in the log, and both are lower bounds. ``savings_change``, ``savings_half``: of the savings share against
        ``baseline``; None without one.
    repriced : models whose prices differ between the policies; each side is priced by its own.
    call_prices : USD per call of either classifier, where both are known and differ: then ``old_cost``, ``new_cost`` and the savings
        hold these instead of what was logged. No other change holds them: they are the same for every decision.
    not_in_patch : keys that differ and that no patch can set, compared or not.
    first, last : days of the decisions. ``flips``: up to 20 changing decisions, largest change of cost first.
    """

    old: str
    new: str
    total: Change
    by_label: tuple[Change, ...]
    moves: tuple[Move, ...]
    stays: tuple[Move, ...]
    segments: tuple[Change, ...]
    old_cost: float | None
    new_cost: float | None
    cost_half: float | None
    classifier_known: bool
    baseline: str | None
    savings_change: float | None
    savings_half: float | None
    repriced: tuple[str, ...]
    call_prices: tuple[float, float] | None
    not_in_patch: tuple[Unsaid, ...]
    first: date | None
    last: date | None
    flips: tuple[Flip, ...]
    n_left_out: int

    @property
    def against(self) -> str:
        """The baseline in words: where its price differs, savings on each side are against its price there."""
        return f"{self.baseline}{' at either price' if self.baseline in self.repriced else ''}"

    @property
    def worse(self) -> tuple[Change, ...]:
        """Segments that get dearer, beyond what chance explains."""
        return tuple(x for x in self.segments if x.is_dearer)


def policy_diff(
    rows: Scored | Iterable[Scored],
    old: Policy,
    new: Policy,
    *,
    merges: Mapping[str, Sequence[str]] | None = None,
    how: How | None = None,
    lengths: Sequence[float] | None = None,
    repriced: Sequence[str] = (),
) -> PolicyDiff:
    """Compare two policies on the same decisions, whole or in parts: the result is the same.

    Costs are of the decisions' own tokens under either model (an assumption), at each policy's own prices, over those priced
    under both. Whether answers get
    better or worse no log can say; where two models answered the same prompts, router.analysis.pairs can.

    Parameters
    ----------
    merges, how : labels that only the new policy has as one; see :meth:`Scored.merged`. Parts need ``how``.
    lengths : characters of prompts at which segments part; None: the quartiles of decisions that came whole.
    repriced : models whose prices differ; the rows then hold ``new_costs``.

    Notes
    -----
    Differences are paired: 0 for every decision that keeps its model and its price, so their intervals are far narrower than those of the two
    costs.
    """
    if lengths is None:
        lengths = _quartiles(rows) if isinstance(rows, Scored) else ()
    sums = _Sums(old, new, tuple(lengths))
    for part in in_parts(rows):
        sums.add(part, part.merged(merges, how) if merges else part)
    total, n_priced = sums.change("all"), int(sums.costs[0])
    before = float(sums.costs[1] + sums.costs[3])
    savings, savings_half = sums.savings()
    return PolicyDiff(
        old=old.fingerprint,
        new=new.fingerprint,
        total=total,
        by_label=tuple(replace(sums.change(f"label {x}"), name=x) for x in old.label_names),
        moves=_moves(sums.moves),
        stays=_moves(sums.stays),
        segments=tuple(sums.change(name) for name in sums.segments() if sums.parts[name][0]),
        old_cost=1000 * before / n_priced if n_priced else None,
        new_cost=1000 * (before + float(sums.costs[2]) + sums.calls_change) / n_priced if n_priced else None,
        cost_half=None if total.cost_half is None or not n_priced else 1000 * total.cost_half / n_priced,
        classifier_known=not sums.costs[4],
        baseline=new.baseline,
        savings_change=savings,
        savings_half=savings_half,
        repriced=tuple(repriced),
        call_prices=sums.calls,
        not_in_patch=unsaid(old, new, repriced),
        first=sums.first,
        last=sums.last,
        flips=sums.flips(),
        n_left_out=sums.n_left_out,
    )


class _Sums:
    """What two policies differ in, added up part by part.

    ``parts`` holds by name: decisions, crossing, changing, old and new fallbacks, priced, of another cost, and sums of d and d^2,
    where d is USD under the new policy minus USD under the old one. ``costs``: priced, sums of old cost, of d and of the
    classifier's cost, and how many lack that. ``base``: n, and sums and
    products of d, the change of the baseline's cost, the old cost and the old baseline's.
    """

    def __init__(self, old: Policy, new: Policy, lengths: tuple[float, ...]) -> None:
        self.old, self.new, self.calls = old, new, call_prices(old, new)
        edges = [-np.inf, *np.unique(lengths).tolist(), np.inf]
        self.lengths = list(pairwise(edges)) if len(edges) > 2 else []
        self.parts: dict[str, Floats] = defaultdict(lambda: np.zeros(9))
        self.moves: dict[tuple[str, str], Floats] = defaultdict(lambda: np.zeros(3))
        self.stays: dict[tuple[str, str], Floats] = defaultdict(lambda: np.zeros(3))
        self.costs, self.base = np.zeros(5), np.zeros((5, 5))
        self.sources: set[str] = set()
        self.first: date | None = None
        self.last: date | None = None
        self.n_left_out = 0
        self._flips = pd.DataFrame(columns=[*_FLIP, "size", "at"])

    def add(self, rows: Scored, merged: Scored) -> None:
        self.n_left_out += rows.n_left_out
        if not len(rows):
            return
        before, after = rows.decide(self.old), merged.decide(self.new)
        changed = np.asarray(before.model != after.model, dtype=bool)
        cost = rows.cost_of(before.model)
        d = rows.cost_of(after.model, new=True) - cost
        asked, more = rows.classifier_costs(), 0.0
        if self.calls is not None:  # what the log says of calls is of neither policy then, or of one alone
            asked, more = np.full(len(rows), self.calls[0]), self.calls[1] - self.calls[0]
        priced = ~np.isnan(d)
        some = np.where(priced, d, 0.0)
        one, two = before.is_fallback, after.is_fallback
        other = some != 0
        columns = np.stack(
            [np.ones(len(rows)), one != two, changed, one, two, priced, other, some, some * some]
        )
        for name, mask in self._masks(rows, before):
            self.parts[name] += columns[:, mask].sum(axis=1)
        self.costs += (
            priced.sum(),
            cost[priced].sum(),
            some.sum(),
            np.nansum(asked[priced]),
            np.isnan(asked[priced]).sum(),
        )
        for a, b in {
            (str(a), str(b)) for a, b in zip(before.model[changed], after.model[changed], strict=True)
        }:
            mine = (before.model == a) & (after.model == b)
            self.moves[a, b] += (mine.sum(), (mine & priced).sum(), some[mine].sum())
        for a in {str(a) for a in before.model[other & ~changed]}:
            mine = other & ~changed & (before.model == a)
            self.stays[a, a] += (mine.sum(), mine.sum(), some[mine].sum())
        self._add_base(rows, d + more, cost + np.nan_to_num(asked))
        days = rows.meta["decided_at"]
        first, last = days.min(), days.max()
        if first == first:  # not one without a time alone
            self.first = min(self.first or first.date(), first.date())
            self.last = max(self.last or last.date(), last.date())
        self._keep(rows, before, after, d, np.flatnonzero(changed))

    def _masks(self, rows: Scored, before: Choices) -> Iterable[tuple[str, NDArray[np.bool_]]]:
        """Parts that overlap: all, every label, every range of prompt lengths, every source."""
        yield "all", np.ones(len(rows), dtype=bool)
        for k, name in enumerate(self.old.label_names):
            yield f"label {name}", before.top == k
        chars = rows.meta["prompt_chars"].to_numpy(dtype=np.float64, na_value=np.nan)
        for low, high in self.lengths:
            yield _length(low, high), (chars >= low) & (chars < high)
        source = rows.meta["source"].astype(object).to_numpy()
        for name in {str(x) for x in source if x is not None and x == x}:
            self.sources.add(name)
            yield f"source {name}", np.asarray(source == name, dtype=bool)

    def _add_base(self, rows: Scored, d: Floats, cost: Floats) -> None:
        baseline = self.new.baseline
        if baseline is None or baseline not in rows.models:
            return
        model = np.full(len(rows), baseline, dtype=object)
        base, new_base = rows.cost_of(model), rows.cost_of(model, new=True)
        found = np.stack([np.ones(len(rows)), d, new_base - base, cost, base])
        found = found[:, ~np.isnan(found).any(axis=0)]
        self.base += found @ found.T

    def _keep(
        self, rows: Scored, before: Choices, after: Choices, d: Floats, changed: NDArray[np.int64]
    ) -> None:
        """Hold on to the decisions whose cost changes most; of equals to the newest."""
        if not len(changed):
            return
        size = np.nan_to_num(np.abs(d[changed]), nan=0.0)
        if len(size) > EXAMPLES:
            mine = size >= np.partition(size, -EXAMPLES)[-EXAMPLES]
            changed, size = changed[mine], size[mine]
        names = np.array(self.old.label_names, dtype=object)
        found = pd.DataFrame(
            {
                "id": rows.meta["id"].iloc[changed].to_numpy(dtype=object),
                "label": names[before.top[changed]],
                "confidence": before.confidence[changed],
                "old_model": before.model[changed],
                "new_model": after.model[changed],
                "cost_change": d[changed],
                "size": size,
                "at": rows.meta["decided_at"].iloc[changed].to_numpy(),
            }
        )
        both = pd.concat([self._flips, found]) if len(self._flips) else found
        self._flips = both.sort_values(["size", "at", "id"], ascending=False).head(EXAMPLES)

    def flips(self) -> tuple[Flip, ...]:
        return tuple(
            Flip(
                str(x.id),
                str(x.label),
                float(x.confidence),
                str(x.old_model),
                str(x.new_model),
                known(x.cost_change),
            )
            for x in self._flips.itertuples()
        )

    def segments(self) -> list[str]:
        """Names of the parts that are not the whole, in the order in which they are shown."""
        return [
            *(f"label {x}" for x in self.old.label_names),
            *(_length(low, high) for low, high in self.lengths),
            *(f"source {x}" for x in sorted(self.sources)),
        ]

    @property
    def calls_change(self) -> float:
        """USD that other calls of the classifier cost more, over the priced decisions."""
        return 0.0 if self.calls is None else float(self.costs[0]) * (self.calls[1] - self.calls[0])

    def change(self, name: str) -> Change:
        n, crossing, changing, one, two, n_priced, n_other = self.parts[name][:7].astype(int).tolist()
        sum_d, squares = self.parts[name][7:].tolist()
        total = half = None
        if n_priced:
            total = sum_d
            half = known(n_priced * float(mean_half_width(n_priced, sum_d, squares)))
        sure = total is not None and half is not None and abs(total) > half and n_other >= MIN_CHANGED
        return Change(
            name=name,
            n=n,
            crossing=crossing,
            changing=changing,
            old_fallback=one,
            new_fallback=two,
            n_priced=n_priced,
            n_other_cost=n_other,
            cost_change=total,
            cost_half=half,
            is_dearer=bool(sure and sum_d > 0),
            is_cheaper=bool(sure and sum_d < 0),
        )

    def savings(self) -> tuple[float | None, float | None]:
        """The change of the savings share and half its interval; None where the baseline changes price and a cost is not known.

        With R = c / b the old cost share, x = sum d and e the change of b, the share changes by D = (x - R e) / (b + e). Half the
        interval is by the delta method, from the residuals d - (R + D) e_i - (e / b) (c_i - R b_i) - D b_i; without a change of
        price these are those of ``ratio_half_width``.
        """
        n, x, e, c, b = self.base[0].tolist()
        if n == 0 or b <= 0 or b + e <= 0 or (e != 0 and self.costs[4]):
            return None, None
        if e == 0 and self.base[2, 2] == 0:
            half = ratio_half_width(n, x, b, self.base[1, 1], self.base[4, 4], self.base[1, 4])
            return 0.0 - x / b, known(float(half))
        share = c / b
        change = (x - share * e) / (b + e)
        weights = np.array([0.0, 1.0, -share - change, -e / b, share * e / b - change])
        squares = max(float(weights @ self.base @ weights), 0.0)
        half = float(mean_half_width(n, 0.0, squares)) * n / (b + e)
        return 0.0 - change, known(half)


def _moves(sums: Mapping[tuple[str, str], Floats]) -> tuple[Move, ...]:
    found = [
        Move(a, b, int(n), int(n_priced), float(total) if n_priced else None)
        for (a, b), (n, n_priced, total) in sums.items()
    ]
    return tuple(sorted(found, key=lambda x: (-x.n, x.old_model, x.new_model)))


def _quartiles(rows: Scored) -> Sequence[float]:
    chars = rows.meta["prompt_chars"].to_numpy(dtype=np.float64, na_value=np.nan)
    some = chars[~np.isnan(chars)]
    return np.quantile(some, [0.25, 0.5, 0.75]).tolist() if len(some) else ()


def _length(low: float, high: float) -> str:
    words = f"under {high:,.0f}" if low == -np.inf else f"{low:,.0f} to {high:,.0f}"
    return f"prompts of {f'{low:,.0f} or more' if high == np.inf else words} characters"
