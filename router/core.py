"""``Router`` and ``AsyncRouter``: classify, decide, complete, log. No logic of their own."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from router import config
from router.errors import (
    ClassifierError,
    ClassifierTimeout,
    ConfigurationError,
    InputError,
    MissingKeyError,
    ProviderError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnreachable,
    ScoresError,
)
from router.policy import Policy, decide
from router.types import (
    Cause,
    Choice,
    Classification,
    Classifier,
    Completion,
    Decision,
    Outcome,
    Prompt,
    Reply,
    Usage,
)

if TYPE_CHECKING:
    from router.log.writer import Writer
    from router.prices import PriceBook
    from router.providers.base import Provider

DEADLINE_S = 60.0
EMPTY_PROMPT = "EmptyPrompt"
MAX_EXTRA_LABELS = 64
"""Scores of labels outside the policy that are kept in a row; all are counted."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLIES = frozenset({"ok", "length", "tool_call", "refusal", "content_filter"})
_FAILURES: Mapping[str, type[ProviderError]] = {
    "timeout": ProviderTimeout,
    "rate_limited": ProviderRateLimited,
    "auth": ProviderRejected,
    "rejected": ProviderRejected,
    "not_found": ProviderRejected,
    "overloaded": ProviderUnreachable,
    "unreachable": ProviderUnreachable,
}


@dataclass(frozen=True, slots=True)
class _Asked:
    """A prompt made ready: what is classified and logged, and what is sent to a model."""

    text: str = field(repr=False)
    messages: list[dict[str, Any]] = field(repr=False)
    sha256: str = field(repr=False)
    chars: int
    replaced: int


