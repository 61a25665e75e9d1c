"""The rule's forms agree to the last decision: the scalar one and the one on numpy columns."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.analysis.rule import CAUSES, bins, confidence_bins, decide_many, fallback_mask
from router.errors import ScoresError
from router.policy import GRID, Policy, confidence_bin, decide
from router.types import Label

GRID_POINTS = np.arange(GRID + 1) / GRID
NEAR = np.clip(
    np.concatenate([GRID_POINTS, np.nextafter(GRID_POINTS, -1), np.nextafter(GRID_POINTS, 2)]), 0, 1
)

unit = (
    st.floats(0, 1) | st.integers(0, GRID).map(lambda k: k / GRID) | st.integers(0, 20).map(lambda k: k / 20)
)


def policy(
    thresholds: list[float | None], *, threshold: float = 0.55, min_margin: float | None = None
) -> Policy:
    labels = tuple(
        Label(f"l{i}", "a question", model=f"m{i}", threshold=own) for i, own in enumerate(thresholds)
    )
    return Policy(labels, threshold=threshold, fallback_model="fallback", min_margin=min_margin)


def test_bins_equal_the_scalar_bin_at_every_grid_point_and_its_float_neighbours():
    assert confidence_bins(NEAR).tolist() == [confidence_bin(x) for x in NEAR.tolist()]
    assert confidence_bins(GRID_POINTS).tolist() == list(range(GRID + 1))
    assert (confidence_bins(np.nextafter(GRID_POINTS[1:], 0)) == np.arange(GRID)).all()


@given(st.lists(unit, max_size=50))
def test_bins_equal_the_scalar_bin_anywhere(values):
    assert confidence_bins(values).tolist() == [confidence_bin(x) for x in values]


@pytest.mark.parametrize("grid", [10, 100, 1_000])
def test_a_bin_of_any_grid_is_the_largest_step_not_above_the_value(grid):
    k = bins(NEAR, grid)
    assert (k / grid <= NEAR).all()
    assert ((k + 1) / grid > NEAR).all()


def test_falling_back_by_bin_equals_falling_back_by_confidence_at_every_threshold():
    for k, threshold in enumerate(GRID_POINTS.tolist()):
        near = np.array([threshold, math.nextafter(threshold, -1), math.nextafter(threshold, 2)])
        near = near[(near >= 0) & (near <= 1)]
        assert (fallback_mask(near, threshold) == (confidence_bins(near) < k)).all()


def test_confidence_equal_to_the_threshold_is_served():
    assert fallback_mask([0.55, math.nextafter(0.55, 0)], 0.55).tolist() == [False, True]


@settings(max_examples=300, deadline=None)
@given(data=st.data(), count=st.integers(1, 6))
def test_columns_decide_as_the_scalar_rule_does(data, count):
    grid = st.integers(0, GRID).map(lambda k: k / GRID)
    own = data.draw(st.lists(st.none() | grid, min_size=count, max_size=count))
    rule = policy(own, threshold=data.draw(grid), min_margin=data.draw(st.none() | grid))
    rows = data.draw(st.lists(st.lists(unit, min_size=count, max_size=count), max_size=20))
    many = decide_many(np.array(rows).reshape(len(rows), count), rule)
    for i, row in enumerate(rows):
        one = decide(dict(zip(rule.label_names, row, strict=True)), rule)
        assert rule.label_names[many.top[i]] == one.top_label
        assert many.confidence[i] == one.confidence
        assert CAUSES[many.cause[i]] == one.cause
        assert bool(many.is_fallback[i]) == one.is_fallback
        assert many.model[i] == one.model_chosen
        if one.runner_up is None:
            assert many.runner_up[i] == -1
            assert math.isnan(many.margin[i])
        else:
            assert rule.label_names[many.runner_up[i]] == one.runner_up
            assert many.margin[i] == one.margin


def test_columns_decide_as_the_scalar_rule_does_at_every_grid_point_and_its_float_neighbours():
    rule = policy([None, 0.3])
    many = decide_many(np.column_stack([NEAR, 1 - NEAR]), rule)
    for i, value in enumerate(NEAR.tolist()):
        one = decide({"l0": value, "l1": 1 - value}, rule)
        assert (rule.label_names[many.top[i]], many.model[i], CAUSES[many.cause[i]]) == (
            one.top_label,
            one.model_chosen,
            one.cause,
        )


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1, math.inf])
def test_a_score_that_is_not_in_the_unit_interval_names_its_label_and_row(bad):
    with pytest.raises(ScoresError, match="'l1' in row 1"):
        decide_many([[0.5, 0.5], [0.5, bad]], policy([None, None]))


def test_a_matrix_of_another_width_is_refused():
    with pytest.raises(ScoresError, match="expected one column for each of 2 labels"):
        decide_many([[0.5, 0.3, 0.2]], policy([None, None]))


def test_a_score_a_rounding_above_one_is_clipped():
    assert decide_many([[1.0 + 1e-10, 0.0]], policy([None, None])).confidence.tolist() == [1.0]
