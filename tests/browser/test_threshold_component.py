"""The threshold component in a real Chromium, driven by a real mouse and keyboard."""

from __future__ import annotations

import json
import math
import re
import statistics
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Page
from served import demo, free_port

from dashboard.components.threshold import CELL_COLUMNS, cheapest, payload
from router.analysis.binomial import clopper_pearson
from router.analysis.judgements import Audit
from router.analysis.quality import ENOUGH_SERVED, quality
from router.policy import GRID, Policy, confidence_bin, decide
from router.types import Label

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)>"
MODELS = ("small", "large", "middle", HOSTILE)
LONG = "claude-opus-4-6-latest"
RATES = {"small": 0.4, "large": 6.0, "middle": 2.0, HOSTILE: 3.0}
NAMES = ("simple", "reasoning", "creative", "other")
ANSWERS = dict(zip(NAMES, ("small", "large", "middle", HOSTILE), strict=True))
COLORS = {name: i for i, name in enumerate(NAMES, 1)}
POLICY = Policy(
    labels=tuple(Label(name, f"Is it {name}?", ANSWERS[name]) for name in NAMES),
    threshold=0.55,
    fallback_model="middle",
    baseline="large",
)
OWN = Policy(
    labels=tuple(
        Label(x.name, x.rubric, x.model, threshold=0.6 if x.name == "creative" else None)
        for x in POLICY.labels
    ),
    threshold=0.55,
    fallback_model="middle",
    baseline="large",
)
MANY = Policy(
    labels=tuple(Label(f"label {i:02}", "Is it?", "small") for i in range(12)),
    threshold=0.55,
    fallback_model="middle",
    baseline="large",
)
PAGE = """
import json
from pathlib import Path
import streamlit as st
from dashboard.components.threshold import threshold_curve

st.set_page_config(layout="wide")
case = st.query_params.get("case", "plain")
body = json.loads((Path(__file__).parent / f"{case}.json").read_text())

def pull():
    st.session_state["pulls"] = st.session_state.get("pulls", 0) + 1
    st.session_state["t"] = st.session_state["curve"]["t"]

if "t" not in st.session_state:
    st.session_state["t"] = 0.64
t = st.number_input("Candidate", 0.0, 1.0, step=0.001, format="%.4f", key="t", bind="query-params", width=160)
threshold_curve(body, candidate=t, key="curve", on_change=pull)
st.text(f"server has {t:.4f} after {st.session_state.get('pulls', 0)}")
"""


def raw_rows(n: int = 20_000, seed: int = 7) -> pd.DataFrame:
    """Decisions one by one: label, confidence, and what each model would have cost."""
    generator = np.random.default_rng(seed)
    label = generator.choice(4, n, p=[0.5, 0.2, 0.2, 0.1])
    confidence = 0.15 + 0.85 * generator.beta(np.array([9, 7, 5, 6])[label], np.array([2, 4, 4, 5])[label])
    confidence[:200] = np.round(confidence[:200], 2)  # atoms, as real classifiers give them
    tokens = generator.gamma(2, 500, n)
    rows = pd.DataFrame({"label": np.array(NAMES)[label], "confidence": confidence})
    rows["model"] = rows["label"].map(ANSWERS)
    for model, rate in RATES.items():
        rows[model] = tokens * rate / 1e6 * generator.uniform(0.8, 1.2, n)
    rows["own"] = [row[row["model"]] for row in rows.to_dict("records")]
    return rows


def cells_of(rows: pd.DataFrame, policy: Policy = POLICY, priced: np.ndarray | None = None) -> pd.DataFrame:
    """The roll-up, made here row by row."""
    known = np.ones(len(rows)) if priced is None else priced.astype(float)
    answers = {x.name: x.model for x in policy.labels}
    own = np.array([row[answers[row["label"]]] for row in rows.to_dict("records")])
    label, fallback, baseline = (
        own * known,
        rows[policy.fallback_model] * known,
        rows[str(policy.baseline)] * known,
    )
    table = pd.DataFrame(
        {
            "label": rows["label"],
            "bin": [confidence_bin(x) for x in rows["confidence"]],
            "n": 1,
            "n_priced": known.astype(int),
            "label_cost": label,
            "fallback_cost": fallback,
            "baseline_cost": baseline,
            "label_cost_sq": label**2,
            "fallback_cost_sq": fallback**2,
            "baseline_cost_sq": baseline**2,
            "label_fallback": label * fallback,
            "label_baseline": label * baseline,
            "fallback_baseline": fallback * baseline,
            "classifier_cost": 0.00002 * known,
        }
    )
    return table.groupby(["label", "bin"], as_index=False).sum()[list(CELL_COLUMNS)]


def full_cells() -> pd.DataFrame:
    """Four labels with a decision in each of the 10,001 bins."""
    bins = np.tile(np.arange(GRID + 1), 4)
    table = pd.DataFrame(
        {"label": np.repeat(NAMES, GRID + 1), "bin": bins, "n": 50, "n_priced": 50, "classifier_cost": 0.0}
    )
    for i, name in enumerate(CELL_COLUMNS[4:-1]):
        table[name] = 0.01 + 0.001 * ((bins * (i + 3)) % 7)
    return table


ROWS = raw_rows()
CHEAP = ROWS[ROWS["label"].isin(["reasoning", "other"])].head(2000)
CHEAP = CHEAP.assign(
    confidence=CHEAP["confidence"].clip(upper=0.9).where(CHEAP.index != CHEAP.index[0], 0.9995)
)
"""Decisions that cost less the more of them fall back, the surest one included."""
WILD = ROWS.head(12).assign(**{x: ROWS[x].head(12) * np.array([1] * 11 + [4000]) for x in (*MODELS, "own")})
"""One decision that costs more than all others: the interval of the mean reaches below nothing."""


