"""Commands to paste, quoted for Hydra and for the shell."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

SCRIPT = "TRAINER_SCRIPT"  # set while a user's script is the command: its path, or the name of its module
PLAIN_VALUE = re.compile(r"[A-Za-z0-9_./:+%@?|\-]+")


def launcher() -> str:
    """What stands before -m: python, or torchrun with as many processes as this one was started with."""
    count, local_count = (os.environ.get(name, "1") for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if count == "1":
        return "python"
    if local_count == count:
        return f"torchrun --nproc-per-node={count}"
    return f"torchrun --nnodes={int(count) // int(local_count)} --nproc-per-node={local_count}"


def command(launched_by: str | None = None) -> str:
    """What trains: python -m trainer, or the user's script that is the command in its place."""
    script = os.environ.get(SCRIPT)
    started = launched_by or launcher()
    return f"{started} -m trainer" if script is None else own_command(script, started)


def verb_command(verb: str) -> str:
    """What else there is to run, such as python -m trainer.predict."""
    script = os.environ.get(SCRIPT)
    return f"python -m trainer.{verb}" if script is None else f"{own_command(script)} {verb}"


def own_command(script: str, launched_by: str = "python") -> str:
    """What runs a user's script; with `-m` where it was started by the name of its module."""
    return f"{launched_by} {shlex.quote(script)}" if script.endswith(".py") else f"{launched_by} -m {script}"


def resume_command(run_dir: Path) -> str:
    """What goes on with the run."""
    return f"{command()} {shlex.quote(override('resume', str(run_dir)))}"


def without_resume_of(overrides: Iterable[str]) -> list[str]:
    """The overrides but for resume=DIR."""
    return [text for text in overrides if not text.lstrip("+").startswith("resume=")]


def override(key: str, value: str) -> str:
    """key=value as one argument; the value is quoted where Hydra's grammar would read something else in it."""
    if PLAIN_VALUE.fullmatch(value):
        return f"{key}={value}"
    escaped = re.sub(r'(\\*)(")', r"\1\1\\\2", value)  # backslashes count before a quotation mark only
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped).replace("${", "\\${")
    return f'{key}="{escaped}"'
