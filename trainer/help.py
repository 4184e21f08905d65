"""What --help prints: the text in a command's YAML. Hydra would list the groups of all plugins first, for seconds.

Nothing is imported here that takes time, so that help is there at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from string import Template

import yaml

OPTIONS = ("--help", "-h")
NO_PARTS = "none here; a class in a script of yours makes one (docs/own_schedule.md, own_head.md, ...)"


def asks_for_nothing_else(arguments: Sequence[str]) -> bool:
    """Whether --help is among the arguments and no other option is, which would have to be checked."""
    options = [text for text in arguments if text.startswith("-")]
    return bool(options) and set(options) <= set(OPTIONS)


def help_text(config_name: str, own_parts: str = NO_PARTS) -> str:
    """The `hydra.help.template` of conf/<config_name>.yaml; `own_parts`: lines on what scripts have registered."""
    config = yaml.safe_load((files("conf") / f"{config_name}.yaml").read_text(encoding="utf-8"))
    template: str = config["hydra"]["help"]["template"]
    return Template(template.replace("${own_parts:}", "${own_parts}")).substitute(own_parts=own_parts)
