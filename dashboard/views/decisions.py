"""What was decided, newest first, and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pandas as pd
import streamlit as st

from dashboard import describe, figures, formats, frame, loaders, state, theme, untrusted
from router.log.queries import PAGE_SIZE, Filter
from router.types import CAUSES

CAUSE, CONFIDENCE, UNMEASURED, FAILED, NUMBER = "cause", "conf", "unmeasured", "failed", "page"
TABLE, UPTO = "decisions_table", "decisions_upto"
ANY_CAUSE = ""


def chosen_filter() -> Filter:
    """The bar's filter, narrowed by this page's own controls and held still at the rows seen first."""
    bar = state.current_filter()
    cause = st.session_state.get(CAUSE) or ANY_CAUSE
    low, high = st.session_state.get(CONFIDENCE) or (0.0, 1.0)
    narrowed = replace(
        bar,
        causes=(cause,) if cause else (),
        confidence=None if (low, high) == (0.0, 1.0) else (low, high),
        unmeasured=bool(st.session_state.get(UNMEASURED)),
        failed=bool(st.session_state.get(FAILED)),
    )
    # The choices, not the moment that "24h" starts at now: a page must not shift because an hour went by.
    choices = (replace(narrowed, start=None, end=None), *(st.session_state.get(key) for key in state.PERIOD))
    seen = st.session_state.get(UPTO)
    if seen is None or seen[0] != choices:
        seen = (choices, replace(narrowed, upto=loaders.version()))
        st.session_state[UPTO] = seen
        st.session_state.pop(TABLE, None)
    return seen[1]


def show_new() -> None:
    """Take in the rows that arrived since."""
    st.session_state.pop(UPTO, None)
    st.session_state[NUMBER] = 1


def controls() -> None:
    """Cause, confidence and export, at the right of the title."""
    st.session_state.setdefault(CAUSE, ANY_CAUSE)
    st.session_state.setdefault(CONFIDENCE, (0.0, 1.0))
    with frame.controls():
        st.selectbox(
            "Cause",
            [ANY_CAUSE, *CAUSES],
            key=CAUSE,
            bind="query-params",
            width=150,
            label_visibility="collapsed",
            format_func=lambda cause: describe.cause(cause) if cause else "All decisions",
        )
        with st.popover("More filters", width=124):
            st.slider(
                "Confidence",
                0.0,
                1.0,
                key=CONFIDENCE,
                step=0.01,
                bind="query-params",
                width=260,
                help="The score of the winning label. A failed classifier has none.",
            )
            st.toggle(
                "Call failed",
                key=FAILED,
                bind="query-params",
                help="Only decisions whose model gave no usable reply.",
            )
            st.toggle(
                "Cost not measured",
                key=UNMEASURED,
                bind="query-params",
                help="Only decisions without token counts: `route` alone does not call a model.",
            )


def export_menu(shown: Filter, matching: int) -> None:
    """Every decision of the filter as a file."""
    with frame.controls(), st.popover(f"Export all {formats.count(matching)}", icon=":material/download:"):
        st.caption("All decisions of the filter with every column, not only this page.")
        for kind, mime in (
            ("csv", "text/csv"),
            ("jsonl", "application/jsonl"),
            ("parquet", "application/octet-stream"),
        ):
            st.download_button(
                kind.upper() if kind != "parquet" else "Parquet",
                data=lambda kind=kind: describe.exported(shown, kind),
                file_name=f"decisions.{kind}",
                mime=mime,
                key=f"export_{kind}",
                on_click="ignore",
                width="stretch",
            )


def new_rows(shown: Filter) -> None:
    """A button when decisions arrived since the page was opened; looks every second, moves nothing by itself."""
    arrived = loaders.log_counts(replace(shown, upto=None)) - loaders.log_counts(shown)
    # Always there, so that nothing moves when the first row arrives.
    said = f"{formats.count(arrived)} new" if arrived > 0 else "Up to date"
    if st.button(said, on_click=show_new, key="show_new", width=112, disabled=arrived <= 0):
        st.rerun()  # a button inside a fragment redraws the fragment alone


def histogram(shown: Filter) -> None:
    """Decisions over time; a drag sets the range."""
    first, last = loaders.span(shown)
    if first is None or last is None:
        return
    width = figures.bucket_width(first, last)
    table = figures.ended_table(loaders.series(shown, width))
    table["bucket"] = describe.local_column(table["bucket"], state.zone())
    st.plotly_chart(
        figures.ended_bars(table, width, 96, select=True),
        theme=None,
        config=theme.plotly_config(),
        height=96,
        key="decisions_histogram",
        on_select=lambda: pick_range(width),
        selection_mode="box",
        alt=f"{formats.count(int(table['followed'].sum()))} followed their label, {formats.count(int(table['fell back'].sum()))} fell back. Drag to choose days.",
    )


def pick_range(width: timedelta) -> None:
    """Turn a dragged box into whole days."""
    boxes = st.session_state["decisions_histogram"]["selection"]["box"]
    if boxes:
        days = [pd.Timestamp(x).date() for x in boxes[0]["x"]]
        state.set_dates(min(days), max(days))


def table(rows: pd.DataFrame, order: list[str]) -> int:
    """The page of decisions; returns the position of the chosen row."""
    shown = pd.DataFrame(
        {
            "Time": [formats.time(when.to_pydatetime(), state.zone()) for when in rows["decided_at"]],
            "Prompt": [untrusted.prompt_cell(prompt) for prompt in rows["prompt"]],
            "Label": [
                [untrusted.cell(label)] if isinstance(label, str) else [] for label in rows["top_label"]
            ],
            "Confidence": rows["confidence"],
            "Margin": rows["margin"],
            "Model": [untrusted.cell(model) for model in rows["model"]],
            "Cost": rows["cost_usd"].astype("float64") * 1000,
            "Cause": [describe.ended(*pair) for pair in zip(rows["cause"], rows["outcome"], strict=True)],
        }
    )
    chips = theme.chips([label for label in rows["top_label"].dropna().unique()], order)
    event = st.dataframe(
        shown,
        key=TABLE,
        hide_index=True,
        height=30 * 20 + 38,
        row_height=30,
        on_select="rerun",
        selection_mode="single-row-required",
        placeholder="not measured",
        alt=f"{len(rows)} decisions, newest first",
        column_config={
            "Time": st.column_config.TextColumn(f"Time, {state.zone_name()}", width=108),
            "Prompt": st.column_config.TextColumn(width=228),
            "Label": st.column_config.MultiselectColumn(
                options=chips["options"], color=chips["color"], width=80
            ),
            "Confidence": st.column_config.ProgressColumn(
                min_value=0, max_value=1, format="%.4f", width=108, color="gray"
            ),
            "Margin": st.column_config.NumberColumn(format="%.4f", width=58),
            "Model": st.column_config.TextColumn(width=116),
            "Cost": st.column_config.NumberColumn(
                "Cost, m$",
                format="%.3f",
                width=88,
                help="Thousandths of a US dollar, at the price book's rates for the day.",
            ),
            "Cause": st.column_config.TextColumn(width=98),
        },
    )
    picked = event["selection"]["rows"]
    return picked[0] if picked and picked[0] < len(rows) else 0


def step(by: int, rows: int) -> None:
    """J and K: the next or the previous row of the page."""
    now = st.session_state.get(TABLE, {}).get("selection", {}).get("rows") or [0]
    st.session_state[TABLE] = {
        "selection": {"rows": [min(max(now[0] + by, 0), rows - 1)], "columns": [], "cells": []}
    }


def detail(id: str, position: int, rows: int, order: list[str]) -> None:
    """One decision: prompt, scores against the line, why, facts, what to do with it."""
    full = loaders.decision(id)
    if full is None:
        st.caption("This decision is no longer in the log.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Previous", shortcut="K", type="tertiary", on_click=step, args=(-1, rows), disabled=position == 0
        )
        st.button(
            "Next",
            shortcut="J",
            type="tertiary",
            on_click=step,
            args=(1, rows),
            disabled=position == rows - 1,
        )
        st.space("stretch")
        st.caption(f"{position + 1} of {rows}", width="content")
    prompt = full["prompt"] if isinstance(full["prompt"], str) else None
    untrusted.show_prompt(
        prompt, chars=int(full["prompt_chars"]), height=128 if prompt and len(prompt) > 240 else None
    )
    scores = full["scores"] if isinstance(full["scores"], dict) else {}
    if scores:
        st.plotly_chart(
            figures.score_bars(scores, full["top_label"], order, production=full["threshold"]),
            theme=None,
            config=theme.plotly_config(),
            key="scores",
            alt=f"{len(scores)} scores; the highest is {formats.score(full['confidence'])}, the line {formats.threshold(full['threshold'])}",
        )
    st.markdown(describe.why(full))
    facts = describe.facts(full, state.zone(), state.zone_name(), loaders.said_of(str(full["id"])))
    st.dataframe(
        pd.DataFrame(facts, columns=["", "Value"]),
        hide_index=True,
        row_height=28,
        key="facts",
        alt="Facts of this decision",
        column_config={
            "": st.column_config.TextColumn(width=96),
            "Value": st.column_config.TextColumn(width="large"),
        },
    )
    with st.container(horizontal=True):
        if prompt is not None:
            if st.button("Try in playground", icon=":material/play_arrow:", shortcut="T"):
                st.session_state["playground_prompt"] = prompt
                st.switch_page(state.page_path("playground"))
            with st.popover("Copy as"):
                st.caption("Python")
                st.code(untrusted.visible(describe.as_python(prompt)), language=None, wrap_lines=True)
                st.caption("Command line")
                st.code(untrusted.visible(describe.as_command(prompt)), language=None, wrap_lines=True)


def main() -> None:
    """Draw the page."""
    controls()
    shown = chosen_filter()
    started = pd.Timestamp.now()
    matching = loaders.log_counts(shown)
    if matching == 0:
        frame.header("Decisions", "What was decided, and why.")
        frame.show_nothing_found()
        return
    pages = -(-matching // PAGE_SIZE)
    number = min(int(st.session_state.get(NUMBER) or 1), pages)
    rows = loaders.page(shown, number)
    spent = (pd.Timestamp.now() - started).total_seconds() * 1000
    everything = loaders.version()
    frame.header(
        "Decisions", f"{formats.count(matching)} of {formats.count(everything)} decisions · {spent:.0f} ms"
    )
    with frame.controls():
        st.fragment(new_rows, run_every=1.0)(shown)
    export_menu(shown, matching)
    order = list(dict.fromkeys([*loaders.policy_in_view().label_names, *loaders.labels_seen()]))
    histogram(shown)
    left, right = frame.table_and_detail()
    with left:
        position = table(rows, order)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.pagination(pages, key=NUMBER, bind="query-params")
            st.space("stretch")
            first = (number - 1) * PAGE_SIZE
            st.caption(
                f"Rows {formats.count(first + 1)}–{formats.count(first + len(rows))} of {formats.count(matching)}",
                width="content",
            )
    with right:
        detail(rows["id"].iloc[position], position, len(rows), order)


main()
