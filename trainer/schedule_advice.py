"""What Smith's paper on cyclical learning rates (arXiv:1506.01186) advises against in a phase, in words."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from trainer.schedules import CyclicalSchedule, Schedule, whole_cycles

# Section 3.2: a step size of 2 to 10 times the iterations of an epoch; 3 cycles or more; stop at the end of a cycle,
# where the rate is lowest and the accuracy peaks.
FEWEST_CYCLES = 3
FEWEST_EPOCHS_PER_STEP_SIZE = 2
MOST_EPOCHS_PER_STEP_SIZE = 10
# Section 3.3 puts base_lr at 1/3 or 1/4 of max_lr, or where learning sets in during a range test. It names no widest
# ratio: this one is ours, far enough out that a mistyped exponent is the likely reason.
WIDEST_RATIO = 100

# What each kind of advice is about: keys of a scheduler and of a phase.
CYCLE_KEYS = ("scheduler", "phases", "cycles", "step_size", "step_size_epochs", "epochs")
BOUND_KEYS = ("scheduler", "base_lr", "max_lr")
DECAY_KEYS = ("scheduler", "mode", "gamma")


def schedule_warnings(
    schedule: Schedule,
    *,
    total_steps: int,
    steps_per_epoch: int,
    phase: str,
    bounds_were_found: bool = False,
    typed: Collection[str] | None = None,
) -> list[str]:
    """One line for each thing that is against the advice: what is, what is advised, and the key to change.

    The phase makes `total_steps` updates, `steps_per_epoch` in an epoch. Only a CyclicalSchedule is ever warned about,
    and its bounds not where a range test found them. `typed`: the keys that were typed beside a recipe, where there is
    one: its own settings were measured, which goes before general advice, so that only what was typed is warned about.
    """
    if not isinstance(schedule, CyclicalSchedule):
        return []
    cycles, bounds, decay = (
        typed is None or any(_is_about(key, phase, names) for key in typed)
        for names in (CYCLE_KEYS, BOUND_KEYS, DECAY_KEYS)
    )
    warnings = [
        _too_few_cycles(schedule, total_steps, steps_per_epoch) if cycles else None,
        _step_size_out_of_range(schedule, total_steps, steps_per_epoch) if cycles else None,
        _ends_within_a_cycle(schedule, total_steps, steps_per_epoch) if cycles else None,
        _bounds_far_apart(schedule) if bounds and not bounds_were_found else None,
        _gamma_without_effect(schedule) if decay else None,
    ]
    return [f"phases.{phase}: {warning}" for warning in warnings if warning is not None]


def _is_about(key: str, phase: str, names: Collection[str]) -> bool:
    """Whether a key of the command line sets one of these of the phase: its own, or that of all phases."""
    place, _, name = key.rpartition(".")
    return name in names and place in ("", "scheduler", f"phases.{phase}", f"phases.{phase}.scheduler")


def _too_few_cycles(schedule: CyclicalSchedule, total_steps: int, steps_per_epoch: int) -> str | None:
    if not _has_too_few_cycles(total_steps, schedule.step_size):
        return None
    return (
        f"the phase has only {_cycles(total_steps, schedule.step_size)} cycles, "
        f"at least {FEWEST_CYCLES} are advised; {_remedies(schedule, total_steps, steps_per_epoch)} would give them"
    )


def _step_size_out_of_range(schedule: CyclicalSchedule, total_steps: int, steps_per_epoch: int) -> str | None:
    fewest, most = _advised_step_sizes(steps_per_epoch)
    if fewest <= schedule.step_size <= most:
        return None
    advice = (
        f"half a cycle (step_size={schedule.step_size}) is {schedule.step_size / steps_per_epoch:.3g} times an epoch, "
        f"{FEWEST_EPOCHS_PER_STEP_SIZE} to {MOST_EPOCHS_PER_STEP_SIZE} times are advised; "
        f"set scheduler.step_size between {fewest} and {most}"
    )
    if not _has_too_few_cycles(total_steps, fewest):
        return advice
    room = 2 * FEWEST_CYCLES * FEWEST_EPOCHS_PER_STEP_SIZE
    return f"{advice}, with at least epochs={room} for {FEWEST_CYCLES} such cycles"


def _ends_within_a_cycle(schedule: CyclicalSchedule, total_steps: int, steps_per_epoch: int) -> str | None:
    if _ends_with_a_cycle(total_steps, schedule.step_size):
        return None
    return (
        f"the phase ends in the middle of a cycle ({_cycles(total_steps, schedule.step_size)} cycles, "
        f"at a rate of {_plain(schedule.lr_at(total_steps - 1))}), stopping at the end of a cycle is advised; "
        f"{_remedies(schedule, total_steps, steps_per_epoch)} would end on a cycle's end"
    )


def _bounds_far_apart(schedule: CyclicalSchedule) -> str | None:
    if schedule.max_lr <= WIDEST_RATIO * schedule.base_lr * (1 + 1e-9):  # 1e-1 / 1e-3 rounds to more than 100
        return None
    return (
        f"scheduler.base_lr={_plain(schedule.base_lr)} is less than 1/{WIDEST_RATIO} of "
        f"scheduler.max_lr={_plain(schedule.max_lr)}, 1/3 or 1/4 or the bounds of a range test are advised; "
        "raise scheduler.base_lr"
    )


def _gamma_without_effect(schedule: CyclicalSchedule) -> str | None:
    if schedule.mode == "exp_range" and schedule.gamma == 1:
        return (
            "scheduler.mode=exp_range does not decay with scheduler.gamma=1; set scheduler.gamma below 1, e.g. 0.9999"
        )
    if schedule.mode != "exp_range" and schedule.gamma != 1:
        return (
            f"scheduler.gamma={schedule.gamma} has no effect with scheduler.mode={schedule.mode}; "
            "set scheduler.mode=exp_range to use it"
        )
    return None


def _remedies(schedule: CyclicalSchedule, total_steps: int, steps_per_epoch: int) -> str:
    """The changes that give a phase enough cycles and end it with one; both warnings about cycles propose the same."""
    epochs = _nearest_epochs(schedule.step_size, total_steps, steps_per_epoch)
    step_size = _nearest_step_size(schedule.step_size, total_steps, steps_per_epoch)
    remedies = [] if epochs is None else [f"epochs={epochs}"]
    remedies += [] if step_size is None else [f"scheduler.step_size={step_size}"]
    if not remedies:
        # Fitting cycles trims the phase by the few updates that no step size could use.
        remedies = [f"scheduler.cycles={FEWEST_CYCLES} with scheduler.step_size=null"]
    return " or ".join(remedies)


def _nearest_epochs(step_size: int, total_steps: int, steps_per_epoch: int) -> int | None:
    """The length nearest to the present one, and not beyond twice what is needed, that ends with a cycle."""
    fewest = math.ceil((2 * FEWEST_CYCLES * step_size - 1) / steps_per_epoch)
    most = 2 * max(fewest, math.ceil(total_steps / steps_per_epoch))
    fits = (epochs for epochs in range(fewest, most + 1) if _ends_with_a_cycle(epochs * steps_per_epoch, step_size))
    return _nearest(fits, total_steps / steps_per_epoch)


def _nearest_step_size(step_size: int, total_steps: int, steps_per_epoch: int) -> int | None:
    """The step size nearest to the present one, and not outside the advised range unless that is, for this length."""
    advised_fewest, advised_most = _advised_step_sizes(steps_per_epoch)
    most = min(2 * step_size, max(step_size, advised_most), (total_steps + 1) // (2 * FEWEST_CYCLES))
    fewest = max(math.ceil(step_size / 2), min(step_size, advised_fewest))
    fits = (size for size in range(fewest, most + 1) if _ends_with_a_cycle(total_steps, size))
    return _nearest(fits, step_size)


def _advised_step_sizes(steps_per_epoch: int) -> tuple[int, int]:
    """The shortest and the longest half cycle advised, in iterations."""
    return FEWEST_EPOCHS_PER_STEP_SIZE * steps_per_epoch, MOST_EPOCHS_PER_STEP_SIZE * steps_per_epoch


def _has_too_few_cycles(total_steps: int, step_size: int) -> bool:
    return total_steps + 1 < 2 * FEWEST_CYCLES * step_size


def _ends_with_a_cycle(total_steps: int, step_size: int) -> bool:
    """Whether the phase stops within one update of a cycle's end, counting the end at its start as none."""
    left_over = (total_steps + 1) % (2 * step_size)
    return left_over <= 2 and total_steps + 1 >= 2 * step_size


def _nearest(candidates: Iterable[int], target: float) -> int | None:
    return min(candidates, key=lambda candidate: abs(candidate - target), default=None)


def _cycles(total_steps: int, step_size: int) -> str:
    """Their number with two decimals, or with as many as it takes to tell it from a whole one."""
    cycles = whole_cycles(total_steps, step_size)
    return f"{round(cycles, 2) if round(cycles, 2) % 1 else cycles:.7g}"


def _plain(rate: float) -> str:
    """A rate in three digits: 0.01, 2.5e-5."""
    return f"{rate:.3g}".replace("e-0", "e-")
