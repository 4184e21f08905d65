"""What is learnt and how it is judged (group `task`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.config.checks import check_choice, check_not_negative, check_positive

if TYPE_CHECKING:
    from trainer.tasks.landmarks import LandmarkTask


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
class LandmarkTaskConfig:
    kind: str
    loss: LandmarkLossConfig
    sdr_thresholds: list[float]
    nme: str | None
    nme_landmarks: list[int] | None
    monitor: str | None
    num_overlays: int

    def __post_init__(self) -> None:
        check_choice("task.nme", self.nme or "none", ("none", "box", "pair"))
        if self.nme == "pair" and (self.nme_landmarks is None or len(self.nme_landmarks) != 2):
            raise ValueError(
                f"task.nme=pair needs task.nme_landmarks, two landmarks such as [36,45]; got {self.nme_landmarks}"
            )
        if self.nme == "pair" and self.nme_landmarks is not None and self.nme_landmarks[0] == self.nme_landmarks[1]:
            raise ValueError(f"task.nme_landmarks={self.nme_landmarks} must be two different landmarks")
        if not self.sdr_thresholds:
            raise ValueError("task.sdr_thresholds=[] must hold at least one distance")
        for threshold in self.sdr_thresholds:
            check_positive("task.sdr_thresholds", threshold)
        check_not_negative("task.num_overlays", self.num_overlays)

    def build(
        self, *, landmark_names: list[str], in_mm: bool, validates: bool, refinement_weight: float
    ) -> LandmarkTask:
        from trainer.tasks.landmarks import LandmarkTask, PointLoss

        return LandmarkTask(
            landmark_names=landmark_names,
            in_mm=in_mm,
            validates=validates,
            heatmap_loss=self.loss.heatmap,
            heatmap_weight=self.loss.heatmap_weight,
            sigma=self.loss.sigma,
            point_loss=PointLoss(self.loss.points, self.loss.wing_width, self.loss.wing_curvature),
            points_weight=self.loss.points_weight,
            refinement_weight=refinement_weight,
            sdr_thresholds=tuple(self.sdr_thresholds),
            nme=self.nme,
            nme_landmarks=self.nme_landmarks,
            monitor=self.monitor,
            num_overlays=self.num_overlays,
        )
