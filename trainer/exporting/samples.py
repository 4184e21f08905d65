"""Images on which an exported file is held against its run: some of the run's, and one of them in other shapes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass

import cv2
import numpy as np

from data.covariates import Covariates
from data.errors import DataError
from data.phantom import draw_phantom
from trainer.serving.new_data import judged_data
from trainer.serving.predictor import Predictor
from trainer.serving.settings import NewData

MOST = 4  # of the run's own images
LARGEST_SIDE = 3000  # px, of shapes made here
NOTHING_GIVEN = NewData(
    table=None,
    root=None,
    allow_outside_root=None,
    pixel_spacing_mm=None,
    more_tables=None,
    label=None,
    num_images=None,
    seed=None,
    height=None,
    width=None,
    missing_fraction=None,
    trouble=None,
    batch_size=None,
    workers=None,
)


@dataclass(frozen=True)
class Sample:
    """`image` (H, W) or (H, W, 3); `covariates` (C,) float64 as the file takes them and `encoded` (D,) as the network
    does."""

    name: str
    image: np.ndarray
    covariates: np.ndarray | None
    encoded: np.ndarray

    @property
    def rgb(self) -> np.ndarray:
        return np.ascontiguousarray(np.stack([self.image] * 3, axis=2) if self.image.ndim == 2 else self.image)


def samples_for(predictor: Predictor) -> tuple[str, list[Sample]]:
    """What they are, and they."""
    source, found = _own(predictor)
    if not found:
        source = "drawn images"
        found = [(f"phantom {index}", draw_phantom(0, index).image) for index in range(2)]
    images = [*found, *_other_shapes(found[0][1], predictor.preprocessing.input_size)]
    covariates = _covariates(predictor, len(images))
    return source, [Sample(name, image, *told) for (name, image), told in zip(images, covariates, strict=True)]


def _own(predictor: Predictor) -> tuple[str, list[tuple[str, np.ndarray]]]:
    """Validation images of the run, where they are still there."""
    for split in ("val", "train"):
        try:
            with chdir("."):  # own data have the process go to their folder, and the file is to be written from here
                records = (judged := judged_data(predictor.run, NOTHING_GIVEN, split)).data.records
                images = [(records.image_names[i], records.read(int(i))) for i in judged.indices[:MOST]]
            return f"{'validation' if split == 'val' else 'training'} images of the run", images
        except (ValueError, DataError, OSError):  # they have moved, or there is no such split
            continue
    return "", []


def _other_shapes(image: np.ndarray, input_size: tuple[int, int]) -> list[tuple[str, np.ndarray]]:
    height, width = input_size
    gray = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    large = min(3 * max(height, width), LARGEST_SIDE)
    shapes = {
        "of the input's size": (height, width),
        "portrait": (height + height // 2 + 1, width - width // 5),
        "landscape": (height - height // 7, 2 * width + 3),
        "tiny": (max(8, height // 6), max(8, width // 6)),
        "huge": (large, large * width // max(height, width) + 1),
    }
    made = {name: cv2.resize(gray, size[::-1], interpolation=cv2.INTER_AREA) for name, size in shapes.items()}
    tinted = np.stack([gray, 255 - gray // 2, gray // 3], axis=2)
    return [*((name, made[name]) for name in made), ("in colour", tinted)]


def _covariates(predictor: Predictor, count: int) -> Sequence[tuple[np.ndarray | None, np.ndarray]]:
    if predictor.covariates is not None:
        return drawn_covariates(predictor.covariates, count)
    all_known = predictor.run.known.covariates
    width = 0 if all_known is None else len(all_known.encoded_names)
    return [(None, np.zeros(width, np.float32))] * count


def drawn_covariates(known: Covariates, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each category in turn, and numbers about their mean; every third image lacks all, where the run permits it."""
    may_miss = known.missing_covariate == "category"
    told = []
    for index in range(count):
        values, encoded = [], []
        for i, categories in enumerate(known.categories):
            missing = may_miss and index % 3 == 2
            if categories is None:
                number = known.mean[i] + known.std[i] * (index % 5 - 2) / 2
                values.append(np.nan if missing else number)
                encoded += [0.0 if missing else (number - known.mean[i]) / known.std[i]]
                encoded += [float(missing)] if may_miss else []
            else:
                chosen = len(categories) - 1 if missing else index % len(categories)
                values.append(np.nan if missing else float(chosen))
                encoded += [float(place == chosen) for place in range(len(categories))]
        told.append((np.array(values, np.float64), np.array(encoded, np.float32)))
    return told
