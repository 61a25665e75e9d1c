"""Which labels are sure, which collide, and what a reader can do about it."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import formats, frame, label_figures, loaders, state, text, theme, untrusted
from router.analysis.auditing import Sample
from router.analysis.calibration import Calibration
from router.analysis.overlap import Overlap, overlap
from router.log.queries import CLOSE_MARGIN
from router.policy import Policy

TALL, LOW = 412, 374
"""Pixels: cards side by side are equally high."""

PAIR, SHAPE, MATRIX = "pair", "shape", "collisions"


def picked_pair(found: Overlap) -> tuple[str, str] | None:
    """The pair in view: the one clicked or named in the URL, else the one that collides most."""
    pairs = [(pair.first, pair.second) for pair in found.pairs]
    if not pairs:
        return None
    wanted = str(st.session_state.get(PAIR) or "")
    return next((pair for pair in pairs if key_of(pair) == wanted), pairs[0])


def key_of(pair: tuple[str, str]) -> str:
    """A pair as one word for the URL."""
    return "~".join(pair)


def pick() -> None:
    """Take the clicked square as the pair in view."""
    points = st.session_state[MATRIX]["selection"]["points"]
    if points:
        st.session_state[PAIR] = key_of(tuple(points[0]["customdata"][:2]))


def confidence_card(cells: pd.DataFrame, policy: Policy, order: list[str]) -> None:
    """How sure is each label: cumulative curves, or histograms."""
    with st.container(border=True, height=TALL, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            with st.container(gap=None, width="stretch"):
                st.subheader("How sure is each label?", anchor=False)
                st.caption(
                    "Share of a label's decisions below a confidence. Where a curve meets the line is that label's fallback share."
                    if shape() == "Curve"
                    else "Share of a label's decisions in each fiftieth of confidence."
                )
            st.session_state.setdefault(SHAPE, "Curve")
            st.segmented_control(
                "Shape",
                ["Curve", "Histogram"],
                key=SHAPE,
                bind="query-params",
                required=True,
                label_visibility="collapsed",
            )
        draw = label_figures.confidence_curves if shape() == "Curve" else label_figures.confidence_histograms
        figure, finding = draw(cells, policy, order, candidate=state.candidate())
        st.plotly_chart(figure, theme=None, config=theme.plotly_config(), key="confidence", alt=finding)


def shape() -> str:
    """Curve or Histogram."""
    return str(st.session_state.get(SHAPE) or "Curve")


def collision_card(found: Overlap, order: list[str], pair: tuple[str, str] | None) -> None:
    """Which labels collide: one square a pair."""
    with st.container(border=True, height=TALL, gap="xsmall"):
        with st.container(gap=None):
            st.subheader("Which labels collide?", anchor=False)
            st.caption(
                f"Share of decisions whose two best labels are within {found.bound:.2f}. Choose a square to see its prompts."
            )
        if pair is None:
            st.caption("No decision has two scores.")
            return
        figure, finding = label_figures.collisions(found, order, pair)
        st.plotly_chart(
            figure,
            theme=None,
            config=theme.plotly_config(),
            key=MATRIX,
            on_select=pick,
            selection_mode="points",
            alt=finding,
        )


def pair_card(found: Overlap, policy: Policy, pair: tuple[str, str], order: list[str]) -> None:
    """The chosen pair: both rubrics, and the prompts between them."""
    chosen = next(p for p in found.pairs if (p.first, p.second) == pair)
    a, b = untrusted.name(chosen.first), untrusted.name(chosen.second)
    with st.container(border=True, gap="small"):
        stake = (
            "what hangs on them is not measured"
            if chosen.at_stake_usd is None
            else f"{formats.usd(chosen.at_stake_usd)} of spend depends on which of the two wins"
        )
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader(f"{a} and {b}", anchor=False, width="content")
            st.caption(
                f"{formats.plural(chosen.n_close, 'close call')}, {formats.share(chosen.close_rate)} of decisions; "
                f"{stake}",
                width="content",
            )
            st.space("stretch")
            names = [key_of((p.first, p.second)) for p in found.pairs]
            st.session_state[PAIR] = key_of(pair)
            st.selectbox(
                "Pair",
                names,
                key=PAIR,
                bind="query-params",
                width=240,
                label_visibility="collapsed",
                format_func=lambda word: word.replace("~", " and "),
            )
        left, right = frame.halves()
        with left:
            for name in pair:
                label = policy.by_name.get(name)
                st.markdown(f"**{untrusted.name(name)}**")
                st.text("Not a label of this policy." if label is None else label.rubric)
        with right:
            close_table(pair, found.bound, order)


def close_table(pair: tuple[str, str], close: float, order: list[str]) -> None:
    """The prompts between two labels, closest first."""
    rows = loaders.close_calls(state.current_filter(), *pair, close)
    if rows.empty:
        st.caption(f"No decision of this pair is closer than {close:.2f}.")
        return
    chips = theme.chips(list(rows["top_label"].unique()), order)
    table = pd.DataFrame(
        {
            "Prompt": [untrusted.prompt_cell(p) for p in rows["prompt"]],
            "Won": [[untrusted.cell(label)] for label in rows["top_label"]],
            "Confidence": rows["confidence"],
            "Margin": rows["margin"],
            "Model": [untrusted.cell(model) for model in rows["model"]],
        }
    )
    if (rows["n"] > 1).any():
        table["Times"] = rows["n"]
    st.dataframe(
        table,
        hide_index=True,
        row_height=30,
        height=min(38 + 30 * len(table), 248),
        key="close_calls",
        placeholder="not stored",
        alt=f"{len(table)} prompts between {pair[0]} and {pair[1]}, closest first",
        column_config={
            "Prompt": st.column_config.TextColumn(width=236),
            "Won": st.column_config.MultiselectColumn(
                options=chips["options"], color=chips["color"], width=86
            ),
            "Confidence": st.column_config.NumberColumn(format="%.4f", width=78),
            "Margin": st.column_config.NumberColumn(format="%.4f", width=58),
            "Model": st.column_config.TextColumn(width=116),
            "Times": st.column_config.NumberColumn(
                format="localized", width=52, help="Decisions with this prompt and this winner."
            ),
        },
    )


def margin_card(found: Overlap) -> None:
    """How close are the calls."""
    with st.container(border=True, height=LOW, gap="xsmall"):
        with st.container(gap=None):
            st.subheader("How close are the calls?", anchor=False)
            st.caption("Decisions by margin, the distance between the two best scores")
        figure, finding = label_figures.margins(found)
        st.plotly_chart(figure, theme=None, config=theme.plotly_config(), key="margins", alt=finding)


def honesty_card(policy: Policy, found: Calibration, audit: Sample) -> None:
    """Whether confidence is honest: not known before decisions of an audit are judged."""
    with st.container(border=True, height=LOW, gap="xsmall"):
        with st.container(gap=None):
            st.subheader("Is confidence honest?", anchor=False)
            st.caption(text.honesty(found, audit))
        enough = found.n >= text.ENOUGH_REVIEWS
        figure, finding = (
            label_figures.reliability(found) if enough else label_figures.not_measured(250, found.n)
        )
        st.plotly_chart(figure, theme=None, config=theme.plotly_config(), key="reliability", alt=finding)
        with st.container(horizontal=True, vertical_alignment="center"):
            if not enough:
                st.caption(
                    "A confidence is the classifier's own word: "
                    f"{formats.threshold(policy.threshold)} is not {formats.share(policy.threshold)}.",
                    width="content",
                )
            st.page_link(**state.link("review", queue="Audit"), label="Review decisions", width="content")


def main() -> None:
    """Draw the page."""
    policy = loaders.policy_in_view()
    chosen = state.current_filter()
    if loaders.log_counts(chosen) == 0:
        frame.header("Labels", "Which labels are sure, and which collide.")
        frame.show_nothing_found()
        return
    order = list(dict.fromkeys([*policy.label_names, *loaders.labels_seen()]))
    found = overlap(loaders.pairs(chosen), policy.label_names, bound=CLOSE_MARGIN)
    pair = picked_pair(found)
    frame.header("Labels", label_figures.sentence(found, pair))
    left, right = frame.halves()
    with left:
        confidence_card(loaders.cells(chosen, policy=policy), policy, order)
    with right:
        collision_card(found, order, pair)
    if pair is not None:
        pair_card(found, policy, pair, order)
    left, right = frame.halves()
    with left:
        margin_card(found)
    with right:
        honesty_card(policy, loaders.reliability(chosen, policy), loaders.quality(chosen, policy)[1])


main()