class _Base:
    """What the two routers share: everything but waiting."""

    def __init__(
        self,
        policy: Policy | str | os.PathLike[str] | None = None,
        *,
        classifier: Classifier | None = None,
        data: str | os.PathLike[str] | None = "data",
        prices: PriceBook | None = None,
        source: str = "router",
        deadline_s: float = DEADLINE_S,
        log: bool = True,
        clock: Callable[[], datetime] | None = None,
        new_id: Callable[[datetime], str] | None = None,
    ) -> None:
        """Make a router.

        Parameters
        ----------
        policy : a Policy, a file, or None for ``<data>/policy.toml``, else preset "seed".
        classifier : None builds the one that the policy names.
        data : folder of the log; None takes ``ROUTESCOPE_DATA``, else ``data``.
        prices : None builds a price book with the policy's own prices.
        source : written to every decision, to tell traffic apart.
        deadline_s : seconds for a model call, everything included.
        log : False decides without writing anything.
        clock, new_id : naive UTC now, and an id for it.
        """
        self.data = config.data_dir(data)
        self.policy = load_policy(policy, self.data)
        self.source = source
        self._deadline_s = deadline_s
        self._classifier = classifier
        self._prices = prices
        self._providers: dict[str, Provider] = {}
        self._clock = clock or _utc_now
        self._new_id = new_id or _new_id
        self._writer: Writer | None = None
        if log:
            from router.log.writer import Writer

            self._writer = Writer(self.data)

    @property
    def classifier(self) -> Classifier:
        """The classifier in use, built on first use."""
        if self._classifier is None:
            self._classifier = build_classifier(self.policy, self.data)
        return self._classifier

    @property
    def prices(self) -> PriceBook:
        """The price book in use, built on first use."""
        if self._prices is None:
            from router.prices import PriceBook

            self._prices = PriceBook(self.policy.models)
        return self._prices

    @property
    def dropped(self) -> Counter[str]:
        """Decisions that could not be logged, by reason."""
        return Counter() if self._writer is None else self._writer.dropped

    def _classify(self, asked: _Asked) -> Classification | ClassifierError:
        """Ask the classifier; whatever goes wrong comes back as a ClassifierError, so that the request still goes out."""
        if not asked.text.strip():
            return _named(ClassifierError("the prompt is empty; the classifier was not asked"), EMPTY_PROMPT)
        try:
            answer = self.classifier.classify(asked.text, self.policy.labels)
        except ClassifierError as error:
            return error
        except ConfigurationError:
            raise  # a missing key or digest is the owner's to mend, before any traffic
        except Exception as error:
            name = type(error).__name__
            return _named(ClassifierError(f"the classifier raised {name}"), name)
        if not isinstance(answer, Classification) or not isinstance(answer.scores, Mapping):
            found = type(getattr(answer, "scores", answer)).__name__  # type: ignore[unreachable]
            return _named(
                ClassifierError(f"the classifier returned a {found}, expected scores by label"), "BadReply"
            )
        return answer

    def _decide(
        self,
        asked: _Asked,
        answer: Classification | ClassifierError,
        model: str | None,
        session_id: str | None,
    ) -> Decision:
        policy = self.policy
        extra: dict[str, Any] = {}
        reply: Classification | None = None
        choice: Choice | None = None
        error: ClassifierError | None = None
        if isinstance(answer, Classification):
            reply = answer
            try:
                choice = decide(reply.scores, policy)
                extra = _oddities(reply, choice, policy)
            except ScoresError as fault:
                error = fault
                extra = {"raw_scores": {_brief(k): _brief(v) for k, v in list(reply.scores.items())[:64]}}
        else:
            error = answer
        cause: Cause
        if choice is not None:
            cause, chosen = choice.cause, choice.model_chosen
        else:
            cause = "classifier_timeout" if isinstance(error, ClassifierTimeout) else "classifier_error"
            chosen = policy.fallback_model
        if model is not None:
            cause, chosen = "forced", model
        if asked.replaced:
            extra["replaced_surrogates"] = asked.replaced
        now = self._clock()
        if now.tzinfo is not None:
            now = now.astimezone(UTC).replace(
                tzinfo=None
            )  # the log's times have no zone: DuckDB would drop it silently
        return Decision(
            id=self._new_id(now),
            decided_at=now,
            prompt=asked.text,
            prompt_sha256=asked.sha256,
            prompt_chars=asked.chars,
            top_label=None if choice is None else choice.top_label,
            confidence=None if choice is None else choice.confidence,
            scores={} if reply is None or choice is None else _kept_scores(reply.scores, policy),
            runner_up=None if choice is None else choice.runner_up,
            margin=None if choice is None else choice.margin,
            threshold=policy.threshold if choice is None else policy.threshold_for(choice.top_label),
            cause=cause,
            is_fallback=cause in ("low_confidence", "low_margin"),
            model_chosen=chosen,
            model_used=chosen,
            classifier=self.classifier_name if reply is None else reply.classifier,
            calibrated=None if reply is None else reply.calibrated,
            classify_ms=None if reply is None else reply.latency_ms,
            classifier_cost_usd=None if reply is None else reply.cost_usd,
            policy_fingerprint=policy.fingerprint,
            labels_fingerprint=policy.labels_fingerprint,
            session_id=session_id,
            error_type=None if error is None else error.name or type(error).__name__,
            source=self.source,
            extra=extra,
        )

    @property
    def classifier_name(self) -> str:
        """Name and version of the classifier, without building one."""
        return self._classifier.name if self._classifier is not None else self.policy.classifier

    def _provider(self, model: str) -> Provider:
        """The provider of a model, its key checked before the SDK is built."""
        settings = self.policy.model(model)
        name = settings.provider or self.prices.provider(model)
        if name is None:
            raise ConfigurationError(
                f'no provider is known for model {model!r}; add [models."{model}"] with provider = "openai" or '
                '"anthropic" to the policy'
            )
        where = f"{name} {settings.base_url or ''}"
        if where not in self._providers:
            endpoint = config.endpoint(name, settings.base_url, settings.key_env)
            from router.providers import provider_for

            self._providers[where] = provider_for(name, endpoint)
        return self._providers[where]

    def _not_called(self, decision: Decision, error: ConfigurationError) -> None:
        """Log a decision whose model could not be called for want of a key or a provider."""
        outcome: Outcome = "no_key" if isinstance(error, MissingKeyError) else "error"
        self._log(replace(decision, model_used=None, outcome=outcome, error_type=type(error).__name__))

    def _finish(self, decision: Decision, completion: Completion) -> Reply:
        """Log how the call ended; the reply, or a ProviderError that carries the decision."""
        usage = completion.usage
        cost = self._cost(usage, completion.model, decision.decided_at.date())
        done = replace(
            decision,
            model_used=completion.model,
            input_tokens=None if usage is None else usage.input_tokens,
            cache_read_tokens=None if usage is None else usage.cache_read_tokens,
            cache_write_tokens=None if usage is None else usage.cache_write_tokens,
            output_tokens=None if usage is None else usage.output_tokens,
            reasoning_tokens=None if usage is None else usage.reasoning_tokens,
            usage_grade=None if usage is None else usage.grade,
            cost_usd=cost,
            price_version=None if cost is None else self.prices.version,
            first_token_ms=completion.first_token_ms,
            total_ms=completion.total_ms,
            finish_reason=completion.finish_reason,
            outcome=completion.outcome,
            error_type=completion.error_type or decision.error_type,
            attempts=completion.attempts,
        )
        self._log(done)
        if completion.outcome not in _REPLIES:
            raise _failure(done, completion, self._deadline_s)
        return Reply(done, completion.text, usage, cost, completion.outcome)

    def _cost(self, usage: Usage | None, model: str, day: date) -> Decimal | None:
        return None if usage is None else self.prices.price(usage, model, day)

    def _log(self, decision: Decision) -> None:
        if self._writer is not None:
            self._writer.log(decision, self.policy)


