"""`python -m trainer.check key=value ...`: looks at the data of that run, and trains nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from trainer.__main__ import fail
from trainer.config.store import to_train_config
from trainer.exit_codes import FAULTS
from trainer.inspection.settings import CheckConfig, register_check_schema

register_check_schema()


@hydra.main(version_base="1.3", config_path="pkg://conf", config_name="check")
def check(composed: DictConfig) -> None:
    """Ends the process with the exit code that the worst finding stands for."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise ValueError("trainer.check looks at the data of one run; leave out -m, and give each key one value")
        if composed.resume is not None:
            raise ValueError(f"resume={composed.resume} goes on with a run, whose data were read; leave it out")
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
    """Checks, and turns each fault of the command into one message and an exit code."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions through to here
    try:
        check()
    except FAULTS as error:
        fail(error)
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
