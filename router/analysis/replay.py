"""The spend table that another policy's thresholds would have made of the same decisions, from cells."""

from __future__ import annotations

import pandas as pd

from router.analysis.tables import CELLS, SPEND, columns
from router.policy import Policy, confidence_bin

_SUMS = ("n", "n_priced", "baseline_cost", "classifier_cost", "n_measured", "n_assumed", "label_cost")


def projected_spend(cells: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """Spend (router.analysis.tables.SPEND, without days) of the cells' decisions under the policy's thresholds.

    ``policy`` has the labels, models and baseline that the cells were priced for; only its thresholds may differ from the
    policy that ran. Decisions take the same tokens under another model, which is an assumption. Cells hold no margins, so a
    margin rule is left out. At the thresholds that ran, the table equals the actual spend of decisions that were routed
    or fell back for low confidence.
    """
    table = pd.DataFrame(columns(cells, CELLS))
    lines = {label.name: confidence_bin(policy.threshold_for(label.name)) for label in policy.labels}
    table = table[table["label"].isin(list(lines))]
    falls = table["bin"] < table["label"].map(lines)
    rows = []
    for label in policy.labels:
        for fell in (False, True):
            part = table[(table["label"] == label.name) & (falls == fell)]
            if not part.empty:
                rows.append(_row(part, label.name, policy.fallback_model if fell else label.model, fell))
    return pd.DataFrame(rows, columns=list(SPEND.names))


def _row(part: pd.DataFrame, label: str, model: str, fell: bool) -> dict[str, object]:
    side = "fallback" if fell else "label"
    sums = {name: part[name].sum() for name in _SUMS}
    return sums | {
        "label": label,
        "model_used": model,
        "cause": "low_confidence" if fell else "routed",
        "cost": part[f"{side}_cost"].sum(),
        "cost_sq": part[f"{side}_cost_sq"].sum(),
        "cost_baseline": part[f"{side}_baseline"].sum(),
        "baseline_sq": part["baseline_cost_sq"].sum(),
        "n_unpriced": sums["n"] - sums["n_priced"],
    }
