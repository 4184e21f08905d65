"""Finished runs as they lie on the disk, and those that can't be compared, with the reason."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from trainer.run_dir import RunDir
from trainer.sweep import BEGUN, FINISHED, JobRecord

DEEPEST = 3  # folders below a given one in which runs are looked for: outputs/, its days, their runs

# What the truth is and in which unit errors are told; runs that differ here have no common scale.
DATA_KEYS = (
    "task.kind", "data.kind", "data.table", "data.more_tables", "data.root", "data.label", "data.annotator",
    "data.pixel_spacing_mm", "data.seed", "data.height", "data.width", "data.trouble", "data.missing_fraction",
)  # fmt: skip
PATH_KEYS = ("data.table", "data.more_tables", "data.root")
RATES = ["iteration", "lr_backbone", "lr_head"]  # columns of lr_history.csv


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run."""

    path: Path
    config: Mapping[str, Any]  # every leaf key
    monitor: str
    higher_is_better: bool
    value: float  # the monitored metric of the weights that it took
    updates: int
    seconds: float
    epochs: pd.DataFrame  # of metrics.csv: iteration, elapsed (s), value (the monitored metric)
    split: str  # that it was judged on
    judged: tuple[str, ...]  # the images of that split, with their labels
    folder: Path  # that its relative paths start from
    used: Mapping[str, Mapping[str, Any]]  # phase -> head_min, head_max, ... of the rates used; empty in old runs
    tested: Mapping[str, Mapping[str, Any]]  # phase -> what its range test found; empty where none was made

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    def rates(self) -> pd.DataFrame:
        """The learning rates of every update: iteration, lr_backbone, lr_head."""
        return pd.read_csv(RunDir(self.path).lr_history, usecols=RATES)


@dataclass(frozen=True)
class LeftOut:
    """A run that is not compared."""

    path: Path
    reason: str


class _UnfitError(ValueError):
    """Why a run is left out."""


def find_runs(folders: Sequence[Path]) -> tuple[list[Run], list[LeftOut]]:
    """The runs in the folders, each of which is a run or holds runs, in the order of their names.

    Raises:
        ValueError: a folder is not there, or holds no run.
    """
    paths: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"runs={folder}: there is no such folder; name a sweep, a run, or a folder of runs")
        found = _below(folder, DEEPEST)
        if not found:
            raise ValueError(f"runs={folder} holds no run, up to {DEEPEST} folders deep; name a sweep or a run")
        paths |= {path.resolve(): path for path in found}
    runs, left_out = [], []
    for path in paths.values():
        try:
            runs.append(_read(path))
        except _UnfitError as error:
            left_out.append(LeftOut(path, str(error)))
    return runs, left_out


def check_comparable(runs: Sequence[Run]) -> None:
    """Raises ValueError where two runs were not judged by the same metric on the same data."""
    first = runs[0]
    for run in runs[1:]:
        both = f"{first.path} and {run.path} can't be compared"
        for key in DATA_KEYS:
            one, other = _data_value(first, key), _data_value(run, key)
            if one != other:
                raise ValueError(f"{both}: {key} is {one} and {other}; compare runs on the same data")
        if first.monitor != run.monitor:
            raise ValueError(f"{both}: they monitor {first.monitor} and {run.monitor}; give both one task.monitor")
        if first.split != run.split or first.judged != run.judged:
            common = len(set(first.judged) & set(run.judged)) if first.split == run.split else 0
            raise ValueError(
                f"{both}: they were judged on different images ({len(first.judged)} of {first.split} and "
                f"{len(run.judged)} of {run.split}, {common} in both); give both the same split, by a split column "
                "or by data.val_fraction, data.test_fraction and data.split_seed"
            )


def higher_is_better(task: str, monitor: str) -> bool:
    """Of a metric of one of the tasks of this program, for runs whose results.json does not tell."""
    if task == "classification":
        return monitor not in ("train_loss", "val_loss", "ece")
    return monitor == "r2" or monitor.startswith("sdr_")


