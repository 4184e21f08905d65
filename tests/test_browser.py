"""The pages of runs and sweeps in a real browser: nothing is loaded, nothing complains, all can be read everywhere."""

import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY_LABELS, run_in_process
from faults import run_main
from test_sweep import ONE_EPOCH, job_of, sweep_of

from trainer.comparison.compare import sum_up_sweep
from trainer.run_dir import RunDir

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SCREENS = {"phone": (390, 844), "desk": (1280, 800)}
PAGES = ("landmarks", "classes", "range test", "sweep", "failed sweep")
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3, of text
# The relative luminance of WCAG 2.2, of every text against the first background behind it.
CONTRASTS = """
() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
  };
  const told = [];
  for (const element of document.querySelectorAll("h1, h2, h3, p, li, th, td, pre, summary, figcaption, div, strong")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    told.push([contrast, element.tagName, element.textContent.trim().slice(0, 40)]);
  }
  return told;
}
"""
BEYOND = """
() => [...document.querySelectorAll("body *")]
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".scroll, pre"))
  .map((one) => one.outerHTML.slice(0, 80))
"""


@pytest.fixture(scope="module")
def pages(tiny_run: RunDir, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages as real runs and sweeps leave them."""
    folder = tmp_path_factory.mktemp("pages")
    run_in_process(folder / "classes", "task=classification", "pictures=true", tiny=TINY_LABELS)
    run_in_process(folder / "tested", "range_test=only", "range_test.num_steps=24", "pictures=true")
    settings = [text for text in ONE_EPOCH if not text.startswith("model.weights")]
    ended = run_main(
        "-m", *settings, "model.weights=none,absent.safetensors", "scheduler.max_lr=1e-3,2e-3", folder=folder
    )
    assert ended.code == 2, ended.err
    sweep = sweep_of(folder)
    failed = folder / "failed"
    failed.mkdir()
    shutil.copy(sweep / "multirun.yaml", failed)
    job = job_of(sweep, 2).path
    shutil.copytree(job, failed / job.name)
    sum_up_sweep(failed)
    return dict(
        zip(
            PAGES,
            (
                tiny_run.report,
                RunDir(folder / "classes").report,
                RunDir(folder / "tested").report,
                sweep / "compare.html",
                failed / "compare.html",
            ),
            strict=True,
        )
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("no browser on this machine: install chromium, or Google Chrome, to test pages in it")
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright drives the browser: pip install playwright"
    )
    with sync_api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=BROWSER, args=QUIET)
        yield started
        started.close()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_loads_nothing_complains_of_nothing_and_can_be_read(
    name: str, scheme: str, pages: dict[str, Path], browser: Any
) -> None:
    address = pages[name].as_uri()
    width, height = SCREENS["desk"]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    told: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: told.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address, wait_until="load")
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert told == []
    assert [url for url in asked if not url.startswith("data:")] == [address]

    pictures = page.evaluate("[...document.images].map((image) => [image.alt, image.naturalWidth])")
    assert (len(pictures) > 0) == (name != "failed sweep")
    assert all(alt and shown > 0 for alt, shown in pictures), pictures
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 10
    assert min(contrasts)[0] >= LEAST_CONTRAST, min(contrasts)
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map((one) => Number(one.tagName[1]))")
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels

    for place, (width, height) in SCREENS.items():
        page.set_viewport_size({"width": width, "height": height})
        across = page.evaluate("document.documentElement.scrollWidth")
        assert across <= width, f"{place}: the page is {across} px wide"
        # Whatever reaches beyond the screen lies in a box that scrolls.
        beyond = page.evaluate(BEYOND)
        assert beyond == []
    page.close()


def test_a_sweeps_page_tells_of_every_job_and_what_to_do(pages: dict[str, Path], browser: Any) -> None:
    texts = {}
    for name in ("sweep", "failed sweep"):
        page = browser.new_page()
        page.goto(pages[name].as_uri())
        page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        texts[name] = page.inner_text("body")
        page.close()
    for text in texts.values():
        assert "failed: " in text
        assert "sweep.resume=true" in text
    assert " is best: mre_mm " in texts["sweep"]
    assert "python -m trainer.predict run=" in texts["sweep"]
    assert "No job has finished yet, so there is no answer." in texts["failed sweep"]
