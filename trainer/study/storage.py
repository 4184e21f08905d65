"""The study of a sweep as Optuna keeps it: a journal in the sweep's directory, that several processes write to."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from trainer.study.settings import StudySettings
from trainer.sweep import FAILED, FINISHED, PRUNED, Outcome

JOURNAL = "study.journal"
NAME = "sweep"  # of the study; brackets of hyperband are drawn by it, so that all sweeps draw the same

optuna.logging.set_verbosity(optuna.logging.WARNING)


def create_study(sweep: Path, direction: str) -> Study:
    return _created(sweep / JOURNAL, direction)


def open_study(sweep: Path, pruner: BasePruner) -> Study:
    """As a job does, which asks for no trial."""
    return optuna.load_study(study_name=NAME, storage=_storage(sweep / JOURNAL), sampler=RandomSampler(), pruner=pruner)


def open_trial(study: Study, number: int) -> Trial:
    return Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)


def read_trials(sweep: Path, names: Collection[str]) -> list[FrozenTrial]:
    """The trials of a sweep that no process works on, but for one that was being asked for when it was cut.

    `names`: of all parameters of a trial.

    Raises:
        ValueError: the journal was damaged before its last line.
    """
    path = sweep / JOURNAL
    written = path.read_bytes() if path.exists() else b""
    whole = written[: written.rfind(b"\n") + 1]  # the last line may have been cut as well
    if whole != written:
        path.write_bytes(whole)
    if not whole:
        return []
    _lock_file(path).unlink(missing_ok=True)  # of a process that was killed in the moment in which it wrote
    try:
        trials = open_study(sweep, NopPruner()).trials
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); put a copy of it in its place, or begin a new study, without "
            "sweep.resume=true"
        ) from error
    return list(takewhile(lambda trial: trial.params.keys() == set(names), trials))


def rewrite_study(
    sweep: Path, direction: str, trials: Sequence[FrozenTrial], outcomes: Sequence[Outcome | None]
) -> Study:
    """The study of these trials, ended as the jobs say; those that failed or were cut are to run again."""
    aside = sweep / f".{JOURNAL}"
    aside.unlink(missing_ok=True)
    study = _created(aside, direction)
    for trial, outcome in zip(trials, outcomes, strict=True):
        study.add_trial(_as_its_job_says(trial, outcome))
    aside.replace(sweep / JOURNAL)
    return open_study(sweep, NopPruner())


def build_sampler(settings: StudySettings, number: int) -> BaseSampler:
    """For one trial: drawn by the seed and the trial's number, so that a study which was cut asks as an uncut one."""
    seed = None
    if settings.seed is not None:
        seed = int(np.random.SeedSequence([settings.seed, number]).generate_state(1)[0])
    if settings.sampler == "random":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if settings.sampler == "gp":
            return GPSampler(seed=seed, n_startup_trials=settings.startup_trials)
        return TPESampler(seed=seed, n_startup_trials=settings.startup_trials, constant_liar=settings.n_jobs > 1)


def build_pruner(settings: StudySettings) -> BasePruner:
    """Its steps are epochs of the run, counted from 1."""
    if settings.pruner == "none":
        return NopPruner()
    if settings.pruner == "hyperband":
        return HyperbandPruner(
            min_resource=max(1, settings.pruner_warmup_epochs), reduction_factor=settings.pruner_reduction_factor
        )
    return MedianPruner(
        n_startup_trials=settings.pruner_startup_trials, n_warmup_steps=settings.pruner_warmup_epochs + 1
    )


def tell(study: Study, number: int, outcome: Outcome | None) -> None:
    """Say what a trial came to; nothing of one that was cut."""
    if outcome is None:
        return
    if outcome.state == PRUNED:
        study.tell(number, state=TrialState.PRUNED)
    elif outcome.state == FAILED or (outcome.state == FINISHED and outcome.value is None):
        study.tell(number, state=TrialState.FAIL)
    elif outcome.state == FINISHED:
        study.tell(number, outcome.value)


def _as_its_job_says(trial: FrozenTrial, outcome: Outcome | None) -> FrozenTrial:
    state, value = TrialState.RUNNING, None
    if outcome is not None and outcome.state == FINISHED:
        state, value = (TrialState.COMPLETE, outcome.value) if outcome.value is not None else (TrialState.FAIL, None)
    elif outcome is not None and outcome.state == PRUNED:
        state, value = TrialState.PRUNED, _last_value(trial)
    return create_trial(
        state=state,
        value=value,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values=trial.intermediate_values,
    )


def _last_value(trial: FrozenTrial) -> float | None:
    """As Optuna has it of a pruned trial."""
    last = trial.intermediate_values.get(trial.last_step) if trial.last_step is not None else None
    return None if last is None or math.isnan(last) else last


def _created(path: Path, direction: str) -> Study:
    return optuna.create_study(
        storage=_storage(path), study_name=NAME, direction=StudyDirection[direction.upper()], pruner=NopPruner()
    )


def _storage(path: Path) -> JournalStorage:
    full = str(path.absolute())
    return JournalStorage(JournalFileBackend(full, JournalFileOpenLock(full)))


def _lock_file(path: Path) -> Path:
    """That JournalFileOpenLock makes, for the moment in which it writes."""
    return path.with_name(f"{path.name}.lock")
