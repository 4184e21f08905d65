"""How good is a recipe on images that it never saw? Each fold of a table is the test split of one whole run.

    python benchmarks/cross_validation.py ceph/landmarks.csv OUT experiment=ceph            five folds, one by one
    python benchmarks/cross_validation.py ceph/landmarks.csv OUT --run 0,3 experiment=ceph  two of them
    python benchmarks/cross_validation.py ceph/landmarks.csv OUT --run ""                   tell of those that ended

For tables without groups. The folds depend on the number of images and on --seed alone. A run that was cut goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from trainer.run_dir import RunDir
from trainer.tasks.intervals import bootstrap_interval

WORST = 5  # landmarks that are told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*", help="of the trainer, such as experiment=ceph")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--run", help="folds to run, counted from 0, such as 0,3; default: all")
    parser.add_argument("--seed", type=int, default=2015)
    given = parser.parse_intermixed_args()
    given.out.mkdir(parents=True, exist_ok=True)
    chosen = range(given.folds) if given.run is None else [int(fold) for fold in given.run.split(",") if fold]
    for fold in chosen:
        table = _write_fold(given.table, given.out, fold, given.folds, given.seed)
        _run(table, given.table.parent, given.out / f"fold{fold}", given.overrides)
    _tell([RunDir(path) for path in sorted(given.out.glob("fold[0-9]*")) if (path / "results.json").exists()])


def _write_fold(table: Path, out: Path, fold: int, folds: int, seed: int) -> Path:
    """The table with a column split: test for one image in `folds`, else train."""
    rows = pd.read_csv(table, dtype=str, keep_default_na=False).drop(columns=["split", "set"], errors="ignore")
    order = np.random.default_rng(seed).permutation(len(rows))
    split = np.full(len(rows), "train", dtype=object)
    split[order[fold::folds]] = "test"
    rows.insert(1, "split", split)
    path = out / f"fold{fold}.csv"
    rows.to_csv(path, index=False)
    for beside in table.parent.glob("*.txt"):  # names of landmarks, pairs of a mirror
        shutil.copy(beside, out)
    return path


def _run(table: Path, folder: Path, run: Path, overrides: list[str]) -> None:
    root = folder / "images" if (folder / "images").is_dir() else folder
    command = [f"resume={run}"]
    if not RunDir(run).config.exists():
        given = {"data.table": table.resolve(), "data.root": root.resolve(), "hydra.run.dir": run.resolve()}
        command = [*(f'{key}="{path}"' for key, path in given.items()), *overrides]
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", "trainer", *command], check=True)
    print(f"{run.name}: {(time.monotonic() - begun) / 60:.1f} minutes", flush=True)


def _tell(runs: list[RunDir]) -> None:
    """A row per fold, the mean over all test images with its interval, and the landmarks that are worst."""
    rows, errors = [], []
    for run in runs:
        results = json.loads(run.results.read_text())
        test = results["metrics"]["test"]
        table = pd.read_csv(run.predictions)
        found = table[table["split"] == "test"].filter(regex="_error_mm$|_error_px$")
        errors.append(found.rename(columns=lambda name: name.rsplit("_error_", 1)[0]))
        rows.append({"fold": run.path.name, **test, "weights": results["taken"]["weights"]})
    if not rows:
        print("no fold has ended")
        return
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    of_images = pd.concat(errors, ignore_index=True)
    sums, counts = of_images.sum(axis=1).to_numpy(), of_images.notna().sum(axis=1).to_numpy()
    low, high = bootstrap_interval(sums, counts)
    unit = "mm" if "mre_mm" in rows[0] else "px"
    mean = sums.sum() / counts.sum()
    print(f"all {len(of_images)} test images: MRE {mean:.3f} {unit} ({low:.3f} to {high:.3f} {unit}, 95 %)")
    worst = of_images.mean().sort_values(ascending=False)[:WORST]
    shown = (f"{name} {value:.2f} (median {of_images[name].median():.2f})" for name, value in worst.items())
    print("worst landmarks:", ", ".join(shown))


if __name__ == "__main__":
    main()