_DRAWN = ROWS.iloc[np.random.default_rng(5).choice(len(ROWS), 400, replace=False)]
AUDIT = Audit(
    label=_DRAWN["label"].to_numpy(object),
    confidence=_DRAWN["confidence"].to_numpy(),
    loss=np.random.default_rng(6).random(len(_DRAWN)) > _DRAWN["confidence"].to_numpy(),
    queue=np.full(len(_DRAWN), "audit", dtype=object),
)
"""A uniform sample of the decisions, judged: the surer one was, the oftener it is right."""


@pytest.fixture(scope="module")
def site(serve_script: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with the component, one payload a case, in the product's theme."""
    folder = tmp_path_factory.mktemp("threshold")
    cells = cells_of(ROWS)
    some = np.random.default_rng(1).random(len(ROWS)) < 0.6
    money = CELL_COLUMNS[4:]
    many = cells_of(ROWS.assign(label=[f"label {i % 12 if i % 3 else 0:02}" for i in range(len(ROWS))]), MANY)
    bodies = {
        "plain": payload(cells, POLICY, candidate=0.64, colors=COLORS, unscored=12),
        "full": payload(full_cells(), POLICY, candidate=0.64, colors=COLORS),
        "unpriced": payload(
            cells.assign(n_priced=0, **dict.fromkeys(money, np.nan)),
            POLICY,
            candidate=0.64,
            colors=COLORS,
            models={"large": {"priced": False}},
        ),
        "partial": payload(cells_of(ROWS, priced=some), POLICY, candidate=0.64, colors=COLORS),
        "own": payload(cells_of(ROWS, OWN), OWN, candidate=0.64, colors=COLORS),
        "reviewed": payload(cells, POLICY, candidate=0.64, colors=COLORS, reviewed=17),
        "part": payload(cells, POLICY, candidate=0.64, colors=COLORS, reviewed=60, part=True),
        "fallback": payload(cells_of(CHEAP), POLICY, candidate=0.64, colors=COLORS),
        "wild": payload(cells_of(WILD), POLICY, candidate=0.64, colors=COLORS),
        "many": payload(many, MANY, candidate=0.64, colors={}),
        "empty": payload(cells.head(0), POLICY, candidate=0.64, colors=COLORS),
        "one": payload(cells_of(ROWS.head(1)), POLICY, candidate=0.64, colors=COLORS),
        "audited": payload(cells, POLICY, candidate=0.64, colors=COLORS, quality=quality(AUDIT, POLICY)),
        "unknown": payload(
            cells.assign(classifier_cost=np.nan),
            POLICY,
            candidate=0.64,
            colors=COLORS,
        ),
    }
    bodies["long"] = {**bodies["partial"], "baseline": LONG, "version": "long"}
    for name, body in bodies.items():
        (folder / f"{name}.json").write_text(json.dumps(body))
    script = folder / "page.py"
    script.write_text(PAGE)
    return str(serve_script(script, options=theme_options()))


def theme_options() -> dict[str, object]:
    """The theme of the product, where it has been laid down; lists go by the file alone and are left out here."""
    tokens = resources.files("dashboard").joinpath("tokens.toml")
    if not tokens.is_file():
        return {}
    theme = tomllib.loads(tokens.read_text(encoding="utf-8")).get("streamlit", {}).get("theme", {})
    flat = {f"theme.{k}": v for k, v in theme.items() if not isinstance(v, dict | list)}
    for mode in ("light", "dark"):
        flat |= {f"theme.{mode}.{k}": v for k, v in theme.get(mode, {}).items() if not isinstance(v, list)}
    return {k: str(v).lower() if isinstance(v, bool) else v for k, v in flat.items()}


class Curve:
    """The component on an open page, as a reader sees and handles it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.sent = page, [0]
        page.on(
            "websocket",
            lambda socket: socket.on("framesent", lambda _: self.sent.__setitem__(0, self.sent[0] + 1)),
        )
        page.goto(url)
        page.locator(".threshold[data-server]").wait_for(state="attached")
        self.slider = page.get_by_role("slider", name="Candidate threshold")

    def figure(self, name: str) -> str:
        """All text of a figure of the strip."""
        box = self.page.get_by_role("group", name=name, exact=False).and_(self.page.locator(".figure"))
        return " ".join(box.inner_text().split())

    def value(self) -> float:
        return float(self.slider.input_value())

    def x_of(self, threshold: float) -> tuple[float, float]:
        """Where a threshold lies on the screen, read from the range input alone."""
        box = self.slider.bounding_box()
        assert box is not None
        low, high = float(self.slider.get_attribute("min") or 0), float(self.slider.get_attribute("max") or 1)
        return box["x"] + 14 + (threshold - low) / (high - low) * (box["width"] - 28), box["y"] - 200

    def settle(self, threshold: float) -> None:
        """Wait until the server has answered with this threshold."""
        self.page.get_by_text(f"server has {threshold:.4f}").wait_for()

    def drag(self, start: float, *stops: float) -> None:
        """Press at a threshold and move through others; the button stays down."""
        self.page.mouse.move(*self.x_of(start))
        self.page.mouse.down()
        for stop in stops:
            self.page.mouse.move(*self.x_of(stop), steps=12)


@pytest.fixture
def curve(open_page: Any, site: str) -> Any:
    def open_case(case: str = "plain", *, t: str = "", **options: Any) -> Curve:
        return Curve(open_page(**options), f"{site}/?case={case}" + (f"&t={t}" if t else ""))

    return open_case


def replay(threshold: float, rows: pd.DataFrame = ROWS, policy: Policy = POLICY) -> dict[str, float]:
    """The figures, from the rows one by one under the one rule, with textbook formulas."""
    limits = {
        x.name: policy.threshold_for(x.name) if x.threshold is not None else threshold for x in policy.labels
    }
    fallback = np.array(
        [c < limits[label] for c, label in zip(rows["confidence"], rows["label"], strict=True)]
    )
    own = rows["own"].to_numpy()
    routed = np.where(fallback, rows[policy.fallback_model], own) + 0.00002
    baseline = rows[str(policy.baseline)].to_numpy()
    share = 1 - routed.sum() / baseline.sum()
    residual = routed - (1 - share) * baseline
    n = len(rows)
    return {
        "share": fallback.mean(),
        "fallback": int(fallback.sum()),
        "cost": 1000 * routed.mean(),
        "half": 1000 * 1.96 * routed.std(ddof=1) / math.sqrt(n),
        "savings": share,
        "savings_half": 1.96 * residual.std(ddof=1) / math.sqrt(n) / baseline.mean(),
    }


def module_text(*names: str) -> str:
    folder = resources.files("dashboard.components.threshold")
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)


def in_module(page: Page, names: tuple[str, ...], body: str, argument: Any) -> Any:
    """Run JavaScript with the exports of some of the component's files as ``m``."""
    source = """async ([text, body, argument]) => {
        const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
        const m = await import(url);
        return new Function("m", "argument", body)(m, argument);
    }"""
    return page.evaluate(source, [module_text(*names), body, argument])


def test_the_rule_and_its_bins_are_those_of_the_router_at_every_threshold(open_page: Any) -> None:
    edges = [k / GRID for k in range(GRID + 1)]
    near = [[math.nextafter(x, 0.0), x, min(math.nextafter(x, 1.0), 1.0)] for x in edges]
    found = in_module(
        open_page(),
        ("rule.js",),
        """
        return argument.map((values, k) => values.map((c) => [m.confidenceBin(c), m.isFallback(c, k / m.GRID)]));
    """,
        near,
    )
    label = Label("a", "Is it?", "small")
    wrong = []
    for k, values in enumerate(near):
        policy = Policy(labels=(label,), threshold=edges[k], fallback_model="middle")
        for confidence, (bin_, falls) in zip(values, found[k], strict=True):
            expected = decide({"a": confidence}, policy).is_fallback
            if (bin_, falls) != (confidence_bin(confidence), expected) or expected != (bin_ < k):
                wrong.append((confidence, bin_, falls))
    assert wrong == []


def test_thresholds_bins_and_prefix_sums_agree_with_plain_counting(open_page: Any) -> None:
    bins = sorted(set(np.random.default_rng(2).integers(0, GRID + 1, 500).tolist()))
    found = in_module(
        open_page(),
        ("rule.js",),
        """
        const sums = m.cumulative(argument.map((x) => x + 0.5));
        return Array.from({ length: m.GRID + 1 }, (_, k) => [m.binOf(k / m.GRID), sums[m.binsBelow(argument, k)]]);
    """,
        bins,
    )
    assert found == [[k, sum(x + 0.5 for x in bins if x < k)] for k in range(GRID + 1)]


def test_operating_points_equal_the_rows_replayed(open_page: Any) -> None:
    body = payload(cells_of(ROWS), POLICY, candidate=0.64, colors=COLORS)
    at = [0, 1500, 2900, 5500, 5501, 6400, 7283, 9999, 10000]
    points = in_module(
        open_page(),
        ("rule.js", "model.js"),
        """
        const model = m.readModel(argument.body);
        return argument.at.map((k) => m.operatingPoint(model, k));
    """,
        {"body": body, "at": at},
    )
    for k, point in zip(at, points, strict=True):
        plain = replay(k / GRID)
        assert point["fallback"] == plain["fallback"]
        assert point["cost"] == pytest.approx(plain["cost"], rel=1e-9)
        assert point["savings"] == pytest.approx(plain["savings"], rel=1e-9)
        assert point["half"] == pytest.approx(plain["half"], rel=1e-4)
        assert point["savingsHalf"] == pytest.approx(plain["savings_half"], rel=1e-4)


@pytest.mark.parametrize("k", [4200, 5490, 5560, 6400, 9000])
def test_the_change_has_the_interval_of_its_own_rows(open_page: Any, k: int) -> None:
    body = payload(cells_of(ROWS), POLICY, candidate=k / GRID, colors=COLORS)
    found = in_module(
        open_page(),
        ("rule.js", "model.js"),
        """
        return m.difference(m.readModel(argument.body), argument.k, "middle");
    """,
        {"body": body, "k": k},
    )
    own = ROWS["own"].to_numpy()
    confidence = ROWS["confidence"].to_numpy()
    crossing = (confidence < k / GRID) != (confidence < 0.55)
    sign = 1 if k > 5500 else -1
    change = np.where(crossing, sign * (ROWS["middle"].to_numpy() - own), 0.0)
    base = ROWS["large"].to_numpy()
    ratio = change.sum() / base.sum()
    sure = abs(change.mean()) > 1.96 * change.std(ddof=1) / math.sqrt(len(ROWS))
    width = 1.96 * (change - ratio * base).std(ddof=1) / math.sqrt(len(ROWS)) / base.mean()
    assert (found["crossing"], found["changed"]) == (
        crossing.sum(),
        (crossing & (ROWS["model"] != "middle")).sum(),
    )
    assert found["cost"] == pytest.approx(1000 * change.mean(), rel=1e-9)
    assert found["savings"] == pytest.approx(-ratio, rel=1e-9)
    assert (found["costSure"], found["savingsSure"]) == (sure, abs(ratio) > width)


def test_numbers_are_written_the_house_way(open_page: Any) -> None:
    cases = [
        ["m.share(0.2254)", "22.5 %"],
        ["m.share(0)", "0.0 %"],
        ["m.share(0.0002)", "< 0.1 %"],
        ["m.share(1)", "100.0 %"],
        ["m.share(0.99999)", "> 99.9 %"],
        ["m.usd(3.149)", "$3.15"],
        ["m.usd(1776.6)", "$1,777"],
        ["m.usd(0.0123)", "$0.0123"],
        ["m.usd(0)", "$0.00"],
        ["m.usd(-3.149)", "−$3.15"],
        ["m.usd(0.00001)", "< $0.0001"],
        ["m.change(-6.52, 1, ' %')", "−6.5 %"],
        ["m.change(8.61, 1, ' pts')", "+8.6 pts"],
        ["m.change(0, 1, ' pts')", "no change"],
        ["m.change(0.01, 1, ' pts')", "< +0.1 pts"],
        ["m.change(-0.01, 1, ' pts')", "> −0.1 pts"],
        ["m.plusMinus(0.021, 2)", "± 0.02"],
        ["m.plusMinus(0.001, 2)", "± < 0.01"],
        ["m.count(184203)", "184,203"],
        ["m.threshold(6400)", "0.640"],
        ["m.threshold(6401)", "0.6401"],
        ["m.axisCount(2000)", "2k"],
        [
            "m.plateauText({ k: 7280, from: 6810, to: 7790 }, 'gpt')",
            "cheapest 0.728, within 1 % from 0.69 to 0.77",
        ],
        ["m.plateauText({ k: 10000, all: true }, 'gpt')", "cheapest 1.000: everything to gpt"],
        ["m.plateauText({ k: 10000, all: true })", "cheapest 1.000: everything falls back"],
        ["m.reviewsText({ reviews: [0, 20, 240] })", "a log cannot tell"],
        ["m.reviewsText({ reviews: [17, 20, 240] })", "17 of 20 reviews done"],
        ["m.reviewsText({ reviews: [60, 20, 240], part: true })", "audited from a part of this traffic"],
    ]
    found = in_module(
        open_page(),
        ("rule.js", "model.js", "format.js"),
        "return argument.map(([code]) => new Function('m', `return ${code}`)(m));",
        cases,
    )
    assert found == [expected for _, expected in cases]


@pytest.mark.parametrize("t", [0.3, 0.55, 0.6401, 0.9])
def test_the_strip_shows_what_the_rows_say(curve: Any, t: float) -> None:
    shown = curve(t=str(t))
    plain = replay(t)
    assert f"{100 * plain['share']:.1f} %" in shown.figure("Fallback share")
    assert f"${plain['cost']:.2f} ± {plain['half']:.2f}" in shown.figure("Cost per 1,000 decisions")
    assert f"{100 * plain['savings']:.1f} % ± {100 * plain['savings_half']:.1f}".replace(
        "-", "−"
    ) in shown.figure("Savings, baseline all large")
    assert shown.figure("Quality") == "Quality Not measured a log cannot tell"
    name = f"{t:.3f}" if round(t * GRID) % 10 == 0 else f"{t:.4f}"
    assert (
        shown.slider.get_attribute("aria-valuetext")
        == f"{name}: {100 * plain['share']:.1f} % fall back, ${plain['cost']:.2f} per 1,000"
    )


def test_a_drag_changes_the_numbers_before_release_and_sends_one_message(curve: Any) -> None:
    shown = curve()
    before = shown.figure("Cost per 1,000 decisions")
    sent = shown.sent[0]
    shown.drag(0.64, 0.8, 0.72)
    assert shown.value() == pytest.approx(0.72, abs=0.0011)
    during = replay(shown.value())
    assert f"${during['cost']:.2f}" in shown.figure("Cost per 1,000 decisions") != before
    assert f"{100 * during['share']:.1f} %" in shown.figure("Fallback share")
    assert shown.page.get_by_text("server has 0.6400 after 0").count() == 1
    assert shown.sent[0] == sent, "messages while dragging"
    dropped = shown.value()
    shown.page.mouse.up()
    shown.settle(dropped)
    assert shown.sent[0] == sent + 1, "messages after release"
    assert shown.value() == dropped == round(dropped, 3)
    assert f"t={dropped:g}" in shown.page.url


def test_the_whole_plot_takes_the_line_and_a_click_without_a_change_sends_nothing(curve: Any) -> None:
    shown = curve()
    sent = shown.sent[0]
    shown.drag(0.64)
    shown.page.mouse.up()
    x, y = shown.x_of(0.5)
    shown.page.mouse.click(x, y - 180)
    shown.settle(shown.value())
    assert (shown.value(), shown.sent[0]) == (pytest.approx(0.5, abs=0.0011), sent + 1)


def test_shift_drags_on_the_fine_grid_and_escape_takes_the_drag_back(curve: Any) -> None:
    shown = curve()
    sent = shown.sent[0]
    shown.page.keyboard.down("Shift")
    fine = set()
    shown.drag(0.64)
    x, y = shown.x_of(0.64)
    for dx in range(1, 40):
        shown.page.mouse.move(x + dx, y)
        fine.add(round(shown.value() * GRID) % 10)
    assert len(fine) > 3
    shown.page.keyboard.up("Shift")
    shown.page.keyboard.press("Escape")
    assert shown.value() == 0.64
    shown.page.mouse.up()
    assert shown.sent[0] == sent


def test_keys_move_the_line_and_send_on_release_of_the_key(curve: Any) -> None:
    shown = curve()
    shown.slider.focus()
    sent = shown.sent[0]
    steps = [
        ("ArrowRight", 0.641),
        ("ArrowUp", 0.642),
        ("ArrowLeft", 0.641),
        ("ArrowDown", 0.64),
        ("PageUp", 0.72),
        ("PageDown", 0.64),
        ("Shift+ArrowRight", 0.6401),
        ("End", 1.0),
        ("Home", float(shown.slider.get_attribute("min"))),
    ]
    for key, expected in steps:
        shown.page.keyboard.press(key)
        assert shown.value() == expected
        shown.settle(expected)
    assert shown.sent[0] == sent + len(steps)
    for _ in range(5):
        shown.page.keyboard.down("ArrowRight")
    assert shown.sent[0] == sent + len(steps), "a held key sends nothing"
    shown.page.keyboard.up("ArrowRight")
    shown.settle(shown.value())
    assert shown.sent[0] == sent + len(steps) + 1


def test_s_snaps_to_the_cheapest_and_b_goes_back_to_production(curve: Any) -> None:
    shown = curve()
    best = cheapest(payload(cells_of(ROWS), POLICY, candidate=0.64, colors=COLORS))
    costs = {k: replay(k / GRID)["cost"] for k in range(2000, GRID + 1, 200)}
    assert best is not None
    assert replay(best)["cost"] <= min(costs.values()) + 1e-9
    shown.slider.focus()
    shown.page.keyboard.press("s")
    shown.settle(best)
    assert shown.value() == best
    shown.page.keyboard.press("B")
    shown.settle(0.55)
    assert "no change" in shown.figure("Cost per 1,000 decisions")
    assert "none cross the line" in shown.figure("Decisions that change model")


def test_a_population_that_does_not_fit_beside_the_name_stands_below_it(curve: Any, keep_shot: Any) -> None:
    shown = curve("long")
    keep_shot(shown.page, "long")
    box = shown.page.get_by_role("group", name=f"Savings, baseline all {LONG}, of 12,040 priced")
    assert box.locator(".name").inner_text() == f"Savings, baseline all {LONG}"
    assert box.locator(".part").inner_text() == "of 12,040 priced"
    assert box.locator(".name").evaluate("(x) => x.scrollWidth <= x.clientWidth")
    shown.page.set_viewport_size({"width": 1900, "height": 1000})
    box.locator(".name", has_text="of 12,040 priced").wait_for()
    assert box.locator(".part").inner_text() == ""


def test_url_number_and_line_follow_each_other_and_the_line_may_return_to_where_it_was_dropped(
    curve: Any,
) -> None:
    shown = curve(t="0.7")
    assert shown.value() == 0.7
    shown.slider.focus()
    shown.page.keyboard.press("ArrowRight")
    shown.settle(0.701)
    number = shown.page.get_by_label("Candidate", exact=True)
    number.fill("0.7000")
    number.press("Enter")
    shown.settle(0.7)
    assert shown.value() == 0.7
    shown.slider.focus()
    shown.page.keyboard.press("ArrowRight")
    shown.settle(0.701)
    assert number.input_value() == "0.7010"


def test_a_value_below_the_axis_widens_it(curve: Any) -> None:
    shown = curve(t="0.05")
    assert (shown.slider.get_attribute("min"), shown.value()) == ("0", 0.05)


def test_costs_that_are_unknown_are_not_measured_and_never_zero(curve: Any, keep_shot: Any) -> None:
    shown = curve("unpriced")
    keep_shot(shown.page, "unpriced")
    assert (
        shown.figure("Cost per 1,000 decisions") == "Cost per 1,000 decisions Not measured no price for large"
    )
    assert "Not measured" in shown.figure("Savings, baseline all large")
    text = shown.page.locator(".threshold").inner_text()
    assert "$" not in text
    assert "price of falling back not measured" in text
    assert shown.page.locator("svg text", has_text="Not measured: no price for large.").count() == 1
    assert "cost not measured" in shown.slider.get_attribute("aria-valuetext")
    sent = shown.sent[0]
    shown.slider.focus()
    shown.page.keyboard.press("s")
    assert (shown.value(), shown.sent[0]) == (0.64, sent)


def test_a_cost_of_a_part_names_the_part(curve: Any) -> None:
    shown = curve("partial")
    some = np.random.default_rng(1).random(len(ROWS)) < 0.6
    assert f"of {int(some.sum()):,} priced" in shown.figure("Cost per 1,000 decisions")
    assert f"${replay(0.64, ROWS[some])['cost']:.2f}" in shown.figure("Cost per 1,000 decisions")
    assert f"{100 * replay(0.64)['share']:.1f} %" in shown.figure("Fallback share")


@pytest.mark.parametrize("width", [1440, 900, 720])
def test_every_figure_of_money_names_its_part_and_no_name_is_cut(
    curve: Any, keep_shot: Any, width: int
) -> None:
    shown = curve("partial", width=width)
    keep_shot(shown.page, f"partial-{width}")
    part = f"of {int((np.random.default_rng(1).random(len(ROWS)) < 0.6).sum()):,} priced"
    for name in ("Cost per 1,000 decisions", "Savings, baseline all large"):
        assert shown.figure(name).count(part) == 1
        assert shown.page.get_by_role("group", name=f"{name}, {part}").is_visible()
    for name in ("Fallback share", "Decisions that change model", "Quality"):
        assert part not in shown.figure(name)
    cut = shown.page.locator(".figure .name").evaluate_all(
        "(all) => all.map((x) => x.scrollWidth - x.clientWidth)"
    )
    assert cut == [0] * 5
    whole = curve("plain", width=width)
    assert "priced" not in whole.page.locator(".strip").inner_text()


def test_quality_says_what_a_log_can_tell_and_counts_reviews_when_there_are_some(curve: Any) -> None:
    words = curve().page.locator(".threshold")
    assert words.get_by_text(
        "Not measured: a routing log does not say whether a label was right."
    ).is_visible()
    assert "review" not in words.inner_text()
    shown = curve("reviewed")
    assert shown.figure("Quality") == "Quality Not measured 17 of 20 reviews done"
    assert shown.page.get_by_text("Not measured: 17 of 20 reviews done. 240 uniform reviews").is_visible()
    part = curve("part")
    assert part.figure("Quality") == "Quality Not measured audited from a part of this traffic"
    assert part.page.get_by_text(
        "Not measured: the audit was drawn from a part of this traffic."
    ).is_visible()


@pytest.mark.parametrize("width", [1440, 900, 720])
def test_an_audit_gives_a_curve_of_right_labels_that_follows_the_line(
    curve: Any, keep_shot: Any, width: int
) -> None:
    shown = curve("audited", width=width)
    keep_shot(shown.page, f"audited-{width}")

    def expected(threshold: float) -> tuple[int, int]:
        passes = AUDIT.confidence >= threshold
        return int(passes.sum()), int((passes & ~AUDIT.loss).sum())

    (n, right), (m, produced) = expected(0.64), expected(0.55)
    exact = clopper_pearson(right, n)
    said = shown.figure("Quality")
    assert said.startswith(
        f"Quality {100 * right / n:.1f} % {100 * exact.low:.1f} to {100 * exact.high:.1f} "
        f"production {100 * produced / m:.1f} %"
    )
    assert f"{right} of {n} labels right" in said
    assert f"{100 * right / n:.1f} % of labels right" in (shown.slider.get_attribute("aria-valuetext") or "")
    sent = shown.sent[0]
    shown.drag(0.64, 0.75)
    n, right = expected(shown.value())
    assert f"{right} of {n} labels right" in shown.figure("Quality")
    assert shown.sent[0] == sent
    shown.page.mouse.up()
    shown.slider.press("End")
    few, _ = expected(1.0)
    assert few < ENOUGH_SERVED
    said = shown.figure("Quality")
    assert said.startswith("Quality Not measured") and f"{few} reviews above the line" in said
    cut = shown.page.locator(".figure").evaluate_all("(all) => all.map((x) => x.scrollWidth - x.clientWidth)")
    assert max(cut) <= 0


def test_a_change_of_quality_is_coloured_only_when_its_interval_excludes_zero(curve: Any) -> None:
    shown = curve("audited")
    change = shown.page.locator(".figure", has_text="Quality").locator(".change")
    shown.slider.press("b")
    shown.slider.press("ArrowRight")
    assert shown.value() == 0.551
    assert change.get_attribute("class") == "change"
    for _ in range(3):
        shown.slider.press("PageUp")
    assert shown.value() > 0.75
    assert change.get_attribute("class") == "change better"


@pytest.mark.parametrize("width", [1440, 900])
def test_unknown_classifier_cost_makes_cost_a_lower_and_savings_an_upper_bound(
    curve: Any, keep_shot: Any, width: int
) -> None:
    shown = curve("unknown", width=width)
    keep_shot(shown.page, f"unknown-{width}")
    assert re.match(
        r"Cost per 1,000 decisions \$[0-9.]+\+ production \$[0-9.]+\+ ", shown.figure("Cost per 1,000")
    )
    assert re.match(
        r"Savings, baseline all large ≤ [0-9.]+ % production ≤ [0-9.]+ % ", shown.figure("Savings")
    )
    assert "at least $" in (shown.slider.get_attribute("aria-valuetext") or "")
    whole = curve("plain", width=width)
    assert "≤" not in whole.page.locator(".strip").inner_text()
    assert "+ ±" not in whole.figure("Cost per 1,000")


def test_where_the_cheapest_lets_everything_fall_back_the_words_say_so(curve: Any) -> None:
    best = cheapest(payload(cells_of(CHEAP), POLICY, candidate=0.64, colors=COLORS))
    shown = curve("fallback")
    assert best is not None and (CHEAP["confidence"] < best).all()
    assert best == 1.0
    assert shown.page.locator(".plot svg text", has_text="cheapest 1.000: everything to middle").is_visible()
    assert "everything" not in curve("plain").page.locator(".plot").inner_text()


def test_the_band_of_the_cost_ends_at_nothing(curve: Any, keep_shot: Any) -> None:
    plain = replay(0.64, WILD)
    assert plain["half"] > plain["cost"] > 0
    shown = curve("wild")
    keep_shot(shown.page, "wild")
    zero = (
        shown.page.locator(".plot svg text").filter(has_text=re.compile(r"^\$0(\.00)?$")).first.bounding_box()
    )
    band = shown.page.locator(".plot .tint").bounding_box()
    assert zero is not None and band is not None
    assert band["y"] + band["height"] == pytest.approx(zero["y"] + zero["height"] / 2, abs=2.5)


def areas(shown: Curve) -> dict[str, float]:
    """Decisions a colour of the large histogram stands for: painted area, clip paths applied, over px per decision."""
    return dict(
        shown.page.locator(".plot svg").evaluate("""(svg) => {
        const sums = { amber: 0, grey: 0, striped: 0, total: 0 };
        for (const path of svg.querySelectorAll("path.fallback, path.served, path[fill='url(#stripes)']")) {
            const id = /#(\\w+)/.exec(path.getAttribute("clip-path") || "");
            const clip = id ? svg.querySelector(`#${id[1]} rect`) : null;
            const from = clip ? Number(clip.getAttribute("x")) : -Infinity;
            const to = clip ? from + Number(clip.getAttribute("width")) : Infinity;
            let area = 0;
            for (const [, l, b, t, r] of (path.getAttribute("d") || "").matchAll(/M([\\d.]+) ([\\d.]+)V([\\d.]+)H([\\d.]+)V[\\d.]+Z/g)) {
                const wide = Math.min(Number(r), to) - Math.max(Number(l), from);
                if (wide > 0) area += (wide / (r - l)) * (b - t);
            }
            sums[path.classList.contains("fallback") ? "amber" : path.classList.contains("served") ? "grey" : "striped"] += area;
        }
        return sums;
    }""")
    )


@pytest.mark.parametrize("t", [0.3, 0.55, 0.6, 0.9, 1.0])
def test_bars_have_the_colour_of_the_rule_also_for_labels_with_a_threshold_of_their_own(
    curve: Any, t: float
) -> None:
    shown = curve("own", t=str(t))
    plain = replay(t, policy=OWN)
    found = areas(shown)
    total = found["amber"] + found["grey"]
    assert found["amber"] / total == pytest.approx(plain["share"], abs=0.004)
    between = ROWS["confidence"].between(min(t, 0.55), max(t, 0.55), inclusive="left")
    crossing = int((between & (ROWS["label"] != "creative")).sum())
    assert found["striped"] / total == pytest.approx(crossing / len(ROWS), abs=0.004)
    words = shown.page.locator(".plot").inner_text() + shown.figure("Decisions that change model")
    if 0.4 < t < 1 and t != 0.55:
        assert f"{crossing:,} cross" in words
        assert f"{plain['fallback']:,} fall back" in words
    assert ("none cross the line" in words) == (t == 0.55)


def test_a_drag_moves_the_clips_and_leaves_the_fixed_part_alone(curve: Any) -> None:
    shown = curve("own")
    fixed = shown.page.locator(".plot svg .own-part")
    drawn = (
        "(all) => all.map((x) => [x.getAttribute('class'), x.getAttribute('d'), x.getAttribute('clip-path')])"
    )
    before = fixed.evaluate_all(drawn)
    assert [x[0] for x in before] == ["fallback own-part", "served own-part"]
    assert all(d and clip is None for _, d, clip in before)
    moving = shown.page.locator(".plot svg path.fallback:not(.own-part)")
    path = moving.get_attribute("d")
    shown.drag(0.64, 0.8, 0.75)
    at = shown.value()
    found = areas(shown)
    assert at == pytest.approx(0.75, abs=0.0011)
    assert found["amber"] / (found["amber"] + found["grey"]) == pytest.approx(
        replay(at, policy=OWN)["share"], abs=0.004
    )
    assert fixed.evaluate_all(drawn) == before
    assert moving.get_attribute("d") == path, "a drag draws no bar anew"
    shown.page.mouse.up()


def test_a_label_with_its_own_threshold_stays_where_it_is(curve: Any) -> None:
    shown = curve("own", t="0.9")
    card = shown.page.get_by_role("listitem").filter(has_text="creative")
    rows = ROWS[ROWS["label"] == "creative"]
    said = f"{100 * (rows['confidence'] < 0.6).mean():.1f} % fall back"
    assert said in card.inner_text()
    assert "own threshold 0.600" in card.inner_text()
    assert f"{100 * replay(0.9, policy=OWN)['share']:.1f} %" in shown.figure("Fallback share")
    shown.slider.focus()
    shown.page.keyboard.press("b")
    shown.settle(0.55)
    assert said in card.inner_text()


def test_cards_say_shares_and_the_signed_price_of_falling_back(curve: Any) -> None:
    shown = curve()
    for name in NAMES:
        rows = ROWS[ROWS["label"] == name]
        text = shown.page.get_by_role("listitem").filter(has_text=name).inner_text()
        assert f"{100 * (rows['confidence'] < 0.64).mean():.1f} % fall back" in text
        assert f"production {100 * (rows['confidence'] < 0.55).mean():.1f} %" in text
        extra = 1000 * (rows["middle"] - rows[ANSWERS[name]]).mean()
        price = f"{'saves' if extra < 0 else 'costs'} ${abs(extra):.2f} per 1,000"
        assert ("changes nothing: same model" if name == "creative" else price) in text


def test_names_are_text_and_never_markup(curve: Any) -> None:
    shown = curve()
    assert shown.page.get_by_text(f"→ {HOSTILE}").is_visible()
    assert shown.page.locator(".threshold img").count() == 0


def test_more_than_eight_labels_show_the_largest_and_fold_the_rest(curve: Any, keep_shot: Any) -> None:
    shown = curve("many")
    assert shown.page.locator(".body > .cards > .card").count() == 8
    assert shown.page.get_by_text("more labels (4)").is_visible()
    hidden = shown.page.locator("details .card")
    assert hidden.first.is_hidden()
    shown.page.get_by_text("more labels (4)").click()
    assert hidden.count() == 4 and hidden.first.is_visible()
    drawn = hidden.last.locator("svg")
    assert drawn.locator("path").first.get_attribute("d")
    drawn.evaluate(
        "(svg) => new Promise((done) => { const see = () => svg.viewBox.baseVal.width === svg.clientWidth ? done() : requestAnimationFrame(see); see(); })"
    )
    keep_shot(shown.page, "many")


def test_no_decision_is_a_written_state(curve: Any) -> None:
    shown = curve("empty")
    assert shown.page.get_by_text("No decision with scores in this selection.").is_visible()
    assert not shown.slider.is_visible()


def test_one_decision_has_no_interval(curve: Any, keep_shot: Any) -> None:
    shown = curve("one")
    keep_shot(shown.page, "one")
    assert "±" not in shown.figure("Cost per 1,000 decisions")
    row = ROWS.iloc[0]
    cost = row["middle"] if row["confidence"] < 0.64 else row[row["model"]]
    assert f"${1000 * (cost + 0.00002):.2f}" in shown.figure("Cost per 1,000 decisions")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 900, 720])
