"""`python -m trainer.check`: each fault planted in clean data is found, at its line; in clean data nothing is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pandas as pd
import pytest
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from data.phantom import draw_phantom
from data.splits import read_splits
from trainer.config.store import to_train_config
from trainer.inspection.inspect import inspect
from trainer.inspection.settings import register_check_schema

NUM, NUM_TRAIN = 24, 18
INPUT = ("data.input_height=128", "data.input_width=104", "data.batch_size=4")
Table = pd.DataFrame


class Checked:
    """What a check left: its exit code, and check.json."""

    def __init__(self, code: int, folder: Path) -> None:
        self.code, self.folder = code, folder
        self.told: dict[str, Any] = json.loads((folder / "check.json").read_text(encoding="utf-8"))
        self.found = {finding["kind"]: finding for finding in self.told["findings"]}

    def lines(self, kind: str) -> list[int | None]:
        return [place["line"] for place in self.found[kind]["places"]]

    def details(self, kind: str) -> str:
        return "; ".join(f"{place['image']} {place['detail']}" for place in self.found[kind]["places"])


@cache
def composed_for(*overrides: str) -> DictConfig:
    register_check_schema()
    with hydra.initialize_config_module("conf", version_base="1.3"):
        return hydra.compose("check", overrides=[*INPUT, *overrides])


def check(folder: Path, *overrides: str) -> Checked:
    """The check in this process. Composing takes longer than checking, so it is done once for all tables."""
    where = [text for text in overrides if text.startswith(("data.table=", "data.root="))]
    shared = [text for text in overrides if text not in where]
    composed = composed_for(*shared, *(f"{text.split('=')[0]}=set_below" for text in where)).copy()
    for text in where:
        OmegaConf.update(composed, *text.split("=", 1))
    settings = OmegaConf.to_object(composed.check)
    config = to_train_config(OmegaConf.masked_copy(composed, [key for key in composed if key != "check"]))
    report = folder / "report"
    report.mkdir()
    return Checked(inspect(config, settings, report), report)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantom radiographs, with tables of their landmarks and of their labels."""
    folder = tmp_path_factory.mktemp("phantoms")
    rows, labels = [], []
    for i in range(NUM):
        sample = draw_phantom(0, i)
        Image.fromarray(sample.image).save(folder / f"{i:02d}.png")
        split, points = "train" if i < NUM_TRAIN else "val", np.round(sample.points, 2).ravel()
        names = [f"{axis}{k}" for k in range(len(sample.points)) for axis in "xy"]
        spacing_mm = round(sample.pixel_spacing_mm, 4)
        rows.append(
            {"image": f"{i:02d}.png", "split": split, "pixel_spacing_mm": spacing_mm}
            | dict(zip(names, points, strict=True))
        )
        labels.append(
            {"image": f"{i:02d}.png", "split": split, "label": "ab"[i % 2], "age": 100 + 3 * i, "sex": "FM"[i // 2 % 2]}
        )
    pd.DataFrame(rows).to_csv(folder / "points.csv", index=False)
    pd.DataFrame(labels).to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.fixture
def folder(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "data"))


def plant(folder: Path, table: str, change: Callable[[Table, Path], Table | None]) -> str:
    """The table (all of it as text, so that anything can be written into it) after a change; returns its override."""
    path = folder / table
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    changed = change(rows, folder)
    (rows if changed is None else changed).to_csv(path, index=False)
    return f"data.table={path}"


def line(row: int) -> int:
    """In the table; the first line is its header."""
    return row + 2


def edited(row: int, **cells: object) -> Callable[[Table, Path], None]:
    def change(table: Table, folder: Path) -> None:
        for column, value in cells.items():
            table.loc[row, column] = str(value)

    return change


def points_of(table: Table, row: int) -> np.ndarray:
    return table.filter(regex="^[xy][0-9]").loc[row].to_numpy(float).reshape(-1, 2)


def put_points(table: Table, row: int, points: np.ndarray) -> None:
    columns = table.filter(regex="^[xy][0-9]").columns
    for column, value in zip(columns, points.ravel(), strict=True):
        table.loc[row, column] = "" if np.isnan(value) else f"{value:.2f}"


def moved(row: int, move: Callable[[np.ndarray], np.ndarray]) -> Callable[[Table, Path], None]:
    return lambda table, folder: put_points(table, row, move(points_of(table, row)))


def image_as(row: int, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Table, Path], None]:
    def write(table: Table, folder: Path) -> None:
        path = folder / table.loc[row, "image"]
        Image.fromarray(change(np.array(Image.open(path)))).save(path)

    return write


