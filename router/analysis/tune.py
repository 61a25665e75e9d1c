"""The best threshold under a stated objective, how far one may go from it for nothing, and how sure the log is of it.

Best is always "best under this objective": a log alone knows costs and shares, not whether the answers were good.
"""

from __future__ import annotations

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
FLAT = 0.02
"""A curve that changes by less than this share within 0.1 of a threshold gives no reason to choose there."""

Reason = Literal["not_measured", "infeasible"]


@dataclass(frozen=True, slots=True)
class Optimum:
    """The threshold with the least value, nearest to production among equals.

    Attributes
    ----------
    value_per_1000 : USD per 1,000 decisions that the objective counts: model costs, and the prices it puts on events.
    production_value : the same at the threshold in production; None where production does not meet the condition.
    plateau : thresholds around it, all meeting the condition, whose value is at most 1 % more.
    range : 2.5 and 97.5 % quantiles of the optimum over resampled traffic; None without a generator.
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
    allowed = share <= most

    def resampled_allowed(shares: Floats) -> NDArray[np.bool_]:
        return np.asarray(shares <= most)

    return _optimum(curve, name, curve.cost_per_1000[STEPS], allowed, rng, draws, resampled_allowed)


def cheapest_certified(
    curve: Sweep, certificate: Certificate, *, rng: np.random.Generator | None = None, draws: int = DRAWS
) -> Optimum | NoOptimum:
    """Find the cheapest threshold among those that the certificate's tests passed; none of the others carries the promise.

    All that passed carry it together, so choosing among them by cost takes nothing away from it.
    """
    name = f"cheapest with certified risk at most {certificate.alpha:g}"
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
    return _optimum(curve, name, curve.cost_per_1000[STEPS], allowed, rng, draws, None)


def cheapest_priced(
    curve: Sweep,
    accuracy: ArrayLike | None,
    *,
    fallback_usd: float = 0.0,
    wrong_usd: float = 0.0,
    rng: np.random.Generator | None = None,
    draws: int = DRAWS,
) -> Optimum | NoOptimum:
    """Find the threshold with the least total of model costs, a price for each fallback and one for each wrong route.

    Parameters
    ----------
    accuracy : chance that the top label is right at each confidence k / 10,000, shape (10,001,), from judged decisions
        (router.analysis.calibration.isotonic); may be None when a wrong route has no price.
    fallback_usd, wrong_usd : USD per decision. A decision whose label goes to the fallback model anyway has neither.

    Notes
    -----
    With calibrated confidences the best line follows from prices alone: fall back iff the chance of a wrong route x its price
    exceeds what falling back costs more (Elkan, The foundations of cost-sensitive learning, IJCAI 2001, section 1.2).
    """
    name = f"least cost with a fallback at ${fallback_usd:g} and a wrong route at ${wrong_usd:g}"
    missing = _unmeasured(curve, name)
    if missing is not None or curve.cost_per_1000 is None:
        return missing or _nothing(name)
    if wrong_usd > 0 and accuracy is None:
        return NoOptimum(
            name,
            "not_measured",
            "no decision was judged, so nothing says how often a route is wrong; judge an audit sample first",
        )
    total = np.zeros(GRID + 1)
    right = np.ones(GRID + 1) if accuracy is None else np.asarray(accuracy, dtype=np.float64)
    for label in curve.labels:
        if label.same_model:
            continue
        counts = np.diff(label.fallback, append=label.n).astype(np.float64)  # decisions at each bin
        wrong = np.cumsum((counts * (1 - right))[::-1])[::-1]  # at or above each threshold
        events = fallback_usd * label.fallback + wrong_usd * wrong
        total += events if label.threshold is None else events[grid_index(label.threshold)]
    values = (curve.cost_per_1000 + 1000 * total / curve.n)[STEPS]
    return _optimum(curve, name, values, np.ones(len(STEPS), dtype=bool), rng, draws, None)


def accuracy_on_grid(at: ArrayLike, accuracy: ArrayLike) -> Floats | None:
    """A reliability curve (distinct confidences and their accuracy) at every point of the grid; None when it has no point."""
    x, y = np.asarray(at, dtype=np.float64), np.asarray(accuracy, dtype=np.float64)
    return np.interp(np.arange(GRID + 1) / GRID, x, y) if len(x) else None


def resampled(curve: Sweep, rng: np.random.Generator, draws: int = DRAWS) -> tuple[Floats, Floats]:
    """How total cost (USD) and fallback share would vary on other traffic of the same kind, shape (draws, steps), as differences.

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
    d, squares = np.diff(curve._moved[STEPS]), np.diff(curve._moved_sq[STEPS])
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


def _optimum(
    curve: Sweep,
    name: str,
    values: Floats,
    allowed: NDArray[np.bool_],
    rng: np.random.Generator | None,
    draws: int,
    allow: object,
) -> Optimum:
    assert curve.cost_per_1000 is not None and curve.fallback_share is not None
    production = grid_index(curve.production)
    open_values = np.where(allowed, values, np.inf)
    place = nearest(open_values, production)
    k = int(STEPS[place])
    near = np.abs(STEPS - k) <= 1000
    cost = curve.cost_per_1000[STEPS]
    at_production = int(np.argmin(np.abs(STEPS - production)))
    return Optimum(
        objective=name,
        threshold=k / GRID,
        value_per_1000=float(values[place]),
        production_value=float(values[at_production]) if allowed[at_production] else None,
        cost_per_1000=float(cost[place]),
        fallback_share=float(curve.fallback_share[k]),
        plateau=_plateau(open_values, place),
        range=None if rng is None else _range(curve, values, allowed, rng, draws, allow, production),
        is_flat=bool(np.ptp(cost[near]) < FLAT * abs(cost[place])),
    )


def _plateau(values: Floats, place: int) -> tuple[float, float]:
    dearer = np.flatnonzero(values > values[place] + PLATEAU * abs(values[place]))
    after = int(np.searchsorted(dearer, place))
    low = int(dearer[after - 1]) + 1 if after > 0 else 0
    high = int(dearer[after]) - 1 if after < len(dearer) else len(values) - 1
    return int(STEPS[low]) / GRID, int(STEPS[high]) / GRID


def _range(
    curve: Sweep,
    values: Floats,
    allowed: NDArray[np.bool_],
    rng: np.random.Generator,
    draws: int,
    allow: object,
    production: int,
) -> tuple[float, float]:
    assert curve.fallback_share is not None
    cost, share = resampled(curve, rng, draws)
    moved = values + 1000 * cost / max(curve.n_priced, 1)
    feasible = allow(curve.fallback_share[STEPS] + share) if callable(allow) else allowed
    moved = np.where(feasible, moved, np.inf)
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
