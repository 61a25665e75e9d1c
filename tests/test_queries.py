"""What SQL reduces equals what Python computes row by row, with the price book, on logs of every kind."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_samples import START, decision

from router.analysis.savings import savings
from router.analysis.sweep import sweep
from router.log import Log, queries
from router.log.ingest import ingest_all
from router.log.queries import Filter
from router.log.record import decision_payload
from router.log.schema import connect
from router.log.spool import Spool
from router.log.writer import policy_payload
from router.policy import GRID, Model, Policy, PriceOverride, confidence_bin, decide
from router.prices import PriceBook
from router.types import CAUSES, UNCHARGED, Attempt, Decision, Label, Usage

LABELS = ("a", "b", "c")
MODELS = ("gpt-4o-mini", "claude-sonnet-4-5", "nobody-knows-this", "own-price")
FLEX = PriceOverride(
    Decimal("0.5"), Decimal("4.5"), Decimal("0.1"), Decimal("0.75"), cache_write_1h=Decimal("1.5")
)
OWN = {
    "own-price": Model(
        "own-price",
        "openai",
        price=PriceOverride(Decimal("1.25"), Decimal("9.75"), service_tiers={"flex": FLEX}),
    )
}
TEXTS = (
    "100% sure",
    "under_score",
    "it's; DROP TABLE decisions",
    'say "hi"',
    "plain",
    "PLAIN again",
    "",
    "nul \x00 in it",
)


def policy(**changes) -> Policy:
    labels = (
        Label("a", "first?", model="gpt-4o-mini"),
        Label("b", "second?", model="claude-sonnet-4-5", threshold=0.4),
        Label("c", "third?", model="own-price", threshold=0.75),
    )
    values = {
        "labels": labels,
        "threshold": 0.55,
        "fallback_model": "gpt-4o",
        "baseline": "claude-opus-4-6",
        "models": OWN,
    }
    return Policy(**values | changes)


def random_log(seed: int, rule: Policy, n: int = 300) -> list[Decision]:
    """Decisions with every gap that a real log has: failed classifiers, no tokens, unknown models, labels now gone."""
    rng = random.Random(seed)
    made = []
    for number in range(n):
        at = START + timedelta(hours=rng.uniform(0, 200))
        values: dict = {
            "decided_at": at,
            "prompt": rng.choice(TEXTS),
            "threshold": rule.threshold,
            "policy_fingerprint": rule.fingerprint,
            "source": rng.choice(["router", "cli"]),
        }
        if rng.random() < 0.1:
            cause = rng.choice(["classifier_error", "classifier_timeout"])
            values |= {
                "top_label": None,
                "confidence": None,
                "scores": {},
                "runner_up": None,
                "margin": None,
                "cause": cause,
                "model_chosen": rule.fallback_model,
                "classify_ms": None,
            }
        else:
            on_grid = rng.random() < 0.5
            scores = {
                x: rng.randrange(GRID + 1) / GRID if on_grid else rng.random() for x in rule.label_names
            }
            choice = decide(scores, rule)
            values |= {
                "top_label": choice.top_label,
                "confidence": choice.confidence,
                "scores": scores,
                "runner_up": choice.runner_up,
                "margin": choice.margin,
                "cause": choice.cause,
                "threshold": rule.threshold_for(choice.top_label),
                "is_fallback": choice.is_fallback,
                "model_chosen": choice.model_chosen,
                "classify_ms": rng.uniform(1, 30),
            }
            if rng.random() < 0.05:
                values |= {"top_label": "gone"}
        values["model_used"] = rng.choice(
            [values["model_chosen"], values["model_chosen"], rng.choice(MODELS), None]
        )
        values["outcome"] = rng.choice(["ok", "ok", "length", "timeout", "no_key", None])
        if rng.random() < 0.7:
            values |= {
                "input_tokens": rng.choice([0, 10, 5000, 250_000]),
                "output_tokens": rng.choice([0, 7, 900, None]),
                "cache_read_tokens": rng.choice([None, 0, 300]),
                "cache_write_tokens": rng.choice([None, 40]),
                "cache_write_1h_tokens": rng.choice([None, -5, 0, 30, 40]),
                "service_tier": rng.choice([None, None, "default", "flex", "priority", "nobody-knows-this"]),
                "usage_grade": rng.choice(["measured", "assumed"]),
            }
        if rng.random() < 0.5:
            values["cost_usd"] = Decimal(rng.randrange(10**9)) / 10**12
        if rng.random() < 0.5:
            values["classifier_cost_usd"] = Decimal("0.000012345678")
        if rng.random() < 0.2:
            price = rng.choice([None, Decimal("0.004321"), Decimal(0)])
            values |= {
                "attempts": 2,
                "failed_attempts": (Attempt("gpt-4o-mini", "timeout", cost_usd=price),),
                "failed_cost_usd": price,
            }
        made.append(decision(number, **values))
    return made


def opened(data, made: list[Decision], rule: Policy | None = None) -> Log:
    spool = Spool(data)
    if rule is not None:
        spool.append(policy_payload(rule, START))
    for one in made:
        assert spool.append(decision_payload(one))
    spool.close()
    con = connect(None)
    ingest_all(con, data)
    return Log(data, con, "spool")


def usage(d: Decision) -> Usage:
    return Usage(
        d.input_tokens,
        d.output_tokens,
        d.cache_read_tokens,
        d.cache_write_tokens,
        cache_write_1h_tokens=d.cache_write_1h_tokens,
        service_tier=d.service_tier,
    )


def cost(d: Decision, model: str | None, book: PriceBook) -> float | None:
    value = None if model is None else book.price(usage(d), model, d.decided_at.date())
    return None if value is None else float(value)


def known(d: Decision) -> bool:
    return book_known(usage(d))


def book_known(u: Usage) -> bool:
    from router.prices import countable

    return countable(u) is not None


def unanswered(d: Decision) -> bool:
    return d.outcome in UNCHARGED and not known(d)


def answered(d: Decision) -> str:
    return d.model_used or d.model_chosen


def assert_equal(frame, expected: dict, keys: list[str]) -> None:
    """A frame with these keys equals a dict of key tuples to named values, sums to 1e-9."""
    found = {}
    for row in frame.to_dict("records"):
        key = tuple(None if row[k] is None or row[k] != row[k] else row[k] for k in keys)
        assert key not in found
        found[key] = row
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        for name, value in values.items():
            assert found[key][name] == pytest.approx(value, rel=1e-9, abs=1e-9, nan_ok=True), (key, name)


RULES = [
    pytest.param(policy(), id="labels with thresholds of their own"),
    pytest.param(policy(min_margin=0.2), id="a margin rule"),
    pytest.param(policy(fallback_model="nobody-knows-this"), id="a fallback without a price"),
    pytest.param(
        policy(baseline=None, tiers=("gpt-4o-mini", "own-price")), id="the baseline is the strongest tier"
    ),
]
SEEDS = [1, 2]
KINDS = ("input", "output", "cache_read", "cache_write")


@pytest.fixture(params=[(r, s) for r in RULES for s in SEEDS], ids=lambda p: f"{p[0].id}, seed {p[1]}")
def case(request, tmp_path):
    param, seed = request.param
    rule = param.values[0]
    made = random_log(seed, rule)
    with opened(tmp_path, made, rule) as log:
        yield log, made, rule, PriceBook(rule.models)


def test_replay_reproduces_every_model_chosen(case):
    log, made, rule, _ = case
    rows = log.rows(
        "SELECT scores, model_chosen, cause, confidence, margin FROM decisions WHERE scores IS NOT NULL"
    )
    assert len(rows) == sum(bool(d.scores) for d in made) > 200
    for scores, model, cause, confidence, margin in rows:
        again = decide(scores, rule)
        assert (again.model_chosen, again.cause, again.confidence, again.margin) == (
            model,
            cause,
            confidence,
            margin,
        )


def test_summary_equals_counting_row_by_row(case):
    log, made, _, book = case
    costs = [cost(d, d.model_used, book) for d in made]
    ok = ("ok", "length", "tool_call", "refusal", "content_filter")
    timed = sorted(d.classify_ms for d in made if d.classify_ms is not None)
    middle = 0.5 * (len(timed) - 1)
    found = queries.summary(log, Filter(), book)
    expected = {
        "n": len(made),
        "n_scored": sum(d.confidence is not None for d in made),
        "n_fallback": sum(d.is_fallback for d in made),
        "n_classifier_failed": sum(d.cause in ("classifier_error", "classifier_timeout") for d in made),
        "n_failed": sum(d.outcome is not None and d.outcome not in ok for d in made),
        "n_costed": sum(c is not None for c in costs),
        "n_assumed": sum(
            c is not None and d.usage_grade == "assumed" for c, d in zip(costs, made, strict=True)
        ),
        "n_unmeasured": sum(not known(d) and not unanswered(d) for d in made),
        "n_unanswered": sum(unanswered(d) for d in made),
        "failed_cost_usd": float(sum(d.failed_cost_usd or 0 for d in made)),
        "n_failed_unknown": sum((d.attempts or 1) > 1 and d.failed_cost_usd is None for d in made),
        "n_classifier_unknown": sum(d.confidence is not None and d.classifier_cost_usd is None for d in made),
        "n_unpriced": sum(known(d) and c is None for c, d in zip(costs, made, strict=True)),
        "cost_usd": sum(c for c in costs if c is not None),
        "classifier_cost_usd": float(sum(d.classifier_cost_usd or 0 for d in made)),
        "classify_p50_ms": (timed[math.floor(middle)] + timed[math.ceil(middle)]) / 2,
    }
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, rel=1e-9), name
    assert (found["first_at"], found["last_at"]) == (
        min(d.decided_at for d in made),
        max(d.decided_at for d in made),
    )


def test_logged_costs_and_todays_are_of_the_same_answers(case):
    log, made, _, book = case
    both = [
        (d.cost_usd, now)
        for d in made
        if d.cost_usd is not None and (now := cost(d, d.model_used, book)) is not None
    ]
    found = queries.repriced(log, Filter(), book)
    assert found.n == len(both) > 5
    assert found.logged_usd == pytest.approx(float(sum(then for then, _ in both)), rel=1e-12)
    assert found.today_usd == pytest.approx(sum(now for _, now in both), rel=1e-9)
    assert found.difference_usd == found.today_usd - found.logged_usd != 0
    assert replace(found, logged_usd=found.today_usd * (1 + 1e-12)).difference_usd == 0


def test_reasons_for_what_is_left_out_sum_to_it_model_by_model(case):
    log, _, rule, book = case
    for against in (queries.baseline_of(rule), rule):
        figures = savings(queries.spend(log, Filter(), rule, book, baseline=against), "x")
        by_model: dict = defaultdict(int)
        for reason in queries.unpriced(log, Filter(), rule, book, baseline=against):
            by_model[reason.model] += reason.n
            assert reason.why()
        assert by_model == dict(figures.unpriced) and figures.n_unpriced > 10


def test_cells_equal_summing_row_by_row(case):
    log, made, rule, book = case
    base = queries.baseline_of(rule)
    expected: dict = defaultdict(lambda: defaultdict(float))
    for d in made:
        if d.confidence is None or d.top_label not in rule.by_name:
            continue
        cell = expected[d.top_label, confidence_bin(d.confidence)]
        lc, fc, bc = (cost(d, m, book) for m in (rule.by_name[d.top_label].model, rule.fallback_model, base))
        cell["n"] += 1
        priced = None not in (lc, fc, bc)
        for name in (
            "n_priced",
            "label_cost",
            "fallback_cost",
            "label_cost_sq",
            "label_fallback",
            "fallback_baseline",
            "classifier_cost",
            "n_classifier_unknown",
            "n_measured",
            "n_assumed",
        ):
            cell[name] += 0
        if priced:
            cell["n_priced"] += 1
            cell["label_cost"] += lc
            cell["fallback_cost"] += fc
            cell["label_cost_sq"] += lc * lc
            cell["label_fallback"] += lc * fc
            cell["fallback_baseline"] += fc * bc
            cell["n_classifier_unknown"] += d.classifier_cost_usd is None
            cell["classifier_cost"] += 0.0 if d.classifier_cost_usd is None else float(d.classifier_cost_usd)
            cell["n_measured"] += d.usage_grade == "measured"
            cell["n_assumed"] += d.usage_grade == "assumed"
    assert_equal(queries.cells(log, Filter(), rule, book), expected, ["label", "bin"])


def test_pairs_equal_summing_row_by_row(case):
    log, made, rule, book = case
    expected: dict = defaultdict(lambda: defaultdict(float))
    for d in made:
        if d.margin is None:
            continue
        k = max(k for k in range(101) if k / 100 <= d.margin)
        cell = expected[d.top_label, d.runner_up, k]
        own, other = (
            rule.by_name[x].model if x in rule.by_name else None for x in (d.top_label, d.runner_up)
        )
        lc, oc = cost(d, own, book), cost(d, other, book)
        priced = lc is not None and oc is not None
        cell["n"] += 1
        cell["n_priced"] += priced
        cell["label_cost"] += lc if priced else 0
        cell["other_cost"] += oc if priced else 0
    assert_equal(queries.pairs(log, Filter(), rule, book), expected, ["label", "runner_up", "margin_bin"])


def test_spend_equals_summing_row_by_row(case):
    log, made, rule, book = case
    base = queries.baseline_of(rule)
    expected: dict = defaultdict(lambda: defaultdict(float))
    for d in made:
        cell = expected[datetime(*d.decided_at.timetuple()[:3]), d.top_label, answered(d), d.cause]
        c, b = cost(d, d.model_used, book), cost(d, base, book)
        priced = c is not None and b is not None
        cell["n"] += 1
        cell["n_priced"] += priced
        cell["n_unpriced"] += not priced and not unanswered(d)
        cell["n_unanswered"] += unanswered(d)
        cell["n_cost_unknown"] += c is None and not unanswered(d)
        classifier, failed = float(d.classifier_cost_usd or 0), float(d.failed_cost_usd or 0)
        cell["classifier_cost"] += classifier if priced else 0
        cell["unmatched_cost"] += 0 if priced else classifier + (c or 0)
        cell["failed_cost"] += failed
        cell["unmatched_failed_cost"] += 0 if priced else failed
        cell["n_failed_unknown"] += (d.attempts or 1) > 1 and d.failed_cost_usd is None
        cell["n_classifier_unknown"] += d.confidence is not None and d.classifier_cost_usd is None
        cell["cost"] += c if priced else 0
        cell["cost_sq"] += c * c if priced else 0
        cell["baseline_cost"] += b if priced else 0
        cell["cost_baseline"] += c * b if priced else 0
    assert_equal(queries.spend(log, Filter(), rule, book), expected, ["day", "label", "model_used", "cause"])


@pytest.mark.parametrize("baseline", [None, "nobody-knows-this"], ids=["a baseline", "one without a price"])
@pytest.mark.parametrize(
    "chosen",
    [
        Filter(),
        Filter(failed=True),
        Filter(labels=("a",)),
        Filter(start=START + timedelta(hours=90, minutes=7)),
    ],
    ids=["everything", "failed", "one label", "since a time"],
)
def test_the_overview_and_the_savings_know_one_sum_of_all_that_was_paid(case, baseline, chosen):
    log, _, rule, book = case
    against = baseline or queries.baseline_of(rule)
    overview = queries.summary(log, chosen, book)
    found = savings(queries.spend(log, chosen, rule, book, baseline=against), against)
    parts = (overview["cost_usd"] or 0, overview["classifier_cost_usd"] or 0, overview["failed_cost_usd"])
    assert overview["paid_usd"] == pytest.approx(math.fsum(parts), rel=1e-12)
    assert found.paid_usd == pytest.approx(overview["paid_usd"], rel=1e-12)
    assert (found.n, found.n_unanswered, found.is_whole) == (
        overview["n"],
        overview["n_unanswered"],
        overview["paid_is_whole"],
    )
    if baseline is not None:
        assert found.savings_usd is None and found.baseline_usd is None and found.waterfall == ()


def test_a_log_whose_every_cost_is_known_has_whole_sums_on_both_sides(tmp_path):
    rule = policy()
    paid = {
        "input_tokens": 1000,
        "output_tokens": 10,
        "classifier_cost_usd": Decimal("0.25"),
        "outcome": "ok",
    }
    refused = {"outcome": "auth", "classifier_cost_usd": Decimal("0.25")}
    retried = paid | {
        "attempts": 2,
        "failed_attempts": (Attempt("gpt-4o-mini", "malformed", cost_usd=Decimal(2)),),
        "failed_cost_usd": Decimal(2),
    }
    with opened(tmp_path, [decision(i, **x) for i, x in enumerate((paid, retried, refused))]) as log:
        book = PriceBook(rule.models)
        overview = queries.summary(log, Filter(), book)
        found = savings(queries.spend(log, Filter(), rule, book), queries.baseline_of(rule))
    routed = 2 * float(book.price(Usage(1000, 10), "gpt-4o-mini", START.date()))
    assert overview["paid_is_whole"] and found.is_whole
    assert (overview["n_unmeasured"], overview["n_unpriced"], overview["n_unanswered"]) == (0, 0, 1)
    assert overview["paid_usd"] == pytest.approx(routed + 0.75 + 2)
    assert found.paid_usd == pytest.approx(routed + 0.75 + 2)
    assert found.unmatched_usd == pytest.approx(
        0.25
    )  # classifying what no model answered was paid, and saves nothing
    assert found.savings_usd == pytest.approx(found.baseline_usd - routed - 0.5 - 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_common_price_factor_leaves_the_share_and_not_what_was_logged_as_paid(tmp_path, seed):
    """Answers and baseline are at the price book's rates; classifier and failed attempts stay what they were."""
    models = ("gpt-4o-mini", "claude-sonnet-4-5", "own-price", "gpt-4o", "claude-opus-4-6")
    book = PriceBook(OWN)

    def times(factor: int, day) -> PriceBook:
        rates = {name: book.rate(name, day) for name in models}
        own = {
            name: Model(name, "openai", price=PriceOverride(*(getattr(rate, x) * factor for x in KINDS)))
            for name, rate in rates.items()
        }
        return PriceBook(own)

    rule = policy()
    made = random_log(seed, rule)
    plain = [
        replace(d, attempts=None, failed_attempts=(), failed_cost_usd=None, classifier_cost_usd=Decimal(0))
        for d in made
    ]
    found = {}
    for word, rows in (("plain", plain), ("failed", made)):
        with opened(tmp_path / word, rows, rule) as log:
            for factor in (1, 3):
                spend = queries.spend(log, Filter(), rule, times(factor, START.date()))
                found[word, factor] = savings(spend, queries.baseline_of(rule))
    one, three = found["plain", 1], found["plain", 3]
    assert three.paid_usd == pytest.approx(3 * one.paid_usd, rel=1e-12)
    assert three.savings_usd == pytest.approx(3 * one.savings_usd, rel=1e-12)
    assert three.savings_share == pytest.approx(one.savings_share, rel=1e-12)
    assert three.share_half == pytest.approx(one.share_half, rel=1e-9)
    one, three = found["failed", 1], found["failed", 3]
    assert three.baseline_usd == pytest.approx(3 * one.baseline_usd, rel=1e-12)
    assert three.failed_usd == one.failed_usd > 0
    assert three.classifier_usd == one.classifier_usd > 0
    assert three.savings_share > one.savings_share  # what stays is the smaller, the dearer the rest is