def bytes_as(row: int, change: Callable[[bytes], bytes]) -> Callable[[Table, Path], None]:
    def write(table: Table, folder: Path) -> None:
        path = folder / table.loc[row, "image"]
        path.write_bytes(change(path.read_bytes()))

    return write


def copied(row: int, name: str, **cells: object) -> Callable[[Table, Path], Table]:
    """The row again, at the end of the table, its image saved anew under a name (the file copied for a like name)."""

    def add(table: Table, folder: Path) -> Table:
        source = folder / table.loc[row, "image"]
        if source.suffix == Path(name).suffix:
            if source.name != name:
                shutil.copy(source, folder / name)
        else:
            Image.open(source).save(folder / name, quality=92)
        again = table.loc[[row]].assign(image=name, **{key: str(value) for key, value in cells.items()})
        return pd.concat([table, again], ignore_index=True)

    return add


def swapped(one: int, other: int) -> Callable[[np.ndarray], np.ndarray]:
    def swap(points: np.ndarray) -> np.ndarray:
        points[[one, other]] = points[[other, one]]
        return points

    return swap


def shifted(landmark: int, by_px: float) -> Callable[[np.ndarray], np.ndarray]:
    def shift(points: np.ndarray) -> np.ndarray:
        points[landmark, 0] += by_px
        return points

    return shift


def smaller(table: Table, folder: Path) -> None:
    image_as(5, lambda image: image[2::5, 2::5])(table, folder)
    put_points(table, 5, (points_of(table, 5) - 2) / 5)


def turned(table: Table, folder: Path) -> None:
    image_as(7, lambda image: np.rot90(image).copy())(table, folder)
    points = points_of(table, 7)
    put_points(table, 7, np.column_stack([points[:, 1], 207 - points[:, 0]]))


def mirrored_points(points: np.ndarray) -> np.ndarray:
    return points * [-1, 1] + [207, 0]


