"""The lowest threshold that can be promised: "at most alpha of what is served is a loss", from an audit sample.

Taking the lowest threshold whose *observed* loss is under the target breaks its promise in a third to a half of all audits
(measured at 100 to 3,000 labels): it picks the luckiest of many noisy rates. Here every threshold is tested exactly, in an
order that is fixed before the labels are looked at, so that the whole procedure errs with probability ``delta`` at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, pi
from typing import Literal

import numpy as np
import pandas as pd

from router.analysis.binomial import labels_missing, p_value, upper_bound, zero_failures_needed
from router.analysis.cells import Counts
from router.analysis.judgements import Audit, Loss
from router.analysis.rule import confidence_bins
from router.analysis.tables import BINS, columns
from router.policy import GRID, confidence_bin

STEP = 100
"""Steps of the 1e-4 grid between two tested thresholds: 0.01. Fixed before anyone looks at the labels."""

Ending = Literal["risk", "support", "grid", "labels"]


@dataclass(frozen=True, slots=True)
class Step:
    """One tested threshold: how much it serves, what was judged there, and whether the promise holds.

    ``share_served`` is of unlabelled traffic; n and failures are judged decisions at or above the threshold. ``upper_bound``
    is the one-sided Clopper-Pearson bound at the level of the test, so that it is at most alpha exactly when ``passed``.
    """

    threshold: float
    share_served: float
    n: int
    failures: int
    p_value: float
    upper_bound: float
    passed: bool

    @property
    def rate(self) -> float | None:
        """Observed share of losses; None without a judged decision."""
        return self.failures / self.n if self.n else None


@dataclass(frozen=True, slots=True)
class Certificate:
    """What can be promised about a label's, or all, traffic. ``threshold`` None is an answer: nothing can be.

    Attributes
    ----------
    label : None: all labels of ``labels`` together.
    alpha, delta : the promised risk among the served, and the chance that the promise is broken. ``delta`` is what the tests
        were given, after any split over labels and looks.
    n_labels : judged decisions that could be used. ``n_unlabelled``: decisions behind ``share_served``.
    steps : thresholds in the order in which they were tested; the last one that passed is the threshold.
    ended_by : "risk": the next threshold failed. "support": below it the log never saw the label's model answer. "grid": every
        threshold passed. "labels": too few labels to test any.
    supported_from : lowest threshold that the log can speak about; 0 when it can about all.
    labels_missing : labels to draw and judge until the next threshold would pass at the present rate of losses; None: no number
        would (or there is no next one).
    """

    label: str | None
    labels: tuple[str, ...]
    loss: Loss
    alpha: float
    delta: float
    threshold: float | None
    n_labels: int
    n_unlabelled: int
    steps: tuple[Step, ...]
    ended_by: Ending
    supported_from: float
    labels_missing: int | None

    @property
    def step(self) -> Step | None:
        """The step of the threshold; None when there is none."""
        passed = [step for step in self.steps if step.passed]
        return passed[-1] if passed else None

    @property
    def is_infeasible(self) -> bool:
        """Whether no number of further judgements would do; where none could be tested that is not known."""
        return self.threshold is None and self.labels_missing is None and self.ended_by != "labels"


def delta_of_look(delta: float, look: int) -> float:
    """The part of ``delta`` that the k-th look at a growing sample may spend: delta 6 / (pi^2 k^2), which sums to delta.

    Looking again every week with the full delta each time breaks more promises than delta; this order allows any number of looks.

    >>> round(delta_of_look(0.1, 1), 4), round(delta_of_look(0.1, 2), 4)
    (0.0608, 0.0152)
    """
    if look < 1:
        raise ValueError(f"found look {look}, expected 1 for the first")
    return delta * 6 / (pi * pi * look * look)


def certify(
    audit: Audit,
    unlabelled: pd.DataFrame,
    labels: Sequence[str],
    *,
    alpha: float,
    delta: float = 0.1,
    loss: Loss = "label",
    look: int | None = None,
    holds_audit: bool = True,
    whole: pd.DataFrame | None = None,
    name: str | None = None,
) -> Certificate:
    """Find the lowest threshold for ``labels`` with P(true risk among the served > alpha) <= delta.

    Parameters
    ----------
    audit : judged decisions of a uniform random draw.
    unlabelled : recent traffic as router.analysis.tables.BINS (or cells).
    labels : the labels that follow this threshold; decisions of others are left out.
    alpha, delta : in (0, 1).
    loss : with "answer" only decisions that the label's own model answered count, and no threshold below the highest line that
        was in force among them is tested: under a deterministic rule nobody saw what the model would have said there.
    look : None: the only look at these labels. k: the k-th look at a growing sample; delta is split.
    holds_audit : the table counts the audit's decisions too; all of them are taken out of it, below the support as well as above,
        so that the order of the tests does not depend on them and shares are of the decisions that nobody judged. Where fewer
        are left than were judged, all count: by their confidence, never their verdict.
    whole : all traffic, where ``audit`` and ``unlabelled`` hold only what a margin rule lets pass: shares are of the whole.

    Notes
    -----
    Learn-then-test with a fixed sequence. From unlabelled coverage c(t) alone (of the decisions that the judged rows are
    drawn from: with "answer" those above the support), start at the strictest t = k/100 with ``c(t) n_labels >= max(2 n_min, 0.1 n_labels)``, n_min = ceil(ln delta / ln(1 - alpha)); go down; at each t test
    ``p = BinomialCDF(f; n, alpha)``; stop at the first p > delta. The family-wise error is at most delta, as no true null
    is tested after the first one is kept. The start matters: where n = n_min, one unlucky label ends the sequence.

    The promise is over audits drawn this way, for traffic like the sampled one; it lapses on drift, on a new classifier,
    rubric or model. Changing alpha after looking costs validity.

    References
    ----------
    Angelopoulos, Bates, Candes, Jordan and Lei, Learn then test (arXiv 2110.01052), section 2.2 and algorithm 1.
    """
    _check_share("alpha", alpha)
    _check_share("delta", delta)
    level = delta if look is None else delta_of_look(delta, look)
    wanted = tuple(labels)
    mine = audit.of(np.isin(audit.label, np.array(wanted, dtype=object)))
    taken, supported = _histogram(mine.confidence) if holds_audit else None, 0
    if loss == "answer":
        if len(mine):
            supported = confidence_bin(float(np.max(mine.threshold)))
        mine = mine.of(mine.is_served & (confidence_bins(mine.confidence) >= supported))
    judged, losses = _histogram(mine.confidence), _histogram(mine.confidence[mine.loss])
    traffic = _traffic(unlabelled, wanted, taken, judged, supported)
    total = int(traffic.sum())
    served, n, failures = (_from_above(x) for x in (traffic, judged, losses))
    passing = _passing(unlabelled, whole, wanted)
    share = passing * served / total if total else np.zeros(GRID + 1)

    grid = _grid(traffic, supported)
    # The judged rows all lie above the support, so that their coverage is of the traffic there.
    covered = served[grid] / max(int(served[supported]), 1)
    enough = covered * len(mine) >= max(2 * zero_failures_needed(alpha, level), 0.1 * len(mine))
    begun = np.flatnonzero(enough)
    grid = grid[begun[0] :] if begun.size else grid[:0]
    p = np.atleast_1d(p_value(failures[grid], n[grid], alpha))
    failed = np.flatnonzero(p > level)
    tested = grid[: failed[0] + 1] if failed.size else grid
    bounds = np.atleast_1d(upper_bound(failures[tested], n[tested], level))
    steps = tuple(
        Step(
            threshold=int(k) / GRID,
            share_served=float(share[k]),
            n=int(n[k]),
            failures=int(failures[k]),
            p_value=float(p[i]),
            upper_bound=float(bounds[i]),
            passed=bool(p[i] <= level),
        )
        for i, k in enumerate(tested)
    )
    ending: Ending = (
        "risk" if failed.size else "labels" if not begun.size else "support" if supported else "grid"
    )
    passed = [step.threshold for step in steps if step.passed]
    return Certificate(
        label=name,
        labels=wanted,
        loss=loss,
        alpha=alpha,
        delta=level,
        threshold=passed[-1] if passed else None,
        n_labels=len(mine),
        n_unlabelled=total,
        steps=steps,
        ended_by=ending,
        supported_from=supported / GRID,
        labels_missing=_missing(steps, ending, len(mine), share, supported, alpha, level),
    )


def certify_labels(
    audit: Audit,
    unlabelled: pd.DataFrame,
    labels: Sequence[str],
    *,
    alpha: float,
    delta: float = 0.1,
    loss: Loss = "label",
    look: int | None = None,
    holds_audit: bool = True,
    whole: pd.DataFrame | None = None,
) -> tuple[Certificate, ...]:
    """One certificate per label, all of which hold together with probability 1 - delta: each is tested at delta / L.

    Notes
    -----
    Bonferroni's inequality: P(any of L promises is broken) <= sum of delta / L = delta, whatever their dependence. A label with
    too few labels gets "none": it keeps its line, or falls back.
    """
    return tuple(
        certify(
            audit,
            unlabelled,
            (label,),
            alpha=alpha,
            delta=delta / len(labels),
            loss=loss,
            look=look,
            holds_audit=holds_audit,
            whole=whole,
            name=label,
        )
        for label in labels
    )


def _check_share(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name}: found {value!r}, expected a number between 0 and 1")


def _histogram(confidence: np.ndarray) -> Counts:
    return np.bincount(confidence_bins(confidence), minlength=GRID + 1).astype(np.int64)


def _traffic(
    unlabelled: pd.DataFrame, labels: tuple[str, ...], taken: Counts | None, judged: Counts, supported: int
) -> Counts:
    """Decisions by bin without those that were taken for the audit, whether or not this promise uses their verdicts.

    With them where, above the support, fewer are left than were judged.
    """
    found = _decisions(unlabelled, labels)
    if taken is None:
        return found
    left = np.maximum(found - taken, 0)
    return left if int(left[supported:].sum()) >= int(judged[supported:].sum()) else found


def _decisions(table: pd.DataFrame, labels: tuple[str, ...]) -> Counts:
    """Decisions of some labels by bin."""
    held = columns(table, BINS)
    mine = np.isin(np.asarray(held["label"], dtype=object), np.array(labels, dtype=object))
    return np.bincount(held["bin"][mine], weights=held["n"][mine], minlength=GRID + 1).astype(np.int64)


def _passing(unlabelled: pd.DataFrame, whole: pd.DataFrame | None, labels: tuple[str, ...]) -> float:
    """Share of the labels' decisions that a margin rule lets pass."""
    if whole is None:
        return 1.0
    n, n_all = (int(_decisions(x, labels).sum()) for x in (unlabelled, whole))
    return n / n_all if n_all else 1.0


def _from_above(counts: Counts) -> Counts:
    """Decisions at or above each threshold of the grid: equality is served."""
    return np.asarray(np.cumsum(counts[::-1])[::-1])


def _grid(traffic: Counts, supported: int) -> Counts:
    """Thresholds to test, strictest first, down to the last one that still moves something, and never below the support."""
    used = np.flatnonzero(traffic)
    lowest = int(used[0]) // STEP * STEP if used.size else GRID
    lowest = max(lowest, -(-supported // STEP) * STEP)
    return np.arange(GRID, lowest - 1, -STEP, dtype=np.int64)


def _missing(
    steps: tuple[Step, ...],
    ending: Ending,
    n_labels: int,
    share: np.ndarray,
    supported: int,
    alpha: float,
    level: float,
) -> int | None:
    if ending == "labels":
        # n_labels are served ones; of those that are drawn only a share is.
        served = float(share[supported])
        lacking = max(2 * zero_failures_needed(alpha, level) - n_labels, 1)
        return ceil(lacking / served) if served > 0 else None
    if ending != "risk":
        return None
    last = steps[-1]
    extra = labels_missing(last.failures, last.n, alpha, level)
    return None if extra is None or last.share_served == 0 else ceil(extra / last.share_served)
