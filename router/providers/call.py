"""One model call: what was asked, what it has come to, and what the faults of a provider mean."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Required, TypedDict

from router.elapsed import ms_since
from router.providers.deadline import MAX_WAIT_S, retry_after_s
from router.types import Attempt, Completion, Outcome, ToolCall, ToolChoice, Tools, Usage

if TYPE_CHECKING:
    from router.policy import Model

SETTLE_S = 1.0
"""How long a stream whose reply is complete is kept open for its token counts."""

MAX_DEADLINE_S = 86_400.0

_FINISH: dict[str, Outcome] = {
    "length": "length",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_calls": "tool_call",
    "function_call": "tool_call",
    "tool_use": "tool_call",
    "pause_turn": "tool_call",
    "content_filter": "content_filter",
    "refusal": "refusal",
    "error": "error",  # gateways say so when the model behind them broke off
}


class Options(TypedDict, total=False):
    """How one call is made.

    Attributes
    ----------
    deadline_s : seconds for everything.
    max_tokens : longest reply; None: as the model's settings say.
    tools, tool_choice : in the form of chat completions, Responses or messages; each provider is sent its own.
    patience_s : a server that asks to wait longer is not waited for.
    may_ask_again : asked in a thread, with the model's name and the seconds left, before a request is made again that
        may have been charged; False ends the call with what it has come to.
    watch : given the call's progress as it begins, for a caller that goes away before it ends.
    """

    deadline_s: Required[float]
    system: str | None
    max_tokens: int | None
    tools: Tools | None
    tool_choice: ToolChoice | None
    patience_s: float
    may_ask_again: Callable[[str, float], bool]
    watch: Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Request:
    """One call as the caller asked for it; its ``repr`` shows no prompt."""

    model: str
    messages: Sequence[Mapping[str, Any]] = field(repr=False)
    system: str | None = field(repr=False)
    max_tokens: int
    api: str = "chat"
    tools: Tools | None = field(default=None, repr=False)
    tool_choice: ToolChoice | None = field(default=None, repr=False)
    patience_s: float = MAX_WAIT_S
    may_ask_again: Callable[[str, float], bool] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Fault:
    """What an exception of an SDK comes to."""

    outcome: Outcome
    error_type: str
    retriable: bool = False
    wait_s: float | None = None
    said: str = field(default="", repr=False)
    """Text of a refused request, read for the name of a parameter and then dropped."""


@dataclass(slots=True)
class Progress:
    """What a call has come to so far; written by the call, read by whoever gives up on it."""

    model: str
    deadline: float
    started: float = field(default_factory=time.monotonic)
    attempts: int = 0
    pieces: list[str] = field(default_factory=list, repr=False)
    first_token_ms: float | None = None
    usage: Usage | None = None
    service_tier: str | None = None
    finish_reason: str | None = None
    refused: bool = False
    ran_tools: bool = False
    """The provider ran tools itself, which it charges by use: the price of the tokens would look like all of it."""
    calls: dict[int, list[str]] = field(default_factory=dict, repr=False)
    failed: list[Attempt] = field(default_factory=list)
    asked_at: float = field(default_factory=time.monotonic)
    corrected: set[str] = field(default_factory=set)
    begun: bool = False
    """The provider has begun to answer: what fails from here on may have been charged."""
    late: Fault = Fault("timeout", "TimeoutError")
    outcome: Outcome | None = None
    error_type: str | None = None
    timer: asyncio.Timeout | None = field(default=None, repr=False)
    emit: Callable[[str], None] | None = field(default=None, repr=False)

    @property
    def left(self) -> float:
        """Seconds to the deadline; negative past it."""
        return self.deadline - time.monotonic()

    def add(self, text: Any) -> None:
        """Take a piece of text that arrived; anything but text is not one."""
        if not isinstance(text, str) or not text:
            return
        piece = clean(text)
        if self.emit is not None:
            if self.first_token_ms is None:
                self.first_token_ms = ms_since(self.started)
            self.emit(piece)
        self.pieces.append(piece)

    def call_tool(
        self, index: Any, id: Any = None, name: Any = None, arguments: Any = None, *, custom: bool = False
    ) -> None:
        """Take a tool call, or the next piece of one: its number, and what of it is told here.

        Arguments that are no text, as some servers send them, are taken as their JSON. ``custom``: the tool takes free text,
        so that no arguments are an empty text.
        """
        key = index if isinstance(index, int) else len(self.calls)
        told = self.calls.setdefault(key, ["", "", "", "{}"])
        if custom:
            told[3] = ""
        for place, text in enumerate((id, name)):
            if isinstance(text, str) and text:
                told[place] = clean(text)[:256]
        if isinstance(arguments, str):
            told[2] += clean(arguments)
        elif arguments not in (None, {}):  # an empty object may stand where a stream's pieces begin
            told[2] += json.dumps(cleaned(arguments), ensure_ascii=False)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls so far that have a name, in order; a server may leave out the arguments of a tool that takes none."""
        calls = [told for _, told in sorted(self.calls.items())]
        return tuple(ToolCall(id, name, given or none) for id, name, given, none in calls if name)

    @property
    def told(self) -> Usage | None:
        """The tokens as far as they can be relied on.

        A count that runs along in a stream is not the output of one that ended before its end; and a reply that is there
        was not made of no tokens. Beside tools that the provider ran, none can.
        """
        if self.usage is None or self.ran_tools:
            return None
        usage = self.usage
        if self.service_tier is not None:
            usage = replace(usage, service_tier=self.service_tier)
        if self.emit is not None and self.finish_reason is None:
            return without_output(usage)
        return None if usage.output_tokens == 0 and (self.calls or "".join(self.pieces).strip()) else usage

    def served(self, tier: Any) -> None:
        """Take the provider's word for how it serves the request; the last one counts (a stream first repeats what was asked)."""
        if isinstance(tier, str) and tier:
            self.service_tier = clean(tier)[:32]

    def failing(self, fault: Fault) -> Attempt:
        """The record of the request that has just failed."""
        spent_ms = ms_since(self.asked_at)
        return Attempt.of(self.model, fault.outcome, fault.error_type, self.told, spent_ms)

    def again(self, failed: Attempt) -> None:
        """Keep a request as one that failed; the next begins now."""
        self.failed.append(failed)
        self.asked_at = time.monotonic()

    def finish(self, reason: Any) -> None:
        """The reply is complete; in a stream only token counts can follow, and they are not waited for long."""
        if isinstance(reason, str) and reason:
            self.finish_reason = clean(reason)[:64]
            self.settle()

    def settle(self, failed: Fault | None = None) -> None:
        """What a stream had to say is said: its end is not waited for long. ``failed``: what it comes to then."""
        if failed is not None:
            self.late = failed
        if self.timer is not None and self.emit is not None:
            with contextlib.suppress(RuntimeError):  # it is just going off
                now = asyncio.get_running_loop().time()  # which need not be the monotonic clock's
                self.timer.reschedule(now + min(max(self.left, 0.0), SETTLE_S))

    def end(self, outcome: Outcome, error_type: str | None = None) -> None:
        """Set how the call ended; a reply that was complete stays complete whatever happens after it."""
        if self.finish_reason is not None and self.outcome is not None:
            return
        if self.finish_reason is not None:
            self.conclude()
        else:
            self.outcome, self.error_type = outcome, error_type

    def conclude(self, *, unfinished: bool = False) -> None:
        """Outcome of a reply that is all here: by its finish reason, then by what it holds.

        ``unfinished``: the provider says that it stopped before its end, for no reason that is known here.
        """
        outcome, fault = _FINISH.get(self.finish_reason or "", "ok"), None
        shown = bool("".join(self.pieces).strip())
        if self.refused:
            outcome = "refusal"
        elif outcome == "error":
            fault = "FailedReply"
        elif unfinished and outcome == "ok":
            outcome, fault = ("cut_stream" if shown else "malformed"), "UnfinishedReply"
        elif outcome == "ok" and self.calls:
            outcome = "tool_call"  # OpenAI says "stop" when the caller had named the tool
        elif outcome == "ok" and not shown:
            outcome = "empty"
        if not all(name for _, name, *_ in self.calls.values()):
            outcome, fault = "malformed", "MalformedReply"  # nobody could run such a call
        self.outcome, self.error_type = outcome, fault

    def completion(self, outcome: Outcome | None = None, error_type: str | None = None) -> Completion:
        """The record of the call; the arguments hold where the call itself has not said how it ended."""
        if self.outcome is None and outcome is not None:
            self.end(outcome, error_type)
        return Completion(
            text="".join(self.pieces),
            model=self.model,
            outcome=self.outcome or "error",
            usage=self.told,
            finish_reason=self.finish_reason,
            first_token_ms=self.first_token_ms,
            total_ms=ms_since(self.started),
            attempts=self.attempts,
            error_type=self.error_type,
            failed=tuple(self.failed),
            tool_calls=self.tool_calls,
        )


