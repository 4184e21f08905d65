"""Tables of predicted landmarks: the rows of predictions.csv, and what was measured landmark by landmark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from trainer.tasks.landmark_annotators import inter_observer_error
from trainer.tasks.landmark_calibration import LEVEL
from trainer.tasks.landmark_metrics import image_means, mean_of_finite, per_landmark_table, radial_errors
from trainer.tasks.task import Column, DetailTable, Predictions


def prediction_table(
    predictions: Predictions, image_names: Sequence[str], landmark_names: Sequence[str], *, split: str, unit: str
) -> pd.DataFrame:
    """A row per image: predicted coordinates in original px, the error of each landmark and their mean in `unit`.

    Of predictions with a radius (N, K) px also that, in `unit`: <landmark>_radius90_<unit>.
    """
    scale = predictions["spacing_mm"][:, None] if unit == "mm" else 1.0
    errors = radial_errors(predictions["points"], predictions["truth"]) * scale
    columns: dict[str, object] = {
        "image": [image_names[index] for index in predictions["index"]],
        "split": split,
        f"mre_{unit}": image_means(errors),
    }
    for landmark, name in enumerate(landmark_names):
        columns[f"{name}_x"] = predictions["points"][:, landmark, 0]
        columns[f"{name}_y"] = predictions["points"][:, landmark, 1]
        columns[f"{name}_error_{unit}"] = errors[:, landmark]
        if "radius" in predictions:
            columns[f"{name}_radius{100 * LEVEL:g}_{unit}"] = (predictions["radius"] * scale)[:, landmark]
    return pd.DataFrame(columns)


def landmark_details(
    predictions: Predictions,
    landmark_names: Sequence[str],
    *,
    unit: str,
    success_columns: Sequence[Column],
    sdr_thresholds: Sequence[float],
    annotations: np.ndarray | None = None,
) -> DetailTable:
    """The errors of each landmark; with the mean radius of its circles, of predictions that have a radius; with the
    distance between annotators where there are `annotations` (A, N, K, 2) px of the N images predicted."""
    rows = per_landmark_table(
        predictions["points"],
        predictions["truth"],
        predictions["spacing_mm"],
        landmark_names,
        unit=unit,
        sdr_thresholds=sdr_thresholds,
    )
    columns = [
        Column("landmark", "landmark", "text"),
        Column("count", "images", "number"),
        Column(f"mre_{unit}", f"MRE ({unit})", "distance"),
        Column(f"median_{unit}", "median", "distance"),
        Column(f"p95_{unit}", "95th percentile", "distance"),
        *success_columns,
    ]
    if "radius" in predictions:
        radii = predictions["radius"] * (predictions["spacing_mm"][:, None] if unit == "mm" else 1.0)
        rows["mean_radius"] = [mean_of_finite(column) for column in radii.T]
        columns.append(Column("mean_radius", f"{100 * LEVEL:g} % radius", "distance"))
    if annotations is not None:
        rows["between_annotators"] = inter_observer_error(annotations, predictions["spacing_mm"], unit)[0]
        columns.append(Column("between_annotators", "between annotators", "distance"))
    return DetailTable("Every landmark", columns, rows)