ERROR, WARNING, NOTE = ("error", 3), ("warning", 1), ("note", 0)
LAST = line(NUM)
LANDMARK_FAULTS: list[tuple[str, tuple[str, int], list[int], Callable[[Table, Path], Table | None], str]] = [
    ("missing-image", ERROR, [line(3)], edited(3, image="lost.png"), "not found"),
    ("missing-image", ERROR, [line(3)], edited(3, image=""), "no name in the image column"),
    ("unreadable-image", ERROR, [line(4)], bytes_as(4, lambda content: content[:3000]), "ends too early"),
    ("unreadable-image", ERROR, [line(4)], bytes_as(4, lambda content: b""), "0 bytes"),
    ("unreadable-image", ERROR, [line(4)], bytes_as(4, lambda content: b"<html>"), "not an image"),
    ("blank-image", WARNING, [line(6)], image_as(6, lambda image: np.full_like(image, 7)), "all pixels are 7"),
    ("small-image", WARNING, [line(5)], smaller, "42 x 51 px, enlarged 2.5 x"),
    ("unusual-shape", WARNING, [line(8)], image_as(8, lambda im: np.pad(im, ((0, 0), (0, 500)))), "708 x 256 px"),
    ("inverted-image", WARNING, [line(9)], image_as(9, lambda image: 255 - image), "09.png"),
    ("repeated-path", ERROR, [line(2)], copied(2, "02.png"), f"also 02.png (line {LAST})"),
    ("same-bytes", WARNING, [line(2)], copied(2, "again.png"), f"also again.png (line {LAST})"),
    ("same-pixels", WARNING, [line(2)], copied(2, "again.bmp"), f"also again.bmp (line {LAST})"),
    ("same-look", WARNING, [line(2)], copied(2, "again.jpg"), f"also again.jpg (line {LAST})"),
    ("same-bytes", WARNING, [line(2)], copied(2, "again.png", x0=90.0), "with other points"),
    ("leak", ERROR, [line(2)], copied(2, "again.png", split="val"), f"in train, also again.png (line {LAST}) in val"),
    ("leak", ERROR, [line(2)], copied(2, "again.jpg", split="dev"), f"in train, also again.jpg (line {LAST}) in val"),
    ("unknown-split", ERROR, [line(1)], edited(1, split="trian"), "'trian' is no split"),
    ("unreadable-points", ERROR, [line(1)], edited(1, x3="12px"), "column x3 is '12px'"),
    ("unreadable-points", ERROR, [line(1)], edited(1, x3=""), "column x3 is empty where y3 is not"),
    ("outside-image", ERROR, [line(1)], moved(1, lambda points: points * 1e300), "px beyond 208 x 256 px"),
    ("no-landmarks", WARNING, [line(1)], moved(1, lambda points: points * np.nan), "01.png"),
    ("landmark-outside-image", WARNING, [line(1)], moved(1, lambda p: p + np.array([0, 45])), "landmarks 6, 7, 8, 15"),
    ("outside-image", ERROR, [line(1)], moved(1, lambda points: points + 500), "px beyond 208 x 256 px"),
    ("same-place", WARNING, [line(1)], lambda t, f: edited(1, x3=t.loc[1, "x12"], y3=t.loc[1, "y12"])(t, f), "3, 12"),
    ("misplaced-landmark", WARNING, [line(1)], moved(1, shifted(4, -40)), "landmark 4 "),
    ("misplaced-landmark", WARNING, [line(1)], moved(1, swapped(0, 7)), "landmarks 0, 7 look swapped"),
    ("misfit-shape", WARNING, [line(1)], moved(1, lambda points: points[:, ::-1]), "x and y are swapped"),
    ("misfit-shape", WARNING, [line(1)], moved(1, mirrored_points), "a mirror image of the others"),
    ("misfit-shape", WARNING, [line(1)], moved(1, lambda p: p * [1, -1] + [0, 255]), "y is counted from the bottom"),
    ("misfit-shape", WARNING, [line(7)], turned, "turned by -8"),
    ("misfit-shape", WARNING, [line(1)], moved(1, lambda points: points / 2), "labelled at another image size?"),
    ("missing-spacing", WARNING, [line(1)], edited(1, pixel_spacing_mm=""), "01.png"),
    ("impossible-spacing", ERROR, [line(1)], edited(1, pixel_spacing_mm=0), "0 mm/px"),
    ("unreadable-spacing", ERROR, [line(1)], edited(1, pixel_spacing_mm="a"), "column pixel_spacing_mm is 'a'"),
    ("implausible-spacing", WARNING, [line(1)], edited(1, pixel_spacing_mm=0.001), "0.001 mm/px"),
    ("other-height", WARNING, [line(1)], edited(1, pixel_spacing_mm=0.3), "77 mm high, usual are"),
    ("other-scale", WARNING, [line(1)], edited(1, pixel_spacing_mm=1.6), "times the usual"),
]  # fmt: skip
# What a fault brings along: a broken unit shows in the height too, and so on.
BRINGS = {
    "implausible-spacing": {"other-height"},
    "impossible-spacing": {"missing-spacing"},
    "unreadable-spacing": {"missing-spacing"},
    "unusual-shape": {"misfit-shape"},
    "same-place": {"misplaced-landmark"},
    "misfit-shape": {"landmark-outside-image", "other-scale"},
    "small-image": {"other-height"},
    "landmark-outside-image": {"misfit-shape"},
}


@pytest.mark.parametrize(
    ("kind", "severity", "lines", "change", "detail"),
    LANDMARK_FAULTS,
    ids=[f"{i}-{fault[0]}" for i, fault in enumerate(LANDMARK_FAULTS)],
)
def test_a_planted_fault_is_found_at_its_line_and_nothing_else(
    kind: str,
    severity: tuple[str, int],
    lines: list[int],
    change: Callable[[Table, Path], Table | None],
    detail: str,
    folder: Path,
) -> None:
    checked = check(folder, "data=csv", plant(folder, "points.csv", change), "check.tiles=0")
    assert kind in checked.found, checked.found
    found = checked.found[kind]
    assert (found["severity"], checked.code) == severity
    assert found["source"] == "points.csv"
    assert checked.lines(kind) == lines
    assert detail in checked.details(kind)
    others = {name for name, other in checked.found.items() if other["severity"] != "note"} - {kind}
    assert others <= BRINGS.get(kind, set()), checked.found
    assert (checked.told["run_stops_with"] is not None) <= (checked.code == 3)


