"""Numbers, times and names as the report writes them. Minus is U+2212; None is "not measured", never 0 and never a dash."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Mapping
from datetime import date
from typing import Any

NOT_MEASURED = "not measured"
MINUS = "−"
NAME_CHARACTERS = 64

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HIDING = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u180b\u180c\u180d") | frozenset(
    map(chr, range(0xFE00, 0xFE0F))
)
"""Letters and marks without a picture of their own: what hides text without being of a hiding category."""


def safe(text: object, limit: int | None = None) -> str:
    """Text from outside as HTML: one line, cut to ``limit`` characters, hiding characters as code points, no mark-up, no address.

    >>> safe("<b>pay" + chr(0x202E) + "txt")
    '&lt;b&gt;pay⟦U+202E⟧txt'
    """
    line = " ".join(str(text).replace("\r\n", "\n").replace("\n", " ↵ ").replace("\t", " ").split(" "))
    cut = line if limit is None or len(line) <= limit else line[: limit - 1].rstrip() + "…"
    shown = "".join(
        f"⟦U+{ord(x):04X}⟧" if x in _BLANK or unicodedata.category(x) in _HIDING else x for x in cut
    )
    # Reads the same; but nothing that looks for addresses in the file finds one in it.
    return html.escape(shown).replace("://", ":&#47;&#47;")


def name(text: object) -> str:
    """A label's or model's name inside a sentence or cell."""
    return safe(text, NAME_CHARACTERS)


def count(value: float | None) -> str:
    """Whole number with grouping.

    >>> count(184203)
    '184,203'
    """
    return NOT_MEASURED if value is None else _minus(f"{value:,.0f}")


def share(value: float | None) -> str:
    r"""A share with one decimal, its sign of percent behind a space that no line breaks at.

    What rounding would turn into none or all is said as such.

    >>> [share(v).replace("\xa0", " ") for v in (0.225, 0.0004, 0.0, 0.9999, -0.1)]
    ['22.5 %', '< 0.1 %', '0.0 %', '> 99.9 %', '−10.0 %']
    """
    if value is None:
        return NOT_MEASURED
    if 0 < value < 0.001:
        return "<\xa00.1\xa0%"
    return ">\xa099.9\xa0%" if 0.999 < value < 1 else _minus(f"{value * 100:.1f}") + "\xa0%"


def usd(value: float | None) -> str:
    """US dollars: cents, whole dollars from 1,000 up, four decimals below ten cents.

    >>> [usd(v) for v in (3.15, -1777.3, 0.0034, 0, 0.00001)]
    ['$3.15', '−$1,777', '$0.0034', '$0.00', '< $0.0001']
    """
    if value is None:
        return NOT_MEASURED
    size, sign = abs(value), MINUS if value < 0 else ""
    if 0 < size < 0.00005:
        return "> −$0.0001" if sign else "< $0.0001"
    if 0 < size < 0.1:
        return f"{sign}${size:.4f}"
    return f"{sign}${size:,.2f}" if size < 999.995 else f"{sign}${size:,.0f}"


def bound_usd(value: float | None, whole: bool) -> str:
    """US dollars with a plus where a part of the amount is not known, so that it is a lower bound.

    >>> bound_usd(3.15, True), bound_usd(3.15, False), bound_usd(None, False)
    ('$3.15', '$3.15+', 'not measured')
    """
    return usd(value) + ("" if whole or value is None else "+")


def signed_usd(value: float | None) -> str:
    """A change in US dollars.

    >>> signed_usd(31.0), signed_usd(-0.5), signed_usd(0.0)
    ('+$31.00', '−$0.50', '$0.00')
    """
    return f"+{usd(value)}" if value is not None and value >= 0.00005 else usd(value)


def threshold(value: float | None) -> str:
    """A threshold with 3 decimals; with 4 when it lies between those.

    >>> threshold(0.55), threshold(0.5512)
    ('0.550', '0.5512')
    """
    if value is None:
        return NOT_MEASURED
    return f"{value:.3f}" if abs(round(value, 3) - value) < 1e-9 else f"{value:.4f}"


def number(value: float | None, decimals: int = 3) -> str:
    """A number without a unit."""
    return NOT_MEASURED if value is None else _minus(f"{value:,.{decimals}f}")


def half(value: float | None, of: float | None = None) -> str:
    """The half-width that stands small and muted behind a figure, as HTML; nothing where there is none.

    ``of`` is the amount in USD that it belongs to, whose decimals it takes; None: a share, in points.

    >>> half(0.036, 1.53), half(0.0082)
    (' <span class="half">± 0.04</span>', ' <span class="half">± 0.8</span>')
    """
    if value is None:
        return ""
    if of is None:
        text = f"{value * 100:.1f}"
    else:
        decimals = 4 if 0 < abs(of) < 0.1 else 2 if abs(of) < 999.995 else 0
        text = f"{value:,.{decimals}f}"
    return f' <span class="half">± {text}</span>'


def day(text: str | None, *, year: bool = True) -> str:
    """A day from ISO text.

    >>> day("2026-11-01"), day("2026-11-01T09:30:00.000Z", year=False)
    ('1 Nov 2026', '1 Nov')
    """
    if text is None:
        return NOT_MEASURED
    when = date.fromisoformat(text[:10])
    return f"{when.day} {_MONTHS[when.month - 1]}" + (f" {when.year}" if year else "")


def minute(text: str | None) -> str:
    """A time in UTC from ISO text.

    >>> minute("2026-11-01T09:30:00.000Z")
    '1 Nov 2026 09:30 UTC'
    """
    return NOT_MEASURED if text is None else f"{day(text)} {text[11:16]} UTC"


def period(first: str | None, last: str | None) -> str:
    """From the first to the last day, both inside."""
    if first is None or last is None:
        return "no time"
    if first[:10] == last[:10]:
        return day(first)
    return f"{day(first, year=first[:4] != last[:4])} to {day(last)}"


def age(seconds: float | None) -> str:
    """A span of time in the largest unit that still says something.

    >>> [age(s) for s in (3, 200, 7300, 200_000)]
    ['3 s', '3 min', '2 h', '2 days']
    """
    if seconds is None:
        return NOT_MEASURED
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            whole = int(seconds // size)
            return f"{whole} {'day' if unit == 'days' and whole == 1 else unit}"
    return f"{max(int(seconds), 0)} s"


def plural(value: int, one: str, many: str | None = None) -> str:
    """A count with its noun.

    >>> plural(1, "decision"), plural(1200, "decision")
    ('1 decision', '1,200 decisions')
    """
    return f"{count(value)} {one if value == 1 else many or one + 's'}"


def within(first: str | None, last: str | None) -> str:
    """The same after a noun: "on" one day, "from" one "to" another."""
    if first is None or last is None:
        return "at no known time"
    return f"{'on' if first[:10] == last[:10] else 'from'} {period(first, last)}"


def listed(items: list[str]) -> str:
    """Names in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "none"


def condition(filters: Mapping[str, Any]) -> str:
    """The conditions of a filter in words; they may hold text from outside, so this is HTML."""
    parts = []
    for key, value in filters.items():
        text = value if not isinstance(value, list) else ", ".join(str(x) for x in value)
        parts.append(f"{key.replace('_', ' ')}: {safe(text, 80)}" if value is not True else key)
    return "; ".join(parts) or "all decisions"


def _minus(text: str) -> str:
    """The true minus; a zero that rounding left behind loses its sign."""
    if not text.startswith("-"):
        return text
    return MINUS + text[1:] if any(x in "123456789" for x in text) else text[1:]
