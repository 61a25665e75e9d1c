"""``Router`` and ``AsyncRouter``: classify, decide, complete, log. No logic of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from router.prompts import Asked, ready
from router.reply_stream import ReplyStream, settle
from router.routing import RouterBase
from router.types import Decision, Prompt, Queue, Reply, Verdict

DEADLINE_S = 60.0
EMPTY_PROMPT = "EmptyPrompt"


class Router(RouterBase):
    """Routes prompts and logs every decision. Thread-safe; use as a context manager."""

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
        provider = self._provider_for(decision)
        started = time.monotonic()
        try:
            completion = provider.complete(
                self.policy.model(decision.model_chosen),
                asked.messages,
                system=system,
                deadline_s=self._deadline_s,
                max_tokens=max_tokens,
            )
        except BaseException as error:  # Ctrl+C above all: the decision was made, so it is in the log
            self._cancelled(decision, started, error)
            raise
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
        provider = self._provider_for(decision)
        pieces = provider.stream(
            self.policy.model(decision.model_chosen),
            asked.messages,
            system=system,
            deadline_s=self._deadline_s,
            max_tokens=max_tokens,
        )
        return ReplyStream(self, decision, pieces)

    def feedback(
        self,
        decision_id: str,
        verdict: Verdict,
        *,
        correct_label: str | None = None,
        note: str | None = None,
        queue: Queue | None = None,
        inclusion_probability: float | None = None,
        judged_by: str | None = None,
    ) -> bool:
        """Log what a person says of a decision; the last word counts. False when it could not be logged, which is counted.

        Parameters
        ----------
        decision_id : ``decision.id``.
        verdict : "right", "wrong" or "unsure".
        correct_label : what the top label should have been.
        queue, inclusion_probability : only for a decision that was drawn elsewhere than by ``routescope review next``, which
            notes both.

        Raises
        ------
        InputError
            Names the value, what was found and what was expected.
        """
        return self._judge(
            decision_id,
            verdict,
            correct_label=correct_label,
            note=note,
            queue=queue,
            inclusion_probability=inclusion_probability,
            judged_by=judged_by,
        )

    def flush(self) -> None:
        """Bring all rows into DuckDB; with a dashboard open its owner takes them within two seconds."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Give back connections, flush and stop. Idempotent."""
        self._close_providers()
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncRouter(RouterBase):
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
        provider = await asyncio.to_thread(self._provider_for, decision)
        started = time.monotonic()
        try:
            completion = await provider.acomplete(
                self.policy.model(decision.model_chosen),
                asked.messages,
                system=system,
                deadline_s=self._deadline_s,
                max_tokens=max_tokens,
            )
        except asyncio.CancelledError as error:
            self._cancelled(decision, started, error)
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
        provider = await asyncio.to_thread(self._provider_for, decision)
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
            settle(self, decision, pieces.completion)

    async def feedback(
        self,
        decision_id: str,
        verdict: Verdict,
        *,
        correct_label: str | None = None,
        note: str | None = None,
        queue: Queue | None = None,
        inclusion_probability: float | None = None,
        judged_by: str | None = None,
    ) -> bool:
        """See ``Router.feedback``."""
        return await asyncio.to_thread(
            self._judge,
            decision_id,
            verdict,
            correct_label=correct_label,
            note=note,
            queue=queue,
            inclusion_probability=inclusion_probability,
            judged_by=judged_by,
        )

    async def _decided(
        self, prompt: Prompt, model: str | None, session_id: str | None
    ) -> tuple[Asked, Decision]:
        asked = ready(prompt)
        answer = await asyncio.to_thread(self._classify, asked)
        return asked, self._decide(asked, answer, model, session_id)

    async def flush(self) -> None:
        """See ``Router.flush``."""
        if self._writer is not None:
            await asyncio.to_thread(self._writer.flush)

    async def close(self) -> None:
        """See ``Router.close``."""
        await asyncio.to_thread(self._close_providers)
        if self._writer is not None:
            await asyncio.to_thread(self._writer.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
