"""The threshold curve: a component whose line one drags, and what a drag would change, in the same frame.

``payload`` turns cells (sums per label and confidence bin) into what the browser needs; the browser does the rest
from prefix sums, so a drag sends nothing and costs the same at any number of decisions.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from router.analysis.quality import ENOUGH, ENOUGH_SERVED, Quality
from router.policy import GRID, Policy

FILES = ("rule.js", "model.js", "format.js", "draw.js", "cards.js", "threshold.js")
"""The script's parts, in the order in which they are joined."""

STEP = 10
"""The visible step, 0.001, in units of the 1e-4 grid."""

CELL_COLUMNS = (
    "label",
    "bin",
    "n",
    "n_priced",
    "label_cost",
    "fallback_cost",
    "baseline_cost",
    "label_cost_sq",
    "fallback_cost_sq",
    "baseline_cost_sq",
    "label_fallback",
    "label_baseline",
    "fallback_baseline",
    "classifier_cost",
)
_BASELINE = ("baseline_cost", "baseline_cost_sq", "label_baseline", "fallback_baseline")
_MONEY = {
    "lc": ("label_cost", "<f8"),
    "fc": ("fallback_cost", "<f8"),
    "lc2": ("label_cost_sq", "<f4"),
    "fc2": ("fallback_cost_sq", "<f4"),
    "lf": ("label_fallback", "<f4"),
    "lb": ("label_baseline", "<f4"),
    "fb": ("fallback_baseline", "<f4"),
}  # costs as doubles; squares and products only feed interval widths, where single precision is plenty

REVIEWS_NEEDED = 240
"""Uniform reviews that place a quality near 80 % within about 5 points at 95 %."""


def payload(
    cells: pd.DataFrame,
    policy: Policy,
    *,
    candidate: float,
    colors: Mapping[str, int | str],
    models: Mapping[str, Mapping[str, Any]] | None = None,
    reviewed: int = 0,
    unscored: int = 0,
    quality: Quality | None = None,
    part: bool = False,
) -> dict[str, Any]:
    """What the component draws, JSON-ready.

    Parameters
    ----------
    cells : one row per (label, bin), any order; the columns of ``CELL_COLUMNS``. ``bin`` is ``confidence_bin``'s,
        ``n`` counts decisions, ``n_priced`` those whose cost is known under every model. The costs are sums in USD over
        the priced ones as if the label's, the fallback or the baseline model had answered, ``*_sq`` sums of their
        squares, ``label_fallback`` and so on sums of their products, ``classifier_cost`` the sum of the classifier's
        as far as it is known, ``n_classifier_unknown`` (optional) of how many it is not.
        The baseline's columns may be missing values: then savings are not measured.
    policy : names, models, the production threshold and the labels' own ones.
    candidate : the threshold that is tried, in [0, 1].
    colors : per label a slot of the chart colours, from 1, or a CSS colour; a label without one is grey.
    models : per model ``{"priced": False}`` where no price is known; named where costs are not measured.
    reviewed : reviewed decisions, for the quality figure where there is no ``quality``.
    unscored : decisions without scores; counted beside the curves, never in them.
    quality : share of right labels among the served, by threshold; None: not measured.
    part : it is not because the audit was drawn from a part of this traffic.

    Raises
    ------
    ValueError
        A column is missing, a bin is outside 0..10000 or not whole, or a cost of a priced cell is not a number.
    """
    frame = _checked(cells)
    known = frame["label"].isin(policy.label_names)
    ignored = int(frame.loc[~known, "n"].sum())
    frame = frame[known].sort_values("bin", kind="stable")
    baseline_priced = policy.baseline is not None and bool(
        np.isfinite(frame.loc[frame["n_priced"] > 0, list(_BASELINE)].to_numpy(float)).all()
    )
    priced = models or {}
    classifier = frame.loc[frame["n_priced"] > 0, "classifier_cost"]
    body: dict[str, Any] = {
        "labels": [
            _label(frame[frame["label"] == label.name], label.name, label.model, label.threshold, colors)
            for label in policy.labels
        ],
        "production": policy.threshold,
        "fallback": policy.fallback_model,
        "baseline": policy.baseline,
        "baseline_priced": baseline_priced,
        "priced": int(frame["n_priced"].sum()),
        "classifier_cost": float(classifier.fillna(0).sum()),
        "classifier_known": not bool(classifier.isna().any() or frame["n_classifier_unknown"].any()),
        "margin": policy.min_margin,
        "missing": [name for name in policy.model_names if priced.get(name, {}).get("priced") is False],
        "reviews": [reviewed, ENOUGH, REVIEWS_NEEDED],
        "part": part,
        "ignored": ignored,
        "unscored": unscored,
        "quality": None if quality is None else _quality(quality),
    }
    version = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
    return {**body, "version": version, "t": float(candidate)}


def threshold_curve(
    payload: Mapping[str, Any],
    *,
    candidate: float,
    key: str,
    on_change: Callable[[], None] | None = None,
) -> float | None:
    """Draw the curve; returns the threshold that was last dragged to, None before the first drag.

    The truth about the candidate is elsewhere, usually ``st.number_input(key="t", bind="query-params")``: pass it as
    ``candidate``, and in ``on_change`` copy ``st.session_state[key]["t"]`` into ``st.session_state["t"]``.
    """
    stored = st.session_state.get(key)
    if stored is not None and stored.get("t") not in (None, candidate):
        # Else a drag back to where the line was last dropped would equal the stored value, and no callback would run.
        st.session_state[key] = {"t": candidate}
    result = _component()(key=key, data={**payload, "t": float(candidate)}, on_t_change=on_change or _ignore)
    value = result.get("t")
    return None if value is None else float(value)


