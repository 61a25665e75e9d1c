"""What ``Router`` and ``AsyncRouter`` share of a model call: who is asked, what is held for it, and how its end is logged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from router import config
from router.elapsed import ms_since
from router.endings import failure
from router.errors import (
    ConfigurationError,
    MissingKeyError,
    SpendCapError,
)
from router.failover import Chain, Link, last_attempt
from router.prompts import Asked
from router.types import (
    REPLIES,
    Attempt,
    Completion,
    Decision,
    Outcome,
    Reply,
    Usage,
)

if TYPE_CHECKING:
    from router.providers.base import Provider
    from router.providers.call import Options
from router.routing import RouterBase

SETTLE_WAIT_S = 0.1
"""How long the end of a call waits for the day's spend at least, its deadline over or not."""


class CallingRouter(RouterBase):
    """A router that calls models: everything of it but waiting."""

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

        meter = self._spend
        given["may_ask_again"] = lambda model, left_s: meter.hold_again(decision.id, model, left_s)
        day = decision.decided_at.date()
        try:
            models = [
                (
                    x.name,
                    most(
                        asked.messages,
                        given.get("system"),
                        given.get("max_tokens") or x.max_tokens,
                        x.name,
                        self.prices,
                        day,
                        given.get("tools") or (),
                    ),
                )
                for x in chain.models
            ]
            self._spend.hold_all(decision.id, models, chain.left_s)
        except SpendCapError as error:
            error.decision = replace(
                decision, model_used=None, outcome="spend_cap", error_type=type(error).__name__
            )
            self._log(error.decision)
            raise

    def _opened(self, decision: Decision, asked: Asked, given: Options) -> Chain:
        """The chain of a decision with its most held; a Ctrl+C meanwhile gives that back and is logged."""
        try:
            chain = self._chain(decision)
            self._hold(decision, chain, asked, given)
        except (ConfigurationError, SpendCapError):
            raise  # in the log already
        except BaseException as error:
            self._cancelled(decision, None, error)
            raise
        return chain

    def _settle(self, decision: Decision, requests: Iterable[Attempt], chain: Chain | None = None) -> None:
        """End the hold of a call, before its row is written: a crash in between has counted what was paid.

        The day's file is waited for as long as the call has time left, and a moment at least; else it is written later.
        """
        if self._spend is not None:
            wait_s = SETTLE_WAIT_S if chain is None else max(chain.left_s, SETTLE_WAIT_S)
            self._spend.settle(decision.id, [(x.model, x.cost_usd) for x in requests], wait_s)

    def _finish(self, decision: Decision, completion: Completion, chain: Chain) -> Reply:
        """Log how the call ended; the reply, or a ProviderError that carries the decision."""
        usage = completion.usage
        day = decision.decided_at.date()
        cost = self._cost(usage, completion.model, day)
        decision = self._with_failed(decision, (*chain.failed, *completion.failed))
        if self._spend is not None:
            last = last_attempt(completion)
            last = replace(last, cost_usd=self._failed_cost(last, day))
            self._settle(decision, [*decision.failed_attempts, last], chain)
        done = replace(
            decision,
            model_used=completion.model,
            input_tokens=None if usage is None else usage.input_tokens,
            cache_read_tokens=None if usage is None else usage.cache_read_tokens,
            cache_write_tokens=None if usage is None else usage.cache_write_tokens,
            output_tokens=None if usage is None else usage.output_tokens,
            reasoning_tokens=None if usage is None else usage.reasoning_tokens,
            cache_write_1h_tokens=None if usage is None else usage.cache_write_1h_tokens,
            service_tier=None if usage is None else usage.service_tier,
            usage_grade=None if usage is None else usage.grade,
            cost_usd=cost,
            price_version=None if cost is None else self._price_version(usage, completion.model, day),
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
        return self._cost(attempt.usage, attempt.model, day) if attempt.may_be_charged else Decimal(0)

    def _cancelled(self, decision: Decision, chain: Chain | None, error: BaseException) -> None:
        """Log a decision whose caller went away, or that a fault of ours stopped; ``chain`` None: before any model was asked."""
        outcome: Outcome = "error" if isinstance(error, Exception) else "cancelled"
        decision = replace(decision, outcome=outcome, error_type=type(error).__name__)
        if chain is None:
            self._settle(decision, [])
            self._log(replace(decision, model_used=None))
            return
        spent_ms = ms_since(chain.started)
        now = chain.so_far()
        made, earlier = (1, ()) if now is None else (max(now.attempts, 1), now.failed)
        decision = replace(
            decision, model_used=chain.model.name, total_ms=spent_ms, attempts=chain.attempts + made
        )
        decision = self._with_failed(decision, (*chain.failed, *earlier))
        self._settle(decision, [*decision.failed_attempts, Attempt(chain.model.name, "cancelled")])
        self._log(decision)

    def _close_providers(self) -> None:
        if self._spend is not None:
            self._spend.close()
        self._by_model.clear()
        while self._providers:
            self._providers.popitem()[1].close()

    def _price_version(self, usage: Usage | None, model: str, day: date) -> str | None:
        rate = self.prices.rate(model, day, tier=None if usage is None else usage.service_tier)
        return None if rate is None else rate.version

    def _cost(self, usage: Usage | None, model: str, day: date) -> Decimal | None:
        return None if usage is None else self.prices.price(usage, model, day)


def _outcome_of(error: ConfigurationError) -> Outcome:
    return "no_key" if isinstance(error, MissingKeyError) else "error"
