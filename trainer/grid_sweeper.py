"""The sweep over every combination: Hydra's sweeper, but that a job which fails leaves the others alone, and that
settings with keys of their own can be swept over."""

from __future__ import annotations

import sys
from types import ModuleType

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from trainer.study.settings import check_whole
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
)
from trainer.sweep_settings import checked_settings, middle_rate, with_settings

PLUGIN_MODULE = "hydra_plugins.trainer"  # as the files in conf/hydra/sweeper name it


class GridSweeper(JobSweeper):
    """Every combination of the values given is a job; how many run at once is the launcher's business.

    What a job came to is on disk when it ends (trainer.sweep); a list of all jobs ends the sweep, however it ends.
    """

    def __init__(
        self, max_batch_size: int | None, params: dict[str, str] | None, settings: list[list[str]] | None
    ) -> None:
        self.max_batch_size = max_batch_size
        self.params = params
        self.settings = settings

    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs, or those of them that are left.

        Raises:
            ValueError: the sweep as a whole is impossible; nothing was made.
            JobsFailedError: jobs failed.
        """
        check_is_sweep(self.config)
        if self.max_batch_size is not None:
            check_whole("max_batch_size", self.max_batch_size, 1)
        jobs = self._compose([*given_params(self.params), *arguments])
        if all(job.fault is not None for job in jobs):
            assert jobs[0].fault is not None
            raise jobs[0].fault
        with opened_sweep(self.config) as sweep:
            note_refusals(sweep, jobs)
            try:
                launch_jobs(self.launcher, jobs, sweep, self.max_batch_size)
                sum_up(sweep, jobs)
            finally:
                outcomes = [job.outcome(sweep) for job in jobs]
                print_list(sweep, jobs, outcomes)
        raise_failures(sweep, jobs, outcomes)

    def _compose(self, arguments: list[str]) -> list[Job]:
        """The jobs, each with its folder, or with the fault of its config."""
        loader = self.hydra_context.config_loader
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(arguments)
        for override in overrides:
            if override.is_interval_sweep():
                raise ValueError(
                    f"{override.input_line}: an interval has no combinations; give values, as in 1e-3,1e-2, or let a "
                    "study search it by hydra/sweeper=optuna"
                )
        (combinations,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
        settings = checked_settings(self.settings)
        jobs = with_settings(settings, combinations, self.config)
        return [compose_job(loader, self.config, number, overrides) for number, overrides in enumerate(jobs)]


def register_sweeper() -> None:
    """Make the sweepers known to Hydra, which takes plugins from the package hydra_plugins alone.

    With them the resolver of a rate between two, for settings that are to be compared with cycles.
    """
    from trainer.optuna_sweeper import OptunaSweeper

    OmegaConf.register_new_resolver("middle_rate", middle_rate, replace=True)
    plugins = Plugins.instance()  # looks through that package first, where it is installed
    package, name = PLUGIN_MODULE.split(".")
    module = ModuleType(PLUGIN_MODULE)
    sys.modules.setdefault(package, ModuleType(package))
    sys.modules[PLUGIN_MODULE] = module
    setattr(sys.modules[package], name, module)
    for sweeper in (GridSweeper, OptunaSweeper):
        sweeper.__module__ = PLUGIN_MODULE
        setattr(module, sweeper.__name__, sweeper)
        plugins.register(sweeper)