def leaves(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every key that holds no keys itself, as a.b.c -> value."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= leaves(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def job_folders(sweep: Path) -> list[Path]:
    """The folders of the jobs of a sweep, in their order."""
    return _below(sweep, DEEPEST)


def _below(folder: Path, depth: int) -> list[Path]:
    run = RunDir(folder)
    if JobRecord(folder).path.exists() or (run.config.exists() and run.environment.exists()):
        return [folder]
    if depth == 0:
        return []
    children = (child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    return [path for child in sorted(children, key=_by_number) for path in _below(child, depth - 1)]


def _by_number(path: Path) -> list[tuple[bool, int, str]]:
    """An order in which 10_... comes after 9_..."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", path.name)]


def _read(path: Path) -> Run:
    """Raises _UnfitError."""
    run_dir = RunDir(path)
    try:
        outcome = JobRecord(path).read()
        if outcome is not None and outcome.state not in (BEGUN, FINISHED):  # failed, or given up by a search
            raise _UnfitError(outcome.state if outcome.reason is None else f"{outcome.state}: {outcome.reason}")
        if (outcome is not None and outcome.state == BEGUN) or not run_dir.results.exists():
            raise _UnfitError("not finished")
        results = json.loads(run_dir.results.read_text(encoding="utf-8"))
        if "taken" not in results:
            raise _UnfitError("it trained nothing, but for range tests")
        value, monitor, split = results["taken"]["value"], results["monitor"], results["split"]
        if value is None or not math.isfinite(value):
            raise _UnfitError(f"its {monitor} is not a number")
        # What came of `auto` is no choice: on a busy machine it may differ between the seeds of one setting.
        chosen = results["environment"].get("compute", {}).get("auto", [])
        config = leaves(results["config"]) | dict.fromkeys(chosen, "auto")
        metrics = pd.read_csv(run_dir.metrics)
        if metrics["iteration"].max() > results["updates"]:
            raise _UnfitError("not finished: it was given more epochs, and cut")
        epochs = pd.DataFrame(
            {"iteration": metrics["iteration"], "elapsed": metrics["seconds"].cumsum(), "value": metrics[monitor]}
        )
        pd.read_csv(run_dir.lr_history, usecols=RATES, nrows=0)  # the pictures read the rest, of one run per setting
        predictions = pd.read_csv(run_dir.predictions, dtype=str, keep_default_na=False)
        rows = predictions.loc[predictions["split"] == split, predictions.columns.isin(["image", "target"])]
        return Run(
            path=path,
            config=config,
            monitor=monitor,
            higher_is_better=_higher_is_better(results, config["task.kind"]),
            value=float(value),
            updates=int(results["updates"]),
            seconds=float(results["seconds"]),
            epochs=epochs,
            split=split,
            judged=tuple(sorted(" ".join(row) for row in rows.itertuples(index=False, name=None))),
            folder=Path(results["environment"]["folder"]),
            used=results.get("learning_rates", {}),
            tested=results.get("range_test", {}),
        )
    except _UnfitError:
        raise
    except FileNotFoundError as error:
        raise _UnfitError(f"its {Path(str(error.filename)).name} is missing") from None
    except (ValueError, KeyError, TypeError) as error:
        told = " ".join(str(error).split())
        raise _UnfitError(f"its files are damaged ({type(error).__name__}: {told})") from None


def _higher_is_better(results: Mapping[str, Any], task: str) -> bool:
    if "monitor_mode" in results:
        return bool(results["monitor_mode"] == "max")
    return higher_is_better(task, results["monitor"])


def _data_value(run: Run, key: str) -> Any:
    value = run.config.get(key)
    if key not in PATH_KEYS or value is None:
        return value
    if isinstance(value, list):
        return [str((run.folder / str(name)).resolve()) for name in value]
    return str((run.folder / str(value)).resolve())
