"""The guide's savings table, twice: with the figures it prints, and at list prices. Exact, with its assumptions."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

from router.errors import InputError

MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Part:
    """One line of a scenario: a share of the requests, all to one model with one token shape.

    ``cost_usd`` is the day's; a ``free`` part costs nothing because the guide counts it so, not because a price is unknown.
    """

    label: str
    share: Decimal
    model: str
    input_tokens: int
    output_tokens: int
    free: bool
    cost_usd: Decimal


@dataclass(frozen=True, slots=True)
class Scenario:
    """A day of assumed traffic, routed and not. Money is exact USD a day.

    ``assumptions`` says in words what the figures rest on; ``prices_date`` is the day its rates were looked up.
    """

    name: str
    title: str
    assumptions: str
    requests: int
    baseline: str
    baseline_usd: Decimal
    parts: tuple[Part, ...]
    prices_date: date
    prices_source: str

    @property
    def routed_usd(self) -> Decimal:
        """What the routed day costs."""
        return sum((part.cost_usd for part in self.parts), Decimal(0))

    @property
    def savings_usd(self) -> Decimal:
        """Baseline minus routed."""
        return self.baseline_usd - self.routed_usd

    @property
    def savings_share(self) -> Decimal:
        """Savings as a share of the baseline."""
        return self.savings_usd / self.baseline_usd


@cache
def scenarios() -> tuple[Scenario, ...]:
    """Every packaged scenario, the guide's own figures first."""
    text = resources.files("router.presets").joinpath("scenarios.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    return tuple(_scenario(entry, document["prices"]) for entry in document["scenarios"])


def scenario(name: str) -> Scenario:
    """The scenario of this name.

    Raises
    ------
    InputError
        There is none; says which there are.
    """
    known = {item.name: item for item in scenarios()}
    if name not in known:
        raise InputError(f"found scenario {name[:40]!r}, expected one of {', '.join(known)}")
    return known[name]


def _scenario(entry: dict[str, Any], prices: dict[str, Any]) -> Scenario:
    def cost(model: str, requests: Decimal, tokens: dict[str, Any]) -> Decimal:
        rate = prices["rates"][model]
        each = Decimal(rate["input"]) * tokens["input"] + Decimal(rate["output"]) * tokens["output"]
        return Decimal(requests * each / MILLION)

    requests = Decimal(entry["requests"])
    parts = tuple(
        Part(
            label=row["label"],
            share=Decimal(row["share"]),
            model=row["model"],
            input_tokens=row["input"],
            output_tokens=row["output"],
            free=row.get("free", False),
            cost_usd=Decimal(0)
            if row.get("free")
            else cost(row["model"], requests * Decimal(row["share"]), row),
        )
        for row in entry["rows"]
    )
    return Scenario(
        name=entry["name"],
        title=entry["title"],
        assumptions=entry["assumptions"],
        requests=entry["requests"],
        baseline=entry["baseline"],
        baseline_usd=cost(entry["baseline"], requests, entry["baseline_tokens"]),
        parts=parts,
        prices_date=prices["date"],
        prices_source=prices["source"],
    )
