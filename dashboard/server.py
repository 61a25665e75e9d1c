"""The dashboard's server: Streamlit's ASGI app with our headers, and the log's owner running inside it."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import logging
import re
import socket
import sys
import time
import traceback
import webbrowser
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from dashboard import state, theme
from router.errors import ConfigurationError
from router.log.metrics import CONTENT_TYPE, of_log, prometheus

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from router.log.owner import Owner

ADDRESS = "127.0.0.1"
PORT = 8501
PORTS_TRIED = 100
READY_SECONDS = 30.0
"""How long the address waits to be said for the port to listen and the log to be open; it is said then in any case."""
HOSTS = ("127.0.0.1", "localhost")
SCRIPT = Path(__file__).with_name("app.py")


def serve(
    data: Path,
    policy_file: Path | None = None,
    *,
    port: int | None = PORT,
    open_browser: bool = True,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve the dashboard on 127.0.0.1 and block until it is stopped (Ctrl+C).

    Parameters
    ----------
    data : folder of the log and the policy.
    policy_file : the policy; None: ``<data>/policy.toml``, else preset ``seed``.
    port : where to listen; a taken one gives the next free one, which is announced. None: 8501.
    announce : gets each sentence for the person who started it.

    Raises
    ------
    ConfigurationError
        No port of the next 100 is free.
    """
    wanted = PORT if port is None else port
    free = free_port(wanted)
    url = f"http://{ADDRESS}:{free}"

    def ready(owner: Owner) -> None:
        _wait_for_port(free)
        owner.wait_ready(READY_SECONDS)
        taken = f" (port {wanted} is taken)" if free != wanted else ""
        announce(f"Dashboard: {url}{taken}. Stop it with Ctrl+C.")
        if open_browser:
            webbrowser.open(url)

    build_app(data, policy_file, on_ready=ready).run(config=options(free))


def build_app(
    data: Path, policy_file: Path | None = None, *, on_ready: Callable[[Owner], None] | None = None
) -> st.App:
    """The ASGI app: pages, ``/healthz``, ``/metrics``, security headers, and the owner for as long as it lives.

    ``on_ready`` runs in a thread of its own once the owner was started; it may wait.
    """
    state.configure(state.Settings(Path(data), policy_file))
    _quiet_logs()

    @asynccontextmanager
    async def lifespan(app: st.App) -> AsyncIterator[dict[str, Any]]:
        from router.log.owner import Owner

        owner = Owner(Path(data), role="dashboard")
        owner.start()
        try:
            if on_ready is not None:
                # The port listens only after this; and some browsers block until their window closes.
                Thread(target=on_ready, args=(owner,), daemon=True).start()
            yield {"owner": owner}
        finally:
            owner.stop()

    app: st.App

    async def health(request: Request) -> JSONResponse:
        owner = app.state.get("owner")
        status = owner.status() if owner is not None else None
        return JSONResponse({"status": "ok", "log": None if status is None else status.state})

    async def metrics(request: Request) -> PlainTextResponse:
        text = await run_in_threadpool(_metrics, Path(data), app.state.get("owner"))
        return PlainTextResponse(text, headers={"content-type": CONTENT_TYPE})

    app = st.App(
        SCRIPT,
        lifespan=lifespan,
        routes=[Route("/healthz", health), Route("/metrics", metrics)],
        middleware=[Middleware(Guard, policy=content_policy(), hosts=HOSTS)],
        on_script_error=show_error,
    )
    return app


def _metrics(data: Path, owner: Owner | None) -> str:
    """The log's counters for Prometheus; those of its tables while this process owns it."""
    cursor = owner.cursor() if owner is not None else None
    if cursor is not None:
        # The owner may close or replace its connection at any moment; what needs none is told then.
        with contextlib.suppress(Exception), contextlib.closing(cursor):
            return prometheus(of_log(data, cursor))
    return prometheus(of_log(data))


def _wait_for_port(port: int) -> None:
    """Wait until something listens on a port of this machine, at most ``READY_SECONDS``."""
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection((ADDRESS, port), timeout=1):
            return
        time.sleep(0.02)


