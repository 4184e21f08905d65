"""`python -m trainer.check`: each fault planted in clean data is found, at its line; in clean data nothing is."""

from __future__ import annotations

import copy
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
from conftest import compose
from faults import Ended, run_main
from omegaconf import OmegaConf
from PIL import Image

from data.phantom import draw_phantom
from data.splits import read_splits
from trainer.config.run import TrainConfig
from trainer.config.store import to_train_config
from trainer.inspection.copies import inspect_copies
from trainer.inspection.findings import Findings
from trainer.inspection.image_facts import ImageFacts
from trainer.inspection.inspect import inspect
from trainer.inspection.settings import CheckConfig, register_check_schema
from trainer.inspection.subject import Subject

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # which NumPy would print between the findings

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


@pytest.fixture(scope="module", autouse=True)
def _known() -> None:
    register_check_schema()


@cache
def config_for(*overrides: str) -> tuple[TrainConfig, CheckConfig]:
    composed = compose(*INPUT, *overrides, config="check")
    settings = OmegaConf.to_object(composed.check)
    assert isinstance(settings, CheckConfig)
    return to_train_config(OmegaConf.masked_copy(composed, [key for key in composed if key != "check"])), settings


def check(folder: Path, *overrides: str) -> Checked:
    """The check in this process. Composing takes longer than checking, so it is done once for all tables."""
    where = dict(text.split("=", 1) for text in overrides if text.startswith(("data.table=", "data.root=")))
    shared = [text for text in overrides if text.split("=")[0] not in where]
    config, settings = copy.deepcopy(config_for(*shared, *(f"{key}=set_below" for key in where)))
    for key, value in where.items():
        setattr(config.data, key.removeprefix("data."), value)
    report = folder / "report"
    report.mkdir(exist_ok=True)
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
    ("unreadable-image", ERROR, [line(4)], bytes_as(4, lambda content: b"<html>"), "a web page"),
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
    checked = check(folder, "data=csv", f"data.table={folder / 'labels.csv'}", "check.tiles=6", *overrides)
    assert (checked.code, checked.told["findings"]) == (0, [])


@pytest.mark.parametrize("task", ["landmarks", "classification", "regression"])
def test_phantoms_have_no_finding(task: str, tmp_path: Path) -> None:
    checked = check(tmp_path, f"task={task}", "data.num_images=60", "check.tiles=0")
    assert (checked.code, checked.told["findings"]) == (0, [])
    assert checked.told["counts"]["rows"] == 60


def ages(values: dict[int, object]) -> Callable[[Table, Path], None]:
    def change(table: Table, folder: Path) -> None:
        for row, value in values.items():
            table.loc[row, "age"] = str(value)

    return change


def all_of(column: str, value: str) -> Callable[[Table, Path], Table]:
    return lambda table, folder: table.assign(**{column: value})


CLASSES, NUMBERS = "task=classification", "task=regression"
NO_PAIRS = ("data.augmentation.flip_pairs=lost.txt",)
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


def in_turn(*changes: Callable[[Table, Path], Table | None]) -> Callable[[Table, Path], Table]:
    def change(table: Table, folder: Path) -> Table:
        for one in changes:
            changed = one(table, folder)
            table = table if changed is None else changed
        return table

    return change


def test_copies_of_each_side_do_not_hide_that_the_sides_are_copies(folder: Path) -> None:
    """02.png has a copy in train, and saved as JPEG one with a copy in val."""
    change = in_turn(
        copied(2, "again.png"), copied(2, "v1.jpg", split="val"), copied(NUM + 1, "v2.jpg", split="val")
    )  # fmt: skip
    checked = check(folder, "data=csv", plant(folder, "points.csv", change), "check.tiles=0")
    assert checked.code == 3
    assert checked.lines("same-bytes") == [line(2), line(NUM + 1)]
    assert checked.details("leak") == f"02.png in train, also v1.jpg (line {line(NUM + 1)}) in val"


