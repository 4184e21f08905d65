"""Do the circles hold the truth as often as they say, and does the spread of a map know how wrong its answer is?

    python benchmarks/uncertainty_proof.py RUN [240]    a finished run on phantoms, and how many new ones to draw
    python benchmarks/uncertainty_proof.py RUN val      any finished run of landmarks, on its own validation images
    python benchmarks/uncertainty_proof.py RUN halves   the same, each half of them by the other

New phantoms are judged by circles calibrated on the run's validation images; these themselves by leaving out one image
at a time, or half of them. Scores that could stand for the spread are compared by their rank correlation with the
error, and by the mean radius of the circles they lead to: the smaller, the more they know.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from models.heatmaps import expected_distance, to_cells
from models.landmarks import LandmarkOutput
from trainer import checkpoint
from trainer.config.data import PhantomConfig
from trainer.config.run import TrainConfig
from trainer.config.store import read_config, register_schemas, to_train_config
from trainer.run_dir import RunDir
from trainer.tasks.landmark_calibration import coverage_findings, landmark_certainty, left_out_radii
from trainer.tasks.landmark_metrics import radial_errors

WINDOW = 6  # cells
TARGET = 2 * 1.5**2  # second moment of the default target, in cells


def scores(output: LandmarkOutput) -> dict[str, Tensor]:
    """Candidates (N, K) for the spread, in cells."""
    assert output.log_heatmaps is not None
    maps, cells = output.log_heatmaps, to_cells(output.points, output.stride)
    height, width = maps.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    across, down = x - cells[..., 0, None, None], y - cells[..., 1, None, None]
    weights, squared = maps.flatten(2).softmax(dim=2).view_as(maps), across.square() + down.square()
    near = torch.where((across.abs() <= WINDOW) & (down.abs() <= WINDOW), weights, 0)
    entropy = torch.special.entr(weights).sum(dim=(2, 3))
    return {
        "expected distance": expected_distance(maps, cells),
        "second moment": (weights * squared).sum(dim=(2, 3)).sqrt(),
        "second moment, window": ((near * squared).sum(dim=(2, 3)) / near.sum(dim=(2, 3))).sqrt(),
        "second moment, excess": ((weights * squared).sum(dim=(2, 3)) - TARGET).clamp_min(TARGET / 4).sqrt(),
        "entropy": (entropy / 2).exp(),
        "height of the peak": weights.amax(dim=(2, 3)).rsqrt(),
        "one input px": torch.full(cells.shape[:2], 1 / output.stride),
    }


@torch.no_grad()
def judge(config: TrainConfig, run: RunDir, splits_file: Path, split: str) -> tuple[Any, dict[str, np.ndarray]]:
    """The task, and what it predicts of a split, with every candidate in original px under its name."""
    data = config.task.build_data(config, splits_file)
    task, model = config.task.build(config, data), config.task.build_model(config, data)
    checkpoint.load_weights(run.best_weights, model)
    model.eval()
    parts = []
    for batch in data.evaluation_batches(split):
        output = model(batch["image"])
        found = task.predictions(output, batch)
        px = found["spread"] / scores(output)["expected distance"].numpy()  # of a cell
        parts.append(found | {name: px * score.numpy() for name, score in scores(output).items()})
    return task, {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def report(judged: dict[str, dict[str, np.ndarray]], names: list[str], unit: str) -> None:
    findings = landmark_certainty(judged, names, unit).findings
    print({key: value for key, value in findings.items() if key != "per_landmark"})


def main(folder: str, what: str = "240") -> None:
    register_schemas()
    run = RunDir(Path(folder))
    config = to_train_config(read_config(run.config))
    task, val = judge(config, run, run.splits, "val")
    names, unit, found = task.landmark_names, task.unit, val
    if what == "val":
        report({"val": val}, names, unit)
    elif what == "halves":
        parts = {key: np.array_split(values, 2) for key, values in val.items()}
        halves = [{key: both[side] for key, both in parts.items()} for side in (0, 1)]
        for first, second in (halves, halves[::-1]):
            report({"val": first, "test": second}, names, unit)
    else:
        assert isinstance(config.data, PhantomConfig)
        assert getattr(config.data, "region", "full") == "full", "new phantoms would give another region"
        drawn = replace(config.data, num_images=int(what), seed=config.data.seed + 1000, val_fraction=1 - 2 / int(what))
        with tempfile.TemporaryDirectory() as aside:
            found = judge(replace(config, data=drawn), run, Path(aside) / "splits.csv", "val")[1]
        report({"val": val, "test": found}, names, unit)

    errors = radial_errors(found["points"], found["truth"])
    for name in scores(LandmarkOutput(torch.zeros(1, 1, 2), log_heatmaps=torch.zeros(1, 1, 2, 2))):
        spread = {**found, "spread": found[name]}
        varies = not np.allclose(found[name], found[name].flat[0])
        correlation = spearmanr(found[name].ravel(), errors.ravel(), nan_policy="omit").statistic if varies else 0.0
        radius = coverage_findings(spread, left_out_radii(spread), names, unit)[f"mean_radius_{unit}"]
        print(f"{name:22} rank correlation with the error {correlation:6.3f}  mean radius {radius:.3f} {unit}")


if __name__ == "__main__":
    main(*sys.argv[1:])
