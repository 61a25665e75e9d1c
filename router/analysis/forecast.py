"""How much of the next days' traffic would fall back, from how much days differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from router.analysis.drift import MIN_DAYS


@dataclass(frozen=True, slots=True)
class ShareForecast:
    """The share of the days to come that falls back, with its 95 % interval, None under 7 days with traffic.

    ``days`` are those behind it, ``horizon`` those ahead.
    """

    share: float | None
    low: float | None
    high: float | None
    days: int
    horizon: int


def forecast_share(n: ArrayLike, below: ArrayLike, *, horizon: int = 7) -> ShareForecast:
    """Forecast from daily counts of decisions and of those below their line, shape (days,); days without traffic are left out.

    Notes
    -----
    With daily shares of sample sd s over d days the half width is ``t(d - 1) s sqrt(1 / d + 1 / horizon)``: days differ by more
    than coins would, so a binomial interval over all decisions is far too narrow. It takes days as alike and independent; where
    drift is on, it says nothing.
    """
    from scipy.special import stdtrit

    count, fell = np.asarray(n, dtype=np.float64), np.asarray(below, dtype=np.float64)
    some = count > 0
    count, fell = count[some], fell[some]
    days = len(count)
    share = float(fell.sum() / count.sum()) if days else None
    if share is None or days < MIN_DAYS:
        return ShareForecast(share, None, None, days, horizon)
    spread = float((fell / count).std(ddof=1))
    half = float(stdtrit(days - 1, 0.975)) * spread * float(np.sqrt(1 / days + 1 / horizon))
    return ShareForecast(share, max(share - half, 0.0), min(share + half, 1.0), days, horizon)