def begin(model: Model, messages: Sequence[Mapping[str, Any]], options: Options) -> tuple[Request, Progress]:
    """A call and its clock, which starts here."""
    request = Request(
        model.name,
        messages,
        options.get("system"),
        options.get("max_tokens") or model.max_tokens,
        model.api,
        options.get("tools") or None,
        options.get("tool_choice"),
        options.get("patience_s", MAX_WAIT_S),
        options.get("may_ask_again"),
    )
    span = min(max(options["deadline_s"], 0.0), MAX_DEADLINE_S)
    progress = Progress(model.name, deadline=time.monotonic() + span)
    if (watch := options.get("watch")) is not None:
        watch(progress)
    return request, progress


def clean(text: str) -> str:
    """The text with each lone surrogate replaced by U+FFFD: no wire format or database can carry one."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def cleaned(value: Any) -> Any:
    """``clean`` for every string in nested lists and mappings."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {cleaned(key): cleaned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(item) for item in value]
    return value


def get(source: Any, name: str) -> Any:
    """A field of an SDK object or of the plain value that the SDK passes on where a reply is malformed."""
    return source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)


def without_output(usage: Usage) -> Usage | None:
    """Usage whose output is not known after all; None where nothing else is."""
    return None if usage.input_tokens is None else replace(usage, output_tokens=None, reasoning_tokens=None)


def broken(fault: Fault, *, shown: bool) -> Fault:
    """The fault of a provider that had begun to answer. ``shown``: some of a stream has been handed on."""
    if fault.outcome in ("rate_limited", "overloaded", "server_error", "unreachable"):
        fault = replace(fault, outcome="broken_off")
    if shown and fault.outcome in ("broken_off", "timeout"):
        fault = replace(fault, outcome="cut_stream")
    return fault


def status_fault(
    status: int, headers: Mapping[str, str], error_type: str, said: str, *, spent: bool = False
) -> Fault:
    """What an HTTP status comes to. ``spent``: a quota that no waiting brings back."""
    wait = retry_after_s(headers)
    again = headers.get("x-should-retry") != "false"
    if status == 429:
        return Fault("rate_limited", error_type, again and not spent, wait)
    if status == 408:
        return Fault("timeout", error_type, again, wait)
    if status >= 500:
        return Fault("overloaded" if status in (503, 529) else "server_error", error_type, again, wait)
    if status in (401, 402, 403):
        return Fault("auth", error_type)
    if status == 404:
        return Fault("not_found", error_type)
    return Fault("rejected" if status >= 300 else "malformed", error_type, said=said)
