"""Roll-ups say what the rows say: after every batch, merge and recomputation, for every filter, at every range's ends."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace
from datetime import date, datetime, timedelta
from decimal import Decimal

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_samples import START, decision
from test_queries import opened, policy, random_log

from router.log import queries, rollups, sources
from router.log.queries import Filter
from router.policy import Model, PriceOverride
from router.prices import PriceBook, plain_tier
from router.types import PLAIN_TIERS, Attempt, Usage

RULE = policy()
FIRST = datetime(2026, 10, 20, 7, 0)


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook(RULE.models)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Decisions of six weeks over three months, in random order, with every gap."""
    rng = random.Random(7)
    made = []
    for one in random_log(11, RULE, 600):
        at = FIRST + timedelta(seconds=rng.uniform(0, 45 * 86_400))
        made.append(replace(one, decided_at=at, **tried(rng)))
    with opened(tmp_path_factory.mktemp("rollups"), made, RULE) as found:
        yield found


def tried(rng: random.Random) -> dict:
    """Attempts of a decision: none, one, or failed ones before it, whose cost is known or not."""
    failed = tuple(
        Attempt("gpt-4o", "empty", cost_usd=rng.choice([None, Decimal("0.001953125"), Decimal("0.25")]))
        for _ in range(rng.choice([0, 0, 1, 2]))
    )
    known = [x.cost_usd for x in failed if x.cost_usd is not None]
    return {
        "attempts": rng.choice([None, 1, 2]) if not failed else len(failed) + 1,
        "failed_attempts": failed,
        "failed_cost_usd": sum(known) if known else None,
    }


def tables(log) -> dict[str, list]:
    """Every roll-up, summed up and sorted."""
    found = {}
    for rollup in rollups.ROLLUPS:
        keys = ", ".join((rollup.column, *rollup.keys))
        added = ", ".join(f"{rollups.added(name)} AS {name}" for name in rollups.sums(log._con, rollup))
        rows = log.rows(f"SELECT {keys}, {added} FROM {rollup.table} GROUP BY {keys}")
        found[rollup.table] = sorted(rows, key=repr)
    return found


def refilled(log, *span) -> dict[str, list]:
    con = log._con
    con.execute("BEGIN").fetchall()
    rollups.refill(con, *span)
    con.execute("COMMIT").fetchall()
    return tables(log)


def test_what_batches_added_equals_a_recomputation(tmp_path):
    made = random_log(3, RULE, 200)
    with opened(tmp_path, made, RULE) as log:
        before = tables(log)
        assert sum(row[-1] for row in log.rows("SELECT sum(n) FROM hourly")) == len(made)
        assert log.rows("SELECT count(*) FROM hourly WHERE NOT is_delta") == [(0,)]
        assert refilled(log) == before


def test_merging_deltas_changes_no_sum_and_leaves_one_row_a_key(tmp_path):
    with opened(tmp_path, random_log(4, RULE, 200), RULE) as log:
        before = tables(log)
        assert rollups.merge(log._con, above=0) > 0
        assert tables(log) == before
        for rollup in rollups.ROLLUPS:
            keys = ", ".join((rollup.column, *rollup.keys))
            counts = log.rows(f"SELECT count(*), count(DISTINCT ({keys})) FROM {rollup.table}")
            assert counts[0][0] == counts[0][1] > 0
        assert rollups.merge(log._con, above=0) == 0


def test_few_deltas_wait_for_the_next_merge(tmp_path):
    with opened(tmp_path, [decision(1)]) as log:
        assert rollups.merge(log._con) == 0
        assert log.rows("SELECT count(*) FROM hourly WHERE is_delta") == [(1,)]


def test_a_recomputation_of_some_months_leaves_the_others_alone(log):
    before = tables(log)
    for span in (
        (date(2026, 11, 3), date(2026, 11, 4)),
        (None, date(2026, 11, 1)),
        (date(2026, 12, 1), None),
    ):
        assert refilled(log, *span) == before


FILTERS = {
    "all": Filter(),
    "hours": Filter(start=datetime(2026, 11, 2, 5), end=datetime(2026, 11, 9, 17)),
    "odd minutes": Filter(start=datetime(2026, 10, 28, 5, 13, 7), end=datetime(2026, 11, 19, 17, 59, 1)),
    "whole month": Filter(start=datetime(2026, 11, 1), end=datetime(2026, 12, 1)),
    "month and a bit": Filter(start=datetime(2026, 10, 31, 23), end=datetime(2026, 12, 1, 1)),
    "open end": Filter(start=datetime(2026, 11, 15, 3, 30)),
    "open start": Filter(end=datetime(2026, 11, 15, 3, 30)),
    "beyond the log": Filter(start=datetime(2020, 1, 1), end=datetime(2030, 1, 1)),
    "nothing": Filter(start=datetime(2026, 11, 2, 5), end=datetime(2026, 11, 2, 5, 0, 1)),
    "labels": Filter(labels=("a", "gone"), start=datetime(2026, 11, 2, 5)),
    "models": Filter(models=("gpt-4o", "own-price")),
    "cause": Filter(causes=("low_confidence", "classifier_error")),
    "policy": Filter(policy=RULE.fingerprint),
    "other policy": Filter(policy="none such"),
    "source": Filter(source="cli", start=datetime(2026, 11, 2, 5, 1)),
    "outcome": Filter(outcomes=("ok", "timeout")),
    "failed": Filter(failed=True),
    "unmeasured": Filter(unmeasured=True),
    "confidence on the grid": Filter(confidence=(0.29, 0.83)),
    "confidence off it": Filter(confidence=(0.29001, 1.0)),
    "text": Filter(text="plain"),
    "first rows": Filter(upto=100, start=datetime(2026, 11, 2)),
    "most rows": Filter(upto=590, labels=("a", "b")),
    "all rows by number": Filter(upto=600, end=datetime(2026, 11, 15, 3, 30)),
}


