"""The price book: what a request costs under a model on a day, in exact USD, or unknown. Never 0 for unknown.

Prices come from the policy's own ``price`` tables first, else from the installed ``genai-prices``, which is loaded on
first use. Rates are resolved once per model and day; a request is priced by itself, never a total of many, because a
long request can pay a dearer tier on all of its tokens.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cache
from importlib import metadata, resources
from itertools import product
from typing import Any, Literal

from router.policy import Model, PriceOverride
from router.types import PLAIN_TIERS, Usage

PACKAGE = "genai-prices"
MILLION = Decimal(1_000_000)
QUANTUM = Decimal("1e-12")
"""Stored money has 12 decimals: a cached batch token can cost less than 1e-7 USD."""

STALE_DAYS = 90
"""A price older than this is flagged where it is shown."""

_RELEASED = {"0.2.3": date(2026, 11, 10)}
"""Upload dates of genai-prices releases: the data carries no date of its own, so its release is the date it held."""

_RATES = ("input", "output", "cache_read", "cache_write")
_LONG = "cache_write_1h"
_SEARCHES = re.compile(r"-search-(preview|api)\b")
"""Models of chat completions that search the web in every call."""


def charges_per_search(model: str) -> bool:
    """Whether a model searches the web in every call and charges for that too, which no reply tells.

    >>> charges_per_search("gpt-4o-mini-search-preview-2025-03-11"), charges_per_search("gpt-4o-mini")
    (True, False)
    """
    return _SEARCHES.search(model.lower()) is not None


_KEYS = {name: f"{name}_mtok" for name in (*_RATES, _LONG)}


@dataclass(frozen=True, slots=True)
class Rate:
    """Prices of a model on a day, in USD per million tokens.

    Attributes
    ----------
    input, output, cache_read, cache_write : rates up to ``tier_from``. Where a source states no cache rate, cached
        tokens cost as much as uncached ones. ``cache_write`` is that of the short (5 minute) life.
    cache_write_1h : of the long life (1 hour); None where no source states one: the cost of such a request is then unknown.
        A packaged price that knows no charge for writes at all takes them for input, whatever their life.
    tier_from : a request whose input tokens, cached ones included, are *above* this pays the ``tier_*`` rates on all
        its tokens. None: one rate at every length.
    source : where the rate stands. ``as_of``: the date it is known to have held; None when nobody states one.
    version : of the source, as stored with each decision.
    service_tier : whose rates these are; "" for the plain ones.
    """

    model: str
    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write: Decimal
    source: str
    version: str
    as_of: date | None
    tier_from: int | None = None
    tier_input: Decimal | None = None
    tier_output: Decimal | None = None
    tier_cache_read: Decimal | None = None
    tier_cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    tier_cache_write_1h: Decimal | None = None
    service_tier: str = ""

    def cost(self, usage: Usage) -> Decimal | None:
        """USD of one request, exact to 12 decimals; None when its usage is unknown (see :func:`countable`)."""
        counts = countable(usage)
        if counts is None:
            return None
        total_input = counts["input"] + counts["cache_read"] + counts["cache_write"]
        prefix = "tier_" if self.tier_from is not None and total_input > self.tier_from else ""
        cost = sum((getattr(self, prefix + name) * counts[name] for name in _RATES), Decimal(0))
        if usage.cache_write_1h_tokens:
            dearer: Decimal | None = getattr(self, prefix + _LONG)
            if dearer is None:
                return None
            cost += (dearer - getattr(self, prefix + "cache_write")) * usage.cache_write_1h_tokens
        return (cost / MILLION).quantize(QUANTUM)

    def is_stale(self, today: date) -> bool:
        """Whether the rate's date is more than 90 days back; False when it has none."""
        return self.as_of is not None and (today - self.as_of).days > STALE_DAYS


def per_million(rate: Rate | None) -> str:
    """A rate in words.

    >>> per_million(PriceBook().rate("gpt-4o-mini", date(2026, 11, 1)))
    '$0.15 in, $0.60 out per million tokens'
    >>> per_million(None)
    'price not known'
    """
    return (
        "price not known"
        if rate is None
        else f"{_dollars(rate.input)} in, {_dollars(rate.output)} out per million tokens"
    )


def _dollars(value: Decimal) -> str:
    """USD with all its decimals: none, or two and more."""
    plain = f"{value.normalize():f}"
    decimals = len(plain.partition(".")[2])
    return f"${value:.2f}" if decimals == 1 else f"${plain}"


@dataclass(frozen=True, slots=True)
class EndOfLife:
    """When a provider stops serving a model. ``days_left`` is negative once that day has passed; ``successor`` "": none known."""

    model: str
    date: date
    successor: str
    source: str
    days_left: int


