"""Figures of the Savings page. Each gives the figure and its finding, a plain sentence for screen readers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from textwrap import wrap

import plotly.graph_objects as go

from dashboard import figures, formats, theme
from dashboard.untrusted import plot_text
from router.analysis.decomposition import shown
from router.analysis.projection import Projection
from router.analysis.savings import Savings
from router.analysis.steps import STEPS, noticeable
from router.analysis.waterfall import Step


def by_cause(found: Savings) -> list[Step]:
    """The effects as steps of a waterfall; those that come to nothing are left out, all but price and request size."""
    return [
        Step(x.kind, STEPS[x.kind][0] if x.kind in STEPS else x.kind, x.amount_usd, x.total_usd)
        for x in shown(found.effects)
    ]


def by_label(found: Savings) -> list[Step]:
    """The waterfall label by label; what doubles leave behind is nothing."""
    base = found.baseline_usd or 0.0
    return [replace(x, amount_usd=noticeable(x.amount_usd, base)) for x in found.waterfall]


def waterfall(
    found: Savings, steps: Sequence[Step], order: Sequence[str], height: int
) -> tuple[go.Figure, str]:
    """From the baseline, step by step, down to what was paid. A label's bar has its label's colour."""
    dark = theme.is_dark()
    colors = theme.colors(dark)
    fills = {
        "baseline": colors.control,
        "paid": colors.text,
        "fallback": colors.fallback,
        "fell_back": colors.fallback,
        "classifier": colors.error,
        "failed": colors.error,
        "classifier_failed": colors.error,
        "forced": colors.control,
        "length": colors.control,
        "price": colors.served,
        "mix": colors.served,
        "explored": colors.control,
        "unmatched": colors.control,
    }
    figure = figures.base(height, bargap=0.32)
    names, tops = [], []
    for i, step in enumerate(steps):
        whole = step.kind in ("baseline", "paid")
        start = 0.0 if whole else step.total_usd - step.amount_usd
        fill = theme.label_color(step.name, order, dark=dark) if step.kind == "label" else fills[step.kind]
        low, high = min(start, step.total_usd), max(start, step.total_usd)
        name = plot_text(step.name, 16)
        words = formats.usd(step.amount_usd) if whole else formats.signed_usd(step.amount_usd)
        meaning = f"<br>{_folded(STEPS[step.kind][1])}" if step.kind in STEPS else ""
        names.append(name)
        tops.append(high)
        figure.add_bar(
            x=[i],
            y=[high - low],
            base=[low],
            marker_color=fill,
            marker_line_width=0,
            hovertemplate=f"{words}{meaning}<extra>{name}</extra>",
        )
        figure.add_annotation(
            x=i,
            y=high,
            yanchor="bottom",
            text=f"<b>{words}</b>",
            showarrow=False,
            font={"size": 12.5, "color": colors.text},
        )
        if i + 1 < len(steps):
            figure.add_shape(
                type="line",
                x0=i + 0.34,
                x1=i + 0.66,
                y0=step.total_usd,
                y1=step.total_usd,
                line={"color": colors.control, "width": 1},
            )
    figure.update_xaxes(
        tickvals=list(range(len(names))), ticktext=names, tickfont={"size": 12, "color": colors.text}
    )
    figure.update_yaxes(
        tickprefix="$",
        tickformat=",.2f" if max(tops, default=0) < 10 else ",.0f",
        range=[min(0, min((s.total_usd for s in steps), default=0)), max(tops, default=1) * 1.1],
    )
    return (
        figure,
        f"From {formats.usd(found.baseline_usd)} of the baseline down to {formats.usd(found.paid_usd)} paid",
    )


def _folded(text: str, width: int = 44) -> str:
    """Text in lines for a hover box, which does not break them itself."""
    return "<br>".join(wrap(text, width))


def projections(rows: Sequence[tuple[str, Projection, bool]]) -> tuple[go.Figure, str]:
    """Spend over the coming days: a dot and, where there is one, its interval. The third value marks the candidate."""
    dark = theme.is_dark()
    colors = theme.colors(dark)
    figure = figures.base(52 + 52 * len(rows))
    reach = []
    for i, (_name, found, is_candidate) in enumerate(rows):
        color = colors.candidate if is_candidate else colors.production
        low = found.total if found.low is None else found.low
        high = found.total if found.high is None else found.high
        reach += [low, high]
        figure.add_scatter(
            x=[low, high], y=[i, i], mode="lines", line={"color": color, "width": 3}, hoverinfo="skip"
        )
        figure.add_scatter(
            x=[found.total],
            y=[i],
            mode="markers",
            hoverinfo="skip",
            marker={
                "size": 11,
                "color": color if is_candidate else colors.page,
                "line": {"color": color, "width": 2},
            },
        )
        span = "" if found.low is None else f"  {formats.usd(low)} to {formats.usd(high)}"
        figure.add_annotation(
            x=found.total,
            y=i,
            yshift=16,
            text=f"<b>{formats.usd(found.total)}</b>{span}",
            showarrow=False,
            font={"size": 12.5, "color": color},
        )
    spread = max(reach) - min(reach) or max(max(reach), 1.0)
    figure.update_xaxes(
        range=[min(reach) - 0.35 * spread, max(reach) + 0.35 * spread],
        tickprefix="$",
        nticks=4,
        showgrid=True,
        tickformat=",.2f" if spread < 10 else ",.0f",
    )
    figure.update_yaxes(
        tickvals=list(range(len(rows))),
        ticktext=[f"{name}  " for name, *_ in rows],
        range=[len(rows) - 0.4, -0.7],
        showgrid=False,
        tickfont={"color": colors.text, "size": 12.5},
    )
    return figure, "; ".join(f"{name} {formats.usd(found.total)}" for name, found, _ in rows)