def chosen_by(d: Decision, rule: Policy, thresholds: Policy) -> str:
    low = d.confidence < thresholds.threshold_for(d.top_label)
    close = rule.min_margin is not None and d.margin is not None and d.margin < rule.min_margin
    return rule.fallback_model if low or close else rule.by_name[d.top_label].model


@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.8123, 1.0])
def test_flips_equal_deciding_twice_row_by_row(case, threshold):
    log, made, rule, book = case
    candidate = rule.with_threshold(threshold)
    rows = [d for d in made if d.confidence is not None and d.top_label in rule.by_name]
    expected = {}
    for d in rows:
        before, after = chosen_by(d, rule, rule), chosen_by(d, rule, candidate)
        if before != after:
            x, y = cost(d, before, book), cost(d, after, book)
            expected[d.id,] = {"cost_change": math.nan if x is None or y is None else y - x}
    found = queries.flips(log, Filter(), rule, candidate, book, limit=10_000)
    for row in found.to_dict("records"):
        change = expected.pop((row["id"],))["cost_change"]
        assert row["cost_change"] == pytest.approx(change, rel=1e-9, nan_ok=True)
    assert expected == {}
    distance = [
        abs(r["confidence"] - candidate.threshold_for(r["top_label"])) for r in found.to_dict("records")
    ]
    assert distance == sorted(distance)

    crossed: dict = defaultdict(lambda: defaultdict(float))
    for d in rows:
        old, new = rule.threshold_for(d.top_label), candidate.threshold_for(d.top_label)
        if (d.confidence < old) != (d.confidence < new):
            before, after = chosen_by(d, rule, rule), chosen_by(d, rule, candidate)
            x, y = cost(d, before, book), cost(d, after, book)
            cell = crossed[before, after]
            cell["n"] += 1
            cell["n_priced"] += x is not None and y is not None
    assert_equal(
        queries.flip_counts(log, Filter(), rule, candidate, book),
        crossed,
        ["production_model", "candidate_model"],
    )


