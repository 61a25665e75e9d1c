"""The policy (labels, models, threshold) and the one rule that turns scores into a choice."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from functools import cached_property
from importlib import resources
from pathlib import Path

from router.errors import PolicyError, ScoresError
from router.log_settings import LogSettings
from router.spend_caps import SpendCaps
from router.types import Cause, Choice, Label
from router.urls import shown

GRID = 10_000
"""Thresholds are multiples of 1/GRID, so that scalar, numpy, SQL and JavaScript agree at every one of them."""

SCORE_TOLERANCE = 1e-9
"""A score this little above 1 is rounding and is clipped; anything more is a classifier failure."""

PACKAGED = "packaged"
PRESETS = ("seed", "current")
CLASSIFIERS = ("local", "scaledown")
PROVIDERS = ("openai", "anthropic")
APIS = ("chat", "responses")
MAX_LABELS = 64
MAX_FAILOVER = 8
MAX_POLICY_BYTES = 4_000_000
NOT_IN_PATCH, EMPTY_PATCH = "not in the patch", "this patch is empty"
"""How comments of a patch of a policy begin that name a key which it cannot set, and that say why it sets none."""
PRICE_RATES = ("input", "output", "cache_read", "cache_write", "cache_write_1h")


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """A user's own price of a model, in USD per million tokens, with its source and the date it held.

    Attributes
    ----------
    cache_read, cache_write : None: cached tokens cost as much as others. ``cache_write_1h``: of writes that live for an hour;
        None: a request with such writes has no known cost.
    long_above, long : a request of more input tokens than this, cached ones included, pays ``long`` on all its tokens.
    service_tiers : prices by the provider's word for a service tier ("flex", "priority", "batch", ...). A call that was served
        at a tier which is not here has no known cost.
    """

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    source: str = "policy"
    date: date | None = None
    cache_write_1h: Decimal | None = None
    long_above: int | None = None
    long: PriceOverride | None = None
    service_tiers: Mapping[str, PriceOverride] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClassifierPrice:
    """What one call of a hosted classifier costs, in USD, with its source and the date it held."""

    per_call: Decimal
    source: str = "policy"
    date: date | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """How to reach a model.

    ``provider`` None: taken from the price book by the model's name. ``api`` is the API of provider "openai" that is
    called: "chat" (chat completions, which every compatible server has; the default) or "responses".
    """

    name: str
    provider: str | None = None
    base_url: str | None = None
    key_env: str | None = None
    max_tokens: int = 1024
    price: PriceOverride | None = None
    api: str = "chat"

    def __repr__(self) -> str:  # of a base URL nothing is shown that may hold a key
        where = None if self.base_url is None else shown(self.base_url)
        rest = ", ".join(f"{x}={getattr(self, x)!r}" for x in ("key_env", "max_tokens", "price", "api"))
        return f"Model(name={self.name!r}, provider={self.provider!r}, base_url={where!r}, {rest})"


@dataclass(frozen=True)
class Policy:
    """Labels, models and thresholds: everything that decides where a prompt goes.

    Attributes
    ----------
    labels : in the order of the file; ties between scores go to the one listed first.
    threshold : least confidence in [0, 1], on the 1e-4 grid, at which the top label is followed.
    fallback_model : who answers below it, and after a classifier failure.
    failover : who is asked, in this order, when the fallback model or its provider fails; labels have their own.
    baseline : the model that "all to one model" is counted against.
    min_margin : optional least margin between the two best scores, on the same grid.
    tiers : models from weakest to strongest, as the owner sees them; empty when not stated.
    classifier_price : of one call of a hosted classifier; None: its cost is unknown. It is logged with each decision from then on.
    exploration : chance in [0, 0.5] with which a decision takes the other side of the rule (``router.exploration``).
    log : what the log keeps of a prompt, and how safely. It decides nothing, so no fingerprint holds it.
    spend : most that calls may cost; no fingerprint holds it either.

    Raises
    ------
    PolicyError
        Lists every fault with its key, what was found and what was expected.
    """

    labels: tuple[Label, ...]
    threshold: float
    fallback_model: str
    name: str = "policy"
    baseline: str | None = None
    classifier: str = "local"
    min_margin: float | None = None
    tiers: tuple[str, ...] = ()
    models: Mapping[str, Model] = field(default_factory=dict)
    log: LogSettings = field(default_factory=LogSettings)
    failover: tuple[str, ...] = ()
    spend: SpendCaps = field(default_factory=SpendCaps)
    exploration: float = 0.0
    classifier_price: ClassifierPrice | None = None
    source: str = field(default="policy", compare=False)

    def __post_init__(self) -> None:
        from router.policy_checks import faults as find

        faults = list(find(self))
        if faults:
            raise PolicyError(faults, self.source)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Policy:
        """Read a policy from a TOML file."""
        file = Path(path)
        try:
            size = file.stat().st_size
            if size > MAX_POLICY_BYTES:
                raise PolicyError(
                    f"the file has {size:,} bytes, expected at most {MAX_POLICY_BYTES:,}; move examples out of it",
                    str(file),
                )
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise PolicyError(
                "no such file; write one with 'routescope policy show --preset seed --toml'", str(file)
            ) from None
        except IsADirectoryError:
            raise PolicyError("a folder, expected a TOML file", str(file)) from None
        except UnicodeDecodeError as error:
            raise PolicyError(f"not UTF-8 at byte {error.start}; save it as UTF-8", str(file)) from None
        except OSError as error:
            raise PolicyError(f"cannot be read: {error.strerror}", str(file)) from None
        if not text.strip():
            raise PolicyError(
                "the file is empty; remove it, or write one with 'routescope policy show --preset seed --toml'",
                str(file),
            )
        return cls.from_toml(text, source=str(file))

    @classmethod
    def preset(cls, name: str) -> Policy:
        """A packaged policy: ``seed`` (the guide's models) or ``current`` (same roles, models of late 2026)."""
        return cls.from_toml(preset_toml(name), source=f"preset {name}")

    @classmethod
    def from_toml(cls, text: str, *, source: str = "policy") -> Policy:
        """Parse a policy; ``source`` names it in errors."""
        try:
            raw = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise PolicyError(f"not valid TOML: {error}", source) from None
        from router.policy_file import from_mapping  # knows Policy itself

        return from_mapping(raw, source)

    def with_threshold(self, threshold: float, label: str | None = None) -> Policy:
        """The same policy with another threshold, global or of one label."""
        if label is None:
            return replace(self, threshold=threshold)
        labels = tuple(replace(x, threshold=threshold) if x.name == label else x for x in self.labels)
        return replace(self, labels=labels)

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(label.name for label in self.labels)

    @cached_property
    def by_name(self) -> Mapping[str, Label]:
        """Labels by name."""
        return {label.name: label for label in self.labels}

    def threshold_for(self, label: str) -> float:
        """The threshold in force for a label: its own, else the policy's."""
        own = self.by_name[label].threshold
        return self.threshold if own is None else own

    def model(self, name: str) -> Model:
        """How to reach a model; an unlisted one has no settings of its own."""
        return self.models.get(name) or Model(name)

    def failover_for(self, cause: Cause, label: str | None, model: str | None = None) -> tuple[str, ...]:
        """Who is asked after the model that was chosen: the label's own chain, the policy's for the fallback model.

        None after a model that the caller forced: another one was not asked for. ``model``: which side an explored decision took.
        """
        if cause == "forced":
            return ()
        own = self.by_name.get(label) if label is not None else None
        follows = own is not None and (cause == "routed" or (cause == "explored" and own.model == model))
        return own.failover if own is not None and follows else self.failover

    @cached_property
    def model_names(self) -> tuple[str, ...]:
        """Every model a decision can go to, then the baseline: labels' models in order, fallback, failover, baseline."""
        names = [label.model for label in self.labels] + [self.fallback_model]
        names += [name for label in self.labels for name in label.failover] + list(self.failover)
        return tuple(dict.fromkeys(names + ([self.baseline] if self.baseline else [])))

    @cached_property
    def labels_fingerprint(self) -> str:
        """16 hex digits over the label set (names, rubrics, examples, in order): what a threshold belongs to."""
        return _fingerprint([[x.name, x.rubric, list(x.examples)] for x in self.labels])

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over everything that can change a decision, its cost or its baseline."""
        later: dict[
            str, object
        ] = {}  # what came with later versions stands only where it is used: a policy keeps its fingerprint
        if self.failover or any(x.failover for x in self.labels):
            later["failover"] = [list(self.failover), *(list(x.failover) for x in self.labels)]
        if others := sorted([m.name, m.api] for m in self.models.values() if m.api != "chat"):
            later["api"] = others
        if (price := self.classifier_price) is not None:
            later["classifier_price"] = [str(price.per_call.normalize()), price.source, str(price.date)]
        return _fingerprint(
            later
            | {
                "labels": self.labels_fingerprint,
                "models": [[x.name, x.model, _plain(x.threshold)] for x in self.labels],
                "threshold": _plain(self.threshold),
                "min_margin": _plain(self.min_margin),
                "fallback_model": self.fallback_model,
                "baseline": self.baseline,
                "classifier": self.classifier,
                "tiers": list(self.tiers),
                # Only where there is one: policies without it keep the fingerprint that is in their logs.
                **({"exploration": _plain(self.exploration)} if self.exploration else {}),
                "settings": [
                    [
                        m.name,
                        m.provider,
                        m.base_url,
                        m.max_tokens,
                        None if m.price is None else _price_key(m.price),
                    ]
                    for m in sorted(self.models.values(), key=lambda m: m.name)
                ],
            }
        )

    def to_toml(self) -> str:
        """The policy as TOML; reading it back gives an equal policy."""
        lines = [f"name = {_toml(self.name)}", f"threshold = {_plain(self.threshold)!r}"]
        if self.min_margin is not None:
            lines.append(f"min_margin = {_plain(self.min_margin)!r}")
        if self.exploration:
            lines.append(f"exploration = {_plain(self.exploration)!r}")
        lines.append(f"fallback_model = {_toml(self.fallback_model)}")
        if self.failover:
            lines.append(f"failover = {_toml(list(self.failover))}")
        if self.baseline is not None:
            lines.append(f"baseline = {_toml(self.baseline)}")
        lines.append(f"classifier = {_toml(self.classifier)}")
        if self.tiers:
            lines.append(f"tiers = {_toml(list(self.tiers))}")
        if self.log != LogSettings():
            lines += ["", "[log]"]
            lines += [
                f"{key} = {_toml(getattr(self.log, key))}" for key in ("prompts", "redact", "durability")
            ]
        if self.spend.any:
            caps = {key: getattr(self.spend, key) for key in ("per_day_usd", "per_run_usd")}
            lines += ["", "[spend]"]
            lines += [f"{key} = {_toml(format(cap, 'f'))}" for key, cap in caps.items() if cap is not None]
        if (price := self.classifier_price) is not None:
            lines += ["", "[classifier_price]", f"per_call = {_toml(format(price.per_call, 'f'))}"]
            lines.append(f"source = {_toml(price.source)}")
            lines += [f"date = {price.date.isoformat()}"] if price.date is not None else []
        for label in self.labels:
            lines += ["", "[[labels]]", f"name = {_toml(label.name)}", f"rubric = {_toml(label.rubric)}"]
            lines.append(f"model = {_toml(label.model)}")
            if label.failover:
                lines.append(f"failover = {_toml(list(label.failover))}")
            if label.threshold is not None:
                lines.append(f"threshold = {_plain(label.threshold)!r}")
            if label.examples:
                packaged = label.examples == packaged_examples().get(label.name)
                lines.append(f"examples = {_toml(PACKAGED if packaged else list(label.examples))}")
        for model in self.models.values():
            lines += ["", f"[models.{_toml(model.name)}]"]
            for key in ("provider", "base_url", "key_env"):
                if (value := getattr(model, key)) is not None:
                    lines.append(f"{key} = {_toml(value)}")
            if model.api != "chat":
                lines.append(f"api = {_toml(model.api)}")
            lines.append(f"max_tokens = {model.max_tokens}")
            if model.price is not None:
                lines.append(f"price = {_price_toml(model.price)}")
        return "\n".join(lines) + "\n"


def decide(scores: Mapping[str, float], policy: Policy) -> Choice:
    """Turn scores into a choice: the one rule of the live router, the slider, the sweep and the replay.

    The top label is followed when ``confidence >= threshold`` (equality is served) and, where the policy has a
    margin rule, ``margin >= min_margin``; else the fallback model answers. Ties go to the label listed first.
    Extra labels in ``scores`` are ignored.

    Raises
    ------
    ScoresError
        A label of the policy has no score, or one that is not a number in [0, 1] (1e-9 over is clipped).

    Examples
    --------
    >>> policy = Policy.preset("seed")
    >>> decide({"simple": 0.1, "coding": 0.55, "reasoning": 0.2, "creative": 0.15}, policy).cause
    'routed'
    >>> decide({"simple": 0.1, "coding": 0.5499, "reasoning": 0.2, "creative": 0.1501}, policy).cause
    'low_confidence'
    """
    top = runner_up = None
    best = second = -1.0
    for label in policy.labels:
        value = _score(scores, label.name)
        if value > best:
            top, best, runner_up, second = label, value, top, best
        elif value > second:
            runner_up, second = label, value
    assert top is not None  # a policy has at least one label
    margin = None if runner_up is None else best - second
    cause: Cause = "routed"
    if best < policy.threshold_for(top.name):
        cause = "low_confidence"
    elif policy.min_margin is not None and margin is not None and margin < policy.min_margin:
        cause = "low_margin"
    fallback = cause != "routed"
    return Choice(
        top_label=top.name,
        confidence=best,
        runner_up=None if runner_up is None else runner_up.name,
        margin=margin,
        model_chosen=policy.fallback_model if fallback else top.model,
        cause=cause,
        is_fallback=fallback,
    )


def _score(scores: Mapping[str, float], name: str) -> float:
    if name not in scores:
        raise ScoresError(f"no score for label {name!r}; expected one for every label of the policy")
    value = scores[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ScoresError(
            f"the score of label {name!r} is a {type(value).__name__}, expected a number in [0, 1]"
        )
    if not 0.0 <= value <= 1.0 + SCORE_TOLERANCE:  # NaN is neither
        found = repr(value) if isinstance(value, float) else "a whole number outside"
        raise ScoresError(f"the score of label {name!r} is {found}, expected a number in [0, 1]")
    return min(float(value), 1.0)


def confidence_bin(confidence: float) -> int:
    """Largest k in 0..10000 with ``k / 10000 <= confidence`` in IEEE doubles.

    >>> confidence_bin(0.29), int(0.29 * 100)
    (2900, 28)
    """
    k = min(max(math.floor(confidence * GRID), 0), GRID)
    if k < GRID and (k + 1) / GRID <= confidence:
        return k + 1
    if k > 0 and k / GRID > confidence:
        return k - 1
    return k


def grid_neighbours(threshold: float) -> tuple[float, float]:
    """The two thresholds of the grid around a value in [0, 1]; equal when it lies on the grid."""
    k = confidence_bin(threshold)
    return (k / GRID, k / GRID) if k / GRID == threshold else (k / GRID, (k + 1) / GRID)


def snap(threshold: float) -> float:
    """The nearest threshold of the grid, within [0, 1]."""
    return min(max(round(threshold * GRID), 0), GRID) / GRID


def preset_toml(name: str) -> str:
    """Text of a packaged policy."""
    if name not in PRESETS:
        raise PolicyError(f"no preset {name!r}; known: {', '.join(PRESETS)}", "preset")
    return resources.files("router.presets").joinpath(f"{name}.toml").read_text(encoding="utf-8")


_examples_cache: dict[str, tuple[str, ...]] = {}


def packaged_examples() -> Mapping[str, tuple[str, ...]]:
    """Example prompts that are part of this package, by label name."""
    if not _examples_cache:
        text = resources.files("router.presets").joinpath("examples.toml").read_text(encoding="utf-8")
        _examples_cache.update({name: tuple(items) for name, items in tomllib.loads(text).items()})
    return _examples_cache


def _fingerprint(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: float | None) -> float | None:
    """A plain float, so that 1, 1.0, -0.0 and numpy's numbers are written alike."""
    return None if value is None else float(value) + 0.0


def _price_key(price: PriceOverride) -> list[object]:
    rates = (price.input, price.output, price.cache_read, price.cache_write)
    key: list[object] = [
        *("" if x is None else str(x.normalize()) for x in rates),
        price.source,
        str(price.date),
    ]
    more = {
        "cache_write_1h": None if price.cache_write_1h is None else str(price.cache_write_1h.normalize()),
        "long": None if price.long is None else [price.long_above, _price_key(price.long)],
        "service_tier": {name: _price_key(one) for name, one in price.service_tiers.items()},
    }
    stated = {name: value for name, value in more.items() if value}
    return [*key, stated] if stated else key  # a price that states none of these keeps the fingerprint it had


def _toml(value: object) -> str:
    """A string or a list of strings as TOML; JSON's escapes are a subset of TOML's basic strings."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _price_toml(price: PriceOverride) -> str:
    parts = _rate_parts(price)
    if price.service_tiers:
        tiers = (
            f"{_toml(name)} = {{ {', '.join(_rate_parts(x))} }}" for name, x in price.service_tiers.items()
        )
        parts.append(f"service_tier = {{ {', '.join(tiers)} }}")
    parts.append(f"source = {_toml(price.source)}")
    if price.date is not None:
        parts.append(f"date = {price.date.isoformat()}")
    return "{ " + ", ".join(parts) + " }"


def _rate_parts(price: PriceOverride) -> list[str]:
    parts = [f"{key} = {value}" for key in PRICE_RATES if (value := getattr(price, key)) is not None]
    if price.long is not None:
        parts.append(f"long = {{ above = {price.long_above}, {', '.join(_rate_parts(price.long))} }}")
    return parts
