"""Assumed traffic, routed and not: the guide's savings table twice, and scenarios of a reader's own. Exact, with words.

A scenario says how many requests a day, which share of them is what, which model answers it and with how many tokens.
Prices come from the price book on the scenario's date; the two packaged ones hold theirs, so that they never change.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

from router.analysis.scenario_file import Plan, PlanRow, plan_from
from router.errors import InputError
from router.prices import PriceBook, Rate
from router.types import Usage

DAYS = 30
"""Days of the month that a day of traffic is multiplied with."""


@dataclass(frozen=True, slots=True)
class Part:
    """One line of a scenario: a share of the requests, all to one model with one token shape.

    ``cost_usd`` is the day's, None when the price is not known; a ``free`` part costs nothing because the scenario counts it
    so. ``rate`` is None when the price is not known.
    """

    label: str
    share: Decimal
    model: str
    input_tokens: int
    output_tokens: int
    free: bool
    cost_usd: Decimal | None
    batch: bool = False
    rate: Rate | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """A day of assumed traffic, routed and not. Money is exact USD a day, None when a price behind it is not known.

    ``assumptions`` says in words what the figures rest on; ``prices_date`` is the day whose rates were taken.
    ``unknown`` names the models without a known price.
    """

    name: str
    title: str
    assumptions: str
    requests: int
    baseline: str
    baseline_usd: Decimal | None
    parts: tuple[Part, ...]
    classifier_usd: Decimal
    prices_date: date
    prices_source: str
    baseline_rate: Rate | None = None
    unknown: tuple[str, ...] = ()

    @property
    def known_usd(self) -> Decimal:
        """What the parts with a known price and the classifier cost: all of the routed day, or a lower bound of it."""
        return sum((x.cost_usd for x in self.parts if x.cost_usd is not None), self.classifier_usd)

    @property
    def routed_usd(self) -> Decimal | None:
        """What the routed day costs."""
        return None if any(part.cost_usd is None for part in self.parts) else self.known_usd

    @property
    def savings_usd(self) -> Decimal | None:
        """Baseline minus routed."""
        routed = self.routed_usd
        return None if self.baseline_usd is None or routed is None else self.baseline_usd - routed

    @property
    def savings_share(self) -> Decimal | None:
        """Savings as a share of the baseline."""
        saved = self.savings_usd
        return saved / self.baseline_usd if saved is not None and self.baseline_usd else None

    @property
    def rates(self) -> dict[str, Rate]:
        """Every rate behind the figures, by model; of the batch interface under ``model (batch)``."""
        found = {} if self.baseline_rate is None else {self.baseline: self.baseline_rate}
        for part in self.parts:
            if part.rate is not None and not part.free:
                found[f"{part.model} (batch)" if part.batch else part.model] = part.rate
        return found


def scenarios() -> tuple[Scenario, ...]:
    """Every packaged scenario at the prices it holds, the guide's own figures first."""
    return tuple(_packaged().values())


def scenario(name: str) -> Scenario:
    """The packaged scenario of this name, at the prices it holds.

    Raises
    ------
    InputError
        There is none; says which there are.
    """
    return _packaged()[_known(name)]


def preset_plan(name: str) -> Plan:
    """What a packaged scenario assumes, to start one's own from.

    Raises
    ------
    InputError
        There is none; says which there are.
    """
    return _plans()[_known(name)]


def work_out(plan: Plan, prices: PriceBook, day: date) -> Scenario:
    """Costs of a plan at the price book's rates of its date, else of ``day``.

    Every request is priced by itself, so a long one pays its model's dearer tier. A part whose price is not known has no
    cost, and then the routed day has none either.
    """
    when = plan.prices_date or day
    rates = {
        (row.model, row.batch): prices.rate(row.model, when, tier="batch" if row.batch else None)
        for row in (*plan.rows, PlanRow("", Decimal(0), plan.baseline, 0, 0))
    }
    return _costs(plan, rates, when, prices.version)


