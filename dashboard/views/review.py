"""People judge drawn decisions here, one after the other, and the page says what that proves so far."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import describe, figures, formats, frame, loaders, reviewing, state, text, theme, untrusted
from dashboard.reviewing import Item
from router.analysis.progress import Progress
from router.errors import RouterError
from router.log.queries import Filter
from router.review import blind_reason
from router.types import QUEUES, Queue

QUEUE, NUMBER, NAME, TABLE = "queue", "review_n", "review_name", "review_table"
DRAWS = {"audit": 240, "estimate": 240, "learn": 20}
WORDS: dict[str, Queue] = {name.capitalize(): name for name in QUEUES}
"""The queues as the page and its address name them."""
KEYS = 9


def chosen_queue() -> Queue:
    """The queue in view, which the URL names."""
    with frame.controls():
        chosen = st.segmented_control(
            "Queue",
            list(WORDS),
            default=next(iter(WORDS)),
            key=QUEUE,
            bind="query-params",
            required=True,
            label_visibility="collapsed",
            on_change=reviewing.go_to,
            args=(None,),
            help="What was drawn for each purpose. They are never mixed.",
        )
    return WORDS.get(chosen or "", QUEUES[0])


def strip(queue: Queue, found: Progress, *, unreadable: bool = False) -> None:
    """Progress, what it says, and what the rest would buy; ``unreadable``: no item has a prompt."""
    interval = (
        ""
        if found.low is None
        else f"{formats.share(found.low)} to {formats.share(found.high)}, 95 % interval"
    )
    learn, stuck = queue == "learn", unreadable and found.n_open > 0
    counts = (
        "left out; promises count them as wrong" if queue == "audit" else "left out: neither right nor wrong"
    )
    cards = (
        ("Judged", f"{formats.count(found.n_judged)} of {formats.count(found.n)}", f"{formats.count(found.n_open)} wait"),
        (
            "Right labels",
            "Not measured" if found.right is None else formats.share(found.right),
            "picked by doubt: proves nothing about the rest" if learn else interval or ("too few for an interval" if found.right is not None else "no judgement yet"),
        ),
        (
            "When all are judged" if found.n_open else "Known to within",
            "Not measured" if found.half_when_done is None or stuck else text.within(found.half_when_done),
            "nobody can judge without prompts"
            if stuck
            else "an audit or an estimate gives one"
            if learn
            else "half the 95 % interval of right labels",
        ),
        ("Unsure", formats.count(found.n_unsure), counts),
    )  # fmt: skip
    grid = st.grid(columns=4, min_column_width=270)
    for title, value, under in cards:
        with grid.cell(), st.container(border=True, height="stretch"):
            st.metric(title, value, delta_description=under)


def ask_name() -> bool:
    """Whether somebody said who judges; asked once a session."""
    if st.session_state.get(reviewing.BY):
        return True
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Who judges?", key=NAME, max_chars=60, width=240, on_change=take_name, placeholder="Your name"
        )
        st.caption("It is logged with each judgement, and asked once.")
    return False


def take_name() -> None:
    """Keep the name for this session."""
    st.session_state[reviewing.BY] = str(st.session_state.get(NAME) or "").strip()


def forget_name() -> None:
    """Ask again."""
    st.session_state.pop(reviewing.BY, None)


def last_judged(queue: Queue, item: Item | None) -> None:
    """What was said last, beside what the classifier had said, and the way back to it; before that the keys."""
    last: Item | None = st.session_state.get(reviewing.LAST)
    # Always a line, so that nothing moves when the first judgement is made.
    with st.container(
        horizontal=True, vertical_alignment="center", height=36, border=False, key="last_judged"
    ):
        if last is None or last.drawn.queue != queue:
            st.caption(text.REVIEW_KEYS if item is not None else "")
        elif item is not None and item.id == last.id:
            st.caption("What was said last. Another answer replaces it.")
        else:
            st.markdown(text.judged(last.verdict, last.said, last.top_label), width="content")
            st.button(
                "Change",
                key="change",
                shortcut="Z",
                type="tertiary",
                on_click=reviewing.go_to,
                args=(last.id,),
            )


def item_card(item: Item, place: int, of: int, order: list[str]) -> None:
    """One item: why it is here, its prompt, the labels to choose from; what the classifier said only once it is judged."""
    full = loaders.decision(item.id)
    if full is None:
        st.caption("This decision is no longer in the log.")
        return
    with st.container(border=True, key="item"):
        with st.container(gap=None):
            st.subheader("Which label does this prompt belong to?", anchor=False)
            when = formats.time(full["decided_at"].to_pydatetime(), state.zone())
            reason = blind_reason(item.drawn) if item.verdict is None else item.drawn.reason
            st.caption(f"{place} of {of} · {untrusted.name(reason, 200)} · {when} {state.zone_name()}")
        untrusted.show_prompt(
            item.prompt, chars=int(full["prompt_chars"]), height=220 if len(item.prompt or "") > 900 else None
        )
        named = ask_name()
        answers(item, order, enabled=named and item.prompt is not None)
        if item.verdict is not None:
            revealed(item, full, order)
        if named:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.caption(f"Judged by {untrusted.name(st.session_state[reviewing.BY])}", width="content")
                st.button("Somebody else", key="other_name", type="tertiary", on_click=forget_name)


def answers(item: Item, order: list[str], *, enabled: bool) -> None:
    """A button for each label with its key beside what the label asks, then the ways not to name one."""
    known = loaders.policy_in_view().by_name
    with st.container(gap="xsmall", key="answers"):
        for number, label in enumerate(reviewing.choices(item, order), 1):
            with st.container(horizontal=True, vertical_alignment="center", wrap=False):
                st.button(
                    f"**{untrusted.name(label)}**" if item.said == label else untrusted.name(label),
                    key=f"label_{number}",
                    shortcut=str(number) if number <= KEYS else None,
                    disabled=not enabled,
                    width=132,
                    on_click=reviewing.judge,
                    args=(item, label),
                )
                st.caption(
                    untrusted.name(known[label].rubric, 300)
                    if label in known
                    else "Not a label of this policy."
                )
    with st.container(horizontal=True, gap="small", key="other_answers"):
        st.button(
            "None of these", key="none", shortcut="0", type="tertiary", disabled=not enabled,
            on_click=reviewing.judge, args=(item, None),
        )  # fmt: skip
        st.button(
            "Unsure", key="unsure", shortcut="U", type="tertiary", disabled=not enabled,
            on_click=reviewing.judge, args=(item, None), kwargs={"unsure": True},
        )  # fmt: skip
        if item.verdict is None:
            st.button(
                "Skip", key="skip", shortcut="S", type="tertiary", on_click=reviewing.skip, args=(item,)
            )
        else:
            st.button(
                "Keep it", key="keep", shortcut="S", type="tertiary", on_click=reviewing.go_to, args=(None,)
            )


def revealed(item: Item, full: dict, order: list[str]) -> None:
    """What the classifier said, once that can no longer sway anybody."""
    st.markdown(text.judged(item.verdict, item.said, item.top_label))
    st.plotly_chart(
        figures.score_bars(full["scores"], full["top_label"], order, production=full["threshold"]),
        theme=None,
        config=theme.plotly_config(),
        key="review_scores",
        alt=f"{len(full['scores'])} scores; the highest is {formats.score(full['confidence'])}",
    )
    st.markdown(describe.why(full))


def queue_card(found: list[Item], item: Item | None) -> None:
    """The whole queue; a row leads to its item."""
    with st.container(border=True, gap="xsmall", key="queue_card"):
        with st.container(gap=None):
            st.subheader("Queue", anchor=False)
            first = "Waiting first. " if any(x.verdict is None for x in found) else ""
            st.caption(f"{first}Choose a row to judge it, or to change what was said.")
        skipped = st.session_state.get(reviewing.SKIPPED, ())
        found = sorted(found, key=lambda x: (x.verdict is not None, x.id in skipped))
        table = pd.DataFrame(
            {
                "Prompt": [untrusted.prompt_cell(x.prompt) for x in found],
                "Judged": [text.said(x.verdict, x.said, x.id in skipped) for x in found],
            }
        )
        at = next((i for i, x in enumerate(found) if item is not None and x.id == item.id), None)
        st.session_state[TABLE] = {
            "selection": {"rows": [] if at is None else [at], "columns": [], "cells": []}
        }
        st.dataframe(
            table,
            key=TABLE,
            hide_index=True,
            row_height=30,
            height=min(38 + 30 * len(table), 398),
            on_select=lambda: choose(found),
            selection_mode="single-row" if item is None else "single-row-required",
            alt=f"{len(found)} drawn decisions and what was said of them",
            column_config={
                "Prompt": st.column_config.TextColumn(width=250),
                "Judged": st.column_config.TextColumn(width=96),
            },
        )


def choose(found: list[Item]) -> None:
    """Take the chosen row as the item in view."""
    rows = st.session_state[TABLE]["selection"]["rows"]
    if rows and rows[0] < len(found):
        reviewing.go_to(found[rows[0]].id)


def draw_card(queue: Queue, standing: Progress) -> None:
    """What this queue is for, and the button that fills it."""
    chosen = reviewing.traffic(queue)
    with st.container(border=True, key="draw_card"):
        with st.container(gap=None):
            st.subheader(text.DRAW_TITLES[queue] if standing.n == 0 else "Draw more", anchor=False)
            st.caption(text.DRAW_WORDS[queue])
        st.session_state.setdefault(f"{NUMBER}_{queue}", DRAWS[queue])
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.number_input("Decisions", 1, 10_000, key=f"{NUMBER}_{queue}", width=130)
            n = int(st.session_state[f"{NUMBER}_{queue}"])
            matching = loaders.log_counts(chosen)
            st.button(
                f"Draw {formats.count(n)}",
                key="draw",
                disabled=matching == 0,
                on_click=reviewing.draw,
                args=(queue, n),
            )
            narrowed = chosen.active != state.current_filter().active
            st.caption(text.drawn_from(queue, matching, n, narrowed=narrowed))


def body(queue: Queue, found: list[Item], standing: Progress) -> None:
    """Item and queue, or the state that stands in for them."""
    item = reviewing.current(found)
    order = loaders.policy_in_view().label_names
    if found and all(x.prompt is None for x in found):
        frame.show_state(text.without_prompts(len(found)))
        if loaders.holds_prompts(reviewing.traffic(queue)):  # prompts are stored by now
            draw_card(queue, standing)
        return
    left, right = frame.wide_and_narrow()
    with left:
        last_judged(queue, item)
        if item is None:
            frame.show_state(text.queue_done(queue, standing))
            with st.container(horizontal=True):
                st.page_link(**state.link("labels"), label="Is confidence honest?")
                st.page_link(**state.link("threshold"), label="Threshold")
            draw_card(queue, standing)
        else:
            place = next(i for i, x in enumerate(found, 1) if x.id == item.id)
            item_card(item, place, len(found), list(order))
    with right:
        queue_card(found, item)


def main() -> None:
    """Draw the page."""
    if loaders.log_counts(Filter()) == 0:
        frame.header("Review", "People say which labels were right.")
        frame.show_nothing_found()
        return
    queue = chosen_queue()
    found = reviewing.items(queue)
    standing = reviewing.standing(queue, found)
    unreadable = bool(found) and all(x.prompt is None for x in found)
    frame.header("Review", text.review_sentence(queue, standing, unreadable=unreadable))
    if problem := st.session_state.pop(reviewing.PROBLEM, None):
        frame.show_state(text.State("That did not work.", code=problem))
    if found:
        strip(queue, standing, unreadable=unreadable)
        body(queue, found, standing)
    elif loaders.holds_prompts(reviewing.traffic(queue)) or loaders.log_counts(reviewing.traffic(queue)) == 0:
        draw_card(queue, standing)
    else:
        frame.show_state(text.without_prompts(0))


try:
    main()
except RouterError as failure:
    frame.header("Review", "The queue cannot be read.")
    frame.error(failure)
