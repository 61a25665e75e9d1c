"""Why routing cost less than the baseline: length, price, mix, fallback, classifier, failed attempts. They sum to it.

One vocabulary for the steps, for every table, chart and page: router.analysis.steps.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Literal

import pandas as pd

from router.analysis.steps import noticeable
from router.analysis.tables import SPEND, columns

FALLBACK_CAUSES = ("low_confidence", "low_margin")
FAILURE_CAUSES = ("classifier_error", "classifier_timeout")

Kind = Literal[
    "baseline",
    "length",
    "price",
    "mix",
    "fallback",
    "classifier_failed",
    "forced",
    "explored",
    "classifier",
    "failed",
    "unmatched",
    "paid",
]


@dataclass(frozen=True, slots=True)
class Effect:
    """One part of the way from the baseline to what was paid: signed USD (negative saves) and the total after it."""

    kind: Kind
    amount_usd: float
    total_usd: float


def decompose(spend: pd.DataFrame, unknown: Collection[str] = ()) -> tuple[Effect, ...]:
    """The effects from the baseline to what was paid, over the priced decisions; empty when there is none.

    Of the kinds in ``unknown`` ("classifier", "failed") a part is not known: where nothing is, there is no effect, which would read as $0.

    Notes
    -----
    With B the baseline of a group of decisions at their own tokens, C their cost had each followed its label, by label l with
    n_l decisions, N of all and b = sum B / N the average baseline of one decision:

    - ``length`` = sum B - baseline: what the baseline's longer or shorter answers come to (only where lengths are estimated);
    - ``price`` = sum n_l b (C_l / B_l - 1): the labels' cheaper models, were every decision of average size;
    - ``mix`` = sum (C_l - B_l) - ``price`` = sum (B_l - n_l b)(C_l / B_l - 1): positive when cheap labels have the smaller
      requests, which a count of requests alone would not see;
    - ``fallback`` = cost of what fell back minus its cost had it followed its label.

    Decisions without scores, forced and explored ones have a step of their own; classifier, failed attempts and what was paid
    without a baseline come last. Each step is a difference of the same sums, so that they add up to the last digit of the
    doubles.
    """
    table = pd.DataFrame(columns(spend, SPEND))
    if not int(table["n_priced"].sum()):
        return ()
    if "same_tokens_cost" not in table:
        table["same_tokens_cost"] = table["baseline_cost"]
    fell, failed = table["cause"].isin(FALLBACK_CAUSES), table["cause"].isin(FAILURE_CAUSES)
    labelled = table["label"].notna()
    known = table["label_cost"].notna()
    routed = (table["cause"] == "routed") & labelled
    followed = routed | (fell & labelled & known)
    explored = table["cause"] == "explored"
    forced = ~(fell | failed | routed | explored)
    table["if_followed"] = table["cost"].where(routed, table["label_cost"])
    price, both = _price_effect(table[followed])
    steps = [Effect("baseline", _sum(table["baseline_cost"]), _sum(table["baseline_cost"]))]

    def add(kind: Kind, amount: float) -> None:
        steps.append(Effect(kind, amount, steps[-1].total_usd + amount))

    length = _difference(table, "same_tokens_cost", "baseline_cost")
    if length or "baseline_output" in table:
        add("length", length)
    add("price", price)
    add("mix", both - price)
    back = _difference(table[fell & followed], "cost", "if_followed")
    add("fallback", back + _difference(table[fell & ~followed], "cost", "same_tokens_cost"))
    apart: tuple[tuple[Kind, pd.Series], ...] = (
        ("classifier_failed", failed),
        ("forced", forced),
        ("explored", explored),
    )
    for kind, rows in apart:
        if bool(rows.any()):
            add(kind, _difference(table[rows], "cost", "same_tokens_cost"))
    for kind, column in (("classifier", "classifier_cost"), ("failed", "failed_cost")):
        if column in table and (_sum(table[column]) or kind not in unknown):
            add(kind, _sum(table[column]))
    unmatched = _sum(table["unmatched_cost"]) if "unmatched_cost" in table else 0.0
    if unmatched:
        add("unmatched", unmatched)
    paid = fsum(
        [unmatched, *(_sum(table[x]) for x in ("cost", "classifier_cost", "failed_cost") if x in table)]
    )
    steps.append(Effect("paid", paid, paid))
    return tuple(steps)


def shown(effects: Sequence[Effect]) -> tuple[Effect, ...]:
    """The effects that are worth a line: both ends, model prices and request size, and whatever else comes to something."""
    found = [replace(x, amount_usd=noticeable(x.amount_usd, effects[0].amount_usd)) for x in effects]
    always = ("baseline", "price", "mix", "paid")
    return tuple(x for x in found if x.amount_usd or x.kind in always)


def _price_effect(table: pd.DataFrame) -> tuple[float, float]:
    """The price effect, and price and mix together."""
    n = float(table["n_priced"].sum())
    if not n:
        return 0.0, 0.0
    average = _sum(table["same_tokens_cost"]) / n
    price, both = [], []
    for _, rows in table.groupby("label", sort=False):
        base, cost = _sum(rows["same_tokens_cost"]), _sum(rows["if_followed"])
        both.append(cost - base)
        size = float(rows["n_priced"].sum()) * average
        # A baseline that costs nothing has no ratio: all of the difference is the price's.
        price.append(size * (cost / base - 1.0) if base > 0 else cost - base)
    return fsum(price), fsum(both)


def _difference(table: pd.DataFrame, one: str, other: str) -> float:
    return fsum([*table[one], *(-table[other])])


def _sum(values: pd.Series) -> float:
    return fsum(values.dropna())
