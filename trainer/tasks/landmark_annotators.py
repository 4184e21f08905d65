"""How far annotators differ from each other: what a model's error is measured beside."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from trainer.tasks.landmark_metrics import mean_of_finite, radial_errors
from trainer.tasks.task import Predictions


def between_annotators(annotations: np.ndarray, spacing_mm: np.ndarray) -> Predictions:
    """Each annotator's points as a prediction of each other's, of annotations (A, N, K, 2) px and spacings (N,).

    Any metric of these is that of one annotator who is judged by another: the mean radial error is their mean
    distance. There are two annotators or more. Images are repeated, once per ordered pair; landmarks that one of the
    two didn't mark are missing.
    """
    pairs = list(permutations(range(len(annotations)), 2))
    images = np.arange(annotations.shape[1])
    return {
        "index": np.tile(images, len(pairs)),
        "points": np.concatenate([annotations[first] for first, _ in pairs]),
        "truth": np.concatenate([annotations[second] for _, second in pairs]),
        "spacing_mm": np.tile(spacing_mm, len(pairs)),
    }


def inter_observer_error(annotations: np.ndarray, spacing_mm: np.ndarray, unit: str) -> tuple[np.ndarray, float]:
    """Mean distance between two annotators in `unit`: per landmark (K,), and over all that two or more marked.

    `annotations` (A, N, K, 2) px, NaN where one didn't mark a landmark; `spacing_mm` (N,). NaN where no two did.
    """
    pairs = between_annotators(annotations, spacing_mm)
    distances = radial_errors(pairs["points"], pairs["truth"])
    if unit == "mm":
        distances = distances * pairs["spacing_mm"][:, None]
    return np.array([mean_of_finite(column) for column in distances.T]), mean_of_finite(distances)
