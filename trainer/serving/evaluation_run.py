"""One whole evaluation, from the settings of `python -m trainer.evaluate` to tables, files and pictures."""

from __future__ import annotations

import logging
import re
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from data.labels import natural_order
from trainer.candidates import Candidate, taken_weights
from trainer.console import console
from trainer.device import keep_freed_memory
from trainer.loop import UpdateRule
from trainer.plots import boxes_for_missing_letters
from trainer.progress import clock
from trainer.report import shown
from trainer.run_dir import json_numbers, write_json, write_text
from trainer.serving.memory import too_large_explained
from trainer.serving.network import build_network, serving_compute
from trainer.serving.new_data import Judged, groups_of, judged_data
from trainer.serving.settings import EvaluateSettings
from trainer.serving.trained_run import TrainedRun, read_run
from trainer.tasks.landmark_calibration import coverage_findings
from trainer.tasks.task import Column, Predictions, Task

ALL = "all"  # the row of all images

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """Some of the images, or something to hold them against: `metrics`, and 95 % intervals of some of these."""

    name: str
    images: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def evaluate_into(folder: Path, settings: EvaluateSettings) -> None:
    """Judge the run on the data that the settings name, and write all of it into `folder`.

    Raises:
        ValueError, DataError, TrainingError, OSError: nothing could be judged.
    """
    started = time.perf_counter()
    keep_freed_memory()
    run = read_run(Path(settings.run), "evaluate")
    compute = serving_compute(run.config, settings.device)
    judged = judged_data(run, settings.data, settings.split)
    groups = None if settings.group is None else groups_of(judged, settings.group)
    num_views = _num_views(run, settings.tta)
    warnings = _warnings(run, judged)
    for warning in warnings:
        log.warning("%s", warning)

    # What the run says of each image.
    members = Candidate(run.weights, taken_weights(run.run_dir, run.weights))
    network = build_network(run, compute, members.members)
    rule = UpdateRule(judged.task, compute, accumulation=1, clip_norm=None)
    with too_large_explained(compute, "data.batch_size", judged.data.batch_size):
        predictions = members.predict(network, judged.data, judged.split, rule, num_views)
    if run.calibration is not None:
        predictions = {**predictions, "radius": run.calibration.radii(predictions["spread"])}

    # How good it is: of all, and of each group.
    rows = _rows(run, judged, predictions, groups)
    _write(folder, run, judged, predictions, rows, groups, settings.group, warnings)
    if settings.pictures:
        with boxes_for_missing_letters():
            judged.task.pictures(folder / "plots", predictions, judged.data.records)
    _print(rows, judged.task, settings.group or "")
    log.info("%d images in %s; everything is in %s", rows[-1].images, clock(time.perf_counter() - started), folder)


def _num_views(run: TrainedRun, asked: int | None) -> int:
    """Raises ValueError where the run has no views."""
    if asked is None:
        return run.config.predict.tta
    run.check_views(asked)
    return asked


def _warnings(run: TrainedRun, judged: Judged) -> list[str]:
    """What a person should know before believing the numbers."""
    records, warnings = judged.data.records, []
    if judged.is_own and judged.split in ("train", "all"):
        warnings.append(f"split={judged.split}: the run was trained on these images, which it knows by heart")
    names_files = judged.cells is not None or run.config.data.kind == "image_folder"  # those of phantoms are all alike
    if not judged.is_own and names_files and run.run_dir.splits.is_file():
        splits = pd.read_csv(run.run_dir.splits, dtype=str, keep_default_na=False, encoding_errors="surrogateescape")
        trained = set(splits["image"][splits["split"] == "train"])
        again = [name for name in (records.image_names[index] for index in judged.indices) if name in trained]
        if again:
            warnings.append(
                f"{len(again)} of {len(judged.indices)} images are called like images that the run was trained on, "
                f"such as {again[0]}; if they are the same, the result is too good"
            )
    if run.is_of_landmarks and not records.in_mm and any(key.endswith("_mm") for key in run.metrics):
        warnings.append("not all images have a pixel spacing, so errors are told in px, while the run told mm")
    return warnings


