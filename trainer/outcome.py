"""What a run came to: predictions, tables, pictures, results.json and the report, and the table that ends it."""

from __future__ import annotations

import logging
import math
import shlex
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from data.datasets import mean_shape
from trainer import checkpoint
from trainer.loop import UpdateRule, evaluate
from trainer.phases import Phase
from trainer.plots import plot_landmark_errors, plot_learning_rates, plot_loss, plot_metrics
from trainer.progress import clock
from trainer.report import write_report
from trainer.run_data import RunData
from trainer.run_dir import RunDir, write_json, write_text
from trainer.state import TrainState
from trainer.tasks.landmark_pictures import write_overlays
from trainer.tasks.landmarks import LandmarkTask

log = logging.getLogger(__name__)

Stage = tuple[str, dict[str, float]]  # what was judged, its metrics


def write_outcome(
    run_dir: RunDir,
    state: TrainState,
    phases: list[Phase],
    data: RunData,
    rule: UpdateRule,
    composed: DictConfig,
    warnings: list[str],
) -> None:
    """Judge the best weights on every split but the training split (on that one where there is no other)."""
    task = rule.task
    assert state.best is not None
    weights = state.evaluated_model
    kept = {key: value.clone() for key, value in weights.state_dict().items()}
    checkpoint.load_weights(run_dir.best_weights, weights)
    splits = [split for split in ("val", "test") if len(data.records.indices(split))] or ["train"]
    judged = {split: evaluate(weights, data.evaluation_batches(split), task, rule.compute)[1] for split in splits}
    weights.load_state_dict(kept)  # the run may be given more epochs, which go on from its last weights

    tables = [task.table(predictions, data.records.image_names, split) for split, predictions in judged.items()]
    write_text(run_dir.predictions, pd.concat(tables).to_csv(index=False, float_format="%.4f"))
    shown = judged[splits[0]]
    per_landmark = task.per_landmark(shown)
    stages = _stages(state, data, task, splits, judged)
    history, metrics = pd.read_csv(run_dir.lr_history), pd.read_csv(run_dir.metrics)
    seconds = metrics.groupby("phase", sort=False)["seconds"].sum()
    baseline = stages[0][1][f"mre_{task.unit}"]

    plot_learning_rates(run_dir.plots / "learning_rates.png", phases, history)
    plot_loss(run_dir.plots / "loss.png", history)
    plot_metrics(
        run_dir.plots / "metrics.png", metrics, unit=task.unit, baseline=baseline, best_epoch=state.best["epoch"]
    )
    plot_landmark_errors(run_dir.plots / "landmark_errors.png", per_landmark, unit=task.unit)
    overlays = write_overlays(
        run_dir.plots, data.records.read, shown, data.records.image_names, unit=task.unit, count=task.num_overlays
    )

    results = {
        "monitor": task.monitor,
        "unit": task.unit,
        "split": splits[0],
        "headline": [_headline(name, values, task) for name, values in stages],
        "metrics": {split: task.metrics(predictions) for split, predictions in judged.items()},
        "phases": state.phase_metrics,
        "best": state.best,
        "updates": state.iteration,
        "seconds": round(state.seconds, 2),
        "seconds_per_phase": {str(name): round(float(rows), 2) for name, rows in seconds.items()},
        "learning_rates": _rate_summary(history),
        "per_landmark": per_landmark.to_dict("records"),
        "warnings": warnings,
        "commands": {"resume": f"python -m trainer resume={shlex.quote(str(run_dir.path))}"},
        "environment": run_dir.read_environment(),
        "config": OmegaConf.to_container(composed, resolve=True),
    }
    write_json(run_dir.results, _json_numbers(results))
    pictures = {
        "Planned learning rates": run_dir.plots / "schedule.png",
        "Learning rates, planned and used": run_dir.plots / "learning_rates.png",
        "Loss over iterations": run_dir.plots / "loss.png",
        "Loss and radial error over epochs": run_dir.plots / "metrics.png",
        "Error per landmark": run_dir.plots / "landmark_errors.png",
        **{f"{path.stem.removeprefix('overlays_').capitalize()} samples": path for path in overlays},
    }
    write_report(
        run_dir.report,
        title=run_dir.path.name,
        results={**results, "config_yaml": OmegaConf.to_yaml(composed, resolve=True)},
        pictures=pictures,
    )
    _print_table(stages, task, state, run_dir)