def test_every_width_and_theme_fits_and_can_be_read(
    curve: Any, keep_shot: Any, width: int, scheme: str
) -> None:
    shown = curve(width=width, color_scheme=scheme)
    keep_shot(shown.page, f"plain-{width}-{scheme}")
    box = shown.page.locator(".threshold").bounding_box()
    assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width
    assert shown.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    columns = shown.page.locator(".strip").evaluate(
        "(x) => getComputedStyle(x).gridTemplateColumns.split(' ').length"
    )
    assert columns == (5 if width == 1440 else 3)
    outside = shown.page.locator(".plot svg").evaluate("""(svg) => {
        const edge = svg.getBoundingClientRect();
        return [...svg.querySelectorAll("text")].filter((x) => x.textContent && getComputedStyle(x).visibility !== "hidden")
            .map((x) => [x.textContent, x.getBoundingClientRect()])
            .filter(([, b]) => b.left < edge.left - 1 || b.right > edge.right + 1).map(([t]) => t);
    }""")
    assert outside == []
    assert lowest_contrast(shown.page) >= 4.5


def lowest_contrast(page: Page) -> float:
    """The least WCAG 2 contrast of any text of the strip and the cards to the page behind it."""
    return float(
        page.locator(".threshold").evaluate("""(root) => {
        const pen = document.createElement("canvas").getContext("2d");
        const light = (colour) => {
            pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3).map((x) => x / 255)
                .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const page = light(getComputedStyle(root).getPropertyValue("--st-background-color"));
        const texts = [...root.querySelectorAll(".strip *, .cards *")].filter((x) => x.children.length === 0 && x.textContent.trim());
        return Math.min(...texts.map((x) => light(getComputedStyle(x).color))
            .map((x) => (Math.max(x, page) + 0.05) / (Math.min(x, page) + 0.05)));
    }""")
    )


