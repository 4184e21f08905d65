"""What is learnt and how it is judged (group `task`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config.checks import check_absent, check_choice, check_not_negative, check_positive
from trainer.config.landmark_data import LandmarkData
from trainer.config.models import HeatmapModelConfig, LandmarkModelConfig

if TYPE_CHECKING:
    from torch import nn

    from trainer.config.run import TrainConfig
    from trainer.run_data import RunData
    from trainer.tasks.task import Task


LABEL_KEYS = ("label", "covariates", "balance", "mixup")  # of data


@dataclass(kw_only=True)
class TaskConfig(ABC):
    """What is learnt; it alone knows which data and models fit it, so the rest of a run needs no branch on its kind."""

    kind: str
    monitor: str | None

    @abstractmethod
    def check(self, config: TrainConfig) -> None:
        """Raises ValueError, naming both keys, where another part of the run's config doesn't fit this task."""

    @abstractmethod
    def build_data(self, config: TrainConfig, splits_file: Path) -> RunData:
        """Read what is to be learnt; the split is that of `splits_file` if it exists, else made and written there."""

    @abstractmethod
    def build_model(self, config: TrainConfig, data: RunData) -> nn.Module:
        """The network, with the submodules backbone and head."""

    @abstractmethod
    def build(self, config: TrainConfig, data: RunData) -> Task[Any]:
        """Loss, predictions and metrics."""


@dataclass(kw_only=True)
class LandmarkLossConfig:
    heatmap: str
    heatmap_weight: float
    sigma: float
    points: str
    points_weight: float
    wing_width: float
    wing_curvature: float

    def __post_init__(self) -> None:
        check_choice("task.loss.heatmap", self.heatmap, ("cross_entropy", "mse"))
        check_choice("task.loss.points", self.points, ("l1", "smooth_l1", "wing"))
        check_not_negative("task.loss.heatmap_weight", self.heatmap_weight)
        check_not_negative("task.loss.points_weight", self.points_weight)
        for name in ("sigma", "wing_width", "wing_curvature"):
            check_positive(f"task.loss.{name}", getattr(self, name))


@dataclass(kw_only=True)
class LandmarkTaskConfig(TaskConfig):
    loss: LandmarkLossConfig
    sdr_thresholds: list[float]
    nme: str | None
    nme_landmarks: list[int] | None
    num_overlays: int

    def __post_init__(self) -> None:
        check_choice("task.nme", self.nme or "none", ("none", "box", "pair"))
        if self.nme == "pair" and (self.nme_landmarks is None or len(self.nme_landmarks) != 2):
            raise ValueError(
                f"task.nme=pair needs task.nme_landmarks, two landmarks such as [36,45]; got {self.nme_landmarks}"
            )
        if self.nme == "pair" and self.nme_landmarks is not None and self.nme_landmarks[0] == self.nme_landmarks[1]:
            raise ValueError(f"task.nme_landmarks={self.nme_landmarks} must be two different landmarks")
        if any(number < 0 for number in self.nme_landmarks or []):
            raise ValueError(f"task.nme_landmarks={self.nme_landmarks} counts landmarks from 0; none is negative")
        if not self.sdr_thresholds:
            raise ValueError("task.sdr_thresholds=[] must hold at least one distance")
        for threshold in self.sdr_thresholds:
            check_positive("task.sdr_thresholds", threshold)
        check_not_negative("task.num_overlays", self.num_overlays)

    def check(self, config: TrainConfig) -> None:
        data, model = config.data, config.model
        if not isinstance(data, LandmarkData):
            raise ValueError(f"data={data.kind} has no landmarks; choose task=classification, or data=csv")
        check_absent("data", data, LABEL_KEYS, "task=landmarks", "task=classification and task=regression")
        if data.augmentation.flip > 0 and data.augmentation.flip_pairs is None:
            raise ValueError(
                f"data.augmentation.flip={data.augmentation.flip} needs data.augmentation.flip_pairs: a file with a "
                "line `i j` for each pair of landmarks that change sides in a mirror (or `none` if no landmark does)"
            )
        if config.predict.tta > 1 and not data.augmentation.without_mirrors.moves:
            raise ValueError(
                f"predict.tta={config.predict.tta} averages views of landmarks that data.augmentation turns, scales or "
                "shifts, but all of that is 0"
            )
        if not isinstance(model, LandmarkModelConfig):
            raise ValueError(f"model={model.kind} does not fit task=landmarks; choose model=heatmap or coordinates")
        if isinstance(model, HeatmapModelConfig):
            for name in ("input_height", "input_width"):
                value = getattr(config.data, name)
                if value % model.stride:
                    raise ValueError(f"data.{name}={value} is not a multiple of model.stride={model.stride}")
        for key, scales in config.phases.scaled.items():
            fixed = "model.refinement=true" if isinstance(model, HeatmapModelConfig) else f"model={model.kind}"
            if not isinstance(model, HeatmapModelConfig) or model.refinement:
                raise ValueError(f"{key}={scales} does not fit {fixed}, which knows one input size; leave it at [1.0]")
        has_heatmap = isinstance(model, HeatmapModelConfig) and self.loss.heatmap_weight > 0
        refines = model.refinement and model.refinement_weight > 0
        if not has_heatmap and not refines and self.loss.points_weight == 0:
            raise ValueError(f"task.loss.points_weight=0.0 leaves model={model.kind} without a loss")

    def build_data(self, config: TrainConfig, splits_file: Path) -> RunData:
        from data.annotators import check_annotator
        from data.datasets import LandmarkDataset
        from trainer.region_advice import with_region
        from trainer.run_data import run_data

        assert isinstance(config.data, LandmarkData)
        records = config.data.landmark_records(splits_file)
        check_annotator(records, config.data.annotator)
        if config.data.region == "landmarks":
            records = with_region(records, config.data.region_margin, config.data.input_size, config.data.fit)
        settings = config.data.augmentation
        augmentation = settings.build(settings.read_flip_pairs(len(records.landmark_names), config.data.folder))
        dataset = partial(
            LandmarkDataset, records, input_size=config.data.input_size, fit=config.data.fit, seed=config.seed
        )
        cache_gb = config.data.cache_gb / 2
        return run_data(
            config,
            records,
            train=dataset(augmentation=augmentation, cache_gb=cache_gb, annotator=config.data.annotator),
            plain=dataset(augmentation=None, cache_gb=cache_gb),
            views=dataset(augmentation=settings.without_mirrors.build_moves(), cache_gb=0.0),
        )

    def build_model(self, config: TrainConfig, data: RunData) -> nn.Module:
        from data.datasets import mean_shape_in_input
        from trainer.growth import check_sizes, smallest_size

        assert isinstance(config.model, LandmarkModelConfig)
        input_size = config.data.input_size
        model = config.model.build(
            mean_shape=mean_shape_in_input(data.records, input_size, config.data.fit),
            input_size=input_size,
            heatmap_loss=self.loss.heatmap,
        )
        check_sizes(config, model.backbone)
        smallest = smallest_size(config)
        coarsest = model.backbone.levels[-1].stride
        images = min(config.data.batch_size, len(data.records.indices("train")))
        if images == 1 and max(smallest) <= coarsest:
            raise ValueError(
                f"data.batch_size={images} with an input of {smallest[0]} x {smallest[1]} px leaves batch norm a "
                f"single value; train on at least 2 images at a time, or on an input above {coarsest} px"
            )
        return model

    def build(self, config: TrainConfig, data: RunData) -> Task[Any]:
        from trainer.tasks.landmark_losses import LandmarkLoss, PointLoss
        from trainer.tasks.landmarks import LandmarkTask

        assert isinstance(config.model, LandmarkModelConfig)
        return LandmarkTask(
            landmark_names=data.records.landmark_names,
            in_mm=data.records.in_mm,
            validates=data.validates,
            loss=LandmarkLoss(
                heatmap=self.loss.heatmap,
                heatmap_weight=self.loss.heatmap_weight,
                sigma=self.loss.sigma,
                points=PointLoss(self.loss.points, self.loss.wing_width, self.loss.wing_curvature),
                points_weight=self.loss.points_weight,
                refinement_weight=config.model.refinement_weight,
            ),
            sdr_thresholds=tuple(self.sdr_thresholds),
            nme=self.nme,
            nme_landmarks=self.nme_landmarks,
            monitor=self.monitor,
            num_overlays=self.num_overlays,
            region=data.records.region,
        )
