"""What a tracker is told of a run's beginning and end, read from the run directory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.config.changes import flat_values
from trainer.config.store import read_config
from trainer.run_dir import RunDir
from trainer.trackers.tracker import Beginning, Ending

# Pictures of numbers. All others may show images of the data, and are sent only where that was asked for.
WITHOUT_IMAGES = (
    "schedule", "learning_rates", "loss", "metrics", "landmark_errors", "confusion", "reliability",
    "predicted_against_true", "bland_altman",
)  # fmt: skip
RESULTS = ("best", "taken", "metrics", "range_test")  # of results.json


def read_beginning(run_dir: RunDir, num_updates: int) -> Beginning:
    settings = {
        key: value if isinstance(value, str | int | float | bool | None) else json.dumps(value)
        for key, value in flat_values(read_config(run_dir.config)).items()
    }
    return Beginning(settings, num_updates)


def read_ending(run_dir: RunDir, status: str, exit_code: int, num_updates: int, *, images: bool) -> Ending:
    if status != "finished":
        return Ending(status, exit_code, num_updates, {}, {}, "")
    results = json.loads(run_dir.results.read_text(encoding="utf-8"))
    kept = {key: results[key] for key in RESULTS if key in results}
    return Ending(
        status,
        exit_code,
        num_updates,
        pictures=_pictures(run_dir, images=images),
        results=dict(_numbers("final", kept)),
        verdict=str(results["verdict"]),
    )


def _pictures(run_dir: RunDir, *, images: bool) -> dict[str, Path]:
    drawn = [path for path in sorted(run_dir.plots.glob("*.png")) if images or path.stem in WITHOUT_IMAGES]
    tests = sorted(run_dir.path.glob("range_test/*/range_test.png"))
    return {str(path.relative_to(run_dir.path).with_suffix("")): path for path in (*drawn, *tests)}


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """The numbers in a value of results.json, but for settings and lists."""
    if isinstance(value, dict):
        for key, child in value.items():
            if key not in ("settings", "intervals"):
                yield from _numbers(f"{name}/{key}", child)
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        yield name, float(value)
