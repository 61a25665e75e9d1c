"""The audit sample as it was drawn: every decision of the draw, judged or not, and the traffic that it was drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from router.log.drawn import Traffic, read_drawn
from router.log.evidence import newest_classifier
from router.log.filters import Filter, where
from router.log.judged import judged
from router.log.reader import Log
from router.log.schema import sql

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class AuditRows:
    """Audit decisions under a filter.

    Attributes
    ----------
    table : one row per decision with scores: ``id, label, confidence, margin, classifier, labels_fingerprint, decided_at, cause,
        model, is_served, threshold, verdict, inclusion_probability``; verdict None: not judged yet.
    narrower : traffic that some of them were drawn from and that does not hold all that the filter asks about.
    n_unnoted : judged decisions whose draw this data folder does not know: others of it may wait elsewhere.
    n_unknown : decisions drawn by a version that did not note from what.
    classifier : of the newest decision with scores under the filter; None without one.
    """

    table: pd.DataFrame
    narrower: tuple[Traffic, ...]
    n_unnoted: int
    n_unknown: int
    classifier: str | None


def audit_rows(log: Log, chosen: Filter) -> AuditRows:
    """Read the audit queue's decisions that the filter matches, with the last verdict given for that queue."""
    told = judged(log, chosen)
    told = told[told["queue"] == "audit"].set_index("id")
    drawn = {x.decision_id: x for x in read_drawn(log.data) if x.queue == "audit"}
    condition, values = where(chosen)
    table = log.frame(
        sql("audit").replace("{filter}", condition), values | {"ids": sorted({*drawn, *told.index})}
    )
    table["verdict"] = [told["verdict"].get(x) for x in table["id"]]
    table["inclusion_probability"] = [
        drawn[x].inclusion_probability if x in drawn else told["inclusion_probability"].get(x)
        for x in table["id"]
    ]
    mine = [drawn[x] for x in table["id"] if x in drawn]
    first, last = _span(log)
    narrower = {x.traffic for x in mine if x.traffic is not None and not x.traffic.holds(chosen, first, last)}
    return AuditRows(
        table=table,
        narrower=tuple(sorted(narrower, key=repr)),
        n_unnoted=len(table) - len(mine),
        n_unknown=sum(x.traffic is None for x in mine),
        classifier=newest_classifier(log, chosen),
    )


def _span(log: Log) -> tuple[datetime | None, datetime | None]:
    """Times of the first and the last decision; None where some have none: those are in no period."""
    [(first, last, timeless)] = log.rows(
        "SELECT min(first_at), max(last_at), count(*) FILTER (WHERE hour IS NULL) FROM hourly"
    )
    return (None, None) if timeless else (first, last)


def bins_above_margin(log: Log, chosen: Filter, min_margin: float) -> pd.DataFrame:
    """Decisions by label and confidence bin that a margin rule lets pass; see router.analysis.tables.BINS."""
    condition, values = where(chosen)
    return log.frame(
        sql("bins_above_margin").replace("{filter}", condition), values | {"min_margin": min_margin}
    )
