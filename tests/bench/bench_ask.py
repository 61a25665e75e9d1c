"""Times ``ask`` beside the bare SDK call: ``python tests/bench/bench_ask.py [--rounds N] [--calls N] [--delay-ms MS]``.

Both send the same request to the same server, a process of its own on loopback that answers at once (or after a delay), with
the SDK's own connection pool, retries off. ``ask`` adds the decision, the deadline, the typed outcome, the price and the row
in the log; the classifier gives fixed scores, since what it costs depends on the classifier (bench_classifier.py). Rows stay
in the spool, as beside a dashboard, which takes them into DuckDB; "alone" is a router that does so itself, in the background
of the same process. Rounds are interleaved, the order turns, and ratios are taken within a round, so that a busy machine
disturbs all alike. Everything happens in a temporary folder. It prints; it judges nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anthropic
import openai

from router import AsyncRouter, Policy
from router.types import Classification

PROMPT = "What is the capital of Japan, and how many people live there? Answer in one sentence."
CONCURRENCY = (1, 64)

SERVER = r"""
import asyncio, json, pathlib, sys
from router.log.lock import OwnerLock
delay, locks = float(sys.argv[1]) / 1000, [OwnerLock(pathlib.Path(folder)) for folder in sys.argv[2:]]
assert all(lock.acquire("dashboard") for lock in locks)
chat = json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0,
  "finish_reason": "stop", "message": {"role": "assistant", "content": "Tokyo, with 14 million people. " * 8}}],
  "usage": {"prompt_tokens": 24, "completion_tokens": 60, "total_tokens": 84}}).encode()
said = json.dumps({"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
  "stop_sequence": None, "content": [{"type": "text", "text": "Tokyo, with 14 million people. " * 8}],
  "usage": {"input_tokens": 24, "output_tokens": 60}}).encode()
async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            size = next(int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length"))
            await reader.readexactly(size)
            if delay:
                await asyncio.sleep(delay)
            body = said if b"/messages" in head.split(b"\r\n")[0] else chat
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""

Call = Callable[[], Awaitable[Any]]


class Fixed:
    """A classifier that costs nothing."""

    name = "fixed"

    def classify(self, text: str, labels: Any) -> Classification:
        return Classification("simple", {"simple": 0.9}, self.name, True, 0.0)

    async def aclassify(self, text: str, labels: Any) -> Classification:
        return self.classify(text, labels)


async def timed(call: Call, concurrency: int, calls: int, last: Call | None = None) -> tuple[float, float]:
    """Milliseconds per call by the clock and of this process's processor time, ``concurrency`` of them under way at all times."""
    left = iter(range(calls))

    async def work() -> None:
        for _ in left:
            await call()

    started, spent = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    if last is not None:
        await last()
    return (time.perf_counter() - started) * 1000 / calls, (time.process_time() - spent) * 1000 / calls


def policy(sdk: str, url: str) -> Policy:
    """One label, answered by one model at that server."""
    return Policy.from_toml(
        'threshold = 0.5\nfallback_model = "m"\n[[labels]]\nname = "simple"\nrubric = "?"\nmodel = "m"\n'
        f'[models.m]\nprovider = "{sdk}"\nbase_url = "{url}"\nprice = {{input = 1, output = 2}}\n'
    )


async def compare(sdk: str, port: int, folder: Path, rounds: int, calls: int) -> None:
    """Print the medians of one SDK."""
    url = f"http://127.0.0.1:{port}" + ("/v1" if sdk == "openai" else "")
    messages: Any = [{"role": "user", "content": PROMPT}]
    client: Any
    if sdk == "openai":
        client = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0)
        create: Any = client.chat.completions.create
    else:
        client = anthropic.AsyncAnthropic(api_key="none", base_url=url, max_retries=0)
        create = client.messages.create

    rule, fixed = policy(sdk, url), Fixed()
    async with (
        client,
        AsyncRouter(rule, classifier=fixed, data=folder / sdk, deadline_s=30) as router,
        AsyncRouter(rule, classifier=fixed, data=folder / f"{sdk}-alone", deadline_s=30) as alone,
    ):

        async def bare() -> None:
            reply = await create(model="m", messages=messages, max_tokens=1024)
            assert reply.usage

        async def asked() -> None:
            reply = await router.ask(PROMPT)
            assert reply.outcome == "ok"

        async def asked_alone() -> None:
            reply = await alone.ask(PROMPT)
            assert reply.outcome == "ok"

        async def nothing() -> None:
            pass

        for concurrency in CONCURRENCY:
            many = calls if concurrency > 1 else max(calls // 4, 1)
            calls_by_name = {"bare": bare, "ask": asked, "alone": asked_alone}
            for call in calls_by_name.values():
                await timed(call, concurrency, 2 * concurrency)
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls_by_name}
            for number in range(rounds):
                for name in list(found) if number % 2 else list(found)[::-1]:
                    last = alone.flush if name == "alone" else nothing  # its rows are its own cost
                    found[name].append(await timed(calls_by_name[name], concurrency, many, last))
            line(f"{sdk}, {concurrency} at a time", found["bare"], found["ask"])
            line(f"{sdk}, {concurrency} at a time, alone", found["bare"], found["alone"])


def line(name: str, bare: list[tuple[float, float]], ask: list[tuple[float, float]]) -> None:
    """Print one row: medians, and the median of the rounds' ratios."""
    parts = []
    for what, place in (("clock", 0), ("processor", 1)):
        theirs, ours = [x[place] for x in bare], [x[place] for x in ask]
        ratio = statistics.median(two / one for one, two in zip(theirs, ours, strict=True))
        medians = f"bare {statistics.median(theirs):7.3f}, ask {statistics.median(ours):7.3f} ms"
        parts.append(f"{what}: {medians}, ratio {ratio:.2f}")
    print(f"{name:32} {'   '.join(parts)}")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=400, help="calls a round; a quarter of it one at a time")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="how long the server takes to answer")
    parser.add_argument("--sdk", choices=("openai", "anthropic"), action="append")
    given = parser.parse_args()
    print(
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        + ", ".join(f"{name} {version(name)}" for name in ("openai", "anthropic", "httpx2"))
        + f"; server answers after {given.delay_ms:g} ms"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sdks = given.sdk or ["openai", "anthropic"]
        for sdk in sdks:
            (folder / sdk).mkdir()
        owned = [str(folder / sdk) for sdk in sdks]
        command = [sys.executable, "-c", SERVER, str(given.delay_ms), *owned]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            for sdk in sdks:
                asyncio.run(compare(sdk, port, folder, given.rounds, given.calls))
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
