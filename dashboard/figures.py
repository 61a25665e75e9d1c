"""Small tables in, Plotly figures out. Every figure has one question, no legend box, and an ``alt`` written by its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import pandas as pd
import plotly.graph_objects as go

from dashboard import formats, theme
from dashboard.untrusted import plot_text
from router.types import REPLIES

ENDED = ("followed", "fell back", "failed")
FAILED_CAUSES = ("classifier_error", "classifier_timeout")


def base(height: int, *, dark: bool | None = None, **layout: object) -> go.Figure:
    """An empty figure in the house template. ``height`` in px."""
    figure = go.Figure()
    figure.update_layout(
        template=theme.template(theme.is_dark() if dark is None else dark), height=height, showlegend=False
    )
    figure.update_layout(**layout)
    return figure


def bucket_width(first: datetime, last: datetime, bars: int = 90) -> timedelta:
    """A round period that cuts a span into at most ``bars``."""
    span = max((last - first).total_seconds(), 1.0)
    steps = (60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86_400, 7 * 86_400, 28 * 86_400)
    return timedelta(seconds=next((s for s in steps if span / s <= bars), steps[-1]))


def ended_table(series: pd.DataFrame) -> pd.DataFrame:
    """How decisions ended, per bucket: columns bucket and one count for each word of ``ENDED``.

    A decision failed when the classifier or the model call gave nothing usable.
    """
    if series.empty:
        return pd.DataFrame(
            {"bucket": pd.Series(dtype="datetime64[us]")} | {word: pd.Series(dtype="int64") for word in ENDED}
        )
    called = series["outcome"].notna() & ~series["outcome"].isin(REPLIES)
    failed = called | series["cause"].isin(FAILED_CAUSES)
    fell = series["cause"].isin(("low_confidence", "low_margin")) & ~failed
    word = pd.Series(ENDED[0], index=series.index).mask(fell, ENDED[1]).mask(failed, ENDED[2])
    table = series.assign(word=word).pivot_table(
        index="bucket", columns="word", values="n", aggfunc="sum", fill_value=0
    )
    return table.reindex(columns=list(ENDED), fill_value=0).astype("int64").reset_index()


def ended_colors(dark: bool) -> dict[str, str]:
    """Colour of each word of ``ENDED``."""
    colors = theme.colors(dark)
    return dict(zip(ENDED, (colors.served, colors.fallback, colors.error), strict=True))


def ended_bars(table: pd.DataFrame, width: timedelta, height: int, *, select: bool = False) -> go.Figure:
    """Stacked bars over time of how decisions ended; with ``select`` a drag chooses a range."""
    dark = theme.is_dark()
    figure = base(height, barmode="stack", bargap=0.12, hovermode="x unified")
    ms = width.total_seconds() * 1000
    for word, color in ended_colors(dark).items():
        if word == ENDED[2] and not table[word].any():
            continue
        figure.add_bar(
            x=table["bucket"] + width / 2,
            y=table[word],
            name=word,
            marker_color=color,
            marker_line_width=0,
            width=ms * 0.88,
            hovertemplate="%{y:,} " + word + "<extra></extra>",
            selected={"marker": {"opacity": 1}},
            unselected={"marker": {"opacity": 1}},
        )
    figure.update_yaxes(rangemode="tozero", nticks=4 if height > 150 else 3, tickformat=",d")
    if len(table) and table[list(ENDED)].sum(axis=1).max() < 4:
        figure.update_yaxes(dtick=1)  # else whole numbers are written twice
    figure.update_xaxes(showgrid=False, nticks=9, tickformat=time_format(table["bucket"], width))
    _few_ticks(figure, table["bucket"] + width / 2)
    figure.update_layout(
        margin={"l": 8, "r": 8, "t": 4, "b": 4}, dragmode="select" if select else False, selectdirection="h"
    )
    if not select:
        figure.update_xaxes(fixedrange=True)
    figure.update_yaxes(fixedrange=True)
    return figure


def time_format(buckets: pd.Series, width: timedelta) -> str:
    """Tick format: days for long spans, hours for short ones."""
    if buckets.empty:
        return "%-d %b"
    short = (buckets.max() - buckets.min()) < pd.Timedelta(days=2) and width < timedelta(days=1)
    return "%H:%M" if short else "%-d %b"


def score_bars(
    scores: Mapping[str, float],
    top: str | None,
    order: Sequence[str],
    *,
    production: float | None,
    candidate: float | None = None,
    height: int | None = None,
) -> go.Figure:
    """One bar a label, highest first, against the production (and candidate) line; values in a column at the right."""
    dark = theme.is_dark()
    colors = theme.colors(dark)
    ranked = sorted(
        scores.items(), key=lambda item: (-item[1], list(order).index(item[0]) if item[0] in order else 99)
    )[:12]
    names = [plot_text(name, 24) for name, _ in ranked]
    fills = [
        theme.label_color(name, order, dark=dark) if name == top else colors.control for name, _ in ranked
    ]
    figure = base(height or 62 + 28 * len(ranked))
    figure.add_bar(
        x=[value for _, value in ranked],
        y=names,
        orientation="h",
        marker_color=fills,
        marker_line_width=0,
        width=0.66,
        hovertemplate="%{x:.4f}<extra>%{y}</extra>",
    )
    for name, (_, value) in zip(names, ranked, strict=True):
        figure.add_annotation(
            x=1,
            xref="paper",
            xanchor="right",
            y=name,
            text=formats.score(value),
            showarrow=False,
            font={"size": 12.5, "color": colors.text},
        )
    figure.update_xaxes(range=[0, 1.18], tickvals=[0, 0.25, 0.5, 0.75, 1], fixedrange=True)
    figure.update_yaxes(
        autorange="reversed",
        fixedrange=True,
        showgrid=False,
        ticksuffix="  ",
        tickfont={"color": colors.text, "size": 12.5},
    )
    lines = [
        (
            production,
            "production",
            colors.production,
            "dot",
            1.25,
            "right"
            if candidate is not None and production is not None and candidate > production
            else "left",
        )
    ]
    if candidate is not None and candidate != production:
        lines.append(
            (
                candidate,
                "candidate",
                colors.candidate,
                "solid",
                2,
                "left" if production is not None and candidate > production else "right",
            )
        )
    else:
        lines = [(production, "production", colors.production, "dot", 1.25, "center")]
    for value, word, color, dash, thick, anchor in lines:
        if value is None:
            continue
        figure.add_shape(
            type="line",
            x0=value,
            x1=value,
            y0=0,
            y1=1,
            yref="paper",
            line={"color": color, "width": thick, "dash": dash},
        )
        figure.add_annotation(
            x=value,
            y=1,
            yref="paper",
            yanchor="bottom",
            xanchor={"left": "left", "right": "right"}.get(anchor, "center"),
            text=f"{word} {formats.threshold(value)}",
            showarrow=False,
            font={"size": 12, "color": color},
        )
    figure.update_layout(margin={"l": 8, "r": 8, "t": 22, "b": 8})
    return figure


def _few_ticks(figure: go.Figure, times: Sequence[pd.Timestamp]) -> None:
    """One tick a period where there are few: between two of them Plotly would write the same minute again."""
    if 0 < len(times) < 5:
        figure.update_xaxes(tickvals=list(times))


def share_area(series: pd.DataFrame, order: Sequence[str], height: int) -> go.Figure:
    """Share of decisions per period by model, stacked; each model is named at the right edge with its share of all."""
    dark = theme.is_dark()
    colors = theme.colors(dark)
    table = series.pivot_table(index="bucket", columns="model_used", values="n", aggfunc="sum", fill_value=0)
    models = sorted(table.columns, key=lambda model: table[model].sum())
    single = len(table) == 1
    if single:  # a single period is as wide as the chart, not a line without width
        table.loc[table.index[0] + pd.Timedelta(minutes=1)] = table.iloc[0]
    shares = table[models].div(table.sum(axis=1), axis=0) * 100
    figure = base(height, hovermode="x unified")
    totals = table[models].sum() / max(table.to_numpy().sum(), 1)
    for model in models:
        color = theme.model_color(model, order, dark=dark)
        figure.add_scatter(
            x=shares.index,
            y=shares[model],
            stackgroup="all",
            mode="lines",
            name=plot_text(model, 30),
            line={"color": color, "width": 1.75, "shape": "linear"},
            fillcolor=theme.with_opacity(color, 0.30),
            hovertemplate="%{y:.1f} %<extra>" + plot_text(model, 30) + "</extra>",
        )
    edge_labels(
        figure,
        [(plot_text(m, 30), theme.model_color(m, order, dark=dark), float(totals[m]), "■") for m in models],
        shares.iloc[-1].cumsum() - shares.iloc[-1] / 2,
        100,
        height,
        colors,
    )
    figure.update_yaxes(range=[0, 100], ticksuffix=" %", nticks=3)
    width = pd.Timedelta(days=1) if len(shares) < 2 else shares.index[1] - shares.index[0]
    figure.update_xaxes(tickformat=time_format(pd.Series(shares.index), width.to_pytimedelta()))
    _few_ticks(figure, table.index[:1] if single else shares.index)
    return figure


def edge_labels(
    figure: go.Figure,
    items: Sequence[tuple[str, str, float, str]],
    at: Sequence[float],
    top: float,
    height: int,
    colors: theme.Colors,
) -> None:
    """Names at the right edge, in text colour with a coloured mark and the share in bold; moved apart where they would meet."""
    step = top * 21 / max(height - 40, 60)
    placed: list[float] = []
    for wanted in at:
        placed.append(max(float(wanted), placed[-1] + step) if placed else max(float(wanted), step / 2))
    over = placed[-1] - (top - step / 2) if placed else 0
    for i in range(len(placed) - 1, -1, -1):  # push back down what ran out at the top
        limit = top - step / 2 if i == len(placed) - 1 else placed[i + 1] - step
        placed[i] = min(placed[i], limit) if over > 0 else placed[i]
    for (name, color, share, mark), y in zip(items, placed, strict=True):
        figure.add_annotation(
            x=1,
            xref="paper",
            xanchor="left",
            y=y,
            xshift=8,
            showarrow=False,
            align="left",
            text=f"<span style='color:{color}'>{mark}</span> {name} <b>{formats.share(share)}</b>",
            font={"size": 12.5, "color": colors.text},
        )
    longest = max((len(name) for name, *_ in items), default=0)
    figure.update_layout(margin={"l": 8, "r": 40 + int(longest * 6.6) + 44, "t": 8, "b": 8})


def ended_chart(table: pd.DataFrame, width: timedelta, height: int) -> go.Figure:
    """How decisions ended per period, the words at the right edge."""
    dark = theme.is_dark()
    figure = ended_bars(table, width, height)
    counts = {word: int(table[word].sum()) for word in ENDED}
    total, peak = max(sum(counts.values()), 1), float(table[list(ENDED)].sum(axis=1).max() or 1)
    words = [(word, "followed their label" if word == "followed" else word) for word in ENDED if counts[word]]
    last = table[list(ENDED)].mean()
    heights = [
        float(last["followed"] / 2),
        float(last["followed"] + last["fell back"] / 2),
        float(last.sum()),
    ]
    at = [h for h, word in zip(heights, ENDED, strict=True) if counts[word]]
    items = [(shown, ended_colors(dark)[word], counts[word] / total, "■") for word, shown in words]
    edge_labels(figure, items, at, peak, height, theme.colors(dark))
    return figure
