"""What a study is told, the keys of hydra.sweeper; without Optuna, which is imported only where a study begins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from trainer.config.run import TrainConfig

SWEEPER = "hydra_plugins.trainer.OptunaSweeper"  # as conf/hydra/sweeper/optuna.yaml names it
SAMPLERS = ("tpe", "random", "gp")
PRUNERS = ("median", "hyperband", "none")
DIRECTIONS = ("auto", "minimize", "maximize")
USUAL_MONITORS = {"landmarks": "mre_px", "classification": "macro_f1", "regression": "mae"}


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    n_trials: int
    n_jobs: int
    sampler: str
    seed: int | None
    startup_trials: int
    direction: str
    pruner: str
    pruner_startup_trials: int
    pruner_warmup_epochs: int
    pruner_reduction_factor: int

    @classmethod
    def read(cls, sweeper: Mapping[str, Any]) -> StudySettings:
        """From the node hydra.sweeper.

        Raises:
            ValueError: a value is not possible; names the key.
        """
        settings = cls(**{field.name: sweeper[field.name] for field in fields(cls)})
        settings._check()
        return settings

    def _check(self) -> None:
        for key, choices in (("sampler", SAMPLERS), ("pruner", PRUNERS), ("direction", DIRECTIONS)):
            _check_choice(key, getattr(self, key), choices)
        for key, least in (
            ("n_trials", 1),
            ("n_jobs", 1),
            ("startup_trials", 0),
            ("pruner_startup_trials", 0),
            ("pruner_warmup_epochs", 0),
            ("pruner_reduction_factor", 2),
        ):
            check_whole(key, getattr(self, key), least)
        if self.seed is not None:
            check_whole("seed", self.seed, 0)


def direction_of(configs: Sequence[TrainConfig], asked: str) -> str:
    """minimize or maximize, from the configs of a few jobs of the study and hydra.sweeper.direction.

    Raises:
        ValueError: the jobs are judged by different metrics, or train nothing; or the task is a user's own, of whose
            metrics the better end is known only once a job runs.
    """
    from trainer.comparison.runs import higher_is_better  # imports pandas

    judged = {}
    for config in configs:
        if config.range_test.kind == "only":
            raise ValueError("range_test=only trains nothing that a study could judge; choose range_test=on or off")
        monitor = config.task.monitor or USUAL_MONITORS.get(config.task.kind, "val_loss")
        judged[config.task.kind, monitor] = higher_is_better(config.task.kind, monitor)
    if len(judged) > 1:
        told = " and ".join(f"task={task} by {monitor}" for task, monitor in judged)
        raise ValueError(
            f"a study has one objective, but its runs are judged as {told}; give task and task.monitor one value"
        )
    if asked != "auto":
        return asked
    own = next((task for task, _ in judged if task not in USUAL_MONITORS), None)
    if own is not None:
        raise ValueError(f"task={own} is your own; say hydra.sweeper.direction=minimize or maximize")
    return "maximize" if True in judged.values() else "minimize"


def _check_choice(key: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"hydra.sweeper.{key}={_shown(value)} is not one of {', '.join(choices)}")


def check_whole(key: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < math.inf:
        raise ValueError(f"hydra.sweeper.{key}={_shown(value)} must be a whole number, {least} or more")


def _shown(value: Any) -> Any:
    return "null" if value is None else value
