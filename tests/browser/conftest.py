"""A real Chromium and real Streamlit servers on loopback, for every test in this folder."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from served import free_port

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
START_SECONDS = 60
SHOTS = os.environ.get("ROUTESCOPE_SHOTS")  # a folder that keeps the screenshots of a run, to be looked at


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The system's Chromium; without one a test is skipped, in continuous integration it fails."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        reason = f"no Chromium on this machine: none of {', '.join(NAMES)} is on the PATH"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def chromium(chromium_path: str) -> Iterator[Browser]:
    """A browser for one file. Not for the session: while Playwright runs, asyncio.run() of other tests would fail."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page of its own context; keywords are those of ``Browser.new_context``.

    ``page.outside`` lists requests that left loopback, ``page.faults`` script errors; both are checked when the test ends.
    """
    with contextlib.ExitStack() as stack:
        pages: list[Page] = []

        def open_one(
            url: str = "about:blank", *, width: int = 1440, height: int = 1000, **options: object
        ) -> Page:
            context = chromium.new_context(viewport={"width": width, "height": height}, **options)  # type: ignore[arg-type]
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(30_000)
            page.outside = []  # type: ignore[attr-defined]
            page.faults = []  # type: ignore[attr-defined]
            page.on("request", lambda request: _note_outside(page, request.url))
            page.on("pageerror", lambda error: page.faults.append(str(error)))  # type: ignore[attr-defined]
            pages.append(page)
            if url != "about:blank":
                page.goto(url)
            return page

        yield open_one
        for page in pages:
            assert page.outside == [], "requests that left this machine"  # type: ignore[attr-defined]
            assert page.faults == [], "errors in the page's scripts"  # type: ignore[attr-defined]


def _note_outside(page: Page, url: str) -> None:
    if not url.startswith(("http://127.0.0.1:", "data:", "blob:", "about:")):
        page.outside.append(url)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def serve_script() -> Iterator[Callable[..., str]]:
    """Starts ``streamlit run`` for a script on a free loopback port; returns the address; stops it after the file."""
    with contextlib.ExitStack() as stack:

        def serve(script: Path, *arguments: str, options: Mapping[str, object] | None = None) -> str:
            port = free_port()
            settings = {
                "server.port": port,
                "server.address": "127.0.0.1",
                "server.headless": "true",
                "server.fileWatcherType": "none",
                "browser.gatherUsageStats": "false",
                **(options or {}),
            }
            flags = [f"--{name}={value}" for name, value in settings.items()]
            command = [sys.executable, "-m", "streamlit", "run", str(script), *flags, "--", *arguments]
            log = stack.enter_context((script.parent / f"server-{port}.log").open("w+b"))
            process = subprocess.Popen(command, cwd=script.parent, stdout=log, stderr=log)
            stack.callback(_stop, process)
            _await_health(process, port, Path(log.name))
            return f"http://127.0.0.1:{port}"

        yield serve


@pytest.fixture
def keep_shot() -> Callable[[Page, str], None]:
    """Keeps a screenshot of the whole page when ROUTESCOPE_SHOTS names a folder."""

    def keep(page: Page, name: str) -> None:
        if SHOTS:
            page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)

    return keep


def _await_health(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.fail(f"the server ended with {process.returncode}: {log.read_text()[-2000:]}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/_stcore/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    pytest.fail(f"no answer from the server within {START_SECONDS} s: {log.read_text()[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
