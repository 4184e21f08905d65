"""Checks that config dataclasses share; each raises ValueError naming the key and the value."""

import math
import re
from collections.abc import Iterable


def check_choice(key: str, value: str, choices: Iterable[str]) -> None:
    allowed = tuple(choices)
    if value not in allowed:
        raise ValueError(f"{key}={value} is not one of {', '.join(allowed)}")


def check_positive(key: str, value: float | None) -> None:
    """None passes: it means that the option is off."""
    if value is not None and not (math.isfinite(value) and value > 0):
        raise ValueError(f"{key}={value} must be above 0")


def check_pattern(key: str, value: str | None) -> None:
    """None passes: it means that the option is off."""
    if value is None:
        return
    try:
        brackets = re.compile(value).groups
    except re.error as error:
        raise ValueError(f"{key}={value} is not a regular expression: {error}") from None
    if not brackets:
        raise ValueError(f"{key}={value} must have brackets around what is looked for, such as (.+)_[0-9]+")


def check_not_negative(key: str, value: float | None) -> None:
    """None passes: it means that the option is off."""
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{key}={value} must not be negative")


def check_fraction(key: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{key}={value} must lie in 0 to 1")


def check_absent(group: str, settings: object, keys: Iterable[str], fits_not: str, fits: str) -> None:
    """Raises ValueError where `settings`, of a config group, gives a value to a key that only other tasks know."""
    for key in keys:
        value = getattr(settings, key, None)
        if value:
            raise ValueError(f"{group}.{key}={value} does not fit {fits_not}, it is for {fits}; leave it out")


def check_landmarks_exist(key: str, landmarks: Iterable[int], num_landmarks: int) -> None:
    """Raises ValueError for a number that none of the landmarks of the data has."""
    numbers = list(landmarks)
    for number in numbers:
        if not 0 <= number < num_landmarks:
            raise ValueError(
                f"{key}={numbers}: there is no landmark {number}, they count from 0 to {num_landmarks - 1}"
            )
