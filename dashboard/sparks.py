"""Spark lines: a figure's course over the period, as a small picture beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pandas as pd

from dashboard import theme

WIDTH, HEIGHT = 200, 30
_PAD = 3.0
LEAST_SPREAD = 0.01


def courses(
    series: pd.DataFrame, spend: pd.DataFrame, latency: pd.DataFrame, *, width: timedelta, now: datetime
) -> dict[str, pd.Series]:
    """The course of each figure of the overview: ``n``, ``share``, ``cost``, ``saved``, ``p95``, ``unmeasured``.

    One value a period (a day for ``saved``); a period in which a figure is not measured has none. ``series``, ``spend`` and
    ``latency`` are the tables of those queries. Periods of ``width`` that are not over ``now`` (naive UTC) are left out:
    a torn one looks like a fall.
    """
    series = series[series["bucket"] + width <= now]
    latency = latency[latency["bucket"] + width <= now]
    spend = spend[spend["day"] + timedelta(days=1) <= now]
    fell = series["cause"].isin(("low_confidence", "low_margin"))
    table = series.assign(fell=series["n"].where(fell, 0)).groupby("bucket")
    sums = table[["n", "fell", "n_costed", "n_unanswered", "other_usd"]].sum()
    cost = table["cost_usd"].sum(min_count=1).astype("float64")
    cost = (cost.fillna(0.0) + sums["other_usd"]).where(cost.notna() | (sums["other_usd"] > 0))
    days = spend.groupby("day")[["cost", "classifier_cost", "failed_cost", "baseline_cost"]].sum()
    days = days[days["baseline_cost"] > 0]
    return {
        "n": sums["n"],
        "share": sums["fell"] / sums["n"],
        "cost": cost.dropna(),
        "saved": 1 - (days["cost"] + days["classifier_cost"] + days["failed_cost"]) / days["baseline_cost"],
        "p95": latency.set_index("bucket")["p95_ms"].astype("float64").dropna(),
        "unmeasured": 1 - (sums["n_costed"] + sums["n_unanswered"]) / sums["n"],
    }


def svg(values: Sequence[float], *, dark: bool) -> str | None:
    """A line through the values, lowest to highest over the whole height; None below two values.

    The height stands for a hundredth of the largest value at least: what does not change looks as if it did not.
    """
    if len(values) < 2:
        return None
    low, high = min(values), max(values)
    spread = max(high - low, LEAST_SPREAD * max(abs(low), abs(high)))
    low = (low + high - spread) / 2

    def place(i: int, value: float) -> tuple[float, float]:
        up = (value - low) / spread if spread > 0 else 0.5
        return i * WIDTH / (len(values) - 1), HEIGHT - _PAD - up * (HEIGHT - 2 * _PAD)

    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(i, value) for i, value in enumerate(values)))
    # The picture is stretched to its card's width; the line keeps its own.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'preserveAspectRatio="none"><polyline points="{points}" fill="none" stroke="{theme.colors(dark).control}" '
        'stroke-width="1.5" stroke-linejoin="round" vector-effect="non-scaling-stroke"/></svg>'
    )


def finding(title: str, course: pd.Series, form: Callable[[float], str]) -> str:
    """What the line shows, for screen readers: first and last, lowest and highest."""
    return (
        f"{title} over the period: from {form(course.iloc[0])} to {form(course.iloc[-1])}, "
        f"lowest {form(course.min())}, highest {form(course.max())}"
    )
