"""What --help prints: the text in a command's YAML. Hydra would list the groups of all plugins first, for seconds."""

from __future__ import annotations

from importlib.resources import files
from string import Template

from omegaconf import OmegaConf


def help_text(config_name: str) -> str:
    """The `hydra.help.template` of conf/<config_name>.yaml."""
    config = OmegaConf.create((files("conf") / f"{config_name}.yaml").read_text(encoding="utf-8"))
    return Template(str(OmegaConf.select(config, "hydra.help.template"))).substitute()