@pytest.fixture(scope="module")
def one_log(tmp_path_factory):
    rule = policy()
    made = random_log(7, rule)
    with opened(tmp_path_factory.mktemp("log"), made, rule) as log:
        yield log, made, rule


times = st.none() | st.integers(0, 200).map(lambda h: START + timedelta(hours=h))
filters = st.builds(
    Filter,
    start=times,
    end=times,
    labels=st.lists(st.sampled_from([*LABELS, "gone"]), max_size=2).map(tuple),
    models=st.lists(st.sampled_from([*MODELS, "gpt-4o"]), max_size=2).map(tuple),
    causes=st.lists(st.sampled_from(CAUSES), max_size=2).map(tuple),
    outcomes=st.lists(st.sampled_from(["ok", "timeout"]), max_size=2).map(tuple),
    confidence=st.none()
    | st.tuples(st.integers(0, GRID), st.integers(0, GRID)).map(lambda t: (min(t) / GRID, max(t) / GRID)),
    text=st.none()
    | st.sampled_from(
        ["%", "_", "'", "; DROP", '"', "plain", "PLAIN", "\x00", "a", "$text", "\\", "no such"]
    ),
    source=st.none() | st.sampled_from(["router", "cli", "x' OR '1'='1"]),
    unmeasured=st.booleans(),
    upto=st.none() | st.integers(0, 310),
)