def countable(usage: Usage | None) -> dict[str, int] | None:
    """Token counts by rate, or None when they cannot be priced.

    Unknown are: no usage, no input or no output count, a negative count or one that is not a whole number, more writes
    that live for an hour than writes, and all counts zero (a server that leaves usage out is often read as zero). A cache
    count of None means that the
    provider does not tell cached tokens apart: all input is then priced as uncached.
    """
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    counts = {
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "cache_read": usage.cache_read_tokens or 0,
        "cache_write": usage.cache_write_tokens or 0,
    }
    long = usage.cache_write_1h_tokens or 0
    for value in (*counts.values(), long):
        if type(value) is not int or value < 0:
            return None
    if long > counts["cache_write"]:
        return None
    return counts if any(counts.values()) else None


@dataclass
class PriceBook:
    """Dated prices of models: the policy's overrides, then ``genai-prices``.

    ``overrides`` are a policy's ``models``; only those with a ``price`` or a ``provider`` matter here. An override holds
    for every day: its date says when it was looked up, not when it began.

    Examples
    --------
    >>> book = PriceBook()
    >>> book.price(Usage(500, 500), "claude-opus-4-6", date(2026, 11, 1))
    Decimal('0.015000000000')
    >>> book.price(Usage(500, 500), "a-model-nobody-knows", date(2026, 11, 1)) is None
    True
    """

    overrides: Mapping[str, Model] = field(default_factory=dict)
    _cache: dict[tuple[str, date, str], Rate | None] = field(default_factory=dict, repr=False)
    _rows: dict[tuple[str, date, str], dict[str, Any]] = field(default_factory=dict, repr=False)

    @property
    def version(self) -> str:
        """Name and version of the packaged source, as in ``genai-prices 0.2.3``."""
        return f"{PACKAGE} {_installed()}"

    @property
    def as_of(self) -> date | None:
        """Release date of the packaged source; None when this version's date is not known here."""
        return _RELEASED.get(_installed())

    @property
    def names(self) -> tuple[str, ...]:
        """Models of OpenAI and Anthropic that the packaged source knows, after the policy's own; not every name it answers to."""
        packaged = [
            model.id
            for x in _snapshot().providers
            if x.id in ("openai", "anthropic")
            for model in x.models
            if not charges_per_search(model.id)
        ]
        return (*self.overrides, *packaged)

    def rate(self, model: str, day: date, *, tier: str | None = None) -> Rate | None:
        """Prices of a model on a day (UTC); None when no source has both an input and an output price.

        ``tier``: those of a service tier, or of the provider's batch interface ("batch"); None where no source states them,
        never the plain ones: flex and batch cost half of those, priority twice, and a prepaid tier none of it. A sum that
        says "not measured" can be completed from the bill; one at the wrong rate looks right and cannot be found again.
        """
        key = (model, day, plain_tier(tier))
        if key not in self._cache:
            own = self.overrides.get(model)
            price = own.price if own is not None else None
            found = self._packaged(*key) if price is None else _from_override(model, price, key[2])
            self._cache[key] = found
        return self._cache[key]

    def tiers(self, model: str, day: date) -> tuple[str, ...]:
        """Service tiers of a model whose rates are known on a day, the plain one ("") first; without the batch interface."""
        own = self.overrides.get(model)
        if own is not None and own.price is not None:
            return ("", *own.price.service_tiers)
        try:
            _, info = _snapshot().find_provider_model(model, None, None, None)
        except LookupError:
            return ("",)
        told = dict.fromkeys(plain_tier(x.when.get("service_tier")) for x in info.price_variants or ())
        return ("", *(tier for tier in told if tier and self.rate(model, day, tier=tier) is not None))

    def price(self, usage: Usage | None, model: str, day: date) -> Decimal | None:
        """USD of one request with this usage, at its service tier, under this model on this day (UTC); None when unknown."""
        if usage is None:
            return None
        rate = self.rate(model, day, tier=usage.service_tier)
        return None if rate is None else rate.cost(usage)

    def table(
        self, models: Iterable[str], days: Iterable[date], tiers: Iterable[str | None] = (None,)
    ) -> list[dict[str, Any]]:
        """Rates as rows to join with: one per known (model, day, service tier, "" for the plain one).

        What is not known has no row, so a left join gives NULL. Rates are USD per **token** as doubles. ``cache_write_1h`` may be
        None; ``tier_from`` and the ``tier_*`` rates are without a tier; in SQL::

            CASE WHEN input_tokens + cache_read_tokens + cache_write_tokens > tier_from   -- NULL reads as false
                 THEN input_tokens * tier_input + ... ELSE input_tokens * input + ... END
        """
        dates, served = sorted(set(days)), sorted({plain_tier(tier) for tier in tiers})
        rows = []
        for model in dict.fromkeys(models):
            for day, tier in product(dates, served):
                rate = self.rate(model, day, tier=tier)
                if rate is not None:
                    key = (model, day, tier)
                    if key not in self._rows:
                        self._rows[key] = _row(rate, day)
                    rows.append(self._rows[key])
        return rows

    def provider(self, model: str) -> Literal["openai", "anthropic"] | None:
        """Whose API serves a model: the policy's word, else by its name; None when neither knows.

        A name can have a known provider and no known price: a price book is always behind the newest models.
        """
        own = self.overrides.get(model)
        name = own.provider if own is not None else None
        if name is None:
            try:
                name = _snapshot().find_provider(model.lower(), None, None).id
            except LookupError:
                return None
        return "openai" if name == "openai" else "anthropic" if name == "anthropic" else None

    def end_of_life(self, model: str, today: date) -> EndOfLife | None:
        """When a model stops being served, from our packaged table; None when no end is announced there."""
        entry = end_of_life_table().get(model.casefold())
        if entry is None:
            return None
        day: date = entry["date"]
        return EndOfLife(model, day, entry["successor"], entry["source"], (day - today).days)

    def _packaged(self, model: str, day: date, tier: str) -> Rate | None:
        if charges_per_search(model):
            return None
        try:
            _, info = _snapshot().find_provider_model(model, None, None, None)
        except LookupError:
            return None
        # A few models change price by the hour (not by our providers): a day has one rate here, that of noon UTC.
        noon = datetime.combine(day, time(12), tzinfo=UTC)
        context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier}
        if tier and not _has_variant(info, noon, context):
            return None
        prices = info.get_prices(noon, context if tier else None)
        found = {name: _base_and_tiers(getattr(prices, key, None)) for name, key in _KEYS.items()}
        if found["input"] is None or found["output"] is None:
            return None
        if found["cache_write"] is None:
            found[_LONG] = found[_LONG] or found["input"]
        for name in ("cache_read", "cache_write"):
            found[name] = found[name] or found["input"]
        starts = {start for pair in found.values() if pair is not None for start in pair[1]}
        if len(starts) > 1:
            return (
                None  # two steps or more do not fit one row of the table; unknown is better than nearly right
            )
        tier_from = starts.pop() if starts else None
        base = {name: pair[0] for name, pair in found.items() if pair is not None}
        dearer: dict[str, Decimal] = {}
        if tier_from is not None:
            dearer = {
                f"tier_{name}": pair[1].get(tier_from, pair[0])
                for name, pair in found.items()
                if pair is not None
            }
        return Rate(
            model=model,
            **base,
            source=PACKAGE,
            version=self.version,
            as_of=self.as_of,
            tier_from=tier_from,
            service_tier=tier,
            **dearer,
        )