def _costs(plan: Plan, rates: Mapping[tuple[str, bool], Rate | None], when: date, source: str) -> Scenario:
    requests = Decimal(plan.requests)

    def cost(rate: Rate | None, share: Decimal, tokens: tuple[int, int]) -> Decimal | None:
        if tokens == (0, 0):
            return Decimal(0)
        each = None if rate is None else rate.cost(Usage(*tokens, grade="assumed"))
        return None if each is None else requests * share * each

    at_base = rates[(plan.baseline, False)]
    if plan.baseline_tokens is not None:
        base = [cost(at_base, Decimal(1), plan.baseline_tokens)]
    else:
        base = [cost(at_base, row.share, (row.input_tokens, row.output_tokens)) for row in plan.rows]
    parts = []
    for row in plan.rows:
        rate = rates[(row.model, row.batch)]
        day = Decimal(0) if row.free else cost(rate, row.share, (row.input_tokens, row.output_tokens))
        parts.append(
            Part(
                label=row.label,
                share=row.share,
                model=row.model,
                input_tokens=row.input_tokens,
                output_tokens=row.output_tokens,
                free=row.free,
                cost_usd=day,
                batch=row.batch,
                rate=rate,
            )
        )
    lacking = [part.model for part in parts if part.cost_usd is None]
    known = [x for x in base if x is not None]
    return Scenario(
        name=plan.name,
        title=plan.title,
        assumptions=plan.assumptions or in_words(plan),
        requests=plan.requests,
        baseline=plan.baseline,
        baseline_usd=sum(known, Decimal(0)) if len(known) == len(base) else None,
        parts=tuple(parts),
        classifier_usd=requests * plan.classifier_usd,
        prices_date=when,
        prices_source=source,
        baseline_rate=at_base,
        unknown=tuple(dict.fromkeys(lacking + ([] if len(known) == len(base) else [plan.baseline]))),
    )


def in_words(plan: Plan) -> str:
    """What a plan assumes, as sentences."""
    base = "each with the tokens of its own line"
    if plan.baseline_tokens is not None:
        base = f"each with {plan.baseline_tokens[0]:,} input and {plan.baseline_tokens[1]:,} output tokens"
    lines = []
    for row in plan.rows:
        how = (
            "counted as free"
            if row.free
            else f"to {row.model}{' by its batch interface' if row.batch else ''}"
        )
        lines.append(
            f"{(row.share * 100).normalize():f} % {row.label} {how} ({row.input_tokens:,} in, {row.output_tokens:,} out)"
        )
    paid = (
        "Nothing for the classifier"
        if not plan.classifier_usd
        else f"${plan.classifier_usd.normalize():f} a request for the classifier"
    )
    return (
        f"{plan.requests:,} requests a day. Not routed: all to {plan.baseline}, {base}. Routed: {', '.join(lines)}. "
        f"{paid}, nothing for retries or failed attempts."
    )


def _known(name: str) -> str:
    if name not in _plans():
        raise InputError(f"found scenario {name[:40]!r}, expected one of {', '.join(_plans())}")
    return name


@cache
def _document() -> dict[str, Any]:
    text = resources.files("router.presets").joinpath("scenarios.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def _plans() -> dict[str, Plan]:
    date_ = _document()["prices"]["date"]
    plans = (plan_from(entry, f"preset {entry['name']}") for entry in _document()["scenarios"])
    return {plan.name: replace(plan, prices_date=date_) for plan in plans}


@cache
def _packaged() -> dict[str, Scenario]:
    prices = _document()["prices"]
    rates: dict[tuple[str, bool], Rate | None] = {}
    for model, rate in prices["rates"].items():
        fresh, output = Decimal(rate["input"]), Decimal(rate["output"])
        rates[(model, False)] = Rate(
            model, fresh, output, fresh, fresh, prices["source"], "preset", prices["date"]
        )
    return {name: _costs(plan, rates, prices["date"], prices["source"]) for name, plan in _plans().items()}
