"""The guide's table is reproduced to the cent, and the rates behind it are those of the price book."""

from decimal import Decimal

import pytest

from router.analysis.scenarios import scenario, scenarios
from router.errors import InputError
from router.prices import PriceBook
from router.types import Usage


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
