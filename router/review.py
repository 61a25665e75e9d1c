"""Drawing decisions for people to judge: from the log, by one of the three queues, written down before anybody sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from router.analysis.sampling import Candidates, Item, draw_audit, draw_estimate, pick_learn
from router.errors import InputError
from router.log.archive import noted_generation
from router.log.drawn import Drawn, DrawnMeanwhile, Traffic, note_drawn
from router.log.filters import Filter
from router.log.judged import drawable, ids_at
from router.log.judging import Judgement
from router.types import Queue

if TYPE_CHECKING:
    import pandas as pd

    from router.log.reader import Log
    from router.prices import PriceBook

TRIES = 5
WHOLE_TRAFFIC = ("policy", "source")
"""Conditions, beside a time range, that an audit may have: they say which traffic is meant, not which rows of it."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What was drawn, in the order to judge it in.

    Attributes
    ----------
    n_left : decisions that it was drawn from. ``n_scored``: those that the filter matches, drawn before or not.
    """

    items: tuple[Drawn, ...]
    n_left: int
    n_scored: int


def answer(
    item: Drawn, said: str | None, top_label: str, *, unsure: bool = False, judged_by: str | None = None
) -> Judgement:
    """The judgement of somebody who named a label without having seen the classifier's.

    Parameters
    ----------
    said : the label that the prompt belongs to; None: none of those that were scored, or ``unsure``.
    top_label : what the classifier said: the verdict is whether the two are one.
    """
    verdict = "unsure" if unsure else "right" if said == top_label else "wrong"
    return Judgement(
        item.decision_id,
        verdict,
        correct_label=None if unsure else said,
        queue=item.queue,
        judged_by=judged_by,
    )


def blind_reason(item: Drawn) -> str:
    """Why a decision was drawn, without what the classifier said of it: a stratum names the label, and who has read it agrees more.

    The same decision may be drawn for an audit later, so no queue tells.
    """
    if item.queue != "estimate" or item.inclusion_probability is None:
        return item.reason
    return f"drawn within its label and confidence, with a chance of {100 * item.inclusion_probability:.3g} %"


def draw(
    log: Log,
    queue: Queue,
    n: int,
    prices: PriceBook,
    *,
    seed: int,
    now: Callable[[], datetime],
    chosen: Filter | None = None,
) -> Draw:
    """Draw up to n decisions that the queue has not had yet, and note them in the data folder.

    The same seed on the same log draws the same decisions. What one queue drew another may draw too, where leaving it out
    would bend the sample (``router.log.judged.BLIND_TO``). A second draw of ``estimate`` is from what is left: its probabilities
    are those of that draw.

    Parameters
    ----------
    now : naive UTC.
    chosen : an audit takes a time range, a policy and a source alone.

    Raises
    ------
    InputError
        n is too small for the strata, or an audit would not be uniform.
    LogLocked
        Others kept drawing the same, or decisions were being erased.
    LogError
        The draw cannot be noted.
    """
    chosen = chosen or Filter()
    odd = set(chosen.active) - set(WHOLE_TRAFFIC)
    if queue == "audit" and odd:
        raise InputError(
            f"an audit is drawn from all traffic of a time, a policy or a source, else it proves nothing about the rest; found a "
            f"condition on {', '.join(sorted(odd))}. Leave it out, or use queue 'estimate' or 'learn'"
        )
    for attempt in range(TRIES):
        generation = noted_generation(log.data)
        if attempt:
            log.refresh()
        try:
            return _draw(log, queue, n, prices, chosen, np.random.default_rng(seed), now(), generation)
        except DrawnMeanwhile:
            if attempt == TRIES - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


def _draw(
    log: Log,
    queue: Queue,
    n: int,
    prices: PriceBook,
    chosen: Filter,
    rng: np.random.Generator,
    now: datetime,
    generation: int,
) -> Draw:
    table, n_scored = drawable(log, queue, chosen, None if queue == "audit" else prices)
    items = _items(table, queue, n, rng)
    ids = ids_at(log, [int(item.decision_id) for item in items])
    if len(ids) != len(items):
        raise DrawnMeanwhile("decisions were erased while others were drawn; draw again")
    traffic = Traffic(chosen.start, chosen.end, chosen.policy, chosen.source) if queue == "audit" else None
    drawn = tuple(
        Drawn(id, queue, item.reason, item.inclusion_probability, item.stratum, now, traffic)
        for id, item in zip(ids, items, strict=True)
    )
    note_drawn(log.data, drawn, generation=generation)
    return Draw(drawn, len(table), n_scored)


def _items(table: pd.DataFrame, queue: Queue, n: int, rng: np.random.Generator) -> Sequence[Item]:
    """Items whose ids are places of the table's rows: ten million ids as text would be a gigabyte."""
    places = _Places(table["place"].to_numpy(dtype=np.int64))
    if queue == "audit":
        return draw_audit(places, n, rng=rng)
    numbers = {
        name: table[name].to_numpy(dtype=np.float64, na_value=np.nan)
        for name in ("confidence", "threshold", "margin", "cost")
    }
    candidates = Candidates(id=places, label=table["label"].to_numpy(dtype=object), **numbers)
    if queue == "learn":
        return pick_learn(candidates, n)
    try:
        return draw_estimate(candidates, n, rng=rng)
    except ValueError as error:
        raise InputError(str(error)) from None


class _Places(Sequence[str]):
    """Row numbers as texts, made when they are asked for."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i):  # type: ignore[no-untyped-def]  # a slice is never taken
        return str(int(self._rows[i]))
