"""What a fault is told as: one line that names the key and says what to do, whoever found it."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass

from hydra.errors import HydraException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
)


def fault_message(error: Exception) -> str:
    """What to tell. Hydra and OmegaConf say what they did, and put the reason into the cause or the lines below."""
    text = str(error)
    if isinstance(error, InterpolationResolutionError):
        return text.splitlines()[0].removeprefix("ValueError raised while resolving interpolation: ")
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return text
    shown = text.split("\nTo append")[0].split("Config search path")[0].strip().rstrip(".")
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        shown += f": {str(cause).splitlines()[0]}"
        error = cause
    if isinstance(error, ConfigAttributeError | ConfigKeyError) and is_dataclass(error.object_type):
        shown = f"{shown.splitlines()[0]}; its keys: {', '.join(field.name for field in fields(error.object_type))}"
    if wrong := re.match(r"Error merging override (?P<key>[^=]+)=(?P<value>.*?): .* is not a ListConfig", shown):
        shown = f"{shown.rstrip('.')}; write {wrong['key']}=[{wrong['value']}]"
    told, _, where = shown.partition("full_key: ")  # of a recipe that meets another task, in lines
    key = f" ({where.splitlines()[0]})" if where else ""
    return " ".join(told.split()) + key if key else shown
