"""Times the way from the spool into the database: ``python tests/bench/bench_ingest.py [--rows N] [--seconds S]``.

How long a logged row takes to be counted by a dashboard in another process, how fast the owner takes rows in with every column
filled, and what a row weighs in the file. Prompts are real ones where ``../shared/data/prompts.jsonl`` exists, else the
packaged samples; from the second round on their words are rotated, so that no prompt stands in the file twice.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from importlib import resources
from pathlib import Path

import duckdb
import pyarrow

from router import Decision, Policy
from router.log.owner import take_turn
from router.log.record import unix_ms, uuid7
from router.log.schema import DATABASE, connect
from router.log.writer import Writer

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "prompts.jsonl"
MAX_CHARS = 4000
POLICY = Policy.preset("seed")

DASHBOARD = """
    import sys, threading, time
    from pathlib import Path
    from router.log import Owner
    owner = Owner(Path(sys.argv[1]))
    owner.start()
    assert owner.wait_ready(60)
    stopping = threading.Event()

    def watch():  # what a page that counts rows would see, and when
        cursor, last = owner.cursor(), 0
        while not stopping.wait(0.005):
            n = cursor.execute("SELECT count(*) FROM decisions").fetchone()[0]
            if n != last:
                last = n
                print(time.monotonic_ns(), n, flush=True)

    print("ready", flush=True)
    thread = threading.Thread(target=watch)
    thread.start()
    sys.stdin.readline()
    stopping.set()
    thread.join()
    owner.stop()
"""


def prompts() -> tuple[str, list[str]]:
    """Prompts and where they are from."""
    if SHARED.exists():
        found = [json.loads(line)["prompt"] for line in SHARED.read_text(encoding="utf-8").splitlines()]
        return "real prompts", [x for x in found if len(x) <= MAX_CHARS]
    samples = resources.files("router.presets").joinpath("samples.jsonl").read_text(encoding="utf-8")
    return "packaged samples", [json.loads(line)["prompt"] for line in samples.splitlines() if line]


def decisions(texts: list[str], rows: int) -> Iterator[Decision]:
    """Decisions with every column filled."""
    rng, began = random.Random(1), datetime(2026, 11, 1)
    names = list(POLICY.label_names)
    for n in range(rows):
        text = texts[n % len(texts)]
        if n >= len(texts):
            words = text.split(" ")
            cut = rng.randrange(len(words))
            text = " ".join(words[cut:] + words[:cut]) + f" {n}"
        raw = [rng.gammavariate(0.5, 1) + 1e-9 for _ in names]
        scores = {name: x / sum(raw) for name, x in zip(names, raw, strict=True)}
        first, second = sorted(names, key=scores.__getitem__, reverse=True)[:2]
        at = began + timedelta(milliseconds=997 * n)
        tokens = rng.randrange(20, 2000)
        yield Decision(
            id=uuid7(unix_ms(at)),
            decided_at=at,
            prompt=text,
            prompt_sha256=hashlib.sha256(text.encode("utf-8", "replace")).hexdigest(),
            prompt_chars=len(text),
            top_label=first,
            confidence=scores[first],
            scores=scores,
            runner_up=second,
            margin=scores[first] - scores[second],
            threshold=0.55,
            cause="routed",
            is_fallback=False,
            model_chosen="gpt-4o-mini",
            model_used="gpt-4o-mini",
            classifier="local/minilm+wordllama",
            calibrated=True,
            classify_ms=round(rng.gauss(12, 3), 3),
            policy_fingerprint=POLICY.fingerprint,
            labels_fingerprint=POLICY.labels_fingerprint,
            classifier_cost_usd=Decimal("0.000001"),
            session_id=f"session-{n // 7}",
            input_tokens=tokens,
            cache_read_tokens=tokens // 3,
            cache_write_tokens=tokens // 5,
            output_tokens=rng.randrange(900),
            reasoning_tokens=rng.randrange(90),
            usage_grade="measured",
            cost_usd=Decimal(rng.randrange(10**9)) / 10**12,
            price_version="2026-11-20",
            first_token_ms=round(rng.uniform(100, 900), 3),
            total_ms=round(rng.uniform(900, 9000), 3),
            finish_reason="stop",
            outcome="ok",
            error_type=None,
            attempts=1,
            propensity=1.0,
            source="router",
            extra={"region": "eu", "try": n % 3},
        )


def visible_ms(data: Path, made: Iterator[Decision], rate: int, seconds: float) -> list[float]:
    """Milliseconds from log() having returned until the row is counted in another process, of each row."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DASHBOARD), data],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    writer, logged = Writer(data, turns=False), []
    began = time.monotonic()
    for n, decision in enumerate(made):
        time.sleep(max(began + n / rate - time.monotonic(), 0))
        assert writer.log(decision)
        logged.append(time.monotonic_ns())
        if logged[-1] > (began + seconds) * 1e9:
            break
    seen: list[tuple[int, int]] = []
    while not seen or seen[-1][1] < len(logged):
        when, n_rows = process.stdout.readline().split()
        seen.append((int(when), int(n_rows)))
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.stdout.close()
    process.wait(60)
    found, at = [], 0
    for number, when in enumerate(logged, start=1):
        while seen[at][1] < number:
            at += 1
        found.append((seen[at][0] - when) / 1e6)
    return sorted(found)


