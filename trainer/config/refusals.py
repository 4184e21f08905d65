"""Words for what OmegaConf refuses: a key that is not there, a value of another type."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass

from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    GrammarParseError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from trainer.config.schemas import choices_with, nearest_keys

# How OmegaConf begins -> what is expected of the value.
_EXPECTED = (
    (r"could not be converted to Integer", "must be a whole number"),
    (r"could not be converted to Float", "must be a number"),
    (r"is not a valid bool", "must be true or false"),
    (r"is not Optional|Incompatible value 'None'", "must have a value; leave it out for the default"),
    (r"is not a ListConfig", "must be a list"),
    (r"Cannot merge DictConfig|to (Dict|dict)", "must be given key by key, as KEY.NAME=VALUE"),
    (r"(Cannot|can't|Can't) (convert|assign|merge).*(ListConfig|list|DictConfig|dict).*str|to string", "must be text"),
)


def refusal(error: OmegaConfBaseException, *, given: str | None = None, below: str = "") -> str:
    """One line that names the key. `given`: key=value as it was typed; `below`: what the error's own key is below."""
    own = str(error.full_key or "")
    key = f"{below}.{own}".strip(".") if below else own
    if isinstance(error, InterpolationResolutionError):
        return _unresolved(error, key)
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, ConfigAttributeError | ConfigKeyError) and ("not in" in said or "is not in struct" in said):
        return _unknown(error, key or given or said)
    if isinstance(error, GrammarParseError):
        return f"{given or key} holds a ${{...}} that can't be read ({said}); write the value itself"
    if isinstance(error, MissingMandatoryValue):
        lacking = said.rpartition(" ")[2].strip("()") or key
        return f"{lacking} has no value; give it as {lacking}=VALUE"
    typed = given if given is not None else f"{key}={'null' if error.value is None else error.value}"
    for pattern, expected in _EXPECTED:
        if re.search(pattern, said):
            shown, _, value = typed.partition("=")
            if expected == "must be a list" and re.fullmatch(r"[\w.-]+", value):
                expected += f"; write {shown.lstrip('+')}=[{value}]"
            return f"{typed} {expected}"
    return f"{typed}: {said}"


def _unknown(error: OmegaConfBaseException, key: str) -> str:
    parent = key.rpartition(".")[0]
    own = [field.name for field in fields(error.object_type)] if is_dataclass(error.object_type) else []
    of_run = bool(parent) or not own or "task" in own  # else of another command, which knows none of a run's keys
    near = [name for name in nearest_keys(key, own) if of_run or name in own]
    owners = choices_with(key) if of_run else []
    told = f"{key} is not a key"
    if own:
        told += f" of {parent or ('a run' if of_run else 'this command')}; its keys: {', '.join(own)}"
    if owners:
        told += f"; it is one of {' and '.join(owners)}"
    elif near:
        told += f"; did you mean {' or '.join(near)}?"
    return told


def _unresolved(error: InterpolationResolutionError, key: str) -> str:
    said = str(error).splitlines()[0]
    if said.startswith("TypeError"):
        return f"{key}: what is looked up by ${{...}} takes other values; write the value itself"
    said = re.sub(r"^\w+ raised while resolving interpolation: ", "", said).strip("\"'")
    if "Environment variable" in said:
        said += "; set it, or give a default: ${oc.env:NAME,default}"
    elif missing := re.search(r"Interpolation key '(.*)' not found", said):
        said = f"${{{missing[1]}}} stands for the value of another key, and there is no key {missing[1]}"
    elif "Recursive" in said:
        said = "the value refers to itself"
    elif missing := re.search(r"Unsupported interpolation type (\S+)", said):
        said = f"${{{missing[1]}:...}} is nothing that can be looked up; write the value itself"
    return f"{key}: {said}" if key and not key.startswith("hydra.") else said
