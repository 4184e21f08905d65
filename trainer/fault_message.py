"""What a fault is told as: one line that names the key and says what to do, whoever found it."""

from __future__ import annotations

import re
import sys

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from data.errors import one_line
from trainer.config.refusals import refusal
from trainer.override_faults import told_ambiguous, told_choice, told_no_choice, told_unreadable

LONGEST = 4000  # characters; of more, such as a value that is a whole file, the middle is left out


def fault_message(error: Exception) -> str:
    """One line, never empty, without characters that a terminal would obey."""
    if isinstance(error, HydraException):
        text = _told_by_hydra(error)
    elif isinstance(error, OmegaConfBaseException):
        text = refusal(error)
    elif str(error).startswith("Config group override must be"):  # Hydra's, though a plain ValueError
        text = told_no_choice(sys.argv[1:])
    else:
        text = str(error)
    text = one_line(text)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    return text or type(error).__name__


def _told_by_hydra(error: HydraException) -> str:
    """Hydra says what it did, and puts the reason into the cause or the lines below."""
    text, cause = str(error), error.__cause__
    if isinstance(error, OverrideParseException):
        return told_unreadable(error.override, sys.argv[1:])
    if isinstance(error, MissingConfigException):
        return _told_missing(text)
    if several := re.match(
        r"(?:Ambiguous value for argument|Sweep parameters) '(.*)'(?: requires --multirun)?(?:\n|$)", text
    ):
        return told_ambiguous(several[1])
    if isinstance(cause, OmegaConfBaseException):
        merged = re.match(r"Error merging override (?P<given>.*)", text, re.DOTALL)
        given = merged["given"] if merged else None
        if given is not None and given.startswith("~"):
            return f"{given} can't be taken out: every run needs it; give it another value as {given[1:]}=VALUE"
        return refusal(cause, given=given)
    return _told_in_lines(text)


def _told_missing(text: str) -> str:
    if missing := re.match(r"In '.*?': Could not find '(?P<group>.+)/(?P<choice>[^/']*)'", text):
        choices = re.findall(r"^\t(\S+)$", text, re.MULTILINE)
        return told_choice(missing["group"], missing["choice"], choices)
    if named := re.match(r"Cannot find primary config '(.*?)'", text):
        return f"--config-name {named[1]}: there is no such config; leave the option out"
    return f"{text.splitlines()[0].rstrip('.')}; leave out --config-path, --config-name and --config-dir"


def _told_in_lines(text: str) -> str:
    """The lines as one; of a recipe that meets another task only the key that does not fit."""
    if gone := re.match(r"Could not delete (?:from config. )?'(.*?)'", text):
        return f"~{gone[1]}: there is no {gone[1]} to take out"
    if append := re.search(r"To append to your default list use (\S+)", text):
        return f"{text.splitlines()[0].rstrip('.')}: it has no choice yet; write {append[1]}"
    told, _, where = text.split("Config search path")[0].partition("full_key: ")
    told = " ".join(told.split()).rstrip(".")
    if recipe := re.match(r"In '(?P<recipe>.*?)': \w+ raised while composing config: (?P<reason>.*)", told):
        told = f"{recipe['recipe']} does not fit the other choices: {recipe['reason']}"
    return f"{told} ({where.splitlines()[0]})" if where else told
