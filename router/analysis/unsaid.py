"""What differs between two policies and no patch can set, key by key."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from router.policy import Policy

SHOWN = 60
"""Characters of a value that are shown; of a longer one the key alone."""

COMPARED = "compared in the diff"
NOT_COMPARED = "not compared in the diff"
OWN_COST = "counted in the diff's costs, each side at its own"
CALL_COST = "counted in the diff's costs, by the difference for each call"
OTHER_SCORES = "not compared in the diff: it would give other scores, and the log has none of them"
SAME_COST = "a call costs the same in both policies"
LOGGED_COST = "not counted in the diff's costs: one policy states no price of a call, so both sides have the logged cost"

_HIDDEN = ("base_url", "key_env", "price", "rubric", "examples")
"""Keys whose values are long, or may hold a secret."""


@dataclass(frozen=True, slots=True)
class Unsaid:
    """A key that differs and that a patch cannot set; ``old`` and ``new`` in words, None where they are not shown.

    ``note`` says whether the diff takes it into account.
    """

    key: str
    old: str | None
    new: str | None
    note: str

    @property
    def words(self) -> str:
        """All of it on one line.

        >>> Unsaid("exploration", "0.0", "0.1", NOT_COMPARED).words
        'exploration: 0.0 -> 0.1; not compared in the diff'
        """
        change = "" if self.old is None or self.new is None else f"{self.old} -> {self.new}; "
        return f"{self.key}: {change}{self.note}"


def call_prices(old: Policy, new: Policy) -> tuple[float, float] | None:
    """USD per call of either classifier, where both are known and differ; None: a decision's is the same on both sides."""
    one, other = _call_price(old), _call_price(new)
    return None if one is None or other is None or one == other else (float(one), float(other))


def unsaid(old: Policy, new: Policy, repriced: Collection[str] = ()) -> tuple[Unsaid, ...]:
    """Every key that differs and that a patch cannot set, those that the new policy takes away among them.

    A patch sets threshold, min_margin, fallback_model, baseline, and model and threshold of labels. ``repriced``: models whose
    prices differ on the log's days.
    """
    found = []
    for key, before, after, note in _settings(old, new, repriced):
        if before != after:
            hidden = key.rpartition(".")[2] in _HIDDEN
            one, other = (None, None) if hidden else (_word(before), _word(after))
            found.append(Unsaid(key, one, other, note))
    for label in old.labels:
        if label.name not in new.by_name:
            found.append(Unsaid(_key("labels", label.name), "there", "gone", COMPARED))
    shared = [x for x in old.label_names if x in new.by_name]
    if shared != [x for x in new.label_names if x in old.by_name]:
        found.append(Unsaid("labels", None, None, f"in another order; {COMPARED}"))
    return tuple(found)


def toml_value(value: Any) -> str:
    """A value as TOML; JSON's strings are TOML's, but for one character."""
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007f")


def _settings(old: Policy, new: Policy, repriced: Collection[str]) -> Iterator[tuple[str, Any, Any, str]]:
    """Key, old and new value, and note of all that no patch sets."""
    for key in ("min_margin", "baseline"):
        if getattr(new, key) is None:
            yield key, getattr(old, key), None, COMPARED
    for key in ("name", "exploration", "failover", "tiers"):
        yield key, getattr(old, key), getattr(new, key), NOT_COMPARED
    calls = CALL_COST
    if call_prices(old, new) is None:
        is_same = _call_price(old) is not None and _call_price(old) == _call_price(new)
        calls = SAME_COST if is_same else LOGGED_COST
    is_priced_apart = _call_price(old) != _call_price(new)
    yield (
        "classifier",
        old.classifier,
        new.classifier,
        f"{OTHER_SCORES}; its calls are {calls}" if is_priced_apart else OTHER_SCORES,
    )
    for name in ("per_call", "source", "date"):
        one, other = (
            None if x is None else getattr(x, name) for x in (old.classifier_price, new.classifier_price)
        )
        note = calls if name == "per_call" else NOT_COMPARED
        yield f"classifier_price.{name}", one, other, note
    for table in ("log", "spend"):
        before, after = getattr(old, table), getattr(new, table)
        for x in fields(before):
            yield f"{table}.{x.name}", getattr(before, x.name), getattr(after, x.name), NOT_COMPARED
    for label in new.labels:
        was = old.by_name.get(label.name)
        if was is None:
            yield _key("labels", label.name), "none", "new", NOT_COMPARED
            continue
        if label.threshold is None:
            yield _key("labels", label.name, "threshold"), was.threshold, None, COMPARED
        yield _key("labels", label.name, "failover"), was.failover, label.failover, NOT_COMPARED
        for key in ("rubric", "examples"):
            yield _key("labels", label.name, key), getattr(was, key), getattr(label, key), OTHER_SCORES
    for model in dict.fromkeys((*old.models, *new.models)):
        one, other = old.model(model), new.model(model)
        for x in fields(one):
            note = NOT_COMPARED
            if x.name == "price":
                note = OWN_COST if model in repriced else "changes no cost in the diff"
            yield _key("models", model, x.name), getattr(one, x.name), getattr(other, x.name), note


def _call_price(policy: Policy) -> Decimal | None:
    """USD of one call of the policy's classifier: nothing for the local one, None where the policy states none."""
    if policy.classifier == "local":
        return Decimal(0)
    return None if policy.classifier_price is None else policy.classifier_price.per_call


def _key(table: str, name: str, *more: str) -> str:
    return ".".join((table, name if re.fullmatch(r"[\w-]+", name, re.ASCII) else toml_value(name), *more))


def _word(value: Any) -> str | None:
    """A value on one line; None where it is too long."""
    if value is None:
        return "none"
    text = format(value, "f") if isinstance(value, Decimal) else toml_value(value)
    return text if len(text) <= SHOWN else None
