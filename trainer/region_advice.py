"""The region that is cut out of the images, and what a person should know of it before training on it."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

from data.geometry import WHOLE, fit_image
from data.records import LandmarkRecords
from data.region import count_outside, landmark_region, lone_stretches, median_size

log = logging.getLogger(__name__)

LEAST_FILLED = 0.85  # of the input, by the region
MULTIPLES = (32, 16, 8)  # px, of input sizes that are advised: the coarser, the better they suit a network
SPLITS = {"val": "validation", "test": "test"}


def with_region(records: LandmarkRecords, margin: float, input_size: tuple[int, int], fit: str) -> LandmarkRecords:
    """The records with the region that their training landmarks span, which is told; raises DataError without one."""
    regional = replace(records, region=landmark_region(records, margin))
    for line in describe_region(regional, input_size, fit):
        log.info("%s", line)
    for line in region_warnings(regional, input_size, fit):
        log.warning("advice: %s", line)
    return regional


def describe_region(records: LandmarkRecords, input_size: tuple[int, int], fit: str) -> list[str]:
    """The region in px, what an input px is of the image, and how many landmarks of other splits lie outside."""
    region = records.region
    width, height = median_size(records)
    size = (round(width), round(height))
    whole, part = (fit_image(size, input_size, fit, chosen) for chosen in (WHOLE, region))
    first = (
        f"region: x {region.left * width:.0f} to {region.right * width:.0f}, y {region.top * height:.0f} to "
        f"{region.bottom * height:.0f} of {width:.0f} x {height:.0f} px; an input px is {height / part.height:.2f} px "
        f"of the image, {height / whole.height:.2f} without data.region"
    )
    lines = [first]
    for split, name in SPLITS.items():
        seen = count_outside(records, split, region, input_size, fit)
        if seen.outside_region:
            lines.append(
                f"{seen.outside_region} of {seen.landmarks} {name} landmarks lie outside the region, "
                f"{seen.outside_input} outside of what the network sees"
            )
    return lines


def region_warnings(records: LandmarkRecords, input_size: tuple[int, int], fit: str) -> list[str]:
    """What may be wrong with the landmarks, or better about the input's shape."""
    region = records.region
    width, height = median_size(records)
    sides = ((region.right - region.left) * width, (region.bottom - region.top) * height)
    warnings = [
        f"{lone.image_name} alone makes the region of the landmarks {lone.share:.0%} longer at its {lone.side}; "
        "check where they are marked"
        for lone in lone_stretches(records)
    ]
    filled = _filled(sides, input_size)
    if filled < LEAST_FILLED:
        better = better_input_size(sides, input_size)
        fault = "leaves to other parts of the images" if fit == "letterbox" else "distorts by"
        warnings.append(
            f"an input of data.input_height={input_size[0]} data.input_width={input_size[1]} {fault} {1 - filled:.0%}, "
            f"as the region is {sides[0]:.0f} px wide and {sides[1]:.0f} px high; data.input_height={better[0]} "
            f"data.input_width={better[1]} has its shape and about as many pixels"
        )
    return warnings


def better_input_size(sides: tuple[float, float], input_size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of about as many px as `input_size`, in the shape of a region of `sides` (width, height)."""
    height = math.sqrt(input_size[0] * input_size[1] * sides[1] / sides[0])
    width = height * sides[0] / sides[1]
    pixels = input_size[0] * input_size[1]
    rounded = [(max(32, step * round(height / step)), max(32, step * round(width / step))) for step in MULTIPLES]
    alike = [size for size in rounded if _filled(sides, size) >= 0.9 and 0.8 < size[0] * size[1] / pixels < 1.25]
    return alike[0] if alike else rounded[-1]


def _filled(sides: tuple[float, float], input_size: tuple[int, int]) -> float:
    """The share of an input that a letterboxed region fills; the ratio of the two scales where it is stretched."""
    across, down = input_size[1] / sides[0], input_size[0] / sides[1]
    return min(across, down) / max(across, down)
