"""Which decisions are meant: the filter that pages and verbs share, as a condition of SQL."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from router.log.rollups import USAGE_KNOWN
from router.types import REPLIES, UNCHARGED


@dataclass(frozen=True, slots=True)
class Filter:
    """Which decisions are meant; None or empty means all.

    Attributes
    ----------
    start, end : naive UTC, half-open ``[start, end)``.
    policy : a policy's fingerprint.
    labels, models, causes : any of these; ``models`` are those that answered (or were to answer).
    confidence : (low, high), ``low <= confidence < high``; a high of 1 or more includes 1.
    text : the prompt contains it, whatever the case; taken literally.
    unmeasured : those without token counts that may have cost something; calls that nobody charges for cost 0.
    classifier, label_set : the name of the classifier, the fingerprint of the labels that were scored; decisions that do not
        say (some imports) match too.
    upto : only the first ``upto`` rows in the order they were ingested, so that pages do not shift.
    """

    start: datetime | None = None
    end: datetime | None = None
    policy: str | None = None
    labels: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    confidence: tuple[float, float] | None = None
    text: str | None = None
    source: str | None = None
    session_id: str | None = None
    outcomes: tuple[str, ...] = ()
    unmeasured: bool = False
    failed: bool = False
    classifier: str | None = None
    label_set: str | None = None
    upto: int | None = None

    def without(self, name: str) -> Filter:
        """The filter with one condition taken away."""
        kept = {field.name: getattr(self, field.name) for field in fields(Filter) if field.name != name}
        return Filter(**kept)

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the conditions that are set, the time range and ``upto`` aside."""
        return tuple(
            field.name
            for field in fields(self)
            if field.name not in ("start", "end", "upto") and getattr(self, field.name) != field.default
        )


def where(chosen: Filter) -> tuple[str, dict[str, Any]]:
    """A filter as a SQL condition on ``d`` and its bound values."""
    parts, values = ["true"], {}

    def add(condition: str, **bound: Any) -> None:
        parts.append(condition)
        values.update(bound)

    if chosen.start is not None:
        add("d.decided_at >= $start", start=chosen.start)
    if chosen.end is not None:
        add("d.decided_at < $end", end=chosen.end)
    if chosen.policy is not None:
        add("d.policy_fingerprint = $policy", policy=chosen.policy)
    if chosen.labels:
        add("list_contains($labels, d.top_label)", labels=list(chosen.labels))
    if chosen.models:
        add("list_contains($models, coalesce(d.model_used, d.model_chosen))", models=list(chosen.models))
    if chosen.causes:
        add("list_contains($causes, d.cause)", causes=list(chosen.causes))
    if chosen.outcomes:
        add("list_contains($outcomes, d.outcome)", outcomes=list(chosen.outcomes))
    if chosen.confidence is not None:
        low, high = chosen.confidence
        add("d.confidence >= $low", low=low)
        if high < 1.0:
            add("d.confidence < $high", high=high)
    if chosen.text:
        add("contains(lower(d.prompt), lower($text))", text=chosen.text)
    if chosen.source is not None:
        add("d.source = $source", source=chosen.source)
    if chosen.session_id is not None:
        add("d.session_id = $session", session=chosen.session_id)
    if chosen.unmeasured:
        add(
            f"NOT {USAGE_KNOWN} AND NOT coalesce(list_contains($uncharged, d.outcome), false)",
            uncharged=sorted(UNCHARGED),
        )
    if chosen.failed:
        add("d.outcome IS NOT NULL AND NOT list_contains($replies, d.outcome)", replies=list(REPLIES))
    if chosen.classifier is not None:
        add("(d.classifier IS NULL OR d.classifier = $classifier)", classifier=chosen.classifier)
    if chosen.label_set is not None:
        add("(d.labels_fingerprint IS NULL OR d.labels_fingerprint = $label_set)", label_set=chosen.label_set)
    if chosen.upto is not None:
        add("d.rowid < $upto", upto=chosen.upto)
    return " AND ".join(parts), values
