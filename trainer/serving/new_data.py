"""The data that an evaluation judges: the run's own, or others that its settings name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.cells import Cells, read_cells
from data.errors import DataError, enumerated, nearest, quoted
from data.known_records import (
    NEW,
    Phantoms,
    labels_of_folder,
    labels_of_phantoms,
    labels_of_table,
    landmarks_of_phantoms,
    landmarks_of_table,
)
from data.splits import SPLITS
from trainer.config.data import CsvConfig, ImageFolderConfig, LabelData, PhantomConfig
from trainer.config.landmark_data import LandmarkData
from trainer.config.own_data import OwnData
from trainer.mapping import check_mapping
from trainer.run_data import RunData
from trainer.serving.network import build_task, data_of
from trainer.serving.settings import NewData
from trainer.serving.trained_run import TrainedRun
from trainer.tasks.task import Task

HOW = ("batch_size", "workers")  # to read, not what
OF_TABLES = ("table", "root", "allow_outside_root", "pixel_spacing_mm", "more_tables", "label")
OF_FOLDERS = ("root",)
OF_PHANTOMS = ("num_images", "seed", "height", "width", "missing_fraction", "trouble")
MOST_GROUPS = 50


@dataclass(frozen=True)
class Judged:
    """What is evaluated: all records whose split is `split`; `cells` of the table that they are rows of, if any."""

    data: RunData
    task: Task[Any]
    split: str
    source: str
    is_own: bool  # the very data of the run
    cells: Cells | None = None

    @property
    def indices(self) -> np.ndarray:
        indices: np.ndarray = self.data.records.indices(self.split)
        return indices


def judged_data(run: TrainedRun, asked: NewData, split: str | None) -> Judged:
    """Raises ValueError for keys that do not fit, DataError for faults in the data."""
    given = {field.name: value for field in fields(asked) if (value := getattr(asked, field.name)) is not None}
    run = _with(run, {name: given.pop(name) for name in HOW if name in given})
    return _new(run, given, split) if given else _own(run, split)


def _with(run: TrainedRun, changes: dict[str, Any]) -> TrainedRun:
    return replace(run, config=replace(run.config, data=replace(run.config.data, **changes)))


def _own(run: TrainedRun, split: str | None) -> Judged:
    """The run's own data, under the split that it wrote down."""
    if not run.run_dir.splits.is_file():
        raise ValueError(
            f"{run.run_dir.splits} is not there, so nobody knows what the run was trained on; name other data "
            "(data.table=...)"
        )
    data, known = _in_its_folder(run).config.data, run.known
    records: Any
    if isinstance(data, LandmarkData) and run.is_of_landmarks:
        marked = data.landmark_records(run.run_dir.splits)
        if marked.landmark_names != known.landmark_names:
            raise DataError(
                f"data: the landmarks are {enumerated(marked.landmark_names)} now, and were "
                f"{enumerated(known.landmark_names)} as the run was trained. Put the data back, or name other data."
            )
        records = replace(marked, region=known.region)
    else:
        assert isinstance(data, LabelData)
        labelled = data.label_records(run.run_dir.splits, numeric=known.class_names is None)
        check_mapping(run.run_dir.labels, build_task(run.config, data_of(run.config, labelled)).mapping)
        records = replace(labelled, target_scale=known.target_scale)
    present = [name for name in SPLITS if len(records.indices(name))]
    chosen = split or next((name for name in ("test", "val") if name in present), "train")
    cells, source = None, data.kind
    if isinstance(data, CsvConfig):
        cells, source = read_cells(Path(data.table)), data.table
    elif isinstance(data, ImageFolderConfig):
        source = data.root
    return _chosen(run, records, chosen, source=source, is_own=True, cells=cells, of_all="all")