def test_a_thousand_pictures_that_look_alike_are_one_set() -> None:
    """And two sets of two beside them stay sets of their own. (Every two compared would be a million comparisons.)"""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 200, (32, 32)) for _ in range(3)]
    thumbs = [*([pictures[0]] * 1500), pictures[1], pictures[2], pictures[1], pictures[2]]
    facts: list[ImageFacts | None] = []
    for i, thumb in enumerate(thumbs):
        changed = thumb.copy()
        changed.ravel()[i % 1024] += 20  # by which two thumbnails differ by 28 / 32 grey values
        facts.append(ImageFacts(None, pixels=i.to_bytes(2), low=0, high=255, thumbnail=changed.astype(np.uint8)))
    names = [str(i) for i in range(len(thumbs))]
    subject = Subject(
        source=Path("drawn"), names=names, lines=None, paths=None, splits=np.full(len(names), "train"),
        splits_given=True,
    )  # fmt: skip
    findings = Findings("drawn")
    inspect_copies(subject, facts, findings)
    (found,) = findings.found
    assert found.kind == "same-look"
    assert [(place.row, *place.others) for place in found.places] == [
        tuple(range(1500)), (1500, 1502), (1501, 1503),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cells", "lines", "detail"),
    [
        ({1: "80,5", 2: "81,25", 5: "1.200"}, [line(5)], "column x3 is '1.200'"),
        ({2: "1.200", 3: "82,5", 5: "1.300", 6: "word"}, [line(2), line(5), line(6)], "column x3 is '1.300'"),
    ],
)
def test_numbers_that_cannot_stand_in_one_table_are_told(
    cells: dict[int, str], lines: list[int], detail: str, folder: Path
) -> None:
    """Beside 80,5 a 1.200 may be a thousand; alone each can be read."""
    table = folder / "points.csv"
    rows = pd.read_csv(table, dtype=str)
    points = rows.filter(regex="^[xy][0-9]")
    rows[points.columns] = points.map(lambda number: f"{round(float(number))}")
    for row, text in cells.items():
        rows.loc[row, "x3"] = text
    rows.drop(columns="pixel_spacing_mm").to_csv(table, index=False, sep=";")
    checked = check(folder, "data=csv", f"data.table={table}", "check.tiles=0")
    places = [p for f in checked.told["findings"] if f["kind"] == "unreadable-points" for p in f["places"]]
    assert sorted(place["line"] for place in places) == lines
    assert detail in {place["detail"] for place in places}
    assert checked.told["counts"]["landmarks"][3]["present"] == NUM - len(lines)
    assert f"line {lines[0]}, column x3" in checked.told["run_stops_with"]


def test_a_wrong_image_root_is_told_beside_the_other_faults(folder: Path) -> None:
    override = plant(folder, "points.csv", edited(1, x3="12px"))
    root = folder / "pictures"
    checked = check(folder, "data=csv", override, f"data.root={root}", "check.tiles=0")
    assert {"missing-image", "unreadable-points"} == set(checked.found)
    assert f"24 images of 24 not found: data.root={root}: no such folder" in checked.found["missing-image"]["what"]


def test_an_image_outside_the_root_is_not_called_lost(folder: Path) -> None:
    (folder / "part").mkdir()
    (folder / "part" / "points.csv").write_text((folder / "points.csv").read_text().replace("\n", "\n../")[:-3])
    checked = check(folder, "data=csv", plant(folder / "part", "points.csv", lambda *_: None), "check.tiles=0")
    assert set(checked.found) - {"shapes-not-compared"} == {"image-outside-root"}
    assert len(checked.lines("image-outside-root")) == NUM
    assert "data.allow_outside_root=true" in checked.found["image-outside-root"]["advice"]


def test_a_terminal_obeys_nothing_in_the_names_and_cells_of_the_data(folder: Path) -> None:
    clear = "\x1b[2J"
    change = in_turn(
        edited(3, image=f"{clear}lost.png"), edited(4, label=f"{clear}a"), edited(5, sex=f"{clear}F"),
    )  # fmt: skip
    given = [plant(folder, "labels.csv", change), "task=classification", "data.covariates=[sex]", *INPUT]
    ended = run_here("data=csv", *given, "hydra.run.dir=there", folder=folder)
    assert ended.code == 3
    for said in (ended.out, ended.err, (folder / "there" / "check.txt").read_text()):
        assert "\x1b" not in said
    assert "line 5 (\\x1b[2Jlost.png): not found" in ended.out


