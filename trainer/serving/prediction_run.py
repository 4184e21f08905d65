"""One whole prediction, from the settings of `python -m trainer.predict` to files and an exit code."""

from __future__ import annotations

import logging
import sys
import time
from itertools import chain
from pathlib import Path
from typing import Any

from data.image_list import list_of_images
from trainer.device import keep_freed_memory
from trainer.exit_codes import EXIT_DATA
from trainer.progress import clock
from trainer.run_dir import write_json
from trainer.serving.image_progress import image_progress
from trainer.serving.prediction_files import PredictionFiles
from trainer.serving.predictor import load
from trainer.serving.settings import PredictSettings

log = logging.getLogger(__name__)


def predict_into(folder: Path, settings: PredictSettings) -> int:
    """Predict all images; returns the exit code, 3 where some failed.

    Raises:
        ValueError, DataError, TrainingError, OSError: nothing could be predicted, or not to the end.
    """
    started = time.perf_counter()
    keep_freed_memory()
    predictor = load(settings.run, device=settings.device)
    images = list_of_images(
        settings.images,
        root=None if settings.root is None else Path(settings.root),
        allow_outside_root=settings.allow_outside_root,
        pixel_spacing_mm=settings.pixel_spacing_mm,
    )
    files = PredictionFiles(folder, predictor, images, most_drawn=settings.most_drawn)
    answered = predictor.answer(images, batch_size=settings.batch_size, tta=settings.tta)
    weights, device = predictor.run.weights, predictor.compute.device
    log.info("%s: weights %s, on %s; %d images", settings.run, weights, device, len(images))
    told: dict[str, Any] = {
        "run": str(Path(settings.run).absolute()),
        "weights": weights,
        "images": settings.images,
        "count": len(images),
        "finished": False,
    }
    batches = chain([next(answered)], answered)  # what is wrong with all images is told before anything is written
    files.remove_earlier()
    write_json(folder / "predict.json", told)
    with image_progress(len(images)) as advance:
        for batch in batches:
            files.add(batch)
            advance(len(batch.table) + len(batch.failures))
    seconds = time.perf_counter() - started
    told |= {
        "finished": True,
        "predicted": files.num_answered,
        "failed": files.num_failed,
        "seconds": round(seconds, 2),
    }
    write_json(folder / "predict.json", told)
    log.info("%d images in %s; predictions are in %s", files.num_answered, clock(seconds), folder)
    if files.num_failed:
        print(f"error: {files.num_failed} of {len(images)} images failed; each is in {files.failed}", file=sys.stderr)
        return EXIT_DATA
    return 0
