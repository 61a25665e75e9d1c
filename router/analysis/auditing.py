"""An audit sample made ready for a promise: of today's labels and classifier, whole, and with nothing dropped in silence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from router.analysis.judgements import Audit, Loss
from router.policy import Policy

MOST_OPEN = 0.05
"""Share of the drawn decisions that may wait for a verdict. Which ones wait is no accident: the hard ones wait longest."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a promise rests on.

    Attributes
    ----------
    audit : judged decisions; "unsure" counts as a loss. Those below the policy's margin rule are not in it: they fall back.
    n_drawn : decisions of today's ground that were drawn: ``n_judged`` (``n_unsure`` of them) and ``n_open``.
    classifiers : names of the classifiers that scored the judged ones.
    left_out : (decisions, why), of another ground than today's.
    refused : why no promise may rest on it, or None.
    """

    audit: Audit
    n_drawn: int
    n_judged: int
    n_unsure: int
    n_open: int
    classifiers: tuple[str, ...]
    left_out: tuple[tuple[int, str], ...]
    refused: str | None


def sample(
    table: pd.DataFrame,
    policy: Policy,
    *,
    classifier: str | None,
    loss: Loss = "label",
    per_label: bool = False,
    partial: bool = False,
) -> Sample:
    """Choose the rows that speak for a policy today.

    Parameters
    ----------
    table : audit decisions, judged or not; see router.log.audits.AuditRows.
    classifier : that scores today; rows of others are left out. None: whatever scored them.
    loss : with "answer" decisions that a label's former model answered are left out too.
    per_label : one promise for each label. A pooled promise about answers refuses explored decisions: a label whose served
        decisions were sent elsewhere by chance weighs less among the judged than in the traffic.
    partial : accept more than 5 % that nobody judged.

    Notes
    -----
    A decision nobody could judge may be a loss; counting it as one keeps the promise true.
    """
    rows, left_out = todays(table, policy, classifier=classifier, loss=loss)
    is_open = rows["verdict"].isna()
    judged = rows[~is_open]
    served = judged[judged["margin"].isna() | (judged["margin"] >= (policy.min_margin or 0.0))]
    return Sample(
        audit=Audit(
            label=served["label"].to_numpy(dtype=object),
            confidence=served["confidence"].to_numpy(dtype=np.float64),
            loss=(served["verdict"] != "right").to_numpy(dtype=bool),
            queue=np.full(len(served), "audit", dtype=object),
            threshold=served["threshold"].to_numpy(dtype=np.float64, na_value=np.nan),
            is_served=served["is_served"].fillna(False).to_numpy(dtype=bool),
        ),
        n_drawn=len(rows),
        n_judged=len(judged),
        n_unsure=int((judged["verdict"] == "unsure").sum()),
        n_open=int(is_open.sum()),
        classifiers=tuple(sorted({str(x) for x in judged["classifier"].dropna()})),
        left_out=left_out,
        refused=_refused(
            judged, len(rows), len(table), policy, loss, is_pooled=not per_label, partial=partial
        ),
    )


def todays(
    table: pd.DataFrame, policy: Policy, *, classifier: str | None, loss: Loss = "label"
) -> tuple[pd.DataFrame, tuple[tuple[int, str], ...]]:
    """The rows of today's labels and classifier (with "answer" of today's models too), and (decisions, why) of those left out."""
    left_out: list[tuple[int, str]] = []
    rows = table
    for keep, why in (
        (
            _same(rows["labels_fingerprint"], policy.labels_fingerprint),
            "of other labels, rubrics or examples",
        ),
        (_same(rows["classifier"], classifier), "scored by another classifier"),
        (_todays_model(rows, policy, loss), "answered by a former model of their label"),
    ):
        gone = int(np.sum(~keep[rows.index]))
        if gone:
            left_out.append((gone, why))
        rows = rows[keep[rows.index]]
    return rows, tuple(left_out)


def right_or_wrong(table: pd.DataFrame, policy: Policy, *, classifier: str | None) -> pd.DataFrame:
    """Audit rows of today's ground with a verdict that is one: what calibration is measured on ("unsure" is neither)."""
    rows, _ = todays(table, policy, classifier=classifier)
    return rows[rows["verdict"].isin(("right", "wrong"))]


def _same(values: pd.Series, wanted: str | None) -> pd.Series:
    """Rows of an import may not say; they are kept."""
    return values.isna() | (values == wanted) if wanted is not None else pd.Series(True, index=values.index)


def _todays_model(rows: pd.DataFrame, policy: Policy, loss: Loss) -> pd.Series:
    models = {x.name: x.model for x in policy.labels}
    is_served = rows["is_served"].fillna(False).astype(bool)
    return (loss == "label") | ~is_served | (rows["model"] == rows["label"].map(models))


def _refused(
    judged: pd.DataFrame,
    n_drawn: int,
    n_all: int,
    policy: Policy,
    loss: Loss,
    *,
    is_pooled: bool,
    partial: bool,
) -> str | None:
    if n_all == 0 or (n_drawn and judged.empty):
        return (
            "no decision of the audit queue was judged; draw some with 'routescope review next --queue audit -o FILE', judge them "
            "and give them back with 'routescope feedback --from FILE'"
        )
    if judged.empty:
        return (
            f"all {n_all:,} audit decisions are of other labels, another classifier or another model than the policy's today; "
            "draw a new audit from decisions since the change"
        )
    n_open = n_drawn - len(judged)
    if n_open > MOST_OPEN * n_drawn and not partial:
        return (
            f"{n_open:,} of {n_drawn:,} audit decisions are not judged yet, expected at most {100 * MOST_OPEN:g} %: those that wait "
            "are no random part; judge them ('routescope review open --queue audit -o FILE'), or take --partial"
        )
    if loss != "answer":
        return None
    if is_pooled and len(policy.labels) > 1 and bool((judged["cause"] == "explored").any()):
        return (
            "the audit holds explored decisions, whose answer came from another model: labels that are explored would weigh too "
            "little in one promise for all; take --per-label"
        )
    held_back = judged[(judged["cause"] == "low_margin") & (judged["margin"] >= (policy.min_margin or 0.0))]
    if len(held_back):
        return (
            f"{len(held_back):,} audit decisions fell back for a margin that the policy would serve now, so nobody saw the answer of "
            "their label's model; draw a new audit under the present rule"
        )
    return None
