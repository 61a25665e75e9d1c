"""What another policy would have made of the same decisions: from cells (thresholds alone) or from their scores (anything)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from router.analysis.estimates import mean_half_width
from router.analysis.off_policy import OffPolicy, cross_fitted, evaluate
from router.analysis.scored import Scored, in_parts
from router.analysis.tables import CELLS, SPEND, columns
from router.policy import Policy, confidence_bin

_SUMS = ("n", "n_priced", "baseline_cost", "classifier_cost", "n_measured", "n_assumed", "label_cost")
SHOWN = 20
"""Ids of decisions that did not come out as logged: so many are kept, the first by id."""


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
    """What a policy would have made of logged decisions. USD over the n_priced whose cost is known under it, classifier included.

    ``models`` holds (model, decisions). ``cost_half`` is half the 95 % interval of the mean for traffic like this; the classifier
    enters it as its mean per decision. ``classifier_usd`` is its logged part of ``cost_usd``; unless ``classifier_known`` some of it
    is not in the log, costs are a lower bound and have no interval.
    ``n_changed`` decisions go to another model than was chosen; to ``n_unsupported`` of these nothing but the choice that was made
    had a chance, so that no log says what the other model would have answered.
    """

    n: int
    n_left_out: int
    n_priced: int
    n_fallback: int
    fallback_share: float | None
    cost_usd: float | None
    cost_per_1000: float | None
    cost_half: float | None
    classifier_usd: float | None
    classifier_known: bool
    models: tuple[tuple[str, int], ...]
    n_changed: int
    n_unsupported: int


def reproduce(rows: Scored | Iterable[Scored], policies: Mapping[str, Policy]) -> Reproduction:
    """Replay each decision under the policy that made it (by fingerprint) and compare with ``model_chosen``."""
    seen = n = equal = 0
    unlike: list[str] = []
    for rest in in_parts(rows):
        made_by = rest.meta["policy"].to_numpy(dtype=object)
        by_rule = rest.meta["cause"].isin(("routed", "low_confidence", "low_margin")).to_numpy(dtype=bool)
        seen += len(rest)
        for fingerprint, policy in policies.items():
            mine = (made_by == fingerprint) & by_rule
            if not mine.any() or any(x not in rest.labels for x in policy.label_names):
                continue
            part = rest.of(mine)
            same = part.decide(policy).model == part.meta["model_chosen"].to_numpy(dtype=object)
            n, equal = n + len(part), equal + int(same.sum())
            unlike = sorted([*unlike, *part.meta["id"][~same].astype(str).tolist()])[:SHOWN]
    return Reproduction(n, equal, seen - n, tuple(unlike))


def replay(rows: Scored | Iterable[Scored], policy: Policy) -> Replayed:
    """Let another policy decide on logged scores; costs are of the decisions' own tokens under the model it chooses.

    Margin rules and labels merged by :meth:`Scored.merged` are honoured. Prices are those that the rows were read with; what the
    classifier cost is what the log says, whatever the policy. Same tokens under another model is an assumption. Decisions in parts
    give what they give whole.
    """
    n = n_left_out = n_priced = fell = n_changed = n_unsupported = n_unknown = 0
    total = squares = classifier = 0.0
    models: Counter[str] = Counter()
    for part in in_parts(rows):
        choices = part.decide(policy)
        cost = part.cost_of(choices.model)
        priced = ~np.isnan(cost)
        known, asked = cost[priced], part.classifier_costs()[priced]
        classifier, n_unknown = classifier + float(np.nansum(asked)), n_unknown + int(np.isnan(asked).sum())
        n, n_left_out, n_priced = n + len(part), n_left_out + part.n_left_out, n_priced + len(known)
        fell += int(choices.is_fallback.sum())
        changed = choices.model != part.meta["model_chosen"].to_numpy(dtype=object)
        chance = part.meta["propensity"].to_numpy(dtype=np.float64, na_value=np.nan)
        n_changed += int(changed.sum())
        n_unsupported += int((changed & ~(chance < 1.0)).sum())
        total, squares = total + float(known.sum()), squares + float(np.sum(known * known))
        models.update(choices.model.tolist())
    # Each decision carries the classifier's mean, so that its own spread adds nothing: as in a sweep.
    half = float(mean_half_width(n_priced, total, squares)) if n_priced > 1 and not n_unknown else None
    total += classifier
    return Replayed(
        n=n,
        n_left_out=n_left_out,
        n_priced=n_priced,
        n_fallback=fell,
        fallback_share=fell / n if n else None,
        cost_usd=total if n_priced else None,
        cost_per_1000=1000 * total / n_priced if n_priced else None,
        cost_half=None if half is None else 1000 * half,
        classifier_usd=classifier if n_priced else None,
        classifier_known=n_unknown == 0,
        models=tuple(sorted(models.items(), key=lambda x: (-x[1], x[0]))),
        n_changed=n_changed,
        n_unsupported=n_unsupported,
    )


def value(
    rows: Scored,
    policy: Policy,
    audit: pd.DataFrame,
    logged_by: Mapping[str, Policy],
    *,
    rng: np.random.Generator,
) -> OffPolicy | None:
    """Share of answers judged right had the policy chosen, from audit rows whose choice was drawn; None where none was.

    Parameters
    ----------
    audit : columns ``id, verdict, label`` of judged rows of a uniform draw; other verdicts than right and wrong are left out.
    logged_by : the policies that made the decisions, by fingerprint: they say which models had a chance. Of a decision whose
        policy is not among them only the model that answered is known to have had one.

    Notes
    -----
    See ``evaluate``. DR's outcome model is the mean by label and tenth of confidence, cross-fitted.
    """
    told = audit[audit["verdict"].isin(("right", "wrong"))].set_index("id")
    verdict, label = rows.meta["id"].map(told["verdict"]), rows.meta["id"].map(told["label"])
    judged = verdict.notna().to_numpy()
    if not (judged & rows.meta["propensity"].notna().to_numpy()).any():
        return None
    part, label = rows.of(judged), label[judged].to_numpy(dtype=object)
    choices = part.decide(policy)
    made = part.meta["model_chosen"].to_numpy(dtype=object)
    reward = (verdict[judged] == "right").to_numpy(dtype=np.float64)
    propensity = part.meta["propensity"].to_numpy(dtype=np.float64, na_value=np.nan)
    drawn = ~np.isnan(propensity)
    group = [f"{name} {int(c * 10)}" for name, c in zip(label, choices.confidence, strict=True)]
    group, made, wanted = np.array(group, dtype=object)[drawn], made[drawn], choices.model[drawn]
    seed = int(rng.integers(2**32))
    mu, mu_wanted = (
        cross_fitted(group, made, asked, reward[drawn], rng=np.random.default_rng(seed))
        for asked in (made, wanted)
    )
    predicted, predicted_wanted = (np.full(len(part), np.nan) for _ in range(2))
    predicted[drawn], predicted_wanted[drawn] = mu, mu_wanted
    return evaluate(
        reward,
        propensity,
        (choices.model == part.meta["model_chosen"].to_numpy(dtype=object)).astype(np.float64),
        predicted=predicted,
        predicted_target=predicted_wanted,
        supported=_supported(part, choices.model, label, propensity, logged_by),
    )


def _supported(
    part: Scored,
    wanted: NDArray[Any],
    label: NDArray[Any],
    propensity: NDArray[np.float64],
    logged_by: Mapping[str, Policy],
) -> NDArray[np.bool_]:
    """Whether the logging policy could have chosen the wanted model: the rule takes the label's model or the fallback model."""
    made = part.meta["model_chosen"].to_numpy(dtype=object)
    had = np.asarray(wanted == made)
    policies = part.meta["policy"].to_numpy(dtype=object)
    for i in np.flatnonzero(~had & (propensity < 1.0)):
        by = logged_by.get(policies[i])
        own = None if by is None else by.by_name.get(label[i])
        if by is not None and own is not None:
            had[i] = wanted[i] in (own.model, by.fallback_model)
    return had
