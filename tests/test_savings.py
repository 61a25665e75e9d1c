"""Savings: hand-worked sums, a waterfall that adds up, intervals, grades and the monthly projection."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from dashboard import savings_figures
from router.analysis.decomposition import shown
from router.analysis.lengths import LengthRatio
from router.analysis.projection import bounded, days_to_go_by, ground, project, project_spend, why_not
from router.analysis.savings import savings
from router.analysis.steps import STEPS
from router.analysis.tables import SPEND, empty
from router.types import CAUSES

Z = 1.959963984540054
MODELS = {"easy": "small", "hard": "big"}


def row(
    label, model, cause, cost, base, *, label_cost=None, k=0.0, grade="measured", day=None, failed=None
) -> dict:
    """One decision; ``cost`` None: not priced."""
    priced = cost is not None
    c, b = (cost, base) if priced else (0.0, 0.0)
    out = {
        "label": label,
        "model_used": model,
        "cause": cause,
        "n": 1,
        "n_priced": int(priced),
        "cost": c,
        "cost_sq": c * c,
        "baseline_cost": b,
        "baseline_sq": b * b,
        "cost_baseline": c * b,
        "label_cost": (c if label_cost is None else label_cost) if label is not None and priced else np.nan,
        "classifier_cost": k if priced else 0.0,
        "n_unpriced": int(not priced),
        "n_measured": int(priced and grade == "measured"),
        "n_assumed": int(priced and grade == "assumed"),
    }
    if day is not None:
        out["day"] = pd.Timestamp(day)
    if failed is not None:
        out |= {"failed_cost": failed, "unmatched_failed_cost": 0.0 if priced else failed}
        out["unmatched_cost"] = (
            0.0 if priced else k
        )  # a classifier charges whether or not an answer has a price
    return out


def table(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows) if rows else empty(SPEND)


FIVE = [
    row("easy", "small", "routed", 1.0, 10.0, k=0.1),
    row("easy", "small", "routed", 2.0, 20.0, k=0.1),
    row("hard", "middle", "low_confidence", 4.0, 10.0, label_cost=9.0, k=0.1),
    row(None, "middle", "classifier_timeout", 3.0, 5.0, k=0.1),
    row("easy", None, "routed", None, None),
]


def test_hand_worked_savings():
    found = savings(table(FIVE), "big")
    assert (found.n, found.n_priced, found.n_unpriced) == (5, 4, 1)
    assert found.baseline_usd == pytest.approx(45.0)
    assert found.routed_usd == pytest.approx(10.0)
    assert found.classifier_usd == pytest.approx(0.4)
    assert found.paid_usd == pytest.approx(10.4)
    assert found.savings_usd == pytest.approx(34.6)
    assert found.savings_share == pytest.approx(34.6 / 45)
    assert (found.grade, found.baseline_grade, found.units, found.days) == (
        "measured",
        "assumed",
        "decisions",
        None,
    )


def test_hand_worked_waterfall():
    steps = [
        (x.kind, x.name, round(x.amount_usd, 9), round(x.total_usd, 9))
        for x in savings(table(FIVE), "big").waterfall
    ]
    assert steps == [
        ("baseline", "baseline", 45.0, 45.0),
        ("label", "easy", -27.0, 18.0),
        ("label", "hard", 0.0, 18.0),
        ("fell_back", "fell back", -6.0, 12.0),
        ("classifier_failed", "no scores", -2.0, 10.0),
        ("classifier", "classifier", 0.4, 10.4),
        ("paid", "paid", 10.4, 10.4),
    ]


def test_hand_worked_labels():
    easy, hard, none = savings(table(FIVE), "big").labels
    assert (easy.label, easy.models, easy.n, easy.n_priced, easy.n_fallback) == ("easy", ("small",), 3, 2, 0)
    assert easy.paid_usd == pytest.approx(3.2)
    assert easy.savings_share == pytest.approx(26.8 / 30)
    assert easy.fallback_usd == 0.0
    assert hard.fallback_usd == pytest.approx(
        -5.0
    )  # the fallback cost 4, the label's model would have cost 9
    assert (none.label, none.baseline_usd) == (None, 5.0)


def test_interval_by_decisions_is_that_of_the_residuals():
    found = savings(table(FIVE), "big")
    cost, base = np.array([1.1, 2.1, 4.1, 3.1]), np.array([10.0, 20.0, 10.0, 5.0])
    spread = math.sqrt(((cost - cost.sum() / base.sum() * base) ** 2).sum() / 3)
    assert found.share_half == pytest.approx(Z * spread / 2 / base.mean())
    assert found.savings_half == pytest.approx(found.share_half * 45.0)


def test_interval_by_decisions_agrees_with_a_bootstrap():
    rng = np.random.default_rng(7)
    base = rng.lognormal(0, 0.7, 400)
    cost = base * rng.uniform(0.05, 0.9, 400)
    found = savings(
        table([row("easy", "small", "routed", c, b) for c, b in zip(cost, base, strict=True)]), "big"
    )
    draws = rng.integers(0, 400, (4_000, 400))
    resampled = 1 - cost[draws].sum(axis=1) / base[draws].sum(axis=1)
    assert found.share_half == pytest.approx(Z * resampled.std(), rel=0.06)


def test_from_seven_days_on_days_are_the_units():
    def days(count: int) -> pd.DataFrame:
        return table(
            [
                row("easy", "small", "routed", 1.0 + i % 3, 10.0, day=date(2026, 11, 1 + i))
                for i in range(count)
                for _ in range(5)
            ]
        )

    assert savings(days(6), "big").units == "decisions"
    found = savings(days(7), "big")
    assert (found.units, found.days) == ("days", 7)
    paid, base = 5 * np.array([1.0, 2, 3, 1, 2, 3, 1]), np.full(7, 50.0)
    residuals = paid - paid.sum() / base.sum() * base
    by_hand = student.ppf(0.975, 6) * math.sqrt(7 / 6 * (residuals**2).sum()) / base.sum()
    assert found.share_half == pytest.approx(by_hand)
    # alike within a day, so the interval by decisions would be too narrow
    assert found.share_half > savings(days(7).drop(columns="day"), "big").share_half


def test_nothing_priced_is_not_measured_rather_than_zero():
    for spend in (empty(SPEND), table([row("easy", None, "routed", None, None)] * 3)):
        found = savings(spend, "big")
        assert found.baseline_usd is found.paid_usd is found.savings_usd is found.savings_share is None
        assert found.share_half is found.grade is None
        assert found.waterfall == ()
    assert found.n_unpriced == 3
    assert found.labels[0].paid_usd is None


def test_one_decision_has_savings_but_no_interval():
    found = savings(table(FIVE[:1]), "big")
    assert found.savings_share == pytest.approx(0.89)
    assert found.share_half is found.savings_half is None


def test_a_baseline_that_costs_nothing_has_no_share():
    found = savings(table([row("easy", "small", "routed", 1.0, 0.0)] * 2), "free")
    assert found.savings_usd == -2.0
    assert found.savings_share is found.share_half is None


def test_unknown_classifier_cost_is_left_out_and_flagged():
    found = savings(table([*FIVE[:2], row("easy", "small", "routed", 1.0, 10.0, k=np.nan)]), "big")
    assert not found.classifier_known
    assert found.paid_usd == pytest.approx(4.2)
    assert (found.missing, found.savings_half, found.share_half) == ("the classifier's cost", None, None)
    assert savings(table(FIVE[:3]), "big").savings_half is not None
    assert savings(table(FIVE), "big").classifier_known


def test_failed_attempts_are_paid_too():
    found = savings(table([r | {"failed_cost": 0.5} for r in FIVE]), "big")
    assert found.failed_usd == pytest.approx(2.5)
    assert found.paid_usd == pytest.approx(12.9)
    assert [x.kind for x in found.waterfall][-2:] == ["failed", "paid"]


def test_what_was_paid_without_a_baseline_is_paid_and_only_its_failures_lower_the_savings():
    lost = row("easy", None, "routed", None, None, k=0.3, failed=0.7)
    known = row("easy", "small", "routed", None, None, failed=0.0) | {
        "unmatched_cost": 2.0,
        "n_cost_unknown": 0,
    }
    rows = [r | {"failed_cost": 0.0, "n_cost_unknown": 0} for r in FIVE[:4]]
    found = savings(table([*rows, lost | {"n_cost_unknown": 1}, known]), "big")
    assert (found.n_unpriced, found.n_cost_unknown, found.is_whole) == (2, 1, False)
    assert (found.failed_usd, found.failed_unmatched_usd) == (pytest.approx(0.7), pytest.approx(0.7))
    assert found.unmatched_usd == pytest.approx(2.3)
    assert found.paid_usd == pytest.approx(10.4 + 0.7 + 2.3)
    assert found.savings_usd == pytest.approx(45.0 - 10.4 - 0.7)
    for steps in (found.waterfall, found.effects):
        assert [x.kind for x in steps][-3:] == ["failed", "unmatched", "paid"]
        assert math.fsum(x.amount_usd for x in steps[:-1]) == pytest.approx(found.paid_usd, abs=1e-9)
    assert savings(table([*rows, known]), "big").is_whole  # its cost is known, its baseline alone is not


def test_what_no_model_answered_and_nobody_charges_for_leaves_nothing_unknown():
    refused = row("easy", "small", "routed", None, None) | {"n_unpriced": 0, "n_unanswered": 1}
    rows = [r | {"n_unanswered": 0} for r in FIVE[:4]]
    found, without = savings(table([*rows, refused]), "big"), savings(table(rows), "big")
    assert (found.n, found.n_priced, found.n_unpriced, found.n_unanswered) == (5, 4, 0, 1)
    assert found.is_whole and found.unpriced == ()
    assert (found.paid_usd, found.savings_usd) == (without.paid_usd, without.savings_usd)
    assert savings(table([refused]), "big").paid_usd is None


def test_a_label_says_when_a_part_of_what_it_cost_is_not_known():
    rows = [row("easy", "small", "routed", 1.0, 10.0), row("hard", "big", "routed", 4.0, 10.0, k=np.nan)]
    whole = {x.label: x.is_whole for x in savings(table(rows), "big").labels}
    assert whole == {"easy": True, "hard": False}
    counted = [r | {"failed_cost": 0.0, "n_failed_unknown": int(r["label"] == "easy")} for r in rows[:1]]
    assert not savings(table(counted), "big").labels[0].is_whole


def test_waterfall_and_effects_have_one_vocabulary():
    rows = [
        row(label, "small", cause, 1.0, 10.0, k=0.1, failed=0.2)
        for label, cause in (("easy", "routed"), ("easy", "low_margin"), ("easy", "forced"), ("easy", "explored"), (None, "classifier_error"))
    ]  # fmt: skip
    found = savings(table(rows), "big")
    kinds = {x.kind for x in found.effects}
    assert {"classifier_failed", "forced", "explored", "classifier", "failed", "fallback"} <= kinds
    # Both have what fell back, but not of the same size: one counts from the baseline, the other from following the label.
    assert {x.kind for x in found.waterfall} - {"label", "fell_back"} <= kinds
    amounts = {x.kind: x.amount_usd for x in found.effects}
    for step in found.waterfall:
        if step.kind in ("classifier_failed", "forced", "explored", "classifier", "failed"):
            assert step.name == STEPS[step.kind][0]
            assert step.amount_usd == pytest.approx(amounts[step.kind])
    assert kinds <= {*STEPS, "baseline", "paid"}


def test_what_doubles_leave_behind_is_no_line():
    rows = [
        row("easy", "big", "low_margin", 0.1, 0.1, label_cost=0.1),
        row("hard", "big", "routed", 0.3, 0.3),
    ]
    found = savings(table(rows), "big").effects
    noisy = [replace(x, amount_usd=4e-17) if x.kind in ("mix", "fallback") else x for x in found]
    lines = {x.kind: x.amount_usd for x in shown(noisy)}
    assert lines["mix"] == 0.0 and "fallback" not in lines
    assert list(lines) == ["baseline", "price", "mix", "paid"]
    found = savings(table(rows), "big")
    steps = tuple(replace(x, amount_usd=4e-17) if x.kind == "fell_back" else x for x in found.waterfall)
    assert [
        x.amount_usd
        for x in savings_figures.by_label(replace(found, waterfall=steps))
        if x.kind == "fell_back"
    ] == [0.0]


def test_unknown_price_of_the_labels_model_hides_only_the_price_of_falling_back():
    spend = table([row("hard", "middle", "low_confidence", 4.0, 10.0, label_cost=np.nan)])
    assert savings(spend, "big").labels[0].fallback_usd is None
    assert savings(spend, "big").savings_usd == 6.0


@pytest.mark.parametrize(
    ("grades", "expected"),
    [
        (("measured", "measured"), "measured"),
        (("measured", "estimated"), "estimated"),
        (("assumed", "measured"), "assumed"),
    ],
)
def test_grade_is_that_of_the_weakest_count(grades, expected):
    assert (
        savings(table([row("easy", "small", "routed", 1, 2, grade=g) for g in grades]), "big").grade
        == expected
    )


money = st.integers(0, 10_000).map(lambda k: k * 1e-6)
decision = st.builds(
    row,
    st.sampled_from(["easy", "hard", None]),
    st.sampled_from(["small", "big", None]),
    st.sampled_from(CAUSES),
    st.none() | money,
    money.map(lambda x: x + 1e-6),
    label_cost=money,
    k=money,
    day=st.integers(1, 12).map(lambda d: date(2026, 11, d)),
    failed=money,
)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(decision, min_size=1, max_size=25))
def test_the_waterfall_ends_at_what_was_paid(rows):
    found = savings(table(rows), "big")
    if found.n_priced == 0:
        return
    *steps, paid = found.waterfall
    assert steps[-1].total_usd == pytest.approx(found.paid_usd, abs=1e-9)
    assert math.fsum(x.amount_usd for x in steps) == pytest.approx(paid.amount_usd, abs=1e-9)
    assert paid.total_usd == found.paid_usd
    for name in ("baseline_usd", "paid_usd", "savings_usd"):
        parts = math.fsum(value for x in found.labels if (value := getattr(x, name)) is not None)
        assert parts == pytest.approx(getattr(found, name), abs=1e-9)
    assert math.fsum(x.amount_usd for x in found.effects[:-1]) == pytest.approx(found.paid_usd, abs=1e-9)
    assert sum(x.n for x in found.labels) == found.n == found.n_priced + found.n_unpriced


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(decision, min_size=1, max_size=25),
    factor=st.sampled_from([0.01, 7.0]),
    seed=st.integers(0, 9),
)
def test_merging_and_shuffling_leave_the_figures_and_a_common_factor_the_share(rows, factor, seed):
    one = savings(table(rows), "big")
    keys = ["label", "model_used", "cause", "day"]
    merged = (
        table(rows)
        .groupby(keys, dropna=False, as_index=False)
        .sum(min_count=1)
        .sample(frac=1, random_state=seed)
    )
    scaled = table(rows)
    scaled[["cost", "baseline_cost", "label_cost", "classifier_cost", "failed_cost", "unmatched_cost"]] *= (
        factor
    )
    scaled[["cost_sq", "baseline_sq", "cost_baseline"]] *= factor**2
    for other in (savings(merged, "big"), savings(scaled, "big")):
        assert (one.savings_share is None) == (other.savings_share is None)
        if one.savings_share is not None:
            assert other.savings_share == pytest.approx(one.savings_share, rel=1e-9, abs=1e-9)
        assert (one.share_half is None) == (other.share_half is None)
        if one.share_half is not None:
            assert other.share_half == pytest.approx(one.share_half, rel=1e-4, abs=1e-5)
        assert (one.n, one.n_priced, one.grade, one.units) == (
            other.n,
            other.n_priced,
            other.grade,
            other.units,
        )


MONDAY = date(2026, 11, 2)


def series(values) -> dict[date, float]:
    return {MONDAY + timedelta(days=i): value for i, value in enumerate(values)}


def test_two_weeks_project_by_weekday():
    # Monday to Friday 10, weekend 2; the 30 days after Sunday 15 November hold 22 weekdays and 8 weekend days
    found = project(series([10, 10, 10, 10, 10, 2, 2] * 2), MONDAY, MONDAY + timedelta(days=13))
    assert found is not None
    assert (found.method, found.days, found.horizon) == ("weekday means", 14, 30)
    assert found.total == pytest.approx(22 * 10 + 8 * 2)
    assert found.low == found.high == pytest.approx(found.total)


def test_interval_of_the_projection_is_worked_by_hand():
    values = [1.0, 2, 3, 4, 5, 6, 7]
    found = project(series(values), MONDAY, MONDAY + timedelta(days=6))
    assert found is not None
    # mean 4, variance 28 / 6, 6 degrees of freedom
    half = student.ppf(0.975, 6) * math.sqrt(28 / 6 * (900 / 7 + 30))
    assert (found.method, found.total) == ("mean of days", 120.0)
    assert found.high == pytest.approx(120 + half)
    assert found.low == max(0.0, 120 - half)
    signed = project(series([-10.0, *values[1:]]), MONDAY, MONDAY + timedelta(days=6))
    assert signed is not None
    assert signed.low is not None
    assert signed.low < 0


def test_few_days_have_no_interval_and_none_have_no_projection():
    found = project(series([3.0] * 6), MONDAY, MONDAY + timedelta(days=5))
    assert found is not None
    assert (found.total, found.low, found.high, found.days) == (90.0, None, None, 6)
    assert project({}, MONDAY, MONDAY - timedelta(days=1)) is None


def test_a_day_without_an_entry_counts_as_no_traffic():
    found = project({MONDAY: 10.0}, MONDAY, MONDAY + timedelta(days=1), horizon=10)
    assert found is not None
    assert found.total == 50.0


def test_the_projection_covers_what_comes_nineteen_times_in_twenty():
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(400):
        x = rng.normal(100, 12, 58) * np.tile([1, 1, 1, 1, 1, 0.4, 0.4], 9)[:58]
        found = project(series(x[:28]), MONDAY, MONDAY + timedelta(days=27))
        assert found is not None
        inside += found.low <= x[28:].sum() <= found.high
    assert inside >= 365  # 380 expected, 15 is more than three standard errors


def test_days_that_were_not_measured_are_left_out_of_a_projection_and_never_free():
    first = date(2026, 11, 2)
    daily = {first + timedelta(days=i): 10.0 for i in range(5)}
    unknown = {first + timedelta(days=i) for i in range(5, 10)}
    found = project(daily, first, first + timedelta(days=9), unknown=unknown)
    assert (found.total, found.days) == (300.0, 5)
    assert project({}, first, first, unknown={first}) is None


def test_days_without_a_priced_decision_do_not_make_an_interval_narrow():
    priced = [row("easy", "small", "routed", 1.0 + i, 10.0, day=date(2026, 11, 1)) for i in range(4)]
    rest = [row("easy", "small", "routed", None, None, day=date(2026, 11, 2 + i)) for i in range(8)]
    found = savings(table(priced + rest), "big")
    assert (found.units, found.days) == ("decisions", 1)
    assert found.share_half > 0


def effects(rows: list[dict]) -> dict[str, float]:
    return {x.kind: x.amount_usd for x in savings(table(rows), "big").effects}


def test_hand_worked_effects():
    # two easy at 1 and 2 of a baseline of 10 and 20 (a tenth); hard at 9 of 10 had it followed, but it fell back at 4
    found = effects(FIVE)
    average = (10 + 20 + 10) / 3
    price = 2 * average * (3 / 30 - 1) + 1 * average * (9 / 10 - 1)
    assert found["price"] == pytest.approx(price)
    assert found["mix"] == pytest.approx((3 + 9) - 40 - price)
    assert found["fallback"] == pytest.approx(4.0 - 9.0)
    assert found["classifier_failed"] == pytest.approx(3.0 - 5.0)
    assert found["classifier"] == pytest.approx(0.4)
    assert "length" not in found


def test_equal_requests_have_no_mix_effect_and_small_cheap_ones_have_a_positive_one():
    equal = [row("easy", "small", "routed", 1.0, 10.0), row("hard", "big", "routed", 10.0, 10.0)]
    assert effects(equal)["mix"] == pytest.approx(0.0, abs=1e-12)
    small = [row("easy", "small", "routed", 0.1, 1.0), row("hard", "big", "routed", 10.0, 10.0)]
    assert effects(small)["mix"] > 0  # a count of requests would promise more than the tokens hold


def with_lengths(rows: list[dict], factor: float) -> pd.DataFrame:
    spend = table(rows)
    spend["same_tokens_cost"] = spend["baseline_cost"]
    spend["baseline_output"] = spend["baseline_cost"] * factor * 0.8
    spend["baseline_sq"] *= factor**2
    spend["cost_baseline"] *= factor
    spend["baseline_cost"] *= factor
    return spend


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(decision, min_size=1, max_size=25),
    factor=st.sampled_from([None, 0.5, 1.3]),
    split=st.integers(0, 25),
)
def test_the_effects_sum_to_what_was_paid_and_merge(rows, factor, split):
    spend = table(rows) if factor is None else with_lengths(rows, factor)
    found = savings(spend, "big")
    if found.n_priced == 0:
        assert found.effects == ()
        return
    *steps, paid = found.effects
    assert steps[0].amount_usd == pytest.approx(found.baseline_usd, abs=1e-9)
    assert math.fsum(x.amount_usd for x in steps) == pytest.approx(paid.amount_usd, abs=1e-9)
    assert paid.amount_usd == pytest.approx(found.paid_usd, abs=1e-9)
    assert [x.kind for x in steps].count("length") == (factor is not None)
    again = savings(pd.concat([spend.iloc[split:], spend.iloc[:split]], ignore_index=True), "big")
    for one, other in zip(found.effects, again.effects, strict=True):
        assert one.amount_usd == pytest.approx(other.amount_usd, abs=1e-9)


def ratio(model: str, output: float, half: float) -> LengthRatio:
    return LengthRatio(model, "paired", 50, 1.0, 0.0, output, half)


def test_ratios_of_lengths_change_the_grade_and_widen_the_interval():
    rows = [row("easy", "small", "routed", 1.0 + i % 3, 10.0) for i in range(50)]
    spend = with_lengths(rows, 1.3)
    sure = savings(spend, "big", lengths={"small": ratio("small", 1.3, 0.0)})
    unsure = savings(spend, "big", lengths={"small": ratio("small", 1.3, 0.13)})
    assert sure.baseline_grade == unsure.baseline_grade == "estimated"
    assert savings(spend, "big", lengths={"other": ratio("other", 1.3, 0.1)}).baseline_grade == "assumed"
    # base 650, of it 520 for output, which is known to 10 %: 52; the share moves by paid / base^2 for each dollar
    by_hand = sure.paid_usd / 650**2 * 52
    assert unsure.share_half == pytest.approx(math.hypot(sure.share_half, by_hand))


def test_a_baseline_that_answered_everything_itself_is_measured():
    assert savings(table([row("easy", "big", "routed", 1.0, 1.0)]), "big").baseline_grade == "measured"
    assumed = row("easy", "big", "routed", 1.0, 1.0, grade="assumed")
    assert savings(table([assumed]), "big").baseline_grade == "assumed"


def test_what_is_left_out_is_listed_by_model():
    rows = [*FIVE, *[row("easy", "gpt-9", "routed", None, None)] * 3]
    found = savings(table(rows), "big")
    assert found.unpriced == (("gpt-9", 3), (None, 1))
    assert not found.is_whole
    assert savings(table(FIVE[:2]), "big").is_whole


def test_the_projection_of_a_log_leaves_torn_days_out_and_lets_priced_decisions_stand_for_the_others():
    rows = [row("easy", "small", "routed", 1.0, 3.0, day=date(2026, 11, d)) for d in range(1, 11)]
    rows += [row("easy", "small", "routed", None, None, day=date(2026, 11, 4))]
    found = {
        what: project_spend(table(rows), date(2026, 11, 10), what) for what in ("paid", "baseline", "saved")
    }
    assert found["paid"].days == 8  # not the first day, not today
    # seven days of 1 and one of 2: its one priced decision stands for both
    assert found["paid"].total == pytest.approx(30 * 9 / 8)
    assert found["saved"].total == pytest.approx(found["baseline"].total - found["paid"].total)
    lost = row("easy", None, "routed", None, None, day=date(2026, 11, 2), failed=0.5)
    more = [r | {"failed_cost": 0.0, "unmatched_failed_cost": 0.0, "unmatched_cost": 0.0} for r in rows]
    # the day's priced decision stands for one more; the failed attempt is paid once, and nothing stands for it
    for what, added in (("paid", 1.0 + 0.5), ("saved", 2.0 - 0.5), ("baseline", 3.0)):
        plain, with_lost = (project_spend(table(x), date(2026, 11, 10), what) for x in (more, [*more, lost]))
        assert with_lost.total - plain.total == pytest.approx(30 / 8 * added)
    assert project_spend(table(rows[:1]), date(2026, 11, 10)) is None
    assert days_to_go_by(table(rows[:1]), date(2026, 11, 10)) == 0
    assert days_to_go_by(table(rows), date(2026, 11, 10)) == found["paid"].days
    assert "this log has 0" in why_not(0)
    assert project_spend(empty(SPEND), date(2026, 11, 10)) is None


@pytest.mark.parametrize(
    ("days", "says"),
    [
        (5, "extrapolated from 5 days: too few for an interval"),
        (9, "extrapolated from 9 days, the mean of all, 95 % interval"),
        (14, "from 14 days, each weekday's own mean, 95 % interval"),
    ],
)
def test_a_projection_says_what_it_rests_on(days, says):
    found = project(series([1.0 + i % 2 for i in range(days)]), MONDAY, MONDAY + timedelta(days=days - 1))
    assert found is not None
    assert ground(found) == says


def test_what_is_paid_without_a_known_baseline_is_projected_too():
    days = [date(2026, 11, d) for d in range(1, 11)]
    rows = [row("easy", "small", "routed", 1.0, 3.0, day=d, failed=0.0) for d in days]
    rows += [
        row("easy", "small", "forced", None, None, day=d, failed=0.0)
        | {"unmatched_cost": 4.0, "n_cost_unknown": 0}
        for d in days
    ]
    rows = [{"n_cost_unknown": 0} | x for x in rows]
    paid = project_spend(table(rows), date(2026, 11, 11), "paid")
    assert paid is not None and paid.total == pytest.approx(30 * 5.0)
    unknown = [x | ({"unmatched_cost": 0.0, "n_cost_unknown": 1} if x["n_unpriced"] else {}) for x in rows]
    paid = project_spend(table(unknown), date(2026, 11, 11), "paid")
    assert paid is not None and paid.total == pytest.approx(30 * 2.0), (
        "priced ones stand for those that are not"
    )
    bound = bounded(paid)
    assert bound is not None and (bound.total, bound.low, bound.high) == (paid.total, None, None)
    assert "no interval" in ground(paid, is_bound=True) and "95 %" not in ground(paid, is_bound=True)
    assert bounded(None) is None
