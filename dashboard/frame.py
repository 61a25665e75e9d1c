"""What stands on every page: navigation, logo, the bar bound to the URL, the title row, written states."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import TYPE_CHECKING

import streamlit as st

from dashboard import formats, loaders, saved_views, state, text
from dashboard.components.repaint import repaint
from dashboard.untrusted import visible
from router.demo import DEMO_MARK
from router.errors import PolicyError, RouterError
from router.log.queries import Filter
from router.policy import Policy

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

_WITH_CANDIDATE = ("threshold", "playground")
"""Pages whose title row holds the candidate; elsewhere it stands in the settings, so that the URL keeps it."""
_WITHOUT_FILTER = ("playground",)


@dataclass(frozen=True, slots=True)
class _Slots:
    title: DeltaGenerator
    controls: DeltaGenerator


_slots: ContextVar[_Slots] = ContextVar("routescope_slots")


def run() -> None:
    """Draw the frame and run the page that the URL names."""
    st.set_page_config(page_title=text.APP, page_icon=asset("mark.svg"), layout="wide")
    pages = {
        name: st.Page(path, title=text.PAGE_TITLES[name], default=name == "overview")
        for name, path in state.VIEWS.items()
    }
    page = st.navigation(list(pages.values()), position="top")
    st.logo(asset("logo.svg"), size="medium")
    chosen = next(name for name, known in pages.items() if known.title == page.title)
    try:
        policy = state.production_policy()
    except PolicyError as error:
        show_state(text.unreadable_policy(error.source, error.faults))
        return
    draw(chosen, policy)
    page.run()
    repaint()


def draw(page: str, policy: Policy) -> None:
    """The bar and the empty title row of a page."""
    state.entered(page)
    _bar(page, policy)
    if note := loaders.log_note():
        st.caption(text.note(note))
    with st.container(
        horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute", key="head"
    ):
        # As wide as its sentence: on a narrow screen the controls go below it instead of squeezing it.
        title = st.container(gap=None, width="content")
        controls = st.container(horizontal=True, vertical_alignment="bottom", width="content", key="controls")
    _slots.set(_Slots(title, controls))
    if page in _WITH_CANDIDATE:
        with controls:
            _candidate(policy)


def header(title: str, sentence: str, badge: str = "") -> None:
    """The page's title and the one sentence under it (markdown with data escaped). Once a page, at any time."""
    with _slots.get().title:
        st.title(title, anchor=False)
        badged(badge, sentence, first=False)


def badged(badge: str, sentence: str, *, first: bool = True) -> None:
    """A muted sentence and a badge, if there is one. Inside the caption it would be as pale as the caption, and unreadable."""
    if not badge:
        st.caption(sentence)
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", wrap=False):
        if first:
            st.markdown(f":small[{badge}]", width="content")
        st.caption(sentence, width="content")
        if not first:
            st.markdown(f":small[{badge}]", width="content")


def controls() -> DeltaGenerator:
    """The row at the right of the title, for the page's own controls."""
    return _slots.get().controls


def wide_and_narrow() -> tuple[DeltaGenerator, DeltaGenerator]:
    """Two cells in a row, two thirds and one third; below each other on a narrow screen, where columns would not stack."""
    grid = st.grid(columns=3, min_column_width=400)
    return grid.cell(column_span=2), grid.cell()


def table_and_detail() -> tuple[DeltaGenerator, DeltaGenerator]:
    """Two cells in a row, 2.5 to 1; below each other on a narrow screen."""
    grid = st.grid(columns=7, min_column_width=150)
    return grid.cell(column_span=5), grid.cell(column_span=2)


def halves() -> tuple[DeltaGenerator, DeltaGenerator]:
    """Two cells of equal width in a row; below each other on a narrow screen."""
    grid = st.grid(columns=2, min_column_width=430)
    return grid.cell(), grid.cell()


def show_state(shown: text.State) -> None:
    """Draw a written state: what is the case, what to do next, and code as plain text."""
    with st.container(border=True):
        st.subheader(shown.title, anchor=False)
        if shown.detail:
            st.markdown(shown.detail)
        if shown.code is not None:
            st.code(visible(shown.code), language=None, wrap_lines=True)


def show_nothing_found() -> None:
    """The state of a page whose filter holds no decision: an empty log, an empty period or an empty filter."""
    chosen = state.current_filter()
    total = loaders.log_counts(Filter())
    if total == 0:
        show_state(text.empty_log(str(state.settings().data.absolute())))
        return
    if chosen.active:
        show_state(text.empty_filter(total, _closest(chosen)))
    else:
        newest = loaders.span(Filter())[1]
        show_state(text.empty_period(total, None if newest is None else formats.time(newest, state.zone())))
    st.button(text.CLEAR_FILTERS, on_click=state.clear_filters, key="clear_filters")


