"""What does an update cost beyond forward, backward and step?

    python benchmarks/loop_overhead.py [--model tiny|resnet18] [--rounds 7] [--updates 300] [--peers]

The program's own loop over a phase (schedule, checks, norm and clipping of the gradient, a row of lr_history.csv given
to the system, progress, looking for a request to stop, the epoch's row of metrics.csv) against a bare one: the same
batches, model, loss and optimizer. `with bar`: the same on a terminal, with the progress bar drawn to nowhere. The ways
take turns in one process, in an order drawn anew for each round; of each round the difference to the bare loop counts.
`--peers` adds the loops of the frameworks in requirements-peers.txt that are installed. Beside the clock's seconds
those of the processor are told (all threads): other work on the machine moves them less.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peers import PEERS, Clock, Seconds, missing
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn, optim
from torch.nn import functional as F

from trainer import progress
from trainer.checkpoint import Saver
from trainer.device import build_compute, keep_freed_memory
from trainer.history import METRIC_COLUMNS, CsvLog, Logs, LRHistory
from trainer.loop import Batch, UpdateRule
from trainer.optimizers import parameter_groups
from trainer.phases import Limits, Phase, Training, freeze, run_phase
from trainer.run_dir import RunDir
from trainer.schedules import CyclicalSchedule
from trainer.state import TrainState
from trainer.stopping import StopRequest

NUM_CLASSES = 10


class Tiny(nn.Module):
    """So fast that only the loop around it is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 32), nn.ReLU())
        self.head = nn.Linear(32, NUM_CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        answer: Tensor = self.head(self.backbone(image))
        return answer


class ResNet18(nn.Module):
    def __init__(self) -> None:
        import timm

        super().__init__()
        self.backbone = timm.create_model("resnet18", num_classes=0)
        self.head = nn.Linear(512, NUM_CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        answer: Tensor = self.head(self.backbone(image))
        return answer


MODELS: dict[str, tuple[type[nn.Module], int, int]] = {"tiny": (Tiny, 8, 300), "resnet18": (ResNet18, 128, 8)}


class Classes:
    """As much of a task as a phase without validation asks for."""

    inputs = ("image",)
    monitor, monitor_mode = "train_loss", "min"

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(output, batch["label"])

    def summary(self, measured: dict[str, float]) -> str:
        return f"train loss {measured['train_loss']:.4f}"


@dataclass(frozen=True)
class InMemory:
    """Batches that are there already, in the place of RunData."""

    batches: list[Batch]
    validates = False

    def training_batches(self, *, first_step: int, last_step: int, **_: Any) -> Iterator[Batch]:
        for step in range(first_step, last_step):
            yield self.batches[step % len(self.batches)]


class Bench:
    """A model, batches of 16 images of noise, and the ways to make `updates` updates of it, each in seconds."""

    def __init__(self, model: str, updates: int | None, folder: Path) -> None:
        kind, pixels, usual = MODELS[model]
        self.updates = updates or usual
        self.build = kind
        generator = torch.Generator().manual_seed(0)
        self.data = InMemory(
            [
                {
                    "image": torch.randn(16, 3, pixels, pixels, generator=generator),
                    "label": torch.randint(NUM_CLASSES, (16,), generator=generator),
                    "index": torch.arange(16),
                }
                for _ in range(4)
            ]
        )
        self.folder = folder

    def state(self) -> TrainState:
        torch.manual_seed(0)
        model = self.build()
        model.train()
        state = TrainState(model, None, torch.amp.GradScaler("cpu", enabled=False))
        state.optimizer = self.optimizer(model)
        return state

    def optimizer(self, model: nn.Module) -> optim.Optimizer:
        groups = parameter_groups(model.get_submodule("backbone"), model.get_submodule("head"), 0.01)
        return optim.AdamW(groups, lr=1e-4)

    def all_batches(self) -> Iterator[Batch]:
        return self.data.training_batches(first_step=0, last_step=self.updates)

    def bare(self) -> Seconds:
        state = self.state()
        model, optimizer = state.model, state.optimizer
        assert optimizer is not None
        clock = Clock()
        for batch in self.all_batches():
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(batch["image"]), batch["label"]).backward()
            optimizer.step()
        return clock.passed()

    def ours(self) -> Seconds:
        state = self.state()
        phase = Phase(
            name="finetune",
            frozen=False,
            schedule=CyclicalSchedule(base_lr=1e-5, max_lr=1e-4, step_size=self.updates // 4 or 1),
            total_steps=self.updates,
            steps_per_epoch=self.updates,
            backbone_lr_ratio=0.3,
            batch_norm="train",
        )
        freeze(state.model, phase)
        run_dir = RunDir(Path(tempfile.mkdtemp(dir=self.folder)))
        run_dir.create()
        logs = Logs(LRHistory(run_dir.lr_history, keep_rows=0), CsvLog(run_dir.metrics, METRIC_COLUMNS, keep_rows=0))
        task, compute = Classes(), build_compute("cpu", "fp32", "contiguous")
        training = Training(
            data=self.data,  # type: ignore[arg-type]
            rule=UpdateRule(task, compute, 1, clip_norm=5.0),  # type: ignore[arg-type]
            limits=Limits(None, None, 0),
            logs=logs,
            # Saving is another question: benchmarks/checkpoint_cost.py.
            saver=Saver(run_dir, logs, every_steps=None, every_minutes=None, digests={}, keeps=False),
            request=StopRequest(),
        )
        clock = Clock()
        run_phase(phase, state, training, steps_after=0)
        seconds = clock.passed()
        logs.close()
        return seconds

    def ours_with_bar(self) -> Seconds:
        plain, terminal = progress.Progress, sys.stdout.isatty
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            console = Console(file=nowhere, force_terminal=True, width=100)
            progress.Progress = lambda *columns, **named: Progress(*columns, console=console, **named)  # type: ignore
            sys.stdout.isatty = lambda: True  # type: ignore[method-assign]
            try:
                return self.ours()
            finally:
                progress.Progress, sys.stdout.isatty = plain, terminal  # type: ignore[misc, method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=tuple(MODELS), default="tiny")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--updates", type=int)
    parser.add_argument("--peers", action="store_true")
    asked = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(asked.model, asked.updates, Path(folder))
        ways: dict[str, Callable[[], Seconds]] = {
            "bare loop": bench.bare,
            "this program": bench.ours,
            "this program, with bar": bench.ours_with_bar,
        }
        for name, peer in PEERS.items() if asked.peers else ():
            if lacking := missing(name):
                print(f"{name}: left out, {lacking} is not installed (benchmarks/requirements-peers.txt)")
            else:
                ways[name] = lambda peer=peer: peer(bench.state().model, bench.optimizer, list(bench.all_batches()))
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        on_cpu: dict[str, list[float]] = {name: [] for name in ways}
        turns = random.Random(0)
        for _ in range(asked.rounds + 1):  # the first warms up
            # No way always follows the same other one: what that leaves in memory slows a large model by up to 8 %.
            for name in turns.sample(list(ways), len(ways)):
                of_clock, of_cpu = ways[name]()
                seconds[name].append(of_clock)
                on_cpu[name].append(of_cpu)
    load = os.getloadavg()[0]
    print(f"\n{asked.model}, {bench.updates} updates, {torch.get_num_threads()} threads, load {load:.1f}\n")
    print("| way | ms per update | more than bare, ms | ratio | CPU, ms | more than bare, ms | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name in ways:
        told = [compared(times[name][1:], times["bare loop"][1:], bench.updates) for times in (seconds, on_cpu)]
        print(f"| {name} | {' | '.join(told)} |")


def compared(values: list[float], bare: list[float], updates: int) -> str:
    """Medians: of milliseconds per update, of what they are more than bare in the same round, and of the ratio."""
    per_update = 1000 * statistics.median(values) / updates
    more = statistics.median(1000 * (value - base) / updates for value, base in zip(values, bare, strict=True))
    ratio = statistics.median(value / base for value, base in zip(values, bare, strict=True))
    return f"{per_update:.3f} | {more:.3f} | {ratio:.3f}"


if __name__ == "__main__":
    main()
