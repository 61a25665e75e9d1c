"""The same prompts on a weak and a strong model: what a router that chooses between them gains, beside the lines that need none.

A score says how much a prompt needs the strong model; those with the highest scores go there. Every score is shown beside
random choice, the prompt's length and an oracle: length alone beats several published routers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router.analysis.binomial import Interval
from router.analysis.cells import Floats
from router.analysis.judgements import Audit

REPEATS = 300
TARGETS = (0.5, 0.8)
"""Shares of the gap for which the calls of the strong model are counted: CPT50 and CPT80."""


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """Outcomes of two models, one entry per prompt: right or wrong as 1 and 0, or a judge's score.

    ``chars`` are lengths of the prompts, ``score`` how much each needs the strong model by some router, costs are USD; None where
    the file has none. ``n_missing`` rows had no usable outcome of one of the two and were left out, never counted as 0 or -1.
    """

    id: tuple[str, ...]
    weak: Floats
    strong: Floats
    chars: Floats | None = None
    score: Floats | None = None
    weak_cost: Floats | None = None
    strong_cost: Floats | None = None
    n_missing: int = 0

    def __len__(self) -> int:
        return len(self.weak)

    @property
    def is_binary(self) -> bool:
        """Whether every outcome is 0 or 1."""
        return bool(np.all(np.isin(self.weak, (0, 1)) & np.isin(self.strong, (0, 1))))


@dataclass(frozen=True, slots=True)
class Gap:
    """How far apart the two models are: mean of strong minus weak with its paired 95 % interval.

    Attributes
    ----------
    is_separable : the interval excludes 0. Where it does not, nothing that divides by the gap means anything.
    only_strong, only_weak : prompts that one alone got right (or scored higher).
    mcnemar_p : exact two-sided p-value that the two are equally often the only one; None for scores other than 0 and 1.
    needed_for_2_points, needed_for_5_points : pairs that show non-inferiority at that margin (one-sided 5 %, power 80 %).
    """

    n: int
    weak: float | None
    strong: float | None
    gap: float | None
    interval: Interval | None
    is_separable: bool
    only_strong: int
    only_weak: int
    mcnemar_p: float | None
    needed_for_2_points: int | None
    needed_for_5_points: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One way to choose: quality over the share of prompts that go to the strong model, at all distinct scores.

    Attributes
    ----------
    share, quality : from (0, all weak) to (1, all strong). ``cost``: USD per prompt there, None without costs.
    apgr : mean performance gap recovered; ``interval`` its 95 % bootstrap interval. ``cpt``: smallest share that recovers each
        of TARGETS. All None where the models are not separable.
    aiq : mean height of the line's non-decreasing hull over the range of cost (of share, without costs).
    """

    name: str
    share: Floats
    quality: Floats
    cost: Floats | None
    apgr: float | None
    interval: Interval | None
    cpt: tuple[float | None, ...]
    aiq: float | None


@dataclass(frozen=True, slots=True)
class PairReport:
    """Both models, and every way to choose between them.

    ``random_sd`` is the standard deviation of the APGR of one random order: the yardstick for "better than random".
    ``cost_range`` is what ``aiq`` is taken over; ``zero_router_aiq`` what the two models give without any router.
    """

    gap: Gap
    lines: tuple[Line, ...]
    random_sd: float | None
    zero_router_aiq: float | None
    cost_range: tuple[float, float]
    targets: tuple[float, ...] = field(default=TARGETS)

    def line(self, name: str) -> Line | None:
        """The line of this name: random, length, oracle or score."""
        return next((x for x in self.lines if x.name == name), None)


def gap(pairs: Paired) -> Gap:
    """Compare the two models on the same prompts.

    Notes
    -----
    The interval is Student's on the differences; McNemar's test is its exact binomial form. Non-inferiority without a true gap
    needs (1.645 + 0.842)^2 discordance / margin^2 = 6.18 discordance / margin^2 pairs.

    References
    ----------
    Q. McNemar, Psychometrika 12 (1947); Liu et al., Tests for equivalence or non-inferiority for paired binary data, Statistics
    in Medicine 21 (2002), section 4.
    """
    d = pairs.strong - pairs.weak
    n, better, worse = len(d), int(np.sum(d > 0)), int(np.sum(d < 0))
    if n == 0:
        return Gap(0, None, None, None, None, False, 0, 0, None, None, None)
    mean, interval = float(d.mean()), None
    if n > 1:
        from scipy.special import stdtrit

        half = float(stdtrit(n - 1, 0.975) * d.std(ddof=1) / np.sqrt(n))
        interval = Interval(mean - half, mean + half)
    spread = float(np.mean(d * d))  # for 0 and 1: the share of prompts on which they differ
    needed = [int(np.ceil(6.18 * spread / margin**2)) if spread else None for margin in (0.02, 0.05)]
    return Gap(
        n=n,
        weak=float(pairs.weak.mean()),
        strong=float(pairs.strong.mean()),
        gap=mean,
        interval=interval,
        is_separable=interval is not None and not interval.low <= 0.0 <= interval.high,
        only_strong=better,
        only_weak=worse,
        mcnemar_p=_mcnemar(better, worse) if pairs.is_binary else None,
        needed_for_2_points=needed[0],
        needed_for_5_points=needed[1],
    )


