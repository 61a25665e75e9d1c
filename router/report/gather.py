"""Everything the report says, as one plain document: the log under a filter, a policy and its prices, one clock, one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from router import __version__
from router.analysis.confidence import confidence_curves, confidence_histogram
from router.analysis.drift import drift
from router.analysis.savings import savings
from router.analysis.sweep import operating_point, sweep
from router.log import evidence, queries
from router.report import checked, collisions, threshold
from router.report.plain import plain
from router.types import REPLIES

if TYPE_CHECKING:
    import pandas as pd

    from router.log.filters import Filter
    from router.log.reader import Log
    from router.policy import Policy
    from router.prices import PriceBook

FORMAT = 1
"""Version of the document's layout."""

RECENT_DAYS = 7
"""The newest days of the data, which drift compares with the ones before."""

MOST_DAYS = 120
"""Above this many days the shares are told by week."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the reader may choose. ``examples``: prompts shown for each close pair; 0: no prompt is read at all."""

    max_fallback: float = 0.2
    alpha: float = 0.1
    delta: float = 0.1
    examples: int = 0
    seed: int = 0


def gather(
    log: Log,
    chosen: Filter,
    policy: Policy,
    prices: PriceBook,
    *,
    clock: Callable[[], datetime],
    wishes: Wishes | None = None,
) -> dict[str, Any]:
    """Read the log once and put every figure of the report together; ``clock`` gives naive UTC.

    The same rows, policy, wishes and clock give the same document. A part that is not measured is None, or holds the
    reason beside an empty figure; nothing is 0 for want of data.
    """
    wanted = wishes or Wishes()
    first, last = queries.bounds(log, chosen)
    now = clock()
    baseline = queries.baseline_of(policy)
    cells = queries.cells(log, chosen, policy, prices)
    curve = sweep(cells, policy)
    total = queries.summary(log, chosen, prices)
    saved = savings(queries.spend(log, chosen, policy, prices, baseline=baseline), baseline)
    days = evidence.daily(log, chosen)
    moved = None
    if last is not None and len(days):
        moved = drift(days, (last - timedelta(days=RECENT_DAYS - 1)).date())
    document = {
        "report": {
            "format": FORMAT,
            "made_at": now,
            "version": __version__,
            "seed": wanted.seed,
            "examples": wanted.examples,
            "filter": _conditions(chosen),
        },
        "log": _log(log, chosen, policy, first, last, now),
        "policy": _policy(policy),
        "prices": _prices(policy, prices, last or now),
        "overview": {"fallback_share": _share(total["n_fallback"], total["n_scored"]), **total},
        "savings": {
            **plain(saved),
            "is_whole": saved.is_whole,
            "missing": saved.missing,
            "baseline_is_whole": saved.n_unpriced == 0,
        },
        "labels": _labels(curve, saved, cells, policy),
        "threshold": threshold.curve(log, chosen, cells, curve, policy, wanted),
        "overlap": collisions.pairs(log, chosen, policy, prices, wanted.examples),
        "confidence": confidence_histogram(cells, policy),
        "quality": checked.quality(log, chosen, policy, curve, wanted, now.date()),
        "drift": None if moved is None else {**plain(moved), **_periods(days)},
        "models": _models(log, chosen, policy, prices, now),
    }
    found: dict[str, Any] = plain(document)
    return found


def _conditions(chosen: Filter) -> dict[str, Any]:
    return {
        x.name: getattr(chosen, x.name)
        for x in fields(chosen)
        if x.name != "upto" and getattr(chosen, x.name) != x.default
    }


def _log(
    log: Log, chosen: Filter, policy: Policy, first: datetime | None, last: datetime | None, now: datetime
) -> dict[str, Any]:
    from dataclasses import replace

    n = queries.count(log, chosen)
    lost = queries.losses(log)
    same = n if chosen.policy is not None else queries.count(log, replace(chosen, policy=policy.fingerprint))
    classifiers, label_sets = evidence.rested_on(log, chosen)
    return {
        "n": n,
        "n_total": log.count(),
        "first_at": first,
        "last_at": last,
        "mode": log.mode,
        "owner_pid": None if log.holder is None else log.holder.pid,
        "note": log.note,
        "read_at": min(log.read_at, now) if log.mode == "spool" else now,
        "newest_age_s": None if last is None else max((now - last).total_seconds(), 0.0),
        "n_other_policies": n - same,
        "classifiers": classifiers,
        "n_label_sets": len(label_sets),
        "n_drops": lost["n_drops"],
        "n_rejects": lost["n_rejects"],
    }


def _policy(policy: Policy) -> dict[str, Any]:
    return {
        "name": policy.name,
        "fingerprint": policy.fingerprint,
        "labels_fingerprint": policy.labels_fingerprint,
        "threshold": policy.threshold,
        "min_margin": policy.min_margin,
        "fallback_model": policy.fallback_model,
        "baseline": queries.baseline_of(policy),
        "classifier": policy.classifier,
        "labels": [{"label": x.name, "model": x.model, "threshold": x.threshold} for x in policy.labels],
    }


