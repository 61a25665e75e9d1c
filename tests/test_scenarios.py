"""The guide's table is reproduced to the cent, and the rates behind it are those of the price book."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from router.analysis.scenario_file import Plan, PlanRow, read_plan
from router.analysis.scenarios import preset_plan, scenario, scenarios, work_out
from router.cli.app import app
from router.errors import InputError
from router.policy import Model, PriceOverride
from router.prices import PriceBook
from router.types import Usage

TODAY = date(2026, 11, 20)


@pytest.mark.parametrize(
    ("name", "routed", "share"),
    [("guide", Decimal("4800.00"), Decimal("0.68")), ("list-prices", Decimal("5887.50"), Decimal("0.6075"))],
)
def test_both_readings_are_exact(name, routed, share):
    found = scenario(name)
    assert (found.baseline_usd, found.routed_usd, found.savings_share) == (Decimal("15000.00"), routed, share)
    assert found.savings_usd == Decimal("15000.00") - routed
    assert sum(part.share for part in found.parts) == 1


def test_pinned_rates_are_those_of_the_price_book():
    found = scenario("list-prices")
    book = PriceBook()
    for part in found.parts:
        usage = Usage(input_tokens=part.input_tokens, output_tokens=part.output_tokens)
        each = book.price(usage, part.model, found.prices_date)
        assert each is not None
        assert each * found.requests * part.share == part.cost_usd


def test_only_the_guide_counts_a_part_as_free():
    free = {(item.name, part.label) for item in scenarios() for part in item.parts if part.free}
    assert free == {("guide", "simple")}
    assert all("free" in item.assumptions for item in scenarios())


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"guide, list-prices"):
        scenario("guides")


def test_presets_worked_out_by_the_price_book_give_the_same_cents():
    for item in scenarios():
        again = work_out(preset_plan(item.name), PriceBook(), TODAY)
        assert (again.baseline_usd, again.routed_usd) == (item.baseline_usd, item.routed_usd)
        assert again.prices_date == date(2026, 11, 1)


def plan(*rows: PlanRow, **values) -> Plan:
    return Plan(**{"requests": 1_000, "baseline": "claude-opus-4-6", "rows": rows} | values)


def test_a_scenario_of_ones_own_is_worked_out_by_hand():
    # 600 x (1,000 x $0.15 + 200 x $0.60) + 400 x (2,000 x $3 + 100 x $15), per million; classifier 1,000 x $0.0001
    own = plan(
        PlanRow("simple", Decimal("0.6"), "gpt-4o-mini", 1_000, 200),
        PlanRow("coding", Decimal("0.4"), "claude-sonnet-4-5", 2_000, 100),
        classifier_usd=Decimal("0.0001"),
        prices_date=date(2026, 11, 1),
    )
    found = work_out(own, PriceBook(), TODAY)
    assert found.routed_usd == Decimal("0.162") + Decimal("3") + Decimal("0.1")
    # all to opus, each with its own tokens: 600 x (1,000 x $5 + 200 x $25) + 400 x (2,000 x $5 + 100 x $25)
    assert found.baseline_usd == Decimal("6") + Decimal("5")
    assert found.savings_usd == found.baseline_usd - found.routed_usd


def test_the_whole_days_tokens_never_reach_a_tier_that_no_request_does():
    one = PlanRow("coding", Decimal(1), "claude-sonnet-4-5", 5_000, 0)
    found = work_out(plan(one, requests=200, prices_date=TODAY), PriceBook(), TODAY)
    assert found.routed_usd == 3  # 200 calls of 5,000 at $3 a million; one call of a million would cost $6
    long = work_out(
        plan(replace(one, input_tokens=1_000_000), requests=1, prices_date=TODAY), PriceBook(), TODAY
    )
    assert long.routed_usd == 6


def test_batch_prices_are_those_of_the_batch_interface_or_not_known():
    one = PlanRow("coding", Decimal(1), "claude-opus-4-6", 500, 500)
    found = work_out(plan(one, prices_date=TODAY), PriceBook(), TODAY)
    half = work_out(plan(replace(one, batch=True), prices_date=TODAY), PriceBook(), TODAY)
    assert half.routed_usd * 2 == found.routed_usd
    early = work_out(plan(replace(one, batch=True), prices_date=date(2026, 9, 1)), PriceBook(), TODAY)
    assert (early.routed_usd, early.unknown) == (None, ("claude-opus-4-6",))


def test_a_model_without_a_price_leaves_the_total_unknown_and_is_named():
    own = plan(
        PlanRow("simple", Decimal("0.5"), "nobody-1", 10, 10),
        PlanRow("coding", Decimal("0.5"), "claude-opus-4-6", 500, 500),
    )
    found = work_out(own, PriceBook(), TODAY)
    assert (found.routed_usd, found.savings_usd, found.savings_share) == (None, None, None)
    assert found.known_usd == Decimal("7.5")
    assert found.unknown == ("nobody-1",)
    other = work_out(replace(own, baseline="nobody-2"), PriceBook(), TODAY)
    assert (other.baseline_usd, other.unknown) == (None, ("nobody-1", "nobody-2"))


def test_the_policys_own_price_is_taken_and_says_where_it_is_from():
    price = PriceOverride(Decimal(1), Decimal(2), source="contract", date=date(2026, 6, 1))
    book = PriceBook({"nobody-1": Model("nobody-1", "openai", price=price)})
    found = work_out(plan(PlanRow("simple", Decimal(1), "nobody-1", 500, 500)), book, TODAY)
    assert found.routed_usd == Decimal("1.5")
    assert found.rates["nobody-1"].source == "contract"
    assert found.rates["nobody-1"].is_stale(TODAY)


names = st.text(min_size=1, max_size=12).filter(lambda x: x.strip() and x.isprintable())
shares = st.lists(st.integers(1, 100), min_size=1, max_size=6)


@st.composite
def plans(draw) -> Plan:
    weights = draw(shares)
    total = sum(weights)
    parts = [Decimal(w * 10_000 // total) / 10_000 for w in weights]
    parts[0] += 1 - sum(parts)
    labels = draw(st.lists(names, min_size=len(parts), max_size=len(parts), unique_by=lambda x: x.casefold()))
    counts = st.integers(0, 300_000)
    models = st.sampled_from(["gpt-4o-mini", "claude-sonnet-4-5", "claude-opus-4-6", "nobody"])
    rows = [
        PlanRow(
            label, part, draw(models), draw(counts), draw(counts), draw(st.booleans()), draw(st.booleans())
        )
        for label, part in zip(labels, parts, strict=True)
    ]
    return plan(
        *rows,
        requests=draw(st.integers(1, 10**9)),
        baseline_tokens=draw(st.none() | st.tuples(counts, counts)),
        classifier_usd=draw(st.sampled_from([Decimal(0), Decimal("0.00012")])),
        prices_date=draw(st.none() | st.just(TODAY)),
        title=draw(names),
    )


@settings(max_examples=60, deadline=None)
@given(own=plans())
def test_a_scenario_survives_being_written_and_read_and_adds_up(own):
    assert read_plan(own.to_toml(), "scenario") == own
    found = work_out(own, PriceBook(), TODAY)
    costs = [part.cost_usd for part in found.parts]
    assert all(cost is None or cost >= 0 for cost in costs)
    assert (found.routed_usd is None) == (None in costs)
    if found.routed_usd is not None:
        assert found.routed_usd == sum(costs) + found.classifier_usd
    # a request more or less of one kind: two halves of a row cost what the row does
    first, *rest = own.rows
    halves = [
        replace(first, share=first.share / 2),
        replace(first, label="other half", share=first.share / 2),
    ]
    split = work_out(replace(own, rows=(*halves, *rest)), PriceBook(), TODAY)
    assert split.routed_usd == found.routed_usd
    assert split.baseline_usd == found.baseline_usd


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("requests = 1", "baseline: missing"),
        (
            'requests = 1\nbaseline = "m\\u202e"\nrows = [{label="a", share="1", model="m"}]',
            "baseline: expected at most 128",
        ),
        (
            'requests = 1\nbaseline = "m"\nrows = [{label="a\\u200b", share="1", model="m"}]',
            r"rows\[1\].label: expected",
        ),
        ("requests = ", "not valid TOML"),
        ('colour = "red"', "colour: not a key"),
        ('requests = 10\nbaseline = "m"\nrows = [{label="a", share="0.5", model="m"}]', "shares sum to 0.5"),
        ('requests = 0\nbaseline = "m"\nrows = [{label="a", share="1", model="m"}]', "requests: found 0"),
        (
            'requests = 1\nbaseline = "m"\nrows = [{label="a", share="x", model="m"}]',
            r"rows\[1\].share: found 'x'",
        ),
        (
            'requests = 1\nbaseline = "m"\nrows = [{label="a", share="1", model="m", input=-1}]',
            "found -1 input",
        ),
        (
            'requests = 1\nbaseline = "m"\nrows = [{label="a", share="1", model="m", input=1.5}]',
            "found 1.5 input",
        ),
        ('requests = 1\nbaseline = "m"\nrows = [{label="a", share="1"}]', r"rows\[1\].model: missing"),
        ('requests = 1\nbaseline = "m"\nrows = []', "rows: found 0"),
        ('requests = 1\nbaseline = "m"\nrows = [3]', "expected a table"),
        (
            'requests = 1\nbaseline = "m"\nrows = [{label="a", share="0.5", model="m"}, {label="A", share="0.5", model="m"}]',
            "stands twice",
        ),
    ],
)
def test_a_scenario_that_makes_no_sense_says_why(text, says):
    with pytest.raises(InputError, match=says):
        read_plan(text, "own.toml")


def cli(*arguments):
    return CliRunner().invoke(app, ["scenario", *map(str, arguments)])


def test_the_command_line_gives_both_presets_to_the_cent():
    for name, routed in (("guide", "$4,800.00"), ("list-prices", "$5,887.50")):
        done = cli("--preset", name)
        assert done.exit_code == 0
        assert "$15,000.00" in done.stdout
        assert routed in done.stdout
        assert "assumed, not measured" in done.stderr


def test_the_command_line_changes_every_part_and_keeps_it_in_a_file(tmp_path):
    arguments = [
        "--requests",
        "1e6",
        "--mix",
        "simple=0.5,coding=0.3,reasoning=0.1,creative=0.1",
        "--tokens",
        "coding=500/300",
        "--model",
        "coding=claude-sonnet-5-5",
        "--model",
        "creative=gpt-4o",
        "--baseline",
        "claude-opus-5-5",
        "--baseline-tokens",
        "same",
        "--free",
        "none",
        "--batch",
        "reasoning",
        "--classifier-usd",
        "0.00001",
    ]
    found = json.loads(cli(*arguments, "--json").stdout)
    # $187.50 + 300,000 x (500 x $2 + 300 x $10) + half of 100,000 x $0.015 + 100,000 x $0.00625, and $10
    assert found["routed_usd"] == 187.5 + 1200 + 750 + 625 + 10
    assert found["baseline_usd"] == 0.7 * 12_000 + 0.3 * 8_000  # $4 and $20 a million
    file = tmp_path / "own.toml"
    file.write_text(cli(*arguments, "--toml").stdout)
    assert json.loads(cli("--file", file, "--json").stdout) == found


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--requests", "many"], "--requests: found 'many'"),
        (["--requests", "1.5"], "expected a whole number of requests"),
        (["--mix", "simple"], "--mix: found 'simple', expected LABEL=VALUE"),
        (["--mix", "simple=0.5"], "the shares sum to 0.5 (50 %), expected 1"),
        (["--mix", "other=1"], "found label 'other' without a model"),
        (["--mix", "simple=1,simple=0"], "stands twice"),
        (["--tokens", "coding=500"], "expected input and output tokens like 500/300"),
        (["--model", "codign=gpt-4o"], "found label 'codign', expected one of simple, coding, reasoning"),
        (["--prices", "yesterday"], "expected a date"),
        (["--file", "/nowhere/x.toml"], "cannot be read"),
        (["--preset", "guides"], "guide, list-prices"),
        (["--classifier-usd", "-1"], "expected a number, 0 or more"),
    ],
)
def test_bad_input_on_the_command_line_is_named(arguments, says):
    done = cli(*arguments)
    assert done.exit_code == 2
    assert says in done.stderr


def test_a_lower_bound_is_marked():
    done = cli("--mix", "simple=0.5,coding=0.5", "--free", "none", "--model", "simple=nobody")
    assert done.exit_code == 0
    assert "$3,000.00+" in done.stdout
    assert "no price is known for nobody" in done.stderr


def test_the_price_shown_is_the_one_that_a_request_of_this_size_pays():
    found = CliRunner().invoke(
        app, ["scenario", "--tokens", "reasoning=300000/100", "--model", "reasoning=gpt-6-luna"]
    )
    rate = PriceBook().rate("gpt-6-luna", date(2026, 11, 1))
    assert rate is not None and rate.tier_from is not None and rate.tier_input is not None
    [line] = [x for x in found.stdout.splitlines() if x.startswith("reasoning")]
    assert f"${rate.tier_input:.2f} in" in line and f"${rate.input:.2f} in" not in line
