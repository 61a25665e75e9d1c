"""What was paid beside a baseline: one model for everything, the dearest, or the choice of another policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, isclose
from typing import TYPE_CHECKING, Any, Literal

from router.log import sources
from router.log.baselines import policy_rows
from router.log.filters import Filter
from router.log.pricing import TOKENS, priced, products, rates_table, tiers
from router.log.reader import Log
from router.log.summing import PAID, added_up, answering, run_sums, sums_of, unanswered
from router.policy import Policy

if TYPE_CHECKING:
    import pandas as pd

    from router.prices import PriceBook


def spend(
    log: Log,
    chosen: Filter,
    policy: Policy,
    prices: PriceBook,
    *,
    baseline: str | Policy | None = None,
    lengths: Mapping[str, tuple[float, float]] | None = None,
) -> pd.DataFrame:
    """What was paid beside the baseline, by (day, label, model, cause); see router.analysis.tables.SPEND.

    Parameters
    ----------
    baseline : a model that would have answered everything; another policy, whose choice is replayed from the rows; None:
        the policy's.
    lengths : (input, output) tokens that the baseline's answer takes for each token of this model's (see
        router.analysis.lengths); a model without them takes the same tokens.
    """
    import numpy as np

    other = baseline if isinstance(baseline, Policy) else None
    single = baseline_of(policy) if baseline is None else "" if other is not None else str(baseline)
    keys = {"day": "CAST(s.hour AS DATE)", **dict.fromkeys((*PAID, "label", "cause", "outcome"), "")}
    models = [*policy.model_names, *((single,) if other is None else other.model_names)]
    if other is None:
        sums = sums_of(log, chosen, "hourly", keys, prices, models=models)
        against: list[str | None] = [single] * len(sums)
    else:
        sums = _replayed(log, chosen, other, keys, prices, models)
        against = [x if isinstance(x, str) else None for x in sums["policy_fingerprint"].tolist()]
    of_label = {label.name: label.model for label in policy.labels}
    cost, paid = priced(sums, answering(sums), prices)
    same, at_base = priced(sums, against, prices)
    base, out = same, np.zeros(len(sums))
    if lengths is not None:
        pairs_ = [
            (1.0, 1.0) if model == used else lengths.get(used, (1.0, 1.0))
            for used, model in zip(sums["model"].tolist(), against, strict=True)
        ]
        factors = np.array([(x, x, x, y, x) for x, y in pairs_], dtype=float).reshape(-1, len(TOKENS))
        at_base = at_base * factors
        base = (sums[list(TOKENS)].to_numpy(dtype=float) * at_base).sum(axis=1)
        out = sums["output_tokens"].to_numpy(dtype=float) * at_base[:, 3]
    label_cost, _ = priced(sums, [of_label.get(x) for x in sums["label"].tolist()], prices)
    fell = sums["cause"].isin(("low_confidence", "low_margin")).to_numpy(dtype=bool)
    found, both, free = cost == cost, (cost == cost) & (base == base), unanswered(sums).to_numpy(dtype=bool)
    n, classifier, failed = (
        sums["n"],
        sums["classifier_cost"].astype(float),
        sums["failed_cost"].astype(float),
    )
    table = sums[["day", "label", "cause", "n"]].assign(
        model_used=sums["model"],
        n_priced=n,
        cost=cost,
        cost_sq=products(sums, paid, paid),
        baseline_cost=base,
        baseline_sq=products(sums, at_base, at_base),
        cost_baseline=products(sums, paid, at_base),
        # What followed its label cost what it cost; of what fell back nobody knows without a price.
        label_cost=np.where(fell, label_cost, _first_known(label_cost, cost)),
        classifier_cost=classifier,
        n_measured=n.where(sums["usage_grade"] == "measured", 0),
        n_assumed=n.where(sums["usage_grade"] == "assumed", 0),
    )
    if lengths is not None:
        table = table.assign(same_tokens_cost=same, baseline_output=out)
    table.loc[~both, table.columns.difference(["day", "label", "cause", "n", "model_used"])] = 0
    # What was paid is not forgotten because a decision has no baseline. Unknown parts are counted, and known ones kept:
    # the sum is a lower bound then. A classifier that gave no scores is not taken to have charged.
    table = table.assign(
        n_unpriced=n.where(~both & ~free, 0),
        n_unanswered=n.where(free, 0),
        n_cost_unknown=n.where(~found & ~free, 0),
        unmatched_cost=np.where(both, 0.0, np.where(found, cost, 0.0) + classifier),
        failed_cost=failed,
        unmatched_failed_cost=failed.where(~both, 0.0),
        n_failed_unknown=sums["n_failed_unknown"],
        n_classifier_unknown=sums["n_classifier_unknown"],
    )
    table["label_unknown"] = table["label_cost"].isna().astype(int)
    added = added_up(table, ["day", "label", "model_used", "cause"])
    added["label_cost"] = added["label_cost"].where(added["label_unknown"] == 0)
    return added.drop(columns="label_unknown")


@dataclass(frozen=True, slots=True)
class Repriced:
    """Answers whose cost is in the log and known to today's price book too: their number, and both sums in USD."""

    n: int
    logged_usd: float
    today_usd: float

    @property
    def difference_usd(self) -> float:
        """Today's prices minus those known when the calls were made; 0 where only rounding differs."""
        same = isclose(self.today_usd, self.logged_usd, rel_tol=1e-9)
        return 0.0 if same else self.today_usd - self.logged_usd