class Router(_Base):
    """Routes prompts and logs every decision. Thread-safe; use as a context manager.

    Examples
    --------
    >>> import tempfile
    >>> from router import Policy, Router
    >>> with Router(Policy.preset("seed"), data=tempfile.mkdtemp()) as router:  # doctest: +SKIP
    ...     print(router.route("What is the capital of Japan?").top_label)
    simple
    """

    def route(self, prompt: Prompt, *, model: str | None = None, session_id: str | None = None) -> Decision:
        """Decide which model should answer, and log it. No key needed.

        Parameters
        ----------
        prompt : text, or a list of chat messages, whose last user turn is classified and logged.
        model : forces a model (cause ``forced``).

        Raises
        ------
        InputError
            Not text, or a message list without a user turn.
        """
        asked = ready(prompt)
        decision = self._decide(asked, self._classify(asked), model, session_id)
        self._log(decision)
        return decision

    def ask(
        self,
        prompt: Prompt,
        *,
        system: str | None = None,
        max_tokens: int | None = None,
        model: str | None = None,
        session_id: str | None = None,
    ) -> Reply:
        """Decide, call the model, and log both with tokens, cost and time.

        Raises
        ------
        MissingKeyError
            No key and no base URL for the model's provider; the decision is logged all the same.
        ProviderError
            The call ended without a usable reply (timeout, rate limit, ...); logged, as ``error.decision``.
        """
        asked = ready(prompt)
        decision = self._decide(asked, self._classify(asked), model, session_id)
        try:
            provider = self._provider(decision.model_chosen)
        except ConfigurationError as error:
            self._not_called(decision, error)
            raise
        completion = provider.complete(
            self.policy.model(decision.model_chosen),
            asked.messages,
            system=system,
            deadline_s=self._deadline_s,
            max_tokens=max_tokens,
        )
        return self._finish(decision, completion)

    def stream(
        self,
        prompt: Prompt,
        *,
        system: str | None = None,
        max_tokens: int | None = None,
        model: str | None = None,
        session_id: str | None = None,
    ) -> ReplyStream:
        """Like ``ask``, text as it arrives: iterate, then read ``reply``. Logged at the end, also of a stream cut short."""
        asked = ready(prompt)
        decision = self._decide(asked, self._classify(asked), model, session_id)
        try:
            provider = self._provider(decision.model_chosen)
        except ConfigurationError as error:
            self._not_called(decision, error)
            raise
        pieces = provider.stream(
            self.policy.model(decision.model_chosen),
            asked.messages,
            system=system,
            deadline_s=self._deadline_s,
            max_tokens=max_tokens,
        )
        return ReplyStream(self, decision, pieces)

    def flush(self) -> None:
        """Bring all rows into DuckDB; with a dashboard open its owner takes them within two seconds."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Flush and stop. Idempotent."""
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ReplyStream:
    """Text pieces of a reply. ``decision`` is there at once, ``reply`` after the last piece."""

    def __init__(self, router: _Base, decision: Decision, pieces: Any) -> None:
        self.decision = decision
        self.reply: Reply | None = None
        self._router = router
        self._pieces = pieces
        self._done = False

    def __iter__(self) -> Iterator[str]:
        try:
            yield from self._pieces
        finally:
            self._finish()

    def close(self) -> None:
        """Stop early: the call is logged as cancelled."""
        self._finish()

    def _finish(self) -> None:
        if not self._done:
            self._done = True
            self._pieces.close()
            self.reply = _settle(self._router, self.decision, self._pieces.completion)


