"""Times pricing a whole log for other models: ``python tests/bench/bench_prices.py [--rows N] [--sample N]``.

Makes a log of N decisions (see bench_pages.py) and prices all of it as if a policy with other models had routed it: from the
roll-ups, by one SQL join of the rows with the rates, with the sums of rows that the Savings page takes, in pandas, and row by
row with genai-prices (a sample, its time scaled up). Every way must come to the same dollars.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import duckdb
import genai_prices
import numpy as np
import pandas as pd
from bench_pages import POLICY, make, millis

from router.analysis.replay import projected_spend
from router.log import queries
from router.log.pricing import rates_table, routes_table, row_cost
from router.log.queries import Filter
from router.log.reader import Log, open_log
from router.log.sources import days
from router.policy import Policy
from router.prices import PriceBook

MAP = {
    "simple": "gpt-6-luna",
    "coding": "claude-sonnet-5-5",
    "reasoning": "claude-opus-5-5",
    "creative": "gpt-6.1-terra",
}
FALLBACK = "gpt-6.1-terra"

JOINED = """
SELECT sum({cost})
FROM decisions d JOIN routes ON routes.label = d.top_label
JOIN rates r ON r.day = CAST(d.decided_at AS DATE)
  AND r.model = CASE WHEN d.confidence < routes.production THEN $fallback ELSE routes.model END
"""
COLUMNS = "top_label, confidence, decided_at, input_tokens, output_tokens"


def other_models(policy: Policy) -> Policy:
    """The policy with the new map of labels to models."""
    labels = tuple(replace(label, model=MAP[label.name]) for label in policy.labels)
    return replace(policy, labels=labels, fallback_model=FALLBACK, baseline=None)


def by_rollups(log: Log, policy: Policy) -> float:
    """Cells of the roll-ups, priced in numpy, as the threshold's curve takes them."""
    cells = queries.cells(log, Filter(), policy, PriceBook())
    return float(projected_spend(cells, policy)["cost"].sum())


def by_savings(log: Log, policy: Policy) -> float:
    """Sums of rows by the model that the policy chooses, priced in numpy: the baseline "policy before"."""
    return float(queries.spend(log, Filter(), POLICY, PriceBook(), baseline=policy)["baseline_cost"].sum())


def by_join(log: Log, policy: Policy) -> float:
    """One SQL join of every row with its rate."""
    rates = rates_table(PriceBook(), policy.model_names, days(log, Filter()))
    found = log.frame(
        JOINED.replace("{cost}", row_cost("r")),
        {"fallback": policy.fallback_model},
        {"rates": rates, "routes": routes_table(policy, policy)},
    )
    return float(found.iloc[0, 0])


def by_pandas(log: Log, policy: Policy) -> float:
    """Every row fetched into pandas, merged with the rates, multiplied."""
    rows = log.frame(f"SELECT {COLUMNS} FROM decisions")
    models = {label.name: label.model for label in policy.labels}
    falls = rows["confidence"] < policy.threshold
    rows["model"] = rows["top_label"].map(models).where(~falls, policy.fallback_model)
    rows["day"] = rows["decided_at"].dt.date
    rates = pd.DataFrame(PriceBook().table(policy.model_names, rows["day"].unique()))
    rows = rows.merge(rates, on=["model", "day"], how="left")
    high = rows["tier_from"].notna() & (rows["input_tokens"] > rows["tier_from"])
    fresh = np.where(high, rows["tier_input"].astype(float), rows["input"])
    output = np.where(high, rows["tier_output"].astype(float), rows["output"])
    return float((rows["input_tokens"] * fresh + rows["output_tokens"] * output).sum())


def by_rows(log: Log, policy: Policy, sample: int) -> tuple[float, float, float]:
    """genai-prices for a sample of rows, one by one: seconds, its dollars, and ours for the same rows."""
    rows = log.rows(f"SELECT {COLUMNS} FROM decisions USING SAMPLE {int(sample)} ROWS")
    models = {label.name: label.model for label in policy.labels}
    book, ours, theirs, spent = PriceBook(), 0.0, 0.0, 0.0
    for label, confidence, when, read, written in rows:
        model = policy.fallback_model if confidence < policy.threshold else models[label]
        usage = genai_prices.Usage(input_tokens=read, output_tokens=written)
        start = time.perf_counter()
        price = genai_prices.calc_price(
            usage, model, genai_request_timestamp=when.replace(hour=12, tzinfo=UTC)
        )
        spent += time.perf_counter() - start
        theirs += float(price.total_price)
        rate = book.rate(model, when.date())
        assert rate is not None
        ours += float(rate.input * read + rate.output * written) / 1e6
    return spent, theirs, ours


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sample", type=int, default=5_000)
    chosen = parser.parse_args()
    print(
        f"python {platform.python_version()}, duckdb {duckdb.__version__}, pandas {pd.__version__}, genai-prices "
        f"{metadata.version('genai-prices')}, {platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    )
    policy = other_models(POLICY)
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), chosen.rows, datetime.now(UTC).replace(tzinfo=None))
        with open_log(Path(name)) as log:
            ways = {
                "roll-ups, numpy (threshold page)": lambda: by_rollups(log, policy),
                "rows summed, numpy (savings page)": lambda: by_savings(log, policy),
                "rows joined with rates, SQL": lambda: by_join(log, policy),
                "rows in pandas": lambda: by_pandas(log, policy),
            }
            totals = {title: call() for title, call in ways.items()}
            (reference, *_) = totals.values()
            for title, call in ways.items():
                took = millis(call, 3 if "pandas" in title else 7)
                off = abs(totals[title] / reference - 1)
                print(f"{title:36s}{took:10.1f} ms   ${totals[title]:,.2f}, {off:.0e} off the first")
            spent, theirs, ours = by_rows(log, policy, chosen.sample)
            scaled = spent / chosen.sample * chosen.rows
            print(
                f"{'genai-prices, row by row':36s}{scaled * 1000:10.0f} ms   scaled from {chosen.sample:,} rows "
                f"({spent / chosen.sample * 1e6:.0f} us each), {abs(theirs / ours - 1):.0e} off ours"
            )


if __name__ == "__main__":
    main()