@pytest.mark.parametrize("chosen", FILTERS.values(), ids=FILTERS)
def test_every_query_gives_the_same_from_roll_ups_as_from_rows(log, book, chosen, monkeypatch):
    by_rollups = answers(log, chosen, book)
    original = sources.source
    with monkeypatch.context() as patch:  # the same queries, told to read rows alone
        patch.setattr(sources, "source", lambda *args, **more: original(*args, **more | {"whole": False}))
        by_rows = answers(log, chosen, book)
    for name, expected in by_rows.items():
        pd.testing.assert_frame_equal(by_rollups[name], expected, check_dtype=False, rtol=1e-9, obj=name)


def answers(log, chosen, book) -> dict[str, pd.DataFrame]:
    def ordered(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.sort_values(list(frame.columns), ignore_index=True)

    return {
        "summary": pd.DataFrame([queries.summary(log, chosen, book)]),
        "series": ordered(queries.series(log, chosen, book, width=timedelta(hours=6))),
        "minutes": ordered(queries.series(log, chosen, book, width=timedelta(minutes=15))),
        "spend": ordered(queries.spend(log, chosen, RULE, book)),
        "repriced": pd.DataFrame([asdict(queries.repriced(log, chosen, book))]),
        "cells": queries.cells(log, chosen, RULE, book),
        "pairs": queries.pairs(log, chosen, RULE, book),
        "bins": queries.bins(log, chosen),
        "count": pd.DataFrame({"n": [queries.count(log, chosen)]}),
    }


@settings(max_examples=40, deadline=None)
@given(
    start=st.one_of(st.none(), st.datetimes(datetime(2026, 10, 1), datetime(2026, 12, 20))),
    end=st.one_of(st.none(), st.datetimes(datetime(2026, 10, 1), datetime(2026, 12, 20))),
    whole_hours=st.booleans(),
)
def test_counts_are_those_of_the_rows_at_any_range(log, start, end, whole_hours):
    if whole_hours:
        start, end = (
            None if x is None else x.replace(minute=0, second=0, microsecond=0) for x in (start, end)
        )
    chosen = Filter(start=start, end=end)
    condition, values = queries.where(chosen)
    expected = log.rows(
        f"SELECT count(*), count(confidence), count(margin), count(classify_ms) FROM decisions d WHERE {condition}",
        values,
    )[0]
    found = [
        log.rows(f"SELECT coalesce(sum(n), 0) FROM ({x.sql})", x.values)[0][0]
        for x in (
            sources.source(log, chosen, "hourly", period="date_trunc('hour', d.decided_at)"),
            sources.source(log, chosen, "cells", period="CAST(d.decided_at AS DATE)"),
            sources.source(log, chosen, "margins", period="CAST(d.decided_at AS DATE)"),
            sources.source(log, chosen, "latencies", period="CAST(d.decided_at AS DATE)"),
        )
    ]
    assert tuple(int(x) for x in found) == expected


def test_a_month_in_which_a_price_changes_is_read_from_its_rows(log):
    class Changing(PriceBook):
        """A book whose price for one model doubles on 10 November."""

        def rate(self, model, day, *, tier=None):
            later = model == "own-price" and day >= date(2026, 11, 10)
            return (LATER if later else super()).rate(model, day, tier=tier)

    price = PriceOverride(Decimal("2.5"), Decimal("19.5"))
    LATER = PriceBook({"own-price": Model("own-price", "openai", price=price)})
    book = Changing(RULE.models)
    days = sources.days(log, Filter())
    assert sources.varying_months(book, ["own-price", "gpt-4o"], days) == [date(2026, 11, 1)]
    found = queries.cells(log, Filter(), RULE, book)
    rows = [
        queries.cells(log, Filter(start=a, end=b), RULE, book)
        for a, b in (
            (None, datetime(2026, 11, 10)),
            (datetime(2026, 11, 10), None),
        )
    ]
    parts = (
        pd.concat(rows)
        .groupby(["label", "bin"], as_index=False)
        .sum()
        .sort_values(["label", "bin"], ignore_index=True)
    )
    together = found.sort_values(["label", "bin"], ignore_index=True)
    for name in ("n", "n_priced", "label_cost", "label_cost_sq", "fallback_baseline"):
        pd.testing.assert_series_equal(together[name], parts[name], check_dtype=False, rtol=1e-9)
    plain = queries.cells(log, Filter(), RULE, PriceBook(RULE.models))
    assert found["label_cost"].sum() > plain["label_cost"].sum()


def test_a_price_tier_that_starts_at_no_known_step_is_read_from_rows_exactly(tmp_path):
    class Odd(PriceBook):
        """A book in which one model is dearer above 150 input tokens."""

        def rate(self, model, day, *, tier=None):
            rate = super().rate(model, day, tier=tier)
            if model != "own-price":
                return rate
            return replace(
                rate,
                tier_from=150,
                **{f"tier_{x}": Decimal(30) for x in ("input", "output", "cache_read", "cache_write")},
            )

    made = [
        decision(
            i,
            top_label="c",
            confidence=0.9,
            input_tokens=n,
            output_tokens=10,
            usage_grade="measured",
            model_used="own-price",
        )
        for i, n in enumerate((149, 150, 151, 40_000))
    ]
    book = Odd(RULE.models)
    with opened(tmp_path, made) as log:
        expected = [
            float(book.price(Usage(d.input_tokens, d.output_tokens), "own-price", d.decided_at.date()))
            for d in made
        ]
        assert queries.summary(log, Filter(), book)["cost_usd"] == pytest.approx(sum(expected), rel=1e-12)
        found = queries.cells(log, Filter(), RULE, book)
        assert found["label_cost"].sum() == pytest.approx(sum(expected), rel=1e-12)
        assert found["label_cost_sq"].sum() == pytest.approx(sum(x * x for x in expected), rel=1e-12)
        assert queries.series(log, Filter(), book, width=timedelta(days=1))[
            "cost_usd"
        ].sum() == pytest.approx(sum(expected))


def test_every_tier_of_the_installed_price_book_starts_at_a_step():
    from genai_prices.data import providers

    starts = set()
    for provider in providers:
        for model in provider.models:
            for prices in model.prices if isinstance(model.prices, list) else [model.prices]:
                for value in vars(getattr(prices, "prices", prices)).values():
                    starts |= {step.start for step in getattr(value, "tiers", [])}
    assert starts
    assert starts <= set(rollups.PRICE_BANDS)


def test_sql_and_the_price_book_take_the_same_words_for_the_list_price(log):
    words = [*sorted(PLAIN_TIERS), "flex", "priority", "batch", "Default", "", None]
    for word in words:
        assert log.rows("SELECT rate_tier($word)", {"word": word}) == [(plain_tier(word),)]


def test_writes_for_an_hour_are_taken_from_extra_only_where_they_are_a_count(log):
    for told, count in ((40, 40), (0, 0), (-5, None), (10**12, None), ("many", None), (None, None)):
        extra = json.dumps({"cache_write_1h_tokens": told})
        assert log.rows("SELECT writes_1h_in(CAST($extra AS JSON))", {"extra": extra}) == [(count,)]


def test_the_band_of_a_price_tells_every_tier_that_it_is_above(log):
    edges = sorted({x + d for x in rollups.PRICE_BANDS for d in (-1, 0, 1)} | {0, 1, 10_000_000})
    found = dict(log.rows("SELECT t, price_band(t) FROM (SELECT unnest($edges) AS t)", {"edges": edges}))
    for tokens, band in found.items():
        assert [band >= start for start in rollups.PRICE_BANDS] == [
            tokens > start for start in rollups.PRICE_BANDS
        ]


@pytest.mark.parametrize("q", [0.5, 0.95])
def test_a_quantile_from_bins_is_within_one_per_cent(tmp_path, q):
    rng = random.Random(5)
    times = sorted(rng.lognormvariate(2, 1.5) for _ in range(400))
    made = [decision(i, classify_ms=ms) for i, ms in enumerate(times)]
    with opened(tmp_path, made) as log:
        exact = queries.latency(log, Filter(), width=timedelta(days=1))
        binned = queries.latency(log, Filter(), width=timedelta(days=1), exact_rows=10)
        name = f"p{q * 100:.0f}_ms"
        there = times[max(int(q * len(times)) - 1, 0)]  # the order statistic that the bins aim at
        assert binned[name].iloc[0] == pytest.approx(there, rel=0.0101)
        assert binned["n"].tolist() == exact["n"].tolist()
        assert not queries.summary(log, Filter(), PriceBook(), exact_rows=10)["latency_exact"]


def test_rows_without_a_time_are_counted_where_no_time_is_asked_for(tmp_path):
    with opened(tmp_path, [decision(1), decision(2)]) as log:
        log._con.execute("INSERT INTO decisions(id, prompt) VALUES (uuid(), 'x')").fetchall()
        refilled(log)
        assert queries.count(log, Filter()) == 3
        assert queries.count(log, Filter(start=START - timedelta(days=1))) == 2
