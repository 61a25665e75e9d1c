"""The overlap's part of the document: which labels collide, what hangs on it, what one label instead of two would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from router.analysis.calibration import SIMPLEX
from router.analysis.overlap import CLOSE, overlap
from router.analysis.overlap_scores import MergeSums
from router.analysis.scored import How, Scored
from router.log import evidence, queries
from router.report.plain import plain

if TYPE_CHECKING:
    from router.log.filters import Filter
    from router.log.reader import Log
    from router.policy import Policy
    from router.prices import PriceBook

MERGED = 3
"""How many of the closest pairs are merged on trial, and shown with examples."""

REPEATS = 20
"""A prompt that comes again is shown once; so many times the wanted number is read."""


def pairs(log: Log, chosen: Filter, policy: Policy, prices: PriceBook, examples: int) -> dict[str, Any]:
    """Close calls by pair; the closest ones with what merging them would do, and ``examples`` prompts each."""
    own = evidence.ground(log, chosen, policy.labels_fingerprint, evidence.newest_classifier(log, chosen))
    found = overlap(queries.pairs(log, chosen, policy, prices), policy.label_names, bound=CLOSE)
    closest = [x for x in found.pairs if x.n_close and {x.first, x.second} <= set(policy.label_names)]
    merges: list[Any] = []
    n_read = 0
    if closest:
        labels, models = policy.label_names, policy.model_names
        how: How = "sum" if evidence.sum_to_1(log, own.chosen, labels, within=SIMPLEX) else "max"
        sums = [MergeSums(policy, x.first, x.second, how, bound=found.bound) for x in closest[:MERGED]]
        for part in evidence.scored_parts(log, own.chosen, labels, models, prices):
            rows = Scored.from_table(part, labels, models)
            n_read += len(rows)
            for merge in sums:
                merge.add(rows)
        merges = [
            plain(x) | {"names": list(x.names), "cost_change": x.cost_change}
            for x in (y.effect() for y in sums)
            if n_read
        ]
    return {
        "bound": found.bound,
        "n": found.n,
        "n_close": found.n_close,
        "close_rate": found.close_rate,
        "margins": found.margins,
        "pairs": found.pairs,
        "n_read_for_merges": n_read,
        "n_other": own.n_other,
        "merges": merges,
        "examples": [
            _examples(log, chosen, x.first, x.second, found.bound, examples) for x in closest[:MERGED]
        ]
        if examples
        else [],
    }


def _examples(log: Log, chosen: Filter, first: str, second: str, close: float, most: int) -> dict[str, Any]:
    table = queries.close_calls(log, chosen, first, second, close=close, limit=most * REPEATS)
    once = table.drop_duplicates("prompt").head(most)
    rows = [
        {
            "id": row.id,
            "prompt": row.prompt if isinstance(row.prompt, str) else None,
            "label": row.top_label,
            "confidence": row.confidence,
            "margin": row.margin,
        }
        for row in once.itertuples()
    ]
    return {"first": first, "second": second, "rows": rows}
