"""Times what pages read: ``python tests/bench/bench_pages.py [--rows N ...]``.

Makes a log of N decisions over 90 days inside DuckDB (prompts packaged with the demo, confidences continuous, so that cells are
as many as they can be), fills the roll-ups, and times the queries behind Overview, Threshold, Labels, Savings and Decisions
beside the same queries told to read rows alone. Everything happens in a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from router import Policy
from router.demo import load_samples
from router.log import queries, rollups, sources
from router.log.queries import Filter
from router.log.reader import open_log
from router.log.schema import DATABASE, connect
from router.prices import PriceBook

POLICY = Policy.preset("seed")
DAYS = 90

MAKE = """
INSERT INTO decisions BY NAME
WITH drawn AS (
  SELECT
    i, $first + to_microseconds(CAST(i * $step AS BIGINT)) AS decided_at,
    0.25 + 0.75 * random() AS confidence, CAST(floor(random() * 4) AS INTEGER) AS place, random() AS u, random() AS v
  FROM range($start, $stop) t(i)
)
SELECT
  uuid() AS id, decided_at, p.prompt, sha256(p.prompt) AS prompt_sha256, length(p.prompt) AS prompt_chars,
  $labels[place + 1] AS top_label, $labels[(place + 1) % 4 + 1] AS runner_up, confidence,
  confidence - (1 - confidence) * u AS margin,
  MAP([$labels[place + 1], $labels[(place + 1) % 4 + 1]], [confidence, (1 - confidence) * u]) AS scores, 0.55 AS threshold,
  CASE WHEN confidence < 0.55 THEN 'low_confidence' ELSE 'routed' END AS cause, confidence < 0.55 AS is_fallback,
  CASE WHEN confidence < 0.55 THEN $fallback ELSE $models[place + 1] END AS model_chosen, model_chosen AS model_used,
  'bench' AS classifier, true AS calibrated, CAST(20 + 2000 * v AS INTEGER) AS input_tokens,
  CAST(5 + 900 * u AS INTEGER) AS output_tokens, 'measured' AS usage_grade, 0 AS classifier_cost_usd, 4 + 20 * v * v AS classify_ms,
  200 + 8000 * u AS total_ms, 'ok' AS outcome, 1 AS attempts, $policy AS policy_fingerprint, 'router' AS source
FROM drawn JOIN prompts p ON p.number = i % $n_prompts
ORDER BY decided_at
"""


def make(data: Path, rows: int, now: datetime) -> None:
    """Write a log of so many decisions, its roll-ups included."""
    import pyarrow as pa

    prompts = [sample.prompt for sample in load_samples()]
    con = connect(data / DATABASE)
    con.register("prompts", pa.table({"number": list(range(len(prompts))), "prompt": prompts}))
    values: dict[str, Any] = {
        "first": now - timedelta(days=DAYS),
        "step": DAYS * 86_400e6 / rows,
        "labels": list(POLICY.label_names),
        "models": [label.model for label in POLICY.labels],
        "fallback": POLICY.fallback_model,
        "policy": POLICY.fingerprint,
        "n_prompts": len(prompts),
    }
    con.execute("SELECT setseed(0.5)").fetchall()
    for start in range(0, rows, 500_000):
        con.execute(MAKE, values | {"start": start, "stop": min(start + 500_000, rows)}).fetchall()
    start_at = time.perf_counter()
    con.execute("BEGIN").fetchall()
    rollups.refill(con)
    con.execute("COMMIT").fetchall()
    con.execute("CHECKPOINT").fetchall()
    counts = {
        rollup.table: con.execute(f"SELECT count(*) FROM {rollup.table}").fetchone()[0]  # type: ignore[index]
        for rollup in rollups.ROLLUPS
    }
    print(f"roll-ups filled in {time.perf_counter() - start_at:.1f} s: {counts}")
    con.close()
    size = (data / DATABASE).stat().st_size
    print(f"{size / 1e6:,.0f} MB, {size / rows:.0f} bytes a row")


def millis(call: Callable[[], object], repeats: int = 7) -> float:
    """Median of a call in milliseconds, the first aside."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def bench(data: Path, now: datetime) -> None:
    """Print the figures of one log."""
    book = PriceBook(POLICY.models)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    month = Filter(start=midnight - timedelta(days=29))
    narrow = Filter(start=month.start, labels=("coding",), confidence=(0.3, 0.6))
    with open_log(data) as log:

        def overview(chosen: Filter, width: timedelta) -> None:
            queries.summary(log, chosen, book)
            queries.series(log, chosen, book, width=width)
            queries.spend(log, chosen, POLICY, book)
            queries.latency(log, chosen, width=width)
            queries.bins(log, chosen)

        day, week = timedelta(days=1), timedelta(days=7)
        asked: dict[str, Callable[[], object]] = {
            "Overview, all time": lambda: overview(Filter(), week),
            "Overview, 30 days": lambda: overview(month, day),
            "threshold's curve, all time": lambda: queries.cells(log, Filter(), POLICY, book),
            "threshold's curve, 30 days": lambda: queries.cells(log, month, POLICY, book),
            "pairs of labels": lambda: queries.pairs(log, Filter(), POLICY, book),
            "savings": lambda: queries.spend(log, Filter(), POLICY, book),
        }
        original = sources.source
        for title, call in asked.items():
            fast = millis(call)
            sources.source = lambda *args, **more: original(*args, **more | {"whole": False})
            slow = millis(call, 3)
            sources.source = original
            print(f"{title:30s}{fast:9.1f} ms   rows alone {slow:9.1f} ms   {fast / slow:6.3f}x")
        for title, call in (
            ("page of 100, newest", lambda: queries.page(log, Filter(), book)),
            ("page of 100, filtered", lambda: queries.page(log, narrow, book)),
            ("page of 100, the 1,000th", lambda: queries.page(log, Filter(), book, number=1000)),
            ("page of 100, text search", lambda: queries.page(log, Filter(text="python"), book)),
            ("count, filtered", lambda: queries.count(log, narrow)),
        ):
            print(f"{title:30s}{millis(call):9.1f} ms")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process, making the log included: {peak:,.0f} MB")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    print(
        f"python {platform.python_version()}, duckdb {duckdb.__version__}, {platform.machine()}, {os.cpu_count()} CPUs, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    now = datetime.now(UTC).replace(tzinfo=None)
    for rows in parser.parse_args().rows:
        print(f"\n{rows:,} decisions over {DAYS} days")
        with tempfile.TemporaryDirectory() as name:
            make(Path(name), rows, now)
            bench(Path(name), now)


if __name__ == "__main__":
    main()
