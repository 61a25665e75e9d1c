"""What a person says of a decision, checked, and as the record that the spool takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from router.errors import InputError
from router.log.drawn import Drawn
from router.log.record import feedback_payload
from router.log.selection import Selection
from router.types import QUEUES, VERDICTS

MAX_NOTE_CHARS = 10_000
MAX_NAME_CHARS = 200


@dataclass(frozen=True, slots=True)
class Judgement:
    """One judgement of one decision.

    Attributes
    ----------
    decision_id : a UUID, in any of its spellings.
    verdict : "right", "wrong" or "unsure".
    correct_label : what the top label should have been, where somebody says.
    queue : what it was judged for ("audit", "estimate", "learn"); None: said of it beside any draw. A judgement counts for a
        queue only where it names it: the answer to an audit is what the auditor gives back, not what a user happens to say.
    inclusion_probability : of the draw, where it was not drawn here.

    Raises
    ------
    InputError
        Names the value, what was found and what was expected.
    """

    decision_id: str
    verdict: str
    correct_label: str | None = None
    note: str | None = None
    queue: str | None = None
    inclusion_probability: float | None = None
    judged_by: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.decision_id, str):
            raise InputError(f"decision_id: {_found(self.decision_id)}, expected a UUID")
        object.__setattr__(self, "decision_id", Selection.of("id", self.decision_id).values[0])
        _one_of("verdict", self.verdict, VERDICTS)
        _text("correct_label", self.correct_label, MAX_NAME_CHARS)
        _text("note", self.note, MAX_NOTE_CHARS)
        _text("judged_by", self.judged_by, MAX_NAME_CHARS)
        if self.queue is not None:
            _one_of("queue", self.queue, QUEUES)
        chance = self.inclusion_probability
        if chance is None:
            return
        if self.queue not in ("audit", "estimate"):
            raise InputError("inclusion_probability: only decisions of queue 'audit' or 'estimate' have one")
        if isinstance(chance, bool) or not isinstance(chance, int | float) or not 0.0 < chance <= 1.0:
            raise InputError("inclusion_probability: expected a number above 0 and at most 1")

    def record(self, drawn: Iterable[Drawn], judged_at: datetime) -> dict[str, Any]:
        """The record to log, with the chance that was frozen when its queue drew the decision.

        Parameters
        ----------
        drawn : what was drawn (``read_drawn``); of no use without a queue.
        judged_at : naive UTC.

        Raises
        ------
        InputError
            ``queue`` needs a probability that neither the draw nor the caller gives, or the two differ.
        """
        chance = self.inclusion_probability
        if self.queue is not None:
            queues = {x.queue: x.inclusion_probability for x in drawn if x.decision_id == self.decision_id}
            known = queues.get(self.queue, chance)  # type: ignore[call-overload]  # checked above
            if self.queue != "learn" and known is None:
                raise InputError(
                    f"inclusion_probability: missing, queue {self.queue!r} needs it: the decision was not drawn by "
                    "'routescope review next' in this data folder"
                )
            if chance is not None and known != chance:
                raise InputError(
                    f"inclusion_probability: found {chance!r}, the decision was drawn with {known!r}; leave it out"
                )
            chance = known
        return feedback_payload(
            self.decision_id,
            self.verdict,
            judged_at,
            queue=self.queue,
            inclusion_probability=chance,
            correct_label=self.correct_label,
            note=self.note,
            judged_by=self.judged_by,
        )


def _one_of(name: str, found: Any, words: tuple[str, ...]) -> None:
    if not isinstance(found, str) or found not in words:
        shown = f"found {found[:40]!r}" if isinstance(found, str) else _found(found)
        raise InputError(f"{name}: {shown}, expected one of {', '.join(words)}")


def _text(name: str, found: Any, most: int) -> None:
    if found is None:
        return
    if not isinstance(found, str):
        raise InputError(f"{name}: {_found(found)}, expected text")
    if not found.strip():
        raise InputError(f"{name}: found nothing, expected text; leave it out where there is none")
    if len(found) > most:
        raise InputError(f"{name}: found {len(found):,} characters, expected at most {most:,}")


def _found(value: Any) -> str:
    """The kind of a value, never the value."""
    return "missing" if value is None else f"found a value of type {type(value).__name__}"
