"""Checks that schedules share; each raises ValueError naming the key and the value."""

from __future__ import annotations

from trainer.config.checks import check_not_negative, check_positive


def check_count(key: str, count: int, unit: str) -> None:
    if not (isinstance(count, int) and count >= 1):
        raise ValueError(f"{key}={count} must be a whole number of {unit}, at least 1")


def check_bounds(lower_key: str, lower: float, upper_key: str, upper: float) -> None:
    check_not_negative(f"scheduler.{lower_key}", lower)
    check_positive(f"scheduler.{upper_key}", upper)
    if lower >= upper:
        raise ValueError(f"scheduler.{lower_key}={lower} must be below scheduler.{upper_key}={upper}")


def check_momenta(base: float | None, top: float | None) -> None:
    """Both or neither, in order, and below 1, where momentum never forgets."""
    both = f"scheduler.base_momentum={base} and scheduler.max_momentum={top}"
    if (base is None) != (top is None):
        raise ValueError(f"{both} must be given together")
    if base is not None and top is not None and not 0 <= base <= top < 1:
        raise ValueError(f"{both} must lie in 0 to 1 (1 excluded), the base not above the maximum")
