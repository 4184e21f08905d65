"""What a run came to: predictions, tables, pictures, results.json and the report, and the table that ends it."""

from __future__ import annotations

import logging
import math
import shlex
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import nn

from trainer import checkpoint
from trainer.loop import UpdateRule, evaluate
from trainer.phases import Phase
from trainer.plots import plot_learning_rates, plot_loss, plot_metrics
from trainer.progress import clock
from trainer.range_test.outcome import range_test_pictures, read_findings
from trainer.report import shown, write_report
from trainer.run_data import RunData
from trainer.run_dir import RunDir, write_json, write_text
from trainer.state import TrainState
from trainer.tasks.task import Predictions, Task

log = logging.getLogger(__name__)

FILE_WIDTH = 120  # letters

Stage = tuple[str, dict[str, float]]  # what was judged, its metrics


def write_outcome(
    run_dir: RunDir,
    state: TrainState,
    phases: list[Phase],
    data: RunData,
    rule: UpdateRule,
    composed: DictConfig,
    warnings: list[str],
    *,
    num_views: int,
) -> None:
    """Judge the best weights on every split but the training split (on that one where there is no other).

    `num_views` of each image are predicted and averaged.
    """
    task = rule.task
    assert state.best is not None
    weights = state.evaluated_model
    kept = {key: value.clone() for key, value in weights.state_dict().items()}
    checkpoint.load_weights(run_dir.best_weights, weights)
    splits = [split for split in ("val", "test") if len(data.records.indices(split))] or ["train"]
    judged = {split: _judge(weights, data, split, rule, num_views) for split in splits}
    weights.load_state_dict(kept)  # the run may be given more epochs, which go on from its last weights

    tables = [task.table(predictions, data.records, split) for split, predictions in judged.items()]
    write_text(run_dir.predictions, pd.concat(tables).to_csv(index=False, float_format=task.float_format))
    first = judged[splits[0]]
    stages = _stages(state, data, task, splits, judged)
    history, metrics = pd.read_csv(run_dir.lr_history), pd.read_csv(run_dir.metrics)
    seconds = metrics.groupby("phase", sort=False)["seconds"].sum()

    plot_learning_rates(run_dir.plots / "learning_rates.png", phases, history)
    plot_loss(run_dir.plots / "loss.png", history)
    plot_metrics(
        run_dir.plots / "metrics.png",
        metrics,
        curves=task.curves,
        baseline=_baseline_line(stages[0], task),
        best_epoch=state.best["epoch"],
    )
    names = [phase.name for phase in phases]
    findings = read_findings(run_dir, names)
    pictures = {
        **range_test_pictures(run_dir, names),
        "Planned learning rates": run_dir.plots / "schedule.png",
        "Learning rates, planned and used": run_dir.plots / "learning_rates.png",
        "Loss over iterations": run_dir.plots / "loss.png",
        f"Loss and {task.curves.axis} over epochs": run_dir.plots / "metrics.png",
        **task.pictures(run_dir.plots, first, data.records),
    }

    results = {
        "monitor": task.monitor,
        "split": splits[0],
        "verdict": task.verdict(stages[0][1], task.metrics(first)),
        "columns": [asdict(column) for column in task.columns],
        "headline": [_headline(name, values, task) for name, values in stages],
        "metrics": {split: task.metrics(predictions) for split, predictions in judged.items()},
        "phases": state.phase_metrics,
        "best": state.best,
        "updates": state.iteration,
        "seconds": round(state.seconds, 2),
        "seconds_per_phase": {str(name): round(float(rows), 2) for name, rows in seconds.items()},
        "learning_rates": _rate_summary(history),
        **({"range_test": findings} if findings else {}),
        **({"mapping": task.mapping} if task.mapping else {}),
        "details": [
            {
                "title": detail.title,
                "columns": [asdict(column) for column in detail.columns],
                "rows": detail.rows.to_dict("records"),
            }
            for detail in task.details(first, data.records)
        ],
        "warnings": warnings,
        "commands": {"resume": f"python -m trainer resume={shlex.quote(str(run_dir.path))}"},
        "environment": run_dir.read_environment(),
        "config": OmegaConf.to_container(composed, resolve=True),
    }
    write_json(run_dir.results, _json_numbers(results))
    write_report(
        run_dir.report,
        title=run_dir.path.name,
        results={**results, "config_yaml": OmegaConf.to_yaml(composed, resolve=True)},
        pictures=pictures,
    )
    _print_table(stages, task, state, run_dir)


def _judge(model: nn.Module, data: RunData, split: str, rule: UpdateRule, num_views: int) -> Predictions:
    views = [
        evaluate(model, data.evaluation_batches(split, view), rule.task, rule.compute)[1] for view in range(num_views)
    ]
    return views[0] if num_views == 1 else rule.task.averaged(views)


def _stages(
    state: TrainState, data: RunData, task: Task[Any], splits: list[str], judged: dict[str, Predictions]
) -> list[Stage]:
    """The rows of the table that a run ends with, all on the first of the splits but for the last row's test."""
    assert state.best is not None
    rows: list[Stage] = [(task.baseline_name, task.metrics(task.baseline(data.records, splits[0])))]
    rows += [(name, task.metrics(held)) for name, held in task.references(data.records, splits[0]).items()]
    rows += [(f"after {name}", values) for name, values in state.phase_metrics.items() if "val_loss" in values]
    rows.append((f"best (epoch {state.best['epoch']})", task.metrics(judged[splits[0]])))
    rows += [("best, on test", task.metrics(judged["test"]))] if splits[0] != "test" and "test" in judged else []
    return rows


def _baseline_line(stage: Stage, task: Task[Any]) -> tuple[str, float]:
    name, metrics = stage
    drawn = next(iter(task.curves.lines))
    style = next((column.style for column in task.columns if column.key == drawn), "number")
    value = f"{shown(metrics[drawn], style)} {task.curves.unit}".rstrip()
    return f"{name} ({value})", metrics[drawn]


def _headline(stage: str, metrics: dict[str, float], task: Task[Any]) -> dict[str, Any]:
    return {"stage": stage, **{column.key: metrics[column.key] for column in task.columns}}


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


def _print_table(stages: list[Stage], task: Task[Any], state: TrainState, run_dir: RunDir) -> None:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for column in task.columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    for stage, metrics in stages:
        table.add_row(stage, *(shown(metrics[column.key], column.style) for column in task.columns))
    _console().print(table)
    log.info(
        "%d updates in %s; everything is in %s (open report.html)",
        state.iteration,
        clock(state.seconds),
        run_dir.path,
    )


def _console() -> Console:
    """Where the table goes; a file has no width of its own, and a table is cut at the 80 letters that rich assumes."""
    console = Console()
    return console if console.is_terminal else Console(width=max(FILE_WIDTH, console.width))


def _json_numbers(value: Any) -> Any:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, dict):
        return {key: _json_numbers(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_json_numbers(child) for child in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if isinstance(value, np.generic) else value
