"""Whether the features of a frozen phase are kept, and where: decided by their size before the phase begins."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from trainer.config.phases import FeatureCacheConfig
from trainer.config.run import TrainConfig
from trainer.device import Compute
from trainer.errors import TrainingError
from trainer.features import Features, Source
from trainer.loop import UpdateRule
from trainer.phases import Phase, Training
from trainer.run_data import RunData
from trainer.run_dir import RunDir
from trainer.state import TrainState

GB = 2**30

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeaturePlan:
    """What becomes of the features of a phase. It depends on the config, the model and the number of images alone, so
    that a run that is resumed does the same."""

    obstacle: str  # why they are not kept; empty where they are
    same_views: bool = False  # all the same epochs take the views in turn that would be kept
    told: str = ""  # how many there are, and how large they are together
    on_disk: bool = False
    example: list[Tensor] = field(default_factory=list)  # those of one image


def plan_features(
    phase: Phase, settings: FeatureCacheConfig, model: nn.Module, data: RunData, rule: UpdateRule
) -> FeaturePlan | None:
    """None where nothing was asked for."""
    if not phase.frozen or settings.views == 0:
        return None
    if obstacle := _obstacle(phase, settings.views, model, data):
        return FeaturePlan(obstacle)
    if rule.sharing is not None:  # and sees what one process would
        return FeaturePlan("several processes train", same_views=True)
    model.get_submodule("backbone").eval()
    example = computed(model, rule.compute, torch.zeros(1, 3, *data.train.input_size, dtype=torch.uint8))
    num_train, num_val = len(data.records.indices("train")), len(data.records.indices("val"))
    size = (num_train * settings.views + num_val) * _bytes(example, half=settings.half)
    told = f"{num_train} images x {settings.views} views + {num_val} of validation, {size / 2**20:,.1f} MB"
    if size > max(settings.max_gb, settings.max_disk_gb) * GB:
        most = f"phases.frozen.cache.max_gb={settings.max_gb:g} and max_disk_gb={settings.max_disk_gb:g}"
        return FeaturePlan(f"its features ({told}) are more than {most}", same_views=True)
    return FeaturePlan("", told=told, on_disk=size > settings.max_gb * GB, example=example)


def with_features(
    phase: Phase, config: TrainConfig, state: TrainState, training: Training, run_dir: RunDir
) -> Training:
    """The same, with batches from kept features where `phases.frozen.cache` asks for them and the phase permits it.

    What is done is told in a line.

    Raises:
        TrainingError: the disk has no room for what was to lie there.
    """
    settings, data = config.phases.frozen.cache, training.data
    plan = plan_features(phase, settings, state.model, data, training.rule)
    if plan is None:
        return training
    if plan.obstacle:
        log.info("%s: the backbone runs in each epoch: %s", phase.name, plan.obstacle)
        if not plan.same_views:
            return training
        return replace(training, data=replace(data, in_turn=(settings.views, state.epochs_before)))

    def compute(images: Tensor) -> list[Tensor]:
        with training.rule.watch.part("features"):
            return computed(state.model, training.rule.compute, images)

    source = Source(
        train=data.train,
        plain=data.plain,
        train_indices=data.records.indices("train"),
        val_indices=data.records.indices("val"),
        batch_size=data.batch_size,
        compute=compute,
        check=training.request.check,
    )
    try:
        features = Features(
            source,
            plan.example,
            views=settings.views,
            first_epoch=state.epochs_before,
            half=settings.half,
            folder=run_dir.path if plan.on_disk else None,
        )
    except OSError as error:
        raise TrainingError(
            f"{run_dir.path}: no room for the features of the frozen phase ({plan.told}): {error.strerror}. Make room, "
            "or start anew with phases.frozen.cache.max_disk_gb=0 or fewer phases.frozen.cache.views"
        ) from None
    where = "on disk, until the phase ends" if plan.on_disk else "in memory"
    log.info("%s: the backbone runs once: %s of features %s", phase.name, plan.told, where)
    return replace(training, data=replace(data, features=features))


@torch.no_grad()
def computed(model: nn.Module, compute: Compute, images: Tensor) -> list[Tensor]:
    """What the head of the model needs of the images."""
    with compute.autocast():
        features: list[Tensor] = model.features(compute.send({"image": images})["image"])  # type: ignore[operator]
    return features


def _obstacle(phase: Phase, views: int, model: nn.Module, data: RunData) -> str:
    """Why features can't take the place of images, or would spare nothing; empty where they can."""
    if data.collate is not None:
        return "data.mixup mixes images"
    if set(phase.input_scales) != {1}:
        return f"phases.frozen.input_scales={list(phase.input_scales)} gives it inputs of several sizes"
    if not hasattr(model, "features"):
        return "the model does not give its features apart from its head"
    if views > 1 and phase.num_epochs < 2 * views:
        return f"its {phase.num_epochs} epochs would take few of phases.frozen.cache.views={views} twice"
    return ""


def _bytes(example: list[Tensor], *, half: bool) -> int:
    """What the features of one image take."""
    return sum(
        math.prod(level.shape) * (2 if half and level.dtype == torch.float32 else level.element_size())
        for level in example
    )
