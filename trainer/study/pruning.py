"""What a job of a study tells it of each validation, from whichever process it runs in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hydra.conf import HydraConf

from trainer.stopping import Pruning
from trainer.study.settings import SWEEPER, StudySettings

if TYPE_CHECKING:
    from optuna.trial import Trial


class TrialPruning:
    """The trial of a job, in the journal of its study."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._mode = "max" if trial.study.direction.name == "MAXIMIZE" else "min"

    def report(self, epoch: int, value: float, mode: str) -> bool:
        """As trainer.stopping.Pruning has it; what a resumed run tells again changes nothing."""
        if mode != self._mode:
            raise ValueError(
                f"the study looks for the {'highest' if self._mode == 'max' else 'lowest'} value, but what this run "
                f"monitors is better the {'higher' if mode == 'max' else 'lower'} it is; begin a study with "
                f"hydra.sweeper.direction={mode}imize"
            )
        if epoch not in self._trial.storage.get_trial(self._trial._trial_id).intermediate_values:
            self._trial.report(value, epoch)
        return bool(self._trial.should_prune())


def study_of_job(hydra_config: HydraConf) -> Pruning | None:
    """What prunes the job that Hydra runs; None where no study asked for it."""
    sweeper = hydra_config.sweeper
    if sweeper.get("_target_") != SWEEPER:
        return None
    from trainer.study.storage import build_pruner, open_study, open_trial  # imports Optuna

    study = open_study(Path(hydra_config.sweep.dir), build_pruner(StudySettings.read(sweeper)))
    return TrialPruning(open_trial(study, int(hydra_config.job.num)))
