"""A reply as pieces of text, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from router.providers.call import Progress
from router.providers.deadline import GRACE_S
from router.types import Completion, Outcome

if TYPE_CHECKING:
    import concurrent.futures


class CompletionStream:
    """Pieces of a reply as they arrive; ``completion`` once it has ended or was closed.

    Closing early cancels the call, with outcome ``cancelled`` and the text so far.
    """

    def __init__(
        self, progress: Progress, start: Callable[[], concurrent.futures.Future[Completion]]
    ) -> None:
        self._progress = progress
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._completion: Completion | None = None
        progress.emit = self._queue.put
        self._future = start()
        self._future.add_done_callback(lambda _: self._queue.put(None))

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._completion is not None:
            raise StopIteration
        try:
            piece = self._queue.get(timeout=max(self._progress.left, 0.0) + GRACE_S)
        except queue.Empty:
            piece = None
        except BaseException:
            self.close()
            raise
        if piece is None:
            self._settle("timeout", "TimeoutError")
            raise StopIteration
        return piece

    @property
    def completion(self) -> Completion:
        """How the call ended.

        Raises
        ------
        RuntimeError
            The stream has neither ended nor been closed.
        """
        if self._completion is None:
            raise RuntimeError(
                "the stream has not ended; iterate to its end or close() it, then read completion"
            )
        return self._completion

    def close(self) -> None:
        """Stop the call if it still runs. Idempotent."""
        self._settle("cancelled", None)

    def _settle(self, outcome: Outcome, error_type: str | None) -> None:
        if self._completion is None:
            self._completion = _outcome_of(self._future, self._progress, outcome, error_type)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncCompletionStream:
    """``CompletionStream`` for asyncio: ``async for``, then ``completion``; ``aclose`` stops early."""

    def __init__(
        self, progress: Progress, start: Callable[[], concurrent.futures.Future[Completion]]
    ) -> None:
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._completion: Completion | None = None
        progress.emit = self._put
        self._future = start()
        self._future.add_done_callback(lambda _: self._put(None))

    def _put(self, piece: str | None) -> None:
        with contextlib.suppress(RuntimeError):  # the consumer's loop may have ended before the call does
            self._loop.call_soon_threadsafe(self._queue.put_nowait, piece)

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        if self._completion is not None:
            raise StopAsyncIteration
        try:
            async with asyncio.timeout(max(self._progress.left, 0.0) + GRACE_S):
                piece = await self._queue.get()
        except TimeoutError:
            piece = None
        except BaseException:
            await self.aclose()
            raise
        if piece is None:
            self._settle("timeout", "TimeoutError")
            raise StopAsyncIteration
        return piece

    @property
    def completion(self) -> Completion:
        """See ``CompletionStream.completion``."""
        if self._completion is None:
            raise RuntimeError(
                "the stream has not ended; iterate to its end or aclose() it, then read completion"
            )
        return self._completion

    async def aclose(self) -> None:
        """Stop the call if it still runs. Idempotent."""
        self._settle("cancelled", None)

    def _settle(self, outcome: Outcome, error_type: str | None) -> None:
        if self._completion is None:
            self._completion = _outcome_of(self._future, self._progress, outcome, error_type)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _outcome_of(
    future: concurrent.futures.Future[Completion],
    progress: Progress,
    outcome: Outcome,
    error_type: str | None,
) -> Completion:
    """The call's own record when it has ended, else it is stopped and recorded with this outcome."""
    if not future.cancel() and not future.cancelled() and future.done():
        return future.result()
    return progress.completion(outcome, error_type)