def _settle(router: _Base, decision: Decision, completion: Completion) -> Reply:
    """Log a stream's end. A cancelled one gives the reply so far instead of an error."""
    try:
        return router._finish(decision, completion)
    except ProviderError as error:
        if completion.outcome != "cancelled" or error.decision is None:
            raise
        return Reply(error.decision, completion.text, completion.usage, error.decision.cost_usd, "cancelled")


class AsyncRouter(_Base):
    """``Router`` for asyncio: the classifier runs in a thread, the model call is awaited."""

    async def route(
        self, prompt: Prompt, *, model: str | None = None, session_id: str | None = None
    ) -> Decision:
        """See ``Router.route``."""
        decision = await self._decided(prompt, model, session_id)
        self._log(decision[1])
        return decision[1]

    async def ask(
        self,
        prompt: Prompt,
        *,
        system: str | None = None,
        max_tokens: int | None = None,
        model: str | None = None,
        session_id: str | None = None,
    ) -> Reply:
        """See ``Router.ask``. A cancelled task logs its decision with outcome ``cancelled``."""
        asked, decision = await self._decided(prompt, model, session_id)
        try:
            provider = await asyncio.to_thread(self._provider, decision.model_chosen)
        except ConfigurationError as error:
            self._not_called(decision, error)
            raise
        started = time.monotonic()
        try:
            completion = await provider.acomplete(
                self.policy.model(decision.model_chosen),
                asked.messages,
                system=system,
                deadline_s=self._deadline_s,
                max_tokens=max_tokens,
            )
        except asyncio.CancelledError:
            spent = (time.monotonic() - started) * 1000
            self._log(
                replace(
                    decision, outcome="cancelled", error_type="CancelledError", total_ms=spent, attempts=1
                )
            )
            raise
        return self._finish(decision, completion)

    async def stream(
        self,
        prompt: Prompt,
        *,
        system: str | None = None,
        max_tokens: int | None = None,
        model: str | None = None,
        session_id: str | None = None,
    ) -> AsyncIterator[str]:
        """Text as it arrives; logged at the end, also when the consumer stops early."""
        asked, decision = await self._decided(prompt, model, session_id)
        try:
            provider = await asyncio.to_thread(self._provider, decision.model_chosen)
        except ConfigurationError as error:
            self._not_called(decision, error)
            raise
        pieces = provider.astream(
            self.policy.model(decision.model_chosen),
            asked.messages,
            system=system,
            deadline_s=self._deadline_s,
            max_tokens=max_tokens,
        )
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()
            _settle(self, decision, pieces.completion)

    async def _decided(
        self, prompt: Prompt, model: str | None, session_id: str | None
    ) -> tuple[_Asked, Decision]:
        asked = ready(prompt)
        answer = await asyncio.to_thread(self._classify, asked)
        return asked, self._decide(asked, answer, model, session_id)

    async def flush(self) -> None:
        """See ``Router.flush``."""
        if self._writer is not None:
            await asyncio.to_thread(self._writer.flush)

    async def close(self) -> None:
        """See ``Router.close``."""
        if self._writer is not None:
            await asyncio.to_thread(self._writer.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def load_policy(policy: Policy | str | os.PathLike[str] | None, data: Path) -> Policy:
    """A policy as given, from its file, from ``<data>/policy.toml``, or preset "seed"."""
    if isinstance(policy, Policy):
        return policy
    path = config.policy_path(policy, data)
    return Policy.preset("seed") if path is None else Policy.load(path)


def build_classifier(policy: Policy, data: Path) -> Classifier:
    """The classifier that a policy names; fitted heads are kept beside the policy."""
    if policy.classifier == "scaledown":
        from router.classifiers.scaledown import ScaleDownClassifier

        return ScaleDownClassifier()
    from router.classifiers.local import LocalClassifier

    return LocalClassifier(cache_dir=data / "heads")


def ready(prompt: Prompt | Any) -> _Asked:
    """Check a prompt and take out what is classified: the text, or the last user turn of a message list.

    Lone surrogates, which no encoding can carry, are replaced by U+FFFD and counted.
    """
    if isinstance(prompt, str):
        text, messages = prompt, list[dict[str, Any]]()
    elif isinstance(prompt, bytes | bytearray) or not isinstance(prompt, Sequence):
        raise InputError(f"the prompt is a {type(prompt).__name__}; expected text or a list of messages")
    else:
        text, messages = _last_user_turn(prompt)
    replaced, chars = 0, len(text)
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        replaced = len(_SURROGATE.findall(text))
        text = _whole(text)
        encoded = text.encode()
    if isinstance(prompt, str):
        messages = [{"role": "user", "content": text}]
    return _Asked(text, messages, hashlib.sha256(encoded).hexdigest(), chars, replaced)


def _whole(value: Any) -> Any:
    """The value with lone surrogates in its texts replaced: no provider could be sent them."""
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return value


def _last_user_turn(prompt: Sequence[Any]) -> tuple[str, list[dict[str, Any]]]:
    messages = []
    text: str | None = None
    for number, message in enumerate(prompt, 1):
        if not isinstance(message, Mapping) or "role" not in message:
            raise InputError(f"message {number} is not a mapping with a role and content")
        messages.append({key: _whole(value) for key, value in message.items()})
        if message["role"] == "user":
            text = _content_text(message.get("content"), number)
    if text is None:
        raise InputError(f"none of {len(messages)} messages has role 'user'; expected at least one")
    return text, messages


def _content_text(content: Any, number: int) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and not isinstance(content, bytes | bytearray):
        return "\n".join(
            str(part["text"])
            for part in content
            if isinstance(part, Mapping) and isinstance(part.get("text"), str)
        )
    raise InputError(
        f"message {number} has content of type {type(content).__name__}; expected text or a list of parts"
    )


def _kept_scores(scores: Mapping[str, float], policy: Policy) -> dict[str, float]:
    """The policy's scores as plain numbers, as replied, and those of other labels as far as a row can hold them."""
    kept = {name: float(scores[name]) for name in policy.label_names}
    if len(scores) > len(kept):
        others = [(k, v) for k, v in scores.items() if k not in kept]
        for key, value in others[:MAX_EXTRA_LABELS]:
            if isinstance(key, str) and isinstance(value, float):
                kept[_whole(key[:64])] = float(value)
    return kept


def _brief(value: Any) -> str:
    """What stood where a score should stand, short; the name of its type when it is no plain number or text."""
    if isinstance(value, str):
        return str(_whole(value[:40]))
    return repr(value) if value is None or isinstance(value, bool | float) else type(value).__name__


def _oddities(answer: Classification, choice: Choice, policy: Policy) -> dict[str, Any]:
    """What was odd in a reply but did not stop the rule: kept in the row and countable."""
    extra: dict[str, Any] = {}
    reported = getattr(answer, "reported_top_label", None) or answer.top_label
    if reported != choice.top_label:
        extra["reported_top_label"] = _brief(reported)
    others = len(answer.scores) - len(
        policy.labels
    )  # every label of the policy has a score: decide() saw to it
    if others:
        extra["extra_labels"] = others
    return extra


def _failure(decision: Decision, completion: Completion, deadline_s: float) -> ProviderError:
    """The typed error of a call that gave no usable reply; says nothing of the request."""
    model, outcome = completion.model, completion.outcome
    if outcome == "timeout":
        text = f"{model} did not answer within {deadline_s:g} s; the decision is logged. Try again or raise deadline_s."
    else:
        why = {
            "auth": "the key was refused; check it",
            "rate_limited": "the provider asked to slow down; try later",
            "not_found": "the provider does not know this model; check its name in the policy",
        }
        text = f"{model} gave no usable reply ({outcome}): {why.get(outcome, 'the decision is logged, try again')}."
    error = _FAILURES.get(outcome, ProviderError)(text, outcome=outcome)
    error.decision = decision
    return error


def _named(error: ClassifierError, name: str) -> ClassifierError:
    error.name = name
    return error


def _utc_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _new_id(when: datetime) -> str:
    from router.log.record import unix_ms, uuid7

    return uuid7(unix_ms(when))
