"""Figures of the Labels page. Each gives the figure and its finding, a plain sentence for screen readers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import figures, formats, theme
from dashboard.text import ENOUGH_REVIEWS, honesty
from dashboard.untrusted import name, plot_text
from router.analysis import confidence
from router.analysis.calibration import Calibration
from router.analysis.overlap import STEPS, Overlap
from router.policy import Policy, confidence_bin

HEIGHT = 300
SHOWN_LABELS = 8


def sentence(found: Overlap, pair: tuple[str, str] | None) -> str:
    """What the log says about overlap, as markdown."""
    if found.close_rate is None or pair is None:
        return "No decision has two scores, so nothing can collide."
    top = found.pairs[0]
    share = f"{formats.share(found.close_rate)} of decisions are close calls, their two best labels within {found.bound:.2f}."
    if not top.n_close:
        return share
    return f"{share} **{name(top.first)}** and **{name(top.second)}** collide most."


def confidence_curves(
    cells: pd.DataFrame, policy: Policy, order: Sequence[str], *, candidate: float
) -> tuple[go.Figure, str]:
    """Cumulative share of each label's decisions below a confidence, with the production line."""
    dark = theme.is_dark()
    colors = theme.colors(dark)
    curves = [curve for curve in confidence.confidence_curves(cells, policy) if curve.n]
    curves = sorted(curves, key=lambda curve: -curve.n)[:SHOWN_LABELS]
    low = _lowest(cells, policy.threshold)
    figure = figures.base(HEIGHT)
    at_line = []
    for curve in curves:
        color = theme.label_color(curve.label, order, dark=dark)
        keep = curve.confidence >= low
        line = policy.threshold_for(curve.label)
        own = policy.by_name[curve.label].threshold if curve.label in policy.by_name else None
        share = float(curve.share_below[round(line * (len(curve.confidence) - 1))])
        moved = candidate if own is None else line
        tried = float(curve.share_below[round(moved * (len(curve.confidence) - 1))])
        at_line.append((curve.label, share, color, own, tried))
        figure.add_scatter(
            x=curve.confidence[keep],
            y=curve.share_below[keep] * 100,
            mode="lines",
            line={"color": color, "width": 2},
            name=plot_text(curve.label, 30),
            hovertemplate="%{y:.1f} % below %{x:.3f}<extra>" + plot_text(curve.label, 30) + "</extra>",
        )
        figure.add_scatter(
            x=[line],
            y=[share * 100],
            mode="markers",
            hoverinfo="skip",
            marker={"size": 8, "color": colors.page, "line": {"color": color, "width": 2}},
        )
        if moved != line:
            figure.add_scatter(
                x=[moved],
                y=[tried * 100],
                mode="markers",
                hoverinfo="skip",
                marker={"size": 8, "color": color},
            )
    _production_line(figure, policy.threshold, colors)
    if candidate != policy.threshold:
        _candidate_line(figure, candidate, policy.threshold, colors)
    is_moved = candidate != policy.threshold
    at_line.sort(key=lambda item: -item[4])
    heading = f"fall back at {formats.threshold(policy.threshold)}"
    if is_moved:
        heading = f"fall back at candidate {formats.threshold(candidate)}, production {formats.threshold(policy.threshold)}"
    figure.add_annotation(
        x=0.012,
        y=0.97,
        xref="paper",
        yref="paper",
        xanchor="left",
        yanchor="top",
        align="left",
        showarrow=False,
        font={"size": 12.5, "color": colors.text},
        bgcolor=theme.with_opacity(colors.page, 0.82),
        text="<br>".join(
            [f"<span style='color:{colors.muted}'>{heading}</span>"]
            + [
                f"<span style='color:{color}'>●</span> {plot_text(label, 24)} <b>{formats.share(tried)}</b>"
                + (f" <span style='color:{colors.muted}'>{formats.share(share)}</span>" if is_moved else "")
                + ("" if own is None else f" at its own {formats.threshold(own)}")
                for label, share, color, own, tried in at_line
            ]
        ),
    )
    figure.update_xaxes(range=[low, 1.003], title={"text": "Confidence", "font": {"size": 12}}, showgrid=True)
    steps = [0, 20, 40, 60, 80, 100]
    figure.update_yaxes(range=[-1, 104], tickvals=steps, ticktext=[f"{step} % " for step in steps])
    figure.update_layout(margin={"l": 8, "r": 8, "t": 22, "b": 8})
    finding = "; ".join(
        f"{label} {formats.share(tried)}" + ("" if own is None else f" at its own {formats.threshold(own)}")
        for label, _, _, own, tried in at_line
    )
    return figure, f"Fallback share at {formats.threshold(candidate)}: {finding or 'no decisions'}"


