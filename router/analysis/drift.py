"""Whether traffic still looks as it did: confidence per label, the mix of labels, the share that falls back; and since when.

With millions of decisions every p-value is 0, so alarms look at the size of a change, not at its significance.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from router.analysis.cells import Floats
from router.analysis.tables import DAILY, columns

PSI_ALARM = 0.2
"""A population stability index above this (and above its own noise) is an alarm."""

SD_ALARM = 4.0
"""A day's fallback share this many day-to-day standard deviations from the reference mean is an outlier."""

MIN_DAYS = 7
"""Reference days it takes to know how much the fallback share varies from day to day."""

MIN_SIDE = 200
"""Decisions that both periods need before a change counts: below, the index is mostly noise."""

_BINS = 101


@dataclass(frozen=True, slots=True)
class Shift:
    """How far a distribution moved between the reference and the recent period; None where one of them is empty.

    Attributes
    ----------
    label : None: all labels together.
    psi : population stability index on 10 quantile bins of the reference. ``noise``: its mean were nothing changed.
    ks : largest distance of the two distribution functions, at multiples of 0.01. ``js``: Jensen-Shannon divergence on 20 equal
        bins, in bits, 0 to 1.
    since : day on which the daily index changed most; None without an alarm.
    """

    label: str | None
    n_reference: int
    n_recent: int
    psi: float | None
    noise: float | None
    ks: float | None
    js: float | None
    is_alarm: bool
    since: date | None


@dataclass(frozen=True, slots=True)
class FallbackDrift:
    """The share that falls back, day by day.

    ``mean`` and ``sd`` are those of the reference days, ``recent`` the share of the recent period; ``days_out`` recent days are
    more than 4 sd away. None where fewer than 7 reference days say how much days differ.
    """

    mean: float | None
    sd: float | None
    recent: float | None
    days_out: int
    is_alarm: bool
    since: date | None


@dataclass(frozen=True, slots=True)
class Alarm:
    """One change that is large enough to act on: what changed, by how much, since when."""

    kind: Literal["confidence", "labels", "fallback"]
    label: str | None
    text: str
    since: date | None


@dataclass(frozen=True, slots=True)
class Drift:
    """Both periods compared. ``confidence``: all labels first, then each; ``mix``: the shares of labels."""

    recent_from: date
    n_reference: int
    n_recent: int
    confidence: tuple[Shift, ...]
    mix: Shift
    fallback: FallbackDrift
    alarms: tuple[Alarm, ...]

    @property
    def can_judge(self) -> bool:
        """Whether both periods have the 200 decisions that it takes to call a change one."""
        return min(self.n_reference, self.n_recent) >= MIN_SIDE

    @property
    def not_judged(self) -> tuple[str, ...]:
        """Labels that do not have them, and could not alarm whatever they did."""
        return tuple(
            x.label
            for x in self.confidence
            if x.label is not None and min(x.n_reference, x.n_recent) < MIN_SIDE
        )


def drift(daily: pd.DataFrame, recent_from: date) -> Drift:
    """Compare days from ``recent_from`` on with the days before it, from a table of router.analysis.tables.DAILY.

    Notes
    -----
    PSI = sum (p_b - q_b) ln(p_b / q_b), 0.5 decisions added to each bin so that an empty one stays finite. Without a change its
    mean is about (B - 1) (1/n + 1/m), which an alarm has to exceed by 0.2. A change point minimises the squared error of a
    daily series with one step in it, each day weighted by its decisions.

    References
    ----------
    Yurdakul and Naranjo, Statistical properties of the population stability index, J. Risk Model Validation 14 (2020), section 2;
    Lin, Divergence measures based on the Shannon entropy, IEEE Trans. Information Theory 37 (1991).
    """
    table = columns(daily, DAILY)
    days, at = np.unique(table["day"].astype("datetime64[D]"), return_inverse=True)
    labels, row = np.unique(np.asarray(table["label"], dtype=object).astype(str), return_inverse=True)
    counts = np.zeros((len(days), len(labels), _BINS))
    np.add.at(counts, (at, row, table["bin"]), table["n"])
    fell = np.bincount(at, weights=table["n_fallback"], minlength=len(days)).astype(np.float64)
    recent = days >= np.datetime64(recent_from)
    shifts = [_shift(None, counts.sum(axis=1), days, recent, quantiles=True)]
    shifts += [
        _shift(name, counts[:, i], days, recent, quantiles=True) for i, name in enumerate(labels.tolist())
    ]
    mix = _shift(None, counts.sum(axis=2), days, recent, quantiles=False)
    fallback = _fallback(fell, counts.sum(axis=(1, 2)), days, recent)
    return Drift(
        recent_from=recent_from,
        n_reference=int(counts[~recent].sum()),
        n_recent=int(counts[recent].sum()),
        confidence=tuple(shifts),
        mix=mix,
        fallback=fallback,
        alarms=tuple(_alarms(shifts, mix, fallback)),
    )


def psi(reference: ArrayLike, recent: ArrayLike) -> float:
    """Population stability index of two rows of counts over the same bins, 0.5 added to each."""
    p, q = np.asarray(reference, dtype=np.float64) + 0.5, np.asarray(recent, dtype=np.float64) + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((p - q) * np.log(p / q)))


def ks(reference: ArrayLike, recent: ArrayLike) -> float:
    """Largest distance of the distribution functions of two rows of counts over the same ordered bins."""
    p, q = np.asarray(reference, dtype=np.float64), np.asarray(recent, dtype=np.float64)
    return float(np.max(np.abs(np.cumsum(p) / p.sum() - np.cumsum(q) / q.sum())))