def report(pairs: Paired, *, rng: np.random.Generator, repeats: int = REPEATS) -> PairReport:
    """Draw every line: random, length (where prompts are known), the file's score (where it has one) and the oracle.

    Notes
    -----
    PGR = (q - q_weak) / (q_strong - q_weak) at a share x of strong calls; APGR is its integral over x by trapezoids through every
    distinct score; CPT(x) the first share that reaches PGR x. Random choice has APGR 0.5 and CPT(x) = x exactly. The paper's code
    interpolates on 11 points and takes the curve as monotone, which the oracle's is not. The oracle may exceed 1.

    References
    ----------
    Ong et al., RouteLLM (arXiv 2406.18665), section 3.2 (PGR, APGR, CPT); Hu et al., RouterBench (arXiv 2403.12031),
    section 3.2 (non-decreasing convex hull, AIQ, zero router).
    """
    found = gap(pairs)
    n = len(pairs)
    low, high = _cost_range(pairs)
    if n == 0:
        return PairReport(found, (), None, None, (low, high))
    ways: list[tuple[str, Floats]] = []
    if pairs.score is not None:
        ways.append(("score", pairs.score))
    if pairs.chars is not None:
        ways.append(("length", pairs.chars))
    ways.append(("oracle", pairs.strong - pairs.weak))
    lines = [_random_line(pairs, found, (low, high))]
    lines += [_line(name, pairs, values, found, (low, high), rng, repeats) for name, values in ways]
    return PairReport(
        gap=found,
        lines=tuple(lines),
        random_sd=_random_sd(pairs, rng, repeats) if found.is_separable else None,
        zero_router_aiq=lines[0].aiq,
        cost_range=(low, high),
    )


def curve(pairs: Paired, score: ArrayLike) -> tuple[Floats, Floats]:
    """Share of strong calls and mean quality at every distinct score, from all weak to all strong; equal scores move together."""
    _, ends, order = _sorted(score)
    gain = np.cumsum((pairs.strong - pairs.weak)[order])
    n = len(pairs)
    share, base = (ends + 1) / n, float(pairs.weak.mean())
    return np.r_[0.0, share], np.r_[base, base + gain[ends] / n]


