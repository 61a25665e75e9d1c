"""The whole product in a real Chromium: a demo that a stranger starts, every page, the drag, the log that moves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from served import demo, free_port

from router import Classification, Policy, Router, open_log

pytestmark = pytest.mark.browser
expect.set_options(timeout=30_000)  # a busy machine is slow, not wrong

PAGES = {
    "Overview": ("", "Needs attention"),
    "Decisions": ("decisions", "2,000 decisions"),
    "Labels": ("labels", "Which labels collide?"),
    "Threshold": ("threshold", "Decisions that change model"),
    "Savings": ("savings", "Where the savings come from"),
    "Playground": ("playground", "Policy in use"),
    "Review": ("review", "Nothing is drawn for the audit yet."),
}
# A deep link makes the browser ask for these below the page's own path first; nothing is missing.
ALLOWED = re.compile(r"/_stcore/(health|host-config)")


class Fixed:
    """A classifier that always gives the same scores."""

    name = "fixed/1"

    def classify(self, text: str, labels: Any) -> Classification:
        scores = {label.name: 0.1 for label in labels} | {"coding": 0.7}
        return Classification("coding", scores, self.name, True, 0.1)


@pytest.fixture(scope="module")
def served(chromium_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A running demo with 2,000 requests: its address and its data folder."""
    folder = tmp_path_factory.mktemp("served") / "demo"
    with demo(folder, free_port()) as address:
        yield SimpleNamespace(url=address, data=folder)


@pytest.fixture
def visit(served: SimpleNamespace, open_page: Callable[..., Page]) -> Iterator[Callable[..., Page]]:
    """Opens a path of the demo; what the browser complains about is checked when the test ends."""
    said: list[str] = []

    def go(path: str, title: str, **options: Any) -> Page:
        page = open_page(**options)
        page.on(
            "console",
            lambda message: said.append(f"{message.type}: {message.text} {message.location['url']}"),
        )
        page.goto(f"{served.url}/{path}")
        expect(page.get_by_role("heading", name=title, level=1)).to_be_visible(timeout=60_000)
        return page

    yield go
    assert [line for line in said if line.startswith("error") and not ALLOWED.search(line)] == []
    assert [line for line in said if "Content Security Policy" in line] == []


def settled(page: Page) -> None:
    """Wait until the run that a choice started is over."""
    expect(page.locator("[data-testid=stApp]")).to_have_attribute(
        "data-test-script-state", "notRunning", timeout=30_000
    )


def figure(page: Page, name: str) -> str:
    """A figure of the threshold component's strip."""
    box = page.get_by_role("group", name=name, exact=True).and_(page.locator(".figure"))
    return box.locator(".number").inner_text()


def test_a_deep_link_is_the_first_request_of_a_fresh_server(visit: Callable[..., Page]) -> None:
    page = visit("threshold?t=0.7", "Threshold")
    expect(page.get_by_label("Candidate", exact=True)).to_have_value("0.700")
    expect(page.get_by_text("candidate 0.700")).to_be_visible()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (900, "dark"), (720, "light")])
def test_every_page_opens_and_nothing_scrolls_sideways(
    visit: Callable[..., Page], keep_shot: Callable[[Page, str], None], width: int, scheme: str
) -> None:
    page = visit("", "Overview", width=width, color_scheme=scheme)
    start = page.url.split("?")[0].rstrip("/")
    for title, (path, words) in PAGES.items():
        page.goto(f"{start}/{path}")  # one browser context: the scripts of a page are loaded once
        expect(page.get_by_role("heading", name=title, level=1)).to_be_visible(timeout=60_000)
        expect(page.get_by_text(words).first).to_be_visible()
        settled(page)
        assert page.locator("[data-testid=stException]").count() == 0, title
        main = page.locator("[data-testid=stMain]")
        assert main.evaluate("node => node.scrollWidth - node.clientWidth") <= 1, title
        keep_shot(page, f"{title.lower()}-{width}-{scheme}")