def _rows(run: TrainedRun, judged: Judged, predictions: Predictions, groups: np.ndarray | None) -> list[Row]:
    """What to hold it against, each group, and at last all images."""
    task, records, split = judged.task, judged.data.records, judged.split
    rows = []
    if "baseline" in run.results:
        plain = task.baseline(records, split, run.results["baseline"])
        rows.append(Row(task.baseline_name, len(plain["index"]), task.metrics(plain), {}))
    for name, held in task.references(records, split).items():
        rows.append(Row(name, len(held["index"]), task.metrics(held), {}))
    for word in [] if groups is None else sorted(set(groups), key=natural_order):
        chosen = groups == word
        part = {key: values[chosen] for key, values in predictions.items()}
        rows.append(Row(str(word), int(chosen.sum()), task.metrics(part), task.intervals(part)))
    rows.append(Row(ALL, len(predictions["index"]), task.metrics(predictions), task.intervals(predictions)))
    return rows


def _write(
    folder: Path,
    run: TrainedRun,
    judged: Judged,
    predictions: Predictions,
    rows: list[Row],
    groups: np.ndarray | None,
    group: str | None,
    warnings: list[str],
) -> None:
    task, records = judged.task, judged.data.records
    told = {"run": str(run.run_dir.path.absolute()), "weights": run.weights, "source": judged.source}
    write_json(folder / "evaluate.json", told)  # first, because by this file the folder is known as an evaluation's
    for earlier in folder.glob("per_*.csv"):  # of another evaluation
        earlier.unlink()
    shutil.rmtree(folder / "plots", ignore_errors=True)
    write_text(folder / "metrics.csv", pd.DataFrame([_flat(row) for row in rows]).to_csv(index=False))
    table = task.table(predictions, records, judged.split)
    if group is not None and group not in table:
        table.insert(2, group, groups)
    write_text(folder / "predictions.csv", table.to_csv(index=False, float_format=task.float_format))
    details = task.details(predictions, records)
    for detail in details:
        part = re.sub(r"[^\w.-]+", "_", detail.title.removeprefix("Every ").lower())
        write_text(folder / f"per_{part}.csv", detail.rows.to_csv(index=False))
    everything = rows[-1]
    baseline = next((row.metrics for row in rows if row.name == task.baseline_name), None)
    results: dict[str, Any] = {
        **told,
        "split": judged.split,
        "images": everything.images,
        **({} if baseline is None else {"verdict": task.verdict(baseline, everything.metrics)}),
        "columns": [asdict(column) for column in task.columns],
        "metrics": everything.metrics,
        "intervals": everything.intervals,
        "rows": [asdict(row) for row in rows],
        "group": group,
        **_uncertainty(run, judged, predictions),
        "details": [
            {
                "title": detail.title,
                "columns": [asdict(column) for column in detail.columns],
                "rows": detail.rows.to_dict("records"),
            }
            for detail in details
        ],
        "warnings": warnings,
    }
    write_json(folder / "results.json", json_numbers(results))


def _uncertainty(run: TrainedRun, judged: Judged, predictions: Predictions) -> dict[str, Any]:
    """Whether the circles that the run calibrated hold the truth here."""
    if "radius" not in predictions:
        return {}
    unit = "mm" if judged.data.records.in_mm else "px"
    names = run.known.landmark_names
    return {"uncertainty": coverage_findings(predictions, predictions["radius"], names, unit)}


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {"group": row.name, "images": row.images}
    for name, value in row.metrics.items():
        flat[name] = value
        if name in row.intervals:
            flat[f"{name}_low"], flat[f"{name}_high"] = row.intervals[name]
    return flat


def _print(rows: list[Row], task: Task[Any], title: str) -> None:
    table = Table(box=SIMPLE_HEAD)
    table.add_column(title, no_wrap=True)
    for heading in ("images", *(column.heading for column in task.columns)):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        first, *others = task.columns  # the interval of the most telling one; all are in metrics.csv
        cells = [_with_interval(row, first), *(shown(row.metrics[column.key], column.style) for column in others)]
        table.add_row(row.name, str(row.images), *cells)
    console().print(table)


def _with_interval(row: Row, column: Column) -> str:
    value = shown(row.metrics[column.key], column.style)
    low, high = row.intervals.get(column.key, (np.nan, np.nan))
    if not np.isfinite([low, high]).all():
        return value
    return f"{value} ({shown(low, column.style).removesuffix(' %')} to {shown(high, column.style)})"
