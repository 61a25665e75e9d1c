"""What needs attention: each kind from the tables it is read from, in order of effect, in words that name their ground."""

from datetime import date

import pandas as pd
import pytest

from router.analysis.attention import attention
from router.analysis.dead_zones import DeadZone
from router.analysis.overlap import overlap
from router.analysis.tables import PAIRS, empty
from router.policy import Policy
from router.prices import PriceBook

POLICY = Policy.preset("seed")
TODAY = date(2026, 11, 25)


def series(*rows):
    """Rows of (model, cause, n)."""
    return pd.DataFrame(
        [{"model_used": model, "cause": cause, "n": n} for model, cause, n in rows],
        columns=["model_used", "cause", "n"],
    )


def no_pairs():
    return overlap(empty(PAIRS), POLICY.label_names)


def found(**changes):
    known = {
        "series": series(("claude-opus-4-6", "routed", 100)),
        "policy": POLICY,
        "prices": PriceBook(),
        "today": date(2026, 1, 1),
        "n": 100,
        "n_unmeasured": 0,
        "dead_zones": (),
        "overlap": no_pairs(),
        "drops": {},
        "rejects": {},
        "backlog_bytes": 0,
    }
    return attention(**(known | changes))


def test_a_healthy_log_needs_nothing():
    assert found() == []


def test_models_near_their_end_say_day_share_and_successor():
    rows = found(
        today=TODAY, series=series(("gpt-4o", "low_confidence", 30), ("claude-opus-4-6", "routed", 70))
    )
    retiring = {row.parts[0].text: row for row in rows if row.kind == "retiring"}
    assert (
        "is served until 14 Jan 2027, 50 days from now; it takes 30.0 % of decisions"
        in retiring["gpt-4o"].text
    )
    assert retiring["gpt-4o"].query == {"model": "gpt-4o"}
    assert retiring["claude-sonnet-4-5"].page is None  # in the policy, but no decision to show
    assert "it takes" not in retiring["claude-sonnet-4-5"].text
    assert retiring["claude-sonnet-4-5"].text.endswith(
        "Successor: claude-sonnet-5-5, $2 in, $10 out per million tokens (now $3 in, $15 out)."
    )


def test_a_model_that_ends_without_a_successor_says_so():
    ending = found(today=date(2026, 12, 1), series=series(("gpt-audio-mini", "forced", 5)))
    (row,) = [row for row in ending if row.parts[0].text == "gpt-audio-mini"]
    assert row.text.endswith("of decisions. No successor is known.")


def test_a_model_that_is_gone_and_one_that_ends_today_say_so():
    gone = found(today=date(2026, 12, 5))
    assert any("claude-sonnet-4-5 has not been served since 30 Nov 2026" in row.text for row in gone)
    last = found(today=date(2026, 11, 30), n_unmeasured=100)
    assert (last[0].kind, last[0].share, last[1].share) == ("retiring", 0.0, 1.0)  # the nearer comes first
    assert any("is served until today (30 Nov 2026)" in row.text for row in last)


def test_an_unknown_price_names_the_model_and_its_rows():
    rows = found(series=series(("claude-opus-4-6", "routed", 90), ("a-model-nobody-knows", "routed", 10)))
    (row,) = [row for row in rows if row.kind == "price"]
    assert row.text.startswith("No known price for a-model-nobody-knows: 10 decisions of unknown cost.")
    assert [part.text for part in row.parts if part.is_name] == ["a-model-nobody-knows"]
    assert (row.page, row.query, row.share) == ("decisions", {"model": "a-model-nobody-knows"}, 0.1)


def test_unmeasured_and_failed_decisions_link_to_their_rows():
    rows = found(
        n_unmeasured=1,
        series=series(
            ("claude-opus-4-6", "routed", 97),
            ("gpt-4o", "classifier_timeout", 2),
            ("gpt-4o", "classifier_error", 1),
        ),
    )
    assert [(row.kind, row.query) for row in rows] == [
        ("classifier", {"cause": "classifier_timeout"}),
        ("unmeasured", {"unmeasured": "true"}),
    ]
    assert "1 decision (1.0 %) without token counts" in rows[1].text


