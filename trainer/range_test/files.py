"""What a range test leaves: range_test.csv, .json and .png, and suggested_lr.txt."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from trainer.config.range_test import RangeTestConfig
from trainer.range_test.finding import Finding, decades
from trainer.range_test.picture import plot_range_test
from trainer.run_dir import write_json, write_text


def write_finding(
    folder: Path,
    finding: Finding,
    settings: RangeTestConfig,
    *,
    phase: str,
    metric: str,
    fingerprint: str | None,
    draw: bool,
) -> dict[str, Any]:
    """Write the four files, without `draw` all but the picture; returns what the .json holds. `metric` names what the
    validation split measured."""
    write_text(folder / "range_test.csv", table(finding).to_csv(index=False))
    summary = summarise(finding, settings, phase=phase, fingerprint=fingerprint)
    write_json(folder / "range_test.json", summary)
    rate = finding.rates.lr
    write_text(folder / "suggested_lr.txt", "none\n" if rate is None else f"{rate:.6g}\n")
    if draw:
        plot_range_test(folder / "range_test.png", finding, title=f"{phase} phase", metric=metric)
    return summary


def table(finding: Finding) -> pd.DataFrame:
    """A row per rung: step (from 0), lr, loss, smoothed (the signal that was judged), metric; over several repeats
    their medians, as far as all of them went, and a loss per repeat after them, as far as it went."""
    lrs = max((sweep.lrs for sweep in finding.sweeps), key=len)
    losses = _side_by_side([sweep.losses for sweep in finding.sweeps])
    metrics = _side_by_side([[] if sweep.metrics is None else sweep.metrics for sweep in finding.sweeps])
    columns: dict[str, Any] = {"step": range(len(lrs)), "lr": lrs, "loss": losses.median(axis=1, skipna=False)}
    columns["smoothed"] = pd.Series(finding.smoothed)
    columns["metric"] = metrics.median(axis=1, skipna=False)
    if len(finding.sweeps) > 1:
        columns |= {f"loss_{repeat + 1}": losses[repeat] for repeat in range(len(finding.sweeps))}
    return pd.DataFrame(columns, index=range(len(lrs)))


def summarise(finding: Finding, settings: RangeTestConfig, *, phase: str, fingerprint: str | None) -> dict[str, Any]:
    rates = finding.rates
    return {
        "phase": phase,
        "verdict": finding.verdict,
        "suggestion": rates.lr,
        "rule": settings.suggest,
        "suggestions": finding.suggestions,
        "bounds": {"base_lr": rates.base_lr, "max_lr": rates.max_lr, "still_improving": rates.still_improving},
        "taken": taken(finding, settings),
        "intervals": {
            name: interval
            and {
                "low": interval[0],
                "high": interval[1] if math.isfinite(interval[1]) else None,  # null: not found by all
                "decades": decades(interval) if math.isfinite(interval[1]) else None,
            }
            for name, interval in finding.intervals.items()
        },
        "stop_reason": finding.stop or "last rung",
        "steps": [len(sweep.lrs) for sweep in finding.sweeps],
        "settings": asdict(settings),
        "fingerprint": fingerprint,
    }


def taken(finding: Finding, settings: RangeTestConfig) -> dict[str, float]:
    """The rates for `auto`, by key of the scheduler: what was found times range_test.safety."""
    rates = finding.rates
    found = {"lr": rates.lr, "base_lr": rates.base_lr, "max_lr": rates.max_lr}
    return {key: value * settings.safety for key, value in found.items() if value is not None}


def _side_by_side(columns: list[Any]) -> pd.DataFrame:
    """A column per repeat, padded with NaN to the longest."""
    return pd.DataFrame({repeat: pd.Series(column, dtype=float) for repeat, column in enumerate(columns)})
