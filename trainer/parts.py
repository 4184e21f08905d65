"""A user's own parts: `part` makes a dataclass of theirs a choice of the command line."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from traceback import walk_tb
from typing import Any, TypeVar, dataclass_transform

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from models.own_backbones import OWN_BACKBONES
from trainer.command_line import own_command
from trainer.config.data import DataConfig
from trainer.config.models import ModelConfig
from trainer.config.phases import OptimizerConfig
from trainer.config.schedules import SchedulerConfig
from trainer.config.schemas import SCHEMAS
from trainer.config.tasks import TaskConfig
from trainer.help import NO_PARTS
from trainer.part_choices import store_choice

BACKBONE = "backbone"  # no group of Hydra's: a value of model.backbone

# What the classes of a group must be.
_BASES: dict[str, type] = {
    "task": TaskConfig,
    "data": DataConfig,
    "model": ModelConfig,
    "optimizer": OptimizerConfig,
    "scheduler": SchedulerConfig,
}
Part = TypeVar("Part", bound=Callable[..., Any])


class PartError(ValueError):
    """A part that can't be one; the message begins with the file and line of the user's."""


@dataclass(frozen=True)
class Origin:
    """Where a part comes from."""

    file: str
    line: int
    name: str  # of the class

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


OWN: dict[tuple[str, str], Origin] = {}  # group and choice of every own part


@dataclass_transform(kw_only_default=True)
def part(**choice: str) -> Callable[[Part], Part]:
    """Makes the class below it a choice: `@part(model="mine")` is chosen by `model=mine`, `@part(scheduler="mine")` by
    `scheduler=mine`, of `task`, `data`, `model`, `optimizer` and `scheduler`.

    The class is made a dataclass, if it is none yet. Its fields are the keys, with their defaults; what it takes over
    from its parent and gives no default has that of the choice its parent is of. A module (or a function that makes
    one) under `@part(backbone="mine")` is chosen by `model.backbone=mine`.

    Raises PartError; in a script it is told in one line and ends the process with exit code 2.
    """
    frame = inspect.currentframe()
    caller = None if frame is None else frame.f_back
    assert caller is not None
    file, line = os.path.abspath(caller.f_code.co_filename), caller.f_lineno
    in_script = caller.f_globals.get("__name__") == "__main__" and "__file__" in caller.f_globals

    def register(given: Part) -> Part:
        origin = Origin(file, line, getattr(given, "__qualname__", type(given).__name__))
        with _told(origin, ends=in_script):
            group, name = _checked_choice(choice, given, origin)
            if group == BACKBONE:
                OWN_BACKBONES[name] = given
            else:
                assert isinstance(given, type)
                store_choice(group, name, given)
            OWN[group, name] = origin
        return given

    return register


def place_in_own(error: BaseException) -> str:
    """`file:line: ` of the innermost line of a user's own parts that a plain ValueError came through, else nothing."""
    if type(error) is not ValueError:  # all others are faults that were told on purpose, and name their place
        return ""
    own = {origin.file for origin in OWN.values()}
    places = [(os.path.abspath(at.f_code.co_filename), line) for at, line in walk_tb(error.__traceback__)]
    return next((f"{file}:{line}: " for file, line in reversed(places) if file in own), "")


def own_choices(config: Any) -> list[str]:
    """Of a composed config: what of it may be an own part, such as model=mine."""
    chosen = [f"{group}={OmegaConf.select(config, f'{group}.kind')}" for group in _BASES]
    for phase in ("frozen", "finetune"):
        chosen += [
            f"{group}={OmegaConf.select(config, f'phases.{phase}.{group}.kind')}"
            for group in ("scheduler", "optimizer")
        ]
    return [*dict.fromkeys(chosen), f"{BACKBONE}={OmegaConf.select(config, 'model.backbone')}"]


def registered() -> dict[str, str]:
    """Every own part, such as model=mine, with its file and line."""
    return {f"{group}={name}": str(origin) for (group, name), origin in OWN.items()}


def told_parts() -> str:
    """Lines for --help: the own parts, and where they come from; without any, where to read of them."""
    shown = [f"{choice} ({origin})" for choice, origin in registered().items()]
    return "\n".join(shown) or NO_PARTS


def check_parts_known(config: Any, environment: dict[str, Any], command: str) -> None:
    """Raises ValueError where a run was made with parts of a script that this process has not imported.

    `environment`: as the run wrote it down; `command`: what to give that script.
    """
    there, here = environment.get("own_parts", {}), registered()
    for choice in own_choices(config):
        if choice in there and choice not in here:
            script = environment.get("script")
            begin = f"the run was made with {choice} of {there[choice]}, which is not known here; "
            if script is None:
                raise ValueError(f"{begin}import that file first")
            raise ValueError(f"{begin}run {own_command(script)} {command} (in Python: import that file first)")


@contextmanager
def _told(origin: Origin, *, ends: bool) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, OmegaConfBaseException) as error:
        reason = str(error).strip().splitlines()[0]
        refused = PartError(f"{origin}: {reason}")
        if not ends:
            raise refused from None
        print(f"error: {refused}", file=sys.stderr)
        sys.exit(2)


def _checked_choice(choice: dict[str, str], given: Any, origin: Origin) -> tuple[str, str]:
    groups = ", ".join([*_BASES, BACKBONE])
    if len(choice) != 1:
        raise ValueError(f'part() takes one group with the name of the choice, such as part(model="mine"), of {groups}')
    ((group, name),) = choice.items()
    if group not in (*_BASES, BACKBONE):
        raise ValueError(f"{group} is not a group that can have own parts; it is one of {groups}")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise ValueError(f"{group}={name} is no name; take letters, digits and _")
    before = OWN.get((group, name))
    if before is not None and (before.file, before.name) != (origin.file, origin.name):
        raise ValueError(f"{group}={name} is taken by {before.name} of {before}; choose another name")
    if group == BACKBONE:
        if not callable(given):
            raise ValueError(f"{BACKBONE}={name} must be a class or function that makes an nn.Module")
        return group, name
    if before is None and name in SCHEMAS[group]:
        raise ValueError(f"{group}={name} is one of trainer's own; choose another name")
    base = _BASES[group]
    if not isinstance(given, type) or not issubclass(given, base):
        raise ValueError(f"{origin.name} must inherit from {_offered(group)} to be chosen by {group}={name}")
    if lacking := sorted(getattr(given, "__abstractmethods__", ())):
        shown = ", ".join(_signature(given, method) for method in lacking)
        raise ValueError(f"{origin.name} lacks {shown}")
    return group, name


def _offered(group: str) -> str:
    offered = {
        "task": "trainer.OwnClasses or trainer.OwnNumbers",
        "data": "trainer.OwnData",
        "model": "trainer.OwnDecoder, trainer.OwnPoints or trainer.OwnLabelHead",
        "scheduler": "trainer.OwnSchedule",
    }
    return offered.get(group, f"{_BASES[group].__module__}.{_BASES[group].__name__}")


def _signature(cls: type, method: str) -> str:
    wanted = inspect.getattr_static(cls, method)
    if isinstance(wanted, property):
        return f"the property {method}"
    return f"def {method}({', '.join(inspect.signature(wanted).parameters)})"
