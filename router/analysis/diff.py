"""Two policies on one log: what changes, for whom it gets dearer, and the change as a patch that carries its evidence."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.analysis.cells import Floats
from router.analysis.estimates import known, mean_half_width, ratio_half_width
from router.analysis.rule import Choices
from router.analysis.scored import Scored
from router.analysis.sweep import MIN_CHANGED
from router.policy import Policy

EXAMPLES = 20


@dataclass(frozen=True, slots=True)
class Change:
    """What changes for a part of the decisions: old and new policy compared decision by decision.

    Attributes
    ----------
    n : decisions of the part. ``crossing``: fall back under one policy only. ``changing``: go to another model.
    n_priced : those whose cost is known under both; ``cost_change`` (USD, new minus old) and half its 95 % interval are over
        these.
    old_fallback, new_fallback : decisions that fall back.
    is_dearer, is_cheaper : the interval excludes 0 and at least 10 decisions change model.
    """

    name: str
    n: int
    crossing: int
    changing: int
    old_fallback: int
    new_fallback: int
    n_priced: int
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
class PolicyDiff:
    """Everything that changes from ``old`` to ``new``.

    Attributes
    ----------
    total : all decisions. ``by_label``: by top label under the old policy. ``moves``: by model, most first.
    segments : parts by label, prompt length and source. ``worse``: those of them that get dearer.
    old_cost, new_cost : USD per 1,000 priced decisions. ``savings_change``, ``savings_half``: of the savings share against
        ``baseline``; None without one.
    first, last : days of the decisions. ``examples``: ids of changing decisions, largest change of cost first.
    """

    old: str
    new: str
    total: Change
    by_label: tuple[Change, ...]
    moves: tuple[Move, ...]
    segments: tuple[Change, ...]
    old_cost: float | None
    new_cost: float | None
    cost_half: float | None
    baseline: str | None
    savings_change: float | None
    savings_half: float | None
    first: date | None
    last: date | None
    examples: tuple[str, ...]
    n_left_out: int

    @property
    def worse(self) -> tuple[Change, ...]:
        """Segments that get dearer, beyond what chance explains."""
        return tuple(x for x in self.segments if x.is_dearer)


def policy_diff(rows: Scored, old: Policy, new: Policy, *, new_rows: Scored | None = None) -> PolicyDiff:
    """Compare two policies on the same decisions. ``new_rows``: the same rows with merged labels, where the new policy has those.

    Costs are of the decisions' own tokens under either model (an assumption), over those priced under both. Whether answers get
    better or worse no log can say; where two models answered the same prompts, router.analysis.pairs can.

    Notes
    -----
    Differences are paired: 0 for every decision that keeps its model, so their intervals are far narrower than those of the two
    costs.
    """
    before, after = rows.decide(old), (new_rows or rows).decide(new)
    old_cost, new_cost = rows.cost_of(before.model), rows.cost_of(after.model)
    d = np.where(before.model == after.model, np.where(np.isnan(old_cost), np.nan, 0.0), new_cost - old_cost)
    compare = _Compare(before, after, d)
    n, both = len(rows), ~np.isnan(d)
    n_priced = int(both.sum())
    labels = np.array(old.label_names, dtype=object)[before.top] if n else np.empty(0, dtype=object)
    total = compare.part("all", np.ones(n, dtype=bool))
    baseline = new.baseline
    savings, savings_half = _savings(rows, d, both, baseline)
    days = rows.meta["decided_at"]
    return PolicyDiff(
        old=old.fingerprint,
        new=new.fingerprint,
        total=total,
        by_label=tuple(compare.part(name, labels == name) for name in old.label_names),
        moves=tuple(_moves(before.model, after.model, d)),
        segments=tuple(
            compare.part(name, mask) for name, mask in _segments(rows, labels, old.label_names) if mask.any()
        ),
        old_cost=1000 * float(old_cost[both].mean()) if n_priced else None,
        new_cost=1000 * float((old_cost + d)[both].mean()) if n_priced else None,
        cost_half=None if total.cost_half is None or not n_priced else 1000 * total.cost_half / n_priced,
        baseline=baseline,
        savings_change=savings,
        savings_half=savings_half,
        first=days.min().date() if n else None,
        last=days.max().date() if n else None,
        examples=_examples(rows, before, after, d),
        n_left_out=rows.n_left_out,
    )


def toml_patch(found: PolicyDiff, old: Policy, new: Policy, *, notes: Sequence[str] = ()) -> str:
    """The keys that differ, as TOML with the evidence as comments: thresholds, margin, fallback model, baseline, labels' models.

    >>> from router.policy import Policy
    >>> seed = Policy.preset("seed")
    >>> print(toml_patch(_no_evidence(seed), seed, seed.with_threshold(0.42)), end="")
    # evidence: no decisions
    threshold = 0.42  # was 0.55
    """
    lines = [f"# {text}" for text in (*_evidence(found), *notes)]
    for key in ("threshold", "min_margin", "fallback_model", "baseline"):
        one, two = getattr(old, key), getattr(new, key)
        if one != two:
            lines.append(
                f"# {key} is taken away; was {_value(one)}"
                if two is None
                else f"{key} = {_value(two)}{_was(one)}"
            )
    for label in new.labels:
        before = old.by_name.get(label.name)
        keys = [
            (key, None if before is None else getattr(before, key), getattr(label, key))
            for key in ("model", "threshold")
        ]
        changed = [x for x in keys if x[1] != x[2]]
        if changed:
            lines += ["", "[[labels]]", f"name = {_value(label.name)}"]
            lines += [
                f"# {key} is taken away; was {_value(one)}"
                if two is None
                else f"{key} = {_value(two)}{_was(one)}"
                for key, one, two in changed
            ]
    gone = [name for name in old.label_names if name not in new.by_name]
    lines += [f"# label {name} is gone" for name in gone]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True, eq=False)
class _Compare:
    before: Choices
    after: Choices
    d: Floats

    def part(self, name: str, mask: NDArray[np.bool_]) -> Change:
        one, two, d = self.before.is_fallback[mask], self.after.is_fallback[mask], self.d[mask]
        some = d[~np.isnan(d)]
        changing = int(np.sum(self.before.model[mask] != self.after.model[mask]))
        total = half = None
        if len(some):
            total = float(some.sum())
            half = known(len(some) * float(mean_half_width(len(some), total, float(np.sum(some * some)))))
        sure = total is not None and half is not None and abs(total) > half and changing >= MIN_CHANGED
        return Change(
            name=name,
            n=int(mask.sum()),
            crossing=int(np.sum(one != two)),
            changing=changing,
            old_fallback=int(one.sum()),
            new_fallback=int(two.sum()),
            n_priced=len(some),
            cost_change=total,
            cost_half=half,
            is_dearer=bool(sure and total is not None and total > 0),
            is_cheaper=bool(sure and total is not None and total < 0),
        )


def _moves(before: NDArray[Any], after: NDArray[Any], d: Floats) -> list[Move]:
    changed = before != after
    pairs = sorted({(str(a), str(b)) for a, b in zip(before[changed], after[changed], strict=True)})
    found = []
    for a, b in pairs:
        mine = d[(before == a) & (after == b)]
        some = mine[~np.isnan(mine)]
        found.append(Move(a, b, len(mine), len(some), float(some.sum()) if len(some) else None))
    return sorted(found, key=lambda x: (-x.n, x.old_model, x.new_model))


def _segments(
    rows: Scored, labels: NDArray[Any], names: Sequence[str]
) -> Iterable[tuple[str, NDArray[np.bool_]]]:
    """Parts that overlap: every label, every quarter of prompt lengths, every source."""
    for name in names:
        yield f"label {name}", labels == name
    chars = rows.meta["prompt_chars"].to_numpy(dtype=np.float64, na_value=np.nan)
    some = chars[~np.isnan(chars)]
    edges = np.unique(np.quantile(some, [0.25, 0.5, 0.75])) if len(some) else np.empty(0)
    for low, high in zip([-np.inf, *edges], [*edges, np.inf], strict=True):
        words = (
            f"under {high:,.0f}"
            if low == -np.inf and high < np.inf
            else f"{low:,.0f} or more"
            if high == np.inf
            else f"{low:,.0f} to {high:,.0f}"
        )
        if len(edges):
            yield f"prompts of {words} characters", (chars >= low) & (chars < high)
    source = rows.meta["source"].astype(object).to_numpy()
    for name in sorted({str(x) for x in source if x is not None and x == x}):
        yield f"source {name}", source == name


def _savings(
    rows: Scored, d: Floats, both: NDArray[np.bool_], baseline: str | None
) -> tuple[float | None, float | None]:
    if baseline is None or baseline not in rows.models:
        return None, None
    base = rows.cost_of(np.full(len(rows), baseline, dtype=object))
    some = both & ~np.isnan(base)
    x, b = d[some], base[some]
    if len(x) == 0 or float(b.sum()) <= 0:
        return None, None
    half = ratio_half_width(len(x), x.sum(), b.sum(), np.sum(x * x), np.sum(b * b), np.sum(x * b))
    return -float(x.sum() / b.sum()), known(float(half))


def _examples(rows: Scored, before: Choices, after: Choices, d: Floats) -> tuple[str, ...]:
    changed = np.flatnonzero(before.model != after.model)
    size = np.where(np.isnan(d[changed]), 0.0, np.abs(d[changed]))
    order = changed[np.argsort(-size, kind="stable")][:EXAMPLES]
    return tuple(str(x) for x in rows.meta["id"].iloc[order])


def _evidence(found: PolicyDiff) -> list[str]:
    total = found.total
    if total.n == 0:
        return ["evidence: no decisions"]
    lines = [
        f"evidence: {total.n:,} decisions from {found.first} to {found.last}; {total.changing:,} change model, "
        f"{total.crossing:,} cross a line",
        f"fallback share {total.old_fallback / total.n:.2%} -> {total.new_fallback / total.n:.2%}",
    ]
    if found.old_cost is not None and found.new_cost is not None:
        half = "" if found.cost_half is None else f" +- {found.cost_half:.4g}"
        lines.append(
            f"USD per 1,000: {found.old_cost:.4g} -> {found.new_cost:.4g}, {found.new_cost - found.old_cost:+.4g}{half} (95 %) over "
            f"{total.n_priced:,} priced decisions; same tokens assumed"
        )
    else:
        lines.append("cost: not measured")
    if found.savings_change is not None:
        half = "" if found.savings_half is None else f" +- {100 * found.savings_half:.2f}"
        lines.append(
            f"savings against {found.baseline}: {100 * found.savings_change:+.2f}{half} points (95 %)"
        )
    for part in found.worse:
        lines.append(f"dearer: {part.name}, {part.changing:,} of {part.n:,} change model")
    lines.append("whether answers get better or worse is not in the log")
    return lines


def _was(value: object) -> str:
    return "" if value is None else f"  # was {_value(value)}"


def _value(value: object) -> str:
    """A value as TOML; JSON's strings are TOML's, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _no_evidence(policy: Policy) -> PolicyDiff:
    """A diff without a decision."""
    none = Change("all", 0, 0, 0, 0, 0, 0, None, None, False, False)
    name = policy.fingerprint
    return PolicyDiff(name, name, none, (), (), (), None, None, None, None, None, None, None, None, (), 0)
