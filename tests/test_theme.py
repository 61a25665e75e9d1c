"""Colours: slots that never move, contrasts that hold, tokens that Streamlit and Plotly accept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import theme

NAMES = st.lists(
    st.sampled_from(["simple", "coding", "reasoning", "creative", *"abcdefghijklmnop"]), max_size=20
)


def test_the_seeds_names_have_their_reserved_slots_in_any_order():
    assert theme.label_slots(["creative", "simple", "reasoning", "coding"]) == {
        "simple": 1, "coding": 2, "reasoning": 3, "creative": 4,
    }  # fmt: skip
    assert theme.model_slots(["gpt-4o", "claude-opus-4-6"]) == {"gpt-4o": 9, "claude-opus-4-6": 10}


def test_other_names_take_labels_from_one_up_and_models_from_twelve_down():
    assert list(theme.label_slots(["x", "y", "z"]).values()) == [1, 2, 3]
    assert list(theme.model_slots(["x", "y", "z"]).values()) == [12, 11, 10]


@given(NAMES, st.sampled_from("qrs"))
def test_a_new_name_never_moves_the_colour_of_an_earlier_one(names, new):
    for slots in (theme.label_slots, theme.model_slots):
        before = slots(names)
        assert {name: slot for name, slot in slots([*names, new]).items() if name in before} == before
        assert len(set(before.values())) == len(before)


def test_the_thirteenth_label_is_grey():
    names = [f"label-{number}" for number in range(13)]
    assert "label-12" not in theme.label_slots(names)
    assert theme.label_color("label-12", names, dark=False) == theme.colors(False).other


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_and_marks_reach_their_contrast_on_page_and_card(dark):
    colors = theme.colors(dark)
    slots = theme.tokens()["slots"]["dark" if dark else "light"]
    for ground in (colors.page, colors.card):
        for text in (
            colors.text,
            colors.muted,
            colors.error,
            colors.better,
            colors.worse,
            colors.fallback_text,
        ):
            assert theme.contrast(text, ground) >= 4.5, (text, ground)
        for mark in (
            *slots,
            colors.candidate,
            colors.production,
            colors.fallback,
            colors.served,
            colors.other,
        ):
            assert theme.contrast(mark, ground) >= 3.0, (mark, ground)


def test_white_text_on_every_chip_and_grade_reaches_its_contrast():
    for color in (*theme.tokens()["slots"]["chip"], *theme.tokens()["grade"].values()):
        assert theme.contrast("#ffffff", color) >= 4.5, color


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("share", [i / 20 for i in range(21)])
def test_text_on_the_ramp_of_a_matrix_can_be_read(dark, share):
    ground = theme.ramp(share, dark)
    assert theme.contrast(theme.text_on(ground), ground) >= 4.5


def test_contrast_is_the_wcag_formula():
    assert theme.contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert theme.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the well-known near miss


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_template_draws_a_figure_in_the_themes_colours(dark):
    import plotly.graph_objects as go

    figure = go.Figure(
        go.Bar(x=[1], y=[1], marker_pattern=theme.hatch(dark)), layout={"template": theme.template(dark)}
    )
    layout = figure.to_dict()["layout"]["template"]["layout"]
    assert layout["font"]["color"] == theme.colors(dark).text
    assert layout["paper_bgcolor"] == "rgba(0,0,0,0)"
    assert layout["colorway"][0] == theme.label_color("simple", dark=dark)


def test_every_option_of_the_tokens_is_one_that_streamlit_knows():
    from streamlit import config

    known = config._config_options_template
    assert [name for name in theme.streamlit_options() if name not in known] == []
    assert theme.streamlit_options()["theme.light.primaryColor"] == theme.colors(False).candidate


def test_chips_hold_every_label_with_its_own_colour():
    chips = theme.chips(["creative", "simple"], ["simple", "coding", "reasoning", "creative"])
    assert chips["options"] == ["simple", "coding", "reasoning", "creative"]
    assert chips["color"] == list(theme.tokens()["slots"]["chip"][:4])
