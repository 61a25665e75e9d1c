"""The rule in SQL agrees with the rule in Python at every threshold of the grid and beside it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_samples import decision

from router.log import Log
from router.log.ingest import ingest_all
from router.log.queries import Filter, count
from router.log.record import decision_payload
from router.log.schema import connect
from router.log.spool import Spool
from router.policy import GRID, confidence_bin

POINTS = np.arange(GRID + 1) / GRID
NEAR = np.unique(np.clip(np.concatenate([POINTS, np.nextafter(POINTS, -1), np.nextafter(POINTS, 2)]), 0, 1))


@pytest.fixture(scope="module")
def con() -> Iterator:
    con = connect(None)
    con.register("near", pa.table({"c": NEAR}))
    yield con
    con.close()


def test_the_macro_bins_every_grid_point_and_its_float_neighbours_as_python_does(con):
    found = con.execute("SELECT c, confidence_bin(c) FROM near ORDER BY c").fetchall()
    assert len(found) == len(NEAR) > 3 * GRID
    assert [k for _, k in found] == [confidence_bin(c) for c, _ in found]


@settings(deadline=None)
@given(st.floats(0, 1))
def test_the_macro_bins_any_confidence_as_python_does(con, value):
    assert con.execute("SELECT confidence_bin($c)", {"c": value}).fetchone()[0] == confidence_bin(value)


def test_a_margins_bin_in_hundredths_is_the_largest_step_not_above_it(con):
    found = con.execute("SELECT c, confidence_bin(c) // 100 FROM near").fetchall()
    assert all(k / 100 <= c and (k + 1) / 100 > c for c, k in found)


def test_falling_back_by_bin_equals_falling_back_by_confidence_at_every_threshold(con):
    wrong = con.execute("""
        SELECT count(*) FILTER (WHERE (c < (bin + step) / 10000) <> (bin < bin + step)), count(*)
        FROM (SELECT c, confidence_bin(c) AS bin FROM near), (SELECT CAST(range AS INTEGER) AS step FROM range(-2, 3))
        WHERE bin + step BETWEEN 0 AND 10000
    """).fetchone()
    assert wrong[0] == 0
    assert wrong[1] > 10 * GRID


def test_a_confidence_goes_through_spool_and_database_without_losing_a_bit(tmp_path):
    spool = Spool(tmp_path)
    values = NEAR[::37].tolist()
    for number, value in enumerate(values):
        assert spool.append(decision_payload(decision(number, confidence=value, scores={"simple": value})))
    spool.close()
    con = connect(None)
    ingest_all(con, tmp_path)
    rows = con.execute("SELECT confidence, scores['simple'] FROM decisions ORDER BY decided_at").fetchall()
    assert rows == [(value, value) for value in values]
    con.close()


def test_the_confidence_filter_splits_the_rows_as_the_rule_does(tmp_path):
    k = 2900
    middle = k / GRID
    values = [0.0, float(np.nextafter(middle, 0)), middle, float(np.nextafter(middle, 1)), 1.0]
    spool = Spool(tmp_path)
    for number, value in enumerate(values):
        spool.append(decision_payload(decision(number, confidence=value)))
    spool.close()
    con = connect(None)
    ingest_all(con, tmp_path)
    with Log(tmp_path, con, "spool") as log:
        assert count(log, Filter(confidence=(0.0, middle))) == sum(v < middle for v in values) == 2
        assert count(log, Filter(confidence=(middle, 1.0))) == sum(v >= middle for v in values) == 3
