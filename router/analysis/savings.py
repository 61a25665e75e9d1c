"""What routing saved: the baseline minus everything that was paid, with its interval and its ground.

The baseline is "the same decisions, all to one model, with the same tokens". That last part is an assumption (another
model may answer longer or shorter), whatever the grade of the token counts; with ratios of lengths it is an estimate.
Decisions without a known cost on either side are left out of the savings, counted, and listed by model; what is known to
have been paid for them is a part of what was paid all the same. Those that no model answered and no provider charges for
are no part of either side, and leave nothing unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import fsum, sqrt
from typing import Any, Literal

import numpy as np
import pandas as pd

from router.analysis.decomposition import FALLBACK_CAUSES, Effect, decompose
from router.analysis.estimates import Z95, known, ratio_half_width, token_grade
from router.analysis.lengths import LengthRatio
from router.analysis.tables import SPEND, columns
from router.analysis.waterfall import Step, waterfall
from router.types import Grade

MIN_DAYS = 7
"""From this many days on, days rather than decisions are the units of the interval."""


@dataclass(frozen=True, slots=True)
class LabelSavings:
    """One label's part; None where nothing is priced. ``label`` None: decisions without a top label.

    ``fallback_usd`` is what falling back cost over following the label (negative: it saved); None when not known.
    ``paid_usd`` holds the label's part of classifier and failed attempts, and what was paid without a baseline; it is a lower
    bound unless ``is_whole``. ``missing``: as in :class:`Savings`; where it is not "", savings are an upper bound.
    """

    label: str | None
    models: tuple[str, ...]
    n: int
    n_priced: int
    n_fallback: int
    baseline_usd: float | None
    paid_usd: float | None
    savings_usd: float | None
    savings_share: float | None
    fallback_usd: float | None
    is_whole: bool
    missing: str


@dataclass(frozen=True, slots=True)
class Savings:
    """Actual savings over a period. Money is USD over the priced decisions, None when there are none.

    Attributes
    ----------
    paid_usd : all that was paid, as far as it is known: ``routed_usd`` + ``classifier_usd`` + ``failed_usd`` +
        ``unmatched_usd``. None when nothing is known.
    savings_usd : ``baseline_usd`` - ``paid_usd`` + ``unmatched_usd``.
    unmatched_usd : answers and classifying of decisions without a known baseline cost: no part of the savings.
    failed_unmatched_usd : of ``failed_usd``, that of such decisions; it lowers the savings, because it was paid for nothing.
    n_unanswered : decisions that no model answered and no provider charges for: no part of either side.
    n_cost_unknown : of the ``n_unpriced``, those whose own cost is not known; that of the others' baseline is not.
    savings_share : savings / baseline. ``share_half``, ``savings_half``: half the 95 % interval for traffic like this,
        the second one given the baseline; None below two units, and where ``savings_usd`` is an upper bound (see ``missing``).
    units : what the interval takes as independent: days (from 7 days on) or decisions.
    grade : weakest grade of the token counts behind it. ``baseline_grade`` is ``measured`` where the baseline itself
        answered everything, ``estimated`` where every other model has a ratio of lengths, else ``assumed``: same tokens.
    unpriced : decisions that are left out, by the model that answered (None: none did), most first.
    classifier_known, failed_known : False when a part of that cost is not known and left out: paid is a lower bound, and savings
        are an upper one.
    waterfall : from the baseline to what was paid, label by label; the steps sum to it. ``effects``: the same way by cause
        (see ``decompose``).
    """

    baseline: str
    n: int
    n_priced: int
    n_unpriced: int
    n_unanswered: int
    n_cost_unknown: int
    baseline_usd: float | None
    routed_usd: float | None
    classifier_usd: float | None
    failed_usd: float | None
    failed_unmatched_usd: float | None
    unmatched_usd: float | None
    paid_usd: float | None
    savings_usd: float | None
    savings_half: float | None
    savings_share: float | None
    share_half: float | None
    units: Literal["decisions", "days"]
    days: int | None
    grade: Grade | None
    baseline_grade: Grade
    n_measured: int
    n_assumed: int
    classifier_known: bool
    failed_known: bool
    labels: tuple[LabelSavings, ...]
    waterfall: tuple[Step, ...]
    effects: tuple[Effect, ...]
    unpriced: tuple[tuple[str | None, int], ...]

    @property
    def is_whole(self) -> bool:
        """Whether ``paid_usd`` is all that was paid; else it is a lower bound and is shown with a plus."""
        return self.n_cost_unknown == 0 and self.classifier_known and self.failed_known

    @property
    def missing(self) -> str:
        """Which cost beside the answers is not known of some decisions, so that savings are an upper bound; "" when none is."""
        return missing(self.classifier_known, self.failed_known)


def missing(classifier_known: bool, failed_known: bool) -> str:
    """What of paid is not known, in words; "" when all of it is.

    >>> missing(False, True), missing(False, False), missing(True, True)
    ("the classifier's cost", "the classifier's cost and that of failed attempts", '')
    """
    if classifier_known:
        return "" if failed_known else "the cost of failed attempts"
    return "the classifier's cost" + ("" if failed_known else " and that of failed attempts")


def bound(of: str) -> str:
    """The sentence that says why paid is a lower bound and saved an upper one; ``of`` is what is missing."""
    return f"{of} is not known for some decisions: paid is at least, saved at most, what stands here"


def savings(
    spend: pd.DataFrame, baseline: str, *, lengths: Mapping[str, LengthRatio] | None = None
) -> Savings:
    """Add up actual savings against ``baseline``, the model (or policy) behind the table's baseline costs.

    ``lengths`` are the ratios that the table was made with; their uncertainty widens the interval.

    Notes
    -----
    ``S = 1 - sum r / sum b`` with r what a decision cost, its mean part of classifier and failed attempts included, and b
    its baseline. By decisions the half width is that of :func:`~router.analysis.estimates.ratio_half_width`. With a ``day``
    column and 7 days or more the day sums are the units and the quantile is Student's t with days - 1 degrees of freedom:
    decisions of one day resemble each other, which an interval by decisions would not see. With ratios of lengths the
    variance of the baseline's sum, ``sum (B_m,in / r_in)^2 var r_in + (B_m,out / r_out)^2 var r_out`` over models m, is added.
    """
    table = _frame(spend)
    n, n_priced = int(table["n"].sum()), int(table["n_priced"].sum())
    measured, assumed = int(table["n_measured"].sum()), int(table["n_assumed"].sum())
    total = _totals(table)
    paid, matched = _paid(table, total)
    has_share = n_priced > 0 and total["baseline"] > 0
    priced = table[
        table["n_priced"] > 0
    ]  # a day without a priced decision says nothing about how days differ
    days = priced["day"].nunique() if "day" in table else None
    by_days = days is not None and days >= MIN_DAYS
    half = None  # of an upper bound an interval would say that it is known
    is_known = _classifier_known(table) and _failed_known(table)
    if has_share and is_known:
        counted = table[table["day"].isin(priced["day"])] if by_days else table
        half = known(_half_by_days(counted) if by_days else _half_by_decisions(table, n_priced, total))
        half = _with_lengths(half, table, lengths or {}, total["baseline"], matched)
    saved = total["baseline"] - matched
    some = n_priced > 0
    return Savings(
        baseline=baseline,
        n=n,
        n_priced=n_priced,
        n_unpriced=int(table["n_unpriced"].sum()),
        n_unanswered=_count(table, "n_unanswered"),
        n_cost_unknown=_cost_unknown(table),
        baseline_usd=total["baseline"] if some else None,
        routed_usd=total["cost"] if some else None,
        classifier_usd=total["classifier"] if some else None,
        failed_usd=total["failed"] if some else None,
        failed_unmatched_usd=_sum(table, "unmatched_failed_cost") if some else None,
        unmatched_usd=None if paid is None else total["unmatched"],
        paid_usd=paid,
        savings_usd=saved if some else None,
        savings_half=None if half is None else half * total["baseline"],
        savings_share=saved / total["baseline"] if has_share else None,
        share_half=half,
        units="days" if by_days else "decisions",
        days=days,
        grade=token_grade(n_priced, measured, assumed),
        baseline_grade=_baseline_grade(priced, baseline, lengths or {}),
        n_measured=measured,
        n_assumed=assumed,
        classifier_known=_classifier_known(table),
        failed_known=_failed_known(table),
        labels=tuple(
            _label_savings(label, part) for label, part in table.groupby("label", dropna=False, sort=False)
        ),
        waterfall=waterfall(table, total, paid, _unknown(table)) if some and paid is not None else (),
        effects=decompose(table, _unknown(table)),
        unpriced=_unpriced(table),
    )


def _with_lengths(
    half: float | None, table: pd.DataFrame, lengths: Mapping[str, LengthRatio], base: float, paid: float
) -> float | None:
    """The half width with the variance of the ratios: S = 1 - paid / base moves by paid / base^2 for each dollar of base."""
    if half is None or not lengths or "baseline_output" not in table:
        return half
    variance = 0.0
    for model, rows in table.groupby("model_used"):
        ratio = lengths.get(str(model))
        if ratio is not None:
            output = _sum(rows, "baseline_output")
            fresh = _sum(rows, "baseline_cost") - output
            variance += (fresh * ratio.input_half / ratio.input / Z95) ** 2
            variance += (output * ratio.output_half / ratio.output / Z95) ** 2
    return float(np.hypot(half, Z95 * sqrt(variance) * paid / base**2))


def _baseline_grade(priced: pd.DataFrame, baseline: str, lengths: Mapping[str, LengthRatio]) -> Grade:
    """How far the baseline's tokens are known: those of its own answers are."""
    used = set(priced["model_used"]) - {baseline}
    measured = int(priced["n_measured"].sum()) == int(priced["n_priced"].sum())
    if not used and measured and len(priced):
        return "measured"
    return "estimated" if used and used <= set(lengths) else "assumed"


