"""Drift: sizes that match the formulas, alarms that tell when, silence where nothing changed, and what ends a certificate."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp

from router.analysis.drift import change_point, drift, js, ks, psi, quantile_bins
from router.analysis.lapse import Ground, lapses
from router.analysis.rule import bins
from router.analysis.tables import DAILY, empty

START = date(2026, 10, 1)
RECENT = date(2026, 10, 22)


def daily(
    days: int = 28, per_day: int = 400, *, seed: int = 1, moved=None, mix=None, line=0.55, from_day: int = 21
) -> pd.DataFrame:
    """Traffic of two labels; from a day on confidences come from another distribution or labels in another mix."""
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(days):
        late = k >= from_day
        shape = moved if moved and late else (5, 2)
        share = mix if mix is not None and late else 0.5
        c = rng.beta(*shape, per_day)
        label = np.where(rng.random(per_day) < share, "a", "b")
        day = pd.Timestamp(START + timedelta(days=k))
        rows.append(
            pd.DataFrame(
                {
                    "day": day,
                    "label": label,
                    "bin": bins(c, 100),
                    "n": 1,
                    "n_fallback": (c < line).astype(int),
                }
            )
        )
    table = pd.concat(rows)
    return table.groupby(["day", "label", "bin"], as_index=False).sum()


def test_distances_are_those_of_the_textbook():
    rng = np.random.default_rng(2)
    one, two = rng.integers(0, 100, 5000), rng.integers(20, 101, 4000)
    a, b = np.bincount(one, minlength=101), np.bincount(two, minlength=101)
    assert ks(a, b) == pytest.approx(ks_2samp(one, two).statistic)
    assert js(a, b) == pytest.approx(jensenshannon(a, b, base=2) ** 2)
    assert psi([50, 50], [50, 50]) == 0
    p, q = np.array([30.5, 70.5]) / 101, np.array([60.5, 40.5]) / 101
    assert psi([30, 70], [60, 40]) == pytest.approx(np.sum((p - q) * np.log(p / q)))
    assert js([1, 0], [0, 1]) == 1.0


def test_quantile_groups_are_about_equally_full_and_cut_no_bin():
    counts = np.array([10, 0, 10, 10, 10, 50, 10])
    assert quantile_bins(counts, 4).tolist() == [0, 0, 0, 1, 1, 2, 3]  # 20, 20, 50 and 10
    assert quantile_bins([0, 7, 0]).tolist() == [0, 1, 2]


def test_steady_traffic_raises_no_alarm():
    for seed in range(20):
        found = drift(daily(seed=seed), RECENT)
        assert found.alarms == (), seed
        assert found.confidence[0].psi < 0.05
        assert found.fallback.days_out <= 1


def test_a_moved_confidence_is_found_with_its_day():
    found = drift(daily(moved=(3, 3)), RECENT)
    overall = found.confidence[0]
    assert overall.is_alarm and overall.psi > 0.2
    assert overall.since == RECENT
    assert [x.label for x in found.confidence] == [None, "a", "b"]
    assert all(x.is_alarm for x in found.confidence)
    kinds = [x.kind for x in found.alarms]
    assert kinds.count("fallback") == 1
    assert found.fallback.since == RECENT
    assert "fallback share went from" in found.alarms[-1].text


def test_a_change_before_the_recent_period_is_dated_where_it_happened():
    found = drift(daily(moved=(3, 3), from_day=17), RECENT)
    assert found.confidence[0].is_alarm
    assert found.confidence[0].since == START + timedelta(days=17)


def test_a_new_mix_is_no_change_of_confidence():
    found = drift(daily(mix=0.9), RECENT)
    assert [x.kind for x in found.alarms] == ["labels"]
    assert found.mix.since == RECENT


def test_one_odd_day_is_counted_and_is_no_alarm():
    table = daily()
    odd = table["day"] == pd.Timestamp(START + timedelta(days=24))
    table.loc[odd, "n_fallback"] = table.loc[odd, "n"]
    found = drift(table, RECENT)
    assert found.fallback.days_out == 1


def test_few_decisions_are_noise_and_say_so():
    found = drift(daily(per_day=5, moved=(3, 3)), RECENT)
    assert found.confidence[0].n_recent == 35
    assert found.confidence[0].noise > 0.2
    assert not found.confidence[0].is_alarm


def test_under_a_week_nobody_knows_how_days_differ():
    found = drift(daily(days=10, from_day=5), START + timedelta(days=5))
    assert (found.fallback.mean, found.fallback.is_alarm) == (None, False)
    assert found.fallback.recent is not None


def test_change_points():
    assert change_point([0, 0, 0, 1, 1], [1] * 5) == 3
    assert change_point([1, 1, 1], [1] * 3) is None
    assert change_point([1], [1]) is None
    assert change_point([0, 9, 1, 1], [1, 0, 1, 1]) in (1, 2)  # a day without decisions weighs nothing


@pytest.mark.parametrize(
    "table", [empty(DAILY), daily(days=1, per_day=1), daily(days=3)], ids=["none", "one", "reference only"]
)
def test_degenerate_logs_have_no_alarm(table):
    found = drift(table, RECENT)
    assert found.alarms == ()
    assert found.confidence[0].psi is None
    assert found.n_recent == 0


def test_equal_scores_and_one_label():
    day = [pd.Timestamp(START + timedelta(days=k)) for k in range(28)]
    same = pd.DataFrame({"day": day, "label": "a", "bin": 55, "n": 100, "n_fallback": 0})
    found = drift(same, RECENT)
    assert found.alarms == ()
    assert found.mix.psi == found.confidence[0].ks == 0
    assert found.confidence[0].psi < found.confidence[0].noise
    jumped = same.assign(bin=[55] * 21 + [80] * 7)
    assert drift(jumped, RECENT).confidence[0].ks == 1


# What ends a certificate

GROUND = Ground(("local/3",), "abc", (("coding", "sonnet"), ("simple", "mini")))


def ended(now: Ground = GROUND, *, days: int = 3, found=None) -> tuple[str, ...]:
    return lapses(GROUND, now, made_on=RECENT, today=RECENT + timedelta(days=days), drift=found)


def test_a_certificate_holds_while_nothing_changes():
    assert ended(found=drift(daily(), RECENT)) == ()


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (Ground(("local/4",), "abc", GROUND.models), "the classifier was local/3 and is local/4"),
        (Ground(GROUND.classifiers, "xyz", GROUND.models), "labels, rubrics or examples changed"),
        (
            Ground(GROUND.classifiers, "abc", (("coding", "opus"), ("simple", "mini"))),
            "coding goes to opus, it went to sonnet",
        ),
    ],
    ids=["classifier", "labels", "model"],
)
def test_another_ground_ends_it(now, words):
    assert ended(now) == (words,)


def test_time_and_drift_end_it():
    assert ended(days=31) == ("made 31 days ago, valid for 30; draw a new audit sample",)
    assert any(
        "PSI" in x and "since 2026-10-22" in x for x in ended(found=drift(daily(moved=(3, 3)), RECENT))
    )
