"""What the Review page does with the log: the queue as it stands now, a draw, a judgement."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import streamlit as st

from dashboard import loaders, state
from dashboard.writing import write
from router import review
from router.analysis.progress import Progress, Told, progress
from router.errors import RouterError
from router.log.drawn import Drawn, read_drawn
from router.log.filters import Filter
from router.log.judged import judged, labels_of, to_judge
from router.types import Queue

SAID, PROBLEM, LAST, AT, SKIPPED, BY = (
    "review_said", "review_problem", "review_last", "review_at", "review_skipped", "review_by",
)  # fmt: skip
"""Keys of the session: judgements the log may not show yet, what went wrong, the last one, the item in view, those put off."""


@dataclass(frozen=True, slots=True)
class Item:
    """One drawn decision: how it was drawn, its prompt (None: not stored), and what was said of it (None: it waits).

    ``said``: the label named; None with a verdict of "wrong": none of those scored.
    """

    drawn: Drawn
    prompt: str | None
    top_label: str
    verdict: str | None
    said: str | None

    @property
    def id(self) -> str:
        """The decision's id."""
        return self.drawn.decision_id


@dataclass(frozen=True, slots=True)
class _Word:
    verdict: str
    said: str | None
    judged_at: datetime


def items(queue: Queue) -> list[Item]:
    """The queue in the order it was drawn, without what was erased; a judgement of this session shows at once."""
    log = loaders.get_log()
    drawn = [x for x in read_drawn(log.data) if x.queue == queue]
    if not drawn:
        return []
    known = to_judge(log, drawn)
    table = judged(log)
    words = {
        row.id: _Word(
            row.verdict,
            row.correct_label if isinstance(row.correct_label, str) else None,  # pandas makes NaN of NULL
            row.judged_at.to_pydatetime(),
        )
        for row in table[table["queue"] == queue].itertuples()
    }
    own = st.session_state.get(SAID, {})
    found = []
    for one in drawn:
        if one.decision_id not in known.index:
            continue
        row = known.loc[one.decision_id]
        word, mine = words.get(one.decision_id), own.get((one.decision_id, queue))
        if mine is not None and (word is None or mine.judged_at >= word.judged_at):
            word = mine
        prompt = row["prompt"] if isinstance(row["prompt"], str) else None
        said = None if word is None else word.said or (row["label"] if word.verdict == "right" else None)
        found.append(Item(one, prompt, row["label"], None if word is None else word.verdict, said))
    return found


def standing(queue: Queue, found: list[Item]) -> Progress:
    """Where the queue stands."""
    return progress(
        queue, [Told(x.verdict, x.drawn.inclusion_probability, x.drawn.stratum) for x in found]  # type: ignore[arg-type]
    )  # fmt: skip


def current(found: list[Item]) -> Item | None:
    """The item in view: the one chosen, else the first that waits and was not put off; None when none waits."""
    chosen = st.session_state.get(AT)
    at = next((x for x in found if x.id == chosen), None)
    if at is not None:
        return at
    waiting = [x for x in found if x.verdict is None]
    skipped = st.session_state.get(SKIPPED, ())
    return next((x for x in waiting if x.id not in skipped), waiting[0] if waiting else None)


def choices(item: Item, order: list[str]) -> list[str]:
    """The labels that were scored, in the policy's order; never in that of the scores."""
    scored = labels_of(loaders.get_log(), [item.id]).get(item.id, ())
    known = [name for name in order if name in scored]
    return known + sorted(set(scored) - set(known))


def skip(item: Item) -> None:
    """Put an item off; for callbacks. It comes again when no other waits."""
    if _is_stale(item):
        return
    st.session_state[SKIPPED] = [x for x in st.session_state.get(SKIPPED, []) if x != item.id] + [item.id]
    st.session_state.pop(AT, None)


def go_to(id: str | None) -> None:
    """Show an item, also one that was judged; None: the next that waits. For callbacks."""
    st.session_state[AT] = id


def judge(item: Item, said: str | None, *, unsure: bool = False) -> None:
    """Log what somebody said of an item, and go on to the next; for callbacks. What went wrong is told on the page."""
    if _is_stale(item):
        return
    by = st.session_state.get(BY) or None
    now = datetime.now(UTC).replace(tzinfo=None)
    try:
        one = review.answer(item.drawn, said, item.top_label, unsure=unsure, judged_by=by)
        written = write(lambda writer: writer.judge(one, now))
    except RouterError as error:
        st.session_state[PROBLEM] = str(error)
        return
    if not written:
        st.session_state[PROBLEM] = "The judgement could not be written to the data folder; judge it again."
        return
    own = dict(st.session_state.get(SAID, {}))
    own[(item.id, item.drawn.queue)] = _Word(one.verdict, one.correct_label, now)
    st.session_state[SAID] = own
    st.session_state[LAST] = replace(item, verdict=one.verdict, said=said)
    st.session_state.pop(AT, None)


def draw(queue: Queue, n: int) -> None:
    """Draw decisions of the bar's traffic; for callbacks. What went wrong is told on the page."""
    try:
        review.draw(
            loaders.get_log(), queue, n, loaders.prices(), seed=secrets.randbits(32),
            now=lambda: datetime.now(UTC).replace(tzinfo=None), chosen=traffic(queue),
        )  # fmt: skip
    except RouterError as error:
        st.session_state[PROBLEM] = str(error)
    st.session_state.pop(AT, None)


def traffic(queue: Queue) -> Filter:
    """What a draw is made from: the bar's filter; for an audit its period and policy alone."""
    chosen = state.current_filter()
    if queue != "audit":
        return chosen
    return Filter(start=chosen.start, end=chosen.end, policy=chosen.policy)


def _is_stale(item: Item) -> bool:
    """Whether a key was pressed before the next item was drawn: it was meant for that, and must not overwrite this one."""
    judged_here = (item.id, item.drawn.queue) in st.session_state.get(SAID, {})
    return judged_here and st.session_state.get(AT) != item.id