def test_one_failed_classification_in_a_hundred_is_not_listed():
    assert found(series=series(("claude-opus-4-6", "routed", 99), ("gpt-4o", "classifier_error", 1))) == []


@pytest.mark.parametrize(
    ("zone", "words", "page"),
    [
        (
            DeadZone("never_fires", None, 0.0, 0.6, 9, 1.0, True),
            "below 0.600 nothing falls back",
            "threshold",
        ),
        (DeadZone("always_fires", None, 0.4, 1.0, 9, 1.0, True), "no confidence reaches 0.400", "threshold"),
        (
            DeadZone("never_wins", "simple", None, None, 0, 0.0, False),
            "simple never has the best score",
            "labels",
        ),
        (
            DeadZone("never_followed", "coding", 0.55, 1.0, 9, 0.1, True),
            "coding always falls back (9 dec",
            "threshold",
        ),
        (
            DeadZone("atom", "coding", 0.5512, 0.5513, 9, 0.1, True),
            "9 decisions of coding share one",
            "decisions",
        ),
    ],
)
def test_dead_zones_speak(zone, words, page):
    (row,) = found(dead_zones=[zone])
    assert words in row.text
    assert row.page == page


def test_a_silent_stretch_away_from_the_line_is_not_listed():
    assert found(dead_zones=[DeadZone("never_fires", None, 0.0, 0.3, 9, 1.0, False)]) == []


def test_lost_records_come_first_and_have_no_rows():
    rows = found(drops={"disk_full": 2, "too_long": 1}, rejects={"checksum": 1}, n_unmeasured=100)
    assert [row.kind for row in rows] == ["drops", "drops", "unmeasured"]
    assert rows[0].text == "3 records could not be written: disk full 2, too long 1."
    assert rows[1].text == "1 damaged line in the spools, kept aside: checksum 1."
    assert rows[0].page is None


def test_a_backlog_counts_only_above_one_turn():
    assert found(backlog_bytes=900_000) == []
    (row,) = found(backlog_bytes=2_300_000)
    assert row.text == "2.3 MB of new decisions are not shown yet."


def test_pairs_that_often_collide_link_to_the_pair():
    labels = POLICY.label_names
    row = {"n_priced": 0, "label_cost": 0.0, "other_cost": 0.0}
    rows = pd.DataFrame(
        [
            row | {"label": labels[2], "runner_up": labels[3], "margin_bin": 3, "n": 40},
            row | {"label": labels[0], "runner_up": labels[1], "margin_bin": 3, "n": 1},
            row | {"label": labels[0], "runner_up": labels[1], "margin_bin": 80, "n": 59},
        ]
    )
    (close,) = found(overlap=overlap(rows, labels))
    assert close.text == f"{labels[2]} and {labels[3]} are close in 40 decisions (40.0 %)."
    assert close.query == {"pair": f"{labels[2]}~{labels[3]}"}


def test_failed_calls_come_before_what_is_larger_and_link_to_their_rows():
    table = pd.DataFrame(
        [
            {"model_used": "claude-opus-4-6", "cause": "routed", "outcome": "ok", "n": 80},
            {"model_used": "claude-opus-4-6", "cause": "routed", "outcome": None, "n": 10},
            {"model_used": "claude-opus-4-6", "cause": "routed", "outcome": "rate_limited", "n": 4},
            {"model_used": "claude-opus-4-6", "cause": "routed", "outcome": "timeout", "n": 6},
        ]
    )
    rows = found(series=table, n_unmeasured=20)
    assert [row.kind for row in rows] == ["failed", "unmeasured"]
    assert rows[0].text == "10 calls (10.0 %) gave no usable reply, most often timeout."
    assert rows[0].query == {"failed": "true"}
