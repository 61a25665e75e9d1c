"""The next days' fallback share: an interval of days, which holds as often as it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from router.analysis.forecast import forecast_share


def test_a_hand_worked_week():
    n, below = [100] * 8, [10, 20, 10, 20, 10, 20, 10, 20]
    found = forecast_share(n, below)
    half = t.ppf(0.975, 7) * np.std([0.1, 0.2] * 4, ddof=1) * np.sqrt(1 / 8 + 1 / 7)
    assert (found.share, found.days, found.horizon) == (0.15, 8, 7)
    assert (found.low, found.high) == pytest.approx((0.15 - half, 0.15 + half))


def test_intervals_hold_the_next_week_as_often_as_they_say_where_days_differ():
    rng, held, binomial = np.random.default_rng(1), 0, 0
    for _ in range(400):
        true = np.clip(rng.normal(0.2, 0.04, 28), 0, 1)
        fell = rng.binomial(1000, true)
        found = forecast_share([1000] * 21, fell[:21])
        ahead = fell[21:].sum() / 7000
        held += found.low <= ahead <= found.high
        binomial += abs(found.share - ahead) <= 1.96 * np.sqrt(
            found.share * (1 - found.share) * (1 / 21_000 + 1 / 7000)
        )
    assert 0.92 <= held / 400 <= 0.98
    assert binomial / 400 < 0.75  # what a binomial interval would hold


def test_few_days_and_none_have_no_interval():
    assert forecast_share([50] * 6, [5] * 6).low is None
    assert forecast_share([], []).share is None
    quiet = forecast_share([0, 100] * 7, [0, 10] * 7)
    assert (quiet.days, quiet.low, quiet.high) == (7, pytest.approx(0.1), pytest.approx(0.1))