def _prices(policy: Policy, prices: PriceBook, at: datetime) -> dict[str, Any]:
    rates = []
    for model in policy.model_names:
        rate = prices.rate(model, at.date())
        rates.append(
            {
                "model": model,
                "input_usd_per_million": None if rate is None else rate.input,
                "output_usd_per_million": None if rate is None else rate.output,
                "source": None if rate is None else rate.source,
                "as_of": None if rate is None else rate.as_of,
                "is_stale": rate is not None and rate.is_stale(at.date()),
            }
        )
    return {"source": prices.version, "as_of": prices.as_of, "on_day": at.date(), "rates": rates}


def _labels(curve: Any, saved: Any, cells: pd.DataFrame, policy: Policy) -> list[dict[str, Any]]:
    """One entry per label of the policy, then labels that the log alone knows."""
    paid = {x.label: x for x in saved.labels}
    known = {x.label: x for x in curve.labels}
    point = {label: row for label, *row in operating_point(curve, curve.production).labels}
    median = {x.label: _median(x) for x in confidence_curves(cells, policy)}
    found = []
    for name in [*policy.label_names, *(x for x in paid if x is not None and x not in known)]:
        line, part = known.get(name), paid.get(name)
        at, fell, fell_share = point.get(name, (None, None, None))
        found.append(
            {
                "label": name,
                "in_policy": line is not None,
                "model": None if line is None else line.model,
                "threshold": at,
                "n": line.n if line is not None else part.n if part is not None else 0,
                "median_confidence": median.get(name),
                "n_below": fell,
                "share_below": fell_share,
                "n_fell_back": None if part is None else part.n_fallback,
                "fallback_price_per_1000": None if line is None else line.fallback_price,
                "fallback_price_half": None if line is None else line.fallback_price_half,
                "goes_to_fallback_model": line is not None and line.same_model,
                "baseline_usd": None if part is None else part.baseline_usd,
                "paid_usd": None if part is None else part.paid_usd,
                "is_whole": part is None or part.is_whole,
                "savings_usd": None if part is None else part.savings_usd,
                "savings_share": None if part is None else part.savings_share,
                "missing": "" if part is None else part.missing,
            }
        )
    return found


def _median(curve: Any) -> float | None:
    """The largest multiple of 0.001 that at most half of the label's confidences are below."""
    if not curve.n:
        return None
    return float(curve.confidence[np.flatnonzero(curve.share_below <= 0.5)[-1]])


def _periods(days: pd.DataFrame) -> dict[str, Any]:
    """Decisions, fallbacks and label counts by day, or by week (from Monday) where there are many days."""
    table = days.assign(day=days["day"].astype("datetime64[s]"))
    by_week = table["day"].nunique() > MOST_DAYS
    if by_week:
        import pandas as pd

        table["day"] = table["day"] - pd.to_timedelta(table["day"].dt.day_of_week, unit="D")
    names = sorted(table["label"].astype(str).unique())
    found = []
    for at, part in table.groupby("day"):
        n, fell = int(part["n"].sum()), int(part["n_fallback"].sum())
        per_label = part.groupby(part["label"].astype(str))["n"].sum()
        counts = [int(per_label.get(name, 0)) for name in names]
        found.append(
            {"day": at.date(), "n": n, "n_fallback": fell, "fallback_share": fell / n, "labels": counts}
        )
    return {"period": "week" if by_week else "day", "names": names, "periods": found}


def _models(
    log: Log, chosen: Filter, policy: Policy, prices: PriceBook, now: datetime
) -> list[dict[str, Any]]:
    """Who answered, what it cost, and until when a model is served.

    ``n_called``: decisions whose call ended in any way; ``n_failed``: those that ended without a reply of this model.
    """
    table = queries.series(log, chosen, prices, width=timedelta(days=1))
    named = table[table["model_used"].notna()]
    called = named["n"].where(named["outcome"].notna(), 0)
    failed = called.where(~named["outcome"].isin(REPLIES), 0)
    named = named.assign(n_called=called, n_failed=failed)
    columns = ["n", "n_costed", "n_unanswered", "cost_usd", "n_called", "n_failed"]
    sums = named.groupby("model_used")[columns].sum() if len(named) else None
    seen = [] if sums is None else [str(x) for x in sums.index]
    found = []
    for model in dict.fromkeys([*policy.model_names, *seen]):
        end = prices.end_of_life(model, now.date())
        row = sums.loc[model] if sums is not None and model in sums.index else None
        n_costed = 0 if row is None else int(row["n_costed"])
        found.append(
            {
                "model": model,
                "in_policy": model in policy.model_names,
                "n": 0 if row is None else int(row["n"]),
                "n_costed": n_costed,
                "n_called": 0 if row is None else int(row["n_called"]),
                "n_failed": 0 if row is None else int(row["n_failed"]),
                "cost_usd": None if row is None or not n_costed else float(row["cost_usd"]),
                "is_whole": row is None or int(row["n"]) == n_costed + int(row["n_unanswered"]),
                "ends_on": None if end is None else end.date,
                "days_left": None if end is None else end.days_left,
                "successor": None if end is None else end.successor,
                "end_source": None if end is None else end.source,
            }
        )
    return found


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
