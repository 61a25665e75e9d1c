"""What every router has: its settings, one decision, and the log."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from router import config
from router.endings import brief, kept_scores, named, oddities
from router.errors import (
    ClassifierError,
    ClassifierTimeout,
    ConfigurationError,
    InputError,
    ScoresError,
)
from router.exploration import EXPLORED_FROM, explore
from router.policy import Policy, decide
from router.prompts import Asked
from router.resolve import build_classifier, close_classifier, load_policy
from router.spend_caps import usd
from router.types import (
    Cause,
    Choice,
    Classification,
    Classifier,
    Decision,
    Durability,
)

if TYPE_CHECKING:
    from router.log.writer import Writer
    from router.prices import PriceBook
    from router.providers.base import Provider
    from router.spend import SpendMeter

DEADLINE_S = 60.0
EMPTY_PROMPT = "EmptyPrompt"

_Answer = Classification | ClassifierError


class RouterBase:
    """Settings, one decision, and its place in the log."""

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
        max_usd, max_usd_per_day : most that this router's calls may cost together, and those of every process with this data
            folder on one day (UTC), the classifier's as far as their price is known; a model call that could pass one is not
            made (SpendCapError). None: as the policy says.
        clock, new_id : naive UTC now, and an id for it.
        rng : uniform numbers in [0, 1), like ``random.Random(1).random``, for a policy that explores; None: the system's.
        """
        self.data = config.data_dir(data)
        self.policy = load_policy(policy, self.data)
        self.source = source
        self._deadline_s = deadline_s
        self._classifier = classifier
        self._is_own_classifier = classifier is None
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

    def _close_classifier(self) -> None:
        """One that was built here goes with the router; a caller's own is the caller's to close."""
        if self._is_own_classifier and self._classifier is not None:
            built, self._classifier = self._classifier, None
            close_classifier(built)

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

    def _classify(self, asked: Asked, model: str | None = None, session_id: str | None = None) -> _Answer:
        """Ask the classifier; whatever goes wrong comes back as a ClassifierError, so that the request still goes out.

        ``model`` and ``session_id`` are for the row of a request whose caller goes away meanwhile (Ctrl+C).
        """
        if not asked.text.strip():
            return _empty()
        try:
            return _scored(self.classifier.classify(asked.text, self.policy.labels))
        except Exception as error:
            return self._unscored(asked, error)
        except BaseException as error:
            self._gone(asked, error, model, session_id)
            raise

    async def _aclassify(self, asked: Asked, ask: Callable[..., Awaitable[Classification]]) -> _Answer:
        """``_classify`` through a classifier's own coroutine."""
        if not asked.text.strip():
            return _empty()
        try:
            return _scored(await ask(asked.text, self.policy.labels))
        except Exception as error:
            return self._unscored(asked, error)

    def _gone(self, asked: Asked, error: BaseException, model: str | None, session_id: str | None) -> None:
        """Log a request whose caller went away before there was a score; no model was asked."""
        unscored = named(ClassifierError("the caller went away"), type(error).__name__)
        decision = self._decide(asked, unscored, model, session_id)
        self._log(replace(decision, model_used=None, outcome="cancelled"))

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
        if self._spend is not None and reply is not None:
            self._spend.add_classifier(reply.cost_usd)
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

    def _judge(self, decision_id: str, verdict: str, **said: Any) -> bool:
        from router.log.judging import Judgement

        judgement = Judgement(decision_id, verdict, **said)
        label, known = judgement.correct_label, self.policy.label_names
        if label is not None and label not in known:
            raise InputError(
                f"correct_label: found {label[:40]!r}, expected one of the policy's labels: {', '.join(known)}"
            )
        return self._writer is not None and self._writer.judge(judgement, self._now())

    def _now(self) -> datetime:
        now = self._clock()
        # The log's times have no zone: DuckDB would drop it silently.
        return now if now.tzinfo is None else now.astimezone(UTC).replace(tzinfo=None)

    def _log(self, decision: Decision) -> None:
        if self._writer is not None:
            self._writer.log(decision, self.policy)


def _empty() -> ClassifierError:
    return named(ClassifierError("the prompt is empty; the classifier was not asked"), EMPTY_PROMPT)


def _scored(answer: Classification) -> _Answer:
    if not isinstance(answer, Classification) or not isinstance(answer.scores, Mapping):
        found = type(getattr(answer, "scores", answer)).__name__  # type: ignore[unreachable]
        return named(
            ClassifierError(f"the classifier returned a {found}, expected scores by label"), "BadReply"
        )
    cost = _cost(answer.cost_usd)
    return answer if cost is answer.cost_usd else replace(answer, cost_usd=cost)


def _cost(stated: Any) -> Decimal | None:
    """A classifier's cost in USD; None, unknown, where it is no amount: a negative one would raise the caps."""
    if isinstance(stated, int | float) and not isinstance(stated, bool):
        stated = Decimal(str(stated))
    return stated if isinstance(stated, Decimal) and stated.is_finite() and stated >= 0 else None


def _utc_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _system_rng() -> float:
    """From the system: forked workers share no state that would have them explore the same requests."""
    return (int.from_bytes(os.urandom(7)) >> 3) / 2.0**53


def _new_id(when: datetime) -> str:
    from router.log.record import unix_ms, uuid7

    return uuid7(unix_ms(when))
