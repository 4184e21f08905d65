"""What the verbs beside training share as commands: one message per fault, exit codes, and a folder of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hydra._internal.utils import get_args_parser  # the parser that hydra.main uses; there is no public way to it
from omegaconf import DictConfig, OmegaConf

from trainer.__main__ import fail, prepare
from trainer.arguments import asks_for_help, check_arguments
from trainer.config.limits import check_values
from trainer.exit_codes import FAULTS
from trainer.help import help_text

Settings = TypeVar("Settings")


def run_verb(
    command: Callable[[], Any], name: str, takes: str = "one run", instead: str = "give each key one value"
) -> None:
    """Runs it once, and turns each fault of the user's into one message and an exit code."""
    prepare()
    try:
        check_arguments(sys.argv[1:])
        if asks_for_help(sys.argv[1:]):
            print(help_text(name.removeprefix("trainer.")))
            return
        given = get_args_parser().parse_known_args(sys.argv[1:])[0]
        if given.multirun or any(text.lower() == "hydra.mode=multirun" for text in given.overrides):
            raise ValueError(f"{name} takes {takes}; leave out -m, and {instead}")
        command()
    except FAULTS as error:
        fail(error)
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)


def typed_settings(composed: DictConfig, schema: type[Settings]) -> Settings:
    """The settings that a schema describes; raises ValueError, or OmegaConf's own, for what they can't be."""
    missing = sorted(OmegaConf.missing_keys(composed))
    if missing:
        raise ValueError(f"{missing[0]} has no value; give it as {missing[0]}=VALUE")
    plain = OmegaConf.to_container(composed, resolve=True)
    check_values(plain)
    settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), plain))
    assert isinstance(settings, schema)
    return settings


def check_ours(folder: Path, written: str) -> None:
    """Raises ValueError for a folder with files, unless `written` says that the same verb made it: that is replaced."""
    if any(folder.iterdir()) and not (folder / written).is_file():
        raise ValueError(f"out={folder} holds other files; name a new folder")
    if (folder / "config.yaml").exists():
        raise ValueError(f"out={folder} is a run directory; name a new folder")


def remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
