"""What `python -m trainer.tune` is told beside the config of the run: `minutes`."""

from __future__ import annotations

from dataclasses import dataclass

from hydra.core.config_store import ConfigStore

from trainer.config.run import TrainConfig

MOST_MINUTES = 1440  # a day
TABLE = "tune.txt"  # in the folder of a tuning


@dataclass(kw_only=True)
class TunedRunConfig(TrainConfig):
    """The keys of a run and that of its tuning: a schema for Hydra, which is never built."""

    minutes: float


def register_tune_schema() -> None:
    ConfigStore.instance().store(group="schema", name="tune", node=TunedRunConfig)


def check_minutes(minutes: float) -> None:
    """Raises ValueError for what is no time to measure."""
    if not 0 < minutes <= MOST_MINUTES:
        raise ValueError(f"minutes={minutes:g} must be above 0 and at most {MOST_MINUTES}")