def test_a_drag_moves_the_numbers_before_release_and_the_list_after_it(visit: Callable[..., Page]) -> None:
    page = visit("threshold", "Threshold")
    expect(page.get_by_text("The candidate is the production threshold")).to_be_visible()
    axis = page.get_by_role("slider", name="Candidate threshold")
    box = axis.bounding_box()
    assert box is not None
    low, high = (float(axis.get_attribute(name) or "nan") for name in ("min", "max"))
    y = box["y"] + box["height"] / 2

    def x(value: float) -> float:
        return box["x"] + box["width"] * (value - low) / (high - low)

    before = figure(page, "Fallback share")
    page.mouse.move(x(0.55), y)
    page.mouse.down()
    page.mouse.move(x(0.62), y, steps=4)
    during = figure(page, "Fallback share")
    assert during != before
    page.mouse.move(x(0.7), y, steps=4)
    assert figure(page, "Fallback share") not in (before, during)
    assert "t=" not in page.url  # nothing was sent yet
    page.mouse.up()
    expect(page.get_by_text("nearest to the candidate line first")).to_be_visible()
    value = float(page.get_by_label("Candidate", exact=True).input_value())
    assert value == pytest.approx(0.7, abs=0.02)
    assert float(re.search(r"[?&]t=([\d.]+)", page.url)[1]) == pytest.approx(value, abs=5e-4)  # type: ignore[index]


def test_rows_of_another_process_show_up_by_themselves(
    visit: Callable[..., Page], served: SimpleNamespace
) -> None:
    page = visit("decisions", "Decisions")
    settled(page)
    with Router(Policy.preset("seed"), classifier=Fixed(), data=served.data) as client:
        client.route("a prompt from elsewhere")
        expect(page.get_by_role("button", name="1 new")).to_be_visible()
    page.get_by_role("button", name="1 new").click()
    expect(page.locator("[data-testid=stCode]").first).to_contain_text("a prompt from elsewhere")


def test_j_goes_to_the_next_row_and_the_detail_says_why(visit: Callable[..., Page]) -> None:
    page = visit("decisions", "Decisions")
    expect(page.get_by_text("1 of 100")).to_be_visible()
    first = page.locator("[data-testid=stCode]").first.inner_text()
    page.get_by_role("heading", name="Decisions").click()  # no input has the focus
    page.keyboard.press("j")
    expect(page.get_by_text("2 of 100")).to_be_visible()
    expect(page.locator("[data-testid=stCode]").first).not_to_have_text(first)
    expect(page.get_by_text("wins with").first).to_be_visible()


def test_a_link_with_filters_shows_their_rows_and_a_filter_without_rows_says_so(
    visit: Callable[..., Page],
) -> None:
    counts = []
    for query in ("label=coding", "label=coding&cause=low%20confidence"):
        page = visit(f"decisions?{query}", "Decisions")
        settled(page)
        found = re.search(r"([\d,]+) of 2,00\d decisions", page.inner_text("body"))
        assert found is not None
        counts.append(int(found[1].replace(",", "")))
    assert 0 < counts[1] < counts[0] < 2000
    page = visit("decisions?q=words-that-no-prompt-holds", "Decisions")
    expect(page.get_by_text("No decision matches.")).to_be_visible()
    page.get_by_role("button", name="Clear filters").click()
    expect(page.get_by_text(re.compile(r"2,00\d of 2,00\d decisions"))).to_be_visible()


def test_choosing_a_square_shows_that_pairs_prompts(visit: Callable[..., Page]) -> None:
    page = visit("labels", "Labels")
    shown = page.get_by_label("Pair")
    before = page.url
    squares = page.locator("path.point.plotly-customdata")
    expect(squares.first).to_be_visible()
    boxes = [
        box for i in range(squares.count()) if (box := squares.nth(i).bounding_box()) and box["width"] > 20
    ]
    assert len(boxes) >= 6  # four labels make six pairs
    for box in boxes[:3]:
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_timeout(700)
        settled(page)
    assert shown.count() == 1
    assert "pair=" in page.url
    assert page.url != before


