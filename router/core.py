"""``Router`` and ``AsyncRouter``: classify, decide, complete, log. No logic of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from router.calls import SETTLE_WAIT_S, CallingRouter
from router.errors import ConfigurationError, ProviderError, SpendCapError
from router.failover import Chain, ask_options
from router.prompts import Asked, ready
from router.reply_stream import ReplyStream, settle
from router.types import Decision, Prompt, Queue, Reply, ToolChoice, Tools, Verdict

if TYPE_CHECKING:
    from router.providers.call import Options


T = TypeVar("T")


class Router(CallingRouter):
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
        decision = self._decide(asked, self._classify(asked, model, session_id), model, session_id)
        self._log(decision)
        if self._spend is not None:
            self._spend.write_classifier(SETTLE_WAIT_S)
        return decision

    def ask(
        self,
        prompt: Prompt,
        *,
        system: str | None = None,
        max_tokens: int | None = None,
        tools: Tools | None = None,
        tool_choice: ToolChoice | None = None,
        model: str | None = None,
        session_id: str | None = None,
    ) -> Reply:
        """Decide, call the model, and log both with tokens, cost and time.

        When the model fails and the policy names others for it (``failover``), those are asked, within the same deadline.

        Parameters
        ----------
        tools, tool_choice : passed on in the form that the answering provider takes, whichever of OpenAI's and Anthropic's
            forms they have; so are tool calls and results in a message list. Calls come back as ``Reply.tool_calls``.
        max_tokens : longest reply; None: as the policy says, by model.
        model : forces a model (cause ``forced``), and no other is asked.

        Raises
        ------
        InputError
            No text and no messages, or messages or tools that hold what no API can be sent (bytes, sets).
        MissingKeyError
            No key and no base URL for any model that may answer; the decision is logged all the same.
        SpendCapError
            The call could have passed a spend cap and was not made; logged with outcome ``spend_cap``.
        ProviderError
            The call ended without a usable reply (timeout, rate limit, ...); logged, as ``error.decision``.
        """
        asked = ready(prompt)
        given = ask_options(system, max_tokens, tools, tool_choice)
        decision = self._decide(asked, self._classify(asked, model, session_id), model, session_id)
        chain = self._opened(decision, asked, given)
        try:
            while True:
                completion = chain.provider.complete(chain.model, asked.messages, **chain.options(given))
                if not chain.moves_on(completion):
                    break
        except BaseException as error:  # Ctrl+C above all: the decision was made, so it is in the log
            self._cancelled(decision, chain, error)
            raise
        return self._finish(decision, completion, chain)

    def stream(
        self,
        prompt: Prompt,
        *,
        system: str | None = None,
        max_tokens: int | None = None,
        tools: Tools | None = None,
        tool_choice: ToolChoice | None = None,
        model: str | None = None,
        session_id: str | None = None,
    ) -> ReplyStream:
        """Like ``ask``, text as it arrives: iterate, then read ``reply``. Logged at the end, also of a stream cut short."""
        asked = ready(prompt)
        given = ask_options(system, max_tokens, tools, tool_choice)
        decision = self._decide(asked, self._classify(asked, model, session_id), model, session_id)
        chain = self._opened(decision, asked, given)
        try:
            return ReplyStream(
                self,
                decision,
                chain,
                lambda: chain.provider.stream(chain.model, asked.messages, **chain.options(given)),
            )
        except BaseException as error:
            self._cancelled(decision, chain, error)
            raise

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

        Without a queue it is for reading, and feeds no promise: users who say something are no sample of those who do not.

        Parameters
        ----------
        decision_id : ``decision.id``.
        verdict : "right", "wrong" or "unsure".
        correct_label : what the top label should have been.
        queue : "audit", "estimate" or "learn", where the decision was drawn for it and this is the judgement that was asked for.
        inclusion_probability : only where it was drawn elsewhere than by ``routescope review next``, which notes it.

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
        self._close_classifier()
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncRouter(CallingRouter):
    """``Router`` for asyncio: the model call is awaited on the caller's event loop.

    So is a classifier that has a coroutine ``aclassify`` (ScaleDown's); another runs in a thread.
    """

    async def route(
        self, prompt: Prompt, *, model: str | None = None, session_id: str | None = None
    ) -> Decision:
        """See ``Router.route``."""
        decision = await self._decided(prompt, model, session_id)
        self._log(decision[1])
        if self._spend is not None:
            await asyncio.to_thread(self._spend.write_classifier, SETTLE_WAIT_S)
        return decision[1]

    async def ask(
        self,
        prompt: Prompt,
        *,
        system: str | None = None,
        max_tokens: int | None = None,
        tools: Tools | None = None,
        tool_choice: ToolChoice | None = None,
        model: str | None = None,
        session_id: str | None = None,
    ) -> Reply:
        """See ``Router.ask``. A cancelled task logs its decision with outcome ``cancelled``."""
        given = ask_options(system, max_tokens, tools, tool_choice)
        asked, decision = await self._decided(prompt, model, session_id)
        chain = await self._opened_chain(decision, asked, given)
        try:
            while True:
                completion = await chain.provider.acomplete(
                    chain.model, asked.messages, **chain.options(given)
                )
                if not chain.moves_on(completion):
                    break
        except BaseException as error:
            await self._left(decision, chain, error)
            raise
        return await self._settled(partial(self._finish, decision, completion, chain))

    async def stream(
        self,
        prompt: Prompt,
        *,
        system: str | None = None,
        max_tokens: int | None = None,
        tools: Tools | None = None,
        tool_choice: ToolChoice | None = None,
        model: str | None = None,
        session_id: str | None = None,
    ) -> AsyncIterator[str]:
        """Text as it arrives; logged at the end, also when the consumer stops early."""
        given = ask_options(system, max_tokens, tools, tool_choice)
        asked, decision = await self._decided(prompt, model, session_id)
        chain = await self._opened_chain(decision, asked, given)
        shown = False
        try:
            pieces = chain.provider.astream(chain.model, asked.messages, **chain.options(given))
        except BaseException as error:
            await self._left(decision, chain, error)
            raise
        try:
            while True:
                async for piece in pieces:
                    shown = True
                    yield piece
                if not chain.moves_on(pieces.completion, shown=shown):
                    break
                pieces = chain.provider.astream(chain.model, asked.messages, **chain.options(given))
        except (
            BaseException
        ):  # the consumer stopped: what it raises is not to be replaced by how the call ended
            await pieces.aclose()
            with contextlib.suppress(ProviderError):
                await self._settled(partial(settle, self, decision, pieces.completion, chain))
            raise
        await self._settled(partial(settle, self, decision, pieces.completion, chain))

    async def _settled(self, end: Callable[[], T]) -> T:
        """Log the end of a call; in a thread where the day's spend may be locked by another process."""
        if self._spend is None or self._spend.ledger is None:
            return end()
        ending = asyncio.ensure_future(asyncio.to_thread(end))
        try:
            return await asyncio.shield(ending)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):  # the row is written all the same
                await ending
            raise

    async def _left(self, decision: Decision, chain: Chain | None, error: BaseException) -> None:
        """Log a call that came to no end of its own; see ``_cancelled``."""
        end = partial(self._cancelled, decision, chain, error)
        if isinstance(error, GeneratorExit):
            end()  # a coroutine that is closed cannot wait
        else:
            await self._settled(end)

    async def _ready_chain(self, decision: Decision) -> Chain:
        """The chain of a decision; in a thread while an SDK may have to be imported."""
        if self._is_ready(decision):
            return self._chain(decision)
        return await asyncio.to_thread(self._chain, decision)

    async def _opened_chain(self, decision: Decision, asked: Asked, given: Options) -> Chain:
        """The chain of a decision with its most held; whatever ends it meanwhile gives that back and is logged."""
        try:
            chain = await self._ready_chain(decision)
        except ConfigurationError:
            raise  # in the log already
        except BaseException as error:
            self._cancelled(decision, None, error)
            raise
        if self._spend is None:
            return chain
        # In a thread: the day's file may be locked by another process.
        holding = asyncio.ensure_future(asyncio.to_thread(self._hold, decision, chain, asked, given))
        try:
            await asyncio.shield(holding)
        except asyncio.CancelledError as error:
            with contextlib.suppress(SpendCapError):
                await holding
                await self._settled(partial(self._cancelled, decision, None, error))
            raise
        except SpendCapError:
            raise  # in the log already
        except BaseException as error:
            await self._left(decision, None, error)
            raise
        return chain

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
        own = None if self._classifier is None else getattr(self._classifier, "aclassify", None)
        try:
            if own is None:
                answer = await asyncio.to_thread(self._classify, asked)
            else:
                answer = await self._aclassify(asked, own)
        except asyncio.CancelledError as error:
            self._gone(asked, error, model, session_id)
            raise
        return asked, self._decide(asked, answer, model, session_id)

    async def flush(self) -> None:
        """See ``Router.flush``."""
        if self._writer is not None:
            await asyncio.to_thread(self._writer.flush)

    async def close(self) -> None:
        """See ``Router.close``."""
        for provider in list(self._providers.values()):
            await provider.aclose()
        await asyncio.to_thread(self._close_providers)
        await asyncio.to_thread(self._close_classifier)
        if self._writer is not None:
            await asyncio.to_thread(self._writer.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