def test_a_group_on_both_sides_is_a_leak(folder: Path) -> None:
    def group(table: Table, folder: Path) -> Table:
        return table.assign(group=[f"p{row % 20}" for row in range(len(table))])

    checked = check(folder, "data=csv", plant(folder, "points.csv", group), "check.tiles=0")
    assert (checked.code, list(checked.found)) == (3, ["group-leak"])
    assert checked.details("group-leak").count("group p") == 4
    assert "group p0, line 2 (train) and line 22 (val)" in checked.details("group-leak")


def test_a_pattern_of_groups_is_checked_like_a_column(folder: Path) -> None:
    given = [plant(folder, "points.csv", lambda table, folder: table), "check.tiles=0"]
    leak = check(folder, "data=csv", *given, "data.group_pattern='[0-9]([0-9])'")
    assert (leak.code, list(leak.found)) == (3, ["group-leak"])
    shutil.rmtree(leak.folder)
    lost = check(folder, "data=csv", *given, "data.group_pattern='1([0-9])'")
    assert lost.lines("missing-group")[:2] == [line(0), line(1)]
    assert "no group by data.group_pattern=1([0-9])" in lost.details("missing-group")
    assert lost.code == 3


def test_groups_told_twice_are_an_error(folder: Path) -> None:
    table = plant(folder, "points.csv", lambda table, folder: table.assign(patient="p", split=""))
    checked = check(folder, "data=csv", table, "check.tiles=0", "data.group_pattern='(.)'")
    assert "grouped-twice" in checked.found


def test_a_sound_table_of_two_annotators_has_no_finding(folder: Path) -> None:
    def told_apart(table: Table, folder: Path) -> Table:
        points = table.filter(regex="^[xy][0-9]").astype(float)
        columns = {f"{name}_{who}": points[name] + by_px for who, by_px in (("a", -1), ("b", 1)) for name in points}
        return table.drop(columns=points.columns).assign(**columns)

    told = check(folder, "data=csv", plant(folder, "points.csv", told_apart))
    assert told.found == {}
    assert told.code == 0


def test_points_of_one_annotator_that_cannot_be_read_are_told(folder: Path) -> None:
    def told_apart(table: Table, folder: Path) -> Table:
        points = table.filter(regex="^[xy][0-9]")
        both = {f"{name}_{who}": points[name] for who in "ab" for name in points}
        return table.drop(columns=points.columns).assign(**(both | {"x0_b": ["?", *points["x0"][1:]]}))

    told = check(folder, "data=csv", plant(folder, "points.csv", told_apart))
    assert told.lines("unreadable-points") == [line(0)]


def test_a_landmark_without_a_training_label_is_an_error(folder: Path) -> None:
    def forget(table: Table, folder: Path) -> None:
        table.loc[: NUM_TRAIN - 1, ["x4", "y4"]] = ""

    checked = check(folder, "data=csv", plant(folder, "points.csv", forget), "check.tiles=0")
    assert (checked.code, list(checked.found)) == (3, ["landmark-not-in-train"])
    assert checked.told["counts"]["landmarks"][4]["missing"] == NUM_TRAIN


def test_a_landmark_that_the_data_do_not_have_is_told_before_the_run(folder: Path) -> None:
    nme = ["task.nme=pair", "task.nme_landmarks=[3,400]"]
    checked = check(folder, "data=csv", f"data.table={folder / 'points.csv'}", "check.tiles=0", *nme)
    assert (checked.code, list(checked.found)) == (3, ["no-such-landmark"])
    said = "task.nme_landmarks=[3, 400]: there is no landmark 400, they count from 0 to 18"
    assert checked.told["run_stops_with"] == checked.found["no-such-landmark"]["what"] == said


