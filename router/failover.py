"""Who is asked next when a model or its provider fails.

One deadline holds for the whole chain. Each model but the last gets an equal share of the time that is left
(left / models left), so that one that hangs leaves time for the next; what it does not use goes to those behind it.

A chain moves on after what another provider can mend: no answer in its share of the time, rate limit, overload, no
connection, one that broke off, a server error, a refused key or account, a model that is not known, a missing key, a reply that cannot be
read or holds nothing, a stream that ended before any of it reached the caller. It does not after what the model or the
caller meant (refusal, content filter, token limit, tool call, cancelled), after a request that was refused as such
(``rejected``: another model would be sent the same), nor after a failure that nobody can name (``error``: it may be the
request's). A stream that has shown text never moves on: two models would have written one reply.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from router.errors import InputError
from router.prompts import not_sendable
from router.types import Attempt, Completion, Outcome, ToolChoice, Tools

if TYPE_CHECKING:
    from router.policy import Model
    from router.providers.base import Provider
    from router.providers.call import Options, Progress

MOVES_ON: frozenset[Outcome] = frozenset(
    {
        "timeout",
        "rate_limited",
        "overloaded",
        "server_error",
        "unreachable",
        "broken_off",
        "auth",
        "not_found",
        "no_key",
        "malformed",
        "empty",
        "cut_stream",
    }
)
"""Outcomes after which the next model of a chain is asked."""

PATIENCE_S = 2.0
"""A provider that asks to wait longer is not waited for while another model can be asked."""


@dataclass(frozen=True, slots=True)
class Link:
    """A model that can be called, and those before it in the chain that cannot (no key, no provider)."""

    model: Model
    provider: Provider
    skipped: tuple[Attempt, ...] = ()


class Chain:
    """One call: its models in order, its deadline on the monotonic clock, and what has failed so far."""

    def __init__(self, links: Sequence[Link], deadline_s: float) -> None:
        self._links = tuple(links)
        self._at = 0
        self._deadline = time.monotonic() + deadline_s
        self.attempts = 0
        """Requests to models that failed."""
        self.failed: tuple[Attempt, ...] = self._links[0].skipped
        self._progress: Progress | None = None
        self.started = time.monotonic()
        """When the model of now was asked first."""

    def _watch(self, progress: Progress) -> None:
        self._progress = progress

    def so_far(self) -> Completion | None:
        """What the call to the model of now has come to, for a caller that goes away; None before its first request."""
        return None if self._progress is None else self._progress.completion("cancelled")

    @property
    def model(self) -> Model:
        """The model of now."""
        return self._links[self._at].model

    @property
    def models(self) -> tuple[Model, ...]:
        """Every model that may be asked, in order."""
        return tuple(link.model for link in self._links)

    @property
    def provider(self) -> Provider:
        """Its provider."""
        return self._links[self._at].provider

    @property
    def left_s(self) -> float:
        """Seconds to the deadline of the whole call, 0 past it."""
        return max(self._deadline - time.monotonic(), 0.0)

    @property
    def share_s(self) -> float:
        """Seconds that the model of now has."""
        return self.left_s / (len(self._links) - self._at)

    def options(self, given: Options) -> Options:
        """How the model of now is called: what was ``given``, and its share of the time."""
        made: Options = {**given, "deadline_s": self.share_s, "watch": self._watch}
        if self._at + 1 < len(self._links):
            made["patience_s"] = PATIENCE_S
        return made

    def moves_on(self, completion: Completion, *, shown: bool = False) -> bool:
        """Whether the next model is to be asked; from then on it is the model of now.

        Parameters
        ----------
        shown : a part of the reply has reached the caller.
        """
        if shown or completion.outcome not in MOVES_ON:
            return False
        if self._at + 1 >= len(self._links) or self.left_s <= 0.0:
            return False
        self._at += 1
        self.attempts += completion.attempts
        self.failed += (*completion.failed, last_attempt(completion), *self._links[self._at].skipped)
        self.started = time.monotonic()
        self._progress = None
        return True


def ask_options(
    system: str | None, max_tokens: int | None, tools: Tools | None, tool_choice: ToolChoice | None
) -> Options:
    """What the caller asks of whichever model answers.

    Raises
    ------
    InputError
        An argument is of another type, or tools hold what no API can be sent.
    """
    _check("system", system, system is None or isinstance(system, str), "text")
    is_whole = isinstance(max_tokens, int) and not isinstance(max_tokens, bool)
    _check("max_tokens", max_tokens, max_tokens is None or is_whole, "a whole number")
    if max_tokens is not None and max_tokens < 1:
        raise InputError(
            f"max_tokens: found {max_tokens}, expected 1 or more, or None for the model's own setting"
        )
    listed = isinstance(tools, Sequence) and not isinstance(tools, str | bytes)
    mappings = listed and all(isinstance(tool, Mapping) for tool in tools or ())
    odd = next((tool for tool in tools or () if not isinstance(tool, Mapping)), None) if listed else tools
    _check("tools", odd, tools is None or mappings, "a list of mappings")
    _check(
        "tool_choice",
        tool_choice,
        tool_choice is None or isinstance(tool_choice, str | Mapping),
        "text or a mapping",
    )
    for name, value in (("tools", list(tools or ())), ("tool_choice", tool_choice)):
        if (found := not_sendable(value)) is not None:
            raise InputError(f"{name} holds {found}; expected text, numbers, lists and mappings")
    return {
        "deadline_s": 0.0,
        "system": system,
        "max_tokens": max_tokens,
        "tools": tools,
        "tool_choice": tool_choice,
    }


def _check(name: str, value: object, fits: bool, expected: str) -> None:
    if not fits:
        raise InputError(f"{name}: found {type(value).__name__}, expected {expected}")


def last_attempt(completion: Completion) -> Attempt:
    """The last request of a call that failed; its cost is for the router to say."""
    tried_ms = sum(x.total_ms or 0.0 for x in completion.failed)
    spent_ms = None if completion.total_ms is None else max(completion.total_ms - tried_ms, 0.0)
    return Attempt.of(completion.model, completion.outcome, completion.error_type, completion.usage, spent_ms)
