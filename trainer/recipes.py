"""What was typed beside a recipe (experiment=...), whose own settings were measured."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from trainer.config.run import TrainConfig
from trainer.run_dir import RunDir

RECIPE = "experiment="


def keys_beside_recipe(config: TrainConfig) -> set[str] | None:
    """The keys that the command line of this run set beside its recipe; None where it chose no recipe.

    A resumed run is that of the command which began it, with what its resumes added.
    """
    overrides = _typed(config)
    if not any(names_recipe(text) for text in overrides):
        return None
    return {text.lstrip("+~").partition("=")[0] for text in overrides if not names_recipe(text)}


def names_recipe(override: str) -> bool:
    return override.lstrip("+").startswith(RECIPE) and not override.endswith("=null")


def _typed(config: TrainConfig) -> Iterable[str]:
    if config.resume is not None:
        return list(RunDir(Path(config.resume)).read_environment()["overrides"])
    if not HydraConfig.initialized():  # train() was called by a program
        return []
    typed = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)  # ${...} as they stand
    return [str(text) for text in typed] if isinstance(typed, list) else []