def test_a_theme_switch_repaints_without_losing_the_line(curve: Any) -> None:
    shown = curve(color_scheme="light")
    shown.slider.focus()
    shown.page.keyboard.press("PageUp")
    shown.settle(0.72)
    colour = "(x) => getComputedStyle(x).color"
    before = shown.page.locator(".threshold").evaluate(colour)
    shown.page.emulate_media(color_scheme="dark")
    shown.page.wait_for_function(
        "(before) => getComputedStyle(document.querySelector('[data-testid=stBidiComponentIsolated]').shadowRoot.querySelector('.threshold')).color !== before",
        arg=before,
    )
    assert shown.value() == 0.72


def test_a_drag_over_ten_thousand_bins_a_label_keeps_the_frame(curve: Any) -> None:
    shown = curve("full")
    shown.page.evaluate("""() => {
        window.took = []; window.painted = [];
        const host = document.querySelector("[data-testid=stBidiComponentIsolated]");
        const plot = host.shadowRoot.querySelector(".plot");
        let start = 0;
        window.addEventListener("pointermove", () => { start = performance.now(); }, true);
        plot.addEventListener("pointermove", () => {
            plot.getBoundingClientRect(); // layout belongs to the frame
            window.took.push(performance.now() - start);
            const from = start;
            requestAnimationFrame(() => {
                const channel = new MessageChannel();
                channel.port1.onmessage = () => window.painted.push(performance.now() - from);
                channel.port2.postMessage(0);
            });
        });
    }""")
    sent = shown.sent[0]
    shown.page.mouse.move(*shown.x_of(0.64))
    shown.page.mouse.down()
    left, y = shown.x_of(0.3)
    right, _ = shown.x_of(0.9)
    for step in range(120):
        shown.page.mouse.move(left + (right - left) * abs(math.sin(step / 15)), y)
    took, painted = shown.page.evaluate("[window.took, window.painted]")
    assert shown.sent[0] == sent
    shown.page.mouse.up()
    middle = statistics.median(took)
    print(
        f"\n{len(took)} moves: handler and layout {middle:.1f} ms, 95 % {np.quantile(took, 0.95):.1f} ms; "
        f"to the painted frame {statistics.median(painted):.1f} ms, 95 % {np.quantile(painted, 0.95):.1f} ms"
    )
    assert len(took) >= 100
    assert middle <= 16


