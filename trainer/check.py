"""`python -m trainer.check key=value ...`: looks at the data of that run, and trains nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from trainer.__main__ import fail
from trainer.config.store import to_train_config
from trainer.exit_codes import FAULTS
from trainer.inspection.settings import CheckConfig, register_check_schema
from trainer.run_dir import RunDir
from trainer.verb import run_verb

register_check_schema()


@hydra.main(version_base="1.3", config_path="pkg://conf", config_name="check")
def check(composed: DictConfig) -> None:
    """Ends the process with the exit code that the worst finding stands for."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        if composed.resume is not None:
            raise ValueError(f"resume={composed.resume} goes on with a run, whose data were read; leave it out")
        _check_ours(folder)
        settings = OmegaConf.to_object(composed.check)
        assert isinstance(settings, CheckConfig)
        config = to_train_config(OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "check"]))
        from trainer.inspection.inspect import inspect  # imports numpy, which --help and a wrong key must not wait for

        sys.exit(inspect(config, settings, folder))
    except FAULTS as error:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        fail(error)


def main() -> None:
    run_verb(check, "trainer.check")


def _check_ours(folder: Path) -> None:
    """Raises ValueError for a folder with files that are not those of an earlier check, which this one replaces."""
    if any(folder.iterdir()) and (RunDir(folder).config.exists() or not (folder / "check.json").exists()):
        raise ValueError(f"hydra.run.dir={folder} holds other files than those of a check; name a new folder")


if __name__ == "__main__":
    main()
