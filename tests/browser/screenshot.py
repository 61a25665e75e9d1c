"""Make the README's picture of the Threshold page: ``python tests/browser/screenshot.py [FILE]``.

Starts the demo in a temporary folder, opens the page in the system's Chromium, moves the candidate and keeps the window as a
PNG with a palette, below 400 kB.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from served import demo, free_port

TARGET = Path(__file__).parents[2] / ".github" / "threshold.png"
MOST_BYTES = 400_000
WIDTH, HEIGHT = 1440, 1000


def main() -> None:
    """Write the picture."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    browser_path = (
        shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    )
    if browser_path is None:
        raise SystemExit("no Chromium on this machine: install the package 'chromium'")
    with (
        tempfile.TemporaryDirectory() as folder,
        demo(Path(folder) / "demo", free_port()) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(f"{address}/threshold?t=0.64")
        page.get_by_text("nearest to the candidate line first").wait_for(timeout=60_000)
        page.wait_for_timeout(1500)  # fonts and the table's canvas
        raw = page.screenshot()
        browser.close()
    picture = Image.open(io.BytesIO(raw)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    target.parent.mkdir(parents=True, exist_ok=True)
    picture.save(target, optimize=True)
    size = target.stat().st_size
    if size >= MOST_BYTES:
        raise SystemExit(f"{target} has {size:,} bytes, expected fewer than {MOST_BYTES:,}")
    sys.stdout.write(f"{target}: {size:,} bytes\n")


if __name__ == "__main__":
    main()