def test_a_prompt_is_tried_and_the_log_stays_as_it_was(
    visit: Callable[..., Page], served: SimpleNamespace
) -> None:
    with open_log(served.data) as log:
        before = log.count()
    page = visit("playground", "Playground")
    box = page.get_by_label("Prompt")
    box.fill("write a haiku about rain on a tin roof")
    box.press("Control+Enter")
    expect(page.get_by_text("What it would cost")).to_be_visible()
    settled(page)
    expect(page.get_by_text("Candidate: goes to")).to_be_visible()
    expect(page.get_by_text(re.compile("No (openai|OpenAI) key"))).to_be_visible()
    with open_log(served.data) as log:
        assert log.count() == before


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (900, "dark")])
def test_a_saved_view_brings_its_page_back_as_it_was(
    visit: Callable[..., Page], keep_shot: Callable[[Page, str], None], width: int, scheme: str
) -> None:
    name = f"coding at 0.7, {width} px"
    page = visit("threshold?t=0.7&range=All&label=coding", "Threshold", width=width, color_scheme=scheme)
    expect(page.get_by_text("candidate 0.700")).to_be_visible()
    settled(page)
    fell = figure(page, "Fallback share")
    bookmark = page.locator("[data-testid=stPopover]").filter(has_text="bookmark")
    bookmark.get_by_role("button").click()
    page.get_by_label("This page as").fill(name)
    page.get_by_label("This page as").press("Enter")
    settled(page)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("link", name=name)).to_be_visible()
    settled(page)
    keep_shot(page, f"views-{width}-{scheme}")
    page.keyboard.press("Escape")
    page.goto(page.url.split("/threshold")[0])
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    settled(page)
    bookmark.get_by_role("button").click()
    page.get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", name="Threshold", level=1)).to_be_visible()
    expect(page.get_by_label("Candidate", exact=True)).to_have_value("0.700")
    settled(page)
    assert figure(page, "Fallback share") == fell
    assert "label=coding" in page.url and "t=0.7" in page.url


def test_saving_the_candidate_shows_the_change_and_writes_the_file(
    visit: Callable[..., Page], served: SimpleNamespace
) -> None:
    page = visit("threshold?t=0.61", "Threshold")
    page.get_by_role("button", name="Save to policy").click()
    expect(page.get_by_text("+threshold = 0.61")).to_be_visible()
    page.get_by_role("button", name="Write the file").click()
    expect(page.get_by_text("production 0.610").first).to_be_visible()
    saved = Path(served.data) / "policy.toml"
    assert Policy.load(saved).threshold == 0.61
    assert "# " in saved.read_text(encoding="utf-8")


def test_a_draw_is_judged_by_keys_and_the_log_holds_it(
    visit: Callable[..., Page], served: SimpleNamespace, keep_shot: Callable[[Page, str], None]
) -> None:
    page = visit("review?queue=Learn", "Review")
    page.get_by_role("button", name="Draw 20").click()
    expect(page.get_by_text("1 of 20")).to_be_visible()
    page.get_by_label("Who judges?").fill("Ana")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Judged by Ana")).to_be_visible()
    page.get_by_role("heading", name="Review", exact=True).click()  # no input has the focus
    page.keyboard.press("2")
    page.keyboard.press("2")  # too early: the next prompt is not there yet, and the first keeps its answer
    expect(page.get_by_text("2 of 20 ·")).to_be_visible()
    settled(page)
    page.keyboard.press("u")
    expect(page.get_by_text("2 of 20 drawn decisions are judged")).to_be_visible()
    settled(page)
    keep_shot(page, "review-judged")
    with open_log(served.data) as log:
        rows = log.rows("SELECT correct_label, judged_by, queue FROM feedback ORDER BY judged_at")
    assert rows == [("coding", "Ana", "learn"), (None, "Ana", "learn")]