def matches(d: Decision, number: int, f: Filter) -> bool:
    return (
        (f.start is None or d.decided_at >= f.start)
        and (f.end is None or d.decided_at < f.end)
        and (not f.labels or d.top_label in f.labels)
        and (not f.models or answered(d) in f.models)
        and (not f.causes or d.cause in f.causes)
        and (not f.outcomes or d.outcome in f.outcomes)
        and (
            f.confidence is None
            or (
                d.confidence is not None
                and f.confidence[0] <= d.confidence
                and (d.confidence < f.confidence[1] or f.confidence[1] >= 1)
            )
        )
        and (not f.text or f.text.lower() in d.prompt.lower())
        and (f.source is None or d.source == f.source)
        and (not f.unmeasured or (not known(d) and not unanswered(d)))
        and (f.upto is None or number < f.upto)
    )


@settings(max_examples=150, deadline=None)
@given(filters)
def test_a_filter_is_the_plain_python_condition(one_log, chosen):
    log, made, _ = one_log
    condition, values = queries.where(chosen)
    found = log.rows(f"SELECT CAST(id AS VARCHAR) FROM decisions d WHERE {condition}", values)
    expected = {d.id for number, d in enumerate(made) if matches(d, number, chosen)}
    assert {x for (x,) in found} == expected
    assert queries.count(log, chosen) == len(expected)


