"""Does a run that is killed again and again end with the same bits as one that never was?

    python benchmarks/kill_proof.py [--cases "NAME;NAME"] [--kills 7] [--runs 1] [--seed 0] [--keep FOLDER]

Each case is a run that nothing stops, and runs of the same settings that SIGKILL ends several times at seeded random
moments, each time gone on with by resume=. At the end weights, optimizer, histories, predictions and metrics are
compared bit for bit. Exit code 1 where anything differs.

A process that imports torch anew takes seconds, so the processes that are killed are forks of this one, which has
imported the program and done nothing with it: each is a process of its own, with its own workers, and SIGKILL ends it
as any other. The case `processes` starts every part with `python -m trainer`.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch
from killed_runs import Watch, differences, finish, kill, random_aim, rows, start

import data
import models
import trainer
from trainer.run_dir import RunDir

UPDATES_PER_EPOCH, EPOCHS = 6, 2
SMALL = (
    "model.backbone=test_efficientnet",
    "model.weights=none",
    "data.num_images=15",
    "data.height=96",
    "data.width=80",
    "data.input_height=64",
    "data.input_width=64",
    "data.batch_size=2",
    f"phases.frozen.epochs={EPOCHS}",
    f"phases.finetune.epochs={EPOCHS}",
    "device=cpu",
)
MAPS = (*SMALL, "model.width=8", "pictures=false")
ONE_CYCLE = "scheduler.cycles=1"
LABELS = (*SMALL, "task=classification", "pictures=false", "model.dropout=0.2", ONE_CYCLE)
TEST = ("range_test=on", "range_test.num_steps=30", "range_test.skip_start=2", "range_test.skip_end=2")


@dataclass(frozen=True)
class Case:
    settings: Sequence[str]
    workers: Sequence[int] = (0,)  # of the parts, in turn
    forked: bool = True
    delay: float = 0.03  # seconds after an update within which a kill comes


CASES = {
    "everything random": Case(
        (*MAPS, ONE_CYCLE, "model.dropout=0.2", "ema_decay=0.9", "accumulation=2", "data.batch_size=1",
         "checkpoint.every_steps=1"),
    ),
    "default saving": Case((*MAPS, ONE_CYCLE, "model.dropout=0.2", "ema_decay=0.9")),
    "every_minutes": Case((*MAPS, ONE_CYCLE, "checkpoint.every_minutes=0.002")),
    "2 workers": Case((*MAPS, ONE_CYCLE, "checkpoint.every_steps=2"), workers=(2,), delay=0.05),
    "0, 2, 1 workers": Case((*MAPS, ONE_CYCLE, "checkpoint.every_steps=3"), workers=(0, 2, 1), delay=0.05),
    "bf16": Case((*MAPS, ONE_CYCLE, "precision=bf16", "model.dropout=0.2", "checkpoint.every_steps=2")),
    "onecycle": Case((*MAPS, "scheduler=onecycle", "scheduler.cycle_momentum=true", "checkpoint.every_steps=3")),
    "plateau": Case((*MAPS, "scheduler=plateau", "scheduler.patience=0", "optimizer=sgd", "checkpoint.every_steps=4")),
    "cosine": Case((*MAPS, "scheduler=cosine", "checkpoint.every_steps=5")),
    "range tests": Case((*MAPS, *TEST, ONE_CYCLE, "model.dropout=0.2", "checkpoint.every_steps=2")),
    "range tests, plateau": Case((*MAPS, *TEST, "scheduler=plateau", "range_test.repeats=2")),
    "mixup, balance": Case((*LABELS, "data.mixup=0.3", "data.balance=true", "checkpoint.every_steps=1")),
    "early stopping": Case((*MAPS, "scheduler=constant", "early_stopping_epochs=1", "checkpoint.every_steps=2")),
    "max_steps": Case((*MAPS, ONE_CYCLE, "max_steps=17", "checkpoint.every_steps=2")),
    "batch norm kept": Case((*MAPS, ONE_CYCLE, "phases.finetune.batch_norm=eval", "checkpoint.every_steps=2")),
    "coordinates": Case((*SMALL, ONE_CYCLE, "model=coordinates", "task.num_overlays=1", "checkpoint.every_steps=2")),
    "tta": Case((*LABELS, "predict.tta=3", "checkpoint.every_steps=3")),
    "nonfinite skipped": Case(
        (*MAPS, ONE_CYCLE, "on_nonfinite=skip", "max_skipped=1000", "clip_norm=null", "optimizer=sgd",
         "scheduler.max_lr=1e18", "ema_decay=0.9", "checkpoint.every_steps=2"),
    ),
    "snapshots": Case((*MAPS, "snapshots=true", "scheduler.cycles=2", "checkpoint.every_steps=2")),
    "processes": Case((*MAPS, ONE_CYCLE, "model.dropout=0.2", "checkpoint.every_steps=2"), forked=False),
}  # fmt: skip


def survive(name: str, case: Case, whole: RunDir, seconds: float, folder: Path, kills: int, seed: str) -> Counter[str]:
    """Run a case to its end over `kills` kills; where they hit. The run is in `folder`/run."""
    rng, hits = random.Random(seed), Counter[str]()
    run_dir, part = RunDir(folder / "run"), 0
    folder.mkdir(parents=True)
    updates = rows(whole.lr_history)
    planned = _updates_per_phase(whole)
    while True:
        begun = run_dir.config.exists()
        workers = f"data.workers={case.workers[part % len(case.workers)]}"
        arguments = [f"resume={run_dir.path}", workers] if begun else [*case.settings, workers, _folder(run_dir)]
        share = 2 * (updates - rows(run_dir.lr_history)) // (1 + kills - hits.total())  # so that all kills find a place
        aim = random_aim(rng, updates=max(1, share), seconds=seconds, delay=case.delay)
        watch = Watch(run_dir, UPDATES_PER_EPOCH)
        child = start(arguments, folder, forked=case.forked)
        part += 1
        if hits.total() == kills:
            code = finish(child)
        else:
            code = watch.hit(child, aim)
            if code is None:
                kill(child, with_workers=rng.random() < 0.5)
                where = watch.where(planned, "range_test=on" in case.settings)
                hits[where] += 1
                print(f"  {name}: killed at {rows(run_dir.lr_history)} of {updates} updates: {where}", flush=True)
                continue
        if code != 0:
            raise SystemExit(f"{name}: part {part} ended with exit code {code}; see {folder / 'output.txt'}")
        return hits


def prove(name: str, case: Case, folder: Path, *, runs: int, kills: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Where the kills of a case hit, and what differs in the end."""
    whole, begun = RunDir(folder / "whole" / "run"), time.perf_counter()
    whole.path.parent.mkdir(parents=True)
    child = start([*case.settings, _folder(whole)], whole.path.parent, forked=case.forked)
    if (code := finish(child)) != 0:
        raise SystemExit(f"{name}: the run itself ends with exit code {code}; see {whole.path.parent / 'output.txt'}")
    seconds, hits, faults = time.perf_counter() - begun, Counter[str](), []
    for run in range(runs):
        beside = folder / f"killed_{run}"
        hits += survive(name, case, whole, seconds, beside, kills, f"{name} {seed} {run}")
        faults += differences(RunDir(beside / "run"), whole)
    return hits, sorted(set(faults))


