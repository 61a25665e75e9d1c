"""Spark lines: the course of each figure, torn periods left out, and a picture that says what it shows."""

from datetime import datetime, timedelta
from xml.etree import ElementTree

import pandas as pd
import pytest

from dashboard import formats, sparks

DAY = timedelta(days=1)
START = datetime(2026, 11, 1)
NOW = START + 3 * DAY + timedelta(hours=5)


def series(*rows):
    """Rows of (day, cause, n, cost, priced) and, where there are any, unanswered and what else was paid."""
    return pd.DataFrame(
        [
            {"bucket": START + d * DAY, "cause": cause, "n": n, "cost_usd": cost, "n_costed": priced}
            | {"n_unanswered": more[0] if more else 0, "other_usd": more[1] if more else 0.0}
            for d, cause, n, cost, priced, *more in rows
        ]
    )


def spend(*rows):
    return pd.DataFrame(
        [
            {"day": START + d * DAY, "n_priced": n, "cost": c, "classifier_cost": k, "baseline_cost": b}
            | {"failed_cost": failed[0] if failed else 0.0}
            for d, n, c, k, b, *failed in rows
        ]
    )


def latency(*rows):
    return pd.DataFrame([{"bucket": START + d * DAY, "p95_ms": ms} for d, ms in rows])


def test_courses_are_ratios_of_each_period_and_leave_out_the_one_that_is_not_over():
    found = sparks.courses(
        series((0, "routed", 6, 1.5, 6), (0, "low_confidence", 2, None, 0), (1, "routed", 4, None, 0), (3, "routed", 1, 9.0, 1)),
        spend((0, 6, 1.0, 0.5, 6.0), (1, 0, 0.0, 0.0, 0.0), (3, 1, 1.0, 0.0, 1.0)),
        latency((0, 12.0), (1, None), (3, 99.0)),
        width=DAY,
        now=NOW,
    )  # fmt: skip
    assert found["n"].tolist() == [8, 4]
    assert found["share"].tolist() == [0.25, 0.0]
    assert found["cost"].tolist() == [1.5]  # the second day is not measured, which is not $0
    assert found["saved"].tolist() == [0.75]
    assert found["p95"].tolist() == [12.0]
    assert found["unmeasured"].tolist() == [0.25, 1.0]


def test_courses_hold_all_that_was_paid_and_call_no_refused_request_unmeasured():
    found = sparks.courses(
        series((0, "routed", 6, 1.5, 4, 2, 0.5), (1, "routed", 4, None, 0, 3, 0.25), (2, "routed", 1, None, 0, 1, 0.0)),
        spend((0, 6, 1.0, 0.5, 6.0, 1.5)),
        latency((0, 12.0)),
        width=DAY,
        now=NOW,
    )  # fmt: skip
    assert found["cost"].tolist() == [2.0, 0.25]
    assert found["saved"].tolist() == [0.5]
    assert found["unmeasured"].tolist() == [0.0, 0.25, 0.0]


def test_the_line_goes_from_edge_to_edge_and_from_low_to_high():
    root = ElementTree.fromstring(sparks.svg([1.0, 3.0, 2.0], dark=False))
    points = [tuple(map(float, pair.split(","))) for pair in root[0].attrib["points"].split()]
    assert [x for x, _ in points] == [0.0, sparks.WIDTH / 2, sparks.WIDTH]
    ys = [y for _, y in points]
    assert ys[1] < ys[2] < ys[0]  # up is smaller in a picture
    assert min(ys) > 0 and max(ys) < sparks.HEIGHT


def test_a_flat_course_lies_in_the_middle():
    root = ElementTree.fromstring(sparks.svg([5, 5], dark=True))
    assert {pair.split(",")[1] for pair in root[0].attrib["points"].split()} == {f"{sparks.HEIGHT / 2:.1f}"}


@pytest.mark.parametrize("values", [[], [1.0]])
def test_too_few_values_make_no_line(values):
    assert sparks.svg(values, dark=False) is None


def test_the_finding_names_ends_and_extremes():
    said = sparks.finding("Fallback share", pd.Series([0.2, 0.5, 0.1, 0.3]), formats.share)
    assert said == "Fallback share over the period: from 20.0 % to 30.0 %, lowest 10.0 %, highest 50.0 %"


def test_a_change_of_less_than_a_hundredth_does_not_fill_the_height():
    def heights(values):
        line = ElementTree.fromstring(sparks.svg(values, dark=False))[0].attrib["points"]
        return [float(point.split(",")[1]) for point in line.split()]

    whole = heights([100.0, 102.0])
    assert max(whole) - min(whole) == pytest.approx(sparks.HEIGHT - 6)
    flat = heights([11_111, 11_112, 11_111])
    assert max(flat) - min(flat) < 0.3
    assert sum(flat) / 3 == pytest.approx(sparks.HEIGHT / 2, abs=0.2)
