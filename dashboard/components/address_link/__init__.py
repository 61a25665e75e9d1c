"""A link to an address of this dashboard that opens as if it had been typed: the page starts anew from what the address says.

``st.page_link`` does not: inputs that stand on every page keep what they hold, and write that into the new address.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

import streamlit as st


def address_link(label: str, *, page: str, query: str, help: str, key: str) -> None:
    """Draw the link. The label is shown as plain text; ``page`` is a page's path below the server's root, ``query`` without "?"."""
    _component()(
        key=key,
        data={"label": label, "page": page, "query": query, "help": help},
        width="stretch",
        height="content",
    )


def _component() -> Any:
    folder = resources.files(__package__)
    return st.components.v2.component(
        "routescope_address_link",
        css=folder.joinpath("address_link.css").read_text(encoding="utf-8"),
        js=folder.joinpath("address_link.js").read_text(encoding="utf-8"),
        isolate_styles=True,
    )
