"""Times the log in one run: ``python tests/bench/bench_log.py [--rows N]``.

What a request pays (deciding and one append), what the owner reaches when it takes rows in, and what a reader waits for. The
classifier is a constant, so that nothing else is measured. Everything happens in a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from router import Classification, Policy, Router, decide, open_log
from router.log import queries
from router.log.owner import ingest_now
from router.log.queries import Filter
from router.log.spool import Spool
from router.log.writer import Writer
from router.prices import PriceBook

POLICY = Policy.preset("seed")
SCORES = {"simple": 0.7, "coding": 0.1, "reasoning": 0.15, "creative": 0.05}


class Fixed:
    """A classifier that always gives the same scores."""

    name = "fixed/1"

    def classify(self, text: str, labels: object) -> Classification:
        """See ``Classifier``."""
        return Classification("simple", SCORES, self.name, True, 0.1)


def micros(call: Callable[[], object], repeats: int) -> str:
    """Median and 95 % of a call, in microseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1000)
    times.sort()
    return f"{statistics.median(times):9.1f} µs   p95 {times[int(0.95 * len(times))]:9.1f} µs"


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    rows = parser.parse_args().rows
    print(
        f"python {platform.python_version()}, duckdb {duckdb.__version__}, {platform.machine()}, {os.cpu_count()} CPUs, "
        f"load {os.getloadavg()[0]:.1f}, {rows:,} rows"
    )
    prompt = "how do i move the last commit to another branch " * 4
    with tempfile.TemporaryDirectory() as name:
        quiet = Router(POLICY, classifier=Fixed(), data=Path(name) / "none", log=False)
        logging = Router(POLICY, classifier=Fixed(), data=Path(name) / "log")
        spool = Spool(Path(name) / "spool")
        record = {"kind": "decision", "prompt": prompt, "scores": SCORES, "threshold": 0.55}
        for title, call in (
            ("decide()", lambda: decide(SCORES, POLICY)),
            ("append a record", lambda: spool.append(record)),
            ("route, not logged", lambda: quiet.route(prompt)),
            ("route, logged", lambda: logging.route(prompt)),
        ):
            micros(call, 200)
            print(f"{title:24s}{micros(call, 5000)}")
        spool.close()
        logging.close()

        data = Path(name) / "many"
        writer = Writer(
            data, turns=False
        )  # rows stay in the spool: what taking them in costs is measured apart
        start = time.perf_counter()
        for _ in range(rows):
            writer.log(quiet.route(prompt), POLICY)
        spent = time.perf_counter() - start
        print(f"{'decide and append':24s}{rows / spent:9,.0f} decisions/s, one thread")
        start = time.perf_counter()
        ingest_now(data)
        print(f"{'ingest':24s}{rows / (time.perf_counter() - start):9,.0f} rows/s")
        writer.close()
        with open_log(data) as log:
            book = PriceBook(POLICY.models)
            for title, read in (
                ("summary", lambda: queries.summary(log, Filter(), book)),
                ("cells", lambda: queries.cells(log, Filter(), POLICY, book)),
                ("page of 100", lambda: queries.page(log, Filter(), book)),
            ):
                print(f"{title:24s}{micros(read, 7)}")


if __name__ == "__main__":
    main()