def _unpriced(table: pd.DataFrame) -> tuple[tuple[str | None, int], ...]:
    left = table[table["n_unpriced"] > 0].groupby("model_used", dropna=False)["n_unpriced"].sum()
    found = [(None if pd.isna(model) else str(model), int(n)) for model, n in left.items()]
    return tuple(sorted(found, key=lambda pair: (-pair[1], pair[0] or "")))


def _frame(spend: pd.DataFrame) -> pd.DataFrame:
    table = pd.DataFrame(columns(spend, SPEND))
    for name in ("label", "model_used"):
        table[name] = table[name].astype(object).where(table[name].notna(), None)
    return table


def _sum(table: pd.DataFrame, name: str) -> float:
    """Exact sum of a money column, unknown parts left out; 0 where the table has no such column."""
    return fsum(table[name].dropna()) if name in table else 0.0


def _totals(table: pd.DataFrame) -> dict[str, float]:
    return {
        "cost": _sum(table, "cost"),
        "baseline": _sum(table, "baseline_cost"),
        "classifier": _sum(table, "classifier_cost"),
        "failed": _sum(table, "failed_cost"),
        "unmatched": _sum(table, "unmatched_cost"),
    }


def _paid(table: pd.DataFrame, total: Mapping[str, float]) -> tuple[float | None, float]:
    """All that is known to have been paid (None when nothing is), and the part of it that has a baseline or was paid for nothing."""
    matched = (total["cost"], total["classifier"], total["failed"])
    paid = fsum((*matched, total["unmatched"]))
    n_costed = int(table["n"].sum()) - _count(table, "n_unanswered") - _cost_unknown(table)
    return paid if n_costed > 0 or paid else None, fsum(matched)


