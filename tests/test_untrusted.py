"""Text from outside on its way to the screen, and the rule that no page lets it in by another door."""

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard import untrusted

SOURCES = sorted(Path(dashboard.__file__).parent.rglob("*.py"))

HIDDEN = [
    "\x00", "\x07", "\x1b", "\x7f", "\x85", "\u00ad", "\u061c", "\u180e", "\u200b", "\u200e", "\u2028", "\u202e",
    "\u2060", "\u2066", "\u3164", "\ufe01", "\ufeff", "\ufff9", "\ud800", "\U000e0041", "\U000e0100",
]  # fmt: skip


@pytest.mark.parametrize("char", HIDDEN, ids=lambda c: f"U+{ord(c):04X}")
def test_a_character_that_hides_or_reorders_is_written_as_its_code_point(char):
    assert untrusted.visible(f"a{char}b") == f"a⟦U+{ord(char):04X}⟧b"


@pytest.mark.parametrize(
    "text", ["line\nline\ttab", "naïve café", "日本語", "👨‍👩‍👧 ❤️", "می‌خواهم", "क्‍ष", "a−b … “quoted”"]
)
def test_ordinary_writing_is_left_as_it_is(text):
    assert untrusted.visible(text) == text


def test_a_windows_line_break_is_a_line_break_and_a_lone_return_is_marked():
    assert untrusted.visible("a\r\nb\rc") == "a\nb⟦U+000D⟧c"


@given(st.text(st.characters(exclude_categories=())))
def test_whatever_comes_in_can_be_sent_as_utf8(text):
    for shown in (
        untrusted.visible(text),
        untrusted.cell(text),
        untrusted.plot_text(text),
        untrusted.name(text),
    ):
        shown.encode("utf-8")


@given(st.text(), st.integers(2, 80))
def test_a_cell_is_one_line_within_its_limit(text, limit):
    shown = untrusted.cell(text, limit)
    assert "\n" not in shown
    assert "\r" not in shown
    assert len(shown) <= limit


@given(st.text("<>&\"'ab/= \n"))
def test_no_tag_survives_on_the_way_to_a_chart(text):
    shown = untrusted.plot_text(text)
    assert "<" not in shown
    assert ">" not in shown


def test_a_name_in_a_sentence_makes_no_link_no_image_and_no_formula():
    shown = untrusted.name("![x](http://evil.test/a.png) $a$ www.evil.test me@evil.test :red[b]")
    assert "![" not in shown
    assert "](" not in shown
    # A word joiner after these keeps Streamlit's own address finder, which runs after the escapes, from matching.
    assert "://e" not in shown.replace("\\", "")
    assert "www." not in shown.replace("\\", "")
    assert "@evil" not in shown.replace("\\", "")
    assert "$" not in shown.replace("\\$", "")
    assert untrusted.name("claude-opus-4-6") == "claude\\-opus\\-4\\-6"


def test_a_prompt_is_drawn_as_code_and_a_cut_says_so():
    def script():
        from dashboard import untrusted

        untrusted.show_prompt("![x](http://evil.test/a.png)\u202e" + "y" * 30_000)
        untrusted.show_prompt(None)
        untrusted.show_reply("# not a heading")

    page = AppTest.from_function(script).run()
    assert not page.exception
    assert page.code[0].value.startswith("![x](http://evil.test/a.png)⟦U+202E⟧yyy")
    assert page.code[0].language in ("", "plaintext", None)
    assert page.text[0].value == "# not a heading"
    assert [caption.value for caption in page.caption] == [
        "The first 20,000 of 30,029 characters.", "The prompt was not stored.",
    ]  # fmt: skip
    assert not page.markdown


FORBIDDEN = {"write", "write_stream", "exception", "table", "html", "iframe", "latex", "echo", "json_chart"}
MARKDOWN = {
    "markdown", "caption", "title", "header", "subheader", "error", "warning", "info", "success", "toast", "badge",
    "metric", "expander", "button", "download_button", "popover", "link_button", "page_link", "tabs", "pills",
}  # fmt: skip
SAFE_MODULES = {"text", "formats", "theme", "untrusted", "describe"}
"""Modules whose functions return markdown with data already escaped."""


def _calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node, node.func.attr, ast.unparse(node.func.value)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_file_uses_an_element_that_renders_what_it_is_given(path):
    found = [
        f"{path.name}:{node.lineno} {root}.{name}"
        for node, name, root in _calls(ast.parse(path.read_text(encoding="utf-8")))
        if ((root == "st" or root.startswith("st.")) and name in FORBIDDEN)
        or any(word.arg == "unsafe_allow_html" for word in node.keywords)
    ]
    assert found == []


RAW = ("prompt", "text", "reply", "row", "scores", "session_id", "error_type", "note")
"""Names under which data from the log travels; a bare one in markdown is an open door."""


def _raw_names(node):
    """Names of log data in an expression, those inside a call of a module that escapes left out."""
    if isinstance(node, ast.Call):
        root = ast.unparse(node.func).split(".")[0]
        if root in SAFE_MODULES or root in ("len", "int", "round", "name", "_name"):
            return
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in SAFE_MODULES:
        return  # text.ALL_LABELS
    if isinstance(node, ast.Name) and node.id in RAW:
        yield node.id
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value in RAW:
        yield str(node.slice.value)
    for child in ast.iter_child_nodes(node):
        yield from _raw_names(child)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_file_puts_log_data_into_markdown_unescaped(path):
    found = []
    for node, name, root in _calls(ast.parse(path.read_text(encoding="utf-8"))):
        shown = [node.args[0]] if name in MARKDOWN and node.args and root not in SAFE_MODULES else []
        shown += [word.value for word in node.keywords if word.arg in ("help", "delta_description")]
        found += [
            f"{path.name}:{node.lineno} {root}.{name}({raw})" for part in shown for raw in _raw_names(part)
        ]
    assert found == []


def test_the_rule_sees_what_it_forbids():
    tree = ast.parse('st.caption(f"{row[0]}")\nst.caption(untrusted.name(prompt))\nst.caption(text.ALL)')
    found = [list(_raw_names(node.args[0])) for node, *_ in _calls(tree) if node.func.attr == "caption"]
    assert found == [["row"], [], []]
