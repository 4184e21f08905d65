"""Names of classes, landmarks, images, columns and units that look like markup: shown as they are, everywhere."""

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import TINY, TINY_LABELS, run_in_process
from test_report import Page

from trainer.plots import boxes_for_missing_letters, plot_metrics
from trainer.run_dir import RunDir
from trainer.tasks.task import Curves

NAMES = [
    "<script>alert(1)</script>",
    "$\\frac$",
    "a_{b}^$x$",
    "[red]bold[/] [/]",
    "漢字 😀",
    "x" * 300,
    "\"q\" 'p' & onload=x",
    "_hidden",
]
OF_PHANTOMS = ("data.num", "data.height", "data.width", "scheduler.", "phases.")
SHORT = ("scheduler=constant", "phases.frozen.epochs=1", "phases.finetune.epochs=1")
LABELS = (*SHORT, *(text for text in TINY_LABELS if not text.startswith(OF_PHANTOMS)))
LANDMARKS = (*SHORT, *(text for text in TINY if not text.startswith(OF_PHANTOMS)))


def write_table(folder: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """table.csv with an image for each row."""
    folder.mkdir(exist_ok=True)
    images = ["<b>&.png", "$\\frac$ $y$.png", "[red]a[].png", "漢😀.png", *(f"_{i}.png" for i in range(len(rows) - 4))]
    for number, image in enumerate(images):
        pixels = np.random.default_rng(number).integers(0, 255, (48, 40), np.uint8)
        (folder / image).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *header])
        writer.writerows([image, *row] for image, row in zip(images, rows, strict=True))


def classes(folder: Path) -> list[str]:
    write_table(folder, ["kind", "s<e>x"], [(NAMES[row % 8], NAMES[row // 8]) for row in range(24)])
    return ["task=classification", "data.label=kind", "model=covariate", 'data.covariates=["s<e>x"]']


def numbers(folder: Path) -> list[str]:
    write_table(folder, ["$age$ <b>", "group"], [(3 * row + 1, NAMES[row % 2]) for row in range(16)])
    return ["task=regression", 'data.label="$age$ <b>"', 'task.unit="[red]<i>"']


def points(folder: Path) -> list[str]:
    rng = np.random.default_rng(0)
    rows = [rng.uniform(5, 35, 2 * len(NAMES)).round(1).tolist() for _ in range(12)]
    write_table(folder, [f"{name}_{axis}" for name in NAMES for axis in "xy"], rows)
    return []


@pytest.mark.parametrize(
    ("arrange", "tiny", "shown"),
    [(classes, LABELS, NAMES), (numbers, LABELS, ["MAE ([red]<i>)"]), (points, LANDMARKS, NAMES)],
    ids=["classes", "numbers", "landmarks"],
)
def test_a_run_shows_names_as_they_are(
    arrange: Any, tiny: tuple[str, ...], shown: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = arrange(tmp_path / "im")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph")
        run_in_process(
            tmp_path / "run", "data=csv", f"data.table={tmp_path / 'im' / 'table.csv'}", *overrides, tiny=tiny
        )
    page = Page(RunDir(tmp_path / "run").report.read_text(encoding="utf-8"))
    assert {tag for tag, _ in page.tags} & {"script", "b", "i", "link", "iframe", "object"} == set()
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "href"]
    for name in shown:
        assert name in page.words, name
    if arrange is numbers:
        assert "MAE ([red]<i>)" in capsys.readouterr().out  # the table that ends a run knows no markup


def test_a_unit_that_is_half_a_formula_is_drawn(tmp_path: Path) -> None:
    metrics = pd.DataFrame({"epoch": [1], "phase": ["frozen"], "train_loss": [1.0], "val_loss": [1.0], "mae": [2.0]})
    unit = "$\\frac$ 漢"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with boxes_for_missing_letters():
            curves = Curves("absolute error", unit, {"mae": "mean absolute error"}, shares=False)
            figure = plot_metrics(
                tmp_path / "m.png", metrics, curves=curves, baseline=(f"mean (3 {unit})", 3.0), best_epoch=1
            )
    assert figure.axes[1].get_ylabel() == f"absolute error ({unit})"
