"""What `python -m trainer.predict` and `python -m trainer.evaluate` are told."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore

from trainer.config.checks import check_choice, check_not_negative, check_positive

SPLITS = ("all", "train", "val", "test")


@dataclass(kw_only=True)
class PredictSettings:
    run: str
    images: str
    root: str | None
    allow_outside_root: bool
    pixel_spacing_mm: float | None
    out: str | None
    overlays: Any  # true, false or a number
    batch_size: int | None
    tta: int | None
    device: str

    def __post_init__(self) -> None:
        if not isinstance(self.overlays, bool | int) or self.overlays < 0:
            raise ValueError(f"overlays={self.overlays} must be true, false, or how many images are drawn")
        check_positive("pixel_spacing_mm", self.pixel_spacing_mm)
        check_positive("batch_size", self.batch_size)
        check_positive("tta", self.tta)
        check_device(self.device)

    @property
    def most_drawn(self) -> float:
        """How many images are drawn at most."""
        return (math.inf if self.overlays else 0) if isinstance(self.overlays, bool) else self.overlays


@dataclass(kw_only=True)
class NewData:
    """Where images with their truth come from; None: as in the run."""

    table: str | None
    root: str | None
    allow_outside_root: bool | None
    pixel_spacing_mm: float | None
    more_tables: list[str] | None
    label: str | None
    num_images: int | None
    seed: int | None
    height: int | None
    width: int | None
    missing_fraction: float | None
    trouble: float | None
    batch_size: int | None
    workers: int | None

    def __post_init__(self) -> None:
        for name in ("pixel_spacing_mm", "num_images", "height", "width", "batch_size"):
            check_positive(f"data.{name}", getattr(self, name))
        check_not_negative("data.workers", self.workers)


@dataclass(kw_only=True)
class EvaluateSettings:
    run: str
    data: NewData
    split: str | None
    group: str | None
    out: str | None
    pictures: bool
    tta: int | None
    device: str

    def __post_init__(self) -> None:
        if self.split is not None:
            check_choice("split", self.split, SPLITS)
        check_positive("tta", self.tta)
        check_device(self.device)


def check_device(device: str) -> None:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", device):
        raise ValueError(f"device={device} is not one of auto, cpu, mps, cuda, cuda:0, cuda:1, ...")


def register_serving_schemas() -> None:
    store = ConfigStore.instance()
    store.store(group="schema", name="predict", node=PredictSettings)
    store.store(group="schema", name="evaluate", node=EvaluateSettings)