def confidence_histograms(
    cells: pd.DataFrame, policy: Policy, order: Sequence[str], *, candidate: float
) -> tuple[go.Figure, str]:
    """Share of each label's decisions in every fiftieth of confidence, as steps."""
    dark = theme.is_dark()
    colors = theme.colors(dark)
    histogram = confidence.confidence_histogram(cells, policy, width=0.02)
    low = _lowest(cells, policy.threshold)
    figure = figures.base(HEIGHT)
    totals = histogram.counts.sum(axis=1)
    middles = histogram.edges[:-1] + 0.01
    keep = middles >= low
    shown = sorted((i for i in range(len(totals)) if totals[i]), key=lambda i: -totals[i])[:SHOWN_LABELS]
    words = []
    for i in shown:
        label = histogram.labels[i]
        color = theme.label_color(label, order, dark=dark)
        share = histogram.counts[i] / totals[i] * 100
        figure.add_scatter(
            x=middles[keep],
            y=share[keep],
            mode="lines",
            line={"color": color, "width": 1.75, "shape": "hvh"},
            fill="tozeroy",
            fillcolor=theme.with_opacity(color, 0.10),
            name=plot_text(label, 30),
            hovertemplate="%{y:.1f} % near %{x:.2f}<extra>" + plot_text(label, 30) + "</extra>",
        )
        words.append((label, color, float(middles[int(np.argmax(share))])))
    _production_line(figure, policy.threshold, colors)
    if candidate != policy.threshold:
        _candidate_line(figure, candidate, policy.threshold, colors)
    figure.add_annotation(
        x=0.012,
        y=0.97,
        xref="paper",
        yref="paper",
        xanchor="left",
        yanchor="top",
        align="left",
        showarrow=False,
        font={"size": 12.5, "color": colors.text},
        bgcolor=theme.with_opacity(colors.page, 0.82),
        text="<br>".join(
            [f"<span style='color:{colors.muted}'>most often near</span>"]
            + [
                f"<span style='color:{color}'>●</span> {plot_text(label, 24)} <b>{peak:.2f}</b>"
                for label, color, peak in words
            ]
        ),
    )
    figure.update_xaxes(range=[low, 1.003], title={"text": "Confidence", "font": {"size": 12}})
    figure.update_yaxes(rangemode="tozero", ticksuffix=" %")
    figure.update_layout(margin={"l": 8, "r": 8, "t": 22, "b": 8})
    return figure, "Most frequent confidence: " + "; ".join(f"{label} {peak:.2f}" for label, _, peak in words)


def collisions(found: Overlap, order: Sequence[str], pair: tuple[str, str]) -> tuple[go.Figure, str]:
    """One square for each pair: the share of all decisions that are close calls between the two."""
    dark = theme.is_dark()
    colors = theme.colors(dark)
    labels = [label for label in found.labels if any(label in (p.first, p.second) for p in found.pairs)]
    place = {label: i for i, label in enumerate(labels)}
    peak = max((p.close_rate for p in found.pairs), default=0) or 1
    xs, ys, fills, texts, text_colors, custom, outlines = [], [], [], [], [], [], []
    for found_pair in found.pairs:
        a, b = sorted((found_pair.first, found_pair.second), key=place.__getitem__)
        fill = theme.ramp(found_pair.close_rate / peak, dark)
        xs.append(place[a])
        ys.append(place[b])
        fills.append(fill)
        texts.append(formats.share(found_pair.close_rate))
        text_colors.append(theme.text_on(fill))
        custom.append([found_pair.first, found_pair.second, found_pair.n_close])
        outlines.append(colors.production if (found_pair.first, found_pair.second) == pair else fill)
    size = max(26, min(64, 250 // max(len(labels) - 1, 1)))
    figure = figures.base(HEIGHT, clickmode="event+select")
    figure.add_scatter(
        x=xs,
        y=ys,
        mode="markers+text",
        text=texts,
        textfont={"size": 12.5, "color": text_colors},
        customdata=custom,
        marker={
            "symbol": "square",
            "size": size,
            "color": fills,
            "line": {"color": outlines, "width": 2.5},
            "opacity": 1,
        },
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}, "textfont": {"color": None}},
        hovertemplate="%{customdata[2]:,} close calls<extra></extra>",
    )
    names = [plot_text(label, 18) for label in labels]
    last = len(labels) - 1
    figure.update_xaxes(
        tickvals=list(range(last)),
        ticktext=names[:-1],
        range=[-0.6, last - 0.4],
        showgrid=False,
        tickfont={"size": 12.5, "color": colors.text},
        showline=False,
    )
    figure.update_yaxes(
        tickvals=list(range(1, last + 1)),
        ticktext=[f"{n}  " for n in names[1:]],
        range=[last + 0.6, 0.4],
        showgrid=False,
        tickfont={"size": 12.5, "color": colors.text},
    )
    top = found.pairs[0]
    return figure, f"{top.first} and {top.second} collide most: {formats.share(top.close_rate)} of decisions"


