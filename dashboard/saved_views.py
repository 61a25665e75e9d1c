"""Saved views: a page with its whole address under a name, kept in the log, so that everybody who reads it has them."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlencode

import streamlit as st

from dashboard import loaders, state, text, untrusted
from dashboard.components.address_link import address_link
from dashboard.writing import write
from router.log.record import view_payload
from router.log.views import SavedView, newest

NAME, PROBLEM, SAID = "view_name", "view_problem", "views_said"
"""Keys of the session: the name being typed, what went wrong, and what was saved or taken away that the log may not show yet."""

LONGEST_NAME = 60
LONGEST_QUERY = 4000


def saved() -> list[SavedView]:
    """Every view, by name; what this session has just said counts at once."""
    held = {view.name: view for view in newest(loaders.get_log())}
    for name, own in st.session_state.get(SAID, {}).items():
        if name not in held or own.saved_at >= held[name].saved_at:
            held[name] = own
    known = (view for view in held.values() if view.query is not None and view.page in state.VIEWS)
    return sorted(known, key=lambda view: (view.name.casefold(), view.name))


def save(page: str) -> None:
    """Keep the page as it is now under the name that was typed; for callbacks. A name that is there is given the new view."""
    name = " ".join(str(st.session_state.get(NAME) or "").split())
    query = urlencode({key: st.query_params.get_all(key) for key in st.query_params}, doseq=True)
    if not name or len(name) > LONGEST_NAME or untrusted.visible(name) != name:
        st.session_state[PROBLEM] = text.VIEW_NAME.format(LONGEST_NAME)
        return
    if len(query) > LONGEST_QUERY:
        st.session_state[PROBLEM] = text.VIEW_TOO_LONG
        return
    if _say(SavedView(name, page, query, _now())):
        st.session_state[NAME] = ""


def remove(view: SavedView) -> None:
    """Take a view away; for callbacks."""
    _say(SavedView(view.name, view.page, None, _now()))


def draw(page: str) -> None:
    """The list, and what saves the page in view."""
    found = saved()
    if not found:
        st.caption(text.NO_VIEWS)
    for view in found:
        with st.container(horizontal=True, vertical_alignment="center", wrap=False):
            address_link(
                untrusted.visible(view.name),
                page="" if view.page == "overview" else view.page,
                query=view.query or "",
                help=text.PAGE_TITLES[view.page],
                key=f"view_go_{view.name}",
            )
            st.button(
                "",
                icon=":material/close:",
                key=f"view_remove_{view.name}",
                type="tertiary",
                help=text.REMOVE_VIEW,
                on_click=remove,
                args=(view,),
            )
    with st.container(horizontal=True, vertical_alignment="bottom", wrap=False):
        st.text_input(text.VIEW_LABEL, key=NAME, max_chars=LONGEST_NAME, width=170)
        st.button(text.SAVE_VIEW, key="view_save", on_click=save, args=(page,), width="content")
    if problem := st.session_state.pop(PROBLEM, None):
        st.caption(problem)


def _say(view: SavedView) -> bool:
    record = view_payload(view.name, view.page, view.query, view.saved_at)
    if not write(lambda writer: writer.append(record)):
        st.session_state[PROBLEM] = text.VIEW_NOT_WRITTEN
        return False
    st.session_state[SAID] = {**st.session_state.get(SAID, {}), view.name: view}
    return True


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
