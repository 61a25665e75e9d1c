"""The policy: what is wrong is named with file and key, what is right survives being written and read."""

from __future__ import annotations

import math
import tomllib
from dataclasses import replace
from datetime import date
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import PolicyError, ScoresError
from router.policy import (
    GRID,
    PRESETS,
    ClassifierPrice,
    Model,
    Policy,
    PriceOverride,
    confidence_bin,
    decide,
    grid_neighbours,
    preset_toml,
    snap,
)
from router.types import Label

PRICE = PriceOverride(Decimal(1), Decimal(2))
GOOD = """
threshold = 0.55
fallback_model = "big"
[[labels]]
name = "a"
rubric = "first?"
model = "small"
[[labels]]
name = "b"
rubric = "second?"
model = "big"
"""


def policy(**changes) -> Policy:
    return replace(Policy.from_toml(GOOD), **changes)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_four_labels_and_a_threshold(name):
    found = Policy.preset(name)
    assert found.label_names == ("simple", "coding", "reasoning", "creative")
    assert found.threshold == 0.55
    assert all(label.rubric and label.model for label in found.labels)


def test_the_seed_has_the_guides_models():
    found = Policy.preset("seed")
    assert {x.name: x.model for x in found.labels} == {
        "simple": "gpt-4o-mini",
        "coding": "claude-sonnet-4-5",
        "reasoning": "claude-opus-4-6",
        "creative": "gpt-4o",
    }


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(PolicyError, match="known: seed, current"):
        preset_toml("nope")


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ("threshold = 0.55", "", "threshold", "missing"),
        ("threshold = 0.55", "threshold = 1.5", "threshold", "found 1.5, expected a number in [0, 1]"),
        ("threshold = 0.55", "threshold = -0.1", "threshold", "found -0.1, expected a number in [0, 1]"),
        ("threshold = 0.55", "threshold = nan", "threshold", "found nan, expected a number in [0, 1]"),
        ("threshold = 0.55", "threshold = inf", "threshold", "found inf, expected a number in [0, 1]"),
        ("threshold = 0.55", 'threshold = "0.55"', "threshold", "found the text '0.55', expected a number"),
        ("threshold = 0.55", "threshold = true", "threshold", "found a bool, expected a number"),
        (
            "threshold = 0.55",
            "threshold = 0.12345",
            "threshold",
            "found 0.12345, expected a multiple of 0.0001; the neighbours are 0.1234 and 0.1235",
        ),
        (
            "threshold = 0.55",
            "threshold = 0.5\nmin_margin = 0.00005",
            "min_margin",
            "the neighbours are 0.0 and 0.0001",
        ),
        ("threshold = 0.55", "threshold = 0.5\ntreshold = 0.5", "treshold", "did you mean 'threshold'?"),
        (
            "threshold = 0.55",
            'threshold = 0.5\nclassifier = "magic"',
            "classifier",
            "found 'magic', expected one of local, scaledown",
        ),
        (
            "threshold = 0.55",
            "threshold = 0.5\ntiers = [1]",
            "tiers[1]",
            "found a int, expected the name of a model",
        ),
        ('fallback_model = "big"', "", "fallback_model", "missing"),
        ('fallback_model = "big"', 'fallback_model = " "', "fallback_model", "missing, expected the model"),
        ('fallback_model = "big"', "fallback_model = 3", "fallback_model", "found a int, expected text"),
        ('name = "b"', 'name = "a"', "labels[2].name", "'a' stands twice"),
        ('name = "b"', 'name = "A"', "labels[2].name", "'A' stands twice (also as 'a')"),
        ('name = "b"', 'name = ""', "labels[2].name", "found '', expected 1 to 64 letters"),
        ('name = "b"', 'name = "b\\u202e"', "labels[2].name", "expected 1 to 64 letters"),
        ('rubric = "second?"', 'rubric = ""', "labels[2].rubric", "empty, expected the question"),
        ('model = "small"', "", "labels[1].model", "missing, expected the model that answers 'a'"),
        (
            'model = "small"',
            'model = "small"\nthreshold = 2',
            "labels[1].threshold",
            "found 2.0, expected a number in [0, 1]",
        ),
        (
            'model = "small"',
            'model = "small"\nexamples = "all"',
            "labels[1].examples",
            "expected a list of prompts",
        ),
        (
            'model = "small"',
            'model = "small"\nexamples = "packaged"',
            "labels[1].examples",
            "no packaged examples for 'a'",
        ),
        (
            'model = "small"',
            'model = "small"\nexamples = [1]',
            "labels[1].examples",
            "expected a list of prompts",
        ),
        ('model = "small"', 'model = "small"\nweight = 1', "labels[1].weight", "known: name, rubric, model"),
        (
            GOOD,
            GOOD + '[log]\nprompts = "some"',
            "log.prompts",
            'found \'some\', expected "full", "truncated:N" with N from 1 to 100,000, "hash" or "none"',
        ),
        (GOOD, GOOD + '[log]\nprompts = "truncated:0"', "log.prompts", "found 'truncated:0'"),
        (GOOD, GOOD + "[log]\nprompts = 100", "log.prompts", "found a int, expected text"),
        (GOOD, GOOD + '[log]\nredact = "on"', "log.redact", "found 'on', expected one of off, packaged"),
        (
            GOOD,
            GOOD + '[log]\ndurability = "fsync"',
            "log.durability",
            "found 'fsync', expected one of process, async, power",
        ),
        (GOOD, GOOD + "[log]\nprompt = 1", "log.prompt", "did you mean 'prompts'?"),
        ("threshold = 0.55", "threshold = 0.55\nlog = 3", "log", "found a int, expected a table"),
        (
            'fallback_model = "big"',
            'fallback_model = "big"\nfailover = "small"',
            "failover",
            "found the text 'small', expected a list",
        ),
        (
            'fallback_model = "big"',
            'fallback_model = "big"\nfailover = [7]',
            "failover[1]",
            "found a int, expected the name",
        ),
        (
            'fallback_model = "big"',
            'fallback_model = "big"\nfailover = ["big"]',
            "failover[1]",
            "'big' is asked before already",
        ),
        (
            'fallback_model = "big"',
            'fallback_model = "big"\nfailover = ["x", " "]',
            "failover[2]",
            "empty, expected the name",
        ),
        (
            'model = "small"',
            'model = "small"\nfailover = ["x", "x"]',
            "labels[1].failover[2]",
            "'x' is asked before already",
        ),
        (
            'model = "small"',
            f'model = "small"\nfailover = {[f"m{i}" for i in range(9)]}',
            "labels[1].failover",
            "found 9 models, expected at most 8",
        ),
        (
            'model = "small"',
            'model = "small"\nfail_over = ["x"]',
            "labels[1].fail_over",
            "did you mean 'failover'?",
        ),
        (
            GOOD,
            GOOD + '[models.big]\napi = "assistants"',
            'models."big".api',
            "expected one of chat, responses",
        ),
        (
            GOOD,
            GOOD + '[models.big]\nprovider = "anthropic"\napi = "responses"',
            'models."big".api',
            "does not have; leave it out",
        ),
        (
            GOOD,
            GOOD + '[models.big]\nprovider = "acme"',
            'models."big".provider',
            "found 'acme', expected one of openai, anthropic",
        ),
        (
            GOOD,
            GOOD + '[models.big]\nbase_url = "http://u:p@h/"',
            'models."big".base_url',
            "without user, password or spaces",
        ),
        (
            GOOD,
            GOOD + '[models.big]\nbase_url = "http://host:65536/"',
            'models."big".base_url',
            "(1 to 65535)",
        ),
        (
            GOOD,
            GOOD + "[classifier_price]\nper_call = 1",
            "classifier_price",
            "the local classifier costs nothing",
        ),
        (
            "threshold = 0.55",
            'threshold = 0.5\nclassifier = "scaledown"\nclassifier_price = {per_call = -1}',
            "classifier_price.per_call",
            "found -1, expected USD, 0 or more",
        ),
        (
            "threshold = 0.55",
            'threshold = 0.5\nclassifier = "scaledown"\nclassifier_price = {per_call = "1e9"}',
            "classifier_price.per_call",
            "expected less than 1,000,000 USD with at most 12 decimals",
        ),
        (
            "threshold = 0.55",
            'threshold = 0.5\nclassifier = "scaledown"\nclassifier_price = {per_call = 1, source = ["a"]}',
            "classifier_price.source",
            "found a list, expected text",
        ),
        (
            "threshold = 0.55",
            'threshold = 0.5\nclassifier = "scaledown"\nclassifier_price = {source = "contract"}',
            "classifier_price.per_call",
            "missing, expected USD for one call",
        ),
        (
            "threshold = 0.55",
            'threshold = 0.5\nclassifier = "scaledown"\nclassifier_price = {per_call = 1, date = "today"}',
            "classifier_price.date",
            "expected a date like 2026-11-01 without quotes",
        ),
        (
            "threshold = 0.55",
            'threshold = 0.5\nclassifier = "scaledown"\nclassifier_price = {per_call = 1, each = 2}',
            "classifier_price.each",
            "known: per_call, source, date",
        ),
        (
            GOOD,
            GOOD + "[models.big]\nmax_tokens = 0",
            'models."big".max_tokens',
            "found 0, expected 1 to 1,000,000",
        ),
        (
            GOOD,
            GOOD + "[models.big]\nprice = {input = -1, output = 2}",
            'models."big".price.input',
            "found -1, expected USD per million tokens, 0 or more",
        ),
        (
            GOOD,
            GOOD + "[models.big]\nprice = {input = 1}",
            'models."big".price.output',
            "missing, expected USD",
        ),
        (
            GOOD,
            GOOD + '[models.big]\nprice = {input = 1, output = 2, date = "x"}',
            'models."big".price.date',
            "expected a date like",
        ),
        (
            GOOD,
            GOOD + "[models.big]\nprice = {input = 1, output = 2, long = {input = 2, output = 3}}",
            'models."big".price.long.above',
            "found None, expected a number of input tokens",
        ),
        (
            GOOD,
            GOOD
            + "[models.big]\nprice = {input = 1, output = 2, cache_read = 0.1, service_tier.flex = {input = 1, output = 1}}",
            'models."big".price.service_tier.flex.cache_read',
            "missing, expected USD",
        ),
        (
            GOOD,
            GOOD
            + "[models.big]\nprice = {input = 1, output = 2, service_tier.default = {input = 1, output = 1}}",
            'models."big".price.service_tier.default',
            "is the price itself",
        ),
        (GOOD, GOOD + "[models]\nbig = 1", 'models."big"', "found a int, expected a table"),
        ("[[labels]]", "[[labelz]]", "labels", "missing"),
    ],
)
def test_a_fault_names_file_key_found_and_expected(tmp_path, old, new, key, says):
    file = tmp_path / "policy.toml"
    file.write_text(GOOD.replace(old, new))
    with pytest.raises(PolicyError) as error:
        Policy.load(file)
    assert any(fault.startswith(f"{key}: ") and says in fault for fault in error.value.faults), (
        error.value.faults
    )
    assert str(error.value).startswith(f"{file}: ")


