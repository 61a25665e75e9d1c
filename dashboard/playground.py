"""What the playground computes: a dry decision, and what the prompt would cost where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

import streamlit as st

from dashboard import formats, untrusted
from router.config import present_keys
from router.errors import ClassifierError, ScoresError, SpendCapError
from router.policy import Policy, decide
from router.prices import PriceBook
from router.prompts import ready
from router.resolve import build_classifier
from router.spend import DayLedger
from router.types import Choice, Classification, Classifier, Usage

CHARS_PER_TOKEN = 4
"""A rule of thumb for English; only ever used for costs that are graded assumed."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One prompt, decided without logging: scores and the choice under production and candidate."""

    classification: Classification
    production: Choice
    candidate: Choice


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a prompt would cost with a model, in USD, at assumed token counts; None when the price is unknown."""

    model: str
    cost_usd: Decimal | None
    roles: tuple[str, ...]


@st.cache_resource(max_entries=4, show_spinner=False)
def classifier(kind: str, data: str, _policy: Policy) -> Classifier:
    """The policy's classifier, loaded once for the server."""
    built = build_classifier(_policy, Path(data))
    if isinstance(warm_up := getattr(built, "warm_up", None), Callable):
        warm_up(_policy.labels)  # else the first prompt would show the loading of the weights as its latency
    return built


@st.cache_data(max_entries=256, show_spinner=False)
def _classified(kind: str, data: str, labels: str, text: str, _policy: Policy) -> Classification:
    return classifier(kind, data, _policy).classify(text, _policy.labels)


def attempt(prompt: str, policy: Policy, candidate: Policy, data: str) -> Tried:
    """Classify and decide, writing nothing.

    Raises
    ------
    ClassifierError
        No usable scores; the router would send this prompt to the fallback model.
    """
    asked = ready(prompt)
    if not asked.text.strip():
        raise ClassifierError(
            "the prompt is empty; the router would not ask the classifier and use the fallback model"
        )
    found = _classified(policy.classifier, data, policy.labels_fingerprint, asked.text, policy)
    try:
        return Tried(found, decide(found.scores, policy), decide(found.scores, candidate))
    except ScoresError as error:
        raise ClassifierError(str(error)) from None


def estimates(
    prompt: str, output_tokens: int, policy: Policy, tried: Tried, prices: PriceBook, day: date
) -> list[Estimate]:
    """Cost of the prompt with every model of the policy, in the order of the policy."""
    usage = Usage(max(len(prompt) // CHARS_PER_TOKEN, 1), output_tokens, grade="assumed")
    found = []
    for model in policy.model_names:
        roles = [
            word
            for word, is_so in (
                ("candidate", model == tried.candidate.model_chosen),
                ("production", model == tried.production.model_chosen),
                ("fallback", model == policy.fallback_model),
                ("baseline", model == policy.baseline),
            )
            if is_so
        ]
        found.append(Estimate(model, prices.price(usage, model, day), tuple(roles)))
    return found


def can_call(model: str, policy: Policy, prices: PriceBook) -> tuple[bool, str]:
    """Whether a live call is possible, and the provider's name (or "" when none is known)."""
    settings = policy.model(model)
    provider = settings.provider or prices.provider(model)
    if provider is None:
        return False, ""
    present = present_keys()[provider]
    return settings.base_url is not None or present["key"] or present["base_url"], provider


def cap(policy: Policy, data: Path) -> str:
    """How much of the policy's caps is left, as a sentence; "" without a cap."""
    caps, said = policy.spend, []
    if caps.per_day_usd is not None:
        try:
            day = DayLedger(data).read()
            taken = formats.usd(day.spent_usd + day.held_usd)
            said.append(f"{taken} of today's cap of {formats.usd(caps.per_day_usd)} is spent or under way.")
        except SpendCapError as error:
            said.append(untrusted.name(str(error), 300))
    if caps.per_run_usd is not None:
        said.append(f"A call may cost at most {formats.usd(caps.per_run_usd)}.")
    return " ".join(said).replace("$", "\\$")
