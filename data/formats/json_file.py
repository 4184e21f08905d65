"""JSON files and what is looked up in them; every fault names the file and the place in it."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from data.cells import read_text
from data.errors import DataError, cut, quoted
from data.tables import LARGEST_SPACING_MM

LARGEST = 1e30
RE_EXPORT = "Export it again."


def read_json(path: Path) -> Any:
    return parse_json(read_text(path), path)


def parse_json(text: str, path: Path, place: str = "") -> Any:
    """The value that JSON text holds; `place`: where in the file the text stands, if it is not all of it."""
    where = f"{path}: {place}: " if place else f"{path}: "
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = f"column {error.colno}" if place else f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{where}{at} is not valid JSON ({error.msg}). {RE_EXPORT}") from None
    except RecursionError:
        raise DataError(f"{where}JSON that is nested too deeply to be read. {RE_EXPORT}") from None
    except ValueError as error:  # an integer of thousands of digits
        raise DataError(f"{where}{error}. {RE_EXPORT}") from None


def wanted(path: Path, place: str, value: Any, kind: type, key: str) -> Any:
    """`value[key]`, which must be of a kind (dict, list, str); raises DataError else."""
    if not isinstance(value, dict):
        raise DataError(f"{path}: {place} is {_shown(value)}, expected an object with {key}. {RE_EXPORT}")
    if not isinstance(found := value.get(key), kind):
        said = f"is {_shown(found)}" if key in value else "is missing"
        words = {dict: "an object", list: "a list", str: "text", int: "a whole number"}
        raise DataError(f"{path}: {place}: {key} {said}, expected {words[kind]}. {RE_EXPORT}")
    return found


def number(path: Path, place: str, value: Any) -> float:
    """A finite number; raises DataError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_moderate(value):
        raise DataError(f"{path}: {place} is {_shown(value)}, expected a number of moderate size. {RE_EXPORT}")
    return float(value)


def size_of(path: Path, place: str, width: Any, height: Any) -> tuple[int, int]:
    """Width and height in px, whole numbers above 0."""
    sides = []
    for name, value in (("width", width), ("height", height)):
        side = number(path, f"{place}: {name}", value)
        if side < 1 or side != int(side):
            raise DataError(f"{path}: {place}: {name} is {_shown(value)}, expected a whole number of px. {RE_EXPORT}")
        sides.append(int(side))
    return sides[0], sides[1]


def optional_text(value: Any) -> str | None:
    """Text, or a whole number as text, where it is there."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


def optional_spacing(path: Path, place: str, value: Any) -> float | None:
    """mm per px, where it is there; raises DataError for what is no such thing."""
    if value in (None, ""):
        return None
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    found = number(path, f"{place}: pixel_spacing_mm", value)
    if not 0 < found <= LARGEST_SPACING_MM:
        raise DataError(
            f"{path}: {place}: pixel_spacing_mm is {_shown(value)}, expected mm per pixel, above 0 and at most a "
            "kilometre. Mend it, or leave it out if unknown."
        )
    return found


def _is_moderate(value: int | float) -> bool:
    return math.isfinite(value) and abs(value) < LARGEST if isinstance(value, float) else abs(value) < LARGEST


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return quoted(value) if isinstance(value, str) else cut(json.dumps(value))
