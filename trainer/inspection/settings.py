"""What `python -m trainer.check` is told beside the config of the run (node `check`)."""

from __future__ import annotations

from dataclasses import dataclass

from hydra.core.config_store import ConfigStore

from trainer.config.checks import check_not_negative
from trainer.config.run import TrainConfig

MOST_TILES = 300  # half a megabyte each in memory, on a sheet 22,000 px high


@dataclass(kw_only=True)
class CheckConfig:
    pixels: bool
    tiles: int

    def __post_init__(self) -> None:
        check_not_negative("check.tiles", self.tiles)
        if self.tiles > MOST_TILES:
            raise ValueError(f"check.tiles={self.tiles} must be at most {MOST_TILES}; check.json tells of all images")


@dataclass(kw_only=True)
class CheckedRunConfig(TrainConfig):
    """The keys of a run and those of its check: a schema for Hydra, which is never built."""

    check: CheckConfig


def register_check_schema() -> None:
    ConfigStore.instance().store(group="schema", name="check", node=CheckedRunConfig)
