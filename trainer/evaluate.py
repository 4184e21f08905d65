"""`python -m trainer.evaluate run=DIR data.table=...`: how good a finished run is on images with a known truth."""

from __future__ import annotations

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from trainer.__main__ import fail
from trainer.exit_codes import FAULTS
from trainer.serving.settings import EvaluateSettings, register_serving_schemas
from trainer.verb import check_ours, remove_if_empty, run_verb, typed_settings

register_serving_schemas()


@hydra.main(version_base="1.3", config_path="pkg://conf", config_name="evaluate")
def evaluate(composed: DictConfig) -> None:
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        check_ours(folder, "evaluate.json")
        settings = typed_settings(composed, EvaluateSettings)
        from trainer.serving.evaluation_run import evaluate_into  # imports torch, which --help must not wait for

        evaluate_into(folder, settings)
    except FAULTS as error:  # told here, because Hydra would tell it too
        remove_if_empty(folder)
        fail(error)


def main() -> None:
    run_verb(evaluate, "trainer.evaluate")


if __name__ == "__main__":
    main()
