"""What do kept features spare a frozen phase, and what do they cost in accuracy?

    python benchmarks/frozen_phase.py time [--model heatmap] [--images 512] [--epochs 10] [--rounds 5] [overrides]
    python benchmarks/frozen_phase.py accuracy [--views 0,1,2,4,8] [--seeds 0,1,2] [overrides]

time: epochs over images that lie in memory, by the program's own training loop, in turns: the backbone in training
mode without gradients (the baseline), in eval mode (the program's ordinary way), as kept features with one view, and
the head alone on features that lie in memory; the last two also in bf16 where the hardware has units for it, which is
what precision=auto takes where it is faster. Prints medians and ratios; kept features are with their computation.
accuracy: whole runs, with a table of the monitored metric after the frozen phase and at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import hydra
import numpy as np
import torch
from omegaconf import DictConfig

from trainer.config.store import register_schemas, to_train_config
from trainer.device import build_compute, has_bf16_units, keep_freed_memory
from trainer.feature_plan import computed
from trainer.features import Features, Source
from trainer.loop import Batch, UpdateRule, train_steps
from trainer.run_data import RunData
from trainer.run_dir import RunDir
from trainer.schedules import ConstantSchedule
from trainer.state import TrainState
from trainer.train import train

MODELS = {
    "classifier": (
        "task=classification", "model=classifier", "model.backbone=resnet18", "model.weights=none",
        "data.input_height=128", "data.input_width=128", "data.batch_size=16",
    ),
    "heatmap": ("data.input_height=256", "data.input_width=208", "data.batch_size=8"),
}  # fmt: skip


def compose(overrides: Iterable[str]) -> DictConfig:
    with hydra.initialize_config_module("conf", version_base="1.3"):
        return hydra.compose("config", overrides=list(overrides))


class Bench:
    """One model, its images, and the ways to train an epoch of its head."""

    def __init__(self, folder: Path, overrides: Iterable[str]) -> None:
        config = to_train_config(compose(overrides))
        self.compute = build_compute("cpu", "fp32", config.memory_format)
        data = config.task.build_data(config, folder / "splits.csv")
        self.data: RunData = data
        model = self.compute.place(config.task.build_model(config, data))
        for parameter in model.get_submodule("backbone").parameters():
            parameter.requires_grad = False
        self.state = TrainState(model, None, self.compute.grad_scaler())
        self.state.optimizer = config.phases.frozen.optimizer.build(self.state.backbone, self.state.head)
        self.rule = UpdateRule(config.task.build(config, data), self.compute, 1, config.clip_norm)
        self.images = list(data.training_batches(first_epoch=0, first_step=0, last_step=data.updates_per_epoch))
        eval_mode(self.state)

    def under(self, precision: str) -> None:
        """What follows is computed in it."""
        self.compute = replace(self.compute, precision=precision)
        self.rule = replace(self.rule, compute=self.compute)

    def maps(self) -> list[Batch]:
        """The batches with features in the place of images."""
        return [{**batch, "image": self.features(batch["image"])} for batch in self.images]

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        return computed(self.state.model, self.compute, images)

    def epoch(self, batches: Iterable[Batch]) -> np.ndarray:
        """Seconds of the updates of an epoch: of the clock, and of the processor."""
        begun = now()
        steps = train_steps(
            self.state,
            iter(batches),
            ConstantSchedule(lr=1e-6),
            steps=len(self.images),
            backbone_lr_ratio=0.0,
            rule=self.rule,
        )
        for _ in steps:
            pass
        return now() - begun

    def kept(self) -> tuple[np.ndarray, np.ndarray]:
        """Seconds of the first epoch, in which features are computed, and of each one after it."""
        indices = self.data.records.indices("train")
        source = Source(
            train=self.data.train,
            plain=self.data.plain,
            train_indices=indices,
            val_indices=indices[:0],
            batch_size=self.data.batch_size,
            compute=self.features,
            check=lambda: None,
        )
        example = self.features(self.images[0]["image"][:1])
        features = Features(source, example, views=1, first_epoch=0, half=False, folder=None)
        data = replace(self.data, features=features)
        options = {"first_step": 0, "last_step": data.updates_per_epoch}
        first, later = (self.epoch(data.training_batches(first_epoch=epoch, **options)) for epoch in (0, 1))
        return first, later


def now() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


def eval_mode(state: TrainState) -> None:
    state.model.train()
    state.backbone.eval()


def time_ways(kind: str, images: int, epochs: int, rounds: int, overrides: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        counted = (f"data.num_images={images}", "data.val_fraction=0", "device=cpu", "range_test=off")
        bench = Bench(Path(folder), [*MODELS[kind], *counted, *overrides])
        precisions = ["fp32", "bf16"] if has_bf16_units(bench.compute.device) else ["fp32"]
        seconds: dict[str, list[np.ndarray]] = {}
        for _ in range(rounds + 1):  # the first warms up
            bench.state.model.train()
            of_round = {"backbone in training mode, no gradients": epochs * bench.epoch(bench.images)}
            eval_mode(bench.state)
            of_round["backbone in eval mode (ordinary way)"] = epochs * bench.epoch(bench.images)
            for precision in precisions:
                bench.under(precision)
                first, later = bench.kept()
                of_round[f"kept features, {precision}"] = first + (epochs - 1) * later
                of_round[f"head alone, features in memory, {precision}"] = epochs * bench.epoch(bench.maps())
            bench.under("fp32")
            for name, value in of_round.items():
                seconds.setdefault(name, []).append(value)
            print(", ".join(f"{name} {value[0]:.1f} s" for name, value in of_round.items()), flush=True)
    baseline = np.array(next(iter(seconds.values()))[1:])
    print(
        f"\n{kind}, {images} images, {epochs} epochs, {torch.get_num_threads()} threads, "
        f"load {os.getloadavg()[0]:.1f}\n"
    )
    print("| way | seconds | ratio, median of rounds | CPU seconds | ratio |\n|---|---|---|---|---|")
    for name, values in seconds.items():
        (clock, cpu), (of_clock, of_cpu) = (np.median(x, axis=0) for x in (values[1:], np.array(values[1:]) / baseline))
        print(f"| {name} | {clock:.1f} | {of_clock:.3f} | {cpu:.1f} | {of_cpu:.3f} |")


def compare_accuracy(views: list[int], seeds: list[int], overrides: list[str]) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number in views:
            after: list[float] = []
            final: list[float] = []
            spent: list[float] = []
            for seed in seeds:
                asked = [
                    f"seed={seed}",
                    f"phases.frozen.cache.views={number}",
                    "pictures=false",
                    "device=cpu",
                    *overrides,
                ]
                run_dir = RunDir(Path(folder) / f"{number}_{seed}")
                composed = compose(asked)
                final.append(train(to_train_config(composed), run_dir, composed, asked))
                results = json.loads(run_dir.results.read_text())
                after.append(results["phases"]["frozen"][results["monitor"]])
                spent.append(results["seconds_per_phase"]["frozen"])
            told = [f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})" for values in (after, final)]
            rows.append(f"| {number or 'off'} | {told[0]} | {told[1]} | {np.mean(spent):.0f} |")
            print(rows[-1], flush=True)
    print(f"\n{' '.join(overrides)}, seeds {seeds}\n")
    print("| views | after the frozen phase | best of the run | seconds, frozen |\n|---|---|---|---|")
    print("\n".join(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("time", "accuracy"))
    parser.add_argument("--model", choices=tuple(MODELS), default="classifier")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--views", default="0,1,2,4,8")
    parser.add_argument("--seeds", default="0,1,2")
    asked, overrides = parser.parse_known_args()
    register_schemas()
    keep_freed_memory()
    if asked.what == "time":
        time_ways(asked.model, asked.images, asked.epochs, asked.rounds, overrides)
    else:
        views, seeds = ([int(text) for text in given.split(",")] for given in (asked.views, asked.seeds))
        compare_accuracy(views, seeds, overrides)


if __name__ == "__main__":
    main()
