"""What does saving cost a run that asks for nothing else?

    python benchmarks/checkpoint_cost.py [--rounds 5] [overrides]

Trains the default model on phantoms, in turn with the default saving and with none but at the end of phases, which both
have. Prints the ratio of the medians, and, as other work on the machine moves that by more than the cost, the share of
the seconds that were spent in saving.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import hydra

from trainer.checkpoint import Saver
from trainer.config.store import register_schemas, to_train_config
from trainer.run_dir import RunDir
from trainer.state import TrainState
from trainer.stopping import StopRequest
from trainer.train import train

SETTINGS = ("phases.frozen.epochs=2", "phases.finetune.epochs=4", "task.num_overlays=1", "device=cpu")


class Clock(StopRequest):
    """Sees every update of a run: the seconds from the first to the last."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def check(self) -> None:
        self.seen.append(time.perf_counter())


def timed_run(folder: Path, *overrides: str) -> tuple[float, float, int]:
    """Seconds of training, those in it spent on saving, and how often it saved."""
    spent: list[float] = []
    plain = Saver.save

    def save(saver: Saver, state: TrainState) -> None:
        begun = time.perf_counter()
        plain(saver, state)
        spent.append(time.perf_counter() - begun)

    with hydra.initialize_config_module("conf", version_base="1.3"):
        composed = hydra.compose("config", overrides=list(overrides))
    clock = Clock()
    Saver.save = save  # type: ignore[method-assign]
    try:
        train(to_train_config(composed), RunDir(folder), composed, list(overrides), clock)
    finally:
        Saver.save = plain  # type: ignore[method-assign]
    return clock.seen[-1] - clock.seen[0], sum(spent[:-1]), len(spent) - 1  # the last is after training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    asked, overrides = parser.parse_known_args()
    register_schemas()
    whole: dict[str, list[float]] = {"saving": [], "none": []}
    shares: dict[str, list[float]] = {"saving": [], "none": []}
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(asked.rounds):
            for kind, extra in (("saving", ()), ("none", ("checkpoint.every_minutes=1e9",))):
                folder = Path(temporary) / f"{kind}_{number}"
                seconds, saving, times = timed_run(folder, *SETTINGS, *overrides, *extra)
                whole[kind].append(seconds)
                shares[kind].append(saving / (seconds - saving))
                load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
                print(f"{kind:6} {seconds:7.2f} s, {saving:.3f} s of them in {times} saves; load {load}", flush=True)
    ratio = statistics.median(whole["saving"]) / statistics.median(whole["none"])
    default, at_ends = (statistics.median(shares[kind]) for kind in ("saving", "none"))
    print(
        f"ratio of the medians {ratio:.4f}; saving took {default:.2%} of the other seconds, of which {at_ends:.2%} at "
        f"the ends of phases, which both have"
    )


if __name__ == "__main__":
    main()