@pytest.mark.parametrize("text", ["%", "_", "'", "; DROP TABLE decisions", "\x00"])
def test_a_text_filter_is_taken_literally(one_log, text):
    log, made, _ = one_log
    assert queries.count(log, Filter(text=text)) == sum(text in d.prompt for d in made) > 0
    assert log.count() == len(made)


def test_taking_a_condition_away_gives_the_filter_without_it():
    chosen = Filter(labels=("a",), text="x", upto=5)
    assert chosen.active == ("labels", "text")
    assert chosen.without("text") == Filter(labels=("a",), upto=5)


def test_pages_do_not_shift_when_rows_arrive(tmp_path):
    made = [decision(n) for n in range(250)]
    book = PriceBook()
    with opened(tmp_path, made) as log:
        still = Filter(upto=queries.total(log))
        before = [queries.page(log, still, book, number=n, size=100)["id"].tolist() for n in (1, 2, 3)]
        spool = Spool(tmp_path)
        for number in range(250, 400):
            spool.append(decision_payload(decision(number)))
        spool.close()
        log.refresh()
        assert log.count() == 400
        after = [queries.page(log, still, book, number=n, size=100)["id"].tolist() for n in (1, 2, 3)]
    assert before == after
    assert [x for page in after for x in page] == [d.id for d in reversed(made)]


