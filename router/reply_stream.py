"""A reply as it arrives, and how its end is logged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

from router.errors import ProviderError
from router.types import Completion, Decision, Reply


class Finishes(Protocol):
    """What logs the end of a call: a router."""

    def _finish(self, decision: Decision, completion: Completion) -> Reply: ...


class ReplyStream:
    """Text pieces of a reply. ``decision`` is there at once, ``reply`` after the last piece."""

    def __init__(self, router: Finishes, decision: Decision, pieces: Any) -> None:
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

    def __enter__(self) -> ReplyStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Dropped without being read: the decision was made and the call begun, so the log must say so.
        with contextlib.suppress(Exception):
            self._finish()

    def _finish(self) -> None:
        if not self._done:
            self._done = True
            self._pieces.close()
            self.reply = settle(self._router, self.decision, self._pieces.completion)


def settle(router: Finishes, decision: Decision, completion: Completion) -> Reply:
    """Log a stream's end. A cancelled one gives the reply so far instead of an error."""
    try:
        return router._finish(decision, completion)
    except ProviderError as error:
        if completion.outcome != "cancelled" or error.decision is None:
            raise
        return Reply(error.decision, completion.text, completion.usage, error.decision.cost_usd, "cancelled")
