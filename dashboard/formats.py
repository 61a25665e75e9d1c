"""Numbers, money, times and changes as the pages write them. Pure functions from a value to text.

Minus is U+2212. None is "not measured", never 0 and never a dash.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal

NOT_MEASURED = "not measured"
MINUS = "−"

Number = int | float | Decimal


def _missing(value: object) -> bool:
    """None, NaN and pandas' missing values are all the same to a reader."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:  # pandas.NA has no truth value
        return True


def _minus(text: str) -> str:
    """The true minus; a zero that rounding left behind ("-0.0") loses its sign."""
    if text.startswith("-"):
        text = text[1:]
        return text if not any(c in "123456789" for c in text) else MINUS + text
    return text


def count(value: Number | None) -> str:
    """Whole number with grouping.

    >>> count(184203)
    '184,203'
    """
    return NOT_MEASURED if _missing(value) else _minus(f"{int(value):,}")  # type: ignore[arg-type]


def axis_count(value: Number) -> str:
    """A count on an axis.

    >>> [axis_count(v) for v in (0, 800, 2000, 1500, 3_000_000)]
    ['0', '800', '2k', '1.5k', '3M']
    """
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(float(value)) >= size:
            return _minus(f"{float(value) / size:.1f}".removesuffix(".0")) + unit
    return _minus(f"{float(value):g}")


def share(value: float | None) -> str:
    """A share in [0, 1] with one decimal; what rounding would turn into none or all is said as such.

    >>> [share(v) for v in (0.225, 0.0004, 0.0, 0.9999, 1.0)]
    ['22.5 %', '< 0.1 %', '0.0 %', '> 99.9 %', '100.0 %']
    """
    if _missing(value):
        return NOT_MEASURED
    assert value is not None
    if 0 < value < 0.001:
        return "< 0.1 %"
    if 0.999 < value < 1:
        return "> 99.9 %"
    return _minus(f"{value * 100:.1f}") + " %"


def threshold(value: float | None) -> str:
    """A threshold with 3 decimals; with 4 when it lies between those, so that no value is shown as another.

    >>> threshold(0.55), threshold(0.5512)
    ('0.550', '0.5512')
    """
    if _missing(value):
        return NOT_MEASURED
    assert value is not None
    short = f"{value:.3f}"
    return short if abs(float(short) - value) < 1e-9 else f"{value:.4f}"


def score(value: float | None) -> str:
    """A score, confidence or margin with 4 decimals."""
    return NOT_MEASURED if _missing(value) else _minus(f"{value:.4f}")


def usd(value: Number | None) -> str:
    """US dollars: cents, whole dollars from 1,000 up, four decimals below ten cents.

    >>> [usd(v) for v in (3.15, 1777.3, 0.0034, 0, 0.00001)]
    ['$3.15', '$1,777', '$0.0034', '$0.00', '< $0.0001']
    """
    if _missing(value):
        return NOT_MEASURED
    assert value is not None
    size = abs(float(value))
    sign = MINUS if value < 0 else ""
    if size == 0:
        return "$0.00"
    if size < 0.00005:
        return f"< {sign}$0.0001" if not sign else f"> {sign}$0.0001"
    if size < 0.1:
        return f"{sign}${size:.4f}"
    return f"{sign}${size:,.2f}" if size < 999.995 else f"{sign}${size:,.0f}"


def milli_usd(value: Number | None) -> str:
    """Thousandths of a dollar, for tables whose header says "m$".

    >>> milli_usd(0.006184)
    '6.184'
    """
    return NOT_MEASURED if _missing(value) else _minus(f"{float(value) * 1000:,.3f}")  # type: ignore[arg-type]


def duration(ms: float | None) -> str:
    """A time span given in milliseconds.

    >>> [duration(v) for v in (8.44, 812.0, 2900.0)]
    ['8.4 ms', '812 ms', '2.9 s']
    """
    if _missing(ms):
        return NOT_MEASURED
    assert ms is not None
    if ms < 9.95:
        return f"{ms:.1f} ms"
    return f"{ms:.0f} ms" if ms < 999.5 else f"{ms / 1000:,.1f} s"