def test_close_calls_are_the_pairs_rows_closest_first(one_log):
    log, made, _ = one_log
    found = queries.close_calls(log, Filter(), "a", "b", close=0.3, limit=1000)
    expected = [
        d
        for d in made
        if d.margin is not None and d.margin < 0.3 and {d.top_label, d.runner_up} == {"a", "b"}
    ]
    same: dict[tuple[str | None, str | None], list[Decision]] = {}
    for d in expected:
        same.setdefault((d.prompt_sha256, d.top_label), []).append(d)
    assert 1 < len(same) < len(expected)
    assert found["margin"].tolist() == sorted(min(d.margin for d in group) for group in same.values())
    for row in found.itertuples():
        one = next(d for d in expected if d.id == row.id)
        group = same[one.prompt_sha256, one.top_label]
        assert (row.n, row.margin) == (len(group), min(d.margin for d in group))


def test_one_decision_has_every_column_and_its_cost_now(one_log):
    log, made, rule = one_log
    book = PriceBook(rule.models)
    one = next(d for d in made if cost(d, d.model_used, book) is not None)
    row = queries.decision(log, one.id, book)
    assert row["cost_now"] == pytest.approx(cost(one, one.model_used, book))
    assert dict(row["scores"]) == one.scores if one.scores else True
    assert queries.decision(log, "00000000-0000-7000-8000-000000000000", book) is None


