"""What does an epoch over full-size X-rays cost, without a network and without workers?

    python benchmarks/data_epoch.py --images ../shared/data/ceph_full [--rounds 5] [--height 512] [--width 416]

DIR holds a table landmarks.csv with the images of it beside it or in images/. In each round take turns: what a user of
torchvision would write (decode, resize with antialiasing, random affine, colour jitter, gamma, to a float tensor, with
the points), by torchvision where it can be imported, else by the same operations of Pillow, which it calls; the first
epoch of a run, which decodes; and the second, from kept images. Prints medians of the rounds, ratios, and how the cost
of an image grows with its size.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import hydra
import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch.utils.data import DataLoader, Dataset

from data.datasets import LandmarkDataset
from data.image_files import ImageFiles
from data.loaders import TrainingOrder, build_loader
from data.records import LandmarkRecords, csv_records
from trainer.config.store import register_schemas, to_train_config

try:
    from torchvision.transforms import functional as torchvision_functional
except (ImportError, RuntimeError):  # not installed, or built for another torch
    torchvision_functional = None

BATCH = 8
DEGREES, SCALE, SHIFT, EXPOSURE = 10.0, 0.1, 0.05, 0.2  # of data/augmentation=standard
HEIGHTS = (600, 1200, 2400, 4800)


class UsualDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """PIL images through torchvision's transforms, or through the operations of Pillow that these call."""

    def __init__(self, records: LandmarkRecords, size: tuple[int, int]) -> None:
        assert isinstance(records.read, ImageFiles)
        self.paths = records.read.paths
        self.points = records.points
        self.size = size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng()
        height, width = self.size
        image = Image.open(self.paths[index]).convert("RGB")
        points = (self.points[index] + 0.5) * (width / image.width, height / image.height) - 0.5
        angle, scale = np.deg2rad(rng.uniform(-DEGREES, DEGREES)), 1 + rng.uniform(-SCALE, SCALE)
        shift = rng.uniform(-SHIFT, SHIFT, 2) * (width, height)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        points = (points - middle) @ turn.T + middle + shift
        brightness, contrast = 1 + rng.uniform(-EXPOSURE, EXPOSURE, 2)
        gamma = rng.uniform(1 / (1 + EXPOSURE), 1 + EXPOSURE)
        if torchvision_functional is None:
            tensor = self._by_pillow(image, turn, middle, shift, (brightness, contrast, gamma))
        else:
            tensor = self._by_torchvision(image, np.rad2deg(angle), scale, shift, (brightness, contrast, gamma))
        return tensor, torch.from_numpy(points.astype(np.float32))

    def _by_torchvision(
        self, image: Image.Image, degrees: float, scale: float, shift: np.ndarray, light: tuple[float, float, float]
    ) -> torch.Tensor:
        functional = torchvision_functional
        bilinear = functional.InterpolationMode.BILINEAR
        image = functional.resize(image, list(self.size), bilinear, antialias=True)
        image = functional.affine(image, degrees, shift.tolist(), scale, [0.0, 0.0], bilinear)
        image = functional.adjust_contrast(functional.adjust_brightness(image, light[0]), light[1])
        return functional.to_tensor(functional.adjust_gamma(image, light[2]))

    def _by_pillow(
        self,
        image: Image.Image,
        turn: np.ndarray,
        middle: np.ndarray,
        shift: np.ndarray,
        light: tuple[float, float, float],
    ) -> torch.Tensor:
        size = self.size[::-1]
        image = image.resize(size, Image.Resampling.BILINEAR)
        back = np.linalg.inv(turn)
        start = middle - back @ (middle + shift)
        affine = (back[0, 0], back[0, 1], start[0], back[1, 0], back[1, 1], start[1])
        image = image.transform(size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
        image = ImageEnhance.Contrast(ImageEnhance.Brightness(image).enhance(light[0])).enhance(light[1])
        image = image.point([255 * (level / 255) ** light[2] for level in range(256)] * 3)
        # As torchvision's to_tensor does it.
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)


def records_in(folder: Path, scratch: Path) -> LandmarkRecords:
    return csv_records(
        table=folder / "landmarks.csv",
        root=None,
        pixel_spacing_mm=None,
        val_fraction=0.0,
        test_fraction=0.0,
        split_seed=0,
        splits_file=scratch / "splits.csv",
    )


