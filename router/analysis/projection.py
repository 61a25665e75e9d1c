"""What a month would cost if traffic stayed: from daily sums, with a rule for few days."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from math import fsum, sqrt
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

FULL_WEEKS = 14
"""From this many days on, each weekday has its own mean."""

FEW_DAYS = 7
"""Below this many days there is no interval."""


@dataclass(frozen=True, slots=True)
class Projection:
    """A sum over the days to come, in the unit of the daily values.

    ``low`` and ``high`` bound its 95 % interval, None below 7 days. ``method`` says how: each weekday's own mean (14 days
    and more), else one mean of all days, which the page must call "extrapolated from ``days`` days".
    """

    total: float
    low: float | None
    high: float | None
    days: int
    horizon: int
    method: Literal["weekday means", "mean of days"]


def project(
    daily: Mapping[date, float], first: date, last: date, *, horizon: int = 30, unknown: Collection[date] = ()
) -> Projection | None:
    """Project the ``horizon`` days after ``last`` from the days ``first`` to ``last``; None when there is no such day.

    Give full days only: a part of a day (today, the day of the first decision) pulls the mean down. A day of that range
    without an entry counts as 0: there was no traffic. Days in ``unknown`` had traffic that was not measured; they are left
    out, so that they do not count as free.

    Notes
    -----
    With day values x, weekday means m_w over n_w days and h_w days to come, the total is ``sum h_w m_w`` and its variance
    ``s2 (sum h_w^2 / n_w + horizon)``, s2 being the residual variance with days - 7 degrees of freedom: the error of the
    means plus the days' own spread, with a Student t quantile. From 7 to 13 days the one mean m of all days is used, with
    ``s2 (horizon^2 / days + horizon)`` and days - 1 degrees of freedom. It takes days as independent around their mean.
    """
    span = [first + timedelta(days=i) for i in range((last - first).days + 1)]
    values = [(day, float(daily.get(day, 0.0))) for day in span if day not in unknown]
    count = len(values)
    if count < 1:
        return None
    by_weekday = count >= FULL_WEEKS and len({day.weekday() for day, _ in values}) == 7

    def group(day: date) -> int:
        return day.weekday() if by_weekday else 0

    size = Counter(group(day) for day, _ in values)
    mean = {g: fsum(x for day, x in values if group(day) == g) / size[g] for g in size}
    ahead = Counter(group(last + timedelta(days=i)) for i in range(1, horizon + 1))
    total = fsum(ahead[g] * mean[g] for g in size)
    low = high = None
    freedom = count - len(size)
    if count >= FEW_DAYS:
        from scipy.stats import t  # loaded here: short logs never need it

        spread = fsum((x - mean[group(day)]) ** 2 for day, x in values) / freedom
        half = float(t.ppf(0.975, freedom)) * sqrt(
            spread * (sum(ahead[g] ** 2 / size[g] for g in size) + horizon)
        )
        low, high = total - half, total + half
        if all(x >= 0 for _, x in values):
            low = max(low, 0.0)  # sums of what cannot be negative
    return Projection(total, low, high, count, horizon, "weekday means" if by_weekday else "mean of days")


def project_spend(
    spend: pd.DataFrame,
    today: date,
    what: Literal["paid", "baseline", "saved"] = "paid",
    *,
    horizon: int = 30,
) -> Projection | None:
    """Project what was paid (or the baseline, or their difference) from full days (UTC); None when there is none.

    The days of the first priced decision and of today are torn and left out. A day of which a part has no price is not a
    cheap day: its priced decisions stand for all of them; a day with none of them says nothing.

    Parameters
    ----------
    spend : router.analysis.tables.SPEND with days. "paid" counts decisions with a known cost of their own, whether the baseline's
        is known or not; "baseline" and "saved" those that have both.
    """
    if "day" not in spend or not spend["n_priced"].sum():
        return None
    # What no model answered costs nothing either way: it is no part of a day's traffic.
    spend = spend.assign(n=spend["n"] - spend["n_unanswered"]) if "n_unanswered" in spend else spend
    if what == "paid" and {"unmatched_cost", "n_cost_unknown"} <= set(spend.columns):
        # What is known to be paid without a baseline is paid all the same.
        spend = spend.assign(
            cost=spend["cost"] + spend["unmatched_cost"], n_priced=spend["n"] - spend["n_cost_unknown"]
        )
    paid, base = spend["cost"] + spend["classifier_cost"].fillna(0.0), spend["baseline_cost"]
    value = {"paid": paid, "baseline": base, "saved": base - paid}[what]
    # Failed attempts are known for all decisions, priced or not: nothing stands for them.
    failed = spend["failed_cost"].fillna(0.0) if "failed_cost" in spend else 0.0
    sign = {"paid": 1.0, "baseline": 0.0, "saved": -1.0}[what]
    days = spend.assign(value=value, failed=failed).groupby("day")[["value", "failed", "n", "n_priced"]].sum()
    unknown = {day.date() for day in days.index[days["n_priced"] == 0]}
    days = days[days["n_priced"] > 0]
    daily = days["value"] * days["n"] / days["n_priced"] + sign * days["failed"]
    first = days.index.min().date() + timedelta(days=1)
    last = min(spend["day"].max().date(), today - timedelta(days=1))
    if first > last:
        return None
    values = {day.date(): float(x) for day, x in daily.items()}
    return project(values, first, last, horizon=horizon, unknown=unknown)


def days_to_go_by(spend: pd.DataFrame, today: date) -> int:
    """Full days (UTC) with a priced decision: those of the first one and of today are torn. 0: nothing can be projected."""
    if "day" not in spend:
        return 0
    seen = sorted({day.date() for day in spend["day"][spend["n_priced"] > 0]})
    return sum(seen[0] < day < today for day in seen)


def why_not(days: int, horizon: int = 30) -> str:
    """Why there is no projection, in words.

    >>> why_not(0)
    'the next 30 days are not projected: that needs a full day of priced decisions (7 for an interval); this log has 0 (the first day and today are not full)'
    """
    return (
        f"the next {horizon} days are not projected: that needs a full day of priced decisions ({FEW_DAYS} for an interval); "
        f"this log has {days} (the first day and today are not full)"
    )


def bounded(found: Projection | None) -> Projection | None:
    """A projection of sums of which a part is not known: it is a bound, and a bound has no interval."""
    return None if found is None else replace(found, low=None, high=None)


def ground(found: Projection, *, is_bound: bool = False) -> str:
    """What a projection rests on, in words; ``is_bound``: a part of what was paid is not known.

    >>> ground(Projection(1.0, None, None, 5, 30, "mean of days"))
    'extrapolated from 5 days: too few for an interval'
    """
    days = f"{found.days} day{'' if found.days == 1 else 's'}"
    if is_bound:
        return f"from {days}; a part of what was paid is not known, so that there is no interval"
    if found.low is None:
        return f"extrapolated from {days}: too few for an interval"
    if found.method == "mean of days":
        return f"extrapolated from {days}, the mean of all, 95 % interval"
    return f"from {days}, each weekday's own mean, 95 % interval"