def cheapest(payload: Mapping[str, Any]) -> float | None:
    """The cheapest threshold on the 0.001 grid, the one that S snaps to; None where no cost is known.

    Of equally cheap ones the nearest to production, then the lower: between two thresholds without a decision
    in between a log cannot choose.
    """
    if not payload["priced"]:
        return None
    production = round(payload["production"] * GRID)
    bins = [_array(label["bins"], "<u2") for label in payload["labels"]]
    lowest = min([production, *(int(found[0]) for found in bins if len(found))]) // 1000 * 1000
    grid = np.arange(lowest, GRID + 1, STEP)
    cost = np.zeros(len(grid))
    for label, found in zip(payload["labels"], bins, strict=True):
        follow = np.concatenate([[0.0], np.cumsum(_array(label["lc"], "<f8"))])
        fall = np.concatenate([[0.0], np.cumsum(_array(label["fc"], "<f8"))])
        line = grid if label["own"] is None else np.full(len(grid), round(label["own"] * GRID))
        below = np.searchsorted(found, line)
        cost += fall[below] + (follow[-1] - follow[below])
    cost += payload["classifier_cost"]
    return float(min(zip(cost, abs(grid - production), grid, strict=True))[2] / GRID)


@cache
def script() -> str:
    """The component's script: its parts joined into one module; only the entry is exported."""
    parts = [resources.files(__package__).joinpath(name).read_text(encoding="utf-8") for name in FILES]
    return re.sub(r"^export (?!default\b)", "", "\n".join(parts), flags=re.MULTILINE)


@cache
def _component() -> Any:
    """Registered on first use: the files are passed inline, because a packaged folder is not found when editable."""
    folder = resources.files(__package__)
    return st.components.v2.component(
        "routescope_threshold",
        html=folder.joinpath("threshold.html").read_text(encoding="utf-8"),
        css=folder.joinpath("threshold.css").read_text(encoding="utf-8"),
        js=script(),
        isolate_styles=True,
    )


def _ignore() -> None:
    """A value is kept in the session only when it has a callback."""


def _checked(cells: pd.DataFrame) -> pd.DataFrame:
    missing = [name for name in CELL_COLUMNS if name not in cells.columns]
    if missing:
        raise ValueError(f"cells lack {', '.join(missing)}; expected {', '.join(CELL_COLUMNS)}")
    counted = (
        cells if "n_classifier_unknown" in cells.columns else cells.assign(n_classifier_unknown=0)
    )  # else a missing cost says so
    frame = counted.loc[counted["n"] > 0, [*CELL_COLUMNS, "n_classifier_unknown"]].copy()
    numbers = [name for name in CELL_COLUMNS if name not in ("label", "bin", "n", "n_priced")]
    frame[numbers] = frame[numbers].astype(float)  # DuckDB gives sums of DECIMAL as Decimal objects
    for name in ("bin", "n", "n_priced"):
        values = frame[name].astype(float)
        if not (values == np.floor(values)).all():
            raise ValueError(f"{name} holds a value that is not a whole number")
        frame[name] = values.astype(np.int64)
    if len(frame) and not frame["bin"].between(0, GRID).all():
        raise ValueError(
            f"bin ranges from {frame['bin'].min()} to {frame['bin'].max()}, expected 0 to {GRID}"
        )
    needed = [name for name in numbers if name not in _BASELINE and name != "classifier_cost"]
    unknown = ~np.isfinite(frame.loc[frame["n_priced"] > 0, needed].to_numpy(float)).all(axis=0)
    if unknown.any():
        names = [name for name, bad in zip(needed, unknown, strict=True) if bad]
        raise ValueError(f"{', '.join(names)}: not a number in a cell with n_priced > 0")
    return frame


def _label(
    rows: pd.DataFrame, name: str, model: str, own: float | None, colors: Mapping[str, int | str]
) -> dict[str, Any]:
    rows = (
        rows.groupby("bin", sort=True).sum(numeric_only=True).reset_index()
        if rows["bin"].duplicated().any()
        else rows
    )
    complete = bool((rows["n"] == rows["n_priced"]).all())
    sums = rows[["baseline_cost", "baseline_cost_sq"]].fillna(0).sum()
    return {
        "name": name,
        "model": model,
        "own": own,
        "color": colors.get(name, "var(--st-gray-color)"),
        "bins": _text(rows["bin"], "<u2"),
        "counts": _text(rows["n"], "<u4"),
        "priced_counts": None if complete else _text(rows["n_priced"], "<u4"),
        **{
            key: _text(rows[column].where(rows["n_priced"] > 0, 0.0).fillna(0.0), kind)
            for key, (column, kind) in _MONEY.items()
        },
        "bc": float(sums["baseline_cost"]),
        "bc2": float(sums["baseline_cost_sq"]),
    }


def _quality(found: Quality) -> dict[str, Any]:
    return {
        "enough": ENOUGH_SERVED,
        "start": _text(found.start, "<u2"),
        "n": _text(found.n, "<u4"),
        "right": _text(found.right, "<u4"),
        "low": _text(found.low, "<f4"),
        "high": _text(found.high, "<f4"),
    }


def _text(values: pd.Series | np.ndarray, kind: str) -> str:
    """Little-endian numbers as base64: a fifth of the size of a JSON list, and exact."""
    return base64.b64encode(np.asarray(values).astype(kind).tobytes()).decode()


def _array(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype=kind)
