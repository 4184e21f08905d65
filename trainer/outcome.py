"""What a run came to: predictions, tables, pictures, results.json and the report, and the table that ends it."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.table import Table

from trainer.candidates import find_candidates, winner
from trainer.checkpoint import copied_weights
from trainer.command_line import override, resume_command, verb_command
from trainer.console import console
from trainer.loop import UpdateRule
from trainer.phases import Phase
from trainer.plots import boxes_for_missing_letters, plot_learning_rates, plot_loss, plot_metrics
from trainer.profile import AFTER, summed_up
from trainer.progress import clock
from trainer.range_test.outcome import range_test_pictures, read_findings
from trainer.report import shown, write_report
from trainer.run_data import RunData
from trainer.run_dir import RunDir, json_numbers, write_json, write_text
from trainer.state import TrainState
from trainer.tasks.task import Predictions, Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """A row of the table that a run ends with."""

    name: str
    metrics: dict[str, float]
    taken: bool = False  # of the weights that the run ends with
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)  # of these metrics, where they are taken


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
    draw: bool,
) -> None:
    """Judge the best weights on every split but the training split (on that one where there is no other).

    `num_views` of each image are predicted and averaged.
    """
    task, watch = rule.task, rule.watch
    watch.enter(AFTER)
    assert state.best is not None
    splits = [split for split in ("val", "test") if len(data.records.indices(split))] or ["train"]
    model = state.evaluated_model
    kept = copied_weights(model)
    with watch.part("evaluation"):
        candidates = {found.name: found for found in find_candidates(run_dir, state, data, rule, phases[-1])}
        tried = {name: found.predict(model, data, splits[0], rule, num_views) for name, found in candidates.items()}
        values = {name: task.metrics(found).get(task.monitor, state.best_value) for name, found in tried.items()}
        chosen = winner(values, task.monitor_mode)
        judged = {splits[0]: tried[chosen]}
        judged |= {split: candidates[chosen].predict(model, data, split, rule, num_views) for split in splits[1:]}
    state.final_value = values[chosen]
    certainty = task.certainty(judged)
    if certainty is not None:
        judged = certainty.predictions
        write_json(run_dir.calibration, certainty.calibration)
    model.load_state_dict(kept)  # the run may be given more epochs, which go on from its last weights

    tables = [task.table(predictions, data.records, split) for split, predictions in judged.items()]
    write_text(run_dir.predictions, pd.concat(tables).to_csv(index=False, float_format=task.float_format))
    first = judged[splits[0]]
    intervals = {split: task.intervals(predictions) for split, predictions in judged.items()}
    stages = _stages(state, data, task, splits, judged, tried, chosen, intervals)
    history, metrics = pd.read_csv(run_dir.lr_history), pd.read_csv(run_dir.metrics)
    seconds = metrics.groupby("phase", sort=False)["seconds"].sum()

    findings = read_findings(run_dir, [phase.name for phase in phases])
    results: dict[str, Any] = {
        "monitor": task.monitor,
        "monitor_mode": task.monitor_mode,
        "split": splits[0],
        "verdict": task.verdict(stages[0].metrics, task.metrics(first)),
        "columns": [asdict(column) for column in task.columns],
        "headline": [_headline(stage, task) for stage in stages],
        "metrics": {split: task.metrics(predictions) for split, predictions in judged.items()},
        "intervals": intervals,
        **({"uncertainty": certainty.findings} if certainty is not None else {}),
        "phases": state.phase_metrics,
        "best": state.best,
        "baseline": task.prior(data.records),
        "taken": {"weights": chosen, "value": state.final_value},
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
        "commands": {
            "predict": f"{verb_command('predict')} {override('run', str(run_dir.path))} images=FOLDER",
            "resume": resume_command(run_dir.path),
        },
        "environment": run_dir.read_environment(),
        "config": OmegaConf.to_container(composed, resolve=True),
    }
    write_json(run_dir.results, json_numbers(results))  # before what only shows it
    with watch.part("plots"):
        pictures = _draw(run_dir, phases, state, data, task, stages, first, history, metrics) if draw else {}
    if profile := watch.told():
        results |= profile
        write_json(run_dir.results, json_numbers(results))
        log.info("time went to: %s", summed_up(results["profile"]))
    write_report(
        run_dir.report,
        title=run_dir.path.name,
        results={**results, "config_yaml": OmegaConf.to_yaml(composed, resolve=True)},
        pictures=pictures,
    )
    _print_table(stages, task, state, run_dir)


def _draw(
    run_dir: RunDir,
    phases: list[Phase],
    state: TrainState,
    data: RunData,
    task: Task[Any],
    stages: list[Stage],
    predictions: Predictions,
    history: pd.DataFrame,
    metrics: pd.DataFrame,
) -> dict[str, Path]:
    """Captions and files of the pictures, in the order of the report."""
    assert state.best is not None
    plots = run_dir.plots
    with boxes_for_missing_letters():
        plot_learning_rates(plots / "learning_rates.png", phases, history)
        plot_loss(plots / "loss.png", history)
        plot_metrics(
            plots / "metrics.png",
            metrics,
            curves=task.curves,
            baseline=_baseline_line(stages[0], task),
            best_epoch=state.best["epoch"],
        )
        of_the_task = task.pictures(plots, predictions, data.records)
    return {
        **range_test_pictures(run_dir, [phase.name for phase in phases]),
        "Planned learning rates": plots / "schedule.png",
        "Learning rates, planned and used": plots / "learning_rates.png",
        "Loss over iterations": plots / "loss.png",
        f"Loss and {task.curves.axis} over epochs": plots / "metrics.png",
        **of_the_task,
    }


def _stages(
    state: TrainState,
    data: RunData,
    task: Task[Any],
    splits: list[str],
    judged: dict[str, Predictions],
    tried: dict[str, Predictions],
    chosen: str,
    intervals: dict[str, dict[str, tuple[float, float]]],
) -> list[Stage]:
    """The rows of the table that a run ends with, all on the first of the splits but for the last row's test."""
    rows = [Stage(task.baseline_name, task.metrics(task.baseline(data.records, splits[0])))]
    rows += [Stage(name, task.metrics(held)) for name, held in task.references(data.records, splits[0]).items()]
    rows += [Stage(f"after {name}", values) for name, values in state.phase_metrics.items() if "val_loss" in values]
    for name, predictions in tried.items():
        shown_name = f"{name}, taken" if name == chosen and len(tried) > 1 else name
        known = intervals[splits[0]] if name == chosen else {}
        rows.append(Stage(shown_name, task.metrics(predictions), taken=name == chosen, intervals=known))
    if splits[0] != "test" and "test" in judged:
        measured = task.metrics(judged["test"])
        rows.append(Stage("the same, on test", measured, taken=True, intervals=intervals["test"]))
    return rows


def _baseline_line(stage: Stage, task: Task[Any]) -> tuple[str, float]:
    drawn = next(iter(task.curves.lines))
    style = next((column.style for column in task.columns if column.key == drawn), "number")
    value = f"{shown(stage.metrics[drawn], style)} {task.curves.unit}".rstrip()
    return f"{stage.name} ({value})", stage.metrics[drawn]


def _headline(stage: Stage, task: Task[Any]) -> dict[str, Any]:
    measured = {column.key: stage.metrics[column.key] for column in task.columns}
    return {"stage": stage.name, "taken": stage.taken, "intervals": stage.intervals, **measured}


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
    for stage in stages:
        table.add_row(stage.name, *(shown(stage.metrics[column.key], column.style) for column in task.columns))
    console().print(table)
    log.info(
        "%d updates in %s; everything is in %s (open report.html)",
        state.iteration,
        clock(state.seconds),
        run_dir.path,
    )
