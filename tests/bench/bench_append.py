"""Times what a caller pays for one logged decision, beside two peers: ``python tests/bench/bench_append.py [--rounds N]``.

Peers: the standard library's sqlite3 (WAL, synchronous=NORMAL, one commit a row) and OpenTelemetry's BatchSpanProcessor with
the OTLP exporter, sending to a server of its own process on loopback. That one is optional:
``pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http``.

All get the same decision with every column filled. Rounds are interleaved, the order turns, and ratios are taken within a
round, so that a busy machine disturbs all alike. Everything happens in a temporary folder. It prints; it judges nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, fields, replace
from datetime import datetime
from decimal import Decimal
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson

from router import Policy
from router.log.record import unix_ms, uuid7
from router.log.redaction import Redactor
from router.log.writer import Writer
from router.types import Decision

POLICY = Policy.preset("seed")
PROMPT = (
    "how do i move the last commit to another branch and keep my changes? i tried git reset but lost them "
    * 6
)[:500]
SCORES = {"simple": 0.7123, "coding": 0.1401, "reasoning": 0.1, "creative": 0.0476}
COLUMNS = tuple(field.name for field in fields(Decision))
PACE_S = 0.001

SINK = """
import http.server, sys
class Sink(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
print(server.server_address[1], flush=True)
server.serve_forever()
"""

Log = Callable[[Decision], object]


def made() -> Decision:
    """A decision as the router makes it: a new id, the prompt's hash, every column filled."""
    now = datetime(2026, 11, 20, 9, 0, 0, 123456)
    return Decision(
        id=uuid7(unix_ms(now)),
        decided_at=now,
        prompt=PROMPT,
        prompt_sha256=hashlib.sha256(PROMPT.encode()).hexdigest(),
        prompt_chars=len(PROMPT),
        top_label="simple",
        confidence=0.7123,
        scores=SCORES,
        runner_up="coding",
        margin=0.5722,
        threshold=0.55,
        cause="routed",
        is_fallback=False,
        model_chosen="gpt-4o-mini",
        model_used="gpt-4o-mini",
        classifier="local-minilm-wordllama-1",
        calibrated=True,
        classify_ms=12.345,
        policy_fingerprint=POLICY.fingerprint,
        labels_fingerprint=POLICY.labels_fingerprint,
        classifier_cost_usd=Decimal(0),
        session_id="session-20261120-0001",
        input_tokens=523,
        cache_read_tokens=128,
        cache_write_tokens=64,
        output_tokens=311,
        reasoning_tokens=42,
        usage_grade="measured",
        cost_usd=Decimal("0.000265050000"),
        price_version="genai-prices 0.2.3",
        first_token_ms=312.5,
        total_ms=2345.678,
        finish_reason="stop",
        outcome="ok",
        error_type="None",
        attempts=1,
        propensity=1.0,
        source="bench",
        extra={"reported_top_label": "simple"},
    )


def values(decision: Decision) -> dict[str, Any]:
    """The columns in types that SQLite and OpenTelemetry take."""
    row = {name: getattr(decision, name) for name in COLUMNS}
    row["decided_at"] = decision.decided_at.isoformat()
    row["scores"] = orjson.dumps(row["scores"]).decode()
    row["extra"] = orjson.dumps(row["extra"]).decode()
    for name, value in row.items():
        if isinstance(value, Decimal):
            row[name] = str(value)
        elif isinstance(value, tuple):
            row[name] = orjson.dumps([asdict(x) for x in value], default=str).decode()
    return row


@contextmanager
def routescope(folder: Path, **settings: Any) -> Iterator[Log]:
    """Our writer; its rows stay in the spool, as beside a dashboard."""
    writer = Writer(folder / "-".join(map(str, settings.values())), turns=False, **settings)
    yield writer.log
    assert not writer.dropped, writer.dropped
    writer.spool.close()


@contextmanager
def sqlite(folder: Path) -> Iterator[Log]:
    """One row and one commit."""
    with closing(sqlite3.connect(folder / "peer.sqlite", isolation_level=None)) as con:
        con.execute("PRAGMA journal_mode=WAL")
        con.execute("PRAGMA synchronous=NORMAL")
        con.execute(f"CREATE TABLE decisions({', '.join(COLUMNS)})")
        insert = f"INSERT INTO decisions VALUES ({', '.join('?' * len(COLUMNS))})"
        yield lambda decision: con.execute(insert, tuple(values(decision).values()))


@contextmanager
def batch_spans(folder: Path) -> Iterator[Log]:
    """One span with an attribute for every column."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    sink = subprocess.Popen([sys.executable, "-c", SINK], stdout=subprocess.PIPE, text=True)
    assert sink.stdout is not None
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{int(sink.stdout.readline())}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("bench")
    try:
        yield lambda decision: tracer.start_span("decision", attributes=values(decision)).end()
        provider.shutdown()
    finally:
        sink.kill()
        sink.wait()
        sink.stdout.close()


def timed(call: Callable[[], object], n: int, pace_s: float = 0.0) -> list[float]:
    """Microseconds of each of ``n`` calls."""
    times = []
    for _ in range(n):
        if pace_s:
            time.sleep(pace_s)
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1000)
    return times


def quantile(times: list[float], share: float) -> float:
    """A quantile by rank."""
    return sorted(times)[min(int(len(times) * share), len(times) - 1)]


def line(name: str, times: list[float], more: str = "") -> None:
    """Print one row."""
    p50, p99, p999 = (quantile(times, share) for share in (0.5, 0.99, 0.999))
    print(f"  {name:34s} p50 {p50:8.2f}   p99 {p99:8.2f}   p99.9 {p999:9.2f} us  {more}")


def tight(folder: Path, rounds: int, calls: int) -> None:
    """What one call costs, one after the other."""
    decision, redact = made(), Redactor()
    code = ("def add(x: int, y: int = 3) -> int:\n    return x + y  # version 2.1 of 2024\n" * 9)[:500]
    redacted = replace(decision, prompt="write to jo@example.org, my password is hunter42x. " + PROMPT[:449])
    with (
        routescope(folder, durability="process") as process,
        routescope(folder, durability="power") as power,
        routescope(folder, durability="async", redact="off") as queued,
        routescope(folder, durability="process", redact="packaged") as clean,
    ):
        cases: dict[str, Callable[[], object]] = {
            "log(), process": lambda: process(decision),
            "make the decision and log()": lambda: process(made()),
            "log(), power": lambda: power(decision),
            "log(), async": lambda: queued(decision),
            "log(), redaction, clean prompt": lambda: clean(decision),
            "log(), redaction, two findings": lambda: clean(redacted),
            "redaction alone, 500 chars of prose": lambda: redact(PROMPT),
            "redaction alone, 500 chars of code": lambda: redact(code),
        }
        found: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, call in cases.items():
                timed(call, 50)
                # A tight loop must not outrun the queue's thread: what is dropped is not what is measured.
                for _ in range(calls // 500):
                    found[name] += timed(call, 500)
                    time.sleep(0.05 if "async" in name else 0)
    print(f"tight loop, {rounds} rounds of {calls:,} calls")
    for name, times in found.items():
        line(name, times)


def paced(folder: Path, rounds: int, calls: int) -> None:
    """What one call costs a caller that does something else in between, beside the peers."""
    peers: dict[str, Callable[[Path], Any]] = {
        "routescope, process": lambda f: routescope(f, durability="process"),
        "routescope, async": lambda f: routescope(f, durability="async"),
        "routescope, power": lambda f: routescope(f, durability="power"),
        "sqlite3, WAL, NORMAL": sqlite,
    }
    try:
        version("opentelemetry-exporter-otlp-proto-http")
        peers[f"opentelemetry-sdk {version('opentelemetry-sdk')}, batch"] = batch_spans
    except PackageNotFoundError:
        print(
            "  (OpenTelemetry is not installed: pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http)"
        )
    found: dict[str, list[list[float]]] = {name: [] for name in peers}
    decision = made()
    for number in range(rounds):
        order = list(peers)[number % len(peers) :] + list(peers)[: number % len(peers)]
        for name in order:
            place = folder / f"paced{number}-{order.index(name)}"
            place.mkdir()
            with peers[name](place) as log:
                timed(lambda log=log: log(decision), 50, PACE_S)
                found[name].append(timed(lambda log=log: log(decision), calls, PACE_S))
    print(
        f"paced, {PACE_S * 1000:.0f} ms between calls, {rounds} rounds of {calls:,} calls; ratios to the first, by round"
    )
    ours = [quantile(times, 0.5) for times in found["routescope, process"]]
    for name, all_rounds in found.items():
        ratio = statistics.median(
            mine / quantile(times, 0.5) for mine, times in zip(ours, all_rounds, strict=True)
        )
        line(name, [x for times in all_rounds for x in times], f"process is {ratio:.2f}x of it")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=4_000, help="of the tight loop; a quarter of them paced")
    parser.add_argument("--folder", type=Path, default=None, help="a folder on the disk to measure")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        writer = Writer(folder / "size", turns=False)
        writer.log(made())
        size = next((folder / "size" / "spool").glob("*.jsonl")).stat().st_size
        writer.spool.close()
        print(
            f"python {platform.python_version()}, sqlite {sqlite3.sqlite_version}, orjson {version('orjson')}, "
            f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; a record has {size:,} bytes"
        )
        tight(folder, chosen.rounds, chosen.calls)
        paced(folder, chosen.rounds, chosen.calls // 4)
        logging.disable()  # at exit the writers would say that the folder is gone
        print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
