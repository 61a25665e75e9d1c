"""A hidden component that reruns the page when the reader's theme switches."""

from __future__ import annotations

from importlib import resources

import streamlit as st


def repaint() -> None:
    """Mount it last on the page: it takes one gap of height. Plotly figures keep the old theme's colours otherwise."""
    script = resources.files(__package__).joinpath("repaint.js").read_text(encoding="utf-8")
    component = st.components.v2.component("routescope_repaint", js=script)
    component(key="repaint", height=1, on_theme_change=_nothing)


def _nothing() -> None:
    """The rerun that the message causes is all that is wanted."""