def repriced(log: Log, chosen: Filter, prices: PriceBook) -> Repriced:
    """What answers cost by the log, at the prices known then, beside what today's price book says for the same ones.

    A price that was corrected since, or an own price that was changed, shows here: every other sum is at today's book.
    """
    keys = {"day": "CAST(s.hour AS DATE)", **dict.fromkeys((*PAID, "costed"), "")}
    sums = sums_of(log, chosen, "hourly", keys, prices)
    cost, _ = priced(sums, answering(sums), prices)
    both = sums["costed"].to_numpy(dtype=bool) & (cost == cost)
    then = sums["logged_cost"].to_numpy(dtype=float)[both]
    return Repriced(int(sums["n"][both].sum()), fsum(then), fsum(cost[both]))


@dataclass(frozen=True, slots=True)
class Unpriced:
    """``n`` decisions that savings leave out, and what is not known of them.

    ``model`` answered (None: none did). ``of_baseline``: their own cost is known, the baseline's is not. ``lacks``: what that
    needs; "choice": a policy that is the baseline has no model for the label. ``service_tier`` is what they were served at,
    "" for the plain one.
    """

    model: str | None
    of_baseline: bool
    lacks: Literal["tokens", "price", "tier", "hour", "day", "choice"]
    service_tier: str
    n: int

    def why(self, name: Callable[[str], str] = str) -> str:
        """The reason in words; ``name`` makes the provider's word for a tier fit to be shown.

        >>> Unpriced("a", False, "tier", "scale", 1).why(), Unpriced("a", True, "tier", "flex", 1).why()
        ('served at scale: no rate known', 'baseline has no flex rate')
        """
        words = {
            "tokens": "tokens not known",
            "price": "price not known",
            "tier": f"served at {name(self.service_tier)}: no rate known",
            "hour": "one hour in the cache: no rate known",
            "day": "the day's price not known",
        }
        of_baseline = {
            "price": "baseline's price not known",
            "tier": f"baseline has no {name(self.service_tier)} rate",
            "hour": "baseline has no rate for one hour in the cache",
            "choice": "baseline has no model for it",
        }
        return of_baseline[self.lacks] if self.of_baseline else words[self.lacks]


