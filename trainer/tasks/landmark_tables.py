"""Tables of predicted landmarks: the rows of predictions.csv, and what was measured landmark by landmark."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

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
    apart: Predictions | None = None,
) -> DetailTable:
    """The errors of each landmark; of predictions that have a radius (N, K) px also the mean of that; beside the error
    the distance between annotators where there are several: `apart`, points of one with those of another as truth."""

    def measured(found: Predictions) -> pd.DataFrame:
        return per_landmark_table(
            found["points"],
            found["truth"],
            found["spacing_mm"],
            landmark_names,
            unit=unit,
            sdr_thresholds=sdr_thresholds,
        )

    rows = measured(predictions)
    columns = [
        Column("landmark", "landmark", "text"),
        Column("count", "images", "number"),
        Column(f"mre_{unit}", f"MRE ({unit})", "distance"),
        Column(f"median_{unit}", "median", "distance"),
        Column(f"p95_{unit}", "95th percentile", "distance"),
        *success_columns,
    ]
    if apart is not None:
        rows["annotators"] = measured(apart)[f"mre_{unit}"]
        columns.insert(3, Column("annotators", "annotators apart", "distance"))
    if "radius" in predictions:
        radii = predictions["radius"] * (predictions["spacing_mm"][:, None] if unit == "mm" else 1.0)
        rows["mean_radius"] = [mean_of_finite(column) for column in radii.T]
        columns.append(Column("mean_radius", f"{100 * LEVEL:g} % radius", "distance"))
    return DetailTable("Every landmark", columns, rows)
