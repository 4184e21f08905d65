"""What does an update of the fine-tune cost under the settings that a run takes by default?

    python benchmarks/train_step.py [--models classifier,heatmap] [--rounds 5] [--updates 4] [overrides]

Two processes take turns, each with the same model and batch: a bare loop as torch gives it (fp32, contiguous, plain
AdamW, forward, loss, backward, step), and the program's own training loop with precision=auto, memory_format=auto, the
optimizer that it builds and the memory that it lets glibc keep. Prints the medians, the ratio by the clock and by the
CPU time that was used (which other work stretches less, above all with OMP_NUM_THREADS=1), and what auto took. With
compile=true the second is compiled.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import hydra
import torch

from trainer.compiling import switch_on
from trainer.config.run import TrainConfig
from trainer.config.store import register_schemas, to_train_config
from trainer.device import build_compute, has_bf16_units, keep_freed_memory
from trainer.loop import UpdateRule, train_steps
from trainer.phases import freeze, set_training_modes
from trainer.precision import choose
from trainer.schedules import ConstantSchedule
from trainer.state import TrainState
from trainer.tuning.updates import first_batch, trial_phase

MODELS = {
    "classifier": (
        "task=classification", "model=classifier", "model.backbone=resnet18", "model.weights=none",
        "data.input_height=128", "data.input_width=128", "data.batch_size=16",
    ),
    "heatmap": ("model.weights=none", "data.input_height=256", "data.input_width=208", "data.batch_size=8"),
}  # fmt: skip
TOLD = {"classifier": "resnet18, classifier, 128 px, batch 16", "heatmap": "lite0, heatmaps, 256 x 208 px, batch 8"}
WAYS = ("bare", "default")
GOALS = {"classifier": (0.5, 0.85), "heatmap": (0.6, 0.65)}  # where the CPU has units for bf16, and where not


def composed(kind: str, overrides: list[str]) -> TrainConfig:
    # A long run, so that a trial pays.
    common = ["device=cpu", "data.num_images=32", "data.val_fraction=0", "phases.finetune.epochs=10000"]
    with hydra.initialize_config_module("conf", version_base="1.3"):
        return to_train_config(hydra.compose("config", overrides=[*MODELS[kind], *common, *overrides]))


def bare_update(config: TrainConfig, folder: Path) -> Callable[[], None]:
    data = config.task.build_data(config, folder / "splits.csv")
    task, model = config.task.build(config, data), config.task.build_model(config, data)
    batch = first_batch(trial_phase(config), data)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    model.train()

    def update() -> None:
        optimizer.zero_grad()
        loss = task.loss(model(*(batch[name] for name in task.inputs)), batch)
        loss.backward()
        optimizer.step()

    return update


def default_update(config: TrainConfig, folder: Path) -> Callable[[], None]:
    keep_freed_memory()
    compute = build_compute("cpu", config.precision, config.memory_format)
    data = config.task.build_data(config, folder / "splits.csv")
    state = TrainState(compute.place(config.task.build_model(config, data)), None, compute.grad_scaler())
    rule = UpdateRule(config.task.build(config, data), compute, 1, config.clip_norm)
    choice = choose(config, state, data, rule)
    print(choice.told or choice.noted["how"], flush=True)
    rule = UpdateRule(rule.task, choice.compute, 1, config.clip_norm)
    phase = trial_phase(config)
    batch = first_batch(phase, data)
    freeze(state.model, phase)
    set_training_modes(state.model, phase)
    if config.compile:
        switch_on(state.backbone, 1)
    state.optimizer = config.phases.finetune.optimizer.build(state.backbone, state.head)

    def update() -> None:
        schedule = ConstantSchedule(lr=1e-6)
        for _ in train_steps(state, iter([batch]), schedule, steps=1, backbone_lr_ratio=0.3, rule=rule):
            pass

    return update


def take_turns(way: str, kind: str, updates: int, overrides: list[str]) -> None:
    """In a process of its own: for each line that comes in, seconds and CPU seconds of an update, the means of some."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        config = composed(kind, overrides)
        update = (bare_update if way == "bare" else default_update)(config, Path(folder))
        update()
        print("ready", flush=True)
        for _ in sys.stdin:
            begun, used = time.perf_counter(), time.process_time()
            for _ in range(updates):
                update()
            print((time.perf_counter() - begun) / updates, (time.process_time() - used) / updates, flush=True)


def measured(kind: str, rounds: int, updates: int, overrides: list[str]) -> tuple[dict[str, list[list[float]]], str]:
    """Seconds and CPU seconds per update in each round, way by way, and what auto took."""
    children, told = {}, ""
    for way in WAYS:
        command = [sys.executable, __file__, "--turns", way, "--models", kind, "--updates", str(updates), *overrides]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        children[way] = child
        assert child.stdout is not None
        while (line := child.stdout.readline().strip()) != "ready":
            if not line:
                raise SystemExit(f"{way}: ended with {child.wait()}")
            told = line
    seconds: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for _ in range(rounds + 1):  # the first warms up
        for way, child in children.items():
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write("go\n")
            child.stdin.flush()
            seconds[way].append([float(number) for number in child.stdout.readline().split()])
    for child in children.values():
        child.communicate()
    return {way: values[1:] for way, values in seconds.items()}, told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=4)
    parser.add_argument("--turns", choices=WAYS, help=argparse.SUPPRESS)
    asked, overrides = parser.parse_known_args()
    register_schemas()
    if asked.turns is not None:
        take_turns(asked.turns, asked.models, asked.updates, overrides)
        return
    rows = []
    for kind in asked.models.split(","):
        seconds, told = measured(kind, asked.rounds, asked.updates, overrides)
        print(f"{TOLD[kind]}: {told}; load {os.getloadavg()[0]:.1f}", flush=True)
        bare, default = (1000 * statistics.median(wall for wall, _ in seconds[way]) for way in WAYS)
        pairs = list(zip(*(seconds[way] for way in WAYS), strict=True))
        ratio, of_cpu = (statistics.median(ours[one] / theirs[one] for theirs, ours in pairs) for one in (0, 1))
        goal = GOALS[kind][0 if has_bf16_units(torch.device("cpu")) else 1]
        rows.append(f"| {TOLD[kind]} | {bare:.0f} | {default:.0f} | {ratio:.2f} | {of_cpu:.2f} | {goal} |")
    print(f"\n{torch.get_num_threads()} threads, torch {torch.__version__}, {asked.rounds} rounds\n")
    print("| model | bare loop, ms | default settings, ms | ratio, median of rounds | of CPU time | goal |")
    print("|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
