"""What ``Router`` and ``AsyncRouter`` share: everything but waiting."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from router import config
from router.endings import brief, failure, kept_scores, named, oddities
from router.errors import (
    ClassifierError,
    ClassifierTimeout,
    ConfigurationError,
    MissingKeyError,
    ScoresError,
    SpendCapError,
)
from router.exploration import EXPLORED_FROM, explore
from router.failover import Chain, Link
from router.policy import Policy, decide
from router.prompts import Asked
from router.resolve import build_classifier, load_policy
from router.spend_caps import usd
from router.types import (
    REPLIES,
    UNCHARGED,
    Attempt,
    Cause,
    Choice,
    Classification,
    Classifier,
    Completion,
    Decision,
    Durability,
    Outcome,
    Reply,
    Usage,
)

if TYPE_CHECKING:
    from router.log.writer import Writer
    from router.prices import PriceBook
    from router.providers.base import Provider
    from router.providers.call import Options
    from router.spend import SpendMeter

DEADLINE_S = 60.0
EMPTY_PROMPT = "EmptyPrompt"

_Answer = Classification | ClassifierError


class RouterBase:
    """Settings, one decision, and how its end is logged."""

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
        prompts: str | None = None,
        redact: str | Callable[[str], str] | None = None,
        durability: Durability | None = None,
        max_usd: Decimal | float | str | None = None,
        max_usd_per_day: Decimal | float | str | None = None,
        clock: Callable[[], datetime] | None = None,
        new_id: Callable[[datetime], str] | None = None,
        rng: Callable[[], float] | None = None,
    ) -> None:
        """Make a router.

        Parameters
        ----------
        policy : a Policy, a file, or None for ``<data>/policy.toml``, else preset "seed".
        classifier : None builds the one that the policy names.
        data : folder of the log; None takes ``ROUTESCOPE_DATA``, else ``data``.
        prices : None builds a price book with the policy's own prices.
        source : written to every decision, to tell traffic apart.
        deadline_s : seconds for a model call, everything included: retries, slow replies, and the models of a failover
            chain, each of which has an equal share of what is left.
        log : False decides without writing anything.
        prompts : what is logged of a prompt: "full", "truncated:N", "hash" or "none"; None: as the policy says.
        redact : "packaged" takes keys and common personal data out of it first, a callable (text to text) whatever it
            likes, "off" nothing; None: as the policy says. The decision that is returned keeps the whole prompt.
        durability : "process", "async" or "power" (see ``LogSettings``); None: as the policy says.
        max_usd, max_usd_per_day : most that this router's model calls may cost together, and those of every process with
            this data folder on one day (UTC); a call that could pass one is not made (SpendCapError). None: as the policy says.
        clock, new_id : naive UTC now, and an id for it.
        rng : uniform numbers in [0, 1), like ``random.Random(1).random``, for a policy that explores; None: the system's.
        """
        self.data = config.data_dir(data)
        self.policy = load_policy(policy, self.data)
        self.source = source
        self._deadline_s = deadline_s
        self._classifier = classifier
        self._prices = prices
        self._providers: dict[str, Provider] = {}
        self._by_model: dict[str, Provider] = {}
        self._clock = clock or _utc_now
        self._new_id = new_id or _new_id
        self._spend: SpendMeter | None = None
        caps = self.policy.spend
        if max_usd is not None:
            caps = replace(caps, per_run_usd=usd(max_usd, "max_usd"))
        if max_usd_per_day is not None:
            caps = replace(caps, per_day_usd=usd(max_usd_per_day, "max_usd_per_day"))
        if caps.any:
            from router.spend import SpendMeter

            self._spend = SpendMeter(caps, self.data)
        self._rng = rng or _system_rng
        self._writer: Writer | None = None
        if log:
            from router.log.writer import Writer

            own = self.policy.log
            self._writer = Writer(
                self.data,
                prompts=own.prompts if prompts is None else prompts,
                redact=own.redact if redact is None else redact,
                durability=own.durability if durability is None else durability,
            )

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

    def metrics(self) -> dict[str, Any]:
        """Counters of this process's log (written, dropped by reason, bytes, queue, owner, ...); empty without a log."""
        if self._writer is None:
            return {}
        from router.log.metrics import of_process

        return of_process(self._writer)

    def _classify(self, asked: Asked) -> _Answer:
        """Ask the classifier; whatever goes wrong comes back as a ClassifierError, so that the request still goes out."""
        if not asked.text.strip():
            return _empty()
        try:
            return _scored(self.classifier.classify(asked.text, self.policy.labels))
        except Exception as error:
            return self._unscored(asked, error)

    async def _aclassify(self, asked: Asked, ask: Callable[..., Awaitable[Classification]]) -> _Answer:
        """``_classify`` through a classifier's own coroutine."""
        if not asked.text.strip():
            return _empty()
        try:
            return _scored(await ask(asked.text, self.policy.labels))
        except Exception as error:
            return self._unscored(asked, error)

    def _unscored(self, asked: Asked, error: Exception) -> ClassifierError:
        """What a classifier's exception comes to."""
        if isinstance(error, ClassifierError):
            return error
        if isinstance(error, ConfigurationError):
            # A missing key or digest is the owner's to mend, so it is raised; the request is in the log all the same.
            text = "the classifier could not be set up; the error that was raised says why"
            failed = named(ClassifierError(text), type(error).__name__)
            self._log(self._decide(asked, failed, None, None))
            raise error
        name = type(error).__name__
        return named(ClassifierError(f"the classifier raised {name}"), name)

    def _decide(
        self,
        asked: Asked,
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
                extra = oddities(reply, choice, policy)
            except ScoresError as fault:
                error = fault
                extra = {"raw_scores": {brief(k): brief(v) for k, v in list(reply.scores.items())[:64]}}
        else:
            error = answer
        cause: Cause
        propensity: float | None = None
        if policy.exploration and model is None:
            propensity = 1.0
            if choice is not None:
                rule = choice
                choice, propensity = explore(rule, policy, self._rng())
                if choice.cause != rule.cause:
                    extra[EXPLORED_FROM] = rule.cause
        if choice is not None:
            cause, chosen = choice.cause, choice.model_chosen
        else:
            cause = "classifier_timeout" if isinstance(error, ClassifierTimeout) else "classifier_error"
            chosen = policy.fallback_model
        if model is not None:
            cause, chosen = "forced", model
        if asked.replaced:
            extra["replaced_surrogates"] = asked.replaced
        now = self._now()
        return Decision(
            id=self._new_id(now),
            decided_at=now,
            prompt=asked.text,
            prompt_sha256=asked.sha256,
            prompt_chars=asked.chars,
            top_label=None if choice is None else choice.top_label,
            confidence=None if choice is None else choice.confidence,
            scores={} if reply is None or choice is None else kept_scores(reply.scores, policy),
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
            propensity=propensity,
            source=self.source,
            extra=extra,
        )

    @property
    def classifier_name(self) -> str:
        """Name and version of the classifier, without building one."""
        return self._classifier.name if self._classifier is not None else self.policy.classifier

    def _provider(self, model: str) -> Provider:
        """The provider of a model, its key checked before the SDK is built."""
        if (found := self._by_model.get(model)) is not None:
            return found
        settings = self.policy.model(model)
        name = settings.provider or self.prices.provider(model)
        if name is None:
            raise ConfigurationError(
                f'no provider is known for model {model!r}; add [models."{model}"] with provider = "openai" or '
                '"anthropic" to the policy'
            )
        if settings.api != "chat" and name != "openai":
            raise ConfigurationError(
                f'api = "{settings.api}" of model {model!r} is an API of provider "openai", not of "{name}"; take it out of '
                f'[models."{model}"] in the policy'
            )
        where = f"{name} {settings.base_url or ''}"
        if where not in self._providers:
            endpoint = config.endpoint(name, settings.base_url, settings.key_env)
            from router.providers import provider_for

            built = provider_for(name, endpoint)
            if self._providers.setdefault(where, built) is not built:
                built.close()  # another thread's first call was faster; two clients would leave one open
        self._by_model[model] = self._providers[where]
        return self._providers[where]

    def _names(self, decision: Decision) -> tuple[str, ...]:
        """The models that may answer a decision, in order."""
        return (
            decision.model_chosen,
            *self.policy.failover_for(decision.cause, decision.top_label, decision.model_chosen),
        )

    def _is_ready(self, decision: Decision) -> bool:
        """Whether every model that may answer has its provider already, so that nothing is imported or connected."""
        return all(name in self._by_model for name in self._names(decision))

    def _chain(self, decision: Decision) -> Chain:
        """The models that may answer and can be called, and the deadline, which starts here.

        When none can, for want of a key or a provider, the decision is logged and the error of the first one raised.
        """
        links: list[Link] = []
        skipped: list[Attempt] = []
        first: ConfigurationError | None = None
        for name in self._names(decision):
            try:
                provider = self._provider(name)
            except ConfigurationError as error:
                first = first or error
                skipped.append(Attempt(name, _outcome_of(error), type(error).__name__))
            else:
                links.append(Link(self.policy.model(name), provider, tuple(skipped)))
                skipped.clear()
        if links or first is None:
            return Chain(links, self._deadline_s)
        outcome, kind = _outcome_of(first), type(first).__name__
        self._log(
            replace(
                decision,
                model_used=None,
                outcome=outcome,
                error_type=kind,
                failed_attempts=tuple(skipped) if len(skipped) > 1 else (),
            )
        )
        raise first

    def _hold(self, decision: Decision, chain: Chain, asked: Asked, given: Options) -> None:
        """Hold the most that the call can cost; where that could pass a cap the decision is logged and the error raised."""
        if self._spend is None:
            return
        from router.spend import most

        texts = [*asked.messages, *({"tools": x} for x in given.get("tools") or ())]
        day = decision.decided_at.date()
        try:
            models = [
                (
                    x.name,
                    most(
                        texts,
                        given.get("system"),
                        given.get("max_tokens") or x.max_tokens,
                        x.name,
                        self.prices,
                        day,
                    ),
                )
                for x in chain.models
            ]
            self._spend.hold_all(decision.id, models)
        except SpendCapError as error:
            error.decision = replace(
                decision, model_used=None, outcome="spend_cap", error_type=type(error).__name__
            )
            self._log(error.decision)
            raise

    def _settle(self, decision: Decision, calls: Iterable[tuple[str, Decimal | None, Outcome]]) -> None:
        """End the hold of a call, before its row is written: a crash in between has counted what was paid."""
        if self._spend is not None:
            self._spend.settle(decision.id, [*calls])

    def _finish(self, decision: Decision, completion: Completion, chain: Chain) -> Reply:
        """Log how the call ended; the reply, or a ProviderError that carries the decision."""
        usage = completion.usage
        cost = self._cost(usage, completion.model, decision.decided_at.date())
        decision = self._with_failed(decision, (*chain.failed, *completion.failed))
        calls = [(x.model, x.cost_usd, x.outcome) for x in decision.failed_attempts]
        self._settle(decision, [*calls, (completion.model, cost, completion.outcome)])
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
            attempts=chain.attempts + completion.attempts,
        )
        self._log(done)
        if completion.outcome not in REPLIES:
            raise failure(done, completion, self._deadline_s)
        return Reply(done, completion.text, usage, cost, completion.outcome, completion.tool_calls)

    def _with_failed(self, decision: Decision, failed: tuple[Attempt, ...]) -> Decision:
        """The decision with its failed requests, priced as far as their tokens are known."""
        if not failed:
            return decision
        day = decision.decided_at.date()
        failed = tuple(replace(x, cost_usd=self._failed_cost(x, day)) for x in failed)
        known = [x.cost_usd for x in failed if x.cost_usd is not None]
        return replace(
            decision, failed_attempts=failed, failed_cost_usd=sum(known, Decimal(0)) if known else None
        )

    def _failed_cost(self, attempt: Attempt, day: date) -> Decimal | None:
        tells = attempt.input_tokens is not None or attempt.output_tokens is not None
        if not tells and attempt.outcome in UNCHARGED:
            return Decimal(0)
        return self._cost(attempt.usage, attempt.model, day)

    def _cancelled(self, decision: Decision, chain: Chain | None, error: BaseException) -> None:
        """Log a decision whose caller went away; ``chain`` None: before any model was asked."""
        decision = replace(decision, outcome="cancelled", error_type=type(error).__name__)
        if chain is None:
            self._settle(decision, [])
            self._log(replace(decision, model_used=None))
            return
        spent_ms = (time.monotonic() - chain.started) * 1000
        decision = replace(
            decision, model_used=chain.model.name, total_ms=spent_ms, attempts=chain.attempts + 1
        )
        decision = self._with_failed(decision, chain.failed)
        calls = [(x.model, x.cost_usd, x.outcome) for x in decision.failed_attempts]
        self._settle(decision, [*calls, (chain.model.name, None, "cancelled")])
        self._log(decision)

    def _close_providers(self) -> None:
        self._by_model.clear()
        while self._providers:
            self._providers.popitem()[1].close()

    def _cost(self, usage: Usage | None, model: str, day: date) -> Decimal | None:
        return None if usage is None else self.prices.price(usage, model, day)

    def _judge(self, decision_id: str, verdict: str, **said: Any) -> bool:
        from router.log.judging import Judgement

        judgement = Judgement(decision_id, verdict, **said)
        return self._writer is not None and self._writer.judge(judgement, self._now())

    def _now(self) -> datetime:
        now = self._clock()
        # The log's times have no zone: DuckDB would drop it silently.
        return now if now.tzinfo is None else now.astimezone(UTC).replace(tzinfo=None)

    def _log(self, decision: Decision) -> None:
        if self._writer is not None:
            self._writer.log(decision, self.policy)


def _outcome_of(error: ConfigurationError) -> Outcome:
    return "no_key" if isinstance(error, MissingKeyError) else "error"


def _empty() -> ClassifierError:
    return named(ClassifierError("the prompt is empty; the classifier was not asked"), EMPTY_PROMPT)


def _scored(answer: Classification) -> _Answer:
    if not isinstance(answer, Classification) or not isinstance(answer.scores, Mapping):
        found = type(getattr(answer, "scores", answer)).__name__  # type: ignore[unreachable]
        return named(
            ClassifierError(f"the classifier returned a {found}, expected scores by label"), "BadReply"
        )
    return answer


def _utc_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _system_rng() -> float:
    """From the system: forked workers share no state that would have them explore the same requests."""
    return (int.from_bytes(os.urandom(7)) >> 3) / 2.0**53


def _new_id(when: datetime) -> str:
    from router.log.record import unix_ms, uuid7

    return uuid7(unix_ms(when))
