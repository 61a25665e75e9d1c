"""The read side of review: what may be drawn, what people said, and what still waits for a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from router.log import sources
from router.log.drawn import Drawn, read_drawn
from router.log.filters import Filter, where
from router.log.pricing import rates_table, row_cost
from router.log.reader import Log
from router.log.schema import sql
from router.prices import PriceBook
from router.types import QUEUES, Queue

if TYPE_CHECKING:
    import pandas as pd

BLIND_TO: dict[Queue, tuple[Queue, ...]] = {
    "audit": ("audit",),
    "estimate": ("audit", "estimate"),
    "learn": QUEUES,
}
"""Whose decisions a queue does not draw again. An audit would no longer be uniform without those that a queue sorted by doubt,
or a complaint, has picked; taking a uniform sample away leaves everything else as it was."""


def judged(log: Log, chosen: Filter | None = None) -> pd.DataFrame:
    """Judged decisions: one row per decision and queue; the last judgement given for that queue counts.

    Columns ``id, label, confidence, model, verdict, correct_label, queue, inclusion_probability, judged_at, judged_by``, and what
    ``router.analysis.judgements`` wants beside them: ``threshold`` in force, ``is_served`` (the label's own model answered),
    ``true_label``; ``cause`` and ``propensity``; ``stratum`` of queue "estimate". ``queue`` is None where nobody asked: a thumb or a
    complaint, which stands beside an audit's verdict and never in its place. Judgements of decisions that the log
    does not hold are left out.
    """
    condition, values = where(chosen or Filter())
    table = log.frame(sql("judged").replace("{filter}", condition), values)
    strata = {x.decision_id: x.stratum for x in read_drawn(log.data) if x.queue == "estimate"}
    told = zip(table["id"], table["queue"], strict=True)
    table["stratum"] = [strata.get(id) if queue == "estimate" else None for id, queue in told]
    return table


@dataclass(frozen=True, slots=True)
class Said:
    """The last word on a decision in one queue; ``queue`` None: nobody had drawn it."""

    verdict: str
    correct_label: str | None
    queue: str | None
    judged_by: str | None
    note: str | None


def said_of(log: Log, id: str) -> list[Said]:
    """What people said of one decision, the last word of each queue, newest first."""
    rows = log.rows(
        "SELECT verdict, correct_label, queue, judged_by, note FROM feedback WHERE decision_id = CAST($id AS UUID) "
        "QUALIFY row_number() OVER (PARTITION BY queue ORDER BY judged_at DESC NULLS LAST, verdict DESC, correct_label, judged_by, note) = 1 "
        "ORDER BY judged_at DESC NULLS LAST, queue",
        {"id": id},
    )
    return [Said(*row) for row in rows]


def drawable(
    log: Log, queue: Queue, chosen: Filter, prices: PriceBook | None = None
) -> tuple[pd.DataFrame, int]:
    """What a queue may draw, in the order of ids, and how many decisions with scores the filter matches in all.

    Column ``place`` (see ``ids_at``); with ``prices`` also ``label, confidence, threshold, margin, cost`` (USD, NaN when unknown).
    Decisions without scores are left out: nothing was predicted that could be right.
    """
    import pyarrow as pa

    blind = BLIND_TO[queue]
    told = log.rows(
        "SELECT DISTINCT CAST(decision_id AS VARCHAR) FROM feedback WHERE $all OR list_contains($queues, queue)",
        {"all": queue == "learn", "queues": list(blind)},
    )
    left_out = {str(id) for (id,) in told} | {x.decision_id for x in read_drawn(log.data) if x.queue in blind}
    columns = "d.rowid AS place"
    seen = []
    if prices is not None:
        columns += f", d.top_label AS label, d.confidence, d.threshold, d.margin, {row_cost('r')} AS cost"
        seen = sources.days(log, chosen)
    tables = {
        "left_out": pa.table({"id": pa.array(sorted(left_out), pa.string())}),
        "rates": rates_table(
            prices or PriceBook(), sources.models(log) if prices else [], seen, sources.service_tiers(log)
        ),
    }
    condition, values = where(chosen)
    query = sql("drawable").replace("{columns}", columns).replace("{filter}", condition)
    found = log.frame(query, values, tables)
    scored = log.rows(
        f"SELECT count(*) FROM decisions d WHERE d.confidence IS NOT NULL AND d.top_label IS NOT NULL AND {condition}",
        values,
    )
    return found, int(scored[0][0])


def ids_at(log: Log, places: Sequence[int]) -> list[str]:
    """Ids of the decisions at these places of ``drawable``, in the order given; of the same opening of the log."""
    rows = log.rows(
        "SELECT d.rowid, CAST(d.id AS VARCHAR) FROM decisions d WHERE d.rowid IN (SELECT unnest($places::BIGINT[]))",
        {"places": list(places)},
    )
    found = dict(rows)
    return [str(found[place]) for place in places if place in found]


def to_judge(log: Log, items: Sequence[Drawn]) -> pd.DataFrame:
    """What a person judges by: ``id, decided_at, prompt, label, confidence, model`` of these, indexed by id."""
    table = log.frame(
        "SELECT CAST(d.id AS VARCHAR) AS id, d.decided_at, d.prompt, d.top_label AS label, d.confidence, "
        "coalesce(d.model_used, d.model_chosen) AS model FROM decisions d "
        "WHERE d.id IN (SELECT CAST(unnest($ids::VARCHAR[]) AS UUID))",
        {"ids": [item.decision_id for item in items]},
    )
    return table.set_index("id")


def waiting(log: Log, queue: Queue | None = None) -> list[Drawn]:
    """Drawn decisions that were not judged for their queue yet, in the order they were drawn; those that the log still holds."""
    told = set(log.rows("SELECT DISTINCT CAST(decision_id AS VARCHAR), queue FROM feedback"))
    items = [
        item
        for item in read_drawn(log.data)
        if queue in (None, item.queue) and (item.decision_id, item.queue) not in told
    ]
    held = set(to_judge(log, items).index)
    return [item for item in items if item.decision_id in held]


def n_feedback(log: Log) -> int:
    """Judgements and remarks so far: changes when one arrives."""
    return int(log.rows("SELECT count(*) FROM feedback")[0][0])


def holds_prompts(log: Log, chosen: Filter | None = None) -> bool:
    """Whether any decision with scores that the filter matches has a prompt: nothing can be judged without one."""
    condition, values = where(chosen or Filter())
    query = f"SELECT 1 FROM decisions d WHERE d.prompt IS NOT NULL AND d.confidence IS NOT NULL AND {condition} LIMIT 1"
    return bool(log.rows(query, values))


def labels_of(log: Log, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Labels that were scored, by id, of those decisions that the log holds."""
    rows = log.rows(
        "SELECT CAST(id AS VARCHAR), map_keys(scores) FROM decisions "
        "WHERE id IN (SELECT CAST(unnest($ids::VARCHAR[]) AS UUID))",
        {"ids": list(ids)},
    )
    return {str(id): tuple(labels or ()) for id, labels in rows}
