"""Text that came from outside (prompts, replies, names in imported rows) on its way to the screen.

Markdown near a prompt fetches images and makes live links, Plotly's text makes live links, and some characters change
what a reader sees without being seen. So prompts are shown by ``show_prompt`` alone, plotted through ``plot_text``,
put into tables through ``cell``, and named inside a sentence through ``name``.
"""

from __future__ import annotations

import re

import streamlit as st

SHOWN_CHARACTERS = 20_000
"""Most characters of one prompt that are sent to the browser."""
CELL_CHARACTERS = 200
PLOT_CHARACTERS = 60
NAME_CHARACTERS = 64

_HIDDEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and newline
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f"  # zero width, line separators, bidirectional controls
    "\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\uffff"
    "\ud800-\udfff"  # lone surrogates cannot be sent as UTF-8 at all
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # tags and variation selectors can hide a whole text
    "]"
)
# A joiner inside an emoji, or between letters of scripts that spell with it, is writing and not a trick.
_JOINED = re.compile(
    "(?<=[\u2600-\u27bf\ufe0f\U0001f000-\U0001faff])\u200d(?=[\u2600-\u27bf\U0001f000-\U0001faff])"
    "|(?<=[\u0600-\u08ff\u0900-\u0dff])[\u200c\u200d](?=[\u0600-\u08ff\u0900-\u0dff])"
)
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~<>&$:\^=\"'])")
_AUTOLINK = re.compile(r"(://|@|www(?=\.))", re.IGNORECASE)


def visible(text: str) -> str:
    """The text with every character that hides or reorders others written as its code point.

    >>> visible("pay" + chr(0x202E) + "txt")
    'pay⟦U+202E⟧txt'
    """
    text = text.replace("\r\n", "\n")
    kept = {match.start() for match in _JOINED.finditer(text)}

    def mark(match: re.Match[str]) -> str:
        return match.group() if match.start() in kept else f"⟦U+{ord(match.group()):04X}⟧"

    return _HIDDEN.sub(mark, text)


def cut(text: str, limit: int) -> str:
    """At most ``limit`` characters, with an ellipsis where something is missing."""
    return text if len(text) <= limit else text[: max(limit - 1, 0)].rstrip() + "…"


def one_line(text: str) -> str:
    """Line breaks and tabs as one visible mark, other runs of spaces as one space."""
    return re.sub(r"[ \xa0]+", " ", re.sub(r"\s*[\r\n]+\s*", " ↵ ", text.strip().replace("\t", " ")))


def cell(text: str | None, limit: int = CELL_CHARACTERS) -> str | None:
    """A prompt in a table cell: one line, cut, hidden characters marked. None stays None (not stored)."""
    if text is None:
        return None
    return cut(visible(one_line(text[: 4 * limit])), limit)


def prompt_cell(prompt: object) -> str:
    """A prompt in a table cell, or that it was not stored (None, or the NaN of a DataFrame).

    >>> prompt_cell("hi"), prompt_cell(None)
    ('hi', 'not stored')
    """
    return (cell(prompt) or "") if isinstance(prompt, str) else "not stored"


def plot_text(text: object, limit: int = PLOT_CHARACTERS) -> str:
    """Text for Plotly, whose strings are a small HTML: escaped, one line, cut.

    >>> plot_text('<a href="http://x">y</a>')
    '&lt;a href="http://x"&gt;y&lt;/a&gt;'
    """
    plain = cell(str(text), limit) or ""
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def name(text: object, limit: int = NAME_CHARACTERS) -> str:
    """A label's or model's name inside a markdown sentence: every mark escaped, no link made of it."""
    plain = cell(str(text), limit) or ""
    # Streamlit finds addresses after the escapes were read, so a word joiner has to part them.
    return (
        _AUTOLINK.sub("\\1\u2060", plain)
        if plain.isalnum()
        else _MARKDOWN.sub(r"\\\1", _AUTOLINK.sub("\\1\u2060", plain))
    )


def words(text: str, limit: int = 300) -> str:
    """A piece of a markdown sentence, escaped like ``name``; a space at either end stays."""
    return f"{' ' * text.startswith(' ')}{name(text, limit)}{' ' * text.endswith(' ')}"


def show_prompt(text: str | None, *, chars: int | None = None, height: int | None = None) -> None:
    """Draw a prompt or a reply as plain text.

    Parameters
    ----------
    chars : length of the whole text when only a part was stored.
    height : pixels, scrolling inside; None: as high as the text.
    """
    if text is None:
        st.caption("The prompt was not stored.")
        return
    whole = len(text) if chars is None else max(chars, len(text))
    shown = text[:SHOWN_CHARACTERS]
    st.code(
        visible(shown) or " ", language=None, wrap_lines=True, height="content" if height is None else height
    )
    if whole > len(shown):
        st.caption(f"The first {len(shown):,} of {whole:,} characters.")


def show_reply(text: str) -> None:
    """Draw a model's reply; never as markdown, which could fetch what the reply names."""
    st.text(visible(text[:SHOWN_CHARACTERS]) or " ")
    if len(text) > SHOWN_CHARACTERS:
        st.caption(f"The first {SHOWN_CHARACTERS:,} of {len(text):,} characters.")
