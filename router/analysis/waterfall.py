"""From the baseline to what was paid, label by label; by cause it is router.analysis.decomposition."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import fsum
from typing import Any, Literal

import pandas as pd

from router.analysis.decomposition import FAILURE_CAUSES, FALLBACK_CAUSES
from router.analysis.steps import STEPS


@dataclass(frozen=True, slots=True)
class Step:
    """One bar of the waterfall: its signed USD (negative saves) and where the total stands after it."""

    kind: Literal[
        "baseline",
        "label",
        "fell_back",
        "classifier_failed",
        "forced",
        "explored",
        "classifier",
        "failed",
        "unmatched",
        "paid",
    ]
    name: str
    amount_usd: float
    total_usd: float


def waterfall(
    table: pd.DataFrame, total: dict[str, float], paid: float, unknown: Collection[str] = ()
) -> tuple[Step, ...]:
    """Go from the baseline to what was paid: rows that followed their label by label, then the rest by cause.

    Each step is the cost of its rows minus their baseline; every row is in exactly one, so that they sum to the total. Names
    are those of :data:`~router.analysis.steps.STEPS`, and the labels' own. Of the kinds in ``unknown`` a part is not known: where
    nothing is, there is no step, which would read as $0.
    """
    steps = [Step("baseline", "baseline", total["baseline"], total["baseline"])]

    def add(kind: Any, amount: float, name: str = "") -> None:
        steps.append(Step(kind, name or STEPS[kind][0], amount, steps[-1].total_usd + amount))

    def over_baseline(rows: pd.DataFrame) -> float:
        return fsum([*rows["cost"], *(-rows["baseline_cost"])])

    fell, failed = table["cause"].isin(FALLBACK_CAUSES), table["cause"].isin(FAILURE_CAUSES)
    routed = (table["cause"] == "routed") & table["label"].notna()
    for label in dict.fromkeys(table["label"][table["label"].notna()]):
        add("label", over_baseline(table[routed & (table["label"] == label)]), str(label))
    add("fell_back", over_baseline(table[fell]))
    explored = table["cause"] == "explored"
    others = ~(fell | failed | routed | explored)
    for kind, rows in (("classifier_failed", failed), ("forced", others), ("explored", explored)):
        if bool(rows.any()):
            add(kind, over_baseline(table[rows]))
    if total["classifier"] or "classifier" not in unknown:
        add("classifier", total["classifier"])
    if "failed_cost" in table and (total["failed"] or "failed" not in unknown):
        add("failed", total["failed"])
    if total["unmatched"]:
        add("unmatched", total["unmatched"])
    steps.append(Step("paid", "paid", paid, paid))
    return tuple(steps)
