"""Close calls between labels: hand-worked counts and dollars, and sums that add up."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.analysis.overlap import overlap
from router.analysis.rule import bins
from router.analysis.tables import PAIRS, empty

LABELS = ("a", "b", "c")


def table(rows: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=PAIRS.names) if rows else empty(PAIRS)


FIVE = [
    ("a", "b", 3, 4, 4, 0.010, 0.030),  # 4 close calls: going to b would cost 0.020 more
    ("b", "a", 9, 2, 1, 0.005, 0.002),  # 2 close calls, one priced: going to a would save 0.003
    ("a", "b", 10, 6, 6, 0.1, 0.2),  # at the bound: not close
    ("c", "a", 0, 1, 0, None, None),  # close, not priced
    ("b", "c", 100, 7, 7, 0.1, 0.1),  # margin 1
]


def test_hand_worked_pairs():
    found = overlap(table(FIVE), LABELS)
    assert (found.n, found.n_close, found.close_rate) == (20, 7, 0.35)
    ab = found.pair("b", "a")
    assert ab is not None
    assert (ab.first, ab.second, ab.n, ab.n_close, ab.close_rate, ab.n_close_priced) == (
        "a",
        "b",
        12,
        6,
        0.3,
        5,
    )
    assert ab.at_stake_usd == pytest.approx(0.020 + 0.003)
    ac, bc = found.pair("a", "c"), found.pair("b", "c")
    assert ac is not None
    assert bc is not None
    assert (ac.n_close, ac.at_stake_usd) == (1, None)
    assert (bc.n_close, bc.close_rate) == (0, 0.0)
    assert [x.n_close for x in found.pairs] == [6, 1, 0]
    assert found.matrix[0, 1] == found.matrix[1, 0] == 0.3
    assert np.isnan(np.diag(found.matrix)).all()
    assert found.margins[[0, 3, 9, 10, 100]].tolist() == [1, 4, 2, 6, 7]


def test_another_bound_counts_up_to_it():
    assert overlap(table(FIVE), LABELS, bound=0.11).n_close == 13
    assert overlap(table(FIVE), LABELS, bound=1.0).n_close == 13
    for bad in (0.105, 0.0, -0.1, 1.5, math.nan):
        with pytest.raises(ValueError):
            overlap(table(FIVE), LABELS, bound=bad)


def test_no_decisions_have_no_close_rate():
    found = overlap(empty(PAIRS), LABELS)
    assert (found.n, found.close_rate, found.pairs) == (0, None, ())
    assert np.isnan(found.matrix).all()
    assert found.margins.sum() == 0


def test_one_label_alone_never_collides():
    assert overlap(empty(PAIRS), ["a"]).matrix.shape == (1, 1)


pair = st.permutations(LABELS).map(lambda names: names[:2])
margin = st.floats(0, 1) | st.integers(0, 100).map(lambda k: k / 100)
decision = st.tuples(pair, margin, st.none() | st.integers(1, 99), st.integers(1, 99))


def reduced(decisions: list[tuple]) -> pd.DataFrame:
    return table(
        [
            (
                names[0],
                names[1],
                int(bins(m, 100)),
                1,
                int(cost is not None),
                (cost or 0) / 1000,
                other / 1000 if cost is not None else 0.0,
            )
            for names, m, cost, other in decisions
        ]
    )


@settings(max_examples=40, deadline=None)
@given(decisions=st.lists(decision, max_size=30), step=st.integers(1, 100), seed=st.integers(0, 5))
def test_counts_equal_the_row_by_row_form_and_add_up(decisions, step, seed):
    bound = step / 100
    rows = reduced(decisions).sample(frac=1, random_state=seed)
    found = overlap(rows, LABELS, bound=bound)
    assert found.n_close == sum(m < bound for _, m, _, _ in decisions)
    assert sum(x.n_close for x in found.pairs) == found.n_close
    assert sum(x.n for x in found.pairs) == found.n == found.margins.sum() == len(decisions)
    for x in found.pairs:
        mine = [
            (names, cost - other)
            for names, m, cost, other in decisions
            if set(names) == {x.first, x.second} and m < bound and cost is not None
        ]
        one = sum(change for names, change in mine if names[0] == x.first)
        two = sum(change for names, change in mine if names[0] == x.second)
        assert x.n_close_priced == len(mine)
        if mine:
            assert x.at_stake_usd == pytest.approx((abs(one) + abs(two)) / 1000)
        else:
            assert x.at_stake_usd is None
    merged = rows.groupby(["label", "runner_up", "margin_bin"], as_index=False).sum()
    for x, y in zip(found.pairs, overlap(merged, LABELS, bound=bound).pairs, strict=True):
        assert (x.first, x.second, x.n_close) == (y.first, y.second, y.n_close)
        assert (x.at_stake_usd is None) == (y.at_stake_usd is None)
        assert x.at_stake_usd is None or x.at_stake_usd == pytest.approx(y.at_stake_usd)
