"""How long does a table of a million images take to its first batch, and how much memory do its rows need?

    python benchmarks/large_tables.py time [--rows 1000,10000,100000,1000000] [--rounds 5]
    python benchmarks/large_tables.py memory [--rows 100000]

The images are one small JPEG under as many names (hard links), in a temporary folder. time: pandas.read_csv of the
table, reading and checking it (every file is looked for), the header of every image, and all of a landmark run up to
its first batch, in turns; a line per number of rows, CPU time, because other machines may take this one's cores away.
memory: the peak of a whole run of 4 updates, for 1,000 rows and for --rows.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from data.datasets import LandmarkDataset, mean_shape_in_input
from data.image_rows import read_sizes
from data.loaders import TrainingOrder, build_loader
from data.records import csv_records
from data.tables import read_landmark_table

LANDMARKS, SIZE, INPUT = 4, (32, 40), (64, 64)
RUN = (
    "max_steps=4", "phases.frozen.cache.views=0", "pictures=false", "device=cpu",
    "data.input_height=128", "data.input_width=96",
)  # fmt: skip
LINKS = 30_000  # of one file; some systems permit no more than 65,000


def arrange(folder: Path, rows: int) -> Path:
    """A table of landmarks and its images."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    names = [f"scan_{number:07d}.jpg" for number in range(rows)]
    for number, name in enumerate(names):
        if number % LINKS == 0:
            original = folder / f"original_{number}.jpg"
            Image.fromarray(rng.integers(0, 256, SIZE[::-1], dtype=np.uint8)).save(original)
        os.link(original, folder / "images" / name)
    points = rng.uniform(1, 30, (rows, 2 * LANDMARKS)).round(2)
    table = pd.DataFrame(points, columns=[f"{axis}{k}" for k in range(LANDMARKS) for axis in "xy"])
    table.insert(0, "image", names)
    table.to_csv(folder / "points.csv", index=False)
    return folder / "points.csv"


def first_batch(table: Path) -> None:
    """What a landmark run does with its data before its first step."""
    splits = table.with_name("splits.csv")
    splits.unlink(missing_ok=True)
    records = csv_records(
        table=table,
        root=None,
        pixel_spacing_mm=None,
        val_fraction=0.2,
        test_fraction=0.0,
        split_seed=0,
        splits_file=splits,
    )
    mean_shape_in_input(records, INPUT, "letterbox")
    dataset = LandmarkDataset(records, input_size=INPUT, fit="letterbox", augmentation=None, seed=0, cache_gb=1.0)
    order = TrainingOrder(
        records.indices("train"), batch_size=8, batches_per_epoch=10, seed=0, first_epoch=0, start=0, stop=10
    )
    next(iter(build_loader(dataset, order, workers=0)))


def seconds(act: Callable[[], object]) -> float:
    begun = time.process_time()
    act()
    return time.process_time() - begun


def compare_times(sizes: list[int], rounds: int) -> None:
    print(f"Seconds of CPU time, medians of {rounds} rounds; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    parts = "pandas.read_csv | the table, read and checked | the headers of its images | all, to the first batch"
    print(f"| rows | {parts} | us per row | ratio |\n|---|---|---|---|---|---|---|")
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            table = arrange(Path(folder) / "data", rows)
            read = read_landmark_table(table)
            ways: list[Callable[[], object]] = [
                partial(pd.read_csv, table),
                partial(read_landmark_table, table),
                partial(read_sizes, read.path, read.rows, read.images),
                partial(first_batch, table),
            ]
            first_batch(table)  # what is imported on the way there is not counted
            times = np.array([[seconds(act) for act in ways] for _ in range(rounds)])
        medians = np.median(times, axis=0)
        ratio = np.median(times[:, -1] / times[:, 0])
        shown = " | ".join(f"{each:.3g}" for each in medians)
        print(f"| {rows:,} | {shown} | {medians[-1] / rows * 1e6:.1f} | {ratio:.1f} |", flush=True)


def compare_memory(rows: int) -> None:
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (1000, rows):
            table = arrange(Path(folder) / str(count), count)
            size = table.stat().st_size / 1e6
            command = [
                *(sys.executable, "-m", "trainer", "data=csv", f"data.table={table}", *RUN),
                *(f"data.val_fraction={20 / count}", f"hydra.run.dir={folder}/run_{count}"),
            ]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
                _, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
            peaks.append(used.ru_maxrss / 1e3)  # of kB, on Linux
            print(f"{count} rows, a table of {size:.1f} MB: peak {peaks[-1]:.0f} MB", flush=True)
            shutil.rmtree(table.parent)
    print(f"ratio, without the table itself: {(peaks[1] - size) / peaks[0]:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("time", "memory"))
    parser.add_argument("--rows", type=lambda text: [int(number) for number in text.split(",")])
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    if asked.what == "time":
        compare_times(asked.rows or [1000, 10_000, 100_000, 1_000_000], asked.rounds)
    else:
        for rows in asked.rows or [100_000]:
            compare_memory(rows)


if __name__ == "__main__":
    main()
