"""The folder in which the pages type their commands, small: the tables, images, runs and sweeps that they name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from conftest import TINY
from faults import run_main
from PIL import Image
from served import run_of

from data.phantom import draw_phantom

NUM, HEIGHT, WIDTH = 16, 96, 80
RUN = "outputs/2026-11-22/10-31-05_landmarks_heatmap_test_efficientnet_clr"
SWEEPS = ("multirun/2026-11-22/10-31-05", "multirun/2026-11-22/14-02-11")
PTS = "version: 1\nn_points: 2\n{\n1.5 2.5\n3 4\n}\n"
ISBI = "35,16\n23,29\n1\n"
STAGES = ("prepubertal", "pubertal")


def build_world(folder: Path) -> None:
    for path, make in MADE.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        make(folder / path)


def landmark_table(path: Path) -> None:
    """A table of phantoms with their landmarks, sex and spacing, and the images beside it."""
    rows = []
    for number in range(NUM):
        drawn = draw_phantom(0, number, height=HEIGHT, width=WIDTH)
        points = {f"{axis}{k}": drawn.points[k]["xy".index(axis)] for k in range(len(drawn.points)) for axis in "xy"}
        told = {"sex": drawn.sex, "pixel_spacing_mm": drawn.pixel_spacing_mm}
        rows.append({"image": _image(path, number, drawn.image), **told, **points})
    pd.DataFrame(rows).to_csv(path, index=False)


def one_annotator(path: Path) -> None:
    """The same images as any other such table, without what only one table may say."""
    landmark_table(path)
    pd.read_csv(path).drop(columns=["sex", "pixel_spacing_mm"]).to_csv(path, index=False)


def face_table(path: Path) -> None:
    """68 points on a ring that turns a little from image to image; two images of each person."""
    rows, rng = [], np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    for number in range(NUM):
        points = np.stack([40 + 30 * np.cos(angle), 48 + 35 * np.sin(angle)], 1) + rng.normal(0, 1, (68, 2))
        image = rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        row = {"image": _image(path, number, image, f"Person_{number // 2}_{number % 2}.png")}
        rows.append(row | {f"{axis}{k}": points[k]["xy".index(axis)] for k in range(68) for axis in "xy"})
    pd.DataFrame(rows).to_csv(path, index=False)
    path.with_name("flip_pairs.txt").write_text("36 45\n0 16\n")


def label_table(path: Path) -> None:
    """Ages, their groups and sex, under the names that the pages use."""
    rows = []
    for number in range(NUM):
        drawn = draw_phantom(0, number, height=HEIGHT, width=WIDTH)
        age = {"boneage_months": drawn.age_months, "age_months": drawn.age_months, "age_group": f"group {number % 2}"}
        rows.append({"image": _image(path, number, drawn.image), "sex": drawn.sex, **age})
    pd.DataFrame(rows).to_csv(path, index=False)


def class_folders(path: Path) -> None:
    for number in range(NUM):
        image = draw_phantom(0, number, height=HEIGHT, width=WIDTH).image
        place = path / ("train", "val")[number // 4 % 2] / ("ants", "bees")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number}.png")


def images_and_table(path: Path) -> None:
    path.mkdir(exist_ok=True)
    landmark_table(path / "table.csv")
    for image in sorted((path / "images").iterdir())[:4]:
        image.rename(path / image.name)
    table = pd.read_csv(path / "table.csv")[:4]
    table.to_csv(path / "table.csv", index=False)
    shutil.rmtree(path / "images")


def finished_run(path: Path) -> None:
    shutil.copytree(run_of("landmarks"), path)


def finished_sweep(path: Path) -> None:
    """Two seeds of a tiny run; the second sweep is the first again."""
    first = path.parents[2] / SWEEPS[0]
    if path != first:
        shutil.copytree(first, path)
        return
    settings = [*(text for text in TINY if not text.startswith(("phases", "scheduler"))), "phases=finetune_only"]
    settings += ["max_steps=2", "phases.finetune.epochs=1", "seed=1,2", f"hydra.sweep.dir={path}"]
    ended = run_main("-m", *settings, folder=path.parents[2])
    assert ended.code == 0, ended.err


def text_files(path: Path) -> None:
    """The files of ISBI's challenge, by two people."""
    for doctor in ("400_junior", "400_senior"):
        for number in range(2):
            place = path / doctor / f"{number:03}.txt"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(ISBI)
            _image(path.parent / "RawImage" / "table.csv", number, np.zeros((40, 60), np.uint8), f"{number:03}.png")


def pts_files(path: Path) -> None:
    path.mkdir()
    for number in range(2):
        (path / f"{number:03}.pts").write_text(PTS)
        Image.fromarray(np.zeros((40, 60), np.uint8)).save(path / f"{number:03}.png")


def names(path: Path) -> None:
    path.write_text("sella\nnasion\n")


# What the pages name -> what makes it. A page that names another path adds a line here.
MADE: dict[str, Callable[[Path], None]] = {
    "ceph/landmarks.csv": landmark_table,
    "points.csv": landmark_table,
    "new.csv": landmark_table,
    "run/predictions.csv": landmark_table,
    "senior.csv": landmark_table,
    "junior.csv": one_annotator,
    "faces68/landmarks.csv": face_table,
    "boneage/labels.csv": label_table,
    "labels.csv": label_table,
    "photos": class_folders,
    "hymenoptera": class_folders,
    "xrays": images_and_table,
    "new_xrays": images_and_table,
    "AnnotationsByMD": text_files,
    "helen": pts_files,
    "names.txt": names,
    "outputs/RUN": finished_run,
    RUN: finished_run,
    SWEEPS[0]: finished_sweep,
    SWEEPS[1]: finished_sweep,
}


def _image(table: Path, number: int, image: np.ndarray, name: str = "") -> str:
    """Save an image where the table looks for it; its name."""
    name = name or f"{number:03}.png"
    place = table.parent / "images" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        Image.fromarray(image).save(place)
    return name