def test_clean_data_have_no_finding_and_exit_0(folder: Path) -> None:
    checked = check(folder, "data=csv", f"data.table={folder / 'points.csv'}")
    assert checked.code == 0
    assert checked.told["findings"] == []
    assert checked.told["verdict"] == "nothing found"
    counts = checked.told["counts"]
    assert counts["splits"] == {
        "given": True, "train": {"images": 18, "groups": None}, "val": {"images": 6, "groups": None},
    }  # fmt: skip
    assert counts["sizes"]["width"] == {"min": 208, "median": 208, "max": 208}
    assert counts["epoch"] == {"training_images": 18, "batch_size": 4, "accumulation": 1, "updates": 4}
    assert counts["cache"]["training_gb"] == pytest.approx(18 * 128 * 104 / 2**30, abs=1e-4)
    assert counts["modes"] == {"gray 8 bit": 24}
    with Image.open(checked.folder / "contact_sheet.png") as sheet:
        assert sheet.width > 2000
        assert len(np.unique(np.array(sheet))) > 50
    assert "nothing found" in (checked.folder / "check.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "overrides",
    [["task=classification"], ["task=regression", "data.label=age", "data.covariates=[sex]", "model=covariate"]],
)
def test_clean_labels_have_no_finding(overrides: list[str], folder: Path) -> None:
    checked = check(folder, "data=csv", f"data.table={folder / 'labels.csv'}", *overrides)
    assert (checked.code, checked.told["findings"]) == (0, [])


@pytest.mark.parametrize("task", ["landmarks", "classification", "regression"])
def test_phantoms_have_no_finding(task: str, tmp_path: Path) -> None:
    checked = check(tmp_path, f"task={task}", "data.num_images=100")
    assert (checked.code, checked.told["findings"]) == (0, [])
    assert checked.told["counts"]["rows"] == 100


def ages(values: dict[int, object]) -> Callable[[Table, Path], None]:
    def change(table: Table, folder: Path) -> None:
        for row, value in values.items():
            table.loc[row, "age"] = str(value)

    return change


def all_of(column: str, value: str) -> Callable[[Table, Path], Table]:
    return lambda table, folder: table.assign(**{column: value})


CLASSES, NUMBERS = "task=classification", "task=regression"
LABEL_FAULTS: list[tuple[str, tuple[str, int], list[int], Callable[[Table, Path], Table | None], str, str]] = [
    ("missing-label", ERROR, [line(3)], edited(3, label=""), "column label is empty", CLASSES),
    ("one-class", ERROR, [], all_of("label", "a"), "", CLASSES),
    ("class-not-in-train", ERROR, [line(20)], edited(20, label="aa"), "class 'aa'", CLASSES),
    ("class-of-one", WARNING, [line(2)], edited(2, label="aa"), "class 'aa'", CLASSES),
    ("no-label-column", ERROR, [], lambda table, folder: table.rename(columns={"label": "lable"}), "", CLASSES),
    ("missing-covariate", ERROR, [line(5)], edited(5, sex=""), "05.png", CLASSES),
    ("unusable-covariate", ERROR, [], edited(20, sex="X"), "", CLASSES),
    ("leak", ERROR, [line(2)], copied(2, "again.png", split="val", label="b"), "with other labels (a and b)", CLASSES),
    ("label-no-number", ERROR, [line(4)], edited(4, age="old"), "'old'", NUMBERS),
    ("far-number", WARNING, [line(4)], edited(4, age=-999), "age is -999", NUMBERS),
    ("constant-number", ERROR, [], all_of("age", "7"), "", NUMBERS),
]


@pytest.mark.parametrize(
    ("kind", "severity", "lines", "change", "detail", "task"),
    LABEL_FAULTS,
    ids=[f"{i}-{fault[0]}" for i, fault in enumerate(LABEL_FAULTS)],
)
def test_a_fault_of_labels_is_found_at_its_line(
    kind: str,
    severity: tuple[str, int],
    lines: list[int],
    change: Callable[[Table, Path], Table | None],
    detail: str,
    task: str,
    folder: Path,
) -> None:
    given = ["data=csv", plant(folder, "labels.csv", change), "data.covariates=[sex]", "check.tiles=0", task]
    given += ["data.label=age"] if task == NUMBERS else []
    checked = check(folder, *given)
    assert kind in checked.found, checked.found
    assert (checked.found[kind]["severity"], checked.code) == severity
    assert checked.lines(kind) == lines
    assert detail in checked.details(kind)
    assert {name for name, found in checked.found.items() if found["severity"] == "error"} <= {kind}