def test_all_faults_are_named_at_once():
    with pytest.raises(PolicyError) as error:
        Policy.from_toml('threshold = 2\nwhat = 1\n[[labels]]\nname = "a"\n')
    text = str(error.value)
    assert all(
        f"policy: {key}: " in text
        for key in ("threshold", "what", "fallback_model", "labels[1].rubric", "labels[1].model")
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(None, "no such file", id="missing"),
        pytest.param(b"\xff\xfe", "not UTF-8 at byte 0", id="not UTF-8"),
        pytest.param(b"a = [", "not valid TOML", id="not TOML"),
        pytest.param(b"#" * 4_000_001, "has 4,000,001 bytes, expected at most 4,000,000", id="too large"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path, content, says):
    file = tmp_path / "policy.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(PolicyError, match=says):
        Policy.load(file)
    with pytest.raises(PolicyError, match="a folder, expected a TOML file"):
        Policy.load(tmp_path)


def test_a_policy_made_in_code_is_checked_too():
    with pytest.raises(PolicyError, match="threshold: found a str"):
        policy(threshold="0.5")
    with pytest.raises(PolicyError, match="labels: found none"):
        policy(labels=())
    with pytest.raises(PolicyError, match=r"labels\[1\]: has a lone surrogate"):
        policy(labels=(Label("a", "x\ud800", model="m"),))
    with pytest.raises(PolicyError, match="found 65, expected at most 64"):
        policy(labels=tuple(Label(f"l{n}", "?", model="m") for n in range(65)))


text = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
word = text.filter(str.strip)
name = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 _.:/@-]{0,20}", fullmatch=True)
grid = st.integers(0, GRID).map(lambda k: k / GRID)
rate = st.decimals(0, 1000, places=6)
rates = st.lists(rate, min_size=5, max_size=5).map(
    lambda x: PriceOverride(*x[:4], cache_write_1h=x[4])
)  # every rate: a table inside a price states what the price does
prices = st.builds(
    PriceOverride,
    rate,
    rate,
    st.none() | rate,
    st.none() | rate,
    text,
    st.none() | st.dates(),
    st.none() | rate,
    service_tiers=st.dictionaries(word.map("tier ".__add__), rates, max_size=2),
)
prices |= st.builds(
    lambda price, at, long: replace(price, long_above=at, long=long), prices, st.integers(1, 10**6), rates
)
chain = st.lists(word.map("then ".__add__), max_size=3, unique=True).map(tuple)
models = st.lists(
    st.builds(
        Model,
        name=word,
        provider=st.sampled_from([None, "openai", "anthropic"]),
        base_url=st.sampled_from([None, "http://localhost:1/v1"]),
        key_env=st.none() | text,
        max_tokens=st.integers(1, 10**6),
        price=st.none() | prices,
        api=st.sampled_from(["chat", "responses"]),
    ).map(lambda m: replace(m, api="chat") if m.provider == "anthropic" else m),
    max_size=3,
    unique_by=lambda m: m.name,
).map(lambda found: {m.name: m for m in found})
policies = st.builds(
    Policy,
    labels=st.lists(
        st.builds(
            Label,
            name=name,
            rubric=word,
            model=word,
            examples=st.lists(word, max_size=3).map(tuple),
            threshold=st.none() | grid,
            failover=chain,
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda x: x.name.casefold(),
    ).map(tuple),
    threshold=grid,
    fallback_model=word,
    name=text,
    baseline=st.none() | word,
    classifier=st.sampled_from(["local", "scaledown"]),
    min_margin=st.none() | grid,
    tiers=st.lists(word, max_size=3).map(tuple),
    models=models,
    failover=chain,
)
policies |= st.builds(
    lambda made, *price: replace(made, classifier="scaledown", classifier_price=ClassifierPrice(*price)),
    policies,
    st.decimals(0, 9, places=6),
    word,
    st.none() | st.dates(),
)


@settings(max_examples=200, deadline=None)
@given(policies)
def test_a_policy_survives_being_written_and_read(made):
    again = Policy.from_toml(made.to_toml())
    assert again == made
    assert (again.fingerprint, again.labels_fingerprint) == (made.fingerprint, made.labels_fingerprint)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_survives_too_and_keeps_its_packaged_examples_by_name(preset):
    made = Policy.preset(preset)
    assert Policy.from_toml(made.to_toml()) == made
    assert len(made.to_toml()) < 10_000


def test_numpys_numbers_and_whole_numbers_are_written_and_counted_as_plain_ones():
    made = [policy(threshold=x, min_margin=x) for x in (0.0, 0, -0.0, np.float64(0.0))]
    assert len({p.fingerprint for p in made}) == 1
    assert {tomllib.loads(p.to_toml())["threshold"] for p in made} == {0.0}
    assert len({p.to_toml() for p in made}) == 1


def test_the_order_of_keys_does_not_change_a_fingerprint():
    lines = GOOD.strip().split("\n")
    turned = "\n".join([lines[1], lines[0], lines[2], lines[5], lines[4], lines[3], *lines[6:]])
    a, b = Policy.from_toml(GOOD), Policy.from_toml(turned)
    assert (a.fingerprint, a.labels_fingerprint) == (b.fingerprint, b.labels_fingerprint)
    big, small = Model("big", max_tokens=5), Model("small", max_tokens=6)
    assert (
        policy(models={"big": big, "small": small}).fingerprint
        == policy(models={"small": small, "big": big}).fingerprint
    )


def test_a_model_shows_nothing_of_its_url_that_may_hold_a_key():
    one = Model("big", base_url="https://gateway.example/v1?key=hidden#part", max_tokens=5)
    assert repr(one).startswith(
        "Model(name='big', provider=None, base_url='https://gateway.example/v1?...#...', key_env=None, max_tokens=5"
    )
    assert "hidden" not in repr(policy(models={"big": one}))


BASE = policy()
A, B = BASE.labels


@pytest.mark.parametrize(
    ("other", "same_policy", "same_labels"),
    [
        pytest.param(policy(name="another", source="x"), True, True, id="its name does not matter"),
        pytest.param(policy(threshold=0.5501), False, True, id="threshold"),
        pytest.param(policy(min_margin=0.0), False, True, id="margin rule"),
        pytest.param(policy(fallback_model="small"), False, True, id="fallback model"),
        pytest.param(policy(baseline="big"), False, True, id="baseline"),
        pytest.param(policy(classifier="scaledown"), False, True, id="classifier"),
        pytest.param(policy(tiers=("small", "big")), False, True, id="tiers"),
        pytest.param(policy(failover=("small",)), False, True, id="failover"),
        pytest.param(
            policy(labels=(replace(A, failover=("big",)), B)), False, True, id="failover of a label"
        ),
        pytest.param(policy(models={"x": Model("x", api="responses")}), False, True, id="API of a model"),
        pytest.param(
            policy(models={"big": Model("big", max_tokens=9)}), False, True, id="settings of a model"
        ),
        pytest.param(
            policy(models={"big": Model("big", price=PriceOverride(Decimal(1), Decimal(2)))}),
            False,
            True,
            id="price of a model",
        ),
        pytest.param(
            policy(models={"big": Model("big", price=replace(PRICE, service_tiers={"flex": PRICE}))}),
            False,
            True,
            id="price of a model by tier",
        ),
        pytest.param(policy(labels=(replace(A, model="big"), B)), False, True, id="model of a label"),
        pytest.param(policy(labels=(replace(A, threshold=0.55), B)), False, True, id="threshold of a label"),
        pytest.param(policy(labels=(replace(A, rubric="else?"), B)), False, False, id="rubric"),
        pytest.param(policy(labels=(replace(A, examples=("x",)), B)), False, False, id="examples"),
        pytest.param(policy(labels=(B, A)), False, False, id="order of labels, which breaks ties"),
        pytest.param(policy(labels=(A,)), False, False, id="one label less"),
    ],
)
def test_a_fingerprint_changes_with_what_matters_alone(other, same_policy, same_labels):
    assert (other.fingerprint == BASE.fingerprint) is same_policy
    assert (other.labels_fingerprint == BASE.labels_fingerprint) is same_labels


def test_a_policy_of_an_earlier_version_keeps_its_fingerprint():
    """Those of version 0.1: rows of the log point to them."""
    assert Policy.preset("seed").fingerprint == "073e867af2c556bc"
    assert policy(models={"big": Model("big", "openai", max_tokens=9)}).fingerprint == "fdb57345396cfed2"


def test_who_is_asked_next_goes_with_the_model_that_was_chosen():
    rule = policy(failover=("spare",), labels=(replace(A, failover=("one", "two")), B))
    assert rule.failover_for("routed", "a") == ("one", "two")
    assert rule.failover_for("routed", "b") == ()
    assert (
        rule.failover_for("low_confidence", "a") == rule.failover_for("classifier_error", None) == ("spare",)
    )
    assert rule.failover_for("forced", "a") == ()
    assert rule.model_names == ("small", "big", "one", "two", "spare")
    assert Policy.from_toml(rule.to_toml()) == rule


def test_equal_prices_written_differently_have_one_fingerprint():
    one, other = (
        policy(models={"m": Model("m", price=PriceOverride(Decimal(x), Decimal(2), date=date(2026, 1, 1)))})
        for x in ("1.10", "1.1")
    )
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    ("scores", "model", "cause", "top"),
    [
        pytest.param({"a": 0.55, "b": 0.45}, "small", "routed", "a", id="equality is served"),
        pytest.param(
            {"a": math.nextafter(0.55, 0), "b": 0.1},
            "big",
            "low_confidence",
            "a",
            id="one ulp under falls back",
        ),
        pytest.param({"a": 0.6, "b": 0.6}, "small", "routed", "a", id="a tie goes to the label listed first"),
        pytest.param({"b": 0.9, "a": 0.2, "z": 1.0}, "big", "routed", "b", id="other labels are ignored"),
        pytest.param(
            {"a": 1.0 + 1e-10, "b": 0}, "small", "routed", "a", id="a rounding above one is clipped"
        ),
        pytest.param({"a": 0, "b": 0}, "big", "low_confidence", "a", id="all zero"),
    ],
)
def test_the_rule_case_by_case(scores, model, cause, top):
    choice = decide(scores, BASE)
    assert (choice.model_chosen, choice.cause, choice.top_label) == (model, cause, top)
    assert 0 <= choice.confidence <= 1