def js(reference: ArrayLike, recent: ArrayLike) -> float:
    """Jensen-Shannon divergence of two rows of counts over the same bins, in bits: 0 when equal, 1 when disjoint."""
    p, q = np.asarray(reference, dtype=np.float64), np.asarray(recent, dtype=np.float64)
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2

    def relative(a: Floats) -> float:
        some = a > 0
        return float(np.sum(a[some] * np.log2(a[some] / middle[some])))

    return max(0.0, (relative(p) + relative(q)) / 2)


def change_point(values: ArrayLike, weights: ArrayLike) -> int | None:
    """Index from which on a series is best described by another mean; None when it has fewer than two values or no step."""
    x, w = np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if len(x) < 2 or float(np.ptp(x)) == 0.0:
        return None
    total, sums = np.cumsum(w)[:-1], np.cumsum(w * x)[:-1]
    rest, rest_sums = w.sum() - total, (w * x).sum() - sums
    with np.errstate(invalid="ignore", divide="ignore"):
        explained = np.where((total > 0) & (rest > 0), sums**2 / total + rest_sums**2 / rest, -np.inf)
    return int(np.argmax(explained)) + 1


def quantile_bins(counts: ArrayLike, bins: int = 10) -> NDArray[np.int64]:
    """The group of each bin when counts are cut into (about) equally full groups; a full bin is never cut."""
    n = np.asarray(counts, dtype=np.float64)
    before = np.cumsum(n) - n
    group = np.minimum((before + n / 2) / n.sum() * bins, bins - 1).astype(np.int64)
    return np.asarray(np.unique(group, return_inverse=True)[1], dtype=np.int64)


def _shift(
    label: str | None,
    counts: Floats,
    days: NDArray[np.datetime64],
    recent: NDArray[np.bool_],
    *,
    quantiles: bool,
) -> Shift:
    """Compare the two periods; ``counts`` has a row per day and a column per bin (or label)."""
    one, two = counts[~recent].sum(axis=0), counts[recent].sum(axis=0)
    n, m = int(one.sum()), int(two.sum())
    if n == 0 or m == 0:
        return Shift(label, n, m, None, None, None, None, False, None)
    group = quantile_bins(one) if quantiles else np.arange(len(one))
    size = int(group.max()) + 1

    def grouped(values: Floats) -> Floats:
        return np.asarray(np.bincount(group, weights=values, minlength=size), dtype=np.float64)

    index, noise = psi(grouped(one), grouped(two)), (size - 1) * (1 / n + 1 / m)
    alarm = min(n, m) >= MIN_SIDE and index > PSI_ALARM + noise
    since = None
    if alarm:
        base = grouped(one)
        daily = [psi(base, grouped(row)) if row.sum() else 0.0 for row in counts]
        since = _day(days, change_point(daily, counts.sum(axis=1)))
    fine = np.arange(len(one)) if not quantiles else np.minimum(np.arange(len(one)) // 5, 19)
    return Shift(
        label=label,
        n_reference=n,
        n_recent=m,
        psi=index,
        noise=noise,
        ks=ks(one, two) if quantiles else None,
        js=js(np.bincount(fine, weights=one), np.bincount(fine, weights=two)),
        is_alarm=alarm,
        since=since,
    )


def _fallback(
    fell: Floats, n: Floats, days: NDArray[np.datetime64], recent: NDArray[np.bool_]
) -> FallbackDrift:
    some = n > 0
    share = np.divide(fell, n, out=np.zeros_like(fell), where=some)
    now = float(fell[recent].sum() / n[recent].sum()) if n[recent].sum() else None
    reference = share[~recent & some]
    if len(reference) < MIN_DAYS or now is None:
        return FallbackDrift(None, None, now, 0, False, None)
    mean = float(fell[~recent].sum() / n[~recent].sum())
    sd = float(reference.std(ddof=1))
    # Few decisions a day, or days that happen to be alike: a share cannot be steadier than the coin it is.
    coin = np.sqrt(max(mean * (1 - mean), 1e-9) / np.maximum(n, 1))
    out = recent & some & (np.abs(share - mean) > SD_ALARM * np.maximum(sd, coin))
    overall_coin = float(np.sqrt(max(mean * (1 - mean), 1e-9) / n[recent].sum()))
    alarm = abs(now - mean) > SD_ALARM * max(sd, overall_coin)
    since = _day(days, change_point(share[some], n[some]), some) if alarm else None
    return FallbackDrift(mean, sd, now, int(out.sum()), bool(alarm), since)


def _day(
    days: NDArray[np.datetime64], index: int | None, some: NDArray[np.bool_] | None = None
) -> date | None:
    if index is None:
        return None
    picked = days if some is None else days[some]
    found: date = picked[index].astype("datetime64[D]").item()
    return found


def _alarms(shifts: list[Shift], mix: Shift, fallback: FallbackDrift) -> list[Alarm]:
    found = []
    for shift in shifts:
        if shift.is_alarm and shift.psi is not None:
            whose = "confidence" if shift.label is None else f"confidence of {shift.label}"
            found.append(Alarm("confidence", shift.label, f"{whose} moved: PSI {shift.psi:.2f}", shift.since))
    if mix.is_alarm and mix.psi is not None:
        found.append(Alarm("labels", None, f"the mix of labels moved: PSI {mix.psi:.2f}", mix.since))
    if fallback.is_alarm and fallback.mean is not None and fallback.recent is not None:
        text = f"fallback share went from {fallback.mean:.1%} to {fallback.recent:.1%}"
        found.append(Alarm("fallback", None, text, fallback.since))
    return found