def _count(table: pd.DataFrame, name: str) -> int:
    return int(table[name].sum()) if name in table else 0


def _cost_unknown(table: pd.DataFrame) -> int:
    return _count(table, "n_cost_unknown" if "n_cost_unknown" in table else "n_unpriced")


def _unknown(table: pd.DataFrame) -> list[str]:
    known = {"classifier": _classifier_known(table), "failed": _failed_known(table)}
    return [kind for kind, there in known.items() if not there]


def _classifier_known(table: pd.DataFrame) -> bool:
    return not _count(table, "n_classifier_unknown") and _is_known(table, "classifier_cost")


def _is_known(table: pd.DataFrame, name: str) -> bool:
    return not bool((table[name].isna() & (table["n_priced"] > 0)).any())


def _failed_known(table: pd.DataFrame) -> bool:
    if _count(table, "n_failed_unknown"):
        return False
    return "failed_cost" not in table or _is_known(table, "failed_cost")


def _half_by_decisions(table: pd.DataFrame, n: int, total: dict[str, float]) -> float:
    cost, base = total["cost"], total["baseline"]
    k = (
        total["classifier"] + total["failed"]
    ) / n  # each decision carries the mean: (x + k)^2 = x^2 + 2kx + k^2
    squares = _sum(table, "cost_sq") + 2 * k * cost + n * k * k
    product = _sum(table, "cost_baseline") + k * base
    return float(ratio_half_width(n, cost + n * k, base, squares, _sum(table, "baseline_sq"), product))


def _half_by_days(table: pd.DataFrame) -> float:
    from scipy.stats import t  # scipy.stats takes a second to load, and short logs never need it

    extra = table["classifier_cost"].fillna(0.0) + (
        table["failed_cost"].fillna(0.0) if "failed_cost" in table else 0.0
    )
    days = table.assign(paid=table["cost"] + extra).groupby("day")[["paid", "baseline_cost"]].sum()
    paid, base = days["paid"].to_numpy(), days["baseline_cost"].to_numpy()
    count = len(days)
    residuals = paid - paid.sum() / base.sum() * base
    return float(t.ppf(0.975, count - 1) * sqrt(count / (count - 1) * np.sum(residuals**2)) / base.sum())


def _label_savings(label: Any, table: pd.DataFrame) -> LabelSavings:
    total = _totals(table)
    priced = int(table["n_priced"].sum())
    paid, matched = _paid(table, total)
    saved = total["baseline"] - matched
    fell = table[table["cause"].isin(FALLBACK_CAUSES)]
    fallback = None
    if priced and not bool((fell["label_cost"].isna() & (fell["n_priced"] > 0)).any()):
        fallback = fsum(fell["cost"]) - fsum(fell["label_cost"].dropna())
    return LabelSavings(
        label=None if pd.isna(label) else str(label),
        models=tuple(dict.fromkeys(str(x) for x in table["model_used"] if x is not None)),
        n=int(table["n"].sum()),
        n_priced=priced,
        n_fallback=int(fell["n"].sum()),
        baseline_usd=total["baseline"] if priced else None,
        paid_usd=paid,
        savings_usd=saved if priced or matched else None,
        savings_share=saved / total["baseline"] if priced and total["baseline"] > 0 else None,
        fallback_usd=fallback,
        is_whole=_cost_unknown(table) == 0 and _classifier_known(table) and _failed_known(table),
        missing=missing(_classifier_known(table), _failed_known(table)),
    )
