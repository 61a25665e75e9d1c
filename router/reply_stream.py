"""A reply as it arrives, the next model's where one failed before any of it came, and how its end is logged."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from router.errors import ProviderError
from router.failover import Chain
from router.types import Completion, Decision, Reply

if TYPE_CHECKING:
    from router.providers.streams import CompletionStream


class Finishes(Protocol):
    """What logs the end of a call: a router."""

    def _finish(self, decision: Decision, completion: Completion, chain: Chain) -> Reply: ...


class ReplyStream:
    """Text pieces of a reply. ``decision`` is there at once, ``reply`` after the last piece."""

    def __init__(
        self, router: Finishes, decision: Decision, chain: Chain, begin: Callable[[], CompletionStream]
    ) -> None:
        """``begin`` starts the call of the chain's model of now."""
        self.decision = decision
        self.reply: Reply | None = None
        self._router = router
        self._chain = chain
        self._begin = begin
        self._pieces = begin()
        self._done = False

    def __iter__(self) -> Iterator[str]:
        shown = False
        try:
            while True:
                for piece in self._pieces:
                    shown = True
                    yield piece
                if not self._chain.moves_on(self._pieces.completion, shown=shown):
                    break
                self._pieces = self._begin()
        except (
            BaseException
        ):  # the caller stopped: what it raises is not to be replaced by how the call ended
            with contextlib.suppress(ProviderError):
                self._finish()
            raise
        self._finish()

    def close(self) -> None:
        """Stop early: the call is logged as cancelled."""
        self._finish()

    def __enter__(self) -> ReplyStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except ProviderError:
            if kind is None:
                raise

    def __del__(self) -> None:
        # Dropped without being read: the decision was made and the call begun, so the log must say so.
        with contextlib.suppress(Exception):
            self._finish()

    def _finish(self) -> None:
        if not self._done:
            self._done = True
            self._pieces.close()
            self.reply = settle(self._router, self.decision, self._pieces.completion, self._chain)


def settle(router: Finishes, decision: Decision, completion: Completion, chain: Chain) -> Reply:
    """Log a stream's end. A cancelled one gives the reply so far instead of an error."""
    try:
        return router._finish(decision, completion, chain)
    except ProviderError as error:
        if completion.outcome != "cancelled" or error.decision is None:
            raise
        done = error.decision
        return Reply(
            done, completion.text, completion.usage, done.cost_usd, "cancelled", completion.tool_calls
        )
