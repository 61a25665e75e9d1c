"""The best threshold under an objective: equal to trying every one, honest about its range, and able to say there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_certify import audit_of, bins_of

from router.analysis.calibration import isotonic
from router.analysis.certify import certify
from router.analysis.margin_rule import margin_curve, margin_sums
from router.analysis.rule import confidence_bins
from router.analysis.sweep import sweep
from router.analysis.tables import CELLS, empty
from router.analysis.tune import (
    NoOptimum,
    Optimum,
    accuracy_on_grid,
    cheapest_certified,
    cheapest_priced,
    cheapest_with_fallback,
    resampled,
)
from router.analysis.tune_labels import label_thresholds
from router.policy import Policy
from router.types import Label


def policy(threshold: float = 0.55, **own: float) -> Policy:
    labels = (
        Label("cheap", "is it easy?", model="small", threshold=own.get("cheap")),
        Label("dear", "is it hard?", model="big", threshold=own.get("dear")),
        Label("same", "is it prose?", model="middle", threshold=own.get("same")),
    )
    return Policy(labels, threshold=threshold, fallback_model="middle", baseline="big")


def rng(seed: int = 3) -> np.random.Generator:
    return np.random.default_rng(seed)


def rows(n: int = 600, seed: int = 1) -> pd.DataFrame:
    """Decisions: cheap ones cost more on the fallback, dear ones less, the rest the same."""
    source = rng(seed)
    label = np.array(["cheap", "dear", "same"], dtype=object)[source.integers(0, 3, n)]
    size = source.gamma(3, 1, n)
    rate = {"cheap": 0.001, "dear": 0.02, "same": 0.006}
    return pd.DataFrame(
        {
            "label": label,
            "confidence": np.round(0.25 + 0.75 * source.beta(2, 1, n), 3),
            "l": [rate[x] * s for x, s in zip(label, size, strict=True)],
            "f": 0.006 * size,
            "b": 0.02 * size,
        }
    )


def cells_of(table: pd.DataFrame) -> pd.DataFrame:
    if table.empty:
        return empty(CELLS)
    l, f, b = table["l"], table["f"], table["b"]  # noqa: E741
    return (
        pd.DataFrame(
            {
                "label": table["label"],
                "bin": confidence_bins(table["confidence"]),
                "n": 1,
                "n_priced": 1,
                "label_cost": l,
                "fallback_cost": f,
                "baseline_cost": b,
                "label_cost_sq": l * l,
                "fallback_cost_sq": f * f,
                "baseline_cost_sq": b * b,
                "label_fallback": l * f,
                "label_baseline": l * b,
                "fallback_baseline": f * b,
                "classifier_cost": 0.0,
                "n_measured": 1,
                "n_assumed": 0,
            }
        )
        .groupby(["label", "bin"], as_index=False)
        .sum()
    )


def tried(table: pd.DataFrame, threshold: float, rule: Policy) -> tuple[float, float]:
    """Cost per 1,000 and fallback share at a threshold, row by row."""
    own = table["label"].map({x.name: x.threshold for x in rule.labels}).astype(float).fillna(threshold)
    falls = table["confidence"] < own
    return 1000 * np.where(falls, table["f"], table["l"]).mean(), falls.mean()


def test_the_cheapest_threshold_is_the_one_that_trying_all_of_them_finds():
    table, rule = rows(), policy()
    found = cheapest_with_fallback(sweep(cells_of(table), rule), 0.3)
    lines = np.arange(1001) / 1000
    falls = table["confidence"].to_numpy()[:, None] < lines
    each = 1000 * np.where(falls, table[["f"]].to_numpy(), table[["l"]].to_numpy()).mean(axis=0)
    costs = dict(zip(lines.tolist(), zip(each, falls.mean(axis=0), strict=True), strict=True))
    allowed = {t: cost for t, (cost, share) in costs.items() if share <= 0.3}
    assert isinstance(found, Optimum)
    assert found.value_per_1000 == pytest.approx(min(allowed.values()))
    assert found.fallback_share <= 0.3
    assert found.cost_per_1000 == pytest.approx(costs[found.threshold][0])
    low, high = found.plateau
    inside = [allowed[t] for t in allowed if low <= t <= high]
    assert max(inside) <= 1.01 * found.value_per_1000 * (1 + 1e-9)


@settings(max_examples=25, deadline=None)
@given(most=st.floats(0, 1), seed=st.integers(0, 50), threshold=st.integers(0, 1000).map(lambda k: k / 1000))
def test_no_threshold_that_meets_the_condition_is_cheaper(most, seed, threshold):
    table, rule = rows(60, seed), policy()
    found = cheapest_with_fallback(sweep(cells_of(table), rule), most)
    cost, share = tried(table, threshold, rule)
    assert found.fallback_share <= most
    assert share > most or cost >= found.value_per_1000 * (1 - 1e-9)


def test_thresholds_of_their_own_can_make_a_condition_impossible():
    found = cheapest_with_fallback(sweep(cells_of(rows()), policy(cheap=1.0)), 0.1)
    assert isinstance(found, NoOptimum)
    assert found.reason == "infeasible"
    assert "falls back at every threshold" in found.text


def test_a_certified_optimum_is_one_of_the_tested_thresholds():
    table, rule = rows(3000), policy()
    curve = sweep(cells_of(table), rule)
    source = rng()
    drawn = source.integers(0, 3000, 800)
    confidence = table["confidence"].to_numpy()
    loss = source.random(800) < 0.4 * (1 - confidence[drawn])
    certificate = certify(
        audit_of(confidence[drawn], loss, "all"),
        bins_of(confidence, "all"),
        ["all"],
        alpha=0.1,
        holds_audit=False,
    )
    found = cheapest_certified(curve, certificate, rng=rng())
    passed = [step.threshold for step in certificate.steps if step.passed]
    assert found.threshold in passed
    assert found.value_per_1000 == pytest.approx(min(tried(table, t, rule)[0] for t in passed))
    assert found.range[0] in passed and found.range[1] in passed
    none = certify(audit_of([0.9], [True], "all"), bins_of(confidence, "all"), ["all"], alpha=0.1)
    refused = cheapest_certified(curve, none)
    assert (refused.reason, refused.text.split(";")[0]) == (
        "not_measured",
        "no threshold is certified at 0.1",
    )
    assert "more audit judgements" in refused.text


def test_prices_of_events_move_the_line_as_elkan_says():
    # one label, calibrated, falling back costs 0.01 more: fall back iff (1 - c) x price > 0.01, so below c = 0.9 at a price of 0.1
    source = rng()
    confidence = np.round(source.uniform(0.3, 1, 20_000), 3)
    table = pd.DataFrame({"label": "cheap", "confidence": confidence, "l": 0.001, "f": 0.011, "b": 0.02})
    curve = sweep(cells_of(table), policy())
    right = np.arange(10_001) / 10_000
    found = cheapest_priced(curve, right, wrong_usd=0.1)
    assert found.threshold == pytest.approx(0.9, abs=0.002)
    dear = cheapest_priced(curve, right, wrong_usd=0.1, fallback_usd=0.01)
    assert dear.threshold == pytest.approx(0.8, abs=0.002)  # a fallback now costs 0.02
    assert dear.production_value > dear.value_per_1000
    falls, wrong = confidence < 0.8, (1 - confidence[confidence >= 0.8]).sum()
    expected = 0.001 * (~falls).sum() + 0.021 * falls.sum() + 0.1 * wrong
    assert dear.value_per_1000 == pytest.approx(1000 * expected / 20_000, rel=1e-3)


def test_a_wrong_route_has_no_price_before_anyone_judged():
    found = cheapest_priced(sweep(cells_of(rows()), policy()), None, wrong_usd=0.1)
    assert (found.reason, "judge an audit sample" in found.text) == ("not_measured", True)
    assert isinstance(cheapest_priced(sweep(cells_of(rows()), policy()), None, fallback_usd=0.1), Optimum)


def test_labels_that_go_to_the_fallback_model_anyway_cost_no_event():
    table = rows().assign(label="same")
    table["l"] = table["f"]
    found = cheapest_priced(
        sweep(cells_of(table), policy()), np.zeros(10_001), fallback_usd=5.0, wrong_usd=5.0
    )
    assert found.value_per_1000 == pytest.approx(found.cost_per_1000)
    assert found.threshold == 0.55  # nothing to choose: stay
    assert found.is_flat


def test_the_range_covers_what_resampled_rows_give():
    table, rule = rows(2000), policy()
    curve = sweep(cells_of(table), rule)
    found = cheapest_with_fallback(curve, 0.3, rng=rng(), draws=400)
    source, optima = rng(8), []
    for _ in range(60):
        again = table.iloc[source.integers(0, 2000, 2000)]
        optima.append(cheapest_with_fallback(sweep(cells_of(again), rule), 0.3).threshold)
    low, high = found.range
    assert low <= found.threshold <= high
    assert low == pytest.approx(np.quantile(optima, 0.025), abs=0.03)
    assert high == pytest.approx(np.quantile(optima, 0.975), abs=0.03)


def judged_rows(n: int = 900, m: int = 300) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Calibrated decisions of equal models, places of those judged, and whether their label was right."""
    source = rng(1)
    table = rows(n).assign(confidence=np.round(source.uniform(0.3, 1, n), 4))
    table["l"], table["f"] = (rate * source.gamma(3, 1, n) for rate in (0.001 / 3, 0.011 / 3))
    drawn = source.permutation(n)[:m]
    return table, drawn, source.random(m) < table["confidence"].to_numpy()[drawn]


