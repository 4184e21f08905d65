"""What does a range test cost beyond its updates?

    python benchmarks/range_test_cost.py [--model tiny|resnet18] [--rounds 5] [--steps 100] [--peers]

A whole test (snapshot, climb, stop rules, reading the rates, restore) against as many bare updates over the same
batches: the program's own (`this program`; with its four files and the picture as `with files`) and the notebook's
LRFinder. The ways take turns in one process. `--peers` adds torch-lr-finder, where it is installed
(requirements-peers.txt). The rates stay small, so that no test ends early.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import torch
from loop_overhead import MODELS, Bench, Classes, compared
from peers import Clock, Seconds, loader_of
from torch import nn
from torch.nn import functional as F

from trainer import LRFinder
from trainer.config.range_test import RangeTestConfig
from trainer.config.store import register_schemas, to_train_config
from trainer.device import build_compute, keep_freed_memory
from trainer.loop import UpdateRule
from trainer.phases import Phase, freeze
from trainer.range_test.files import write_finding
from trainer.range_test.finding import judge
from trainer.range_test.sweep import sweeps

LOWEST, HIGHEST = 1e-8, 1e-3


def settings(steps: int) -> RangeTestConfig:
    register_schemas()
    asked = [
        "range_test=on", f"range_test.num_steps={steps}", f"range_test.min_lr={LOWEST}", f"range_test.max_lr={HIGHEST}",
        "range_test.diverge_threshold=null", "range_test.spike_threshold=null",
    ]  # fmt: skip
    with hydra.initialize_config_module("conf", version_base="1.3"):
        return to_train_config(hydra.compose("config", overrides=asked)).range_test


def tested(bench: Bench, asked: RangeTestConfig, folder: Path | None) -> Seconds:
    """The program's own test; with a folder, what it writes too."""
    state = bench.state()
    phase = Phase(
        name="finetune",
        frozen=False,
        schedule=None,
        total_steps=bench.updates,
        steps_per_epoch=bench.updates,
        backbone_lr_ratio=0.3,
        batch_norm="train",
    )
    freeze(state.model, phase)
    task: Any = Classes()
    data: Any = bench.data
    rule = UpdateRule(task, build_compute("cpu", "fp32", "contiguous"), 1, clip_norm=5.0)
    clock = Clock()
    climbed = sweeps(phase, state, data, rule, asked, lambda record: None)
    finding = judge(climbed, asked.judgement("min"))
    if folder is not None:
        write_finding(folder, finding, asked, phase="finetune", metric="loss", fingerprint=None, draw=True)
    assert len(climbed[0].losses) == bench.updates, "ended early"
    return clock.passed()


def found(bench: Bench, finder_class: type[Any], **options: Any) -> Seconds:
    """A test with the interface that torch-lr-finder and ours have."""
    state = bench.state()
    loader = loader_of(list(bench.all_batches()))
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        clock = Clock()
        finder = finder_class(state.model, state.optimizer, nn.CrossEntropyLoss(), device="cpu")
        finder.range_test(loader, start_lr=LOWEST, end_lr=HIGHEST, num_iter=bench.updates, **options)
        finder.reset()
        passed = clock.passed()
    assert len(finder.history["loss"]) >= bench.updates - 1, "ended early"
    return passed


def bare_with_loader(bench: Bench) -> Seconds:
    """As many bare updates, through the loader that the finders go through."""
    state = bench.state()
    assert state.optimizer is not None
    clock = Clock()
    for images, labels in loader_of(list(bench.all_batches())):
        state.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(state.model(images), labels).backward()
        state.optimizer.step()
    return clock.passed()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=tuple(MODELS), default="tiny")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--peers", action="store_true")
    asked = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(asked.model, asked.steps, Path(folder))
        test = settings(asked.steps)
        # Each with the bare updates that it is compared with.
        ways: dict[str, tuple[Callable[[], Seconds], str]] = {
            "bare updates": (bench.bare, "bare updates"),
            "this program": (lambda: tested(bench, test, None), "bare updates"),
            "this program, with files": (lambda: tested(bench, test, Path(folder)), "bare updates"),
            "bare updates, DataLoader": (lambda: bare_with_loader(bench), "bare updates, DataLoader"),
            "LRFinder": (lambda: found(bench, LRFinder, diverge_th=None), "bare updates, DataLoader"),
        }
        if asked.peers and importlib.util.find_spec("torch_lr_finder") is None:
            print("torch-lr-finder: left out, it is not installed (benchmarks/requirements-peers.txt)")
        elif asked.peers:
            from torch_lr_finder import LRFinder as OtherFinder

            ways["torch-lr-finder"] = (lambda: found(bench, OtherFinder, diverge_th=1e9), "bare updates, DataLoader")
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        on_cpu: dict[str, list[float]] = {name: [] for name in ways}
        turns = random.Random(0)
        for _ in range(asked.rounds + 1):  # the first warms up
            # No way always follows the same other one: what that leaves in memory slows a large model by up to 8 %.
            for name in turns.sample(list(ways), len(ways)):
                of_clock, of_cpu = ways[name][0]()
                seconds[name].append(of_clock)
                on_cpu[name].append(of_cpu)
    load = os.getloadavg()[0]
    print(f"\n{asked.model}, {asked.steps} steps, {torch.get_num_threads()} threads, load {load:.1f}\n")
    print("| way | ms per step | more than bare, ms | ratio | CPU, ms | more than bare, ms | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name, (_, base) in ways.items():
        told = [compared(times[name][1:], times[base][1:], asked.steps) for times in (seconds, on_cpu)]
        print(f"| {name} | {' | '.join(told)} |")
    print(f"\nmedians of {asked.rounds} rounds")


if __name__ == "__main__":
    main()
