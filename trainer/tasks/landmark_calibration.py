"""How far off a landmark may be: circles that hold the truth in 90 %, by split conformal prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trainer.tasks.intervals import bootstrap_interval
from trainer.tasks.landmark_metrics import radial_errors
from trainer.tasks.task import Certainty, Predictions

LEVEL = 0.9
ROUNDING = 1e-9  # 0.9 times 70 is 63.00000000000001, which is no reason to go on to the 64th
LEFT_OUT = 200  # images that are left out in turn to see whether the circles of the others hold theirs


@dataclass(frozen=True)
class Calibration:
    """What turns the spread of a prediction into the radius of a circle that holds the truth in a share of images."""

    level: float  # the share
    landmark_names: tuple[str, ...]
    factors: tuple[float | None, ...]  # radius over spread of each landmark; None: too few images to tell
    num_images: int  # that it was found on

    def radii(self, spread: np.ndarray) -> np.ndarray:
        """Radii of spreads (N, K), in the unit of these; NaN where there is none."""
        return spread * np.array([math.nan if factor is None else factor for factor in self.factors])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Calibration:
        lists = {key: tuple(value[key]) for key in ("landmark_names", "factors")}
        return cls(**{**value, **lists})


def landmark_certainty(judged: Mapping[str, Predictions], landmark_names: Sequence[str], unit: str) -> Certainty:
    """The predictions of each split with radius (N, K) px, calibrated on the split val.

    The circles are judged on the split test or, without one, image by image of val by those of the other images.
    """
    calibration = calibrate(judged["val"], landmark_names)
    told = {split: {**found, "radius": calibration.radii(found["spread"])} for split, found in judged.items()}
    if "test" in judged:
        coverage_on, judge, radii = "test", judged["test"], told["test"]["radius"]
    else:
        coverage_on, judge, radii = "val, leave one image out", judged["val"], left_out_radii(judged["val"])
    findings = {
        "level": calibration.level,
        "calibrated_on": "val",
        "images": calibration.num_images,
        "coverage_on": coverage_on,
        **coverage_findings(judge, radii, landmark_names, unit),
    }
    return Certainty(told, calibration.to_json(), findings)


def calibrate(predictions: Predictions, landmark_names: Sequence[str]) -> Calibration:
    """Found on images that were not trained on. `predictions`: points and truth (N, K, 2), spread (N, K), one unit."""
    scores = nonconformity(predictions)
    return Calibration(
        level=LEVEL,
        landmark_names=tuple(landmark_names),
        factors=tuple(float(factor) if math.isfinite(factor) else None for factor in conformal_factors(scores, LEVEL)),
        num_images=len(marked_images(scores)),
    )


def nonconformity(predictions: Predictions) -> np.ndarray:
    """Errors over spreads (N, K): NaN where the truth is missing, infinite where the prediction is not finite."""
    errors = radial_errors(predictions["points"], predictions["truth"])
    with np.errstate(invalid="ignore"):
        scores = errors / predictions["spread"]
    missing = np.isnan(predictions["truth"]).any(axis=-1)
    return np.where(missing, np.nan, np.where(np.isfinite(scores), scores, np.inf))


def conformal_factors(scores: np.ndarray, level: float) -> np.ndarray:
    """The factor (K,) of each landmark, of scores (N, K): the ceil((n + 1) level)-th least of them (Angelopoulos &
    Bates 2021, arXiv:2107.07511, sections 1 and 2.3).

    It is that landmark's own wherever n, the images that show it, are enough for one: 9 at 90 %. Then, if images to
    come are like these, each landmark is held in 90 % to 90 % + 1 / (n + 1) of them. A landmark that fewer images
    show gets what all landmarks together have, see pooled_factor; infinite where these are too few as well.
    """
    factors = np.full(scores.shape[1], np.nan)
    for landmark, column in enumerate(scores.T):
        present = np.sort(column[~np.isnan(column)])
        rank = math.ceil(level * (len(present) + 1) - ROUNDING)
        if rank <= len(present):
            factors[landmark] = present[rank - 1]
    too_few = np.isnan(factors)
    if too_few.any():
        factors[too_few] = pooled_factor(scores, level)
    return factors


def pooled_factor(scores: np.ndarray, level: float) -> float:
    """One factor for all landmarks, of scores (N, K); infinite for fewer than 9 images at 90 %.

    Scores of one image go together, so it is images that count, each with the same weight, however many landmarks it
    shows: a landmark drawn from an image to come is then held in at least 90 % (Lee, Barber & Willett 2023,
    arXiv:2306.06342).
    """
    images = scores[marked_images(scores)]
    present = ~np.isnan(images)
    weights = present / present.sum(axis=1, keepdims=True)
    order = np.argsort(images[present], kind="stable")
    reached = np.flatnonzero(np.cumsum(weights[present][order]) >= level * (len(images) + 1) - ROUNDING)
    return float(images[present][order][reached[0]]) if len(reached) else math.inf


def marked_images(scores: np.ndarray) -> np.ndarray:
    """The images that show a landmark at all."""
    return np.flatnonzero(~np.isnan(scores).all(axis=1))


def left_out_radii(predictions: Predictions) -> np.ndarray:
    """Radii (N, K) of the circles that all other images give to each image; NaN for all but 200 images."""
    scores, radii = nonconformity(predictions), np.full(predictions["spread"].shape, np.nan)
    images = marked_images(scores)
    chosen = images[np.unique(np.linspace(0, len(images) - 1, min(LEFT_OUT, len(images))).astype(int))]
    for image in chosen:
        factors = conformal_factors(np.delete(scores, image, axis=0), LEVEL)
        radii[image] = predictions["spread"][image] * np.where(np.isfinite(factors), factors, np.nan)
    return radii


def coverage_findings(
    predictions: Predictions, radii: np.ndarray, landmark_names: Sequence[str], unit: str
) -> dict[str, Any]:
    """Whether circles of `radii` (N, K) px hold the truth, as JSON: share, its 95 % interval, mean radius, the share in
    each third of the circles from small to large, and share and mean radius of each landmark."""
    errors = radial_errors(predictions["points"], predictions["truth"])
    judged = np.isfinite(errors) & np.isfinite(radii)
    held = np.where(judged, errors <= radii, False)
    in_unit = radii * (predictions["spacing_mm"][:, None] if unit == "mm" else 1.0)
    by_size = np.argsort(radii[judged], kind="stable")
    return {
        "coverage": _share(held, judged),
        "coverage_interval": list(bootstrap_interval(held.sum(axis=1), judged.sum(axis=1))),
        f"mean_radius_{unit}": _share(in_unit, judged),
        "coverage_by_radius": [float(held[judged][part].mean()) for part in np.array_split(by_size, 3) if len(part)],
        "per_landmark": [
            {
                "landmark": name,
                "count": int(judged[:, column].sum()),
                "coverage": _share(held[:, column], judged[:, column]),
                f"mean_radius_{unit}": _share(in_unit[:, column], judged[:, column]),
            }
            for column, name in enumerate(landmark_names)
        ],
    }


def _share(values: np.ndarray, judged: np.ndarray) -> float:
    """Mean of the values that are judged."""
    return float(values[judged].mean()) if judged.any() else math.nan
