"""The curve over the threshold: hand-worked points, equal to the plain row-by-row form, and honest at the edges."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.analysis.confidence import confidence_curves, confidence_histogram, share_below
from router.analysis.dead_zones import dead_zones
from router.analysis.latency import Latency, MixTimes
from router.analysis.sweep import cheapest, difference, operating_point, sweep
from router.analysis.tables import CELLS, check, empty
from router.policy import GRID, Policy, confidence_bin, decide
from router.types import Label

Z = 1.959963984540054


def policy(threshold: float = 0.55, baseline: str | None = "big", **own: float) -> Policy:
    labels = (
        Label("cheap", "is it easy?", model="small", threshold=own.get("cheap")),
        Label("dear", "is it hard?", model="big", threshold=own.get("dear")),
        Label("same", "is it prose?", model="middle", threshold=own.get("same")),
    )
    return Policy(labels, threshold=threshold, fallback_model="middle", baseline=baseline)


def cells_of(rows: list[dict]) -> pd.DataFrame:
    """Reduce decisions to cells as the contract says; a row with ``l`` None is not priced."""
    sums: dict[tuple[str, int], np.ndarray] = {}
    for r in rows:
        priced = r["l"] is not None
        label, fallback, base = (r["l"], r["f"], r["b"]) if priced else (0.0, 0.0, 0.0)
        grade = r.get("grade", "measured")
        sums.setdefault((r["label"], confidence_bin(r["confidence"])), np.zeros(14))[:] += (
            1,
            priced,
            label,
            fallback,
            base,
            label**2,
            fallback**2,
            base**2,
            label * fallback,
            label * base,
            fallback * base,
            r.get("k", 0.0) if priced else 0.0,
            priced and grade == "measured",
            priced and grade == "assumed",
        )
    if not sums:
        return empty(CELLS)
    table = pd.DataFrame([(*key, *values) for key, values in sums.items()], columns=CELLS.names)
    return table.astype({"bin": int, "n": int, "n_priced": int, "n_measured": int, "n_assumed": int})


def row(label: str, confidence: float, l: float | None, f: float = 0.0, b: float = 0.0, **more) -> dict:  # noqa: E741
    return {"label": label, "confidence": confidence, "l": l, "f": f, "b": b, **more}


FOUR = [
    row("cheap", 0.9, 0.001, 0.004, 0.010),
    row("cheap", 0.5, 0.002, 0.008, 0.020),
    row("dear", 0.6, 0.010, 0.004, 0.010),
    row("same", 0.4, 0.004, 0.004, 0.010),
]


def plain(rows: list[dict], rule: Policy, threshold: float) -> tuple[int, float, float, float, float]:
    """Decide on each row; fallbacks, cost per 1,000, its half width, savings share, its half width."""
    at = rule.with_threshold(threshold)
    fallback, costs, bases = 0, [], []
    for r in rows:
        scores = dict.fromkeys(rule.label_names, 0.0) | {r["label"]: r["confidence"]}
        falls = decide(scores, at).is_fallback
        fallback += falls
        if r["l"] is not None:
            same = rule.by_name[r["label"]].model == rule.fallback_model
            costs.append(r["f"] if falls and not same else r["l"])
            bases.append(r["b"])
    mean_k = sum(r.get("k", 0.0) for r in rows if r["l"] is not None) / len(costs) if costs else 0.0
    cost, base = np.array(costs) + mean_k, np.array(bases)
    n = len(cost)
    half = 1000 * Z * cost.std(ddof=1) / math.sqrt(n) if n > 1 else math.nan
    ratio = cost.sum() / base.sum()
    spread = math.sqrt(((cost - ratio * base) ** 2).sum() / (n - 1)) if n > 1 else math.nan
    return fallback, 1000 * cost.mean(), half, 1 - ratio, Z * spread / (math.sqrt(n) * base.mean())


def test_times_are_those_of_the_models_mixed_by_who_would_answer():
    rng = np.random.default_rng(3)
    times = {
        "small": rng.uniform(100, 300, 40),
        "middle": rng.uniform(500, 900, 25),
        "big": rng.uniform(800, 2000, 10),
    }
    calls = pd.DataFrame(
        [{"model": m, "ms": x, "n": 1, "total_ms": x} for m, some in times.items() for x in some]
    )
    curve = sweep(cells_of(FOUR), policy(dear=0.5))
    found = Latency(curve, calls)
    assert [(x.model, x.n_calls) for x in found.models] == [("middle", 25), ("small", 40), ("big", 10)]
    assert found.models[1].mean_ms == pytest.approx(times["small"].mean())
    for threshold, mix in ((0.3, {"small": 2, "big": 1, "middle": 1}), (0.95, {"big": 1, "middle": 3})):
        point = found.at(threshold)  # dear keeps its own line, so big answers one at both
        values = np.concatenate([times[m] for m in mix])
        weights = np.concatenate([np.full(len(times[m]), k / len(times[m])) for m, k in mix.items()])
        assert point.mean_ms == pytest.approx(np.average(values, weights=weights))
        assert found.mean_ms[round(threshold * GRID)] == point.mean_ms
        order = np.argsort(values)
        share = np.cumsum(weights[order]) / weights.sum()
        assert (point.p50_ms, point.p95_ms) == tuple(
            values[order][np.argmax(share > q - 1e-12)] for q in (0.5, 0.95)
        )
        assert (point.n_calls, point.never_timed) == (sum(len(times[m]) for m in mix), ())
    some = Latency(curve, calls[calls["model"] != "small"])
    assert some.at(0.3) == MixTimes(0.3, 35, None, None, None, ("small",))
    assert np.isnan(some.mean_ms[3000])
    assert some.at(0.95) == found.at(0.95)  # small answers nothing there
    nobody = Latency(sweep(empty(CELLS), policy()), calls)
    assert nobody.at(0.5).mean_ms is None and np.isnan(nobody.mean_ms).all()


def test_hand_worked_points():
    curve = sweep(cells_of(FOUR), policy())
    # at 0.55: cheap 0.5 and same 0.4 fall back; 0.001 + 0.008 + 0.010 + 0.004 over 4 decisions
    point = operating_point(curve, 0.55)
    assert (point.fallback, point.fallback_share) == (2, 0.5)
    assert point.cost_per_1000 == pytest.approx(1000 * 0.023 / 4)
    # the baseline is 0.010 + 0.020 + 0.010 + 0.010
    assert point.savings_share == pytest.approx(1 - 0.023 / 0.050)
    # at 0.7 dear falls back too and saves 0.006
    assert operating_point(curve, 0.7).cost_per_1000 == pytest.approx(1000 * 0.017 / 4)
    assert operating_point(curve, 0.7).crossing == operating_point(curve, 0.7).changing == 1
    # at 0.3 nothing falls back: two cross, but same keeps the model middle
    assert operating_point(curve, 0.3).fallback == 0
    assert (operating_point(curve, 0.3).crossing, operating_point(curve, 0.3).changing) == (2, 1)


def test_confidence_equal_to_the_threshold_does_not_fall_back():
    curve = sweep(cells_of([row("cheap", 0.55, 1, 2, 3)]), policy())
    assert operating_point(curve, 0.55).fallback == 0
    assert operating_point(curve, 0.5501).fallback == 1


def test_price_of_falling_back_is_signed_and_zero_for_the_same_model():
    labels = {x.label: x for x in sweep(cells_of(FOUR), policy()).labels}
    assert labels["cheap"].fallback_price == pytest.approx(1000 * (0.012 - 0.003) / 2)
    assert labels["dear"].fallback_price == pytest.approx(-6.0)
    assert labels["same"].fallback_price == 0.0
    # d is 0.003 and 0.006: sd 0.0015 sqrt 2, over sqrt 2
    assert labels["cheap"].fallback_price_half == pytest.approx(1000 * Z * 0.0015)
    assert labels["dear"].fallback_price_half is None


money = st.integers(1, 10_000).map(lambda k: k * 1e-6)
decision = st.builds(
    row,
    st.sampled_from(["cheap", "dear", "same"]),
    st.floats(1e-6, 1) | st.sampled_from([1e-4, 0.29, 0.5, 0.55, 0.57, 1.0]),
    st.none() | money,
    money,
    money,
    k=st.sampled_from([0.0, 1e-5, 3e-5]),
)
grid_points = st.integers(0, GRID).map(lambda k: k / GRID)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(decision, min_size=1, max_size=30), threshold=grid_points, own=st.none() | grid_points)
def test_curve_equals_the_row_by_row_form(rows, threshold, own):
    rule = policy() if own is None else policy(dear=own)
    curve = sweep(cells_of(rows), rule)
    for t in {threshold, 0.0, 0.55, 1.0, round(min(confidence_bin(rows[0]["confidence"]) + 1, GRID)) / GRID}:
        point = operating_point(curve, t)
        if point.n_priced == 0:
            assert point.cost_per_1000 is point.savings_share is point.cost_half is None
            continue
        fallback, cost, half, share, share_half = plain(rows, rule, t)
        assert point.fallback == fallback
        assert point.cost_per_1000 == pytest.approx(cost, rel=1e-9)
        assert point.savings_share == pytest.approx(share, rel=1e-9, abs=1e-9)
        if point.n_priced > 1:
            assert point.cost_half == pytest.approx(half, rel=1e-4, abs=1e-5)
            assert point.savings_half == pytest.approx(share_half, rel=1e-4, abs=1e-5)
        else:
            assert point.cost_half is point.savings_half is None


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(decision, min_size=1, max_size=30), a=grid_points, b=grid_points)
def test_difference_equals_the_paired_difference_of_rows(rows, a, b):
    rule = policy()
    change = difference(sweep(cells_of(rows), rule), a, b)
    deltas, bases, crossing, changing = [], [], 0, 0
    for r in rows:
        before, after = r["confidence"] < a, r["confidence"] < b
        crossing += before != after
        changing += before != after and r["label"] != "same"
        if r["l"] is not None:
            effect = 0.0 if r["label"] == "same" else r["f"] - r["l"]
            deltas.append(effect * (int(after) - int(before)))
            bases.append(r["b"])
    assert (change.crossing, change.changing) == (crossing, changing)
    if not deltas:
        assert change.cost_per_1000 is None
        return
    d, base = np.array(deltas), np.array(bases)
    assert change.cost_per_1000 == pytest.approx(1000 * d.mean(), abs=1e-9)
    assert change.savings_share == pytest.approx(-d.sum() / base.sum(), abs=1e-9)
    if len(d) > 1:
        half = 1000 * Z * d.std(ddof=1) / math.sqrt(len(d))
        assert change.cost_half == pytest.approx(half, rel=1e-4, abs=1e-5)
        ratio = d.sum() / base.sum()
        spread = math.sqrt(((d - ratio * base) ** 2).sum() / (len(d) - 1))
        assert change.savings_half == pytest.approx(
            Z * spread / math.sqrt(len(d)) / base.mean(), rel=1e-4, abs=1e-5
        )


def test_a_difference_excludes_zero_only_with_enough_changed_decisions():
    rows = [row("cheap", 0.9, 0.001, 0.004, 0.01) for _ in range(100)]
    few = rows + [row("cheap", 0.6, 0.001, 0.004, 0.01) for _ in range(9)]
    many = rows + [row("cheap", 0.6, 0.001, 0.004, 0.01) for _ in range(10)]
    assert not difference(sweep(cells_of(few), policy()), 0.55, 0.7).cost_excludes_zero
    assert difference(sweep(cells_of(many), policy()), 0.55, 0.7).cost_excludes_zero
    assert difference(sweep(cells_of(many), policy()), 0.55, 0.7).savings_excludes_zero
    same = difference(sweep(cells_of(many), policy()), 0.7, 0.7)
    assert (same.cost_per_1000, same.cost_half, same.cost_excludes_zero) == (0.0, 0.0, False)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(decision, max_size=30), cut=st.integers(0, 30), seed=st.integers(0, 9))
def test_merging_cells_and_shuffling_rows_change_nothing(rows, cut, seed):
    whole = cells_of(rows)
    parts = pd.concat([cells_of(rows[:cut]), cells_of(rows[cut:])]).sample(frac=1, random_state=seed)
    one, two = sweep(whole, policy()), sweep(parts, policy())
    assert (one.fallback == two.fallback).all()
    for name in ("cost_per_1000", "cost_half", "savings_share", "savings_half"):
        a, b = getattr(one, name), getattr(two, name)
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(decision, min_size=1, max_size=30))
def test_more_threshold_never_means_fewer_fallbacks(rows):
    curve = sweep(cells_of(rows), policy())
    assert (np.diff(curve.fallback) >= 0).all()
    assert all((np.diff(label.fallback) >= 0).all() for label in curve.labels)
    assert (sum(label.fallback for label in curve.labels) == curve.fallback).all()
    assert curve.crossing[confidence_bin(0.55)] == 0


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(decision, min_size=2, max_size=20), factor=st.sampled_from([0.01, 3.0, 250.0]))
def test_savings_share_does_not_depend_on_a_common_price_factor(rows, factor):
    scaled = [
        r if r["l"] is None else r | {key: r[key] * factor for key in ("l", "f", "b", "k")} for r in rows
    ]
    one, two = sweep(cells_of(rows), policy()), sweep(cells_of(scaled), policy())
    if one.savings_share is not None:
        np.testing.assert_allclose(one.savings_share, two.savings_share, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(one.savings_half, two.savings_half, rtol=1e-5, atol=1e-5)


def test_no_rows_is_not_measured_rather_than_zero():
    curve = sweep(empty(CELLS), policy())
    point = operating_point(curve, 0.55)
    assert (point.n, point.fallback) == (0, 0)
    assert point.fallback_share is point.cost_per_1000 is point.cost_half is point.savings_share is None
    assert cheapest(curve) is None
    assert difference(curve, 0.1, 0.9).cost_per_1000 is None
    assert dead_zones(empty(CELLS), policy()) == []
    assert curve.grade is None


def test_unknown_costs_leave_the_shares_and_never_become_zero():
    cells = cells_of([row("cheap", 0.9, None), row("dear", 0.2, None)])
    for name in ("label_cost", "fallback_cost", "baseline_cost"):
        cells[name] = None  # what SQL's sum over no priced row gives
    point = operating_point(sweep(cells, policy()), 0.55)
    assert (point.fallback_share, point.n_priced) == (0.5, 0)
    assert point.cost_per_1000 is point.savings_share is None


def test_a_null_sum_of_priced_rows_is_an_error():
    cells = cells_of(FOUR)
    cells.loc[0, "label_cost"] = np.nan
    with pytest.raises(ValueError, match=r"cells\.label_cost: NULL in 1 rows with priced decisions"):
        sweep(cells, policy())


def test_one_row_has_a_cost_but_no_interval():
    point = operating_point(sweep(cells_of(FOUR[:1]), policy()), 0.55)
    assert point.cost_per_1000 == pytest.approx(1.0)
    assert point.cost_half is point.savings_half is None


def test_one_label_and_equal_scores():
    rule = Policy(
        (Label("only", "?", model="small"),), threshold=0.5, fallback_model="middle", baseline="middle"
    )
    curve = sweep(cells_of([row("only", 0.7, 1, 2, 2)] * 5), rule)
    assert operating_point(curve, 0.7).fallback == 0
    assert operating_point(curve, 0.7001).fallback == 5
    assert operating_point(curve, 0.7).savings_share == 0.5
    assert operating_point(curve, 0.7).savings_half == 0.0


def test_without_a_baseline_there_is_a_cost_but_no_savings():
    point = operating_point(sweep(cells_of(FOUR), policy(baseline=None)), 0.55)
    assert point.cost_per_1000 is not None
    assert point.savings_share is None
    assert difference(sweep(cells_of(FOUR), policy(baseline=None)), 0.1, 0.9).savings_share is None


def test_classifier_cost_is_part_of_cost_and_an_unknown_one_is_flagged():
    rows = [r | {"k": 0.001} for r in FOUR]
    curve = sweep(cells_of(rows), policy())
    assert curve.classifier_known
    assert operating_point(curve, 0.55).cost_per_1000 == pytest.approx(1000 * 0.023 / 4 + 1.0)
    cells = cells_of(rows)
    cells.loc[0, "classifier_cost"] = np.nan
    assert not sweep(cells, policy()).classifier_known


def test_labels_of_other_policies_are_counted_apart():
    curve = sweep(cells_of([*FOUR, row("old", 0.1, 9, 9, 9)]), policy())
    assert (curve.n, curve.n_left_out) == (4, 1)
    assert operating_point(curve, 0.55).cost_per_1000 == pytest.approx(1000 * 0.023 / 4)


@pytest.mark.parametrize(
    ("grades", "expected"),
    [
        (["measured"] * 4, "measured"),
        (["measured"] * 3 + ["assumed"], "assumed"),
        (["measured"] * 3 + ["estimated"], "estimated"),
    ],
)
def test_grade_is_that_of_the_weakest_count(grades, expected):
    rows = [r | {"grade": grade} for r, grade in zip(FOUR, grades, strict=True)]
    assert sweep(cells_of(rows), policy()).grade == expected


def test_cheapest_is_the_nearest_to_production_of_equals_with_its_plateau():
    # raising the line past 0.6 saves 6 of 23 and past 0.9 costs 3: cheapest from 0.6001 to 0.9, on a base of 1,000
    rows = [
        row("same", 0.95, 1.0, 1.0, 1.0),
        row("dear", 0.6, 0.9, 0.1, 1.0),
        row("cheap", 0.9, 0.1, 0.4, 1.0),
    ]
    best = cheapest(sweep(cells_of(rows), policy()))
    assert best is not None
    assert (best.threshold, best.plateau_low, best.plateau_high) == (0.601, 0.6001, 0.9)
    assert best.cost_per_1000 == pytest.approx(1000 * 1.2 / 3)


def test_a_flat_curve_has_its_plateau_everywhere():
    best = cheapest(sweep(cells_of([row("same", 0.5, 1, 1, 1)] * 3), policy()))
    assert best is not None
    assert (best.threshold, best.plateau_low, best.plateau_high) == (policy().threshold, 0.0, 1.0)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(decision, min_size=1, max_size=20))
def test_every_point_of_the_plateau_is_within_one_percent(rows):
    curve = sweep(cells_of(rows), policy())
    best = cheapest(curve)
    if best is None:
        return
    low, high = confidence_bin(best.plateau_low), confidence_bin(best.plateau_high)
    assert low <= confidence_bin(best.threshold) <= high
    assert (curve.cost_per_1000[low : high + 1] <= best.cost_per_1000 * 1.01 + 1e-12).all()
    for k in (low - 1, high + 1):
        assert not 0 <= k <= GRID or curve.cost_per_1000[k] > best.cost_per_1000 * 1.01


@pytest.mark.parametrize("threshold", [0.55555, -0.1, 1.1, math.nan])
def test_a_threshold_off_the_grid_is_refused(threshold):
    with pytest.raises(ValueError):
        operating_point(sweep(cells_of(FOUR), policy()), threshold)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.drop(columns=["n", "bin"]), "no column bin, n; expected label, bin, n"),
        (lambda c: c.assign(bin=10_001), "found 10001, expected at most 10,000"),
        (lambda c: c.assign(n=-1), "whole numbers, 0 or more"),
        (lambda c: c.assign(n=0), "n_priced is larger than n"),
        (lambda c: c.assign(label_cost="much"), "expected numbers"),
        (lambda c: c.assign(label=None), "NULL in 4 rows, expected text"),
    ],
)
def test_a_table_that_breaks_its_contract_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        check(change(cells_of(FOUR)), CELLS)


def zone(kind: str, found) -> list:
    return [x for x in found if x.kind == kind]


def test_dead_zones_name_the_thresholds_that_never_and_always_fire():
    found = dead_zones(cells_of(FOUR), policy())
    (never,), (always,) = zone("never_fires", found), zone("always_fires", found)
    assert (never.low, never.high, never.holds_line) == (0.0, 0.4, False)
    assert (always.low, always.high, always.holds_line) == (0.9001, 1.0, False)
    curve = sweep(cells_of(FOUR), policy())
    assert operating_point(curve, never.high).fallback == 0
    assert operating_point(curve, 0.4001).fallback == 1
    assert operating_point(curve, always.low).fallback == 4
    assert operating_point(curve, 0.9).fallback == 3
    assert zone("never_fires", dead_zones(cells_of(FOUR), policy(0.4)))[0].holds_line
    assert zone("always_fires", dead_zones(cells_of(FOUR), policy(0.9001)))[0].holds_line


def test_dead_zones_name_labels_that_never_win_or_are_never_followed():
    found = dead_zones(cells_of([r for r in FOUR if r["label"] != "dear"]), policy(0.95))
    assert [x.label for x in zone("never_wins", found)] == ["dear"]
    assert [(x.label, x.n) for x in zone("never_followed", found)] == [("cheap", 2)]  # same keeps its model


def test_tied_scores_at_the_line_are_an_atom():
    spread = [row("cheap", 0.6 + i / 1000, 1, 1, 1) for i in range(98)]
    assert zone("atom", dead_zones(cells_of([*spread, *[row("dear", 0.56, 1, 1, 1)] * 2]), policy())) != []
    alone = [
        *spread[:20],
        row("dear", 0.56, 1, 1, 1),
    ]  # a single decision is tied with none, whatever its share
    assert zone("atom", dead_zones(cells_of(alone), policy())) == []
    many = [row("cheap", 0.6 + i / 1000, 1, 1, 1) for i in range(300)]
    tied = [row("dear", 0.56, 1, 1, 1)] * 4
    (atom,) = zone("atom", dead_zones(cells_of(many + tied), policy()))
    assert (atom.low, atom.high, atom.n) == (0.56, 0.5601, 4)
    assert atom.share == pytest.approx(4 / 304)
    assert zone("atom", dead_zones(cells_of(many + tied[:3]), policy())) == []  # 3 of 303: under 1 %
    assert zone("atom", dead_zones(cells_of(many + tied), policy(0.54))) == []  # more than 0.01 away
    assert zone("atom", dead_zones(cells_of(many + tied), policy(0.54, dear=0.565)))[0].label == "dear"


def test_shares_below_are_the_fallback_shares():
    cells = cells_of([row("cheap", x, 1, 1, 1) for x in (0.3, 0.5, 0.5, 0.9)])
    curves = confidence_curves(cells, policy(), step=0.1)
    assert [c.n for c in curves] == [4, 0, 0]
    assert curves[0].share_below.tolist() == [0, 0, 0, 0, 0.25, 0.25, 0.75, 0.75, 0.75, 0.75, 1]
    assert len(curves[1].confidence) == 0
    assert share_below(cells, policy(), 0.5) == share_below(cells, policy(), 0.5, "cheap") == 0.25
    assert share_below(cells, policy(), 0.5, "dear") is None
    assert operating_point(sweep(cells, policy()), 0.5).fallback_share == 0.25


def test_the_histogram_puts_the_edge_right_and_one_into_the_last_interval():
    cells = cells_of([row("cheap", x, 1, 1, 1) for x in (0.0, 0.29, 0.98, 1.0)])
    histogram = confidence_histogram(cells, policy(), width=0.01)
    assert histogram.counts[0].nonzero()[0].tolist() == [0, 29, 98, 99]
    assert histogram.counts.sum() == 4
    assert len(histogram.edges) == 101
    with pytest.raises(ValueError, match="divides 1"):
        confidence_histogram(cells, policy(), width=0.03)


def test_a_margin_rule_is_flagged_because_cells_cannot_show_it():
    assert sweep(cells_of(FOUR), replace(policy(), min_margin=0.1)).has_margin_rule


def test_the_whole_curve_is_fast_at_full_resolution():
    rng = np.random.default_rng(1)
    size = 4 * (GRID + 1)
    cost = rng.random(size)
    cells = pd.DataFrame(
        {
            "label": np.repeat(["a", "b", "c", "d"], GRID + 1),
            "bin": np.tile(np.arange(GRID + 1), 4),
            "n": 5,
            "n_priced": 5,
            "n_measured": 5,
            "n_assumed": 0,
            "classifier_cost": 0.0,
        }
        | {x.name: cost for x in CELLS.columns if x.kind == "sum"}
    )
    rule = Policy(
        tuple(Label(x, "?", model=x) for x in "abcd"), threshold=0.5, fallback_model="e", baseline="e"
    )
    sweep(cells, rule)
    taken = []
    for _ in range(9):
        start = time.process_time()
        sweep(cells, rule)
        taken.append(time.process_time() - start)
    print(f"sweep of {size:,} cells: {1000 * min(taken):.1f} ms")
    assert min(taken) < 0.1  # CPU time; measured 8 to 15 ms, the bound leaves room for a busy machine