def test_a_rare_landmark_keeps_no_other_from_being_compared(folder: Path) -> None:
    """Eight images have landmark 18, and three of these have nothing else to be compared by."""

    def rare(table: Table, folder: Path) -> None:
        table.loc[8:, ["x18", "y18"]] = ""
        table.loc[:2, [f"{axis}{k}" for k in range(2, 18) for axis in "xy"]] = ""
        put_points(table, 10, shifted(4, -40)(points_of(table.replace("", "nan"), 10)))

    checked = check(folder, "data=csv", plant(folder, "points.csv", rare), "check.tiles=0")
    assert list(checked.found) == ["landmark-not-in-val", "misplaced-landmark"]
    assert checked.lines("misplaced-landmark") == [line(10)]


def beside_an_empty_row(table: Table, folder: Path) -> None:
    edited(1, x3=table.loc[1, "x12"], y3=table.loc[1, "y12"])(table, folder)
    put_points(table, 2, points_of(table, 2) * np.nan)


def most_at_one_place(points: np.ndarray) -> np.ndarray:
    points[:12] = points[0]
    return points


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (beside_an_empty_row, "same-place"),
        (moved(1, most_at_one_place), "same-place"),
        (edited(1, pixel_spacing_mm="1e308"), "impossible-spacing"),
    ],
)
def test_odd_numbers_are_told_and_end_no_computation(
    change: Callable[[Table, Path], Table | None], kind: str, folder: Path
) -> None:
    checked = check(folder, "data=csv", plant(folder, "points.csv", change), "check.tiles=0")
    assert checked.lines(kind) == [line(1)]


def test_a_number_that_no_network_can_learn_is_told(folder: Path) -> None:
    given = [plant(folder, "labels.csv", ages({4: "1e308", 5: "-1e308"})), NUMBERS, "data.label=age", "check.tiles=0"]
    checked = check(folder, "data=csv", *given)
    assert checked.code == 3
    assert checked.lines("label-no-number") == [line(4), line(5)]
    assert checked.told["counts"]["numbers"]["all"]["count"] == NUM - 2


@pytest.mark.parametrize("label", ["split", "sex"])
def test_a_label_column_with_another_role_is_told_as_such(label: str, folder: Path) -> None:
    given = [plant(folder, "labels.csv", lambda *_: None), CLASSES, f"data.label={label}", "data.covariates=[sex]"]
    checked = check(folder, "data=csv", *given, "check.tiles=0")
    assert (checked.code, list(checked.found)) == (3, ["no-label-column"])
    assert checked.found["no-label-column"]["what"] in checked.told["run_stops_with"]


def test_a_refusal_is_told_beside_the_faults_that_it_is_not_about(folder: Path) -> None:
    """A run refuses a landmark a hundred images away, which a finding tells as a warning only."""
    change = in_turn(moved(1, shifted(4, 1e5)), edited(2, pixel_spacing_mm="0.00001"), image_as(3, np.zeros_like))
    override = plant(folder, "points.csv", change)
    checked = check(folder, "data=csv", override, "check.tiles=0", "data.augmentation.flip=0.5", *NO_PAIRS)
    assert {kind for kind, found in checked.found.items() if found["severity"] == "error"} == {"flip-pairs", "refused"}
    assert "landmark 4 is at" in checked.found["refused"]["what"]


def test_without_a_training_row_no_covariate_is_called_empty(folder: Path) -> None:
    given = [plant(folder, "labels.csv", all_of("split", "trian")), CLASSES, "data.covariates=[sex]", "check.tiles=0"]
    assert list(check(folder, "data=csv", *given).found) == ["unknown-split"]


