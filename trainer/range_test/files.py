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
    folder: Path, finding: Finding, settings: RangeTestConfig, *, phase: str, metric: str, fingerprint: str | None
) -> dict[str, Any]:
    """Write the four files; returns what the .json holds. `metric` names what the validation split measured."""
    write_text(folder / "range_test.csv", table(finding).to_csv(index=False))
    summary = summarise(finding, settings, phase=phase, fingerprint=fingerprint)
    write_json(folder / "range_test.json", summary)
    rate = finding.rates.lr
    write_text(folder / "suggested_lr.txt", "none\n" if rate is None else f"{rate:.6g}\n")
    plot_range_test(folder / "range_test.png", finding, title=f"{phase} phase", metric=metric)
    return summary


def table(finding: Finding) -> pd.DataFrame:
    """A row per rung: step (from 0), lr, loss, smoothed (the signal that was judged), metric; over several repeats
    their medians, with a column per repeat after them. Values from after a repeat's stop are empty."""
    columns: dict[str, Any] = {"step": range(len(finding.lrs)), "lr": finding.lrs}
    columns["loss"] = _median(finding, "losses")
    columns["smoothed"] = finding.smoothed
    columns["metric"] = _median(finding, "metrics")
    if len(finding.sweeps) > 1:
        for repeat, sweep in enumerate(finding.sweeps, start=1):
            columns[f"loss_{repeat}"] = sweep.losses[: len(finding.lrs)]
    return pd.DataFrame(columns)


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
                "high": interval[1] if math.isfinite(interval[1]) else None,
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


def _median(finding: Finding, name: str) -> Any:
    values = [getattr(sweep, name) for sweep in finding.sweeps]
    if values[0] is None:
        return math.nan
    return pd.DataFrame([column[: len(finding.lrs)] for column in values]).median(skipna=False).to_numpy()