def test_a_priced_range_holds_the_error_of_the_judgements():
    table, drawn, right = judged_rows()
    rule, price = policy(), {"fallback_usd": 0.005, "wrong_usd": 0.05}
    confidence = table["confidence"].to_numpy()
    curve = sweep(cells_of(table), rule)
    accuracy = accuracy_on_grid(*isotonic(confidence[drawn], right))
    judged = (confidence[drawn], right)
    known = cheapest_priced(curve, accuracy, **price, rng=rng(), draws=400).range
    found = cheapest_priced(curve, accuracy, **price, judged=judged, rng=rng(), draws=400).range
    verdict, is_judged = np.zeros(len(table), dtype=bool), np.zeros(len(table), dtype=bool)
    verdict[drawn], is_judged[drawn] = right, True
    source, optima = rng(8), []
    for _ in range(120):  # whole decisions with their verdicts, accuracy fitted anew
        again = source.integers(0, len(table), len(table))
        told = again[is_judged[again]]
        refitted = accuracy_on_grid(*isotonic(confidence[told], verdict[told]))
        optima.append(cheapest_priced(sweep(cells_of(table.iloc[again]), rule), refitted, **price).threshold)
    assert found == pytest.approx(np.quantile(optima, [0.025, 0.975]), abs=0.05)
    assert found[1] - found[0] > 2 * (known[1] - known[0])
    few = cheapest_priced(curve, accuracy, **price, judged=(confidence[:29], right[:29]), rng=rng())
    assert (few.range, few.no_range) == (None, "it takes 30 judgements, found 29")