@pytest.fixture(scope="module")
def own_demo(chromium_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A running demo; its policy file may be rewritten."""
    folder = tmp_path_factory.mktemp("own") / "demo"
    with demo(folder, free_port(), requests=2000) as address:
        yield address, folder / "policy.toml"


def set_own(file: Path, **own: float) -> Policy:
    """Give labels of the policy file thresholds of their own."""
    lines = file.read_text(encoding="utf-8").splitlines()
    kept = []
    for at, line in enumerate(lines):
        if line.startswith("threshold = ") and any(x.startswith("[[labels]]") for x in lines[:at]):
            continue
        kept.append(line)
        kept += [f"threshold = {x}" for name, x in own.items() if line.strip() == f'name = "{name}"']
    file.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return Policy.load(file)


@pytest.mark.parametrize(
    ("own", "said", "width", "scheme"),
    [
        ({}, "answers. Drag it, or use ← and →.", 1440, "light"),
        ({"creative": 0.75}, "creative keeps a threshold of its own.", 900, "dark"),
        (
            {"coding": 0.4, "creative": 0.75},
            "coding and creative keep thresholds of their own.",
            1440,
            "dark",
        ),
    ],
    ids=["none", "one", "two"],
)
def test_the_page_names_the_labels_that_the_line_does_not_move(
    own_demo: tuple[str, Path],
    open_page: Any,
    keep_shot: Any,
    own: dict[str, float],
    said: str,
    width: int,
    scheme: str,
) -> None:
    address, file = own_demo
    policy = set_own(file, **own)
    page = open_page(f"{address}/threshold?t=0.65", width=width, color_scheme=scheme)
    page.locator(".threshold[data-server]").wait_for(state="attached")
    line = page.locator(
        "[data-testid=stCaptionContainer]", has_text=f"Below the line {policy.fallback_model} answers."
    )
    text = line.first.inner_text().strip()
    assert text.endswith(said)
    assert line.first.locator("strong").all_inner_texts() == [policy.fallback_model, *own]
    assert (
        page.locator(".plot .own-part[d^=M]").count() > 0
        if own
        else page.locator(".plot .own-part[d^=M]").count() == 0
    )
    page.wait_for_timeout(500)
    keep_shot(page, f"page-{len(own)}-{width}-{scheme}")
