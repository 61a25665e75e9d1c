"""Frozen records that pass between the parts. Standard library only: ``import router`` stays light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Protocol, runtime_checkable

Cause = Literal[
    "routed", "low_confidence", "low_margin", "classifier_error", "classifier_timeout", "forced", "explored"
]
REPLIES: tuple[str, ...] = ("ok", "length", "tool_call", "refusal", "content_filter")
"""Outcomes of a model call that gave something usable; every other one failed."""

CAUSES: tuple[Cause, ...] = (
    "routed",
    "low_confidence",
    "low_margin",
    "classifier_error",
    "classifier_timeout",
    "forced",
    "explored",
)

Outcome = Literal[
    "ok",
    "length",
    "tool_call",
    "refusal",
    "content_filter",
    "empty",
    "malformed",
    "cut_stream",
    "timeout",
    "rate_limited",
    "auth",
    "rejected",
    "not_found",
    "overloaded",
    "server_error",
    "unreachable",
    "broken_off",
    "cancelled",
    "no_key",
    "spend_cap",
    "error",
]
"""How a model call ended. NULL in the log: no call was made through Routescope.

``server_error``: a status 5xx. ``unreachable``: no connection came about, so nothing was sent. ``broken_off``: the request
was sent or taken, then the connection or the server failed before any text, so that it may have been charged; after some
text of a stream that is ``cut_stream``. So is a reply that its provider calls incomplete without a reason known here; one
without text is then ``malformed``.
"""

Verdict = Literal["right", "wrong", "unsure"]
VERDICTS: tuple[Verdict, ...] = ("right", "wrong", "unsure")
"""What a person may say of a decision."""

Queue = Literal["audit", "estimate", "learn"]
QUEUES: tuple[Queue, ...] = ("audit", "estimate", "learn")
"""Why a decision was drawn for review: uniformly (feeds promises), by strata (feeds estimates), to learn from (neither)."""

UNCHARGED: frozenset[str] = frozenset(
    {
        "rate_limited",
        "auth",
        "rejected",
        "not_found",
        "overloaded",
        "server_error",
        "unreachable",
        "no_key",
        "spend_cap",
    }
)
"""Outcomes that no provider charges for: the request was refused, or never came to a model. Any other may have cost."""

PLAIN_TIERS: frozenset[str] = frozenset({"default", "standard", "auto", "on_demand"})
"""Words for a service tier that mean the list price, as "not told" does: OpenAI's, Anthropic's, what some servers echo, Groq's.

