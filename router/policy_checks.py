"""What is wrong with a policy's values, all of it at once."""

from __future__ import annotations

import re
from collections.abc import Iterable

from router.policy import APIS, MAX_FAILOVER, MAX_LABELS, PROVIDERS, Policy, grid_neighbours
from router.urls import EXPECTED, is_base_url

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.:/@-]{0,63}\Z")
_SURROGATE = re.compile("[\ud800-\udfff]")


def faults(policy: Policy) -> Iterable[str]:
    """Everything wrong with a policy's values, one sentence each."""
    yield from _threshold_faults("threshold", policy.threshold)
    if policy.min_margin is not None:
        yield from _threshold_faults("min_margin", policy.min_margin)
    chance = policy.exploration
    if isinstance(chance, bool) or not isinstance(chance, int | float) or not 0.0 <= chance <= 0.5:
        found = repr(chance) if isinstance(chance, float) else f"a {type(chance).__name__}"
        yield f"exploration: found {found}, expected a chance from 0 to 0.5, like 0.02"
    if not policy.labels:
        yield "labels: found none, expected at least one [[labels]] table"
    if len(policy.labels) > MAX_LABELS:
        yield f"labels: found {len(policy.labels)}, expected at most {MAX_LABELS}"
    seen: dict[str, str] = {}
    for number, label in enumerate(policy.labels, 1):
        where = f"labels[{number}]"
        if not _NAME.match(label.name):
            yield (
                f"{where}.name: found {label.name[:40]!r}, expected 1 to 64 letters, digits, spaces or _.:/@- "
                "that start with a letter or digit"
            )
        first = seen.get(label.name.casefold())
        if first is not None:
            yield f"{where}.name: {label.name!r} stands twice (also as {first!r}); names must differ by more than case"
        seen[label.name.casefold()] = label.name
        if not label.rubric.strip():
            yield f"{where}.rubric: empty, expected the question that defines {label.name!r}"
        if not label.model.strip():
            yield f"{where}.model: missing, expected the model that answers {label.name!r}"
        if label.threshold is not None:
            yield from _threshold_faults(f"{where}.threshold", label.threshold)
        yield from _failover_faults(f"{where}.failover", label.failover, label.model)
        if any(_SURROGATE.search(text) for text in (label.rubric, label.model, *label.examples)):
            yield f"{where}: has a lone surrogate, which no file can hold; take it out of the rubric or the examples"
    if not policy.fallback_model.strip():
        yield "fallback_model: missing, expected the model that answers when confidence is low"
    yield from _failover_faults("failover", policy.failover, policy.fallback_model)
    for model in policy.models.values():
        if model.provider is not None and model.provider not in PROVIDERS:
            yield (
                f'models."{model.name}".provider: found {model.provider!r}, expected one of {", ".join(PROVIDERS)}'
            )
        if model.base_url is not None and not is_base_url(model.base_url):
            yield f'models."{model.name}".base_url: expected {EXPECTED}'
        if model.api not in APIS:
            yield f'models."{model.name}".api: found {model.api[:40]!r}, expected one of {", ".join(APIS)}'
        elif model.api != "chat" and model.provider == "anthropic":
            yield f'models."{model.name}".api: found {model.api!r}, which provider "anthropic" does not have; leave it out'
        if not 1 <= model.max_tokens <= 1_000_000:
            yield f'models."{model.name}".max_tokens: found {model.max_tokens}, expected 1 to 1,000,000'
    if policy.classifier_price is not None and policy.classifier == "local":
        yield "classifier_price: stated, but the local classifier costs nothing; take it out, or name a hosted classifier"
    yield from policy.log.faults("log.")
    yield from policy.spend.faults("spend.")


def _failover_faults(key: str, names: tuple[str, ...], first: str) -> Iterable[str]:
    if len(names) > MAX_FAILOVER:
        yield f"{key}: found {len(names)} models, expected at most {MAX_FAILOVER}"
    seen = {first}
    for position, name in enumerate(names, 1):
        where = f"{key}[{position}]"
        if not name.strip():
            yield f"{where}: empty, expected the name of a model"
        elif name in seen:
            yield f"{where}: {name[:40]!r} is asked before already; every model of a chain stands in it once"
        elif _SURROGATE.search(name):
            yield f"{where}: has a lone surrogate, which no file can hold"
        seen.add(name)


def _threshold_faults(key: str, value: float) -> Iterable[str]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield f"{key}: found a {type(value).__name__}, expected a number in [0, 1]"
        return
    if not 0.0 <= value <= 1.0:  # NaN is neither
        yield f"{key}: found {value!r}, expected a number in [0, 1]"
        return
    low, high = grid_neighbours(value)
    if low != high:
        yield f"{key}: found {value!r}, expected a multiple of 0.0001; the neighbours are {low!r} and {high!r}"