def test_all_faults_are_told_together_and_so_is_what_a_run_would_say(folder: Path) -> None:
    def many(table: Table, folder: Path) -> None:
        for change in (
            edited(1, x3="12px"), edited(2, x3=""), edited(3, image="lost.png"), edited(5, split="trian"),
            bytes_as(4, lambda content: content[:3000]), edited(6, pixel_spacing_mm=-1), moved(7, shifted(4, -40)),
        ):  # fmt: skip
            change(table, folder)

    checked = check(folder, "data=csv", plant(folder, "points.csv", many))
    assert checked.code == 3
    told = [(finding["kind"], place["line"]) for finding in checked.told["findings"] for place in finding["places"]]
    assert {
        ("unreadable-points", line(1)), ("unreadable-points", line(2)), ("missing-image", line(3)),
        ("unreadable-image", line(4)), ("unknown-split", line(5)), ("impossible-spacing", line(6)),
        ("misplaced-landmark", line(7)),
    } <= set(told)  # fmt: skip
    assert "line 3, column x3 is '12px'" in checked.told["run_stops_with"]


def test_a_group_on_both_sides_is_a_leak(folder: Path) -> None:
    def group(table: Table, folder: Path) -> Table:
        return table.assign(group=[f"p{row % 20}" for row in range(len(table))])

    checked = check(folder, "data=csv", plant(folder, "points.csv", group), "check.tiles=0")
    assert (checked.code, list(checked.found)) == (3, ["group-leak"])
    assert checked.details("group-leak").count("group p") == 4
    assert "group p0, line 2 (train) and line 22 (val)" in checked.details("group-leak")


def test_a_landmark_without_a_training_label_is_an_error(folder: Path) -> None:
    def forget(table: Table, folder: Path) -> None:
        table.loc[: NUM_TRAIN - 1, ["x4", "y4"]] = ""

    checked = check(folder, "data=csv", plant(folder, "points.csv", forget), "check.tiles=0")
    assert (checked.code, list(checked.found)) == (3, ["landmark-not-in-train"])
    assert checked.told["counts"]["landmarks"][4]["missing"] == NUM_TRAIN


def test_left_and_right_that_are_swapped_are_told_with_flip_pairs(tmp_path: Path) -> None:
    """Faces of eight points, symmetric but for noise, one with its left and right names exchanged."""
    rng = np.random.default_rng(0)
    face = np.array([[20, 30], [76, 30], [30, 40], [66, 40], [36, 80], [60, 80], [48, 55], [48, 90]], dtype=float)
    pairs = [(0, 1), (2, 3), (4, 5)]
    order = [1, 0, 3, 2, 5, 4, 6, 7]
    rows = []
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (120, 97), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        points = face + rng.normal(0, 1, face.shape)
        points = points[order] if i == 3 else points
        rows.append([f"{i}.png", *points.round(2).ravel()])
    columns = ["image", *(f"{axis}{k}" for k in range(8) for axis in "xy")]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "faces.csv", index=False)
    (tmp_path / "pairs.txt").write_text("".join(f"{i} {j}\n" for i, j in pairs))
    flip = ["data.augmentation.flip=0.5", "data.augmentation.flip_pairs=pairs.txt"]
    checked = check(tmp_path, "data=csv", f"data.table={tmp_path / 'faces.csv'}", *flip, "check.tiles=0")
    assert checked.lines("misfit-shape") == [line(3)]
    assert "left and right landmarks are swapped" in checked.details("misfit-shape")


def test_an_image_folder_is_checked_by_names(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for i in range(NUM):
        place = root / ("train" if i < NUM_TRAIN else "val") / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / f"{i:02d}.png", place)
    given = ["task=classification", "data=image_folder", f"data.root={root}"]
    clean = check(tmp_path, *given)
    assert (clean.code, clean.told["findings"]) == (0, [])
    shutil.rmtree(clean.folder)
    shutil.copy(root / "train" / "a" / "00.png", root / "val" / "b" / "new.png")
    (root / "train" / "b" / "01.png").write_bytes(b"")
    checked = check(tmp_path, *given)
    assert (checked.code, set(checked.found)) == (3, {"leak", "unreadable-image"})
    assert checked.details("leak") == "train/a/00.png in train, also val/b/new.png in val, with other labels (a and b)"
    assert checked.details("unreadable-image").startswith("train/b/01.png")


