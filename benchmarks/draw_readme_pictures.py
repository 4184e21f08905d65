"""Draws docs/pictures anew from two real runs on phantoms, of a few minutes: the default one, and one with range tests.

python benchmarks/draw_readme_pictures.py                   # makes the runs, in a temporary folder
python benchmarks/draw_readme_pictures.py DEFAULT TESTED    # takes finished ones

The picture of the report needs playwright and a browser: chromium, or Google Chrome.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
WIDTH_PX = 900  # of a picture in the README
LARGEST_BYTES = 200_000
SCREEN = {"width": 860, "height": 1040}  # of the report: what it answers first


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        given = [Path(name) for name in sys.argv[1:]]
        default, tested = given or (made(Path(scratch)), made(Path(scratch), "range_test=on"))
        draw(default / "plots" / "learning_rates.png", "learning_rates.png")
        draw(default / "plots" / "overlays_median.png", "overlays.jpg")
        draw(tested / "range_test" / "finetune" / "range_test.png", "range_test.png")
        shot = Path(scratch) / "report.png"
        photograph(tested / "report.html", shot)
        draw(shot, "report.png")


def made(folder: Path, *overrides: str) -> Path:
    """A run of its own in `folder`."""
    before = set(folder.glob("outputs/*/*"))
    subprocess.run([sys.executable, "-m", "trainer", *overrides], check=True, cwd=folder)
    (run,) = set(folder.glob("outputs/*/*")) - before
    return run


def draw(source: Path, name: str) -> None:
    """A smaller copy."""
    with Image.open(source) as opened:
        image = opened.convert("RGB")
    image.thumbnail((WIDTH_PX, 10 * WIDTH_PX), Image.Resampling.LANCZOS)
    target = PICTURES / name
    if target.suffix == ".jpg":
        image.save(target, quality=80)
    else:
        image.save(target, optimize=True)
    size = target.stat().st_size
    print(f"{target}: {size:,} bytes")
    if size > LARGEST_BYTES:
        raise SystemExit(f"{target} has more than {LARGEST_BYTES:,} bytes")


def photograph(page: Path, target: Path) -> None:
    """The upper part of a report below its title, in a light browser."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        shown = started.new_page(viewport=SCREEN, color_scheme="light")
        shown.goto(page.absolute().as_uri())
        shown.locator("h2").first.evaluate("(heading) => window.scrollTo(0, heading.offsetTop - 16)")
        shown.screenshot(path=target)
        started.close()


if __name__ == "__main__":
    main()