def error(failure: BaseException) -> None:
    """Draw an error that reached the page. Only our own errors speak; the message of any other may hold a prompt."""
    kind = type(failure).__name__
    known = isinstance(failure, RouterError)
    show_state(text.router_error(kind, str(failure)) if known else text.unknown_error(kind))


def asset(name: str) -> str:
    """Path of a packaged picture."""
    return str(resources.files("dashboard").joinpath("static", name))


def _closest(chosen: Filter) -> tuple[str, int] | None:
    """Which single condition to drop to see the most decisions, in words, and how many those are."""
    words = {
        "policy": "the policy", "labels": ", ".join(chosen.labels), "models": ", ".join(chosen.models),
        "text": f"'{chosen.text}'",
    }  # fmt: skip
    found = [(words[key], loaders.log_counts(chosen.without(key))) for key in chosen.active if key in words]
    best = max(found, key=lambda pair: pair[1], default=("", 0))
    return best if best[1] else None


def _bar(page: str, policy: Policy) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="bar"):
        filtered = page not in _WITHOUT_FILTER
        if filtered:
            _range()
        _policies(policy, text.ALL_POLICIES if filtered else text.IN_FORCE)
        if filtered:
            _names(policy)
            st.text_input(
                text.SEARCH, key=state.SEARCH, type="search", live="300ms", bind="query-params", width=150,
                placeholder=text.SEARCH, label_visibility="collapsed", icon=":material/search:",
            )  # fmt: skip
        st.space("stretch")
        summary = st.container(width="content")
        with st.popover("", icon=":material/bookmark:", help=text.VIEWS, type="tertiary"):
            saved_views.draw(page)
        settings = st.popover("", icon=":material/settings:", help=text.SETTINGS, type="tertiary")
        with settings:
            _zone()
            if page not in _WITH_CANDIDATE:
                _candidate(policy)
        if filtered:
            chosen = state.current_filter()
            sample = text.SAMPLE if (state.settings().data / DEMO_MARK).exists() else ""
            shown = text.period(chosen.start, chosen.end, state.zone(), state.zone_name(), _now())
            with summary:
                badged(sample, f"{shown} · {text.rows(loaders.log_counts(chosen))}")


def _range() -> None:
    chosen = st.segmented_control(
        "Time range", state.RANGES, default=state.DEFAULT_RANGE, key=state.RANGE, bind="query-params", required=True,
        label_visibility="collapsed",
    )  # fmt: skip
    if chosen == "Custom":
        today = datetime.now(state.zone()).date()
        days = ((state.FIRST_DAY, "From", today - timedelta(days=29)), (state.LAST_DAY, "To", today))
        for key, label, day in days:
            st.date_input(
                label, value=day, key=key, bind="query-params", width=125, label_visibility="collapsed",
                format="YYYY-MM-DD",
            )  # fmt: skip


def _policies(policy: Policy, unfiltered: str) -> None:
    """The policies that made decisions, newest first, and the one in force."""
    # All by default: a policy saved a minute ago has no decisions yet, and charts replay the others' under it.
    names = {seen["fingerprint"]: seen["name"] for seen in loaders.policies_seen()}
    names.setdefault(policy.fingerprint, policy.name)
    shown = {state.ALL_POLICIES: unfiltered}
    shown |= {key: text.policy_option(key, value) for key, value in names.items()}
    st.selectbox(
        "Policy", list(shown), key=state.POLICY, format_func=lambda key: shown.get(key, key), bind="query-params",
        width=150, label_visibility="collapsed",
    )  # fmt: skip


def _names(policy: Policy) -> None:
    labels = _ordered(policy.label_names, loaders.labels_seen())
    models = _ordered(policy.model_names, loaders.models_seen())
    for key, name, options, placeholder in (
        (state.LABELS, "Labels", labels, text.ALL_LABELS),
        (state.MODELS, "Models", models, text.ALL_MODELS),
    ):
        st.multiselect(
            name, options, key=key, bind="query-params", placeholder=placeholder, width=140,
            label_visibility="collapsed",
        )  # fmt: skip


def _ordered(first: Sequence[str], then: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*first, *then]))


def _zone() -> None:
    st.toggle(text.ZONE, key=state.ZONE, bind="query-params")


def _candidate(policy: Policy) -> None:
    value = state.candidate_to_show()
    st.number_input(
        text.CANDIDATE, min_value=0.0, max_value=1.0, value=policy.threshold, step=0.001, key=state.CANDIDATE, width=130,
        format="%.3f" if round(value, 3) == value else "%.4f", bind="query-params",
    )  # fmt: skip


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