def test_without_pixels_the_headers_and_the_table_are_checked(folder: Path) -> None:
    blank = image_as(4, np.zeros_like)
    given = ["data=csv", plant(folder, "points.csv", blank), "check.pixels=false"]
    checked = check(folder, *given)
    assert checked.code == 0
    assert checked.told["counts"]["images"]["readable"] == NUM
    assert not checked.told["pixels_read"]


def test_the_split_is_the_one_that_a_run_makes(folder: Path) -> None:
    from data.records import csv_records

    table = folder / "points.csv"
    override = plant(folder, "points.csv", lambda rows, _: rows.drop(columns="split"))
    checked = check(folder, "data=csv", override, "data.val_fraction=0.3", "data.split_seed=5", "check.tiles=0")
    records = csv_records(
        table=table, root=None, pixel_spacing_mm=None, val_fraction=0.3, test_fraction=0.0, split_seed=5,
        splits_file=folder / "splits.csv",
    )  # fmt: skip
    assert checked.told["counts"]["splits"]["val"]["images"] == int((records.splits == "val").sum()) == 7
    assert read_splits(checked.folder / "splits.csv", records.image_names).tolist() == records.splits.tolist()


def run_check(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trainer.check", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_the_command_reports_leaves_its_files_and_exits_by_severity(folder: Path, tmp_path: Path) -> None:
    override = plant(folder, "points.csv", copied(2, "again.png", split="val"))
    ended = run_check("data=csv", override, *INPUT, folder=tmp_path)
    assert ended.returncode == 3, ended.stderr
    assert ended.stderr == ""
    assert "\x1b" not in ended.stdout  # a log file gets plain lines
    assert (
        f"error    points.csv: 1 image in more than one split (the same bytes)\n         line {line(2)} (02.png)"
        in ended.stdout
    )
    (report,) = (tmp_path / "outputs").glob("*/*_check")
    assert str(report) in ended.stdout.splitlines()[-1]
    assert {path.name for path in report.iterdir()} == {"check.json", "check.txt", "contact_sheet.png", "splits.csv"}
    assert json.loads((report / "check.json").read_text())["exit_code"] == 3


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["check.pixel=false"], 2, "Key 'pixel' not in 'CheckConfig'"),
        (["check.tiles=-1"], 2, "check.tiles=-1 must not be negative"),
        (["data=csv", "data.table=absent.csv"], 3, "absent.csv: file not found"),
        (["-m", "seed=1,2"], 2, "leave out -m"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_report(arguments: list[str], code: int, said: str, tmp_path: Path) -> None:
    ended = run_check(*arguments, folder=tmp_path)
    assert ended.returncode == code, ended.stderr
    assert ended.stderr.startswith("error: ")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.glob("outputs/*/*"))


def test_help_names_its_keys_and_imports_neither_torch_nor_numpy(tmp_path: Path) -> None:
    tell = """
import atexit, runpy, sys
HEAVY = {"torch", "timm", "numpy", "pandas", "cv2"}
atexit.register(lambda: print("heavy:", sorted(HEAVY & set(sys.modules)), file=sys.stderr))
sys.argv = ["trainer.check", "--help"]
runpy.run_module("trainer.check", run_name="__main__", alter_sys=True)
"""
    told = subprocess.run(
        [sys.executable, "-c", tell], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert told.stderr.strip().endswith("heavy: []")
    assert "check.pixels" in told.stdout
    assert "check.tiles" in told.stdout
    assert "Exit codes: 0" in told.stdout


def test_a_check_needs_no_torch(folder: Path) -> None:
    tell = "import sys; import trainer.inspection.inspect; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", tell], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.strip() == "False"


@pytest.mark.real_data
def test_the_research_images_are_checked_without_an_error(tmp_path: Path) -> None:
    data = Path(os.environ.get("TRAINER_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not data.is_dir():
        pytest.skip("the research images are not here")
    checked = check(tmp_path, "data=csv", f"data.table={data / 'ceph' / 'landmarks.csv'}", "check.tiles=0")
    assert checked.code == 0, checked.found
    shutil.rmtree(checked.folder)
    checked = check(tmp_path, "data=csv", f"data.table={data / 'faces68' / 'landmarks.csv'}", "check.tiles=0")
    assert "error" not in {finding["severity"] for finding in checked.told["findings"]}
    assert "Marieta_Chrousala_12.jpg" in checked.details("misplaced-landmark")  # a mouth that is not where it is drawn