@cache
def end_of_life_table() -> Mapping[str, Mapping[str, Any]]:
    """Return our end-of-life table: ``date``, ``successor`` and ``source`` by model name in lower case."""
    text = resources.files("router.presets").joinpath("eol.toml").read_text(encoding="utf-8")
    table = {}
    for entry in tomllib.loads(text)["models"]:
        for name in entry["names"]:
            table[name.casefold()] = entry
    return table


def _from_override(model: str, price: PriceOverride, tier: str) -> Rate | None:
    dated = f"policy {price.date.isoformat()}" if price.date is not None else "policy"
    own = price.service_tiers.get(tier) if tier else price
    if own is None:
        return None
    return Rate(
        model=model,
        **_rates_of(own),
        tier_from=None if own.long is None else own.long_above,
        **({} if own.long is None else {f"tier_{name}": x for name, x in _rates_of(own.long).items()}),
        source=price.source,
        version=dated,
        as_of=price.date,
        service_tier=tier,
    )


def _rates_of(price: PriceOverride) -> dict[str, Any]:
    return {
        "input": price.input,
        "output": price.output,
        "cache_read": price.input if price.cache_read is None else price.cache_read,
        "cache_write": price.input if price.cache_write is None else price.cache_write,
        _LONG: price.cache_write_1h,
    }


def plain_tier(tier: str | None) -> str:
    """The service tier that rates are stated for; "" for the plain rates, which have several names."""
    return "" if tier is None or tier in PLAIN_TIERS else tier


def _row(rate: Rate, day: date) -> dict[str, Any]:
    row: dict[str, Any] = {"model": rate.model, "day": day, "service_tier": rate.service_tier}
    for name in _RATES:
        row[name] = float(getattr(rate, name) / MILLION)
    row[_LONG] = None if rate.cache_write_1h is None else float(rate.cache_write_1h / MILLION)
    row["tier_from"] = rate.tier_from
    for name in (*_RATES, _LONG):
        value = getattr(rate, f"tier_{name}")
        row[f"tier_{name}"] = None if value is None else float(value / MILLION)
    return row | {"source": rate.source, "as_of": rate.as_of, "version": rate.version}


def _base_and_tiers(price: Any) -> tuple[Decimal, dict[int, Decimal]] | None:
    """Split a value of genai-prices into its base rate and its steps by start; None when it has no price."""
    if price is None:
        return None
    if isinstance(price, Decimal):
        return price, {}
    return price.base, {step.start: step.price for step in price.tiers}


def _has_variant(info: Any, when: datetime, context: Mapping[str, str]) -> bool:
    """Whether genai-prices states prices of a model for such requests at this time."""
    return any(
        variant.when == context and (variant.constraint is None or variant.constraint.active(when))
        for variant in info.price_variants or ()
    )


@cache
def _installed() -> str:
    return metadata.version(PACKAGE)


def _snapshot() -> Any:
    # Loaded here: importing genai-prices takes half a second, and a policy with its own prices never needs it.
    from genai_prices.data_snapshot import get_snapshot

    return get_snapshot()
