"""The part of the document that rests on judged decisions: calibration, a certificate, or how many labels either takes."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from router.analysis.auditing import right_or_wrong, sample
from router.analysis.binomial import labels_needed, zero_failures_needed
from router.analysis.calibration import calibration, isotonic_out_of_fold, meaning
from router.analysis.certify import certify
from router.analysis.lapse import VALID_DAYS
from router.analysis.sweep import operating_point
from router.log import evidence, queries
from router.log.audits import audit_rows, bins_above_margin
from router.report.plain import plain

if TYPE_CHECKING:
    from router.analysis.certify import Certificate
    from router.analysis.sweep import Sweep
    from router.log.filters import Filter
    from router.log.reader import Log
    from router.policy import Policy


def quality(
    log: Log, chosen: Filter, policy: Policy, curve: Sweep, wishes: Any, today: date
) -> dict[str, Any]:
    """Calibration and the first look's promise at ``wishes.alpha`` and ``wishes.delta``; None in both where no audit row was judged.

    ``needed``: audit labels among the served that certify alpha when none is wrong, and at a true risk of alpha / 2 with a
    power of 80 %.
    """
    table = evidence.judgements(log, chosen)
    rows = audit_rows(log, chosen)
    audit = right_or_wrong(rows.table, policy, classifier=rows.classifier)
    found: dict[str, Any] = {
        "n_judged": int(table["id"].nunique()),
        "n_audit": len(audit),
        "alpha": wishes.alpha,
        "delta": wishes.delta,
        "needed": {
            "none_wrong": zero_failures_needed(wishes.alpha, wishes.delta),
            "half_of_alpha": labels_needed(wishes.alpha, wishes.delta, wishes.alpha / 2),
        },
        "calibration": None,
        "meaning": None,
        "certificate": None,
        "no_promise": None,
        "audit": None,
    }
    if len(audit) == 0:
        return found
    confidence = audit["confidence"].to_numpy(dtype=float)
    correct = (audit["verdict"] == "right").to_numpy()
    rng = np.random.default_rng(wishes.seed)
    found["calibration"] = calibration(confidence, correct, rng=rng)
    after = isotonic_out_of_fold(confidence, correct, rng=np.random.default_rng(wishes.seed))
    found["meaning"] = meaning(confidence, after, correct, policy.threshold)
    made, why, drawn = _promise(log, chosen, policy, wishes)
    found |= {"no_promise": why, "audit": drawn}
    if made is None:
        return found
    there = None if made.threshold is None else operating_point(curve, made.threshold)
    found["certificate"] = plain(made) | {
        "step": plain(made.step),
        "own_thresholds": {x.name: x.threshold for x in policy.labels if x.threshold is not None},
        "fallback_share": None if there is None else there.fallback_share,
        "savings_share": None if there is None else there.savings_share,
        "savings_is_bound": not curve.classifier_known,
        "made_on": today,
        "valid_until": today + timedelta(days=VALID_DAYS),
    }
    return found


def _promise(
    log: Log, chosen: Filter, policy: Policy, wishes: Any
) -> tuple[Certificate | None, str | None, dict[str, int]]:
    """The certificate for labels that share the line, or why there is none; and what was drawn."""
    rows = audit_rows(log, chosen)
    found = sample(rows.table, policy, classifier=rows.classifier)
    drawn = {
        "drawn": found.n_drawn,
        "judged": found.n_judged,
        "unsure": found.n_unsure,
        "open": found.n_open,
        "left_out": sum(n for n, _ in found.left_out),
        "counted_apart": 0,
    }
    follow = [x.name for x in policy.labels if x.threshold is None]
    why = found.refused
    if rows.narrower:
        why = "audit decisions were drawn from a part of this traffic alone; choose that part for a report"
    elif why is None and not follow:
        why = "every label has a threshold of its own; 'routescope certify --per-label' promises each"
    if why is not None:
        return None, why, drawn
    own = evidence.ground(log, chosen, policy.labels_fingerprint, rows.classifier)
    drawn["counted_apart"] = own.n_other
    whole = queries.bins(log, own.chosen)
    least = policy.min_margin
    traffic = bins_above_margin(log, own.chosen, least) if least else whole
    return (
        certify(found.audit, traffic, follow, alpha=wishes.alpha, delta=wishes.delta, whole=whole),
        None,
        drawn,
    )
