"""What a certificate rests on, and what ends it: time, drift, another classifier, other rubrics or models."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from router.analysis.drift import Drift

VALID_DAYS = 30
"""A certificate is renewed after this many days even where nothing seems to have changed."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What decisions rested on when they were made.

    ``classifiers``: names with versions, sorted. ``labels_fingerprint``: of names, rubrics and examples. ``models``: the model of
    each label by name.
    """

    classifiers: tuple[str, ...]
    labels_fingerprint: str
    models: tuple[tuple[str, str], ...]


def lapses(
    then: Ground,
    now: Ground,
    *,
    made_on: date,
    today: date,
    drift: Drift | None = None,
    valid_days: int = VALID_DAYS,
) -> tuple[str, ...]:
    """Why a certificate no longer holds, one sentence each; empty while it does.

    Traffic must stay like the sampled one: a new classifier, changed labels or another model behind one make it other traffic.
    """
    found = []
    age = (today - made_on).days
    if age > valid_days:
        found.append(f"made {age} days ago, valid for {valid_days}; draw a new audit sample")
    if then.classifiers != now.classifiers:
        found.append(
            f"the classifier was {', '.join(then.classifiers) or 'none'} and is {', '.join(now.classifiers) or 'none'}"
        )
    if then.labels_fingerprint != now.labels_fingerprint:
        found.append("labels, rubrics or examples changed")
    before, after = dict(then.models), dict(now.models)
    for label in sorted(before.keys() & after.keys()):
        if before[label] != after[label]:
            found.append(f"{label} goes to {after[label]}, it went to {before[label]}")
    for alarm in drift.alarms if drift is not None else ():
        since = f", since {alarm.since.isoformat()}" if alarm.since is not None else ""
        found.append(f"{alarm.text}{since}")
    return tuple(found)
