"""Are the rates that a range test finds the right ones, and does it find the same again?

    python benchmarks/range_test_proof.py rates OUT 0,1,2 [overrides]  train at 0.1, 1 and 10 times the found rates
    python benchmarks/range_test_proof.py spread OUT 0,1,2,3,4 [overrides] the spread of what is found over seeds

Both run `python -m trainer` in a sweep below OUT and print a table. The budget is that of the overrides.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

FACTORS = ("0.1", "1", "10")


def sweep(out: Path, *overrides: str) -> list[Path]:
    """The run directories of a sweep; a job that fails leaves one without results."""
    command = [sys.executable, "-m", "trainer", "-m", "range_test.cache=true", f"hydra.sweep.dir={out}", *overrides]
    print(" ".join(command), flush=True)
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    return sorted(path.parent for path in out.glob("*/config.yaml"))


def rates(out: Path, seeds: str, *overrides: str) -> None:
    """The best validation result at each factor, mean and standard deviation over the seeds."""
    jobs = sweep(out, "range_test=on", f"range_test.safety={','.join(FACTORS)}", f"seed={seeds}", *overrides)
    found: dict[float, list[float]] = {}
    monitor = ""
    for job in jobs:
        config = OmegaConf.load(job / "config.yaml")
        results = job / "results.json"
        value = math.nan
        if results.exists():
            read = json.loads(results.read_text())
            monitor, value = read["monitor"], read["best"]["value"]
        found.setdefault(float(config.range_test.safety), []).append(value)
    for factor, values in sorted(found.items()):
        known = [value for value in values if math.isfinite(value)]
        spread = np.std(known, ddof=1) if len(known) > 1 else math.nan
        failed = f", {len(values) - len(known)} failed" if len(known) < len(values) else ""
        each = " ".join(f"{value:.4g}" for value in values)
        mean = np.mean(known) if known else math.nan
        print(f"rates x {factor:<4g}  {monitor} {mean:.4g} +- {spread:.2g} ({each}{failed})")


def spread(out: Path, seeds: str, *overrides: str) -> None:
    """Per phase and number of repeats: what was found, and the range of its logarithm over the seeds."""
    for repeats in (1, 3):
        settings = ("range_test=only", f"range_test.repeats={repeats}", f"seed={seeds}")
        jobs = sweep(out / f"repeats_{repeats}", *settings, *overrides)
        files = sorted(file for job in jobs for file in job.glob("range_test/*/range_test.json"))
        for phase in sorted({file.parent.name for file in files}):
            read = [json.loads(file.read_text()) for file in files if file.parent.name == phase]
            print(f"{phase}, repeats={repeats}, {len(read)} seeds")
            for name in ("base_lr", "max_lr"):
                _line(name, [one["bounds"][name] for one in read])
            for name in read[0]["suggestions"]:
                _line(name, [one["suggestions"][name] for one in read])


def _line(name: str, values: list[float | None]) -> None:
    known = [value for value in values if value is not None]
    if not known:
        print(f"  {name:9} none in all")
        return
    logs = np.log10(known)
    missing = f", none in {len(values) - len(known)}" if len(known) < len(values) else ""
    spread = f"range {np.ptp(logs):.2f} decades, sd {np.std(logs):.2f}"
    print(f"  {name:9} median {10 ** np.median(logs):.2e}  {spread}{missing}")


if __name__ == "__main__":
    kind, out, seeds, *overrides = sys.argv[1:]
    {"rates": rates, "spread": spread}[kind](Path(out), seeds, *overrides)
