"""`python -m trainer.tune key=value ...`: times the updates of that run under other settings, and trains nothing."""

from __future__ import annotations

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from trainer.__main__ import fail
from trainer.config.store import to_train_config
from trainer.exit_codes import FAULTS
from trainer.run_dir import RunDir
from trainer.tuning.settings import TABLE, check_minutes, register_tune_schema
from trainer.verb import remove_if_empty, run_verb

register_tune_schema()


@hydra.main(version_base="1.3", config_path="pkg://conf", config_name="tune")
def tune(composed: DictConfig) -> None:
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        if composed.resume is not None:
            raise ValueError(f"resume={composed.resume} goes on with a run, whose settings are chosen; leave it out")
        _check_ours(folder)
        check_minutes(composed.minutes)
        config = to_train_config(OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "minutes"]))
        typed = [text for text in HydraConfig.get().overrides.task if text.partition("=")[0] != "minutes"]
        from trainer.tuning.tune_run import tune_run  # imports torch, which --help and a wrong key must not wait for

        tune_run(config, composed.minutes, typed, folder)
    except FAULTS as error:
        remove_if_empty(folder)
        fail(error)


def _check_ours(folder: Path) -> None:
    """Raises ValueError for a folder with files that are not those of an earlier tuning, which this one replaces."""
    if any(folder.iterdir()) and (RunDir(folder).config.exists() or not (folder / TABLE).exists()):
        raise ValueError(f"hydra.run.dir={folder} holds other files than those of a tuning; name a new folder")


def main() -> None:
    run_verb(tune, "trainer.tune")


if __name__ == "__main__":
    main()