def margins(found: Overlap) -> tuple[go.Figure, str]:
    """Decisions by margin, the close ones in the fallback colour."""
    dark = theme.is_dark()
    colors = theme.colors(dark)
    counts = found.margins[:STEPS].astype(np.int64).copy()
    counts[-1] += found.margins[STEPS]
    merged = counts.reshape(-1, 2).sum(axis=1)
    edges = np.arange(len(merged)) * 2 / STEPS
    near = edges < found.bound
    figure = figures.base(250, bargap=0.12)
    figure.add_bar(
        x=edges + 1 / STEPS,
        y=merged,
        marker_color=np.where(near, colors.fallback, colors.served),
        marker_line_width=0,
        hovertemplate="%{y:,} near %{x:.2f}<extra></extra>",
    )
    figure.add_shape(
        type="line",
        x0=found.bound,
        x1=found.bound,
        y0=0,
        y1=1,
        yref="paper",
        line={"color": colors.fallback, "width": 1.25},
    )
    share = formats.share(found.close_rate)
    figure.add_annotation(
        x=found.bound,
        y=0.98,
        yref="paper",
        yanchor="top",
        xanchor="left",
        xshift=6,
        showarrow=False,
        text=f"<b>{share}</b> within {found.bound:.2f}",
        font={"size": 12.5, "color": colors.text},
        bgcolor=theme.with_opacity(colors.page, 0.82),
    )
    figure.update_yaxes(rangemode="tozero", tickformat=",d", **({"dtick": 1} if found.n < 4 else {}))
    figure.update_xaxes(range=[0, 1])
    return figure, f"{share} of decisions have a margin below {found.bound:.2f}"


def reliability(found: Calibration) -> tuple[go.Figure, str]:
    """Share of right labels by confidence, each bin with its 95 % interval and on the diagonal where it is honest."""
    colors = theme.colors(theme.is_dark())
    figure = figures.base(250)
    low = min((x.mean_confidence for x in found.bins), default=0.0)
    figure.add_scatter(
        x=[0, 1],
        y=[0, 100],
        mode="lines",
        line={"color": colors.muted, "width": 1.25, "dash": "dot"},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=[x.mean_confidence for x in found.bins],
        y=[x.accuracy * 100 for x in found.bins],
        error_y={
            "array": [(x.bar.high - x.accuracy) * 100 for x in found.bins],
            "arrayminus": [(x.accuracy - x.bar.low) * 100 for x in found.bins],
            "color": colors.served,
            "thickness": 1.25,
            "width": 0,
        },
        mode="markers",
        marker={"color": colors.served, "size": 8},
        customdata=[x.n for x in found.bins],
        hovertemplate="%{y:.1f} % right at %{x:.2f}, %{customdata} judged<extra></extra>",
    )
    figure.update_xaxes(range=[max(low - 0.05, 0), 1.01], title="Confidence")
    figure.update_yaxes(range=[0, 103], ticksuffix=" %")
    return figure, honesty(found)


def not_measured(height: int, reviewed: int) -> tuple[go.Figure, str]:
    """A hatch with the words, for a chart that needs more reviewed decisions than there are."""
    dark = theme.is_dark()
    figure = figures.base(height)
    figure.add_bar(
        x=[0.5],
        y=[1],
        width=1,
        marker={"color": "rgba(0,0,0,0)", "pattern": theme.hatch(dark), "line": {"width": 0}},
        hoverinfo="skip",
    )
    figure.add_annotation(
        x=0.5,
        y=0.5,
        text=f"<b>Not measured</b><br>This needs {ENOUGH_REVIEWS} reviewed decisions. You have {reviewed}.",
        showarrow=False,
        font={"size": 12.5, "color": theme.colors(dark).text},
        bgcolor=theme.colors(dark).page,
        borderpad=8,
    )
    figure.update_xaxes(visible=False, range=[0, 1])
    figure.update_yaxes(visible=False, range=[0, 1])
    return figure, "Not measured"


def _lowest(cells: pd.DataFrame, line: float) -> float:
    """Where the x axis begins: the lowest confidence rounded down to a tenth."""
    lowest = int(cells["bin"].min()) if len(cells) else 0
    return min(lowest, confidence_bin(line)) // 1000 / 10


def _production_line(figure: go.Figure, at: float, colors: theme.Colors) -> None:
    figure.add_shape(
        type="line",
        x0=at,
        x1=at,
        y0=0,
        y1=1,
        yref="paper",
        line={"color": colors.production, "width": 1.25, "dash": "dot"},
    )
    figure.add_annotation(
        x=at,
        y=1,
        yref="paper",
        yanchor="bottom",
        text=f"production {formats.threshold(at)}",
        showarrow=False,
        font={"size": 12, "color": colors.production},
    )


def _candidate_line(figure: go.Figure, at: float, production: float, colors: theme.Colors) -> None:
    figure.add_shape(
        type="line", x0=at, x1=at, y0=0, y1=1, yref="paper", line={"color": colors.candidate, "width": 2}
    )
    figure.add_annotation(
        x=at,
        y=1,
        yref="paper",
        yanchor="bottom",
        xanchor="left" if at > production else "right",
        xshift=56 if 0 < at - production < 0.08 else -56 if 0 < production - at < 0.08 else 0,
        text=f"candidate {formats.threshold(at)}",
        showarrow=False,
        font={"size": 12, "color": colors.candidate},
    )
