"""Formats: what a number looks like. The doctests in the module hold the plain cases; here are the edges."""

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from dashboard import formats

EVERY = [
    formats.count, formats.share, formats.threshold, formats.score, formats.usd, formats.milli_usd, formats.duration,
    formats.signed_count, formats.signed_percent, formats.signed_points, formats.signed_usd, formats.signed_ms,
]  # fmt: skip


@pytest.mark.parametrize("format_", EVERY, ids=lambda f: f.__name__)
@pytest.mark.parametrize("missing", [None, math.nan, Decimal("NaN"), pd.NA, pd.NaT], ids=repr)
def test_a_missing_value_is_named_and_never_zero(format_, missing):
    assert format_(missing) == "not measured"


NEGATIVE = [
    f for f in EVERY if f not in (formats.threshold, formats.duration)
]  # those two have no negative values


@pytest.mark.parametrize("format_", NEGATIVE, ids=lambda f: f.__name__)
def test_a_negative_number_has_the_true_minus(format_):
    assert format_(-7).startswith("−")
    assert "-" not in format_(-7)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.0 %"),
        (0.0009, "< 0.1 %"),
        (0.001, "0.1 %"),
        (0.139, "13.9 %"),
        (0.9995, "> 99.9 %"),
        (1, "100.0 %"),
    ],
)
def test_a_share_never_reads_as_none_or_all_when_it_is_not(value, text):
    assert formats.share(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "$0.00"), (Decimal("0.0000000001"), "< $0.0001"), (0.0034, "$0.0034"), (0.0999, "$0.0999"), (0.1, "$0.10"),
        (3.15, "$3.15"), (999.99, "$999.99"), (999.996, "$1,000"), (1777.3, "$1,777"), (Decimal("-44.08"), "−$44.08"),
        (-1777.3, "−$1,777"), (-0.00001, "> −$0.0001"),
    ],
)  # fmt: skip
def test_dollars_show_as_many_digits_as_their_size_needs(value, text):
    assert formats.usd(value) == text


def test_a_threshold_reads_back_as_itself_everywhere_on_the_grid():
    grid = [k / 10_000 for k in range(10_001)]
    assert [float(formats.threshold(value)) for value in grid] == grid


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formats.signed_points(0.086), "+8.6 pts"),
        (formats.signed_points(-0.006), "−0.6 pts"),
        (formats.signed_points(0.0), "0.0 pts"),
        (formats.signed_points(-0.00001), "0.0 pts"),
        (formats.signed_percent(-0.065), "−6.5 %"),
        (formats.signed_usd(Decimal(31)), "+$31.00"),
        (formats.signed_ms(1.2), "+1 ms"),
        (formats.signed_count(-12), "−12"),
    ],
)
def test_a_change_has_a_sign_and_a_zero_has_none(text, expected):
    assert text == expected


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0.0, "0.0 ms"),
        (9.94, "9.9 ms"),
        (9.96, "10 ms"),
        (999.4, "999 ms"),
        (999.6, "1.0 s"),
        (62_000, "62.0 s"),
    ],
)
def test_a_span_never_jumps_between_its_units(ms, text):
    assert formats.duration(ms) == text


def test_a_time_is_shown_in_the_zone_that_is_asked_for():
    stored = datetime(2026, 11, 22, 23, 30)
    assert formats.time(stored) == "22 Nov 23:30:00"
    assert formats.time(stored, ZoneInfo("Europe/Berlin")) == "23 Nov 00:30:00"
    assert formats.time(stored.replace(tzinfo=UTC), ZoneInfo("Asia/Kathmandu")) == "23 Nov 05:15:00"
    assert formats.time(None) == "not measured"


@pytest.mark.parametrize(
    ("first", "last", "text"),
    [
        (date(2026, 10, 24), date(2026, 11, 23), "24 Oct – 23 Nov 2026"),
        (date(2025, 12, 30), date(2026, 1, 2), "30 Dec 2025 – 2 Jan 2026"),
        (date(2026, 1, 2), date(2026, 1, 2), "2 Jan 2026"),
    ],
)
def test_a_period_names_a_year_only_as_often_as_needed(first, last, text):
    assert formats.period(first, last) == text


def test_intervals():
    assert f"{formats.usd(3.15)} {formats.plus_minus(0.02)}" == "$3.15 ± 0.02"
    assert formats.plus_minus(None) == ""
    assert formats.between("598", "646") == "598 to 646"