def test_a_covariate_with_decimal_commas_is_counted_as_numbers(folder: Path) -> None:
    table = folder / "labels.csv"
    rows = pd.read_csv(table, dtype=str)
    rows.assign(dose=[f"{row},5" for row in range(NUM)]).to_csv(table, sep=";", index=False)
    given = [f"data.table={table}", CLASSES, "data.covariates=[dose]", "check.tiles=0"]
    counts = check(folder, "data=csv", *given).told["counts"]
    assert counts["covariates"]["dose"]["numbers"]["all"]["max"] == NUM - 0.5


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
    given = ["task=classification", "data=image_folder", f"data.root={root}", "check.tiles=0"]
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
    change = in_turn(
        image_as(4, np.zeros_like), bytes_as(5, lambda content: content[:3000]), edited(6, x3="12px"),
        copied(7, "again.png"), copied(8, "08.png"),
    )  # fmt: skip
    checked = check(folder, "data=csv", plant(folder, "points.csv", change), "check.pixels=false")
    assert {kind: checked.lines(kind) for kind in checked.found} == {
        "unreadable-image": [line(5)], "unreadable-points": [line(6)], "repeated-path": [line(8)],
    }  # fmt: skip
    assert checked.told["counts"]["images"]["readable"] == NUM + 1
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
    """`python -m trainer.check ...` in a process of its own, which says in the end whether it has imported torch."""
    tell = """
import atexit, runpy, sys
atexit.register(lambda: print("heavy:", sorted({"torch", "timm"} & set(sys.modules)), file=sys.stderr))
runpy.run_module("trainer.check", run_name="__main__", alter_sys=True)
"""
    return subprocess.run(
        [sys.executable, "-c", tell, *arguments],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip


def run_here(*arguments: str, folder: Path) -> Ended:
    """The command in this process."""
    return run_main(*arguments, folder=folder, program="trainer.check")


def test_the_command_reports_leaves_its_files_exits_by_severity_and_needs_no_torch(
    folder: Path, tmp_path: Path
) -> None:
    plant(folder, "points.csv", copied(2, "again.png", split="val"))
    table = (folder / "points.csv").rename(folder / "pünkte.csv")  # which the terminal can't show
    ended = run_check("data=csv", f'data.table="{table}"', *INPUT, folder=tmp_path)
    assert ended.returncode == 3, ended.stderr
    assert ended.stderr == "heavy: []\n"
    assert "\x1b" not in ended.stdout  # a log file gets plain lines
    assert (
        f"error    p\\xfcnkte.csv: 1 image in more than one split (the same bytes)\n         line {line(2)} (02.png)"
        in ended.stdout
    )
    (report,) = (tmp_path / "outputs").glob("*/*_check")
    assert str(report) in ended.stdout.splitlines()[-1]
    assert {path.name for path in report.iterdir()} == {"check.json", "check.txt", "contact_sheet.png", "splits.csv"}
    assert json.loads((report / "check.json").read_text())["exit_code"] == 3


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["check.pixel=false"], 2, "check.pixel is not a key of check"),
        (["check.tiles=301"], 2, "check.tiles=301 must be at most 300"),
        (["check.tiles=-1"], 2, "check.tiles=-1 must not be negative"),
        (["data=csv", "data.table=absent.csv"], 3, "absent.csv: file not found"),
        (["-m", "seed=1,2"], 2, "leave out -m"),
        (["hydra.mode=MULTIRUN", "seed=1,2"], 2, "leave out -m"),
        (["--tiles=3"], 2, "--tiles=3 is not an option"),
        (["resume=outputs/a"], 2, "resume=outputs/a goes on with a run"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_report(arguments: list[str], code: int, said: str, tmp_path: Path) -> None:
    ended = run_here(*arguments, folder=tmp_path)
    assert ended.code == code, ended.err
    assert ended.err.startswith("error: ")
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert not list(tmp_path.glob("*/*/*"))


def test_the_split_of_an_earlier_check_is_not_taken_for_this_one(folder: Path) -> None:
    given = ["data=csv", plant(folder, "points.csv", lambda rows, _: rows.drop(columns="split")), "check.tiles=0"]
    written = folder / "report" / "splits.csv"
    said = []
    for seed in (1, 2):
        check(folder, *given, f"data.split_seed={seed}")
        said.append(written.read_text())
    assert said[0] != said[1]


def test_a_check_goes_to_a_folder_of_its_own(folder: Path) -> None:
    before = sorted(folder.iterdir())
    ended = run_here("hydra.run.dir=.", folder=folder)
    assert (ended.code, sorted(folder.iterdir())) == (2, before)
    assert f"hydra.run.dir={folder} holds other files than those of a check" in ended.err
    with hydra.initialize_config_module("conf", version_base="1.3"):
        composed = hydra.compose("check", return_hydra_config=True)
    claimed = OmegaConf.to_container(composed.hydra.run, resolve=False)
    assert isinstance(claimed, dict)
    assert claimed["dir"].startswith("${run_dir:")  # which gives no folder to two processes


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
