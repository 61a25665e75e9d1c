"""How a classification or a call ended, in the form that a row and an error take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.errors import (
    ClassifierError,
    ProviderError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnreachable,
)
from router.policy import Policy
from router.prompts import whole
from router.types import Choice, Classification, Completion, Decision

MAX_EXTRA_LABELS = 64
"""Scores of labels outside the policy that are kept in a row; all are counted."""

_FAILURES: Mapping[str, type[ProviderError]] = {
    "timeout": ProviderTimeout,
    "rate_limited": ProviderRateLimited,
    "auth": ProviderRejected,
    "rejected": ProviderRejected,
    "not_found": ProviderRejected,
    "overloaded": ProviderUnreachable,
    "server_error": ProviderUnreachable,
    "unreachable": ProviderUnreachable,
    "broken_off": ProviderUnreachable,
}


def kept_scores(scores: Mapping[str, float], policy: Policy) -> dict[str, float]:
    """The policy's scores as plain numbers, as replied, and those of other labels as far as a row can hold them."""
    kept = {name: float(scores[name]) for name in policy.label_names}
    if len(scores) > len(kept):
        others = [(k, v) for k, v in scores.items() if k not in kept]
        for key, value in others[:MAX_EXTRA_LABELS]:
            if isinstance(key, str) and isinstance(value, float):
                kept[whole(key[:64])] = float(value)
    return kept


def brief(value: Any) -> str:
    """What stood where a score should stand, short; the name of its type when it is no plain number or text."""
    if isinstance(value, str):
        return str(whole(value[:40]))
    return repr(value) if value is None or isinstance(value, bool | float) else type(value).__name__


def oddities(answer: Classification, choice: Choice, policy: Policy) -> dict[str, Any]:
    """What was odd in a reply but did not stop the rule: kept in the row and countable."""
    extra: dict[str, Any] = {}
    reported = getattr(answer, "reported_top_label", None) or answer.top_label
    if reported != choice.top_label:
        extra["reported_top_label"] = brief(reported)
    others = len(answer.scores) - len(
        policy.labels
    )  # every label of the policy has a score: decide() saw to it
    if others:
        extra["extra_labels"] = others
    return extra


def failure(decision: Decision, completion: Completion, deadline_s: float) -> ProviderError:
    """The typed error of a call that gave no usable reply; says nothing of the request."""
    model, outcome = completion.model, completion.outcome
    others = dict.fromkeys(f"{x.model} ({x.outcome})" for x in decision.failed_attempts if x.model != model)
    if outcome == "timeout" and not others:
        text = f"{model} did not answer within {deadline_s:g} s; the decision is logged. Try again or raise deadline_s."
    elif outcome == "timeout":
        text = f"{model} did not answer in its share of {deadline_s:g} s; the decision is logged. Try again or raise deadline_s."
    else:
        why = {
            "auth": "the key or its account was refused; check both",
            "rate_limited": "the provider asked to slow down; try later",
            "server_error": "the provider failed (HTTP 5xx) and charges nothing for it; try later",
            "unreachable": "no connection came about; check the network and base_url",
            "broken_off": "the request was sent, then the connection or the provider failed; it may have been charged",
            "not_found": "the provider does not know this model; check its name in the policy",
        }
        text = f"{model} gave no usable reply ({outcome}): {why.get(outcome, 'the decision is logged, try again')}."
    if others:
        text += f" Before it failed: {', '.join(others)}."
    error = _FAILURES.get(outcome, ProviderError)(text, outcome=outcome)
    error.decision = decision
    return error


def named(error: ClassifierError, name: str) -> ClassifierError:
    """The error with the name that its row shows as ``error_type``."""
    error.name = name
    return error