def _folder(run_dir: RunDir) -> str:
    return f"hydra.run.dir={run_dir.path}"


def _updates_per_phase(run_dir: RunDir) -> dict[str, int]:
    made = Counter(line.split(",")[2] for line in run_dir.lr_history.read_text().splitlines()[1:])
    return {"frozen": made["frozen"], "finetune": made["finetune"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cases", help="some of them, parted by semicolons: " + "; ".join(CASES), default=";".join(CASES)
    )
    parser.add_argument("--kills", type=int, default=7, help="of each run")
    parser.add_argument("--runs", type=int, default=1, help="of each case, beside the one that nothing stops")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="an empty folder for the runs; else they are taken away")
    asked = parser.parse_args()
    for package in (data, models, trainer):  # once here, and not in each fork
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    importlib.import_module("matplotlib.backends.backend_agg")
    torch.set_num_threads(1)  # and none are running when the process is forked
    cv2.setNumThreads(0)
    total, wrong = Counter[str](), 0
    with tempfile.TemporaryDirectory() as temporary:
        root = asked.keep or Path(temporary)
        lines = []
        for name in asked.cases.split(";"):
            folder = root / name.replace(" ", "_").replace(",", "")
            hits, faults = prove(name, CASES[name], folder, runs=asked.runs, kills=asked.kills, seed=asked.seed)
            total += hits
            wrong += bool(faults)
            told = ", ".join(f"{where} {count}" for where, count in sorted(hits.items()))
            lines.append(f"| {name} | {hits.total()} | {told} | {'; '.join(faults) if faults else 'equal'} |")
            print(lines[-1], flush=True)
    print("\n| case | kills | where they hit | in the end |\n|---|---|---|---|", *lines, sep="\n")
    print(f"\n{total.total()} kills, {wrong} of {len(lines)} cases differ; where: {dict(total.most_common())}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