def _new(run: TrainedRun, given: dict[str, Any], split: str | None) -> Judged:
    """Other data than the run's: a table wherever data.table is given, else data of the run's kind."""
    kind = "csv" if "table" in given else run.config.data.kind
    fitting = {"csv": OF_TABLES, "image_folder": OF_FOLDERS, "phantom": OF_PHANTOMS}.get(kind, ())
    if wrong := [name for name in given if name not in fitting]:
        hint = "give data.table, or leave it out" if kind != "csv" else "leave it out"
        raise ValueError(f"data.{wrong[0]}={given[wrong[0]]} does not fit data={kind}; {hint}")
    cells, known, data = None, run.known, run.config.data
    records: Any
    if kind == "csv":
        own = data if isinstance(data, CsvConfig) and "table" not in given else None
        if own is not None:  # the run's table, with images from elsewhere
            inside = _in_its_folder(run).config.data
            assert isinstance(inside, CsvConfig)
            own = inside
        table = Path(given["table"] if own is None else own.table)
        root = given.get("root", None if own is None else own.root)
        where: dict[str, Any] = {
            "root": None if root is None else Path(root),
            "allow_outside_root": bool(given.get("allow_outside_root", own is not None and own.allow_outside_root)),
        }
        label = given.get("label", data.label if isinstance(data, CsvConfig) else None)
        if run.is_of_landmarks:
            _refuse(given, ("label",), "task=landmarks")
            spacing_mm = given.get("pixel_spacing_mm", None if own is None else own.pixel_spacing_mm)
            more = [Path(other) for other in given.get("more_tables", [] if own is None else own.more_tables)]
            records = landmarks_of_table(table, known, **where, pixel_spacing_mm=spacing_mm, more_tables=more)
        else:
            _refuse(given, ("pixel_spacing_mm", "more_tables"), f"task={run.config.task.kind}")
            records = labels_of_table(table, known, **where, label=label)
        cells, source = read_cells(table), str(table)
    elif isinstance(data, PhantomConfig):
        drawn = replace(_phantoms(data), **given)
        records = landmarks_of_phantoms(drawn, known) if run.is_of_landmarks else labels_of_phantoms(drawn, known)
        source = f"{drawn.num_images} phantoms of seed {drawn.seed}"
    else:
        records, source = labels_of_folder(Path(given["root"]), known), str(given["root"])
    return _chosen(run, records, split or "all", source=source, is_own=False, cells=cells, of_all=NEW)


def _chosen(
    run: TrainedRun, records: Any, split: str, *, source: str, is_own: bool, cells: Cells | None, of_all: str
) -> Judged:
    if split == "all":
        split = of_all
        records = replace(records, splits=np.full(len(records.image_names), of_all, dtype="<U5"))
    elif not len(records.indices(split)):
        raise ValueError(f"split={split}: there is no image of that split in {source}; leave it out for all of them")
    data = data_of(run.config, records)
    return Judged(data, build_task(run.config, data), split, source, is_own, cells)


def groups_of(judged: Judged, column: str) -> np.ndarray:
    """The word (N,) of each judged image in a column of the table, or of a covariate.

    Raises:
        DataError: there is no such column. ValueError: it does not make groups.
    """
    words: Sequence[str] | None = None
    covariates = getattr(judged.data.records, "covariates", None)
    names = [] if covariates is None else list(covariates.names)
    if judged.cells is not None:
        place = judged.cells.column([column.strip().lower()])
        words = None if place is None else [row[place] for row in judged.cells.rows]
    if words is None and covariates is not None and column in names:
        words = covariates.values[names.index(column)]
    if words is None:
        offered = [*(judged.cells.header if judged.cells is not None else []), *names]
        only = f"only {enumerated(dict.fromkeys(offered))}" if offered else "these data have none"
        near = nearest(column, offered)
        raise DataError(f"{judged.source}: group={column}: there is no column {quoted(column)}{near}, {only}.")
    chosen = np.array([word or "(empty)" for word in words], dtype=object)[judged.indices]
    if len(set(chosen)) > MOST_GROUPS:
        raise ValueError(
            f"group={column} has {len(set(chosen))} different words in {len(chosen)} images, at most {MOST_GROUPS} "
            "make groups; name a column of categories"
        )
    return chosen


def _in_its_folder(run: TrainedRun) -> TrainedRun:
    """Its paths as its command meant them: relative to the folder that it was typed in.

    Which fields of own data are paths is not known, nor which of them their images are read from later: this process
    goes to that folder.
    """
    folder = Path(run.run_dir.read_environment()["folder"])
    data = run.config.data
    if isinstance(data, OwnData):
        if folder.is_dir():
            os.chdir(folder)
        return run
    changes: dict[str, Any] = {}
    for name in ("table", "root"):
        if isinstance(value := getattr(data, name, None), str):
            changes[name] = str(folder / value)
    if isinstance(data, CsvConfig):
        changes["more_tables"] = [str(folder / other) for other in data.more_tables]
    return _with(run, changes)


def _phantoms(data: PhantomConfig) -> Phantoms:
    return Phantoms(**{field.name: getattr(data, field.name) for field in fields(Phantoms)})


def _refuse(given: dict[str, Any], names: Sequence[str], task: str) -> None:
    for name in names:
        if name in given:
            raise ValueError(f"data.{name}={given[name]} does not fit {task}; leave it out")