def unpriced(
    log: Log, chosen: Filter, policy: Policy, prices: PriceBook, *, baseline: str | Policy | None = None
) -> list[Unpriced]:
    """Why decisions are no part of the savings, most first; ``baseline`` as in ``spend``, whose ``n_unpriced`` they sum to."""
    other = baseline if isinstance(baseline, Policy) else None
    single = baseline_of(policy) if baseline is None else baseline
    keys = {"day": "CAST(s.hour AS DATE)", **dict.fromkeys((*PAID, "outcome"), "")}
    if other is None:
        sums = sums_of(log, chosen, "hourly", keys, prices, models=[*policy.model_names, str(single)])
        against: list[str | None] = [str(single)] * len(sums)
    else:
        sums = _replayed(log, chosen, other, keys, prices, [*policy.model_names, *other.model_names])
        against = [x if isinstance(x, str) else None for x in sums["policy_fingerprint"].tolist()]
    used = answering(sums)
    own, base = (priced(sums, models, prices)[0] for models in (used, against))
    left = ~((own == own) & (base == base)) & ~unanswered(sums).to_numpy(dtype=bool)
    found: Counter[tuple[Any, Any, Any, Any]] = Counter()
    for i, row in enumerate(sums.to_dict("records")):
        if not left[i]:
            continue
        of_baseline = bool(own[i] == own[i])
        lacks = _lacking(prices, against[i] if of_baseline else used[i], row, of_baseline)
        model = row["model"] if isinstance(row["model"], str) else None
        found[(model, of_baseline, lacks, row["service_tier"] or "" if lacks == "tier" else "")] += row["n"]
    return [
        Unpriced(*key, n)
        for key, n in sorted(
            found.items(), key=lambda x: (-x[1], x[0][0] or "", *(str(part) for part in x[0][1:]))
        )
    ]


def _lacking(prices: PriceBook, model: str | None, row: Mapping[Any, Any], of_baseline: bool) -> str:
    if model is None:
        return "choice" if of_baseline else "tokens"
    if not row["usage_known"]:
        return "tokens"
    if row["day"] is None or row["day"] != row["day"]:
        return "day"
    day = row["day"].date() if hasattr(row["day"], "date") else row["day"]
    tier = row["service_tier"] or ""
    if prices.rate(model, day, tier=tier) is None:
        return "tier" if tier and prices.rate(model, day) is not None else "price"
    return "hour"


def dearest(log: Log, chosen: Filter, policy: Policy, prices: PriceBook) -> str:
    """The model of the policy that would have cost most, had it answered everything; the usual baseline when none is priced."""
    keys = {"day": "CAST(s.hour AS DATE)", **dict.fromkeys(PAID, "")}
    sums = sums_of(log, chosen, "hourly", keys, prices, models=list(policy.model_names))
    best, most = baseline_of(policy), 0.0
    for model in policy.model_names:
        cost, _ = priced(sums, [model] * len(sums), prices)
        total = float(cost[cost == cost].sum())
        if total > most:
            best, most = model, total
    return best


def _replayed(
    log: Log, chosen: Filter, other: Policy, keys: Mapping[str, str], prices: PriceBook, models: Sequence[str]
) -> pd.DataFrame:
    """The sums with what another policy would have chosen as ``policy_fingerprint``; always read from rows."""
    seen = sources.days(log, chosen)
    used = sources.models(log, chosen)
    starts = tiers(rates_table(prices, [*used, *models], seen, sources.service_tiers(log)))
    text, values = policy_rows(chosen, other, "date_trunc('day', d.decided_at)", starts)
    found = sources.Source(text, values, True)
    return run_sums(log, found, "hourly", {**keys, "policy_fingerprint": ""})


def baseline_of(policy: Policy) -> str:
    """The baseline model: the policy's, else its strongest tier, else its fallback model."""
    return policy.baseline or (policy.tiers[-1] if policy.tiers else policy.fallback_model)


def _first_known(one: Any, two: Any) -> Any:
    import numpy as np

    return np.where(one == one, one, two)
