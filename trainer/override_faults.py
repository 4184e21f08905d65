"""What Hydra can't read or make sense of on the command line, told with the argument as it should have been typed."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from trainer.command_line import command
from trainer.config.schemas import SCHEMAS, known_keys, nearest_keys, takes_list, takes_text

_KEY = re.compile(r"[~+]{0,2}[A-Za-z_$][\w$./@-]*", re.ASCII)
_CLOSING = {"[": "]", "{": "}", '"': '"', "'": "'"}


def told_unreadable(override: str, arguments: Sequence[str]) -> str:
    """Of an argument that breaks Hydra's grammar; `arguments`: all that were typed."""
    key, equals, value = override.partition("=")
    if not equals:
        return _told_bare(override, arguments)
    key, value = key.strip(), value.strip()
    if not _KEY.fullmatch(key):
        return f"{override}: {key or 'nothing'} before the = is not a key; write key=value, such as seed=1"
    if _is_readable(f"{key}={value}"):
        return f"{override} has a space before the =; write {shlex.quote(f'{key}={value}')}"
    if not takes_text(key.lstrip("~+")) and not takes_list(key.lstrip("~+")):
        return f"{override} can't be read; write {key}=VALUE, without the rest"
    repaired = next((text for text in _repairs(key, value) if _is_readable(text)), None)
    advice = f"write {shlex.quote(repaired)}" if repaired else f"write {key}=VALUE, without the rest"
    return f"{override} can't be read: {_reason(value)}; {advice}"


def told_ambiguous(override: str) -> str:
    """Of several values, or a sweep, in a single run."""
    key, _, value = override.partition("=")
    ways = [f"to run each of them add -m: {command('python')} -m {shlex.quote(override)}"]
    if takes_list(key.lstrip("+")):
        ways.insert(0, f"for a list write {shlex.quote(f'{key}=[{value}]')}")
    if takes_text(key.lstrip("+")):
        ways.append(f"for one value with this text write {shlex.quote(_quoted(key, value))}")
    return f"{override} gives more than one value: {'; '.join(ways)}"


def told_choice(group: str, choice: str, choices: Sequence[str]) -> str:
    """Of a choice that a group doesn't have."""
    near = difflib.get_close_matches(choice.lower(), choices, n=1, cutoff=0.5)
    hint = f"; did you mean {group}={near[0]}?" if near else ""
    return f"{group}={choice} is not one of {', '.join(choices)}{hint}"


def told_no_choice(arguments: Sequence[str]) -> str:
    """Of null, a number or a truth value in the place of a choice."""
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and not key.strip("+"):
            return f"{argument} has no key; write key=value, such as seed=1"
        if equals and key in SCHEMAS and value not in SCHEMAS[key]:
            return told_choice(key, value, list(SCHEMAS[key]))
    return "a group takes the name of one of its choices, such as model=heatmap; --help lists them"


def _told_bare(word: str, arguments: Sequence[str]) -> str:
    """Of a word without =: a part of the value before it, or a key or choice without the rest."""
    joined = _joined_to_the_value_before(word, arguments)
    if joined is not None:
        return f"{word} is not key=value; if it belongs to the value before it, write {shlex.quote(joined)}"
    groups = [group for group, kinds in SCHEMAS.items() if word in kinds]
    if word in SCHEMAS:
        hint = f"write {word}=CHOICE without spaces, one of {', '.join(SCHEMAS[word])}"
    elif word in known_keys():
        hint = f"write {word}=VALUE, without spaces"
    elif groups:
        hint = f"did you mean {' or '.join(f'{group}={word}' for group in groups)}?"
    else:
        near = nearest_keys(word)
        hint = f"did you mean {near[0]}=VALUE?" if near else "an option is given as key=value, such as seed=1"
    return f"{word} is not key=value; {hint}"


def _joined_to_the_value_before(word: str, arguments: Sequence[str]) -> str | None:
    """The key=value that ends right before `word`, with the words up to the next key=value as the rest of its text."""
    if word not in arguments:
        return None
    place = list(arguments).index(word)
    first = next((index for index in range(place, -1, -1) if "=" in arguments[index]), None)
    if first is None or arguments[first].startswith("-"):
        return None
    words = [arguments[first]]
    for text in arguments[first + 1 :]:
        if "=" in text or text.startswith("-"):
            break
        words.append(text)
    key, _, value = " ".join(words).partition("=")
    if not _KEY.fullmatch(key) or key not in known_keys() or not takes_text(key):
        return None
    joined = _quoted(key, value)
    return joined if _is_readable(joined) else None


def _repairs(key: str, value: str) -> list[str]:
    """What may have been meant, the likeliest first."""
    inner = value.strip("\"'")
    repairs = []
    if value.startswith("[") and value.endswith("]"):
        elements = [element.strip().strip("\"'") for element in value[1:-1].split(",")]
        repairs.append(f"{key}=[{','.join(_in_quotes(element) for element in elements)}]")
    elif value.startswith("[") and "]" not in value:
        repairs.append(f"{key}={value}]")
    if not takes_text(key.lstrip("+")):
        return repairs
    if inner != value:
        repairs.append(_quoted(key, inner))
    if "${" not in value:
        repairs.append(_quoted(key, value))
    return repairs


def _reason(value: str) -> str:
    if value and value[0] in _CLOSING and _CLOSING[value[0]] not in value[1:]:
        return f"{value[0]} is not closed by {_CLOSING[value[0]]}"
    if "${" in value and "}" not in value.partition("${")[2]:
        return "${ is not closed by }"
    odd = [
        sign for sign in dict.fromkeys(value) if not (sign.isascii() and (sign.isalnum() or sign in r"_/-\+.$%*@?| "))
    ]
    return (
        f"a value with {' '.join(odd)} needs quotes, inside those of the shell" if odd else "it breaks Hydra's grammar"
    )


def _in_quotes(text: str) -> str:
    return QuotedString(text, Quote.double).with_quotes()


def _quoted(key: str, value: str) -> str:
    return f"{key}={_in_quotes(value)}"


def _is_readable(override: str) -> bool:
    try:
        return not OverridesParser.create().parse_override(override).is_sweep_override()
    except HydraException:
        return False
