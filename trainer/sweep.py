"""The directory of a sweep: what was typed for it, and what each of its jobs came to."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.command_line import command
from trainer.run_dir import write_json
from trainer.sweep_table import RECORD, note_in_table

ROOT = Path("multirun")
MAX_LISTED = 5

BEGUN, FINISHED, PRUNED, FAILED = "begun", "finished", "pruned", "failed"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a job came to so far."""

    state: str  # BEGUN, FINISHED, PRUNED or FAILED
    overrides: list[str]
    value: float | None = None  # the best of the monitored metric; None where it is not a number
    reason: str | None = None  # of a failure
    exit_code: int | None = None  # that the run alone would have ended with


class JobRecord:
    """The file job.json in a job's folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "job.json"

    def read(self) -> Outcome | None:
        """None where the job was not begun.

        Raises:
            ValueError: the file was damaged.
        """
        if not self.path.exists():
            return None
        try:
            return Outcome(**json.loads(self.path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{self.path} is damaged ({error}); without it the job goes on from its checkpoint"
            ) from None

    def note_begun(self, overrides: list[str]) -> None:
        self._write(Outcome(state=BEGUN, overrides=overrides))

    def note_finished(self, overrides: list[str], value: float) -> None:
        self._note_value(FINISHED, overrides, value)

    def note_pruned(self, overrides: list[str], value: float) -> None:
        self._note_value(PRUNED, overrides, value)

    def note_failure(self, overrides: list[str], reason: str, exit_code: int) -> None:
        with suppress(OSError):  # a full disk; the sweep tells it at its end
            self._write(Outcome(state=FAILED, overrides=overrides, reason=reason, exit_code=exit_code))
            note_in_table(self.path.parent)

    def remove(self) -> None:
        """Take the file away, and its folder if it held nothing else."""
        self.path.unlink(missing_ok=True)
        if self.path.parent.is_dir() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()

    def _note_value(self, state: str, overrides: list[str], value: float) -> None:
        self._write(Outcome(state=state, overrides=overrides, value=value if math.isfinite(value) else None))
        note_in_table(self.path.parent)

    def _write(self, outcome: Outcome) -> None:
        write_json(self.path, {key: value for key, value in asdict(outcome).items() if value is not None})


def without_resume(overrides: Iterable[str]) -> list[str]:
    """The overrides that say what is run."""
    return [text for text in overrides if not text.lstrip("+").startswith("sweep.resume=")]


def typed_for(overrides: Any) -> list[str]:
    """What of Hydra's record of a command (hydra.overrides) decides which jobs it has, in which order.

    How many trials a study has is not of it: a study may be given more.
    """
    typed: Any = OmegaConf.to_container(overrides, resolve=False)  # ${...} as they stand
    given = [text for text in typed["hydra"] if text.lstrip("+").startswith(("hydra.sweeper", "hydra/sweeper"))]
    of_sweeper = [text for text in given if not text.lstrip("+").startswith("hydra.sweeper.n_trials=")]
    return [*of_sweeper, *without_resume(typed["task"])]


def find_sweep(typed: list[str]) -> Path:
    """The newest sweep below multirun/ that was started by the same command.

    Raises:
        ValueError: there is none; names the newest of those that there are.
    """
    folders = sorted((file.parent for file in ROOT.glob(f"*/*/{RECORD}")), key=_by_number, reverse=True)
    for folder in folders:
        if _typed_in(folder) == typed:
            return folder
    there = "; ".join(f"{folder}: {_shown_command(folder)}" for folder in folders[:MAX_LISTED])
    more = f"; and {len(folders) - MAX_LISTED} older" if len(folders) > MAX_LISTED else ""
    raise ValueError(
        f"sweep.resume=true: no sweep below {ROOT.absolute()} was started with "
        f"{shlex.join(typed) or 'no overrides'}; "
        + (f"give the overrides of one of these, in their order: {there}{more}" if there else "there is none at all")
    )


def check_started_by(folder: Path, typed: list[str]) -> None:
    """Raises ValueError where `folder` is not the sweep that this command started, here."""
    if not (folder / RECORD).is_file():
        raise ValueError(f"sweep.resume=true: {folder} is not the directory of a sweep: it has no {RECORD}")
    if _typed_in(folder) != typed:
        raise ValueError(
            f"sweep.resume=true: {folder} was started with other overrides; give them in their order: "
            f"{_shown_command(folder)}"
        )
    started_in = str(OmegaConf.select(_record(folder), "hydra.runtime.cwd"))
    if os.path.isdir(started_in) and not os.path.samefile(started_in, os.curdir):
        raise ValueError(f"sweep.resume=true: {folder} was started in {started_in}; go on with it from there")


def sweep_command(arguments: list[str]) -> str:
    """What goes on with the sweep that these arguments started."""
    kept = without_resume(arguments)
    last = max((place for place, text in enumerate(kept) if "=" in text and not text.startswith("-")), default=-1)
    typed = shlex.join([*kept[: last + 1], "sweep.resume=true", *kept[last + 1 :]])
    return f"{command('python')} {typed}"


def shown_state(outcome: Outcome | None) -> str:
    if outcome is None:
        return "waiting"
    if outcome.state == FAILED:
        return f"failed: {outcome.reason}"
    if outcome.state == BEGUN:
        return "cut"
    return outcome.state if outcome.value is None else f"{outcome.state} {outcome.value:.6g}"


def _record(folder: Path) -> DictConfig:
    loaded = OmegaConf.load(folder / RECORD)
    assert isinstance(loaded, DictConfig)
    return loaded


def _typed_in(folder: Path) -> list[str] | None:
    """None where the record can't be read."""
    try:
        return typed_for(OmegaConf.select(_record(folder), "hydra.overrides"))
    except (yaml.YAMLError, OmegaConfBaseException, AssertionError, LookupError, TypeError, ValueError):
        return None


def _shown_command(folder: Path) -> str:
    typed = _typed_in(folder)
    return f"its {RECORD} can't be read" if typed is None else shlex.join(typed)


def _by_number(folder: Path) -> list[str | int]:
    """An order in which 10-31-05_10 comes after 10-31-05_9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(folder))]