def test_what_events_are_priced_at_varies_with_the_traffic_too():
    table, _, _ = judged_rows(600)
    table["f"] = table["l"]  # events alone: a fallback gains or loses 0.001, by turns along the grid
    right = np.where(np.arange(10_001) // 10 % 2, 0.45, 0.55)
    found = cheapest_priced(
        sweep(cells_of(table), policy()), right, fallback_usd=0.01, wrong_usd=0.02, rng=rng(), draws=400
    )
    source, optima = rng(8), []
    for _ in range(120):
        again = sweep(cells_of(table.iloc[source.integers(0, len(table), len(table))]), policy())
        optima.append(cheapest_priced(again, right, fallback_usd=0.01, wrong_usd=0.02).threshold)
    low, high = np.quantile(optima, [0.025, 0.975])
    assert high - low > 0.2
    assert found.range == pytest.approx((low, high), abs=0.05)


def test_resampled_sums_have_the_spread_of_resampled_rows():
    table, rule = rows(1500), policy()
    curve = sweep(cells_of(table), rule)
    cost, share = resampled(curve, rng(), 2000)
    d = np.where(table["confidence"] < 0.7, table["f"] - table["l"], 0.0)
    d[table["label"] == "same"] = 0.0
    falls = table["confidence"] < 0.7
    assert cost[:, 700].std() == pytest.approx(np.sqrt(np.sum(d**2)), rel=0.06)
    assert share[:, 700].std() == pytest.approx(np.sqrt(falls.mean() * (1 - falls.mean()) / 1500), rel=0.06)
    both = np.corrcoef(cost[:, 700], share[:, 700])[0, 1]
    centred = falls - falls.mean()
    assert both == pytest.approx(np.sum(d * centred) / np.sqrt(np.sum(d**2) * np.sum(centred**2)), abs=0.06)


def test_the_same_seed_gives_the_same_range():
    curve = sweep(cells_of(rows()), policy())
    one, two = (cheapest_with_fallback(curve, 0.3, rng=rng(5)) for _ in range(2))
    assert one == two


def test_thresholds_per_label_are_never_dearer_than_a_shared_one():
    table, rule = rows(900), policy(0.0)
    found = label_thresholds(cells_of(table), rule, 0.35)
    lines = dict(found.thresholds)
    falls = table["confidence"] < table["label"].map(lines)
    cost = 1000 * np.where(falls, table["f"], table["l"]).mean()
    assert found.cost_per_1000 == pytest.approx(cost)
    assert found.fallback_share == pytest.approx(falls.mean())
    assert found.fallback_share <= 0.35
    assert found.cost_per_1000 < found.single_cost_per_1000
    shared = cheapest_with_fallback(sweep(cells_of(table), rule), 0.35)
    assert (found.single_threshold, found.single_cost_per_1000) == (shared.threshold, shared.cost_per_1000)
    assert lines["cheap"] == 0.0  # falling back only costs
    assert lines["dear"] > 0.9  # falling back saves, and there is room for all of them
    assert lines["same"] == 0.0  # unchanged


@settings(max_examples=20, deadline=None)
@given(most=st.floats(0, 1), seed=st.integers(0, 50))
def test_labels_are_never_dearer_apart_than_together_and_keep_to_the_limit(most, seed):
    found = label_thresholds(cells_of(rows(120, seed)), policy(0.0), most)
    assert found.cost_per_1000 <= found.single_cost_per_1000 * (1 + 1e-9)
    assert found.fallback_share <= most


def test_one_threshold_for_all_is_one_threshold_for_all():
    table, rule = rows(900), policy(0.55)  # "same" keeps 0.55 apart, and follows the shared one
    found = label_thresholds(cells_of(table), rule, 0.35)
    cost, share = tried(table, found.single_threshold, rule)
    assert found.single_cost_per_1000 == pytest.approx(cost) and share <= 0.35
    dearer = [tried(table, k / 1000, rule) for k in range(1001)]
    assert cost == pytest.approx(min(x for x, fell in dearer if fell <= 0.35))


def test_a_tight_condition_gives_falling_back_a_price():
    table = rows(900)
    free = label_thresholds(cells_of(table), policy(0.0), 1.0)
    tight = label_thresholds(cells_of(table), policy(0.0), 0.1)
    assert free.fallback_usd == 0.0
    assert tight.fallback_usd > 0.0
    assert 0.09 < tight.fallback_share <= 0.1
    assert free.cost_per_1000 < tight.cost_per_1000 <= tight.single_cost_per_1000
    impossible = label_thresholds(cells_of(table), policy(1.0), 0.1)
    assert (impossible.reason, "anyway" in impossible.text) == ("infeasible", True)


def unpriced(table: pd.DataFrame) -> pd.DataFrame:
    cells = cells_of(table)
    sums = [x.name for x in CELLS.columns if x.kind.startswith("sum")]
    return cells.assign(n_priced=0, n_measured=0, **dict.fromkeys(sums, 0.0))


@pytest.mark.parametrize("cells", [empty(CELLS), unpriced(rows(30))], ids=["nothing", "no costs"])
def test_without_costs_there_is_no_optimum(cells):
    curve = sweep(cells, policy())
    found = [
        cheapest_with_fallback(curve, 0.3),
        cheapest_priced(curve, None),
        label_thresholds(cells, policy(), 0.3),
    ]
    assert {x.reason for x in found} == {"not_measured"}


@pytest.mark.parametrize("table", [rows(1), rows(29), rows(40).assign(label="cheap"), rows(40).assign(confidence=0.55)],
                         ids=["one row", "few", "one label", "equal scores"])  # fmt: skip
def test_small_logs_have_an_optimum_and_from_30_decisions_on_a_range(table):
    found = cheapest_with_fallback(sweep(cells_of(table), policy()), 1.0, rng=rng())
    if len(table) < 30:
        assert (found.range, found.no_range) == (
            None,
            f"it takes 30 decisions of known cost, found {len(table)}",
        )
    else:
        assert found.no_range is None
        assert found.range[0] <= found.threshold <= found.range[1]
    assert found.plateau[0] <= found.threshold <= found.plateau[1]
    assert isinstance(label_thresholds(cells_of(table), policy(), 1.0).cost_per_1000, float)


def test_a_reliability_curve_is_read_at_every_confidence():
    on_grid = accuracy_on_grid([0.4, 0.6], [0.5, 0.9])
    assert on_grid[[0, 4000, 5000, 6000, 10_000]].tolist() == pytest.approx([0.5, 0.5, 0.7, 0.9, 0.9])
    assert accuracy_on_grid([], []) is None


# The margin rule


def test_a_margin_rule_adds_to_the_threshold():
    margin = np.array([0.05, 0.10, 0.20, 0.03, np.nan])
    found = margin_curve(margin_sums(margin, [True, True, True, False, True], [0.01, np.nan, 0.03, 5.0, 7.0]))
    assert (found.n, found.n_priced) == (4, 3)
    assert found.fallback[[0, 5, 6, 10, 11, 21]].tolist() == [0, 0, 1, 1, 2, 3]
    assert found.at(0.06) == (1, pytest.approx(1000 * 0.01 / 3), pytest.approx(1959.963984540054 * 0.01 / 3))
    assert found.at(1.0)[1] == pytest.approx(1000 * 0.04 / 3)


def test_a_margin_curve_equals_the_row_by_row_form():
    source = rng()
    margin, served, d = np.round(source.random(500), 2), source.random(500) < 0.7, source.normal(size=500)
    parts = [margin_sums(margin[x], served[x], d[x]) for x in (slice(0, 200), slice(200, 500))]
    found = margin_curve(parts[0] + parts[1])
    for k in (0, 1, 29, 57, 100):
        falls = served & (margin < k / 100)
        assert found.fallback[k] == falls.sum()
        assert found.cost_per_1000[k] == pytest.approx(1000 * d[falls].sum() / 500)
    nothing = margin_curve(margin_sums([], [], []))
    assert (nothing.n, nothing.fallback_share, nothing.at(0.5)) == (0, None, (0, None, None))


def test_the_policy_that_made_the_curve_is_not_changed_by_it():
    rule = policy()
    assert replace(rule) == rule
    sweep(cells_of(rows()), rule)
    assert rule == policy()
