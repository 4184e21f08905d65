"""Answers as rows for people, under the names that predictions.csv of a run has."""

from __future__ import annotations

import numpy as np
import pandas as pd

from data.covariates import Covariates
from data.image_list import ImageList
from data.known_records import Known
from trainer.tasks.labels import covariate_columns
from trainer.tasks.landmark_calibration import LEVEL
from trainer.tasks.task import Predictions


def answer_table(known: Known, answers: Predictions, images: ImageList, covariates: Covariates) -> pd.DataFrame:
    """A row per answer; radii in mm where the spacing of all images, also of those in other batches, is known."""
    index = answers["index"]
    columns: dict[str, object] = {"image": [images.names[row] for row in index]}
    if known.landmark_names:
        unit = "mm" if images.in_mm else "px"
        scale = images.spacing_mm[index][:, None] if unit == "mm" else 1.0
        for landmark, name in enumerate(known.landmark_names):
            columns[f"{name}_x"] = answers["points"][:, landmark, 0]
            columns[f"{name}_y"] = answers["points"][:, landmark, 1]
            if "radius" in answers:
                columns[f"{name}_radius{100 * LEVEL:g}_{unit}"] = (answers["radius"] * scale)[:, landmark]
        return pd.DataFrame(columns)
    if known.class_names is not None:
        probabilities, names = answers["probabilities"], np.array(known.class_names, dtype=object)
        sure = np.isfinite(probabilities).all(axis=1)
        columns["prediction"] = np.where(sure, names[probabilities.argmax(axis=1)], None)
        columns |= {f"p_{name}": probabilities[:, number] for number, name in enumerate(known.class_names)}
    else:
        columns["prediction"] = answers["prediction"]
    return pd.DataFrame(columns | covariate_columns(covariates, index, columns))