def test_a_decision_at_a_time_that_cannot_be_does_not_stop_the_queries(tmp_path):
    made = [
        decision(0),
        decision(1, decided_at=datetime(1970, 1, 1)),
        decision(2, decided_at=datetime(9999, 12, 31)),
    ]
    with opened(tmp_path, made) as log:
        assert queries.summary(log, Filter(), PriceBook())["n"] == 3


def test_policies_labels_and_models_seen_are_those_of_the_rows(one_log):
    log, made, rule = one_log
    (seen,) = queries.policies_seen(log)
    assert (seen["fingerprint"], seen["n"], seen["toml"]) == (rule.fingerprint, len(made), rule.to_toml())
    in_time = sorted(made, key=lambda d: d.decided_at)
    assert queries.labels_seen(log) == list(dict.fromkeys(d.top_label for d in in_time if d.top_label))
    assert queries.models_seen(log) == list(dict.fromkeys(answered(d) for d in in_time))


def test_losses_add_up_by_reason(tmp_path):
    spool = Spool(tmp_path)
    for n in (2, 3):
        spool.append({"kind": "drop", "spool": "x", "reason": "full", "n": n, "dropped_at": START})
    spool.close()
    (tmp_path / "spool" / "h-1-1-a.jsonl").write_bytes(b"bad\nbad\n")
    con = connect(None)
    ingest_all(con, tmp_path)
    with Log(tmp_path, con, "spool") as log:
        assert queries.losses(log) == {
            "drops": {"full": 5},
            "rejects": {"not a record": 2},
            "n_drops": 5,
            "n_rejects": 2,
        }


