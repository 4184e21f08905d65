"""How training images are varied (group `data/augmentation`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config.checks import check_fraction, check_not_negative

if TYPE_CHECKING:
    from data.augmentation import Augmentation


@dataclass(kw_only=True)
class AugmentationConfig:
    rotate_degrees: float
    scale: float
    shift: float
    shear_degrees: float
    flip: float
    flip_pairs: str | None
    brightness: float
    contrast: float
    gamma: float
    clahe: float
    noise: float
    dropout_holes: int
    dropout_size: float

    def __post_init__(self) -> None:
        for name in ("rotate_degrees", "shear_degrees", "gamma", "dropout_holes"):
            check_not_negative(f"data.augmentation.{name}", getattr(self, name))
        for name in ("scale", "shift", "flip", "brightness", "contrast", "clahe", "noise", "dropout_size"):
            check_fraction(f"data.augmentation.{name}", getattr(self, name))
        if self.scale >= 1:
            raise ValueError(f"data.augmentation.scale={self.scale} must be below 1")
        if self.shear_degrees > 45:
            raise ValueError(f"data.augmentation.shear_degrees={self.shear_degrees} must be at most 45")
        if self.gamma > 5:
            raise ValueError(f"data.augmentation.gamma={self.gamma} must be at most 5")

    def read_flip_pairs(self, num_landmarks: int, beside: Path) -> list[tuple[int, int]]:
        """The landmarks that change sides in a mirror; their file is looked for here, then in `beside`."""
        from data.tables import read_flip_pairs

        if self.flip == 0 or self.flip_pairs in (None, "none"):
            return []
        path = Path(str(self.flip_pairs))
        return read_flip_pairs(path if path.exists() else beside / path, num_landmarks)

    @property
    def moves(self) -> bool:
        """Whether images are turned, scaled, shifted or mirrored."""
        return any((self.rotate_degrees, self.scale, self.shift, self.shear_degrees, self.flip))

    @property
    def without_mirrors(self) -> AugmentationConfig:
        return replace(self, flip=0.0)

    def build_moves(self) -> Augmentation:
        """The part of it that leaves intensities as they are; landmarks don't change sides in its mirrors."""
        still: dict[str, Any] = {
            "brightness": 0.0,
            "contrast": 0.0,
            "gamma": 0.0,
            "clahe": 0.0,
            "noise": 0.0,
            "dropout_holes": 0,
        }
        return replace(self, **still).build([])

    def build(self, flip_pairs: list[tuple[int, int]]) -> Augmentation:
        """The augmentation of images whose landmarks `flip_pairs` change sides in a mirror."""
        from data.augmentation import Augmentation

        return Augmentation(
            rotate_degrees=self.rotate_degrees,
            scale=self.scale,
            shift=self.shift,
            shear_degrees=self.shear_degrees,
            flip=self.flip,
            flip_pairs=flip_pairs,
            brightness=self.brightness,
            contrast=self.contrast,
            gamma=self.gamma,
            clahe=self.clahe,
            noise=self.noise,
            dropout_holes=self.dropout_holes,
            dropout_size=self.dropout_size,
        )
