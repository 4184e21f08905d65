"""`python -m trainer.compare runs=DIR`: holds finished runs against each other, and says which setting is best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from trainer.__main__ import fail
from trainer.exit_codes import FAULTS
from trainer.output_dirs import new_folder
from trainer.run_dir import RunDir
from trainer.verb import run_verb

RUNS_WANTED = "name a sweep, runs=multirun/DATE/TIME, or several folders, runs=[DIR,DIR]"


@dataclass(kw_only=True)
class CompareConfig:
    runs: Any  # a folder, or a list of folders
    target: float | None

    def __post_init__(self) -> None:
        if not self.folders or not all(isinstance(name, str) and name for name in self.folders):
            raise ValueError(f"runs={'null' if self.runs is None else self.runs}: {RUNS_WANTED}")
        if self.target is not None and not math.isfinite(self.target):
            raise ValueError(f"target={self.target} must be a finite number")

    @property
    def folders(self) -> list[Any]:
        if isinstance(self.runs, list | ListConfig):
            return list(self.runs)
        return [] if self.runs is None else [self.runs]


def _out_dir(runs: Any, mode: RunMode | None, fresh: str) -> str:
    """The folder of runs that is compared, where it is one; else a new folder below outputs/."""
    if isinstance(runs, str) and runs and Path(runs).is_dir() and not RunDir(Path(runs)).config.exists():
        return runs
    return str(new_folder(Path("outputs", fresh), claim=mode is not None))


OmegaConf.register_new_resolver("compare_dir", _out_dir, use_cache=True, replace=True)
ConfigStore.instance().store(group="schema", name="compare", node=CompareConfig)


@hydra.main(version_base="1.3", config_path="pkg://conf", config_name="compare")
def compare(composed: DictConfig) -> None:
    out = Path(HydraConfig.get().runtime.output_dir)
    folders: list[Path] = []
    try:
        settings = OmegaConf.to_object(composed)
        assert isinstance(settings, CompareConfig)
        folders = [Path(name) for name in settings.folders]
        # Imports pandas and matplotlib, which --help and a wrong key must not wait for.
        from trainer.comparison.compare import compare_runs

        compare_runs(folders, out, settings.target)
    except FAULTS as error:
        if out.resolve() not in [folder.resolve() for folder in folders] and out.is_dir() and not any(out.iterdir()):
            out.rmdir()
        fail(error)


def main() -> None:
    run_verb(compare, "trainer.compare", "one comparison", "give several folders as runs=[DIR,DIR]")


if __name__ == "__main__":
    main()
