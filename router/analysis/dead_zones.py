"""Thresholds that change nothing, labels that never win, and scores tied at the line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from router.analysis.cells import Counts, dense_counts
from router.policy import GRID, Policy, confidence_bin

ATOM_SHARE = 0.01
"""A single confidence that holds more than this share of all decisions, two at least, is an atom: they all cross together."""

ATOM_REACH = 100
"""How near to the line, in steps of 1e-4, an atom is reported."""


@dataclass(frozen=True, slots=True)
class DeadZone:
    """Something that a threshold cannot do, or does all at once.

    Attributes
    ----------
    kind : ``never_fires``: nothing falls back at the thresholds ``low`` to ``high``. ``always_fires``: everything does.
        ``never_wins``: ``label`` is never the top label. ``never_followed``: it wins, but always falls back.
        ``atom``: ``n`` decisions hold a confidence within [``low``, ``high``), within 0.01 of the line.
    holds_line : the line in force lies in the zone (``atom``: always True).
    n, share : decisions concerned, and their share of all with scores.
    """

    kind: Literal["never_fires", "always_fires", "never_wins", "never_followed", "atom"]
    label: str | None
    low: float | None
    high: float | None
    n: int
    share: float
    holds_line: bool


def dead_zones(bins: pd.DataFrame, policy: Policy) -> list[DeadZone]:
    """List the dead zones of a policy on the decisions of ``bins`` (or cells); none when there are no decisions.

    ``never_fires`` and ``always_fires`` look at the labels that follow the policy's threshold, ``atom`` at each line in
    force. A zone that holds the line comes first.
    """
    found = dense_counts(bins, policy)
    total = int(found.sum())
    if total == 0:
        return []
    zones = _silent(found, policy, total)
    for i, label in enumerate(policy.labels):
        n = int(found[i].sum())
        line = confidence_bin(policy.threshold_for(label.name))
        if n == 0:
            zones.append(DeadZone("never_wins", label.name, None, None, 0, 0.0, False))
        elif int(found[i, line:].sum()) == 0 and label.model != policy.fallback_model:
            zones.append(DeadZone("never_followed", label.name, line / GRID, 1.0, n, n / total, True))
    zones += _atoms(found, policy, total)
    return sorted(zones, key=lambda zone: (not zone.holds_line, -zone.n))


def _silent(found: Counts, policy: Policy, total: int) -> list[DeadZone]:
    free = [i for i, label in enumerate(policy.labels) if label.threshold is None]
    counts = found[free].sum(axis=0)
    used = np.flatnonzero(counts)
    if len(used) == 0:
        return []
    n, line = int(counts.sum()), confidence_bin(policy.threshold)
    first, last = int(used[0]), int(used[-1])
    zones = [DeadZone("never_fires", None, 0.0, first / GRID, n, n / total, line <= first)]
    if last < GRID:
        zones.append(DeadZone("always_fires", None, (last + 1) / GRID, 1.0, n, n / total, line > last))
    return zones


def _atoms(found: Counts, policy: Policy, total: int) -> list[DeadZone]:
    """Look for single bins over 1 % of all decisions next to each line in force, over the labels that share it."""
    zones = []
    groups: dict[tuple[str | None, int], list[int]] = {}
    for i, label in enumerate(policy.labels):
        own = label.name if label.threshold is not None else None
        groups.setdefault((own, confidence_bin(policy.threshold_for(label.name))), []).append(i)
    for (own, line), rows in groups.items():
        low, high = max(line - ATOM_REACH, 0), min(line + ATOM_REACH, GRID)
        counts = found[rows, low : high + 1].sum(axis=0)
        for k in np.flatnonzero((counts > ATOM_SHARE * total) & (counts > 1)).tolist():
            n, start = int(counts[k]), low + k
            zones.append(DeadZone("atom", own, start / GRID, min(start + 1, GRID) / GRID, n, n / total, True))
    return zones
