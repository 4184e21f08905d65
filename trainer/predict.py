"""`python -m trainer.predict run=DIR images=...`: what a finished run says of images."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from trainer.__main__ import fail
from trainer.exit_codes import FAULTS
from trainer.serving.settings import PredictSettings, register_serving_schemas
from trainer.verb import check_ours, remove_if_empty, run_verb, typed_settings

register_serving_schemas()


@hydra.main(version_base="1.3", config_path="pkg://conf", config_name="predict")
def predict(composed: DictConfig) -> None:
    """Ends the process with exit code 3 where an image failed."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        check_ours(folder, "predict.json")
        settings = typed_settings(composed, PredictSettings)
        from trainer.serving.prediction_run import predict_into  # imports torch, which --help must not wait for

        sys.exit(predict_into(folder, settings))
    except FAULTS as error:  # told here, because Hydra would tell it too
        remove_if_empty(folder)
        fail(error)


def main() -> None:
    run_verb(predict, "trainer.predict")


if __name__ == "__main__":
    main()
