"""A client of an SDK for each event loop: pooled connections belong to the loop that opened them.

A call that is awaited runs on its caller's loop. Handing it to another thread's would cost two wake-ups a call and make
both threads wait for each other's turn: measured, a fifth of a bare call's processor time at 64 calls at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any
from weakref import WeakKeyDictionary

_Kept = tuple[Any, AsyncGenerator[None, None]]


class LoopClients:
    """Clients by event loop. Safe to share between threads: each works on its own loop's entry alone.

    Parameters
    ----------
    build : makes a client of the SDK, with a coroutine ``close``.
    """

    def __init__(self, build: Callable[[], Any]) -> None:
        self._build = build
        self._kept: WeakKeyDictionary[asyncio.AbstractEventLoop, _Kept] = WeakKeyDictionary()

    async def client(self) -> Any:
        """The running loop's client, built on first use; closed with the loop."""
        loop = asyncio.get_running_loop()
        found = self._kept.get(loop)
        if found is None:
            for ended in [other for other in self._kept if other.is_closed()]:
                self._kept.pop(ended, None)
            client = self._build()
            found = client, _closing(client)
            self._kept[loop] = found
            await anext(found[1])
        return found[0]

    async def aclose(self) -> None:
        """Close the running loop's client, if it has one."""
        found = self._kept.pop(asyncio.get_running_loop(), None)
        if found is not None:
            await found[1].aclose()


async def _closing(client: Any) -> AsyncGenerator[None, None]:
    """Closes the client when it is closed itself, as a loop does with open generators when ``asyncio.run`` ends it."""
    try:
        yield
    finally:
        await client.close()
