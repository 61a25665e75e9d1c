"""Times the tuning: ``python tests/bench/bench_tuning.py [--rows N ...]``.

For each N: decisions are drawn, reduced to cells once, and the whole curve, one move, intervals, optima, a certificate and the
overlap of all pairs of labels are timed from the cells. The same curve (without its intervals), move and overlap are timed in pandas
over the rows in memory and in SQLite (in memory, index on confidence), in the same run, and their answers compared. Medians of the thread's own time in milliseconds (all of these run in one thread), so that a busy machine disturbs
less; what is printed depends on the machine, which is printed too. Nothing gates on it.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from router.analysis.certify import certify
from router.analysis.judgements import Audit
from router.analysis.overlap import overlap
from router.analysis.rule import bins, confidence_bins
from router.analysis.sweep import difference, operating_point, sweep
from router.analysis.tables import CELLS
from router.analysis.tune import cheapest_priced, cheapest_with_fallback
from router.analysis.tune_labels import label_thresholds
from router.policy import GRID, Policy

POLICY = Policy.preset("seed")
RATES = {"simple": 0.000375, "coding": 0.009, "reasoning": 0.015, "creative": 0.00625}
SQLITE_ROWS = 2_000_000
"""SQLite takes minutes to be filled beyond."""


def draw(rows: int) -> pd.DataFrame:
    """Decisions with continuous confidences, so that cells are as many as they can be."""
    rng = np.random.default_rng(1)
    place = rng.integers(0, 4, rows)
    size = rng.gamma(2.0, 0.5, rows)
    rate = np.array([RATES[x] for x in POLICY.label_names])
    confidence = 0.25 + 0.75 * rng.beta(2, 1, rows)
    return pd.DataFrame(
        {
            "place": place,
            "confidence": confidence,
            "l": rate[place] * size,
            "f": 0.00625 * size,
            "b": 0.015 * size,
            "other": (place + rng.integers(1, 4, rows)) % 4,
            "margin": confidence * rng.beta(1, 2, rows),
        }
    )


def reduce(table: pd.DataFrame) -> pd.DataFrame:
    """Rows to cells, as the log does it in SQL."""
    key = table["place"].to_numpy() * (GRID + 1) + confidence_bins(table["confidence"])
    n = np.bincount(key, minlength=4 * (GRID + 1))
    there = np.flatnonzero(n)
    l, f, b = (table[x].to_numpy() for x in "lfb")  # noqa: E741
    sums = (l, f, b, l * l, f * f, b * b, l * f, l * b, f * b)
    found = {
        "label": np.array(POLICY.label_names, dtype=object)[there // (GRID + 1)],
        "bin": there % (GRID + 1),
    }
    found |= {"n": n[there], "n_priced": n[there]}
    names = [x.name for x in CELLS.columns[4:13]]
    found |= {name: np.bincount(key, weights=x)[there] for name, x in zip(names, sums, strict=True)}
    return pd.DataFrame(found | {"classifier_cost": 0.0, "n_measured": n[there], "n_assumed": 0})


def reduce_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """Rows to sums by pair of labels and hundredth of the margin, as the log does it in SQL."""
    hundredths = bins(table["margin"], 100)
    label, other = table["place"].to_numpy(), table["other"].to_numpy()
    key = (label * 4 + other) * 101 + hundredths
    n = np.bincount(key, minlength=16 * 101)
    there = np.flatnonzero(n)
    names = np.array(POLICY.label_names, dtype=object)
    size = table["b"].to_numpy() / 0.015
    rate = np.array([RATES[x] for x in POLICY.label_names])
    return pd.DataFrame(
        {
            "label": names[there // 101 // 4],
            "runner_up": names[there // 101 % 4],
            "margin_bin": there % 101,
            "n": n[there],
            "n_priced": n[there],
            "label_cost": np.bincount(key, weights=table["l"].to_numpy())[there],
            "other_cost": np.bincount(key, weights=rate[other] * size)[there],
        }
    )


def timed(action: Callable[[], object], *, at_least: float = 0.3, most: int = 200) -> float:
    """Median milliseconds of a call, of its thread."""
    action()
    times: list[float] = []
    while len(times) < 5 or (sum(times) < at_least and len(times) < most):
        start = time.thread_time()
        action()
        times.append(time.thread_time() - start)
    return 1000 * statistics.median(times)


def in_pandas(table: pd.DataFrame, threshold: float) -> tuple[float, float]:
    """Fallback share and cost at a threshold, from the rows."""
    falls = table["confidence"] < threshold
    return float(falls.mean()), float(table["f"].where(falls, table["l"]).sum())


def curve_in_pandas(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Fallback share and cost at every threshold of the grid, from the rows."""
    ordered = table[["confidence", "f", "l"]].sort_values("confidence")
    moved = np.concatenate([[0.0], (ordered["f"] - ordered["l"]).cumsum().to_numpy()])
    below = np.searchsorted(ordered["confidence"].to_numpy(), np.arange(GRID + 1) / GRID)
    return below / len(ordered), float(ordered["l"].sum()) + moved[below]


def overlap_in_pandas(table: pd.DataFrame) -> pd.Series:
    """Close calls by pair of labels."""
    close = table[table["margin"] < 0.1]
    low = close["place"].where(close["place"] < close["other"], close["other"])
    return close.groupby([low, close["place"] + close["other"] - low]).size()