def options(port: int) -> dict[str, Any]:
    """Server and theme options; they win over any config file."""
    return theme.streamlit_options() | {
        "server.address": ADDRESS,
        "server.port": port,
        "server.headless": True,             # the browser is opened by us, after the port is known
        "server.allowedHosts": list(HOSTS),  # DNS rebinding; ports are ignored there
        "server.fileWatcherType": "none",
        "server.enableAgentApi": False,
        "server.enableStaticServing": False,
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "server.maxUploadSize": 20,
        "browser.serverAddress": ADDRESS,
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "logger.hideWelcomeMessage": True,
        "logger.enableRich": False,          # its trace prints an error's message, which may quote a prompt
        "global.developmentMode": False,
        # Inputs have a default, so that the URL leaves it out, and callbacks set them too: both is meant here.
        "global.disableWidgetStateDuplicationWarning": True,
    }  # fmt: skip


def free_port(first: int) -> int:
    """The first free port of 127.0.0.1 from ``first`` on."""
    for port in range(first, min(first + PORTS_TRIED, 65_536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ADDRESS, port))
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
            else:
                return port
    raise ConfigurationError(f"no free port from {first} on ({PORTS_TRIED} tried); give another with --port")


def content_policy() -> str:
    """The Content-Security-Policy: this server alone, and of inline scripts only Streamlit's own, by hash.

    ``blob:`` because Streamlit imports a component's script from a blob URL.
    """
    hashes = " ".join(f"'sha256-{digest}'" for digest in inline_script_hashes(_index_html()))
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' blob: {hashes}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'self' blob:",
            "frame-src 'none'",
            "frame-ancestors 'none'",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
        )
    )


def inline_script_hashes(html: str) -> list[str]:
    """Base64 SHA-256 of each inline script of a page, byte for byte as a browser hashes it."""
    scripts = re.findall(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", html, re.DOTALL | re.IGNORECASE)
    return [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]


def _index_html() -> str:
    return (Path(st.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")


class Guard:
    """Refuse foreign Host headers and put the security headers on every reply. Plain ASGI: nothing is buffered."""

    def __init__(self, app: ASGIApp, policy: str, hosts: Sequence[str]) -> None:
        self.app = app
        self.hosts = frozenset(hosts)
        self.headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-opener-policy", b"same-origin"),
        ]
        self._names = {name for name, _ in self.headers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on with the headers put on its reply."""
        if scope["type"] != "http":  # Streamlit checks the websocket's host and origin itself
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [pair for pair in message.get("headers", []) if pair[0].lower() not in self._names]
                message = {**message, "headers": kept + self.headers}
            await send(message)

        if self._host(scope) not in self.hosts:
            refused = JSONResponse({"error": "this host name is not served"}, status_code=421)
            await refused(scope, receive, guarded)
            return
        await self.app(scope, receive, guarded)

    @staticmethod
    def _host(scope: Scope) -> str:
        values = [value for key, value in scope["headers"] if key == b"host"]
        if len(values) != 1:
            return ""
        return re.sub(r":\d{1,5}\Z", "", values[0].decode("latin-1")).lower()


def show_error(failure: Exception) -> bool:
    """Draw our own error text; True keeps Streamlit's box, which shows the message and links it to other sites, away."""
    from dashboard import frame

    frame.error(failure)
    return True


class _WithoutMessages(logging.Filter):
    """Log where an error of a page happened and of which class it was, never its message: it may quote a prompt."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether, and change how, a record is written."""
        if record.exc_info and record.exc_info[1] is not None:
            failure = record.exc_info[1]
            places = "".join(traceback.format_tb(failure.__traceback__))
            record.msg = f"{record.getMessage()}: {type(failure).__name__}\n{places}"
            record.args, record.exc_info, record.exc_text = (), None, None
        return True


class _Warnings(logging.Filter):
    """Keep a server's start and stop notes off the terminal; warnings stay."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether, and change how, a record is written."""
        return record.levelno >= logging.WARNING


def _quiet_logs() -> None:
    # Filters, not levels: both libraries set their own levels when they start.
    for name, kind in (("streamlit.error_util", _WithoutMessages), ("uvicorn.error", _Warnings)):
        logger = logging.getLogger(name)
        if not any(isinstance(known, kind) for known in logger.filters):
            logger.addFilter(kind())


if __name__ == "__main__":
    sys.exit("start the dashboard with: routescope dashboard")
