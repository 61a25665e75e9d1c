"""The product as a stranger starts it: ``routescope demo`` in a process of its own, for browser tests and the screenshot."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

READY_SECONDS = 120


@contextlib.contextmanager
def demo(folder: Path, port: int, *, requests: int = 2000) -> Iterator[str]:
    """Start the demo in ``folder`` and give its address once it says it serves; stop it as Ctrl+C would."""
    command = [
        sys.executable, "-m", "router.cli", "demo", "--data", str(folder), "--requests", str(requests),
        "--port", str(port), "--no-browser",
    ]  # fmt: skip
    log = folder.parent / f"{folder.name}.log"
    with log.open("w+b") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            yield _address(process, log)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text(errors="replace")):
            return found.group()
        time.sleep(0.1)
    raise RuntimeError(f"the demo did not start: {log.read_text(errors='replace')[-2000:]}")
