"""What another policy would have made of the same decisions: from cells (thresholds alone) or from their scores (anything)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from router.analysis.estimates import mean_half_width
from router.analysis.scored import Scored
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


@dataclass(frozen=True, slots=True)
class Reproduction:
    """Whether the log's own policies, replayed over its scores, choose the models that it says they chose.

    ``n`` decisions could be replayed, ``n_equal`` came out as logged; ``unlike`` holds ids of up to 20 others. ``n_unknown``:
    made by a policy that the log does not hold, or forced by the caller.
    """

    n: int
    n_equal: int
    n_unknown: int
    unlike: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a policy would have made of logged decisions. USD over the n_priced whose cost is known under it.

    ``models`` holds (model, decisions). ``cost_half`` is half the 95 % interval of the mean for traffic like this.
    """

    n: int
    n_left_out: int
    n_priced: int
    n_fallback: int
    fallback_share: float | None
    cost_usd: float | None
    cost_per_1000: float | None
    cost_half: float | None
    models: tuple[tuple[str, int], ...]


def reproduce(rows: Scored, policies: Mapping[str, Policy]) -> Reproduction:
    """Replay each decision under the policy that made it (by fingerprint) and compare with ``model_chosen``."""
    made_by = rows.meta["policy"].to_numpy(dtype=object)
    by_rule = rows.meta["cause"].isin(("routed", "low_confidence", "low_margin")).to_numpy(dtype=bool)
    n = equal = 0
    unlike: list[str] = []
    for fingerprint, policy in policies.items():
        mine = (made_by == fingerprint) & by_rule
        if not mine.any() or any(x not in rows.labels for x in policy.label_names):
            continue
        part = rows.of(mine)
        same = part.decide(policy).model == part.meta["model_chosen"].to_numpy(dtype=object)
        n, equal = n + len(part), equal + int(same.sum())
        unlike += part.meta["id"][~same].tolist()
    return Reproduction(n, equal, len(rows) - n, tuple(str(x) for x in unlike[:20]))


def replay(rows: Scored, policy: Policy) -> Replayed:
    """Let another policy decide on logged scores; costs are of the decisions' own tokens under the model it chooses.

    Margin rules and labels merged by :meth:`Scored.merged` are honoured. Prices are those that the rows were read with. Same
    tokens under another model is an assumption.
    """
    choices = rows.decide(policy)
    cost = rows.cost_of(choices.model)
    known = cost[~np.isnan(cost)]
    n, n_priced, fell = len(rows), len(known), int(choices.is_fallback.sum())
    names, counts = np.unique(choices.model.astype(str), return_counts=True)
    total, squares = float(known.sum()), float(np.sum(known * known))
    half = float(mean_half_width(n_priced, total, squares)) if n_priced > 1 else None
    return Replayed(
        n=n,
        n_left_out=rows.n_left_out,
        n_priced=n_priced,
        n_fallback=fell,
        fallback_share=fell / n if n else None,
        cost_usd=total if n_priced else None,
        cost_per_1000=1000 * total / n_priced if n_priced else None,
        cost_half=None if half is None else 1000 * half,
        models=tuple(sorted(zip(names.tolist(), counts.tolist(), strict=True), key=lambda x: (-x[1], x[0]))),
    )
