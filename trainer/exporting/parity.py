"""Whether an exported file answers what the predictor of its run answers, in px of the image or the target's unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainer.errors import TrainingError
from trainer.exporting.files import Answer
from trainer.exporting.graph import RunGraph
from trainer.exporting.samples import Sample
from trainer.serving.predictor import Predictor
from trainer.tasks.task import Predictions

TOLERANCE_PX = 0.05  # of the network's input: times the image's size over the input's, px of the image
TOLERANCE_SHARE = 2e-3  # of probabilities; of numbers, times the training targets' standard deviation; of spreads
LEVELS = 2  # gray levels that pixels of the two inputs may differ by
UNDECIDED_SHARE = 0.1  # of answers that may hang on the rounding of gray levels
ROUNDED_SHARE = 0.02  # of pixels that are rounded otherwise to see whether an answer hangs on it
ROUNDINGS = 6  # of them; each turns the scale between two equal cells with one chance in two


@dataclass(frozen=True)
class Parity:
    """What the comparison came to, `told` as JSON and `line` for people."""

    told: dict[str, Any]
    line: str


def check_parity(predictor: Predictor, graph: RunGraph, answer: Answer, samples: Sequence[Sample]) -> Parity:
    """Hold the file's answers against those of the run, each for the raw image.

    The two round gray levels of the resized image apart in a few pixels. Where a network is undecided between two
    places, that alone may turn the scale: an answer too far off is counted as undecided if the run's own network gives
    it, too, for the input that the file has made, or moves as far once gray levels are rounded otherwise.

    Raises:
        TrainingError: an answer differs by more than the tolerance, or too many are undecided.
    """
    rows: list[dict[str, Any]] = []
    undecided = count = 0
    for sample in samples:
        inputs, affines = predictor.preprocessing.views(sample.image)
        with torch.no_grad():
            made = graph.fitted(torch.from_numpy(sample.rgb))[0].numpy()
        levels = int(np.abs(made.astype(int) - inputs.astype(int)).max())
        found = dict(zip(graph.output_names, answer(sample.rgb, sample.covariates), strict=True))
        scale = float(np.sqrt(abs(np.linalg.det(affines[0][:, :2]))))
        own = _answers(predictor, sample, inputs, affines)
        difference, allowed = _apart(predictor, found, own, scale)
        wrong = ~(difference <= allowed)
        if wrong.any():
            for other in (made, *(_rounded_otherwise(inputs, seed) for seed in range(ROUNDINGS))):
                answered = _answers(predictor, sample, other, affines)
                same = _apart(predictor, found, answered, scale)[0] <= allowed
                moves = _apart(predictor, {name: answered[name][0] for name in found}, own, scale)[0] > allowed
                hangs_on_rounding = wrong & (same | moves)
                undecided += int(hangs_on_rounding.sum())
                wrong &= ~hangs_on_rounding
                difference = np.where(hangs_on_rounding, 0.0, difference)
        height, width = sample.image.shape[:2]
        size = f"{width} x {height}"
        if wrong.any() or levels > LEVELS:
            raise TrainingError(
                f"the file answers otherwise than trainer.predict: {difference.max():.3g} {_unit(predictor)} apart on "
                f"{sample.name} ({size} px), allowed {allowed:.2g}; gray levels of the input up to {levels} apart, "
                f"allowed {LEVELS}; nothing was left"
            )
        count += len(difference)
        rows.append({"image": sample.name, "size": size, "difference": float(difference.max()), "allowed": allowed})
    if undecided > UNDECIDED_SHARE * count:
        raise TrainingError(
            f"{undecided} of {count} answers hang on how gray levels are rounded: the run's network knows nothing of "
            "these images; train it longer, then export it"
        )
    worst = max(rows, key=lambda row: row["difference"])
    told = {"unit": _unit(predictor), "largest": worst["difference"], "undecided": undecided, "images": rows}
    line = f"largest difference {worst['difference']:.2g} {_unit(predictor)} (allowed {worst['allowed']:.2g} there)"
    if undecided:
        line += f"; {undecided} of {count} answers left out that hang on the rounding of gray levels"
    return Parity(told, line)


def _rounded_otherwise(inputs: np.ndarray, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    steps = random.integers(-1, 2, inputs.shape) * (random.random(inputs.shape) < ROUNDED_SHARE)
    changed: np.ndarray = (inputs.astype(int) + steps).clip(0, 255).astype(np.uint8)
    return changed


def _answers(predictor: Predictor, sample: Sample, inputs: np.ndarray, affines: np.ndarray) -> Predictions:
    return predictor.answers_of(np.zeros(1, np.int64), inputs[None], affines[None], sample.encoded[None])


def _apart(
    predictor: Predictor, found: dict[str, np.ndarray], expected: Predictions, scale: float
) -> tuple[np.ndarray, float]:
    """Differences of all answers to an image, the largest of each landmark, and what is allowed; of spread and radius
    NaN equals NaN, while a point, probability or number that is NaN is never near enough."""
    if "points" in found:
        allowed = TOLERANCE_PX / scale
        apart = np.linalg.norm(found["points"] - expected["points"][0], axis=-1)
        for name in ("spread", "radius"):
            if name in found:
                other = expected[name][0]
                relative = np.abs(found[name] - other) / np.maximum(1.0, TOLERANCE_SHARE * np.abs(other) / allowed)
                apart = np.maximum(apart, np.where(np.isnan(found[name]) & np.isnan(other), 0.0, relative))
        return apart, allowed
    if "probabilities" in found:
        return np.abs(found["probabilities"] - expected["probabilities"][0]), TOLERANCE_SHARE
    known = predictor.run.known.target_scale
    assert known is not None
    return np.abs(found["prediction"].reshape(1) - expected["prediction"]), TOLERANCE_SHARE * known[1]


def _unit(predictor: Predictor) -> str:
    if predictor.run.is_of_landmarks:
        return "px"
    return "of probability" if predictor.class_names else getattr(predictor.task, "unit", "") or "of the target"
