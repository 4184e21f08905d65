"""What an exported file says of itself."""

from __future__ import annotations

from typing import Any

import trainer
from data.geometry import WHOLE
from models.timm_import import timm
from trainer.exporting.graph import RunGraph
from trainer.serving.predictor import Predictor
from trainer.tasks.labels import covariate_mapping

PIXELS = "integers are pixel centres, (0, 0) is the centre of the first pixel; x to the right, y down"
IMAGE = "uint8 RGB (height, width, 3), any size, upright; gray three times"


def description(predictor: Predictor, graph: RunGraph) -> dict[str, Any]:
    """As JSON."""
    run, known = predictor.run, predictor.run.known
    height, width = predictor.preprocessing.input_size
    told: dict[str, Any] = {
        "task": run.config.task.kind,
        "run": run.run_dir.path.resolve().name,
        "weights": run.weights,
        "networks": len(predictor.networks),
        "model": run.config.model.kind,
        "backbone": run.config.model.backbone,
        "trainer_version": trainer.__version__,
        "timm_version": timm.__version__,
        "inputs": graph.input_names,
        "outputs": list(graph.output_names),
        "image": IMAGE,
        "input_height": height,
        "input_width": width,
        "fit": predictor.preprocessing.fit,
    }
    if known.region != WHOLE:
        told["region"] = list(run.results["mapping"]["region"])
    if run.is_of_landmarks:
        told |= {
            "landmark_names": known.landmark_names,
            "unit": "px of the image",
            "pixels": PIXELS,
            "mm": "px times the image's mm per px",
        }
        if run.calibration is not None:
            told["radius"] = f"of circles that hold the truth in {100 * run.calibration.level:g} %, px; NaN: not known"
    elif known.class_names is not None:
        told["class_names"] = known.class_names
    else:
        told["unit"] = getattr(predictor.task, "unit", "")
    if predictor.covariates is not None:
        told["covariates"] = [
            {**one, "give": "the place of the category, from 0" if "categories" in one else "the number in its unit"}
            for one in covariate_mapping(predictor.covariates)
        ]
        may_miss = predictor.covariates.missing_covariate == "category"
        told["missing_covariate"] = "NaN" if may_miss else "not known to the run: the answer is NaN"
    return told


def left_out(predictor: Predictor) -> list[str]:
    """What the file does not do that the run does, a line each."""
    config, lines = predictor.run.config, []
    if config.predict.tta > 1:
        lines.append(f"left out: the average over {config.predict.tta} views (predict.tta); it sees an image once")
    if config.precision != "fp32":
        lines.append(f"left out: precision={config.precision}; it computes in fp32")
    return lines