The macro ``rate_tier`` of the log is the same in SQL.
"""

Grade = Literal["measured", "estimated", "assumed"]
Durability = Literal["process", "async", "power"]
Message = Mapping[str, Any]
Prompt = str | Sequence[Message]
Tools = Sequence[Mapping[str, Any]]
ToolChoice = str | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Label:
    """A routing class.

    Attributes
    ----------
    name : unique in its policy.
    rubric : the question that defines it.
    model : who answers when the label wins with enough confidence.
    examples : prompts that belong to it; a local classifier learns from them.
    threshold : this label's own least confidence in [0, 1] on the 1e-4 grid; None: the policy's.
    failover : who is asked, in this order, when ``model`` or its provider fails.
    """

    name: str
    rubric: str
    model: str = ""
    examples: tuple[str, ...] = field(default=(), repr=False)
    threshold: float | None = None
    failover: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Classification:
    """A classifier's answer: one score in [0, 1] per label; whether they sum to 1 is not assumed.

    ``calibrated`` is True when the scores were fitted to match observed accuracy.
    ``cost_usd`` is what the classifier call cost: 0 for a local one, None when unknown. ``top_label`` has the best score;
    ``reported_top_label`` is what the classifier called best where that is another one, else None.
    """

    top_label: str
    scores: Mapping[str, float]
    classifier: str
    calibrated: bool
    latency_ms: float
    cost_usd: Decimal | None = None
    reported_top_label: str | None = None


@runtime_checkable
class Classifier(Protocol):
    """Anything that scores a text against labels."""

    @property
    def name(self) -> str:
        """Name and version, as written to every decision."""

    def classify(self, text: str, labels: Sequence[Label]) -> Classification:
        """Score ``text`` against ``labels``; raises a ClassifierError, never anything else on purpose."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the rule chose. ``runner_up`` and ``margin`` are None with one label."""

    top_label: str
    confidence: float
    runner_up: str | None
    margin: float | None
    model_chosen: str
    cause: Cause
    is_fallback: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts in disjoint buckets, but for ``reasoning_tokens``, which is a part of ``output_tokens``.

    ``input_tokens`` are the uncached ones; ``cache_write_1h_tokens`` those of the cache writes that live for an hour, which cost
    more. ``service_tier`` is the provider's word for how the request was served ("flex", "priority", "batch", ...), which sets
    its rates. None means that the provider did not say; never read it as 0.
    """

    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    grade: Grade = "measured"
    cache_write_1h_tokens: int | None = None
    service_tier: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request that gave no reply and was followed by another, to the same model or to the next of a failover chain.

    Token counts and cost are None where the provider told none; never read that as 0. The cost of an outcome that nobody charges
    for (``UNCHARGED``) is 0.
    """

    model: str
    outcome: Outcome
    error_type: str | None = None
    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: Decimal | None = None
    total_ms: float | None = None
    cache_write_1h_tokens: int | None = None
    service_tier: str | None = None

    @classmethod
    def of(
        cls, model: str, outcome: Outcome, error_type: str | None, usage: Usage | None, total_ms: float | None
    ) -> Attempt:
        """An attempt with these tokens, not priced yet."""
        told = Usage(None, None) if usage is None else usage
        return cls(
            model,
            outcome,
            error_type,
            told.input_tokens,
            told.cache_read_tokens,
            told.cache_write_tokens,
            told.output_tokens,
            told.reasoning_tokens,
            total_ms=total_ms,
            cache_write_1h_tokens=told.cache_write_1h_tokens,
            service_tier=told.service_tier,
        )

    @property
    def may_be_charged(self) -> bool:
        """Whether a provider may charge for it: its outcome is none that is free, or it told tokens."""
        told = self.input_tokens is not None or self.output_tokens is not None
        return told or self.outcome not in UNCHARGED

    @property
    def usage(self) -> Usage:
        """Its tokens in the form that is priced."""
        return Usage(
            self.input_tokens,
            self.output_tokens,
            self.cache_read_tokens,
            self.cache_write_tokens,
            self.reasoning_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens,
            service_tier=self.service_tier,
        )


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool that a model asked for.

    ``arguments`` is JSON text as the model wrote it, for a custom tool its free text: check it before use.
    """

    id: str
    name: str
    arguments: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Completion:
    """How one model call ended. ``text`` is what arrived, also of a reply that was cut.

    ``attempts`` counts requests; ``failed`` holds those before the last, whose end is that of the call.
    """

    text: str = field(repr=False)
    model: str
    outcome: Outcome
    usage: Usage | None = None
    finish_reason: str | None = None
    first_token_ms: float | None = None
    total_ms: float | None = None
    attempts: int = 1
    error_type: str | None = None
    failed: tuple[Attempt, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """One logged routing. Field names are the columns of the ``decisions`` table.

    ``confidence``, ``margin``, ``top_label`` are None, and ``scores`` empty, when the classifier failed.
    ``model_chosen`` is the rule's choice, ``model_used`` the one that answered (or failed last). ``prompt`` is left out of
    ``repr``. ``outcome`` and the token counts are None when no call was made through Routescope. Tokens, cost and times are
    those of the last request; ``attempts`` counts all requests, ``failed_attempts`` tells of those before it, and
    ``failed_cost_usd`` is what those cost together as far as it is known, None when that of none is. ``propensity`` is the
    chance with which an exploring policy made this choice, None under any other policy and for a forced model.
    ``service_tier`` is the provider's word for how it served the call, None where it said none.
    """

    id: str
    decided_at: datetime
    prompt: str | None = field(repr=False)
    prompt_sha256: str = field(repr=False)
    prompt_chars: int
    top_label: str | None
    confidence: float | None
    scores: Mapping[str, float]
    runner_up: str | None
    margin: float | None
    threshold: float
    cause: Cause
    is_fallback: bool
    model_chosen: str
    model_used: str | None
    classifier: str
    calibrated: bool | None
    classify_ms: float | None
    policy_fingerprint: str
    labels_fingerprint: str
    classifier_cost_usd: Decimal | None = None
    session_id: str | None = None
    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage_grade: Grade | None = None
    cost_usd: Decimal | None = None
    price_version: str | None = None
    first_token_ms: float | None = None
    total_ms: float | None = None
    finish_reason: str | None = None
    outcome: Outcome | None = None
    error_type: str | None = None
    attempts: int | None = None
    failed_attempts: tuple[Attempt, ...] = ()
    failed_cost_usd: Decimal | None = None
    propensity: float | None = None
    cache_write_1h_tokens: int | None = None
    service_tier: str | None = None
    source: str = "router"
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer together with the decision that chose it.

    ``cost_usd`` is None when the price or the usage is unknown. ``outcome`` says how the call ended. ``tool_calls`` are
    the tools that the model wants called; nothing is called here.
    """

    decision: Decision
    text: str = field(repr=False)
    usage: Usage | None
    cost_usd: Decimal | None
    outcome: Outcome = "ok"
    tool_calls: tuple[ToolCall, ...] = ()
