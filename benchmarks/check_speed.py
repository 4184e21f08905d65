"""How long does `python -m trainer.check` take?

    python benchmarks/check_speed.py [ROWS] [FOLDER]    10,000 gray images of 300 x 240 px, in a temporary folder

Draws the images and a table of 19 landmarks each, checks them, checks their headers alone, and prints the seconds of
the clock and of the processor. Images that a folder already holds are taken as they are.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from data.phantom import draw_phantom

HEIGHT, WIDTH, DRAWN = 300, 240, 200


def draw(folder: Path, rows: int) -> Path:
    """Few radiographs are drawn; each image is one of them under noise of its own, so that no two are alike."""
    folder.mkdir(parents=True, exist_ok=True)
    phantoms = [draw_phantom(0, index, height=HEIGHT, width=WIDTH) for index in range(DRAWN)]
    rng = np.random.default_rng(0)
    table = []
    for row in range(rows):
        phantom = phantoms[row % DRAWN]
        name = f"{row:06d}.{'jpg' if row % 2 else 'png'}"
        shift = rng.integers(-8, 9, 2)
        if not (folder / name).exists():
            moved = np.roll(phantom.image, tuple(shift), axis=(0, 1))
            noise = cv2.resize(rng.normal(0, 12, (30, 24)), (WIDTH, HEIGHT)) + rng.normal(0, 4, (HEIGHT, WIDTH))
            cv2.imwrite(str(folder / name), np.clip(moved + noise, 0, 255).astype(np.uint8))
        points = phantom.points + shift[::-1] + rng.normal(0, 0.5, phantom.points.shape)
        table.append([name, round(phantom.pixel_spacing_mm, 4), *points.round(2).ravel()])
    names = [f"{axis}{k}" for k in range(len(phantoms[0].points)) for axis in "xy"]
    path = folder / "points.csv"
    pd.DataFrame(table, columns=["image", "pixel_spacing_mm", *names]).to_csv(path, index=False)
    return path


def _used_seconds() -> float:
    """Processor time of all commands that have ended; on a busy machine it tells more than the clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(rows: int = 10_000, folder: Path | None = None) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        table = draw(folder or Path(temporary) / "images", rows)
        used = _used_seconds()
        for pixels in ("true", "false"):
            command = [
                sys.executable,
                "-m",
                "trainer.check",
                "data=csv",
                f"data.table={table}",
                f"check.pixels={pixels}",
            ]
            begun = time.perf_counter()
            ended = subprocess.run(command, cwd=temporary, capture_output=True, text=True, check=False)
            seconds, used_before = time.perf_counter() - begun, used
            used = _used_seconds()
            print(
                f"{rows} rows, check.pixels={pixels}: {seconds:.1f} s, {used - used_before:.1f} s of processor time, "
                f"exit code {ended.returncode}",
                flush=True,
            )
            print(ended.stderr, end="")


if __name__ == "__main__":
    main(*(int(text) for text in sys.argv[1:2]), *(Path(text) for text in sys.argv[2:3]))
