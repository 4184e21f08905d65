"""A job of a sweep in a process of its own: what travels there, and how it is told to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from data.errors import DataError
from trainer.errors import TrainingError
from trainer.exit_codes import EXIT_CONFIG, EXIT_DATA, EXIT_TRAINING, exit_code
from trainer.fault_message import fault_message
from trainer.labelled_lines import labelled_output
from trainer.run_lock import RunInUseError
from trainer.stopping import Stopped, StopRequest

STOP = ".stop"  # a file in the folder of the sweep: its jobs are to save and stop
LOOK_SECONDS = 0.3
OFFERED = ("joblib", "submitit_local", "submitit_slurm", "ray")  # in conf/hydra/launcher
SENT_AS: Mapping[int, Callable[[str], Exception]] = {
    EXIT_CONFIG: ValueError,
    EXIT_DATA: DataError,
    EXIT_TRAINING: TrainingError,
}


class JobStoppedError(Exception):
    """The job was asked to stop; what it did so far is saved."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class JobBugError(RuntimeError):
    """What nobody expected of a job; its notes are the traceback there."""


@dataclass(frozen=True)
class JobConfigs:
    """Of Hydra's loader of configs what launchers use, in the process of a job."""

    loader: ConfigLoader

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        forget_plugin_configs()  # Hydra has looked for plugins anew there
        return self.loader.load_sweep_config(master_config, sweep_overrides)


def forget_plugin_configs() -> None:
    """Take away the configs that plugins bring under the names of conf/hydra/launcher.

    Hydra would take them for the schemas of ours, which have keys besides, and warn.
    """
    choices = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for name in OFFERED:
        choices.pop(f"{name}.yaml", None)


@dataclass(frozen=True, kw_only=True)
class LaunchedJob:
    """Hydra's task function where jobs run in processes of their own.

    `sweep`: its folder. `sweeper`: the process that the job is not to outlive; None if it may. `environment`: variables
    to set, None to take away, before torch is imported. `labelled`: several jobs write to one terminal.
    """

    sweep: str
    sweeper: int | None
    environment: Mapping[str, str | None]
    labelled: bool

    def __call__(self, composed: DictConfig) -> float | None:
        """Train as the one process of a sweep does.

        Raises:
            JobStoppedError: as asked.
            Exception: a fault that can be sent to another process, with the message and exit code of the one met.
        """
        _set(self.environment)
        from trainer.__main__ import prepare, run  # registers what configs refer to

        prepare()
        if os.getpid() == self.sweeper:  # joblib, where it can't start processes
            return self._in_the_sweep(run, composed)
        job = HydraConfig.get().job.num
        folder = Path(HydraConfig.get().runtime.output_dir)
        with suppress(OSError):
            os.setsid()  # Ctrl-C reaches the sweep alone, which tells its jobs once
        begun_by = os.getppid()
        composed.sweep.resume = True  # it may have been put back into a queue; a sweep that others began was refused
        try:
            with ExitStack() as held:
                if self.labelled:
                    held.enter_context(labelled_output(f"[{job}] "))
                held.enter_context(StopRequest().listening())
                held.enter_context(_requeued_once_saved())
                held.enter_context(self._told_to_stop(begun_by))
                value: float | None = run(composed)
                return value
        except Stopped as stopped:
            if self._is_orphaned(begun_by):
                _leave(stopped.exit_code)
            raise JobStoppedError(stopped.exit_code - 128) from None
        except Exception as error:
            raise _portable(error) from None
        finally:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _in_the_sweep(self, run: Callable[[DictConfig], float | None], composed: DictConfig) -> float | None:
        """The job under the signals of the sweep, whose process this is; Stopped, if one comes, ends both."""
        if Path(self.sweep, STOP).exists():  # it came between two jobs
            raise JobStoppedError(signal.SIGTERM)
        return run(composed)

    @contextmanager
    def _told_to_stop(self, begun_by: int) -> Iterator[None]:
        """SIGTERM for this process once the sweep is to stop, or is no more. `begun_by`: the parent of this process."""
        ended, main = threading.Event(), threading.main_thread().ident

        def look() -> None:
            while not self._is_over(begun_by):
                if ended.wait(LOOK_SECONDS):
                    return
            if main is not None:
                signal.pthread_kill(main, signal.SIGTERM)

        if self._is_over(begun_by):
            raise Stopped(signal.SIGTERM, at_once=True)
        watch = threading.Thread(target=look, daemon=True)
        watch.start()
        try:
            yield
        finally:
            ended.set()
            watch.join()

    def _is_over(self, begun_by: int) -> bool:
        return Path(self.sweep, STOP).exists() or self._is_orphaned(begun_by)

    def _is_orphaned(self, begun_by: int) -> bool:
        return self.sweeper is not None and (os.getppid() != begun_by or not _is_alive(self.sweeper))


def _set(environment: Mapping[str, str | None]) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def _requeued_once_saved() -> Iterator[None]:
    """Before its time on a cluster is up, submitit signals the job and, there and then, puts it back into the queue.
    Here the run is saved first."""
    number = getattr(signal, "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2"))
    requeue: Any = signal.getsignal(number)
    if not callable(requeue):
        yield
        return
    asked = False

    def ask(signum: int, frame: Any) -> None:
        nonlocal asked
        asked = True
        signal.raise_signal(signal.SIGTERM)

    signal.signal(number, ask)
    try:
        yield
    except Stopped:
        if asked:
            try:
                requeue(number, None)  # ends this process, or raises where it was in the queue too often
            except RuntimeError as refused:
                print(f"stopped: {refused}", file=sys.stderr)
        raise
    finally:
        signal.signal(number, requeue)


def _leave(code: int) -> NoReturn:
    """End this process, which has nobody to report to and might wait for further jobs."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # whoever read it may be gone
            stream.flush()
    os._exit(code)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _portable(error: Exception) -> Exception:
    """The same fault in a class that every process can unpickle."""
    if isinstance(error, RunInUseError):
        return RunInUseError(str(error))
    kind = SENT_AS.get(exit_code(error))
    if kind is not None:
        return kind(fault_message(error))
    bug = JobBugError(f"{type(error).__name__}: {error}")
    bug.add_note("".join(traceback.format_exception(error)))
    return bug