def _signed(value: float | Decimal | None, plain: str) -> str:
    """Put a plus before a positive change; zero has no sign."""
    if _missing(value) or plain == NOT_MEASURED:
        return NOT_MEASURED
    assert value is not None
    if value > 0 and any(c in "123456789" for c in plain):
        return f"+{plain}"
    return plain


def signed_count(value: Number | None) -> str:
    """A change of a count."""
    return _signed(value, count(value))


def signed_percent(value: float | None) -> str:
    """A relative change given as a share of the old value.

    >>> signed_percent(-0.065), signed_percent(0.062)
    ('−6.5 %', '+6.2 %')
    """
    return NOT_MEASURED if _missing(value) else _signed(value, _minus(f"{value * 100:.1f}") + " %")  # type: ignore[operator]


def signed_points(value: float | None) -> str:
    """A difference of two shares, in percentage points.

    >>> signed_points(0.086)
    '+8.6 pts'
    """
    return NOT_MEASURED if _missing(value) else _signed(value, _minus(f"{value * 100:.1f}") + " pts")  # type: ignore[operator]


def signed_usd(value: Number | None) -> str:
    """A change in dollars.

    >>> signed_usd(31), signed_usd(-44.08)
    ('+$31.00', '−$44.08')
    """
    return _signed(value, usd(value))


def signed_ms(value: float | None) -> str:
    """A change of a time span in milliseconds."""
    return NOT_MEASURED if _missing(value) else _signed(value, _minus(f"{value:.0f}") + " ms")


def plus_minus(half_width: float | None, *, decimals: int = 2) -> str:
    """The half-width that stands small and muted after a figure.

    >>> plus_minus(0.02)
    '± 0.02'
    """
    return "" if _missing(half_width) else f"± {half_width:,.{decimals}f}"


def between(low: str, high: str) -> str:
    """An interval that is not symmetric, from two formatted ends.

    >>> between("598", "646")
    '598 to 646'
    """
    return f"{low} to {high}"


def local(moment: datetime, zone: tzinfo = UTC) -> datetime:
    """A stored time (naive UTC) in a zone."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return aware.astimezone(zone)


def time(moment: datetime | None, zone: tzinfo = UTC) -> str:
    """A stored time (naive UTC) in a zone; the zone's name stands in the header of its column.

    >>> time(datetime(2026, 11, 22, 23, 59, 59))
    '22 Nov 23:59:59'
    """
    if _missing(moment):
        return NOT_MEASURED
    assert moment is not None
    when = local(moment, zone)
    return f"{when.day} {when:%b %H:%M:%S}"


def day(when: date, *, year: bool = False) -> str:
    """A date.

    >>> day(date(2026, 11, 1)), day(date(2026, 11, 1), year=True)
    ('1 Nov', '1 Nov 2026')
    """
    return f"{when.day} {when:%b %Y}" if year else f"{when.day} {when:%b}"


def period(first: date, last: date) -> str:
    """A span of whole days, both ends inside.

    >>> period(date(2026, 10, 24), date(2026, 11, 23))
    '24 Oct – 23 Nov 2026'
    """
    if first == last:
        return day(first, year=True)
    return f"{day(first, year=first.year != last.year)} – {day(last, year=True)}"


def fingerprint(value: str, name: str | None = None) -> str:
    """A policy as the pages name it: its name and the first six digits of its fingerprint.

    >>> fingerprint("4f2a91c0d4e5f6a7", "seed")
    'seed · 4f2a91'
    """
    return f"{name} · {value[:6]}" if name else value[:6]


def plural(number: int, one: str, many: str | None = None) -> str:
    """A count with its noun.

    >>> plural(1, "decision"), plural(1200, "decision")
    ('1 decision', '1,200 decisions')
    """
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def ago(seconds: float) -> str:
    """How long ago, in the largest unit that still says something.

    >>> [ago(s) for s in (3, 200, 7300, 200_000)]
    ['3 s ago', '3 min ago', '2 h ago', '2 days ago']
    """
    seconds = max(seconds, 0.0)
    for size, unit in ((86_400, "day"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            number = math.floor(seconds / size)
            return f"{number} {unit}{'s' if unit == 'day' and number > 1 else ''} ago"
    return f"{seconds:.0f} s ago"
