"""Whether the features of a frozen phase are kept, and where: decided by their size before the phase begins."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import torch
from torch import Tensor

from trainer.config.run import TrainConfig
from trainer.device import Compute
from trainer.errors import TrainingError
from trainer.features import Features, Source
from trainer.phases import Phase, Training
from trainer.run_dir import RunDir
from trainer.state import TrainState

GB = 2**30

log = logging.getLogger(__name__)


def with_features(
    phase: Phase, config: TrainConfig, state: TrainState, training: Training, run_dir: RunDir
) -> Training:
    """The same, with batches from kept features where `phases.frozen.cache` asks for them and the phase permits it.

    What is done is told in a line. It depends on the config, the model and the number of images alone, so that a run
    that is resumed does the same.

    Raises:
        TrainingError: the disk has no room for what was to lie there.
    """
    settings, data = config.phases.frozen.cache, training.data
    if not phase.frozen or settings.views == 0:
        return training
    if obstacle := _obstacle(phase, settings.views, state, training):
        log.info("%s: the backbone runs in each epoch: %s", phase.name, obstacle)
        return training
    state.backbone.eval()

    def compute(images: Tensor) -> list[Tensor]:
        return computed(state.model, training.rule.compute, images)

    example = compute(torch.zeros(1, 3, *data.train.input_size, dtype=torch.uint8))
    train, val = data.records.indices("train"), data.records.indices("val")
    size = (len(train) * settings.views + len(val)) * _bytes(example, half=settings.half)
    told = f"{len(train)} images x {settings.views} views + {len(val)} of validation, {size / 2**20:,.1f} MB"
    if size > max(settings.max_gb, settings.max_disk_gb) * GB:
        log.info(
            "%s: the backbone runs in each epoch: its features (%s) are more than phases.frozen.cache.max_gb=%g and "
            "max_disk_gb=%g",
            phase.name,
            told,
            settings.max_gb,
            settings.max_disk_gb,
        )
        return training
    folder = None if size <= settings.max_gb * GB else run_dir.path
    try:
        features = Features(
            Source(
                train=data.train,
                plain=data.plain,
                train_indices=train,
                val_indices=val,
                batch_size=data.batch_size,
                compute=compute,
                check=training.request.check,
            ),
            example,
            views=settings.views,
            first_epoch=state.epochs_before,
            half=settings.half,
            folder=folder,
        )
    except OSError as error:
        raise TrainingError(
            f"{run_dir.path}: no room for the features of the frozen phase ({told}): {error.strerror}. Make room, "
            "or start anew with phases.frozen.cache.max_disk_gb=0 or fewer phases.frozen.cache.views"
        ) from None
    where = "in memory" if folder is None else "on disk, until the phase ends"
    log.info("%s: the backbone runs once: %s of features %s", phase.name, told, where)
    return replace(training, data=replace(data, features=features))


@torch.no_grad()
def computed(model: torch.nn.Module, compute: Compute, images: Tensor) -> list[Tensor]:
    """What the head of the model needs of the images."""
    with compute.autocast():
        features: list[Tensor] = model.features(compute.send({"image": images})["image"])  # type: ignore[operator]
    return features


def _obstacle(phase: Phase, views: int, state: TrainState, training: Training) -> str:
    """Why features can't take the place of images, or would spare nothing; empty where they can."""
    if training.rule.sharing is not None:
        return "several processes train"
    if training.data.collate is not None:
        return "data.mixup mixes images"
    if set(phase.input_scales) != {1}:
        return f"phases.frozen.input_scales={list(phase.input_scales)} gives it inputs of several sizes"
    if not hasattr(state.model, "features"):
        return "the model does not give its features apart from its head"
    if views > 1 and phase.num_epochs <= views:
        return f"each of its {phase.num_epochs} epochs has a view of its own (phases.frozen.cache.views={views})"
    return ""


def _bytes(example: list[Tensor], *, half: bool) -> int:
    """What the features of one image take."""
    return sum(
        math.prod(level.shape) * (2 if half and level.dtype == torch.float32 else level.element_size())
        for level in example
    )