def apgr(share: ArrayLike, quality: ArrayLike) -> float:
    """Mean performance gap recovered of a line from all weak to all strong; NaN when the two are equal."""
    x, q = np.asarray(share, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    span = q[-1] - q[0]
    return float(np.trapezoid((q - q[0]) / span, x)) if span else float("nan")


def cpt(share: ArrayLike, quality: ArrayLike, target: float) -> float | None:
    """Smallest share of strong calls that recovers ``target`` of the gap; None: none of the line's points does."""
    x, q = np.asarray(share, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    span = q[-1] - q[0]
    if span == 0:
        return None
    reached = np.flatnonzero((q - q[0]) / span >= target - 1e-12)
    return float(x[reached[0]]) if reached.size else None


def mean_hull_height(cost: ArrayLike, quality: ArrayLike, low: float, high: float) -> float:
    """Mean height over [low, high] of the least non-decreasing concave curve over the points; their cheapest is at most ``low``.

    Monotone chain, O(n log n). Mixing two points by a coin reaches every point of the hull between them.
    """
    x, y = np.asarray(cost, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    order = np.lexsort((-y, x))
    hull: list[tuple[float, float]] = []
    for point in zip(x[order].tolist(), np.maximum.accumulate(y[order]).tolist(), strict=True):
        while len(hull) >= 2 and _turns_up(hull[-2], hull[-1], point):
            hull.pop()
        if not hull or point[0] > hull[-1][0]:
            hull.append(point)
    if high <= low:
        return hull[-1][1]
    xs, ys = np.array([p[0] for p in hull]), np.array([p[1] for p in hull])
    inner = xs[(xs > low) & (xs < high)]
    at = np.r_[low, inner, high]
    return float(np.trapezoid(np.interp(at, xs, ys), at) / (high - low))


def regret_audit(pairs: Paired, confidence: ArrayLike) -> Audit:
    """Paired outcomes as an audit whose loss is regret: the strong model was right and the weak one was not (or scored lower).

    ``confidence``, shape (n,), in [0, 1]: how far the weak model is trusted. It must not have been fitted on these outcomes.
    Both answers are known for every prompt, so unlike a log these can certify lowering a threshold. The promise is for prompts
    like these: they are taken as a uniform draw of the traffic.
    """
    n = len(pairs)
    return Audit(
        label=np.full(n, "weak", dtype=object),
        confidence=confidence,
        loss=pairs.strong > pairs.weak,
        queue=np.full(n, "audit", dtype=object),
    )


def _mcnemar(one: int, other: int) -> float:
    from scipy.special import bdtr

    total = one + other
    return min(1.0, 2 * float(bdtr(min(one, other), total, 0.5))) if total else 1.0


def _sorted(score: ArrayLike) -> tuple[Floats, NDArray[np.int64], NDArray[Any]]:
    """Scores from the highest down, the last place of each distinct one, and the order."""
    values = np.asarray(score, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    down = values[order]
    return down, np.flatnonzero(np.r_[down[1:] != down[:-1], True]), order


def _cost_range(pairs: Paired) -> tuple[float, float]:
    if pairs.weak_cost is None or pairs.strong_cost is None or len(pairs) == 0:
        return 0.0, 1.0
    means = float(pairs.weak_cost.mean()), float(pairs.strong_cost.mean())
    return min(means), max(means)


def _cost(pairs: Paired, order: NDArray[Any], ends: NDArray[np.int64]) -> Floats | None:
    if pairs.weak_cost is None or pairs.strong_cost is None:
        return None
    extra = np.cumsum((pairs.strong_cost - pairs.weak_cost)[order])
    base = float(pairs.weak_cost.mean())
    return np.asarray(np.r_[base, base + extra[ends] / len(pairs)])


def _random_line(pairs: Paired, found: Gap, bounds: tuple[float, float]) -> Line:
    share, quality = np.array([0.0, 1.0]), np.array([found.weak, found.strong], dtype=np.float64)
    cost = None
    if pairs.weak_cost is not None and pairs.strong_cost is not None:
        cost = np.array([pairs.weak_cost.mean(), pairs.strong_cost.mean()])
    ok = found.is_separable
    x = share if cost is None else cost
    return Line(
        "random",
        share,
        quality,
        cost,
        0.5 if ok else None,
        Interval(0.5, 0.5) if ok else None,
        TARGETS if ok else (None,) * len(TARGETS),
        mean_hull_height(x, quality, *bounds),
    )


def _line(
    name: str,
    pairs: Paired,
    score: Floats,
    found: Gap,
    bounds: tuple[float, float],
    rng: np.random.Generator,
    repeats: int,
) -> Line:
    share, quality = curve(pairs, score)
    _, ends, order = _sorted(score)
    cost = _cost(pairs, order, ends)
    ok = found.is_separable
    return Line(
        name,
        share,
        quality,
        cost,
        apgr(share, quality) if ok else None,
        _interval(pairs, ends, order, rng, repeats) if ok else None,
        tuple(cpt(share, quality, x) if ok else None for x in TARGETS),
        mean_hull_height(share if cost is None else cost, quality, *bounds),
    )


def _interval(
    pairs: Paired, ends: NDArray[np.int64], order: NDArray[Any], rng: np.random.Generator, repeats: int
) -> Interval:
    """Bootstrap over prompts: counts of how often each was drawn, on the order that is sorted once."""
    n = len(pairs)
    d = (pairs.strong - pairs.weak)[order]
    found = []
    for _ in range(repeats):
        times = np.bincount(rng.integers(0, n, n), minlength=n)
        share, gain = np.cumsum(times)[ends] / n, np.cumsum(times * d)[ends]
        if gain[-1] != 0:
            found.append(float(np.trapezoid(np.r_[0.0, gain] / gain[-1], np.r_[0.0, share])))
    low, high = np.quantile(found, [0.025, 0.975]) if found else (float("nan"), float("nan"))
    return Interval(float(low), float(high))


def _random_sd(pairs: Paired, rng: np.random.Generator, repeats: int) -> float:
    return float(np.std([apgr(*curve(pairs, rng.random(len(pairs)))) for _ in range(repeats)], ddof=1))


def _turns_up(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) >= 0