def test_a_label_with_a_threshold_of_its_own_is_held_to_that_alone():
    own = policy(labels=(replace(A, threshold=0.2), B))
    assert decide({"a": 0.2, "b": 0.1}, own).cause == "routed"
    assert decide({"a": 0.1, "b": 0.2}, own).cause == "low_confidence"


def test_a_close_second_falls_back_under_a_margin_rule():
    ruled = policy(min_margin=0.2)
    assert decide({"a": 0.75, "b": 0.5}, ruled).cause == "routed"
    assert decide({"a": 0.75, "b": 0.625}, ruled).cause == "low_margin"
    assert decide({"a": 0.5, "b": 0.5}, ruled).cause == "low_confidence"


def test_one_label_has_neither_margin_nor_runner_up():
    choice = decide({"a": 0.9}, policy(labels=(A,), min_margin=0.5))
    assert (choice.margin, choice.runner_up, choice.cause) == (None, None, "routed")


@pytest.mark.parametrize(
    "bad", [math.nan, math.inf, -math.inf, -0.1, 1.1, "0.5", None, True, [0.5], 10**400, Decimal("0.5")]
)
def test_a_score_the_rule_cannot_use_names_its_label(bad):
    with pytest.raises(ScoresError, match="label 'b'"):
        decide({"a": 0.5, "b": bad}, BASE)


