"""The best threshold under a stated objective, how far one may go from it for nothing, and how sure the log is of it.

Best is always "best under this objective": a log alone knows costs and shares, not whether the answers were good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router.analysis.cells import Floats
from router.analysis.certify import Certificate
from router.analysis.sweep import PLATEAU, VISIBLE_STEP, Sweep, grid_index
from router.policy import GRID

STEPS = np.arange(0, GRID + 1, VISIBLE_STEP)
"""Thresholds that are compared, as steps of the grid: every 0.001."""

DRAWS = 100
MIN_RANGE = 30
"""Decisions of known cost, and judgements where they count, that a range takes: of fewer, 95 % of anything says nothing."""

FLAT = 0.02
"""A curve that changes by less than this share within 0.1 of a threshold gives no reason to choose there."""

Reason = Literal["not_measured", "infeasible"]
Draws = Callable[[np.random.Generator], tuple[Floats, NDArray[np.bool_]]]
"""Values of the objective on resampled traffic, shape (draws, steps), and which of them meet the condition."""


@dataclass(frozen=True, slots=True)
class Optimum:
    """The threshold with the least value, nearest to production among equals.

    Attributes
    ----------
    value_per_1000 : USD per 1,000 decisions that the objective counts: model costs, and the prices it puts on events.
    production_value : the same at the threshold in production; None where production does not meet the condition.
    plateau : thresholds around it, all meeting the condition, whose value is at most 1 % more.
    range : 2.5 and 97.5 % quantiles of the optimum over resampled traffic (and judgements, where it rests on them); None without a
        generator, and where ``no_range`` says why there is none.
    is_flat : within 0.1 of it cost changes by under 2 %: choose by other reasons.
    """

    objective: str
    threshold: float
    value_per_1000: float
    production_value: float | None
    cost_per_1000: float
    fallback_share: float
    plateau: tuple[float, float]
    range: tuple[float, float] | None
    no_range: str | None
    is_flat: bool


@dataclass(frozen=True, slots=True)
class NoOptimum:
    """Why there is none: nothing is measured, or no threshold meets the condition. ``text`` says what would change it."""

    objective: str
    reason: Reason
    text: str


def cheapest_with_fallback(
    curve: Sweep, most: float, *, rng: np.random.Generator | None = None, draws: int = DRAWS
) -> Optimum | NoOptimum:
    """Find the cheapest threshold at which at most the share ``most`` of decisions falls back."""
    name = f"cheapest with at most {most:.1%} fallback"
    missing = _unmeasured(curve, name)
    if missing is not None or curve.cost_per_1000 is None or curve.fallback_share is None:
        return missing or _nothing(name)
    share = curve.fallback_share[STEPS]
    if not bool((share <= most).any()):
        return NoOptimum(
            name,
            "infeasible",
            f"{share.min():.1%} falls back at every threshold, as labels have thresholds of their own; lower those or allow more",
        )
    values = curve.cost_per_1000[STEPS]

    def again(rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
        cost, moved = resampled(curve, rng, draws)
        return values + 1000 * cost / curve.n_priced, np.asarray(share + moved <= most)

    return _optimum(curve, name, values, share <= most, rng, again)


def cheapest_certified(
    curve: Sweep, certificate: Certificate, *, rng: np.random.Generator | None = None, draws: int = DRAWS
) -> Optimum | NoOptimum:
    """Find the cheapest threshold among those that the certificate's tests passed; none of the others carries the promise.

    All that passed carry it together, so choosing among them by cost takes nothing away from it.
    """
    name = certified_name(certificate.alpha)
    missing = _unmeasured(curve, name)
    if missing is not None or curve.cost_per_1000 is None:
        return missing or _nothing(name)
    passed = [step.threshold for step in certificate.steps if step.passed]
    if not passed:
        more = (
            ""
            if certificate.labels_missing is None
            else f"; about {certificate.labels_missing:,} more audit judgements may do"
        )
        # Where more judgements may do it is not known yet that nothing meets the condition.
        reason: Reason = "infeasible" if certificate.is_infeasible else "not_measured"
        return NoOptimum(name, reason, f"no threshold is certified at {certificate.alpha:g}{more}")
    allowed = np.isin(STEPS, [grid_index(t) for t in passed])
    values = curve.cost_per_1000[STEPS]

    def again(rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
        cost, _ = resampled(curve, rng, draws)
        return values + 1000 * cost / curve.n_priced, np.broadcast_to(allowed, cost.shape)

    return _optimum(curve, name, values, allowed, rng, again)


def cheapest_priced(
    curve: Sweep,
    accuracy: ArrayLike | None,
    *,
    fallback_usd: float = 0.0,
    wrong_usd: float = 0.0,
    judged: tuple[ArrayLike, ArrayLike] | None = None,
    rng: np.random.Generator | None = None,
    draws: int = DRAWS,
) -> Optimum | NoOptimum:
    """Find the threshold with the least total of model costs, a price for each fallback and one for each wrong route.

    Parameters
    ----------
    accuracy : chance that the top label is right at each confidence k / 10,000, shape (10,001,), from judged decisions
        (router.analysis.calibration.isotonic); may be None when a wrong route has no price.
    fallback_usd, wrong_usd : USD per decision. A decision whose label goes to the fallback model anyway has neither.
    judged : confidences of the judged decisions behind ``accuracy``, and whether their label was right, shape (n,) each; the range
        then holds their error too. None: it takes ``accuracy`` as known.

    Notes
    -----
    With calibrated confidences the best line follows from prices alone: fall back iff the chance of a wrong route x its price
    exceeds what falling back costs more (Elkan, The foundations of cost-sensitive learning, IJCAI 2001, section 1.2).

    For the range each draw resamples decisions with what their events are priced at, and fits accuracy again on judgements
    drawn with replacement (Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 7, 1979).
    """
    name = priced_name(fallback_usd, wrong_usd)
    missing = _unmeasured(curve, name)
    if missing is not None or curve.cost_per_1000 is None:
        return missing or _nothing(name)
    if wrong_usd > 0 and accuracy is None:
        return NoOptimum(
            name,
            "not_measured",
            "no decision was judged, so nothing says how often a route is wrong; judge an audit sample first",
        )
    total, free = np.zeros(GRID + 1), np.zeros(GRID + 1)
    right = np.ones(GRID + 1) if accuracy is None else np.asarray(accuracy, dtype=np.float64)
    for label in curve.labels:
        if label.same_model:
            continue
        counts = np.diff(label.fallback, append=label.n).astype(np.float64)  # decisions at each bin
        events = fallback_usd * label.fallback + wrong_usd * _from_above(counts * (1 - right))
        total += events if label.threshold is None else events[grid_index(label.threshold)]
        free += counts if label.threshold is None else 0.0
    values = (curve.cost_per_1000 + 1000 * total / curve.n)[STEPS]
    allowed = np.ones(len(STEPS), dtype=bool)
    known = None if wrong_usd == 0 else judged

    def again(rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
        # what falling back adds beside tokens, on the scale of costs, which are those of the priced decisions
        event = (fallback_usd - wrong_usd * (1 - right)) * curve.n_priced / curve.n
        cost, _ = resampled(curve, rng, draws, event=event, among=free)
        moved = values + 1000 * cost / curve.n_priced
        if known is not None:
            gone = _accuracy_lost(*known, right, free, rng, draws)
            moved += 1000 * wrong_usd * gone / curve.n
        return moved, np.broadcast_to(allowed, moved.shape)

    n_judged = None if known is None else np.size(known[0])
    return _optimum(curve, name, values, allowed, rng, again, n_judged=n_judged)


def priced_name(fallback_usd: float, wrong_usd: float) -> str:
    """What :func:`cheapest_priced` calls its objective; USD per event."""
    return f"least cost with a fallback at ${fallback_usd:g} and a wrong route at ${wrong_usd:g}"


def certified_name(alpha: float) -> str:
    """What :func:`cheapest_certified` calls its objective."""
    return f"cheapest with certified risk at most {alpha:g}"


def accuracy_on_grid(at: ArrayLike, accuracy: ArrayLike) -> Floats | None:
    """A reliability curve (distinct confidences and their accuracy) at every point of the grid; None when it has no point."""
    x, y = np.asarray(at, dtype=np.float64), np.asarray(accuracy, dtype=np.float64)
    return np.interp(np.arange(GRID + 1) / GRID, x, y) if len(x) else None


def resampled(
    curve: Sweep,
    rng: np.random.Generator,
    draws: int = DRAWS,
    *,
    event: Floats | None = None,
    among: Floats | None = None,
) -> tuple[Floats, Floats]:
    """How total cost (USD) and fallback share would vary on other traffic of the same kind, shape (draws, steps), as differences.

    Parameters
    ----------
    event, among : USD that a fallback adds beside its tokens at each bin, and how many decisions of the bin it is added to; shape
        (10,001,) each, None: nothing.

    Notes
    -----
    The multiplier bootstrap: each decision gets a random weight of mean 1 and variance 1. Within a bin the sums of (1, d) are
    then normal with covariance [[n, sum d], [sum d, sum d^2]], which cells hold, so that no row is read and the time does not
    depend on their number. Running sums carry the draws along the curve, hence neighbouring thresholds move together, as they
    do in truth.

    References
    ----------
    van der Vaart and Wellner, Weak Convergence and Empirical Processes (1996), section 2.9.
    """
    n = np.maximum(np.diff(curve.fallback[STEPS]).astype(np.float64), 0.0)
    moved, moved_sq = curve._moved, curve._moved_sq
    if event is not None and among is not None:
        # sums of d + e and (d + e)^2 from those of d and d^2, with e the same for all of a bin
        here = np.diff(moved, append=moved[-1])
        moved = moved + _below(event * among)
        moved_sq = moved_sq + _below(2 * event * here + event * event * among)
    d, squares = np.diff(moved[STEPS]), np.diff(moved_sq[STEPS])
    root = np.sqrt(n)
    along = np.divide(d, root, out=np.zeros_like(d), where=root > 0)
    across = np.sqrt(np.maximum(squares - along * along, 0.0))
    one, two = rng.standard_normal(
        (2, draws, len(n)), dtype=np.float32
    )  # half the time of doubles, and far more than enough
    cost, fell = np.zeros((draws, len(STEPS))), np.zeros((draws, len(STEPS)))
    two *= across.astype(np.float32)
    two += one * along.astype(np.float32)
    np.cumsum(two, axis=1, out=cost[:, 1:])
    one *= root.astype(np.float32)
    np.cumsum(one, axis=1, out=fell[:, 1:])
    above = np.sqrt(max(curve.n - float(n.sum()), 0.0)) * rng.standard_normal((draws, 1))
    share = curve.fallback[STEPS] / curve.n
    fell -= share * (fell[:, -1:] + above)
    fell /= curve.n
    return cost, fell


def _accuracy_lost(
    confidence: ArrayLike,
    correct: ArrayLike,
    right: Floats,
    among: Floats,
    rng: np.random.Generator,
    draws: int,
) -> Floats:
    """How many more of the decisions at or above each threshold are wrong by accuracy fitted to judgements drawn again.

    Against ``right``, accuracy by bin, for ``among``, decisions by bin; shape (draws, steps).
    """
    from scipy.optimize import isotonic_regression

    at, place = np.unique(np.asarray(confidence, dtype=np.float64), return_inverse=True)
    hit, n = np.asarray(correct, dtype=np.float64), len(place)
    used = np.flatnonzero(among)
    points, weights, step = (
        used / GRID,
        among[used],
        used // VISIBLE_STEP,
    )  # the last step that it is at or above
    lost = np.empty((draws, len(STEPS)))
    for i in range(draws):
        drawn = rng.integers(0, n, n)
        count = np.bincount(place[drawn], minlength=len(at)).astype(np.float64)
        hits = np.bincount(place[drawn], weights=hit[drawn], minlength=len(at))
        seen = count > 0
        fit = isotonic_regression(hits[seen] / count[seen], weights=count[seen]).x
        less = weights * (right[used] - np.interp(points, at[seen], fit))
        lost[i] = _from_above(np.bincount(step, weights=less, minlength=len(STEPS)).astype(np.float64))
    return lost


def _from_above(values: Floats) -> Floats:
    return np.asarray(np.cumsum(values[::-1])[::-1])


def _below(values: Floats) -> Floats:
    """Sum over the bins below each threshold."""
    return np.concatenate([[0.0], np.cumsum(values[:-1])])


def _optimum(
    curve: Sweep,
    name: str,
    values: Floats,
    allowed: NDArray[np.bool_],
    rng: np.random.Generator | None,
    again: Draws,
    *,
    n_judged: int | None = None,
) -> Optimum:
    assert curve.cost_per_1000 is not None and curve.fallback_share is not None
    production = grid_index(curve.production)
    open_values = np.where(allowed, values, np.inf)
    place = nearest(open_values, production)
    k = int(STEPS[place])
    near = np.abs(STEPS - k) <= 1000
    cost = curve.cost_per_1000[STEPS]
    at_production = int(np.argmin(np.abs(STEPS - production)))
    no_range = _no_range(curve.n_priced, n_judged)
    return Optimum(
        objective=name,
        threshold=k / GRID,
        value_per_1000=float(values[place]),
        production_value=float(values[at_production]) if allowed[at_production] else None,
        cost_per_1000=float(cost[place]),
        fallback_share=float(curve.fallback_share[k]),
        plateau=_plateau(open_values, place),
        range=None if rng is None or no_range is not None else _range(*again(rng), production),
        no_range=None if rng is None else no_range,
        is_flat=bool(np.ptp(cost[near]) < FLAT * abs(cost[place])),
    )


def _no_range(n_priced: int, n_judged: int | None) -> str | None:
    """Why nothing can be said about other traffic, or None."""
    if n_priced < MIN_RANGE:
        return f"it takes {MIN_RANGE} decisions of known cost, found {n_priced}"
    if n_judged is not None and n_judged < MIN_RANGE:
        return f"it takes {MIN_RANGE} judgements, found {n_judged}"
    return None


def _plateau(values: Floats, place: int) -> tuple[float, float]:
    dearer = np.flatnonzero(values > values[place] + PLATEAU * abs(values[place]))
    after = int(np.searchsorted(dearer, place))
    low = int(dearer[after - 1]) + 1 if after > 0 else 0
    high = int(dearer[after]) - 1 if after < len(dearer) else len(values) - 1
    return int(STEPS[low]) / GRID, int(STEPS[high]) / GRID


def _range(values: Floats, feasible: NDArray[np.bool_], production: int) -> tuple[float, float]:
    """Quantiles of the optimum over drawn values, shape (draws, steps)."""
    moved = np.where(feasible, values, np.inf)
    least = moved.min(axis=1, keepdims=True)
    far = np.where(moved <= least + 1e-12 * np.abs(least), np.abs(STEPS - production), np.inf)
    found = STEPS[np.argmin(far, axis=1)] / GRID
    low, high = np.quantile(found, [0.025, 0.975], method="nearest")
    return float(low), float(high)


def nearest(values: Floats, production: int) -> int:
    """Place of the least value; of equals the one nearest to production, then the lower."""
    least = float(values.min())
    equal = np.flatnonzero(values <= least + 1e-12 * abs(least))
    return int(equal[np.argmin(np.abs(STEPS[equal] - production))])


def _unmeasured(curve: Sweep, name: str) -> NoOptimum | None:
    return _nothing(name) if curve.cost_per_1000 is None or curve.n == 0 else None


def _nothing(name: str) -> NoOptimum:
    return NoOptimum(name, "not_measured", "no decision has a known cost: token counts or prices are missing")
