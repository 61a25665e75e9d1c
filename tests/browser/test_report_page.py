"""The report's file in a real Chromium: it asks for nothing but itself, complains of nothing, and fits the window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from log_samples import decision
from playwright.sync_api import Browser, Page
from typer.testing import CliRunner

from router.cli.app import app
from router.log.writer import Writer

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    writer = Writer(folder / "data", turns=False)
    for i in range(400):
        confidence = 0.35 + 0.6 * (i % 97) / 97
        rest = (1 - confidence) / 3
        scores = {"simple": confidence, "coding": rest, "reasoning": rest, "creative": rest}
        writer.log(
            decision(
                i * 4000, prompt="<img src=http://evil.example/x>", scores=scores, confidence=confidence,
                margin=confidence - rest, input_tokens=300, output_tokens=200 + i, usage_grade="measured",
            )
        )  # fmt: skip
    writer.close()
    target = folder / "report.html"
    done = CliRunner().invoke(
        app, ["report", "--data", str(folder / "data"), "-o", str(target), "--examples", "2"]
    )
    assert done.exit_code == 0, done.stderr
    return target


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 900, 420])
def test_the_page_asks_for_nothing_and_fits(
    scheme: str, width: int, file: Path, chromium: Browser, keep_shot: Callable[[Page, str], None]
) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme)  # type: ignore[arg-type]
    try:
        page, asked, said = context.new_page(), [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto(file.as_uri())
        assert asked == [file.as_uri()]
        assert said == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator("svg > title").count() == page.locator("svg").count() > 0
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 18, 23)"
        assert dark == (scheme == "dark")
        keep_shot(page, f"report-{scheme}-{width}")
    finally:
        context.close()
