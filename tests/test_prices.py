"""The price book: exact against genai-prices, unknown is never zero, ends of life agree with the SDKs."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from importlib import metadata, resources

import genai_prices
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.policy import Model, Policy, PriceOverride
from router.prices import PriceBook, end_of_life_table
from router.types import Usage

DAY = date(2026, 11, 20)
PRESETS = Policy.preset("seed").model_names + Policy.preset("current").model_names
MODELS = tuple(dict.fromkeys((*PRESETS, "claude-haiku-5-5")))
BOOK = PriceBook()
counts = st.one_of(st.integers(0, 2_000), st.integers(0, 400_000))


@settings(max_examples=400, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    fresh=counts,
    read=counts,
    write=counts,
    output=counts,
    day=st.dates(date(2025, 1, 1), date(2027, 3, 1)),
)
def test_price_equals_that_of_genai_prices_with_cached_tokens_and_tiers(
    model, fresh, read, write, output, day
):
    if fresh + read + write + output == 0:
        return
    theirs = genai_prices.calc_price(
        # genai-prices counts cached tokens inside the input, our buckets are disjoint
        genai_prices.Usage(
            input_tokens=fresh + read + write,
            cache_read_tokens=read,
            cache_write_tokens=write,
            output_tokens=output,
        ),
        model,
        genai_request_timestamp=datetime(day.year, day.month, day.day, 12),
    ).total_price
    assert BOOK.price(Usage(fresh, output, read, write), model, day) == theirs


def test_a_cache_write_that_lives_for_an_hour_has_a_price_of_its_own():
    # 70,000 x $10 + 30,000 x $6.25 + 10 x $5 + 10 x $25 per million
    usage = Usage(10, 10, None, 100_000, cache_write_1h_tokens=70_000)
    assert BOOK.price(usage, "claude-opus-4-6", DAY) == Decimal("0.8878")
    theirs = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=100_010, cache_write_tokens=100_000, cache_write_1h_tokens=70_000, output_tokens=10
        ),
        "claude-opus-4-6",
        genai_request_timestamp=datetime(2026, 11, 20, 12),
    ).total_price
    assert theirs == Decimal("0.8878")


def test_without_a_price_for_an_hour_in_the_cache_the_cost_is_unknown():
    usage = Usage(10, 10, None, 100, cache_write_1h_tokens=100)
    own = Model("own", price=PriceOverride(Decimal(1), Decimal(2), cache_write=Decimal("1.25")))
    book = PriceBook({"own": own})
    assert book.price(usage, "own", DAY) is None
    assert book.price(usage, "gpt-6-sol", DAY) is None
    # A source that states no charge for writes at all: 110 x $2.50 + 10 x $10 per million, as genai-prices has it too.
    assert book.price(usage, "gpt-4o", DAY) == Decimal("0.000375")
    assert book.price(Usage(10, 10, None, 100), "own", DAY) == Decimal("0.000155")


def test_hand_worked_price_of_the_guides_dearest_model():
    # 500 x $5 and 500 x $25 per million
    assert BOOK.price(Usage(500, 500), "claude-opus-4-6", DAY) == Decimal("0.015")


@pytest.mark.parametrize(
    ("fresh", "read", "expected"),
    [
        (200_000, 0, Decimal("0.600015")),  # 200,000 x $3 + 1 x $15 per million: the edge pays the lower rate
        (200_001, 0, Decimal("1.2000285")),  # 200,001 x $6 + 1 x $22.50
        (
            1,
            200_000,
            Decimal("0.1200285"),
        ),  # cached tokens count for the edge: 200,000 x $0.60 + 1 x $6 + 1 x $22.50
    ],
)
def test_a_request_above_the_edge_pays_the_dearer_tier_on_all_its_tokens(fresh, read, expected):
    assert BOOK.price(Usage(fresh, 1, read), "claude-sonnet-4-5", DAY) == expected


@pytest.mark.parametrize(
    "usage",
    [
        None,
        Usage(None, None),
        Usage(10, None),
        Usage(None, 10),
        Usage(0, 0),
        Usage(0, 0, 0, 0),
        Usage(-1, 10),
        Usage(10, 10, -5),
        Usage(True, 10),
        Usage("10", 10),  # type: ignore[arg-type]
        Usage(10.5, 10),  # type: ignore[arg-type]
        Usage(10, 10, None, 5, cache_write_1h_tokens=-100_000),
        Usage(10, 10, None, 5, cache_write_1h_tokens=2.5),  # type: ignore[arg-type]
        Usage(10, 10, None, 5, cache_write_1h_tokens=6),
    ],
    ids=str,
)
def test_a_usage_that_says_nothing_or_contradicts_itself_has_no_price(usage):
    assert BOOK.price(usage, "gpt-4o", DAY) is None


@pytest.mark.parametrize("model", ["", "gpt-99-nobody", "llama-3", "gpt-4o ", "text-embedding-3-small"])
def test_an_unknown_model_has_no_price_and_no_row(model):
    assert BOOK.rate(model, DAY) is None
    assert BOOK.price(Usage(10, 10), model, DAY) is None
    assert BOOK.table([model], [DAY]) == []


def test_a_price_that_changed_is_the_one_of_its_day():
    # o3 fell from $10/$40 to $2/$8 per million in June 2025
    assert BOOK.price(Usage(1_000_000, 0), "o3", date(2025, 5, 1)) == 10
    assert BOOK.price(Usage(1_000_000, 0), "o3", date(2025, 8, 1)) == 2


def test_an_override_wins_with_its_own_source_and_date():
    price = PriceOverride(Decimal("1.5"), Decimal(2), source="contract", date=date(2026, 9, 1))
    book = PriceBook({"gpt-4o": Model("gpt-4o", price=price), "own": Model("own", "openai", price=price)})
    rate = book.rate("gpt-4o", DAY)
    assert rate is not None
    assert (rate.source, rate.as_of, rate.version) == ("contract", date(2026, 9, 1), "policy 2026-09-01")
    # no cache rate stated: cached tokens cost as much as others; 30 x $1.50 + 10 x $2
    assert book.price(Usage(10, 10, 10, 10), "own", DAY) == Decimal("0.000065")
    assert not rate.is_stale(date(2026, 11, 30))
    assert rate.is_stale(date(2026, 12, 1))


@settings(max_examples=200, deadline=None)
@given(model=st.sampled_from(MODELS), fresh=counts, read=counts, write=counts, output=counts)
def test_the_table_of_doubles_prices_as_the_book_does(model, fresh, read, write, output):
    exact = BOOK.price(Usage(fresh, output, read, write), model, DAY)
    if exact is None:
        return
    (row,) = BOOK.table([model], [DAY, DAY])
    tier = "tier_" if row["tier_from"] is not None and fresh + read + write > row["tier_from"] else ""
    cost = (
        fresh * row[tier + "input"]
        + read * row[tier + "cache_read"]
        + write * row[tier + "cache_write"]
        + output * row[tier + "output"]
    )
    assert cost == pytest.approx(float(exact), rel=1e-12, abs=1e-15)


def test_a_rate_names_version_and_release_date():
    rate = BOOK.rate("gpt-4o", DAY)
    assert rate is not None
    assert rate.version == BOOK.version == f"genai-prices {metadata.version('genai-prices')}"
    assert rate.as_of == BOOK.as_of
    if metadata.version("genai-prices") == "0.2.3":
        assert BOOK.as_of == date(2026, 11, 10)


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o", "openai"),
        ("claude-opus-4-6", "anthropic"),
        ("gpt-6.2-sol", "openai"),
        ("claude-next", "anthropic"),
        ("gemini-2.5-pro", None),
        ("my-llm", None),
    ],
)
def test_provider_by_name(model, provider):
    assert BOOK.provider(model) == provider


def test_the_policy_names_the_provider_first():
    assert PriceBook({"gpt-x": Model("gpt-x", "anthropic"), "my-llm": Model("my-llm", "openai")}).provider(
        "gpt-x"
    ) == ("anthropic")


def test_every_model_of_the_presets_has_a_price_and_a_provider():
    for name in ("seed", "current"):
        policy = Policy.preset(name)
        book = PriceBook(policy.models)
        for model in policy.model_names:
            assert book.rate(model, DAY) is not None, model
            assert book.provider(model) is not None, model


def test_end_of_life_counts_the_days_and_names_the_successor():
    end = BOOK.end_of_life("claude-sonnet-4-5", date(2026, 11, 25))
    assert end is not None
    assert (end.date, end.days_left, end.successor) == (date(2026, 11, 30), 5, "claude-sonnet-5-5")
    late = BOOK.end_of_life("GPT-4o-mini", date(2027, 1, 15))
    assert late is not None
    assert late.days_left == -1
    assert BOOK.end_of_life("claude-opus-5-5", DAY) is None


def test_no_successor_is_itself_about_to_be_retired():
    for entry in end_of_life_table().values():
        assert entry["successor"].casefold() not in end_of_life_table()
        if entry["successor"]:
            assert BOOK.rate(entry["successor"], DAY) is not None


def _said_by_anthropic() -> dict[str, date]:
    from anthropic._data import DEPRECATED_MODELS

    plain = {name: re.sub(r"(\d)(st|nd|rd|th),", r"\1,", text) for name, text in DEPRECATED_MODELS.items()}
    return {name: datetime.strptime(text, "%B %d, %Y").date() for name, text in plain.items()}


def _said_by_openai() -> dict[str, date]:
    from openai.types.shared import chat_model

    said = {}
    for item in inspect.getsource(chat_model).split('"""')[1].split("\n- "):
        found = re.search(r"shutdown\s+date:\s+(\d{4}-\d\d-\d\d)", item)
        if found:
            said |= dict.fromkeys(
                re.findall(r'"([^"]+)"', item[: found.start()]), date.fromisoformat(found[1])
            )
    return said


