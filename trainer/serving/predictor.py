"""The predictor: images in, a table of landmarks, classes or numbers out, as the run would have predicted them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from torch import nn

from data.covariates import Covariates
from data.errors import DataError
from data.geometry import Affine
from data.image_list import ImageList, Images, list_of_images
from data.preprocessing import Preprocessing
from data.reading_ahead import done_ahead
from models.classifiers import PooledHead
from trainer.config.checks import check_positive
from trainer.device import Compute
from trainer.serving.answer_tables import answer_table
from trainer.serving.covariate_input import cells_of, covariates_of
from trainer.serving.memory import too_large_explained
from trainer.serving.network import build_networks, build_task, no_data, serving_compute
from trainer.serving.trained_run import TrainedRun, read_run
from trainer.tasks.task import Predictions

READERS = 4  # threads at most, which read images while the network is at work

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """An image without an answer."""

    image: str
    reason: str


@dataclass(frozen=True)
class Answered:
    """A batch of images, less those that failed.

    answers: what the task says of each (Task.answers) with `index` in the list of images, and of landmarks `radius`
    (N, K) px; table: the same for people.
    """

    answers: Predictions
    table: pd.DataFrame
    failures: list[Failure]


@dataclass(frozen=True)
class _Read:
    """An image as the network is to see it, V views (V, 3, H, W) uint8 with their affines (V, 2, 3); else a reason."""

    index: int
    inputs: np.ndarray | None = None
    affines: np.ndarray | None = None
    reason: str = ""


class Predictor:
    """A finished run, ready to answer. `networks` are in eval on the device of `compute`; several are an ensemble.

    `preprocessing` makes the input of an image, `task` reads the networks' outputs, `run` has the names, the region and
    the calibration.
    """

    def __init__(self, run: TrainedRun, networks: Sequence[nn.Module], compute: Compute) -> None:
        self.run = run
        self.networks = list(networks)
        self.compute = compute
        self.task = build_task(run.config, no_data(run))
        data = run.config.data
        self.preprocessing = Preprocessing(data.input_size, data.fit, run.known.region)
        self._augmentation = run.moves.build_moves()
        self._reach = self._augmentation.reach(data.input_size)

    @property
    def landmark_names(self) -> list[str]:
        """Empty for classes and numbers."""
        return self.run.known.landmark_names

    @property
    def class_names(self) -> list[str]:
        """Empty for landmarks and numbers."""
        return self.run.known.class_names or []

    @property
    def covariates(self) -> Covariates | None:
        """What the networks see beside the image; None for nothing."""
        known = self.run.known.covariates
        if known is None or not known.names or isinstance(self.networks[0].get_submodule("head"), PooledHead):
            return None
        return known

    def predict(
        self,
        images: Images,
        *,
        covariates: Mapping[str, Sequence[Any]] | pd.DataFrame | None = None,
        pixel_spacing_mm: float | None = None,
        root: str | Path | None = None,
        batch_size: int | None = None,
        tta: int | None = None,
        skip_unreadable: bool = False,
    ) -> pd.DataFrame:
        """A row per image: its name and, in original px, `<name>_x`, `<name>_y` and the radius of the circle that holds
        the truth in 90 % (in mm where all spacings are known); or `prediction` and the probability of each class; or
        `prediction`. Covariates follow.

        Args:
            images: a path, a folder, a pattern, a table (.csv) with an image column, a list of paths, or arrays (H, W)
                or (H, W, 3) uint8 RGB.
            covariates: a column for each of the run's, in the order of the images; a table has its own.
            root: the folder that the images of a table lie in.
            batch_size, tta: those of the run where they are None.
            skip_unreadable: leave images out that can't be read, with a warning; else the first of them raises.

        Raises:
            DataError: an image, a table or a covariate is at fault. ValueError: an option is.
        """
        check_positive("pixel_spacing_mm", pixel_spacing_mm)
        listed = list_of_images(
            images,
            root=None if root is None else Path(root),
            allow_outside_root=True,
            pixel_spacing_mm=pixel_spacing_mm,
        )
        if covariates is not None:
            listed = replace(listed, cells=cells_of(covariates, listed))
        tables = []
        for batch in self.answer(listed, batch_size=batch_size, tta=tta):
            for failure in batch.failures:
                if not skip_unreadable:
                    raise DataError(failure.reason)
                log.warning("left out: %s", failure.reason)
            tables.append(batch.table)
        return pd.concat(tables, ignore_index=True)

    def answer(
        self,
        images: ImageList,
        *,
        batch_size: int | None = None,
        tta: int | None = None,
    ) -> Iterator[Answered]:
        """The answers, batch by batch, while the next images are read."""
        check_positive("batch_size", batch_size)
        moves = self.moves(self.run.config.predict.tta if tta is None else tta)
        covariates, faults = covariates_of(images, self.run.known.covariates, used=self.covariates is not None)
        images = replace(images, faults={**faults, **images.faults})
        size = batch_size or self.run.config.data.batch_size
        read = partial(self._read, images, moves)
        threads = min(READERS, os.cpu_count() or 1)
        for group in _grouped(done_ahead(read, range(len(images)), threads=threads, ahead=size + threads), size):
            yield self._answered(group, images, covariates)

    def moves(self, tta: int) -> list[Affine]:
        """The views beside the image itself, input px -> input px: the same for every image, so that its answer does
        not depend on the images around it. Raises ValueError where the run has no views."""
        self.run.check_views(tta)
        augmentation, seed = self._augmentation, self.run.config.seed
        size = self.preprocessing.input_size
        return [augmentation.random_affine(np.random.default_rng([seed, view, 0]), size)[0] for view in range(1, tta)]

    @torch.no_grad()
    def answers_of(
        self, index: np.ndarray, inputs: np.ndarray, affines: np.ndarray, covariates: np.ndarray
    ) -> Predictions:
        """What the task says, with `radius` of landmarks, for inputs (N, V, 3, H, W) uint8 of V views of each image,
        their affines (N, V, 2, 3), covariates (N, D) and an `index` (N,) of each."""
        batch = {"index": torch.from_numpy(index), "covariates": torch.from_numpy(covariates)}
        views = []
        for network in self.networks:
            for view in range(inputs.shape[1]):
                image = torch.from_numpy(np.ascontiguousarray(inputs[:, view]))
                sent = self.compute.send({**batch, "image": image})
                with self.compute.autocast():
                    output = network(*(sent[name] for name in self.task.inputs))
                views.append(self.task.answers(output, {**sent, "affine": torch.from_numpy(affines[:, view])}))
        answers = views[0] if len(views) == 1 else self.task.averaged(views)
        if self.run.calibration is not None:
            answers = {**answers, "radius": self.run.calibration.radii(answers["spread"])}
        return answers

    def _answered(self, group: list[_Read], images: ImageList, covariates: Covariates) -> Answered:
        sound = [read for read in group if read.inputs is not None]
        failures = [Failure(images.names[read.index], read.reason) for read in group if read.inputs is None]
        index = np.array([read.index for read in sound], dtype=np.int64)
        if not sound:
            return Answered({"index": index}, pd.DataFrame(), failures)
        inputs = np.stack([read.inputs for read in sound if read.inputs is not None])
        affines = np.stack([read.affines for read in sound if read.affines is not None])
        with too_large_explained(self.compute, "batch_size", len(sound)):
            answers = self.answers_of(index, inputs, affines, covariates.encoded[index])
        return Answered(answers, answer_table(self.run.known, answers, images, covariates), failures)

    def _read(self, images: ImageList, moves: Sequence[Affine], index: int) -> _Read:
        try:
            image = images.read_reduced(index, self.preprocessing.least)
            inputs, affines = self.preprocessing.views(image, moves, self._reach)
        except DataError as error:
            return _Read(index, reason=str(error))
        except (MemoryError, cv2.error) as error:
            said = str(error).strip().splitlines()[:1] or [type(error).__name__]
            return _Read(index, reason=f"{images.names[index]}: it can't be made the network's input ({said[0]})")
        return _Read(index, inputs, affines)


def load(run: str | Path, *, device: str = "auto") -> Predictor:
    """The predictor of a finished run, from its folder.

    `device`: auto (cuda, else mps, else cpu), cpu, cuda, cuda:1 or mps.

    Raises:
        ValueError: the folder holds no finished run, a file of it is damaged, or there is no such device.
    """
    trained = read_run(Path(run))
    compute = serving_compute(trained.config, device)
    return Predictor(trained, build_networks(trained, compute), compute)


def _grouped(items: Iterable[_Read], size: int) -> Iterator[list[_Read]]:
    group: list[_Read] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
