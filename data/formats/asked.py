"""What a reader of any format is told beside the path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Asked:
    first_pixel: float  # coordinate of the first pixel's centre in the source
    images: Path | None = None  # the folder of the images; None: beside the source, and in its folder `images`
    image_prefix: str = ""  # before the names of images in a Label Studio file
