"""Exploration: with a small chance a decision takes the other side of the rule, so that the log can say what that side is worth."""

from __future__ import annotations

from dataclasses import replace

from router.policy import Policy
from router.types import Choice

EXPLORED_FROM = "explored_from"
"""Key of ``extra`` that holds the cause the rule had."""


def explore(choice: Choice, policy: Policy, draw: float) -> tuple[Choice, float]:
    """What the policy does with the rule's choice, and the chance with which it does that.

    With chance ``policy.exploration`` the label's model answers where the rule fell back, and the fallback model where it
    followed (cause ``explored``). Where both are one model there is nothing to explore: chance 1.

    Parameters
    ----------
    draw : uniform in [0, 1).

    Examples
    --------
    >>> from router.policy import decide
    >>> policy = replace(Policy.preset("seed"), exploration=0.02)
    >>> rule = decide({"simple": 0.9, "coding": 0.05, "reasoning": 0.03, "creative": 0.02}, policy)
    >>> [(x.model_chosen, x.cause, p) for x, p in (explore(rule, policy, 0.02), explore(rule, policy, 0.019))]
    [('gpt-4o-mini', 'routed', 0.98), ('gpt-4o', 'explored', 0.02)]
    """
    own = policy.by_name[choice.top_label].model
    if own == policy.fallback_model:
        return choice, 1.0
    if draw >= policy.exploration:
        return choice, 1.0 - policy.exploration
    other = own if choice.is_fallback else policy.fallback_model
    return replace(choice, model_chosen=other, cause="explored", is_fallback=False), policy.exploration
