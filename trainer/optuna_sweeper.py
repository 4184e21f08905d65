"""The sweep that searches: Optuna asks for the next jobs by what the ones before them came to, and prunes poor ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from trainer.config.run import TrainConfig
from trainer.exit_codes import FAULTS
from trainer.launching import SeparateJobs
from trainer.study.settings import StudySettings, direction_of
from trainer.sweep_jobs import (
    Job,
    JobSweeper,
    check_is_sweep,
    compose_job,
    given_params,
    launch_jobs,
    note_refusals,
    opened_sweep,
    print_list,
    raise_failures,
    sum_up,
    typed_config,
)

if TYPE_CHECKING:
    from optuna.study import Study

    from trainer.study.space import Space


class OptunaSweeper(JobSweeper):
    """A study in which each job is a trial of the same number; what it came to is told once it has ended."""

    def __init__(self, params: dict[str, str] | None, settings: Any = None, **of_study: Any) -> None:
        self.params = params
        self.settings = settings
        self.of_study = of_study

    def sweep(self, arguments: list[str]) -> None:
        """Run trials until there are as many as were asked for.

        Raises:
            ValueError: the study as a whole is impossible; nothing was made.
            JobsFailedError: trials failed.
        """
        check_is_sweep(self.config)
        _check_installed()
        from trainer.study.summary import summarize

        settings = self._read_settings()
        space = self._read_space([*given_params(self.params), *arguments])
        direction = direction_of(self._sound_examples(space), settings.direction)
        for sentence in [*space.advice(settings.n_trials), *self._advice(settings.n_jobs)]:
            print(f"advice: {sentence}", flush=True)
        jobs: list[Job] = []
        with opened_sweep(self.config) as sweep:
            try:
                study = self._open(sweep, direction, space, jobs)
                self._finish(study, sweep, jobs, settings.n_jobs)
                self._ask(study, sweep, space, jobs, settings)
                sum_up(sweep, jobs)
            finally:
                outcomes = [job.outcome(sweep) for job in jobs]
                if jobs:
                    print_list(sweep, jobs, outcomes)
            summarize(study, sweep, jobs)
        raise_failures(sweep, jobs, outcomes)

    def _read_settings(self) -> StudySettings:
        if self.settings is not None:
            raise ValueError(
                "hydra.sweeper.settings is a list of settings for hydra/sweeper=grid; a study has no use for it"
            )
        return StudySettings.read(self.of_study)

    def _advice(self, n_jobs: int) -> list[str]:
        at_once = self.launcher.jobs_at_once if isinstance(self.launcher, SeparateJobs) else None
        if n_jobs > 1 or at_once is None or at_once == 1:
            return []
        chosen = self.config.hydra.runtime.choices["hydra/launcher"]
        told = f"hydra/launcher={chosen} runs {at_once} jobs at once, of which the study asks for one"
        return [f"{told}; hydra.sweeper.n_jobs={at_once} fills it"]

    def _read_space(self, arguments: Sequence[str]) -> Space:
        from trainer.study.space import read_space

        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return read_space(parser.parse_overrides(list(arguments)))

    def _sound_examples(self, space: Space) -> list[TrainConfig]:
        """Configs of a few points of the space; raises the fault of the first where none is sound."""
        loader = self.hydra_context.config_loader
        sound, faults = [], []
        for params in space.examples():
            try:
                sound.append(typed_config(loader.load_sweep_config(self.config, space.overrides(params))))
            except FAULTS as fault:
                faults.append(fault)
        if not sound:
            raise faults[0]
        return sound

    def _open(self, sweep: Path, direction: str, space: Space, jobs: list[Job]) -> Study:
        """The study, and into `jobs` those of the trials that it has already."""
        from trainer.study.storage import create_study, read_trials, rewrite_study

        if not self.config.sweep.resume:
            return create_study(sweep, direction)
        trials = read_trials(sweep, space.distributions)
        jobs += [self._job(number, space, trial.params) for number, trial in enumerate(trials)]
        return rewrite_study(sweep, direction, trials, [job.outcome(sweep) for job in jobs])

    def _finish(self, study: Study, sweep: Path, jobs: Sequence[Job], n_jobs: int) -> None:
        """Run the trials that were cut, or failed."""
        left = [jobs[trial.number] for trial in study.trials if not trial.state.is_finished()]
        for start in range(0, len(left), n_jobs):
            self._run(study, sweep, left[start : start + n_jobs])

    def _ask(self, study: Study, sweep: Path, space: Space, jobs: list[Job], settings: StudySettings) -> None:
        from trainer.study.storage import build_sampler

        while len(jobs) < settings.n_trials:
            batch = []
            for _ in range(min(settings.n_jobs, settings.n_trials - len(jobs))):
                study.sampler = build_sampler(settings, len(jobs))
                trial = study.ask(space.distributions)
                batch.append(self._job(trial.number, space, trial.params))
                jobs.append(batch[-1])
            self._run(study, sweep, batch)

    def _run(self, study: Study, sweep: Path, batch: list[Job]) -> None:
        from trainer.study.storage import tell

        note_refusals(sweep, batch)
        launch_jobs(self.launcher, batch, sweep)
        for job in batch:
            tell(study, job.number, job.outcome(sweep))

    def _job(self, number: int, space: Space, params: dict[str, Any]) -> Job:
        return compose_job(self.hydra_context.config_loader, self.config, number, space.overrides(params))


def _check_installed() -> None:
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise ValueError(
            'hydra/sweeper=optuna needs Optuna, which is not installed: pip install "trainer[optuna]"'
        ) from None