def ingest_rate(data: Path, texts: list[str], rows: int) -> tuple[float, float, float, float]:
    """Rows a second into a new database, bytes a row of its file, of one made by ``routescope ingest``, and of the spool."""
    writer = Writer(data, turns=False)
    for decision in decisions(texts, rows):
        assert writer.log(decision)
    writer.spool.close()
    spooled = sum(path.stat().st_size for path in (data / "spool").iterdir())
    again = data / "again"
    shutil.copytree(data / "spool", again / "spool")
    began = time.perf_counter()
    done = take_turn(data)
    spent = time.perf_counter() - began
    assert done is not None and done.rows == rows
    done = take_turn(again, role="ingest")  # which archives the spools too
    assert done is not None and done.rows == rows
    sizes = []
    for folder in (data, again):
        con = connect(folder / DATABASE)
        con.execute("CHECKPOINT").fetchall()
        con.close()
        sizes.append((folder / DATABASE).stat().st_size / rows)
    return rows / spent, sizes[0], sizes[1], spooled / rows


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    kind, texts = prompts()
    print(
        f"python {platform.python_version()}, duckdb {duckdb.__version__}, pyarrow {pyarrow.__version__}, "
        f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    )
    print(f"{len(texts):,} {kind}, {statistics.mean(map(len, texts)):.0f} characters on average")
    speeds, sizes, bulk, lines = [], [], [], []
    for _ in range(given.repeats):
        with tempfile.TemporaryDirectory() as name:
            speed, size, compact, line = ingest_rate(Path(name), texts, given.rows)
        speeds.append(speed)
        sizes.append(size)
        bulk.append(compact)
        lines.append(line)
    print(
        f"ingest, every column    {statistics.median(speeds):9,.0f} rows/s  (from {min(speeds):,.0f} to {max(speeds):,.0f})"
    )
    print(
        f"file after a checkpoint {statistics.median(sizes):9.0f} bytes a row, by 'routescope ingest' "
        f"{statistics.median(bulk):.0f} (spool {statistics.median(lines):.0f})"
    )
    with tempfile.TemporaryDirectory() as name:
        count = int(given.rate * given.seconds * 2)
        times = visible_ms(Path(name), decisions(texts, count), given.rate, given.seconds)
    paced = len(times) / given.seconds
    print(
        f"visible at {paced:,.0f}/s      p50 {statistics.median(times):6.0f} ms   p99 {times[int(0.99 * len(times))]:6.0f} ms   "
        f"max {times[-1]:6.0f} ms   ({len(times):,} rows)"
    )
    print(f"load afterwards {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
