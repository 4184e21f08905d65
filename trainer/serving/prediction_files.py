"""What predictions leave in a folder: predictions.csv and failed.csv, which grow batch by batch, and pictures."""

from __future__ import annotations

import csv
import os
import re
import shutil
import sys
from pathlib import Path
from typing import IO

import numpy as np
from matplotlib.figure import Figure

from data.atomic import faults_naming
from data.image_list import ImageList
from trainer.plots import boxes_for_missing_letters
from trainer.serving.predictor import Answered, Predictor
from trainer.tasks.label_samples import PLAIN, attention_scale, draw_attention
from trainer.tasks.landmark_pictures import draw_overlay
from trainer.tasks.sheets import fit_height, panels_for_images, shortened, show_image, write

MOST_TOLD = 20  # failures, on stderr


class PredictionFiles:
    """Writes each batch at once, so that memory stays bounded and a run that is stopped leaves what it found."""

    def __init__(self, folder: Path, predictor: Predictor, images: ImageList, *, most_drawn: float) -> None:
        self.predictions, self.failed, self.overlays = (
            folder / name for name in ("predictions.csv", "failed.csv", "overlays")
        )
        self.predictor = predictor
        self.images = images
        self.most_drawn = most_drawn
        self.num_answered = self.num_failed = self.num_drawn = 0

    def remove_earlier(self) -> None:
        """What predictions before these have left."""
        for earlier in (self.predictions, self.failed):
            earlier.unlink(missing_ok=True)
        shutil.rmtree(self.overlays, ignore_errors=True)

    def add(self, batch: Answered) -> None:
        """Raises OSError naming the file that can't be written, DataError for an image that is gone since."""
        if len(batch.table):
            with faults_naming(self.predictions), _appended(self.predictions) as file:
                batch.table.to_csv(
                    file,
                    index=False,
                    header=self.num_answered == 0,
                    float_format=self.predictor.task.float_format,
                    lineterminator="\n",
                )
            self.num_answered += len(batch.table)
        for failure in batch.failures:
            with faults_naming(self.failed), _appended(self.failed) as file:
                writer = csv.writer(file, lineterminator="\n")
                if self.num_failed == 0:
                    writer.writerow(["image", "reason"])
                writer.writerow([failure.image, failure.reason])
            self.num_failed += 1
            if self.num_failed <= MOST_TOLD:
                print(f"failed: {failure.reason}", file=sys.stderr)
        with boxes_for_missing_letters():
            for row, index in enumerate(batch.answers["index"].tolist()):
                if self.num_drawn < self.most_drawn:
                    self.num_drawn += 1
                    name = str(batch.table["image"].iloc[row])
                    image = self.images.read(index)  # again, because those of a batch fill the memory
                    write(self._picture(batch, row, image, name), self.overlays / _file_name(index, name))

    def _picture(self, batch: Answered, row: int, image: np.ndarray, name: str) -> Figure:
        title, answers = shortened(os.path.basename(name) or name, 40), batch.answers
        if self.predictor.landmark_names:
            radii = answers["radius"][row] if "radius" in answers else None
            names = self.predictor.landmark_names
            return draw_overlay(image, answers["points"][row], None, title=title, names=names, radii=radii)
        figure, (axes,) = panels_for_images(1)
        show_image(axes, image)
        said = batch.table["prediction"].iloc[row]
        if self.predictor.class_names:
            shown = f"{shortened(str(said), 30)} ({100 * answers['probabilities'][row].max():.0f} %)"
        else:
            shown = f"{said:.4g} {getattr(self.predictor.task, 'unit', '')}".rstrip()
        axes.set_title(f"{title}\n{shown}", fontsize=9, color=PLAIN, parse_math=False)
        if "attention" in answers:
            attention = answers["attention"][row]
            _, (affine,) = self.predictor.preprocessing.views(image)
            size = self.predictor.preprocessing.input_size
            draw_attention(axes, attention, attention_scale(attention[None]), affine, size)
        fit_height(figure, [axes], extra_in=0.5)
        return figure


def _appended(path: Path) -> IO[str]:
    """Names of files need not be UTF-8."""
    return path.open("a", encoding="utf-8", errors="surrogateescape", newline="")


def _file_name(index: int, name: str) -> str:
    """Unlike that of any other image, whatever the folders and letters of the names."""
    stem = re.sub(r"[^\w.-]+", "_", os.path.splitext(os.path.basename(name))[0], flags=re.ASCII)[:80]
    return f"{index + 1:05d}_{stem}.png"
