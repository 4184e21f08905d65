"""Every path in a run directory, and the way files get there: written aside, then renamed."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from data.atomic import HALF_WRITTEN, written_atomically

ENVIRONMENT_KEYS = {"folder", "overrides", "threads", "devices", "versions"}  # that going on with a run needs


class RunDir:
    """The folder that holds all of a run.

    `home`: the same folder, but in processes that write aside what they write: there it is where the run is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = self.home = path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def splits(self) -> Path:
        return self.path / "splits.csv"

    @property
    def labels(self) -> Path:
        return self.path / "labels.json"

    @property
    def lr_history(self) -> Path:
        return self.path / "lr_history.csv"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def results(self) -> Path:
        return self.path / "results.json"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.csv"

    @property
    def calibration(self) -> Path:
        return self.path / "calibration.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def plots(self) -> Path:
        return self.path / "plots"

    def range_test(self, phase: str) -> Path:
        """The folder of a phase's range test."""
        return self.path / "range_test" / phase

    @property
    def last_checkpoint(self) -> Path:
        return self.path / "checkpoints" / "last.pt"

    @property
    def previous_checkpoint(self) -> Path:
        return self.path / "checkpoints" / "previous.pt"

    @property
    def has_checkpoint(self) -> bool:
        return self.last_checkpoint.exists() or self.previous_checkpoint.exists()

    @property
    def best_weights(self) -> Path:
        return self.path / "checkpoints" / "best.safetensors"

    @property
    def average_weights(self) -> Path:
        return self.path / "checkpoints" / "average.safetensors"

    def snapshot(self, cycle: int) -> Path:
        """The weights at the end of a cycle of the last phase, counted from 0."""
        return self.path / "checkpoints" / f"cycle_{cycle + 1:02d}.safetensors"

    def check_exists(self) -> None:
        """Raises ValueError where there is no run to go on with."""
        for file in (self.config, self.environment):
            if not file.is_file():
                raise ValueError(f"resume={self.path} is not a run directory: it has no {file.name}")

    def create(self) -> None:
        """Make the folders, and take away what a killed process left half written."""
        for folder in (self.plots, self.last_checkpoint.parent):
            folder.mkdir(parents=True, exist_ok=True)
        for half in self.path.rglob(HALF_WRITTEN):
            half.unlink()

    def note_fault(self, message: str) -> None:
        """Put a fault at the end of the log of a run that has begun."""
        if self.config.exists():
            with suppress(OSError), (self.home / "train.log").open("a", encoding="utf-8") as file:  # told on stderr too
                file.write(f"error: {message}\n")

    def remove(self) -> None:
        """Take away what is made before a run begins, and the folder if it held nothing else."""
        for made in (self.splits, self.path / "train.log", self.lock):
            made.unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def read_environment(self) -> dict[str, Any]:
        """Raises ValueError, naming the file, where it is not as a run wrote it."""
        try:
            environment = json.loads(self.environment.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.environment} is damaged ({error}); put it back, or start a new run") from None
        lacking = ENVIRONMENT_KEYS - set(environment if isinstance(environment, dict) else ())
        if lacking:
            lost = ", ".join(sorted(lacking))
            raise ValueError(f"{self.environment} is damaged (it lacks {lost}); put it back, or start a new run")
        return dict(environment)


def write_text(path: Path, text: str) -> None:
    with written_atomically(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def json_numbers(value: Any) -> Any:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, dict):
        return {key: json_numbers(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [json_numbers(child) for child in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if hasattr(value, "item") else value  # of a NumPy scalar, without importing it
