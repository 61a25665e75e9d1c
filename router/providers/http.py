"""The HTTP client under both SDKs: no redirects, a bounded body, nothing that unpacks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2

MAX_REPLY_BYTES = 32_000_000
"""A longer reply, or a stream that adds up to one, is cut off: no model writes that much."""


CONNECT_S = 5.0
"""Longest wait for one connection; a host that does not answer is then tried again while the deadline allows."""


_NOT_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)


class UnfitReply(Exception):
    """A reply that is not read at all."""


class ReplyTooLarge(UnfitReply):
    """A reply beyond ``MAX_REPLY_BYTES``."""


class PackedReply(UnfitReply):
    """A compressed reply although none was asked for: a few bytes of it can unpack to gigabytes."""


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > MAX_REPLY_BYTES:
                raise ReplyTooLarge
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound(response: httpx2.Response) -> None:
    if response.headers.get("content-encoding", "identity").lower() not in ("identity", ""):
        if response.is_success:
            raise PackedReply
        await response.aclose()  # the status says enough
        del response.headers["content-encoding"]
        response.stream = httpx2.ByteStream(b"")
        response.is_closed = False
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Bounded(response.stream)


def unfit(error: BaseException | None) -> UnfitReply | None:
    """The ``UnfitReply`` behind an SDK's exception, if there is one: one SDK reports it as a lost connection."""
    while error is not None and not isinstance(error, UnfitReply):
        error = error.__cause__ or error.__context__
    return error


def was_sent(error: BaseException) -> bool:
    """Whether a request that failed on its connection may have come to the server."""
    return not isinstance(error, _NOT_SENT)


def json_of(raw: Any) -> Any:
    """The JSON of an SDK's raw response; None where it is none although it does not claim to be.

    The SDKs' own models of a reply are not built: that is an eighth of a whole call's time in this process, and they check nothing, so
    that every field has to be looked at here all the same.

    Raises
    ------
    ValueError
        It says that it is JSON, and is not.
    """
    reply = raw.http_response
    try:
        return json.loads(reply.content)  # which takes lone surrogates, as servers send them
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        if "json" in reply.headers.get("content-type", ""):
            raise
        return None


def timeouts(left: float) -> httpx2.Timeout:
    """Limits of the single steps of a request; one step more than the whole call has ``left``, in seconds."""
    return httpx2.Timeout(max(left, 0.0) + 1.0, connect=CONNECT_S)


def http_client() -> httpx2.AsyncClient:
    """A client for an SDK. Redirects stay off: a redirected call would carry the prompt to another host."""
    return httpx2.AsyncClient(
        follow_redirects=False,
        headers={"Accept-Encoding": "identity"},
        limits=httpx2.Limits(max_connections=1000, max_keepalive_connections=100),
        event_hooks={"response": [_bound]},
    )
