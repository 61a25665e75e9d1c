"""The threshold's part of the document: the curve, where it is cheapest, how far one may go, what changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from router.analysis.auditing import sample
from router.analysis.calibration import normalised
from router.analysis.dead_zones import dead_zones
from router.analysis.forecast import forecast_share
from router.analysis.quality import quality
from router.analysis.sweep import cheapest, operating_point
from router.analysis.tune import cheapest_with_fallback
from router.log import evidence
from router.log.audits import audit_rows
from router.policy import GRID
from router.report.plain import plain

if TYPE_CHECKING:
    import pandas as pd

    from router.analysis.quality import Quality
    from router.analysis.sweep import Sweep
    from router.log.filters import Filter
    from router.log.reader import Log
    from router.policy import Policy

STEP = 50
"""Steps of the 1e-4 grid between two drawn points: 0.005, so 201 points."""

TABLE_STEP = 500
"""Between two rows of the table: 0.05."""

_DRAWN = ("thresholds", "fallback", "fallback_share", "cost_per_1000", "cost_half", "savings_share")


def curve(
    log: Log, chosen: Filter, cells: pd.DataFrame, found: Sweep, policy: Policy, wishes: Any
) -> dict[str, Any]:
    """The curve under ``wishes.max_fallback`` and ``wishes.seed``; ``points`` holds every 0.05, production and the optimum."""
    best, least = None, None
    if found.n:
        best = cheapest_with_fallback(found, wishes.max_fallback, rng=np.random.default_rng(wishes.seed))
        least = cheapest(found)
    at = getattr(best, "threshold", None)
    wanted = {k / GRID for k in range(0, GRID + 1, TABLE_STEP)} | {policy.threshold}
    wanted |= {at} if at is not None else set()
    lines = {x.name: policy.threshold_for(x.name) for x in policy.labels}
    rows = audit_rows(log, chosen)
    audit = sample(rows.table, policy, classifier=rows.classifier, partial=True)
    judged = None if rows.narrower else quality(audit.audit, policy)
    days = evidence.daily_share(log, chosen, lines)
    return {
        "production": policy.threshold,
        "normalised_production": normalised(policy.threshold, len(policy.labels)),
        "own_thresholds": {x.name: x.threshold for x in policy.labels if x.threshold is not None},
        "n": found.n,
        "n_priced": found.n_priced,
        "n_left_out": found.n_left_out,
        "grade": found.grade,
        "baseline": found.baseline,
        "classifier_known": found.classifier_known,
        "has_margin_rule": found.has_margin_rule,
        "max_fallback": wishes.max_fallback,
        "optimum": best if at is not None else None,
        "no_optimum": best if at is None else None,
        "cheapest": least,
        "next_days": forecast_share(days["n"], days["n_below"]),
        "dead_zones": dead_zones(cells, policy),
        "curve": {name: _thinned(getattr(found, name)) for name in _DRAWN} if found.n else None,
        "points": [_point(found, x, judged) for x in sorted(wanted)] if found.n else [],
        "quality": None if judged is None else _quality(judged),
        "n_audit": len(audit.audit),
    }


def _quality(judged: Quality) -> dict[str, Any]:
    """The share of right labels at the drawn thresholds until too few are let through, with its 95 % interval."""
    points = [(k / GRID, judged.at(k / GRID)) for k in range(0, GRID + 1, STEP)]
    there = [(at, x.share, x.interval) for at, x in points if x.share is not None and x.interval is not None]
    return {
        "thresholds": [at for at, _, _ in there],
        "share": [share for _, share, _ in there],
        "low": [interval.low for _, _, interval in there],
        "high": [interval.high for _, _, interval in there],
    }


def _thinned(values: Any) -> Any:
    return None if values is None else values[::STEP]


def _point(found: Sweep, at: float, judged: Quality | None) -> dict[str, Any]:
    names = ("label", "threshold", "fallback", "fallback_share")
    point: dict[str, Any] = plain(operating_point(found, at))
    point["quality"] = None if judged is None else plain(judged.at(at))
    return point | {"labels": [dict(zip(names, row, strict=True)) for row in point["labels"]]}