def in_sqlite(table: pd.DataFrame) -> sqlite3.Connection:
    """The rows in SQLite."""
    con = sqlite3.connect(":memory:")
    con.execute(
        "CREATE TABLE d(place INTEGER, confidence REAL, l REAL, f REAL, b REAL, other INTEGER, margin REAL)"
    )
    con.executemany("INSERT INTO d VALUES (?, ?, ?, ?, ?, ?, ?)", table.itertuples(index=False, name=None))
    con.execute("CREATE INDEX by_confidence ON d(confidence)")
    return con


MOVE = "SELECT avg(confidence < ?), sum(CASE WHEN confidence < ? THEN f ELSE l END) FROM d"


CURVE = """
SELECT bin, sum(n) OVER below AS n, sum(d) OVER below AS moved
FROM (SELECT CAST(confidence * 10000 AS INTEGER) AS bin, count(*) AS n, sum(f - l) AS d FROM d GROUP BY 1)
WINDOW below AS (ORDER BY bin ROWS UNBOUNDED PRECEDING)
"""
OVERLAP = "SELECT min(place, other), max(place, other), count(*) FROM d WHERE margin < 0.1 GROUP BY 1, 2"


def measure(rows: int) -> dict[str, float]:
    """Median milliseconds of everything at one N."""
    table = draw(rows)
    start = time.thread_time()
    cells = reduce(table)
    found = {"reduce rows to cells (once)": 1000 * (time.thread_time() - start), "cells": float(len(cells))}
    pairs = reduce_pairs(table)
    curve = sweep(cells, POLICY)
    rng = np.random.default_rng(2)
    right = np.linspace(0.4, 1, GRID + 1)
    drawn = rng.integers(0, rows, 1000)
    confidence = table["confidence"].to_numpy()[drawn]
    audit = Audit(label=np.array(POLICY.label_names, dtype=object)[table["place"].to_numpy()[drawn]], confidence=confidence,
                  loss=rng.random(1000) > confidence, queue=np.full(1000, "audit", dtype=object))  # fmt: skip
    found |= {
        "whole curve with delta intervals": timed(lambda: sweep(cells, POLICY)),
        "one move": timed(lambda: operating_point(curve, 0.613)),
        "difference with its interval": timed(lambda: difference(curve, 0.55, 0.613)),
        "optimum, limit on fallbacks": timed(lambda: cheapest_with_fallback(curve, 0.2)),
        "optimum with bootstrap range": timed(lambda: cheapest_with_fallback(curve, 0.2, rng=rng)),
        "optimum, priced events": timed(
            lambda: cheapest_priced(curve, right, fallback_usd=0.001, wrong_usd=0.1)
        ),
        "thresholds per label": timed(lambda: label_thresholds(cells, POLICY, 0.2)),
        "certificate from 1,000 labels": timed(lambda: certify(audit, cells, POLICY.label_names, alpha=0.2)),
        "overlap of all pairs": timed(lambda: overlap(pairs, POLICY.label_names)),
        "pandas: whole curve": timed(lambda: curve_in_pandas(table)),
        "pandas: one move": timed(lambda: in_pandas(table, 0.613)),
        "pandas: overlap": timed(lambda: overlap_in_pandas(table)),
    }
    shares, costs = curve_in_pandas(table)
    assert curve.fallback_share is not None and curve.cost_per_1000 is not None
    assert np.array_equal(curve.fallback_share, shares), "the curve and the rows disagree"
    assert np.allclose(curve.cost_per_1000 * rows / 1000, costs, rtol=1e-9)
    close = overlap(pairs, POLICY.label_names)
    assert close.n_close == int(overlap_in_pandas(table).sum()), "the overlap and the rows disagree"
    if rows <= SQLITE_ROWS:
        con = in_sqlite(table)
        found["SQLite: whole curve"] = timed(lambda: con.execute(CURVE).fetchall())
        found["SQLite: overlap"] = timed(lambda: con.execute(OVERLAP).fetchall())
        found["SQLite: one move"] = timed(lambda: con.execute(MOVE, (0.613, 0.613)).fetchone())
        con.close()
    share, cost = in_pandas(table, 0.613)
    point = operating_point(curve, 0.613)
    assert point.fallback_share == share, "the curve and the rows disagree"
    assert point.cost_per_1000 is not None and abs(point.cost_per_1000 * rows / 1000 / cost - 1) < 1e-9
    return found


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000])
    sizes = parser.parse_args().rows
    found = {rows: measure(rows) for rows in sizes}
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}, "
          f"numpy {np.__version__}, pandas {pd.__version__}, SQLite {sqlite3.sqlite_version}")  # fmt: skip
    print(f"{'median ms':36}" + "".join(f"{rows:>14,}" for rows in sizes))
    for name in dict.fromkeys(x for part in found.values() for x in part):
        cells = (found[rows].get(name) for rows in sizes)
        print(
            f"{name:36}"
            + "".join(
                f"{'-' if x is None else f'{x:,.0f}' if name == 'cells' else f'{x:,.3f}':>14}" for x in cells
            )
        )


if __name__ == "__main__":
    main()
