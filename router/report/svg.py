"""Drawing: small inline SVG without a script. Sizes are CSS pixels; every text is escaped here or by the caller's ``words``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH = 880
"""Width of a full chart; the page shows it at this size and shrinks it on a narrow one."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear scale from [low, high] to pixels [start, end]; a range of one value is drawn in the middle."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Pixels of a value, one decimal."""
        if self.high == self.low:
            return (self.start + self.end) / 2
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most ``most`` round numbers within [low, high].

    >>> ticks(0, 1), ticks(0.0, 23.0)
    ([0.0, 0.25, 0.5, 0.75, 1.0], [0.0, 5.0, 10.0, 15.0, 20.0])
    """
    if not high > low:
        return [low]
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    for step in (size, 2 * size, 2.5 * size, 5 * size, 10 * size, 20 * size):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [round(k * step, 12) + 0.0 for k in range(first, last + 1)]
    return [low, high]


def chart(
    title: str, body: Iterable[str], *, height: float, width: float = WIDTH, small: bool = False
) -> str:
    """A picture with its finding as its name; ``title`` is HTML already."""
    kind = ' class="small"' if small else ' class="wide"' if width == WIDTH else ""
    return (
        f'<svg{kind} viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img">'
        f"<title>{title}</title>{''.join(body)}</svg>"
    )


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """One line of text; ``words`` is HTML already."""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:g}" y="{y:g}"{where}{_kind(kind)}>{words}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "grid") -> str:
    """A straight line of a class of the style sheet."""
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"{_kind(kind)}/>'


def rect(
    x: float, y: float, width: float, height: float, kind: str = "", *, color: str = "", faint: float = 1.0
) -> str:
    """A bar; ``color`` is a custom property of the style sheet, ``faint`` its opacity."""
    shade = "" if faint == 1.0 else f' fill-opacity="{faint:g}"'
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{max(width, 0):g}" height="{max(height, 0):g}"'
        f"{_kind(kind)}{_fill(color)}{shade}/>"
    )


def dot(x: float, y: float, kind: str = "dot", radius: float = 4) -> str:
    """A point."""
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}"{_kind(kind)}/>'


def path(xs: Sequence[float], ys: Sequence[float], kind: str = "curve", color: str = "") -> str:
    """A line through points."""
    steps = " ".join(f"{x:g},{y:g}" for x, y in zip(xs, ys, strict=True))
    paint = f' style="stroke:var(--{color})"' if color else ""
    return f'<polyline points="{steps}"{_kind(kind)}{paint}/>'


def area(xs: Sequence[float], upper: Sequence[float], lower: Sequence[float], kind: str = "band") -> str:
    """What lies between two lines."""
    there = [f"{x:g},{y:g}" for x, y in zip(xs, upper, strict=True)]
    back = [f"{x:g},{y:g}" for x, y in zip(reversed(xs), reversed(lower), strict=True)]
    return f'<polygon points="{" ".join(there + back)}"{_kind(kind)}/>'


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights near ``wanted`` that keep ``gap`` between texts, inside [low, high] where there is room.

    >>> spread([10, 11, 50], 14, 0, 100)
    [10.0, 24.0, 50.0]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    found = [0.0] * len(wanted)
    at = low - gap
    for i in order:
        at = max(float(wanted[i]), at + gap)
        found[i] = at
    at = high + gap
    for i in reversed(order):
        at = min(found[i], at - gap)
        found[i] = at
    return found


def _kind(name: str) -> str:
    return f' class="{name}"' if name else ""


def _fill(color: str) -> str:
    return f' style="fill:var(--{color})"' if color else ""
