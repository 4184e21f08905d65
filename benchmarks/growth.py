"""How does an update of the fine-tune, and the evaluation of an image, grow with landmarks and with pixels?

    python benchmarks/growth.py [--rounds 5] [overrides]

The default model in fp32 and channels_last, batches of 8, on a table of drawn X-rays that the script writes: with 19,
68 and 200 landmarks at 256 x 208 px, then with 19 at 128 x 104 and at 512 x 416 px. The settings take turns in one
process; prints the medians, and the ratio to the first setting. With images an epoch grows as their number does; what
comes before the first one is in large_tables.py.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import hydra
import numpy as np
import pandas as pd
import torch

from data.phantom import draw_phantom
from trainer.config.run import TrainConfig
from trainer.config.store import register_schemas, to_train_config
from trainer.device import build_compute, keep_freed_memory
from trainer.loop import UpdateRule, evaluate, train_steps
from trainer.phases import freeze, set_training_modes
from trainer.schedules import ConstantSchedule
from trainer.state import TrainState
from trainer.tuning.updates import first_batch, trial_phase

IMAGES = 16
FIRST = (19, 256, 208)
SETTINGS = (FIRST, (68, 256, 208), (200, 256, 208), (19, 128, 104), (19, 512, 416))  # landmarks, height, width


def write_table(folder: Path, landmarks: int) -> Path:
    """Drawn X-rays with their 19 points and, up to `landmarks` (19 or more), points between two of them."""
    rng = np.random.default_rng(0)
    between = rng.integers(19, size=(2, landmarks - 19))
    rows = []
    for index in range(IMAGES):
        drawn = draw_phantom(0, index, height=512, width=416)
        cv2.imwrite(str(folder / f"{index}.png"), drawn.image)
        points = np.concatenate([drawn.points, drawn.points[between].mean(axis=0)])
        rows.append([f"{index}.png", *points.round(2).ravel()])
    names = [f"{axis}{k}" for k in range(landmarks) for axis in "xy"]
    pd.DataFrame(rows, columns=["image", *names]).to_csv(folder / f"points_{landmarks}.csv", index=False)
    return folder / f"points_{landmarks}.csv"


class Bench:
    """One setting, warm."""

    def __init__(self, config: TrainConfig, splits: Path) -> None:
        data = config.task.build_data(config, splits)
        self.compute = build_compute("cpu", config.precision, config.memory_format)
        model = self.compute.place(config.task.build_model(config, data))
        self.state = TrainState(model, None, self.compute.grad_scaler())
        self.rule = UpdateRule(config.task.build(config, data), self.compute, 1, config.clip_norm)
        self.phase = trial_phase(config)
        self.batch = first_batch(self.phase, data)
        freeze(model, self.phase)
        self.state.optimizer = config.phases.finetune.optimizer.build(self.state.backbone, self.state.head)
        self.update()
        self.evaluation()

    def update(self) -> float:
        """Seconds of an update."""
        set_training_modes(self.state.model, self.phase)
        begun = time.perf_counter()
        schedule = ConstantSchedule(lr=1e-6)
        for _ in train_steps(self.state, iter([self.batch]), schedule, steps=1, backbone_lr_ratio=0.3, rule=self.rule):
            pass
        return time.perf_counter() - begun

    def evaluation(self) -> float:
        """Seconds of the evaluation of an image."""
        begun = time.perf_counter()
        evaluate(self.state.model, [self.batch], self.rule.task, self.compute)
        return (time.perf_counter() - begun) / len(self.batch["index"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    asked, overrides = parser.parse_known_args()
    register_schemas()
    keep_freed_memory()
    benches = {}
    with tempfile.TemporaryDirectory() as name, hydra.initialize_config_module("conf", version_base="1.3"):
        for landmarks, height, width in SETTINGS:
            fixed = (
                *("data=csv", f"data.table={write_table(Path(name), landmarks)}", "device=cpu", "precision=fp32"),
                *("memory_format=channels_last", f"data.input_height={height}", f"data.input_width={width}"),
            )
            config = to_train_config(hydra.compose("config", overrides=[*fixed, "data.batch_size=8", *overrides]))
            benches[landmarks, height, width] = Bench(config, Path(name) / f"splits_{landmarks}_{height}.csv")
        rounds = [
            {setting: (bench.update(), bench.evaluation()) for setting, bench in benches.items()}
            for _ in range(asked.rounds)
        ]
    print(f"{torch.get_num_threads()} threads, {asked.rounds} rounds, load {os.getloadavg()[0]:.1f}\n")
    print(
        "| landmarks | input, px | update of 8, ms | ratio | evaluation of one, ms | ratio |\n|---|---|---|---|---|---|"
    )
    for setting in SETTINGS:
        told = []
        for kind in (0, 1):
            ratio = statistics.median(spent[setting][kind] / spent[FIRST][kind] for spent in rounds)
            told.append(f"{1000 * statistics.median(spent[setting][kind] for spent in rounds):.1f} | {ratio:.2f}")
        print(f"| {setting[0]} | {setting[1]} x {setting[2]} | {' | '.join(told)} |")


if __name__ == "__main__":
    main()
