"""What in a log needs someone's attention, in words, largest effect first, each with the way to the rows behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from math import floor
from typing import Any, Literal

import pandas as pd

from router.analysis.dead_zones import DeadZone
from router.analysis.overlap import Overlap
from router.policy import Policy
from router.prices import EndOfLife, PriceBook, per_million
from router.types import REPLIES

RETIRE_DAYS = 90
"""A model that stops being served within this many days is listed."""

URGENT_DAYS = 7
"""One that stops within this many days comes first, whatever its share."""

CLASSIFIER_SHARE = 0.01
"""Failed classifications above this share of decisions are listed."""

CLOSE_SHARE = 0.05
"""A pair of labels whose close calls are above this share of decisions is listed."""

BACKLOG_BYTES = 1_000_000
"""More than this in the spools means that rows are missing from what is shown: one turn of ingest."""

Kind = Literal[
    "failed", "retiring", "price", "unmeasured", "dead_zone", "drops", "backlog", "overlap", "classifier"
]

_FAILURES = ("classifier_error", "classifier_timeout")

FAILED_SHARE = 0.01
"""Model calls without a usable reply above this share of decisions are listed."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a sentence: words of ours, or a name from the log or policy, which no one has checked."""

    text: str
    is_name: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that needs attention.

    Attributes
    ----------
    parts : the sentence in pieces, so that a page can escape and stress the names; ``text`` joins them.
    page, query : the page that shows the rows behind it, and its choices; None: the log itself, no rows.
    share : decisions concerned, as a share of all in view; orders the list.
    is_urgent : comes first whatever its share: lost records, failed calls, a model that is about to go.
    """

    kind: Kind
    parts: tuple[Part, ...]
    page: str | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    share: float = 0.0
    is_urgent: bool = False

    @property
    def text(self) -> str:
        """The whole sentence, plain."""
        return "".join(part.text for part in self.parts)


def attention(
    *,
    series: pd.DataFrame,
    policy: Policy,
    prices: PriceBook,
    today: date,
    n: int,
    n_unmeasured: int,
    dead_zones: Sequence[DeadZone],
    overlap: Overlap,
    drops: Mapping[str, int],
    rejects: Mapping[str, int],
    backlog_bytes: int,
) -> list[Finding]:
    """List what needs attention, largest effect first.

    Parameters
    ----------
    series : rows of ``series.sql`` over the period: counts by label, model and cause.
    n, n_unmeasured : decisions of the period, and those without token counts.
    drops, rejects : records that never became a row, and damaged lines, by reason; of the whole log.
    backlog_bytes : bytes in the spools that the log does not hold yet.
    """
    by_model = series.groupby("model_used")["n"].sum().to_dict() if len(series) else {}
    found = [
        *_lost(drops, rejects),
        *_failed(series, n),
        *_retiring(policy, by_model, prices, today, n),
        *_unpriced(by_model, prices, today, n),
        *_unmeasured(n, n_unmeasured),
        *_classifier(series, n),
        *(_dead_zone(zone) for zone in dead_zones if _counts(zone)),
        *_close(overlap),
    ]
    if backlog_bytes > BACKLOG_BYTES:
        found.append(
            Finding("backlog", (Part(f"{backlog_bytes / 1e6:,.1f} MB of new decisions are not shown yet."),))
        )
    return sorted(found, key=lambda finding: (not finding.is_urgent, -finding.share))


def _lost(drops: Mapping[str, int], rejects: Mapping[str, int]) -> list[Finding]:
    found = []
    if lost := sum(drops.values()):
        words = f"{_plural(lost, 'record')} could not be written: {_reasons(drops)}."
        found.append(Finding("drops", (Part(words),), share=1.0, is_urgent=True))
    if damaged := sum(rejects.values()):
        words = f"{_plural(damaged, 'damaged line')} in the spools, kept aside: {_reasons(rejects)}."
        found.append(Finding("drops", (Part(words),), share=1.0, is_urgent=True))
    return found


def _failed(series: pd.DataFrame, n: int) -> list[Finding]:
    """Model calls that gave no usable reply, under the way most of them ended."""
    if not n or "outcome" not in series:
        return []
    failed = series[series["outcome"].notna() & ~series["outcome"].isin(REPLIES)]
    count = int(failed["n"].sum())
    if count / n <= FAILED_SHARE:
        return []
    outcome = str(failed.groupby("outcome")["n"].sum().idxmax())
    parts = (
        Part(f"{_plural(count, 'call')} ({_share(count / n)}) gave no usable reply, most often "),
        Part(outcome, True),
        Part("."),
    )
    return [Finding("failed", parts, "decisions", {"failed": "true"}, count / n, is_urgent=True)]


def _retiring(
    policy: Policy, by_model: Mapping[str, int], prices: PriceBook, today: date, n: int
) -> list[Finding]:
    """Models of the policy or of the traffic whose end is near or past."""
    found = []
    for model in dict.fromkeys([*policy.model_names, *by_model]):
        end = prices.end_of_life(model, today)
        count = int(by_model.get(model, 0))
        if end is None or end.days_left > RETIRE_DAYS or (model not in policy.model_names and not count):
            continue
        day = f"{end.date.day} {end.date:%b %Y}"
        when = (
            f" is served until {day}, {_plural(end.days_left, 'day')} from now"
            if end.days_left > 0
            else f" is served until today ({day})"
            if end.days_left == 0
            else f" has not been served since {day}"
        )
        share = count / n if n else 0.0
        tail = f"; it takes {share:.1%} of decisions.".replace("%", " %") if count else "."
        parts = (Part(model, True), Part(f"{when}{tail}"), *_successor(end, prices, today))
        page, query = ("decisions", {"model": model}) if count else (None, {})
        found.append(Finding("retiring", parts, page, query, share, end.days_left <= URGENT_DAYS))
    return found


def _successor(end: EndOfLife, prices: PriceBook, today: date) -> tuple[Part, ...]:
    """Who follows a model, and at which price beside its own."""
    if not end.successor:
        return (Part(" No successor is known."),)
    new, old = prices.rate(end.successor, today), prices.rate(end.model, today)
    now = "" if old is None else f" (now {per_million(old).removesuffix(' per million tokens')})"
    return (Part(" Successor: "), Part(end.successor, True), Part(f", {per_million(new)}{now}."))


def _unpriced(by_model: Mapping[str, int], prices: PriceBook, today: date, n: int) -> list[Finding]:
    found = []
    for model, count in by_model.items():
        if prices.rate(model, today) is None:
            parts = (
                Part("No known price for "),
                Part(model, True),
                Part(
                    f": {_plural(int(count), 'decision')} of unknown cost. Add a price to the policy's models."
                ),
            )
            found.append(Finding("price", parts, "decisions", {"model": model}, int(count) / n if n else 0.0))
    return found


def _unmeasured(n: int, n_unmeasured: int) -> list[Finding]:
    if not n_unmeasured:
        return []
    share = n_unmeasured / n
    words = f"{_plural(n_unmeasured, 'decision')} ({_share(share)}) without token counts: their cost is not measured."
    return [Finding("unmeasured", (Part(words),), "decisions", {"unmeasured": "true"}, share)]


def _classifier(series: pd.DataFrame, n: int) -> list[Finding]:
    failed = series[series["cause"].isin(_FAILURES)] if len(series) else series
    count = int(failed["n"].sum()) if len(failed) else 0
    if not n or count / n <= CLASSIFIER_SHARE:
        return []
    share = count / n
    cause = str(failed.groupby("cause")["n"].sum().idxmax())
    words = (
        f"{_plural(count, 'classification')} failed ({_share(share)}); the fallback model took those prompts."
    )
    return [Finding("classifier", (Part(words),), "decisions", {"cause": cause}, share)]


def _counts(zone: DeadZone) -> bool:
    """A silent stretch away from the line is a fact about the scores, nothing to act on."""
    return zone.holds_line or zone.kind in ("never_wins", "never_followed")


def _dead_zone(zone: DeadZone) -> Finding:
    n = _plural(zone.n, "decision")
    label = Part(zone.label or "", True)
    query: dict[str, Any] = {}
    if zone.kind == "never_fires":
        parts: tuple[Part, ...] = (
            Part(f"The threshold never fires: below {zone.high:.3f} nothing falls back."),
        )
    elif zone.kind == "always_fires":
        parts = (Part(f"Everything falls back: no confidence reaches {zone.low:.3f}."),)
    elif zone.kind == "never_wins":
        parts = (label, Part(" never has the best score: no decision follows it."))
    elif zone.kind == "never_followed":
        parts = (label, Part(f" always falls back ({n}): its scores stay below {zone.low:.3f}."))
        query = {"label": zone.label}
    else:
        where = () if zone.label is None else (Part(" of "), label)
        parts = (
            Part(n),
            *where,
            Part(f" share one confidence, {zone.low:.4f}, next to the line: they cross together."),
        )
        assert zone.low is not None  # an atom has a place
        low = floor(zone.low * 100) / 100
        return Finding("dead_zone", parts, "decisions", {"conf": [low, min(low + 0.01, 1.0)]}, zone.share)
    # A label without a single decision has no rows to show, but it is a fault of the label set: after what costs money.
    return Finding(
        "dead_zone", parts, "labels" if zone.kind == "never_wins" else "threshold", query, zone.share
    )


def _close(overlap: Overlap) -> list[Finding]:
    found = []
    for pair in overlap.pairs:
        if pair.close_rate > CLOSE_SHARE:
            parts = (
                Part(pair.first, True),
                Part(" and "),
                Part(pair.second, True),
                Part(f" are close in {_plural(pair.n_close, 'decision')} ({_share(pair.close_rate)})."),
            )
            found.append(
                Finding("overlap", parts, "labels", {"pair": f"{pair.first}~{pair.second}"}, pair.close_rate)
            )
    return found[:2]


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _share(value: float) -> str:
    return "< 0.1 %" if 0 < value < 0.001 else f"{value * 100:.1f} %"


def _reasons(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in ordered)
