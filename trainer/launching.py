"""Launchers of a sweep: Hydra's own in this process, or those of plugins, whose jobs run in processes of their own."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from types import FrameType
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, flag_override

from trainer.command_line import SCRIPT
from trainer.errors import TrainingError
from trainer.launched_job import STOP, JobConfigs, JobStoppedError, LaunchedJob
from trainer.launcher_kinds import KINDS, Kind
from trainer.launcher_machine import THREADS, checked_count, shared_machine, start_ray
from trainer.stopping import NAMES, STDERR, Stopped

JOIN_SECONDS = 0.1
WRONG_OPTION = (AssertionError, TypeError, ValueError)  # of a launcher, raised where it starts the jobs
HYDRA_OWN = "hydra._internal.core_plugins."


def job_launcher(*, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> Launcher:
    """The launcher that hydra/launcher chose.

    Raises:
        ValueError: it can't be had here.
    """
    target = str(config.hydra.launcher._target_)
    plugins = Plugins.instance()
    name = target.rpartition(".")[2]
    if target.startswith(HYDRA_OWN) or name not in KINDS:
        return plugins.instantiate_launcher(hydra_context, task_function, config)
    kind, chosen = KINDS[name], config.hydra.runtime.choices["hydra/launcher"]
    if target not in plugins.class_name_to_class or importlib.util.find_spec(kind.package) is None:
        raise ValueError(
            f'hydra/launcher={chosen} needs packages that are not installed: pip install "trainer[{kind.extra}]"'
        )
    if name == "SlurmLauncher" and shutil.which("srun") is None:
        raise ValueError(
            f"hydra/launcher={chosen}: there is no srun here; start the sweep on a login node of a SLURM cluster, "
            "or take hydra/launcher=submitit_local"
        )
    separate = SeparateJobs(name, kind, hydra_context, config)
    if name == "JoblibLauncher" and separate.jobs_at_once == 1:  # it would run them in this process, and change it
        here = BasicLauncher()
        here.setup(hydra_context=hydra_context, task_function=task_function, config=config)
        return here
    return separate


class SeparateJobs(Launcher):
    """Jobs in processes of their own.

    Signals are kept from them, and handed on by a file in the folder of the sweep: once asked, they save and end.
    """

    def __init__(self, name: str, kind: Kind, hydra_context: HydraContext, config: DictConfig) -> None:
        self._name, self._kind = name, kind
        self._options: dict[str, Any] = OmegaConf.to_container(config.hydra.launcher, resolve=False)  # type: ignore[assignment]
        self.jobs_at_once = checked_count(self._options.get("n_jobs")) if kind.here else None
        self._signum: int | None = None
        self._plugin: Launcher | None = None
        self.setup(hydra_context=hydra_context, task_function=lambda _: None, config=config)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._context, self._config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """What the jobs came to; first to last, from `initial_job_idx` on.

        Raises:
            Stopped: by a signal, to this process or to a job.
            TrainingError: processes of jobs died, and the launcher gave up.
        """
        stop = self._sweep / STOP
        self._sweep.mkdir(parents=True, exist_ok=True)
        stop.unlink(missing_ok=True)
        try:
            if self._plugin is None:
                self._plugin = self._instantiated()
            with self._handing_on_signals(stop):
                ended = self._launch(self._plugin, job_overrides, initial_job_idx)
        except self._lost as error:
            if self._signum is not None:  # its processes were busy starting
                raise Stopped(self._signum, at_once=True) from None
            raise TrainingError(f"{self._told(error)}; sweep.resume=true goes on with the jobs that were cut") from None
        except WRONG_OPTION as error:
            raise self._refused(error) from error
        except Stopped:
            raise
        except KeyboardInterrupt:  # of Ray, in the place of ours
            raise Stopped(self._signum or signal.SIGINT, at_once=True) from None
        finally:
            stop.unlink(missing_ok=True)
        stopped = [job._return_value.signum for job in ended if isinstance(job._return_value, JobStoppedError)]
        if stopped or self._signum is not None:
            raise Stopped(self._signum or stopped[0], at_once=False)
        return ended

    @property
    def _sweep(self) -> Path:
        return Path(str(self._config.hydra.sweep.dir)).absolute()

    @property
    def _lost(self) -> tuple[type[Exception], ...]:
        found = []
        for path in self._kind.lost:
            module, _, name = path.rpartition(".")
            found.append(getattr(importlib.import_module(module), name))
        return tuple(found)

    def _told(self, error: Exception) -> str:
        return f"{self._chosen} gave up: {_first_line(error)}"

    def _refused(self, error: Exception) -> ValueError:
        """Of what a launcher raises where one of its options is of the wrong type."""
        return ValueError(f"{self._chosen}: {_first_line(error)}")

    @property
    def _chosen(self) -> str:
        return f"hydra/launcher={self._config.hydra.runtime.choices['hydra/launcher']}"

    def _launch(self, plugin: Launcher, jobs: Sequence[Sequence[str]], first: int) -> Sequence[JobReturn]:
        if self._name == "LocalLauncher":
            return self._one_by_one(plugin, jobs, first)
        return plugin.launch(jobs, initial_job_idx=first)

    def _one_by_one(self, plugin: Launcher, jobs: Sequence[Sequence[str]], first: int) -> Sequence[JobReturn]:
        """Each launched alone, so many at once, of a launcher that would start all at once."""
        waiting = deque(range(len(jobs)))
        ended = [JobReturn(status=JobStatus.FAILED) for _ in jobs]

        def work() -> None:
            with suppress(IndexError):
                while True:
                    place = waiting.popleft()
                    ended[place] = self._launch_one(plugin, jobs[place], first + place)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(self.jobs_at_once or 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(JOIN_SECONDS)  # in between, signals are heard
        return ended

    def _launch_one(self, plugin: Launcher, overrides: Sequence[str], number: int) -> JobReturn:
        failed = JobReturn(overrides=overrides, status=JobStatus.FAILED)
        try:
            if self._signum is not None:
                raise JobStoppedError(self._signum)
            (ended,) = plugin.launch([overrides], initial_job_idx=number)
        except self._lost as error:
            failed.return_value = TrainingError(self._told(error))
        except WRONG_OPTION as error:
            failed.return_value = self._refused(error)
        except Exception as error:
            failed.return_value = error
        else:
            return ended
        return failed

    @contextmanager
    def _handing_on_signals(self, stop: Path) -> Iterator[None]:
        """The first asks the jobs to stop, the second leaves at once. Jobs of a cluster go on without the sweep."""
        if not self._kind.here or threading.current_thread() is not threading.main_thread():
            yield
            return

        def receive(signum: int, frame: FrameType | None) -> None:
            if self._signum is not None:
                raise Stopped(signum, at_once=True)
            self._signum = signum
            with suppress(OSError):
                stop.touch()
            name = NAMES[signal.Signals(signum)]
            with suppress(OSError):  # whoever read it may be gone
                os.write(STDERR, f"\n{name}: the jobs save and stop; {name} again leaves at once\n".encode())

        before = {number: signal.signal(number, receive) for number in NAMES}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _instantiated(self) -> Launcher:
        """The plugin's launcher, with what it knows of its options, and a task that can travel."""
        config = deepcopy(self._config)
        options: dict[str, Any] = OmegaConf.to_container(config.hydra.launcher, resolve=True)  # type: ignore[assignment]
        environment: dict[str, str | None] = {SCRIPT: os.environ[SCRIPT]} if SCRIPT in os.environ else {}
        if self._kind.here:
            environment |= shared_machine(options, self.jobs_at_once or 1)
        elif options.get("cpus_per_task"):
            environment[THREADS] = str(options["cpus_per_task"])
        if self._name == "JoblibLauncher":
            options["n_jobs"] = self.jobs_at_once
        else:
            options.pop("n_jobs", None)
        if self._name == "RayLauncher":
            start_ray(options["ray"], self.jobs_at_once or 1)
        if not self._kind.one_terminal:
            print(f"what the jobs print: {_shown(self._sweep / '.submitit')}/*/*_log.out", flush=True)
        with flag_override(config, ["struct", "readonly"], [False, False]):
            config.hydra.launcher = options
        job = LaunchedJob(
            sweep=str(self._sweep),
            sweeper=None if self._may_be_elsewhere(options) else os.getpid(),
            environment=environment,
            labelled=self._kind.one_terminal,
        )
        context = HydraContext(JobConfigs(self._context.config_loader), self._context.callbacks)  # type: ignore[arg-type]
        return Plugins.instance().instantiate_launcher(context, job, config)

    def _may_be_elsewhere(self, options: dict[str, Any]) -> bool:
        """Whether jobs may run where the process of the sweep can't be seen; the cluster ends them, or lets them be."""
        return not self._kind.here or (options.get("ray") or {}).get("init", {}).get("address") not in (None, "local")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _shown(path: Path) -> str:
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