def test_a_classifier_that_names_no_price_and_a_retry_make_costs_a_lower_bound(tmp_path):
    rule = policy()
    label = rule.label_names[0]
    known = {
        "top_label": label, "confidence": 0.9, "scores": {label: 0.9}, "cause": "routed", "decided_at": START,
        "model_chosen": MODELS[0], "model_used": MODELS[0], "input_tokens": 10, "output_tokens": 5,
        "usage_grade": "measured", "outcome": "ok",
    }  # fmt: skip
    book = PriceBook(rule.models)
    charged, free = Attempt("x", "empty", cost_usd=Decimal("0.125")), Attempt("x", "timeout")
    cases = (
        (Decimal(0), 1, (), True, True),
        (None, 1, (), False, True),
        (Decimal(0), 2, (), True, False),
        (Decimal(0), 2, (charged,), True, True),
        (Decimal(0), 3, (charged, free), True, False),
    )
    for number, (price, attempts, failed, classifier_known, failed_known) in enumerate(cases):
        folder = tmp_path / str(number)
        made = [
            decision(
                i,
                **known,
                classifier_cost_usd=price if i else Decimal(0),
                attempts=attempts,
                failed_attempts=failed,
                failed_cost_usd=charged.cost_usd if charged in failed else None,
            )
            for i in range(2)
        ]
        with opened(folder, made) as log:
            found = savings(queries.spend(log, Filter(), rule, book), MODELS[0])
            curve = sweep(queries.cells(log, Filter(), rule, book, baseline=MODELS[0]), rule)
        assert found.n_priced == 2
        assert (found.classifier_known, found.failed_known) == (classifier_known, failed_known)
        assert bool(found.missing) is not (classifier_known and failed_known)
        assert found.failed_usd == (0.25 if charged in failed else 0)
        assert found.paid_usd == found.routed_usd + found.classifier_usd + found.failed_usd
        assert curve.classifier_known is classifier_known


def test_failed_calls_are_a_filter(tmp_path):
    outcomes = ["ok", "timeout", None, "refusal", "no_key"]
    with opened(tmp_path, [decision(i, outcome=outcome) for i, outcome in enumerate(outcomes)]) as log:
        assert queries.count(log, Filter(failed=True)) == 2
