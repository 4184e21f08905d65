"""What of the command line is no key=value: the options of Hydra, looked at before Hydra would print its own usage."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence

from hydra._internal.utils import get_args_parser  # the parser that hydra.main uses; there is no public way to it

from trainer.config.schemas import known_keys


def asks_for_help(arguments: Sequence[str]) -> bool:
    return bool(get_args_parser().parse_known_args(arguments)[0].help)


def check_arguments(arguments: Sequence[str]) -> None:
    """Raises ValueError for an option that is not there, or lacks its value."""
    parser = get_args_parser()
    parser.exit_on_error = False
    parser.allow_abbrev = False  # of an ambiguous short form argparse prints its usage and ends
    try:
        unknown = parser.parse_known_args(arguments)[1]
    except argparse.ArgumentError as error:
        raise ValueError(f"{error.argument_name}: {error.message}; --help lists the options") from None
    if not unknown:
        return
    option = unknown[0].partition("=")[0]
    name = option.lstrip("-")
    known = [text for action in parser._actions for text in action.option_strings]
    near = difflib.get_close_matches(option, known, n=1)
    if name in known_keys():
        hint = f"write {name}=VALUE, without the dashes"
    elif near:
        hint = f"did you mean {near[0]}?"
    else:
        hint = "options of a run are key=value, such as seed=1"
    raise ValueError(f"{unknown[0]} is not an option; {hint}")