@pytest.mark.parametrize(("sdk", "said"), [("anthropic", _said_by_anthropic), ("openai", _said_by_openai)])
def test_end_of_life_table_agrees_with_the_installed_sdk(sdk, said):
    dates = said()
    assert len(dates) >= 3
    ours = {
        name: entry["date"] for name, entry in end_of_life_table().items() if entry["source"].startswith(sdk)
    }
    assert {name: day for name, day in ours.items() if dates.get(name, day) != day} == {}
    raw = tomllib.loads(resources.files("router.presets").joinpath("eol.toml").read_text("utf-8"))
    missing = {name for name in PRESETS if name in dates} - ours.keys()
    if metadata.version(sdk) == raw["read_from"][sdk]:
        missing |= {name for name, day in dates.items() if day > raw["read_from"]["date"]} - ours.keys()
    assert missing == set()


def test_building_a_book_loads_no_price_data():
    code = (
        "import sys; from router.policy import Policy; from router.prices import PriceBook; "
        "p = Policy.preset('seed'); b = PriceBook(p.models); b.version; b.provider('gpt-4o'); "
        "assert 'genai_prices' not in sys.modules and 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


EARLY, LATE = date(2025, 6, 1), date(2027, 3, 1)


@settings(max_examples=200, deadline=None)
@given(
    model=st.sampled_from((*MODELS, "nobody")),
    fresh=counts,
    read=counts,
    write=counts,
    output=counts,
    day=st.dates(EARLY, LATE),
    batch=st.booleans(),
)
def test_a_cost_is_unknown_or_at_least_zero_and_never_zero_for_tokens(
    model, fresh, read, write, output, day, batch
):
    usage = Usage(fresh, output, read, write, service_tier="batch" if batch else None)
    cost = BOOK.price(usage, model, day)
    if model == "nobody" or fresh + read + write + output == 0:
        assert cost is None
    else:
        assert cost is None or cost > 0


@settings(max_examples=200, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    parts=st.lists(st.tuples(*[st.integers(0, 3_000)] * 4), min_size=1, max_size=8),
    cut=st.integers(0, 8),
)
def test_costs_of_requests_add_up_over_any_split(model, parts, cut):
    usages = [Usage(a, d, b, c) for a, b, c, d in parts if a + b + c + d]
    costs = [BOOK.price(usage, model, DAY) for usage in usages]
    one, other = sum(costs[:cut], Decimal(0)), sum(costs[cut:], Decimal(0))
    assert one + other == sum(costs, Decimal(0))
    # Below every tier the price is linear, so the sum of the tokens costs what the requests do.
    whole = (
        Usage(
            *(
                sum(x)
                for x in zip(
                    *[
                        (u.input_tokens, u.output_tokens, u.cache_read_tokens, u.cache_write_tokens)
                        for u in usages
                    ],
                    strict=True,
                )
            )
        )
        if usages
        else None
    )
    if whole is not None:
        assert BOOK.price(whole, model, DAY) == one + other


@settings(max_examples=200, deadline=None)
@given(
    model=st.sampled_from(MODELS), fresh=st.integers(1, 90_000), moved=st.integers(0, 90_000), output=counts
)
def test_a_cached_token_is_counted_once(model, fresh, moved, output):
    moved = min(fresh, moved)
    rate = BOOK.rate(model, DAY)
    assert rate is not None
    plain, cached = (BOOK.price(Usage(fresh - n, output, n), model, DAY) for n in (0, moved))
    assert cached - plain == (rate.cache_read - rate.input) * moved / 1_000_000
    assert cached <= plain


@pytest.mark.parametrize("model", PRESETS)
def test_batch_prices_are_those_of_genai_prices_and_unknown_before_there_were_any(model):
    usage = genai_prices.Usage(input_tokens=1_000, output_tokens=200)
    theirs = genai_prices.calc_price(
        usage,
        model,
        genai_request_timestamp=datetime(2026, 11, 20, 12),
        price_context={"processing": "batch"},
    ).total_price
    batch = Usage(1_000, 200, service_tier="batch")
    assert BOOK.price(batch, model, DAY) == theirs
    assert theirs < BOOK.price(Usage(1_000, 200), model, DAY)
    if model == "gpt-4o":  # its batch prices are stated from 14 October 2026 on
        assert BOOK.price(batch, model, date(2026, 9, 1)) is None


def test_an_own_price_says_nothing_of_tiers_that_it_does_not_state():
    price = PriceOverride(Decimal(1), Decimal(2))
    book = PriceBook({"gpt-4o": Model("gpt-4o", price=price)})
    for tier in ("batch", "flex", "priority"):
        assert book.price(Usage(1, 1, service_tier=tier), "gpt-4o", DAY) is None
    assert book.price(Usage(1, 1, service_tier="default"), "gpt-4o", DAY) == Decimal("0.000003")


@pytest.mark.parametrize(
    ("model", "tier", "expected"),
    [
        # 1,000 in and 200 out at the rates of OpenAI's price list, USD per million
        ("gpt-4o", None, Decimal("0.0045")),  # $2.50, $10
        ("gpt-4o", "default", Decimal("0.0045")),
        ("gpt-4o", "auto", Decimal("0.0045")),  # what some servers echo says nothing
        ("gpt-4o", "priority", Decimal("0.00765")),  # $4.25, $17
        ("gpt-4o", "batch", Decimal("0.00225")),  # $1.25, $5
        ("gpt-4o", "flex", None),  # not offered
        ("gpt-5.5", "flex", Decimal("0.0055")),  # $2.50, $15
        ("gpt-5.5", "scale", None),  # prepaid
        ("claude-opus-4-6", "standard", Decimal("0.01")),  # $5, $25
        ("claude-opus-4-6", "batch", Decimal("0.005")),
        ("claude-opus-4-6", "priority", None),  # a contract's price
    ],
)
def test_a_call_is_priced_at_its_service_tier_or_not_at_all(model, tier, expected):
    assert BOOK.price(Usage(1_000, 200, service_tier=tier), model, DAY) == expected
    priority = Usage(1_000, 200, service_tier="priority")
    assert BOOK.price(priority, model, date(2026, 9, 1)) is None  # no price of it is known so early


def test_an_own_price_may_state_long_requests_writes_for_an_hour_and_tiers():
    toml = """
threshold = 0.5
fallback_model = "own"
labels = [{ name = "a", rubric = "?", model = "own" }]
[models.own.price]
input = "1"
output = "10"
cache_read = "0.1"
cache_write = "1.25"
cache_write_1h = "2"
long = { above = 1000, input = "2", output = "15", cache_read = "0.2", cache_write = "2.5", cache_write_1h = "4" }
[models.own.price.service_tier.flex]
input = "0.5"
output = "5"
cache_read = "0.05"
cache_write = "0.6"
cache_write_1h = "0.9"
"""
    rule = Policy.from_toml(toml)
    book = PriceBook(rule.models)
    usage = Usage(100, 10, 200, 300, cache_write_1h_tokens=100)
    # 100 x 1 + 10 x 10 + 200 x 0.1 + 200 x 1.25 + 100 x 2, per million
    assert book.price(usage, "own", DAY) == Decimal("0.00067")
    # 100 x 0.5 + 10 x 5 + 200 x 0.05 + 200 x 0.6 + 100 x 0.9
    assert book.price(replace(usage, service_tier="flex"), "own", DAY) == Decimal("0.00032")
    # 501 + 200 + 300 = 1,001 input tokens: 501 x 2 + 10 x 15 + 200 x 0.2 + 200 x 2.5 + 100 x 4
    assert book.price(replace(usage, input_tokens=501), "own", DAY) == Decimal("0.002092")
    assert book.price(replace(usage, input_tokens=500), "own", DAY) == Decimal("0.00107")
    assert Policy.from_toml(rule.to_toml()) == rule


@pytest.mark.parametrize(
    "model", ["gpt-4o-search-preview", "gpt-4o-mini-search-preview-2025-03-11", "gpt-5-search-api"]
)
def test_a_model_that_searches_in_every_call_has_no_known_price_but_the_policys_own(model: str) -> None:
    usage, day = Usage(500, 500), date(2026, 11, 1)
    assert PriceBook().rate(model, day) is None
    assert PriceBook().price(usage, model, day) is None
    assert PriceBook().provider(model) == "openai"
    own = {model: Model(model, price=PriceOverride(Decimal(1), Decimal(2)))}
    assert PriceBook(own).price(usage, model, day) == Decimal("0.0015")