def test_a_missing_score_names_its_label():
    with pytest.raises(ScoresError, match="no score for label 'b'"):
        decide({"a": 0.5}, BASE)


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), grid, grid)
def test_a_higher_threshold_never_serves_what_a_lower_one_sent_to_fallback(a, b, low, high):
    low, high = sorted((low, high))
    scores = {"a": a, "b": b}
    assert (
        decide(scores, policy(threshold=high)).is_fallback
        >= decide(scores, policy(threshold=low)).is_fallback
    )


@given(st.floats(0, 1))
def test_the_grid_around_a_value_holds_it(value):
    low, high = grid_neighbours(value)
    assert low <= value <= high
    assert (high - low) <= 1 / GRID + 1e-12
    assert abs(snap(value) - value) <= 0.5 / GRID + 1e-12
    assert confidence_bin(snap(value)) / GRID == snap(value)


def test_the_logs_settings_survive_being_written_and_change_no_fingerprint():
    text = GOOD + '[log]\nprompts = "truncated:200"\nredact = "packaged"\ndurability = "power"\n'
    found = Policy.from_toml(text)
    assert (found.log.prompts, found.log.redact, found.log.durability) == (
        "truncated:200",
        "packaged",
        "power",
    )
    assert Policy.from_toml(found.to_toml()) == found
    assert found != Policy.from_toml(GOOD)
    assert found.fingerprint == Policy.from_toml(GOOD).fingerprint
    assert found.labels_fingerprint == Policy.from_toml(GOOD).labels_fingerprint
    assert "[log]" not in Policy.from_toml(GOOD).to_toml()


def test_an_edit_of_the_threshold_keeps_the_logs_settings():
    from router.policy_edit import with_threshold_text

    text = GOOD + '[log]\nprompts = "hash"  # by contract\n'
    changed = with_threshold_text(text, 0.6)
    assert '[log]\nprompts = "hash"  # by contract\n' in changed
    assert Policy.from_toml(changed).log.prompts == "hash"


def test_an_empty_file_is_called_empty(tmp_path):
    (tmp_path / "policy.toml").write_text("\n")
    with pytest.raises(PolicyError, match="the file is empty; remove it, or write one"):
        Policy.load(tmp_path / "policy.toml")
