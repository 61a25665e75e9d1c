"""Closes the door: no test reaches the network, and none sees the caller's keys, proxies or data folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_apis import FakeApis

_LOCAL = {"localhost", "127.0.0.1", "::1", "", None}
_PREFIXES = ("OPENAI_", "ANTHROPIC_", "SCALEDOWN_")
_NAMES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "ROUTESCOPE_DATA"}


def _is_local(address: Any) -> bool:
    if not isinstance(address, tuple):  # a unix socket's path
        return True
    host = address[0].decode() if isinstance(address[0], bytes) else address[0]
    return host in _LOCAL or str(host).startswith(("127.", "::ffff:127."))


def _guard(method: str) -> Callable[..., Any]:
    original = getattr(socket.socket, method)

    def guarded(self: socket.socket, *args: Any) -> Any:
        if not _is_local(args[-1]):
            raise RuntimeError(f"a test tried to reach {args[-1]!r}; tests talk to loopback alone")
        return original(self, *args)

    return guarded


def _guarded_lookup(host: Any, *args: Any, _original: Any = socket.getaddrinfo, **kwargs: Any) -> Any:
    if not _is_local((host,)):
        raise socket.gaierror(socket.EAI_NONAME, f"a test looked up {host!r}; tests talk to loopback alone")
    return _original(host, *args, **kwargs)


@pytest.fixture(scope="session", autouse=True)
def closed_door() -> Iterator[None]:
    """For the whole session, so that module fixtures are behind the door too."""
    with pytest.MonkeyPatch.context() as patch:
        for method in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, method, _guard(method))
        patch.setattr(socket, "getaddrinfo", _guarded_lookup)
        for name in list(os.environ):
            if name.upper().startswith(_PREFIXES) or name.upper() in _NAMES:
                patch.delenv(name)
        yield


@pytest.fixture
def fake() -> Iterator[FakeApis]:
    """A loopback server that speaks the three APIs, answers well, and fails on request."""
    with FakeApis() as server:
        yield server