def _stages(
    state: TrainState, data: RunData, task: LandmarkTask, splits: list[str], judged: dict[str, dict[str, np.ndarray]]
) -> list[Stage]:
    """The rows of the table that a run ends with, all on the first of the splits but for the last row's test."""
    assert state.best is not None
    rows: list[Stage] = [("mean shape, untrained", task.metrics(_mean_shape_predictions(data, splits[0])))]
    rows += [(f"after {name}", values) for name, values in state.phase_metrics.items() if "val_loss" in values]
    rows.append((f"best (epoch {state.best['epoch']})", task.metrics(judged[splits[0]])))
    rows += [("best, on test", task.metrics(judged["test"]))] if splits[0] != "test" and "test" in judged else []
    return rows


def _mean_shape_predictions(data: RunData, split: str) -> dict[str, np.ndarray]:
    """The training split's mean landmarks, stretched to each image: what a run has to beat."""
    indices = data.records.indices(split)
    return {
        "index": indices,
        "points": mean_shape(data.records) * data.records.sizes[indices, None, :] - 0.5,
        "truth": data.records.points[indices],
        "spacing_mm": data.records.pixel_spacing_mm[indices],
    }


def _headline(stage: str, metrics: dict[str, float], task: LandmarkTask) -> dict[str, Any]:
    return {
        "stage": stage,
        "mre": metrics[f"mre_{task.unit}"],
        "median": metrics[f"median_{task.unit}"],
        "sdr": {name.removeprefix("sdr_"): value for name, value in metrics.items() if name.startswith("sdr_")},
        **({"nme": metrics["nme"]} if "nme" in metrics else {}),
    }


def _rate_summary(history: pd.DataFrame) -> dict[str, dict[str, float | int | None]]:
    """Per phase: updates made and skipped, cycles begun, and the range of the rates used."""
    summary: dict[str, dict[str, float | int | None]] = {}
    for phase, rows in history.groupby("phase", sort=False):
        summary[str(phase)] = {
            "updates": len(rows),
            "skipped": int(rows["skipped"].sum()),
            "cycles": int(rows["cycle"].max()) + 1,
            "head_min": float(rows["lr_head"].min()),
            "head_max": float(rows["lr_head"].max()),
            "backbone_min": float(rows["lr_backbone"].min()),
            "backbone_max": float(rows["lr_backbone"].max()),
        }
    return summary


def _print_table(stages: list[Stage], task: LandmarkTask, state: TrainState, run_dir: RunDir) -> None:
    table = Table(box=SIMPLE_HEAD)
    successes = [name for name in stages[0][1] if name.startswith("sdr_")]
    table.add_column(f"radial error, {task.unit}", no_wrap=True)
    for heading in ("mean", "median", *(name.replace("sdr_", "<= ").removesuffix(task.unit) for name in successes)):
        table.add_column(heading, justify="right", no_wrap=True)
    for stage, metrics in stages:
        table.add_row(
            stage,
            f"{metrics[f'mre_{task.unit}']:.2f}",
            f"{metrics[f'median_{task.unit}']:.2f}",
            *(f"{100 * metrics[name]:.1f} %" for name in successes),
        )
    Console().print(table)
    log.info(
        "%d updates in %s; everything is in %s (open report.html)",
        state.iteration,
        clock(state.seconds),
        run_dir.path,
    )


def _json_numbers(value: Any) -> Any:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, dict):
        return {key: _json_numbers(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_json_numbers(child) for child in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if isinstance(value, np.generic) else value
