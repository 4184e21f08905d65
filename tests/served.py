"""Finished tiny runs of every task, made once, and their phantoms as image files beside a table."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path

import pandas as pd
from conftest import TINY, TINY_LABELS, run_in_process
from faults import ANYTHING, Ended, promised
from PIL import Image

from data.phantom import draw_phantom

NUM, HEIGHT, WIDTH = 30, 96, 80
SHORT = (
    f"data.num_images={NUM}",
    "data.test_fraction=0.2",
    "data.val_fraction=0.4",
    "phases.frozen.epochs=1",
    "phases.finetune.epochs=1",
    "pictures=false",
)
RUNS: dict[str, tuple[str, ...]] = {
    "landmarks": ("data.region=landmarks", "seed=1"),  # with seed=0 two cells of a heatmap are equally high
    "views": ("predict.tta=2",),
    "coordinates": ("model=coordinates",),
    "classes": ("task=classification", "model=attention_covariate", "data.covariates=[sex]"),
    "numbers": ("task=regression", "data.covariates=[sex]", "model=covariate"),
    "snapshots": ("task=regression", "snapshots=true", "scheduler.cycles=2", "phases.finetune.epochs=4"),
}


@cache
def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="served"))


@cache
def run_of(kind: str) -> Path:
    """The folder of the run."""
    tiny = TINY if kind in ("landmarks", "views") else TINY_LABELS
    plain = [text for text in tiny if not text.startswith(("data.num_images", "phases."))]
    if kind == "snapshots":
        plain = [text for text in plain if not text.startswith("scheduler.")]
    given = {text.split("=")[0]: text for text in (*plain, *SHORT, *RUNS[kind])}
    run_in_process(folder() / kind, *given.values(), tiny=())
    return folder() / kind


@cache
def images() -> Path:
    """A folder with the phantoms of these runs, and table.csv with what is known of them."""
    place = folder() / "images"
    place.mkdir()
    rows = []
    for index in range(NUM):
        drawn = draw_phantom(0, index, height=HEIGHT, width=WIDTH)
        Image.fromarray(drawn.image).save(place / f"phantom_{index:05d}.png")
        points = {f"{axis}{k}": drawn.points[k]["xy".index(axis)] for k in range(len(drawn.points)) for axis in "xy"}
        rows.append(
            {
                "image": f"phantom_{index:05d}.png",
                "sex": drawn.sex,
                "growth_stage": drawn.growth_stage,
                "age_months": drawn.age_months,
                "pixel_spacing_mm": drawn.pixel_spacing_mm,
                **points,
            }
        )
    pd.DataFrame(rows).to_csv(place / "table.csv", index=False)
    return place


def written_by(kind: str) -> pd.DataFrame:
    """predictions.csv of the run, by image."""
    return pd.read_csv(run_of(kind) / "predictions.csv").set_index("image")


def check_promise(name: str, ended: Ended) -> None:
    """The command told a mistake as docs/faults.md says."""
    code, message = promised()[name]
    pattern = "error: " + ".*".join(re.escape(part) for part in message.split(ANYTHING))
    assert re.fullmatch(pattern, ended.err.strip()), f"\npromised: {message}\nsaid:     {ended.err}"
    assert ended.code == code
