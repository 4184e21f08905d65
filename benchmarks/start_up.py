"""How long until something happens?

    python benchmarks/start_up.py [--rounds 5] [--only help,config,completion,update]

`--help`, `--cfg job` and completion: a new process each, against the same program with all its heavy imports first.
First update: from `python -m trainer` to the first row of lr_history.csv of the phantom run, without and with kept
features (whose first view is computed before it), against the imports that can't be avoided (torch, timm,
albumentations, cv2, hydra), a model and one step of it. The ways take turns; seconds of the clock and of the processor.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUN = "runpy.run_module('trainer', run_name='__main__', alter_sys=True)"
EAGER = (
    "import torch, models.timm_import, albumentations, cv2, pandas, scipy.signal, matplotlib.pyplot, torchmetrics;"
    "import trainer.train;"
)
# The process ends with the first row, before anything is saved.
UNTIL_FIRST = """
import importlib.abc, importlib.machinery, os, runpy, sys

class Ending(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "trainer.history":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            module.LRHistory.append = lambda *_, **__: os._exit(0)
        spec.loader.exec_module = exec_module
        return spec

import importlib.util
sys.meta_path.insert(0, Ending())
"""
ONE_STEP = """
import torch, albumentations, cv2, hydra
from torch import nn
from models.timm_import import timm
trunk = timm.create_model("tf_efficientnet_lite0", features_only=True)
head = nn.Conv2d(trunk.feature_info.channels()[-1], 19, 1)
for parameter in trunk.parameters():
    parameter.requires_grad = False
optimizer = torch.optim.AdamW(head.parameters())
head(trunk(torch.randn(8, 3, 128, 104))[-1]).mean().backward()
optimizer.step()
"""
COMPLETED = {"COMP_LINE": "trainer scheduler=cl", "COMP_POINT": "20"}


def measured(code: str, arguments: list[str], folder: Path, variables: dict[str, str]) -> tuple[float, float]:
    """Seconds of the clock and of the processor of a new process."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, env={**os.environ, **variables}, capture_output=True
    )
    clock, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        raise SystemExit(ended.stderr.decode())
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="help,config,completion,update")
    asked = parser.parse_args()
    plain, eager = f"import runpy, sys; {RUN}", f"import runpy, sys; {EAGER}{RUN}"
    first = UNTIL_FIRST + RUN
    run = ["hydra.run.dir=run", "device=cpu"]
    off = [*run, "phases.frozen.cache.views=0"]
    # Each first way is what the others of its block are compared with.
    blocks: dict[str, dict[str, tuple[str, list[str], dict[str, str]]]] = {
        "help": {
            "--help, eager imports": (eager, ["--help"], {}),
            "--help": (plain, ["--help"], {}),
        },
        "config": {
            "--cfg job, eager imports": (eager, ["--cfg", "job"], {}),
            "--cfg job": (plain, ["--cfg", "job"], {}),
        },
        "completion": {
            "completion, eager imports": (eager, ["-sc", "query=bash"], COMPLETED),
            "completion": (plain, ["-sc", "query=bash"], COMPLETED),
        },
        "update": {
            "imports and one step": (ONE_STEP, [], {}),
            "first update": (first, off, {}),
            "first update, kept features": (first, run, {}),
        },
    }
    print("| what | seconds | ratio | CPU seconds | ratio |\n|---|---|---|---|---|")
    for block in asked.only.split(","):
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in blocks[block]}
        for number in range(asked.rounds + 1):  # the first warms the disk's cache up
            for name, (code, arguments, variables) in blocks[block].items():
                with tempfile.TemporaryDirectory() as folder:
                    spent = measured(code, arguments, Path(folder), variables)
                if number:
                    seconds[name].append(spent)
        base = next(iter(seconds.values()))
        for name, rounds in seconds.items():
            told = []
            for kind in (0, 1):
                ratio = statistics.median(spent[kind] / other[kind] for spent, other in zip(rounds, base, strict=True))
                told.append(f"{statistics.median(spent[kind] for spent in rounds):.2f} | {ratio:.3f}")
            print(f"| {name} | {' | '.join(told)} |", flush=True)
    print(f"\nmedians of {asked.rounds} rounds, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
