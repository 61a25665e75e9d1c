"""A policy out of parsed TOML: every key known, every type right, all faults at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any

from router.errors import PolicyError
from router.log_settings import LogSettings
from router.policy import (
    CLASSIFIERS,
    PACKAGED,
    PRICE_RATES,
    ClassifierPrice,
    Model,
    Policy,
    PriceOverride,
    packaged_examples,
)
from router.spend_caps import SpendCaps
from router.types import PLAIN_TIERS, Label

_POLICY_KEYS = (
    "name",
    "threshold",
    "min_margin",
    "exploration",
    "fallback_model",
    "failover",
    "baseline",
    "classifier",
    "classifier_price",
    "tiers",
    "labels",
    "models",
    "log",
    "spend",
)
_LABEL_KEYS = ("name", "rubric", "model", "failover", "threshold", "examples")
_MODEL_KEYS = ("provider", "base_url", "key_env", "api", "max_tokens", "price")
_LOG_KEYS = ("prompts", "redact", "durability")
_CLASSIFIER_PRICE_KEYS = ("per_call", "source", "date")
_SPEND_KEYS = ("per_day_usd", "per_run_usd")
_PRICE_KEYS = (*PRICE_RATES, "long", "service_tier", "source", "date")
_TIER_KEYS = (*PRICE_RATES, "long")
_LONG_KEYS = (*PRICE_RATES, "above")


def from_mapping(raw: Mapping[str, Any], source: str) -> Policy:
    """Build a policy from parsed TOML; type faults are collected, then the value faults of the policy itself."""
    faults: list[str] = []

    def take(
        table: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str, default: Any
    ) -> Any:
        value = table.get(key, default)
        wrong_bool = isinstance(value, bool) and kind is not bool
        if value is default or (isinstance(value, kind) and not wrong_bool):
            return value
        expected = {str: "text", list: "a list", dict: "a table", int: "a whole number"}.get(
            kind if isinstance(kind, type) else float, "a number"
        )
        shown = (
            f"the text {value!r}"
            if isinstance(value, str) and len(value) < 40
            else f"a {type(value).__name__}"
        )
        faults.append(f"{where}{key}: found {shown}, expected {expected}")
        return default

    def unknown(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
        for key in table:
            if key not in known:
                near = get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
                faults.append(f"{where}{key}: not a key of a policy; {hint}")

    def names(table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
        found = take(table, key, list, where, [])
        for position, name in enumerate(found, 1):
            if not isinstance(name, str):
                faults.append(
                    f"{where}{key}[{position}]: found a {type(name).__name__}, expected the name of a model"
                )
        return tuple(str(x) for x in found)

    number = (int, float)
    unknown(raw, _POLICY_KEYS, "")
    for key in ("threshold", "fallback_model", "labels"):
        if key not in raw:
            faults.append(f"{key}: missing")
    labels = []
    for position, table in enumerate(take(raw, "labels", list, "", []), 1):
        where = f"labels[{position}]."
        if not isinstance(table, dict):
            faults.append(f"labels[{position}]: found a {type(table).__name__}, expected a [[labels]] table")
            continue
        unknown(table, _LABEL_KEYS, where)
        name = take(table, "name", str, where, "")
        examples = table.get("examples", [])
        if examples == PACKAGED:
            examples = packaged_examples().get(name, ())
            if not examples:
                known = ", ".join(packaged_examples())
                faults.append(f"{where}examples: no packaged examples for {name!r}; known: {known}")
        elif not isinstance(examples, list) or not all(isinstance(x, str) and x.strip() for x in examples):
            faults.append(f'{where}examples: expected a list of prompts, or "{PACKAGED}"')
            examples = []
        threshold = take(table, "threshold", number, where, None)
        labels.append(
            Label(
                name=name,
                rubric=take(table, "rubric", str, where, ""),
                model=take(table, "model", str, where, ""),
                failover=names(table, "failover", where),
                examples=tuple(examples),
                threshold=None if threshold is None else float(threshold),
            )
        )
    models = {}
    for name, table in take(raw, "models", dict, "", {}).items():
        where = f'models."{name}".'
        if not isinstance(table, dict):
            faults.append(f'models."{name}": found a {type(table).__name__}, expected a table')
            continue
        unknown(table, _MODEL_KEYS, where)
        models[name] = Model(
            name=name,
            provider=take(table, "provider", str, where, None),
            base_url=take(table, "base_url", str, where, None),
            key_env=take(table, "key_env", str, where, None),
            max_tokens=take(table, "max_tokens", int, where, 1024),
            api=take(table, "api", str, where, "chat"),
            price=_price(take(table, "price", dict, where, None), f"{where}price.", faults, unknown),
        )
    log = take(raw, "log", dict, "", {})
    unknown(log, _LOG_KEYS, "log.")
    spend = take(raw, "spend", dict, "", {})
    unknown(spend, _SPEND_KEYS, "spend.")
    min_margin = take(raw, "min_margin", number, "", None)
    values: dict[str, Any] = {
        "labels": tuple(labels),
        "threshold": float(take(raw, "threshold", number, "", 0.0)),
        "fallback_model": take(raw, "fallback_model", str, "", "-"),
        "name": take(raw, "name", str, "", "policy"),
        "baseline": take(raw, "baseline", str, "", None),
        "classifier": take(raw, "classifier", str, "", "local"),
        "min_margin": None if min_margin is None else float(min_margin),
        "tiers": names(raw, "tiers", ""),
        "failover": names(raw, "failover", ""),
        "exploration": float(take(raw, "exploration", number, "", 0.0)),
        "models": models,
        "log": LogSettings(
            **{key: take(log, key, str, "log.", getattr(LogSettings(), key)) for key in _LOG_KEYS}
        ),
        "spend": SpendCaps(**{key: _cap(spend.get(key), f"spend.{key}", faults) for key in _SPEND_KEYS}),
        "classifier_price": _classifier_price(
            take(raw, "classifier_price", dict, "", None), "classifier_price.", faults, unknown
        ),
        "source": source,
    }
    if values["classifier"] not in CLASSIFIERS:
        faults.append(f"classifier: found {values['classifier']!r}, expected one of {', '.join(CLASSIFIERS)}")
    if not faults:
        return Policy(**values)
    try:
        Policy(**values)
    except PolicyError as error:
        faults += [
            fault for fault in error.faults if fault.split(":")[0] not in {x.split(":")[0] for x in faults}
        ]
    raise PolicyError(faults, source)


def _classifier_price(
    table: Mapping[str, Any] | None, where: str, faults: list[str], unknown: Any
) -> ClassifierPrice | None:
    if table is None:
        return None
    unknown(table, _CLASSIFIER_PRICE_KEYS, where)
    if "per_call" not in table:
        faults.append(f'{where}per_call: missing, expected USD for one call, like "0.0002"')
        return None
    per_call = _cap(table["per_call"], f"{where}per_call", faults)
    day = _day(table, where, faults)
    if per_call is None:
        return None
    if per_call >= 1_000_000 or per_call != round(per_call, 12):
        faults.append(
            f"{where}per_call: found {table['per_call']!r}, expected less than 1,000,000 USD with at most 12 decimals, as the log keeps it"
        )
        return None
    return ClassifierPrice(per_call, _source(table, where, faults), day)


def _source(table: Mapping[str, Any], where: str, faults: list[str]) -> str:
    source = table.get("source", "policy")
    if isinstance(source, str):
        return source
    faults.append(f"{where}source: found a {type(source).__name__}, expected text")
    return "policy"


def _day(table: Mapping[str, Any], where: str, faults: list[str]) -> date | None:
    day = table.get("date")
    if day is None or (isinstance(day, date) and not isinstance(day, datetime)):
        return day
    faults.append(f"{where}date: found {day!r}, expected a date like 2026-11-01 without quotes")
    return None


def _cap(value: Any, where: str, faults: list[str]) -> Decimal | None:
    """USD, written as text ("5.00", exact) or as a number; None when there is none."""
    if value is None:
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or amount < 0:
        faults.append(f'{where}: found {value!r}, expected USD, 0 or more, like "5.00"')
        return None
    return amount


def _price(
    table: Mapping[str, Any] | None, where: str, faults: list[str], unknown: Any
) -> PriceOverride | None:
    if table is None:
        return None
    unknown(table, _PRICE_KEYS, where)
    day = _day(table, where, faults)
    price = _rates(table, where, faults, unknown)
    tiers = {}
    for name, own in _tables(table, "service_tier", where, faults).items():
        if name in PLAIN_TIERS:
            faults.append(f"{where}service_tier.{name}: is the price itself; write its rates there")
        if not isinstance(own, dict):
            faults.append(
                f"{where}service_tier.{name}: found a {type(own).__name__}, expected a table of rates"
            )
            continue
        unknown(own, _TIER_KEYS, f"{where}service_tier.{name}.")
        if (found := _rates(own, f"{where}service_tier.{name}.", faults, unknown, like=price)) is not None:
            tiers[name] = found
    if price is None:
        return None
    return replace(price, source=_source(table, where, faults), date=day, service_tiers=tiers)


def _rates(
    table: Mapping[str, Any],
    where: str,
    faults: list[str],
    unknown: Any,
    like: PriceOverride | None = None,
) -> PriceOverride | None:
    """The rates of a table and of its ``long`` one. What ``like`` states, this must: nobody is to guess a rate that is left out."""
    rates: dict[str, Decimal | None] = {}
    for key in PRICE_RATES:
        value = table.get(key)
        if value is None:
            if key in ("input", "output") or (like is not None and getattr(like, key) is not None):
                faults.append(f"{where}{key}: missing, expected USD per million tokens")
            rates[key] = None
            continue
        try:
            rates[key] = Decimal(str(value))
        except InvalidOperation:
            rates[key] = None
        rate = rates[key]
        if isinstance(value, bool) or rate is None or not rate.is_finite() or rate < 0:
            faults.append(f"{where}{key}: found {value!r}, expected USD per million tokens, 0 or more")
            rates[key] = None
    given, made, read, written, hour = (rates[key] for key in PRICE_RATES)
    if given is None or made is None:
        return None
    price = PriceOverride(given, made, read, written, cache_write_1h=hour)
    if not (long := _tables(table, "long", where, faults)):
        return price
    unknown(long, _LONG_KEYS, f"{where}long.")
    above = long.get("above")
    if not isinstance(above, int) or isinstance(above, bool) or above < 1:
        faults.append(f"{where}long.above: found {above!r}, expected a number of input tokens like 200000")
        above = None
    return replace(price, long_above=above, long=_rates(long, f"{where}long.", faults, unknown, like=price))


def _tables(table: Mapping[str, Any], key: str, where: str, faults: list[str]) -> Mapping[str, Any]:
    found = table.get(key, {})
    if isinstance(found, dict):
        return found
    faults.append(f"{where}{key}: found {found!r}, expected a table")
    return {}
