"""Colours and sizes: tokens.toml as Python values, colour slots by name, the Plotly template."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from router.types import Grade

if TYPE_CHECKING:
    import plotly.graph_objects as go

SLOTS = 12


@cache
def tokens() -> Mapping[str, Any]:
    """The whole of tokens.toml."""
    return tomllib.loads(resources.files("dashboard").joinpath("tokens.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Colors:
    """The colours of one theme by what they mean."""

    text: str
    muted: str
    border: str
    grid: str
    control: str
    candidate: str
    production: str
    fallback: str
    fallback_text: str
    fallback_zone_opacity: float
    served: str
    error: str
    warning: str
    better: str
    worse: str
    ramp: tuple[str, str]
    page: str
    card: str
    other: str


@cache
def colors(dark: bool) -> Colors:
    """The semantic colours of the light or the dark theme."""
    mode = "dark" if dark else "light"
    values = dict(tokens()["semantic"][mode])
    values["ramp"] = tuple(values["ramp"])
    page = tokens()["streamlit"]["theme"][mode]
    return Colors(
        **values,
        page=page["backgroundColor"],
        card=page["secondaryBackgroundColor"],
        other=tokens()["slots"][f"other_{mode}"],
    )


def is_dark() -> bool:
    """Whether the reader's page is dark now; light outside a session and before the browser has said."""
    import streamlit as st

    return st.context.theme.type == "dark"


def _slots(order: Iterable[str], reserved: Mapping[str, int], free: Sequence[int]) -> dict[str, int]:
    """Give each name a slot in order of first appearance. Appending a name never moves an earlier one."""
    taken: dict[str, int] = {}
    for name in dict.fromkeys(order):
        left = [slot for slot in free if slot not in taken.values()]
        wanted = reserved.get(name)
        if left:
            taken[name] = wanted if wanted in left else left[0]
    return taken


def label_slots(order: Iterable[str]) -> dict[str, int]:
    """Slots 1 to 12 of labels; a thirteenth has none and is drawn grey."""
    return _slots(order, tokens()["slots"]["reserved"]["labels"], range(1, SLOTS + 1))


def model_slots(order: Iterable[str]) -> dict[str, int]:
    """Slots of models, from 12 down."""
    return _slots(order, tokens()["slots"]["reserved"]["models"], range(SLOTS, 0, -1))


def _color(slot: int | None, dark: bool) -> str:
    if slot is None:
        return colors(dark).other
    return str(tokens()["slots"]["dark" if dark else "light"][slot - 1])


def label_color(name: str, order: Iterable[str] = (), *, dark: bool | None = None) -> str:
    """The colour of a label in charts. ``order``: all labels by first appearance (the policy's, then the log's)."""
    return _color(label_slots([*order, name]).get(name), is_dark() if dark is None else dark)


def model_color(name: str, order: Iterable[str] = (), *, dark: bool | None = None) -> str:
    """The colour of a model in charts. ``order``: all models by first appearance."""
    return _color(model_slots([*order, name]).get(name), is_dark() if dark is None else dark)


def label_chip(name: str, order: Iterable[str] = ()) -> str:
    """The colour of a label's chip, the same in both themes; white text on it reaches 4.7:1."""
    slot = label_slots([*order, name]).get(name)
    return "#5b6472" if slot is None else str(tokens()["slots"]["chip"][slot - 1])


def chips(names: Sequence[str], order: Iterable[str] = ()) -> dict[str, list[str]]:
    """``options`` and ``color`` of ``st.column_config.MultiselectColumn``; cells are lists of one label."""
    every = list(dict.fromkeys([*order, *names]))
    return {"options": every, "color": [label_chip(name, every) for name in every]}


_GRADE_BADGES: Mapping[Grade, str] = {
    "measured": ":green-badge[measured]",
    "estimated": ":orange-badge[estimated]",
    "assumed": ":gray-badge[assumed]",
}


GRADE_COLORS: Mapping[str, str] = {**tokens()["grade"], "not measured": "#5b6472"}
"""Chip colours of grades in tables, the same in both themes."""


def grade_chip(grade: Grade) -> str:
    """Markdown for the chip that says how well a figure is known."""
    return _GRADE_BADGES[grade]


def with_opacity(color: str, opacity: float) -> str:
    """A hex colour as rgba, for tints.

    >>> with_opacity("#ff8000", 0.3)
    'rgba(255,128,0,0.3)'
    """
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def ramp(share: float, dark: bool) -> str:
    """A matrix cell's grey for a value in [0, 1] of the largest."""
    low, high = colors(dark).ramp
    value = min(max(share, 0.0), 1.0)
    mixed = (
        round(int(low[i : i + 2], 16) * (1 - value) + int(high[i : i + 2], 16) * value) for i in (1, 3, 5)
    )
    return "#" + "".join(f"{part:02x}" for part in mixed)


def luminance(color: str) -> float:
    """Relative luminance of a hex colour (WCAG 2)."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two hex colours (WCAG 2), 1 to 21."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def text_on(color: str) -> str:
    """Black or white, whichever contrasts more."""
    return max(("#000000", "#ffffff"), key=lambda text: contrast(text, color))


def hatch(dark: bool) -> dict[str, Any]:
    """A Plotly ``marker.pattern`` for what was not measured: lines in the border colour, no fill."""
    return {
        "shape": "/", "fgcolor": colors(dark).border, "bgcolor": "rgba(0,0,0,0)",
        "size": tokens()["hatch"]["period_px"], "solidity": 0.3,
    }  # fmt: skip


def plotly_config() -> dict[str, Any]:
    """``config=`` of ``st.plotly_chart``: no mode bar, no zoom by wheel."""
    return dict(tokens()["plotly"]["config"])


@cache
def template(dark: bool) -> go.layout.Template:
    """The one Plotly template. Draw with ``theme=None``, else Streamlit's own wins."""
    import plotly.graph_objects as go

    c, p = colors(dark), tokens()["plotly"]
    axis = {
        "gridcolor": c.grid, "linecolor": c.border, "zerolinecolor": c.border, "zeroline": False, "ticks": "",
        "tickfont": {"size": p["tick_size"], "color": c.muted}, "title": {"font": {"color": c.muted}},
        "automargin": True, "fixedrange": True,
    }  # fmt: skip
    slots = tokens()["slots"]["dark" if dark else "light"]
    return go.layout.Template(
        layout={
            "font": {"family": p["font_family"], "size": p["font_size"], "color": c.text},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "colorway": list(slots),
            "margin": dict(p["margin"]),
            "bargap": p["bargap"],
            "showlegend": False,
            "hovermode": "closest",
            "hoverlabel": {"bgcolor": c.card, "bordercolor": c.border, "font": {"color": c.text}},
            "dragmode": False,
            "xaxis": {**axis, "showgrid": False, "nticks": 9},
            "yaxis": {**axis, "showgrid": True, "nticks": 5},
        },
        data={"scatter": [{"line": {"width": p["line_width"]}}]},
    )


def streamlit_options() -> dict[str, Any]:
    """Server and theme options by their dotted names, for ``App.run(config=...)``."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, table: Mapping[str, Any]) -> None:
        for key, value in table.items():
            if isinstance(value, dict):
                walk(f"{prefix}{key}.", value)
            else:
                flat[prefix + key] = value

    walk("", tokens()["streamlit"])
    return flat
