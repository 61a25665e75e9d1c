"""What a provider is, and the one way a model call runs: attempts, deadline, typed endings.

No exception of an SDK leaves this package: it can quote the request, and callers could not tell one SDK's from the
other's. Every call ends as a ``Completion`` with an outcome, the text that did arrive and the attempts made.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Unpack, runtime_checkable

from router.config import Endpoint
from router.errors import ConfigurationError
from router.providers.call import Fault, Options, Progress, Request, begin, broken
from router.providers.deadline import Background, background, backoff_s, leave_behind, run
from router.providers.loops import LoopClients
from router.providers.streams import AsyncCompletionStream, CompletionStream
from router.types import Completion

if TYPE_CHECKING:
    from router.policy import Model

MAX_ATTEMPTS = 3
"""Requests for one call, a corrected one (another name for a parameter) not counted."""


@runtime_checkable
class Provider(Protocol):
    """Calls models of one provider. Safe to share between threads and event loops."""

    def complete(
        self, model: Model, messages: Sequence[Mapping[str, Any]], **options: Unpack[Options]
    ) -> Completion:
        """One call, over within ``deadline_s`` seconds; never raises for what the provider does. See ``Options``."""

    def stream(
        self, model: Model, messages: Sequence[Mapping[str, Any]], **options: Unpack[Options]
    ) -> CompletionStream:
        """The same as pieces of text; the call starts at once."""

    async def acomplete(
        self, model: Model, messages: Sequence[Mapping[str, Any]], **options: Unpack[Options]
    ) -> Completion:
        """``complete`` for asyncio."""

    def astream(
        self, model: Model, messages: Sequence[Mapping[str, Any]], **options: Unpack[Options]
    ) -> AsyncCompletionStream:
        """``stream`` for asyncio; not awaited itself."""

    async def aclose(self) -> None:
        """Give back the connections that belong to the running event loop. Idempotent."""

    def close(self) -> None:
        """Give back the other connections. Idempotent."""
        ...


class SdkProvider:
    """Runs calls of one SDK. A subclass builds its client, sends one request, and reads the SDK's exceptions."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._built: tuple[Background, Any] = (background(), self._made())
        self._here = LoopClients(self._made)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint!r})"

    def complete(
        self, model: Model, messages: Sequence[Mapping[str, Any]], **options: Unpack[Options]
    ) -> Completion:
        """See ``Provider``."""
        request, progress = begin(model, messages, options)
        call = self._run(request, progress)
        return run(call, progress.deadline, lambda: progress.completion("timeout", "TimeoutError"))

    async def acomplete(
        self, model: Model, messages: Sequence[Mapping[str, Any]], **options: Unpack[Options]
    ) -> Completion:
        """See ``Provider``. Cancelling the task cancels the call. Runs on the caller's own event loop."""
        request, progress = begin(model, messages, options)
        return await self._run(request, progress, here=True)

    def stream(
        self, model: Model, messages: Sequence[Mapping[str, Any]], **options: Unpack[Options]
    ) -> CompletionStream:
        """See ``Provider``."""
        request, progress = begin(model, messages, options)
        return CompletionStream(progress, lambda: background().submit(self._run(request, progress)))

    def astream(
        self, model: Model, messages: Sequence[Mapping[str, Any]], **options: Unpack[Options]
    ) -> AsyncCompletionStream:
        """See ``Provider``. Needs a running event loop."""
        request, progress = begin(model, messages, options)
        return AsyncCompletionStream(progress, lambda: background().submit(self._run(request, progress)))

    async def aclose(self) -> None:
        """See ``Provider``. Event loops that end by ``asyncio.run`` do this themselves."""
        await self._here.aclose()

    def close(self) -> None:
        """Give back the connections but those of event loops. Idempotent; later calls end with outcome ``error``."""
        home, client = self._built
        if home is background():
            run(client.close(), time.monotonic() + 1.0, lambda: None)

    def _made(self) -> Any:
        """``_build``, whose errors (a certificate file that is missing, a proxy of no known kind) can quote a password."""
        try:
            return self._build()
        except Exception as error:
            raise ConfigurationError(
                f"the client of {self.endpoint.provider} could not be built ({type(error).__name__}); check SSL_CERT_FILE "
                "and the proxy settings"
            ) from None

    def _client(self) -> Any:
        home, client = self._built
        here = background()
        if home is not here:  # a forked child: the parent's connections are not ours to use or close
            leave_behind(self._built)
            client = self._made()
            self._built = (here, client)
        return client

    async def _run(self, request: Request, progress: Progress, *, here: bool = False) -> Completion:
        """One call with the client of the background loop; ``here``: with that of the running one."""
        try:
            client = await self._here.client() if here else None
            async with asyncio.timeout(progress.left) as progress.timer:
                await self._attempts(request, progress, client)
        except TimeoutError:
            progress.end(progress.late.outcome, progress.late.error_type)
        except asyncio.CancelledError:
            progress.end("cancelled")
            raise
        except Exception as error:  # the promise of this class; the message may quote the request
            progress.end("error", type(error).__name__)
        return progress.completion()

    async def _attempts(self, request: Request, progress: Progress, client: Any) -> None:
        limit = MAX_ATTEMPTS
        while True:
            progress.attempts += 1
            progress.usage = progress.service_tier = None
            progress.begun = progress.ran_tools = False
            progress.calls.clear()
            progress.late = Fault("timeout", "TimeoutError")
            try:
                await self._send(client or self._client(), request, progress)
                return
            except Exception as error:
                fault = self._fault(error)
            shown = bool(progress.pieces) or progress.finish_reason is not None
            if shown or progress.begun:
                fault = broken(fault, shown=shown and progress.emit is not None)
            if shown:
                progress.end(fault.outcome, fault.error_type)
                return
            failed = progress.failing(fault)
            if self._corrects(request, fault, progress):
                limit += 1
                progress.again(failed)
                continue
            wait = backoff_s(
                progress.attempts, fault.wait_s, progress.left, random.random(), request.patience_s
            )
            if not fault.retriable or progress.attempts >= limit or wait is None:
                progress.end(fault.outcome, fault.error_type)
                return
            if failed.may_be_charged and not await _granted(request, progress.left):
                progress.end(fault.outcome, fault.error_type)
                return
            await asyncio.sleep(wait)
            progress.again(failed)

    def _build(self) -> Any:
        """The SDK's asynchronous client."""
        raise NotImplementedError

    async def _send(self, client: Any, request: Request, progress: Progress) -> None:
        """One request; a stream when ``progress.emit`` is set. Fills ``progress`` and sets its outcome."""
        raise NotImplementedError

    def _fault(self, error: Exception) -> Fault:
        """What an exception of the SDK, or of reading its reply, comes to."""
        raise NotImplementedError

    def _corrects(self, request: Request, fault: Fault, progress: Progress) -> bool:
        """Whether the next request will differ because of what this one was told; once a parameter and call."""
        return False


async def _granted(request: Request, left_s: float) -> bool:
    """Whether another request may be paid for."""
    if request.may_ask_again is None:
        return True
    return await asyncio.to_thread(request.may_ask_again, request.model, left_s)