def resized(records: LandmarkRecords, height: int, count: int, scratch: Path) -> LandmarkRecords:
    """The first images as JPEGs of another height."""
    paths, points, sizes = [], [], []
    for index in range(count):
        image = records.read(index)
        width = round(image.shape[1] * height / image.shape[0])
        paths.append(scratch / f"{height}_{index}.jpg")
        smooth = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_CUBIC
        Image.fromarray(cv2.resize(image, (width, height), interpolation=smooth)).save(paths[-1], quality=90)
        points.append((records.points[index] + 0.5) * height / image.shape[0] - 0.5)
        sizes.append((width, height))
    return replace(
        records,
        image_names=[path.name for path in paths],
        points=np.stack(points),
        sizes=np.array(sizes),
        pixel_spacing_mm=records.pixel_spacing_mm[:count],
        splits=records.splits[:count],
        read=ImageFiles(paths),
    )


def seconds(batches: Callable[[], object]) -> float:
    begun = time.perf_counter()
    for _ in batches():  # type: ignore[attr-defined]
        pass
    return time.perf_counter() - begun


class Epochs:
    """The ways to read all images once."""

    def __init__(self, records: LandmarkRecords, size: tuple[int, int]) -> None:
        with hydra.initialize_config_module("conf", version_base="1.3"):
            config = to_train_config(hydra.compose("config"))
        self.augmentation = config.data.augmentation.build([])
        self.records = records
        self.size = size
        self.usual = UsualDataset(records, size)

    def baseline(self) -> float:
        return seconds(lambda: DataLoader(self.usual, batch_size=BATCH, shuffle=True))

    def first_and_second(self) -> tuple[float, float]:
        dataset = LandmarkDataset(
            self.records, input_size=self.size, fit="letterbox", augmentation=self.augmentation, seed=0, cache_gb=4.0
        )
        first, second = (seconds(lambda epoch=epoch: self._batches(dataset, epoch)) for epoch in (0, 1))
        return first, second

    def _batches(self, dataset: LandmarkDataset, epoch: int) -> object:
        indices = np.arange(len(self.records.image_names))
        per_epoch = -(-len(indices) // BATCH)
        filled = np.resize(indices, per_epoch * BATCH)[: len(indices)]
        order = TrainingOrder(
            filled,
            batch_size=BATCH,
            batches_per_epoch=per_epoch,
            seed=0,
            first_epoch=epoch,
            start=0,
            stop=per_epoch,
        )
        return build_loader(dataset, order, workers=0)


def measured(epochs: Epochs, rounds: int) -> list[tuple[float, float, float]]:
    epochs.first_and_second()
    return [(epochs.baseline(), *epochs.first_and_second()) for _ in range(rounds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--width", type=int, default=416)
    asked = parser.parse_args()
    register_schemas()
    size = (asked.height, asked.width)
    with tempfile.TemporaryDirectory() as scratch:
        records = records_in(asked.images, Path(scratch))
        count = len(records.image_names)
        by = "Pillow (torchvision can't be imported)" if torchvision_functional is None else "torchvision"
        print(
            f"{count} images of {np.median(records.sizes, axis=0).astype(int).tolist()} px to {asked.width} x "
            f"{asked.height}, {len(records.landmark_names)} points; baseline by {by}; {os.cpu_count()} cores, "
            f"{torch.get_num_threads()} threads of torch, {cv2.getNumThreads()} of OpenCV, "
            f"load {os.getloadavg()[0]:.1f}"
        )
        rows = measured(Epochs(records, size), asked.rounds)
        print("\n| epoch | ms per image | ratio |\n|---|---|---|")
        for column, name in enumerate(("usual transforms", "first, which decodes", "later, of kept images")):
            ratio = statistics.median(row[column] / row[0] for row in rows)
            print(f"| {name} | {1e3 * statistics.median(row[column] for row in rows) / count:.2f} | {ratio:.3f} |")
        print("\n| megapixels | usual transforms, ms per image | first epoch | ratio | later |\n|---|---|---|---|---|")
        for height in HEIGHTS:
            num = min(8, count)
            some = resized(records, height, num, Path(scratch))
            rows = measured(Epochs(some, size), asked.rounds)
            usual, first, later = (1e3 * statistics.median(column) / num for column in zip(*rows, strict=True))
            ratio = statistics.median(row[1] / row[0] for row in rows)
            megapixels = np.prod(some.sizes[0]) / 1e6
            print(f"| {megapixels:.1f} | {usual:.1f} | {first:.1f} | {ratio:.3f} | {later:.2f} |")


if __name__ == "__main__":
    main()
