"""What to do after a run: sentences with the command to paste, from what the run came to."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from trainer.command_line import override, own_command, verb_command
from trainer.config.schedules import RATE_KEYS
from trainer.recipes import names_recipe

MOST_STEPS = 3
LATE, EARLY = 0.9, 0.5  # shares of a phase's epochs at which its best one came
SEEDS = "1,2,3"
REPEATS = 3  # of a range test whose curve says too little


class TypedCommand:
    """The command that began a run, to be typed again with changes."""

    def __init__(self, environment: Mapping[str, Any]) -> None:
        self.overrides = list(environment["overrides"])
        self.folder = str(environment["folder"])
        self.program = program_of(environment)
        script = environment.get("script")
        self.by_one = ["python", "-m", "trainer"] if script is None else shlex.split(own_command(script))
        self.is_of_script = script is not None

    def again(self, *changes: str, many: bool = False) -> str:
        """With `changes` in the place of what was typed for these keys; `many`: as a sweep, by one process."""
        changed = {_key(text) for text in changes}
        kept = [text for text in self.overrides if _key(text) not in changed]
        program = self.by_one if many else self.program
        return shlex.join([*program, *(["-m"] if many else []), *kept, *changes])

    def verb(self, name: str) -> str:
        """Another verb, such as check, in its place."""
        program = [*self.by_one, name] if self.is_of_script else ["python", "-m", f"trainer.{name}"]
        return shlex.join([*program, *self.overrides])

    @property
    def reproducing(self) -> str:
        """What makes the same run, in a folder of its own."""
        return f"cd {shlex.quote(self.folder)}\n{self.again()}"


def program_of(environment: Mapping[str, Any]) -> list[str]:
    """What stands before the overrides: python -m trainer, torchrun with its options, or a script of somebody's own."""
    words = shlex.split(environment["command"])
    script = environment.get("script")
    if script is not None and script in words:  # whose path may look like an override
        return words[: words.index(script) + 1]
    return list(takewhile(lambda word: word.startswith("-") or not re.search(r"^[~+]|=", word), words))


class Step(NamedTuple):
    """`command` is empty where there is nothing to type."""

    why: str
    command: str


def next_steps(results: Mapping[str, Any], config: Mapping[str, Any], epochs: pd.DataFrame | None) -> list[Step]:
    """What would help most comes first.

    `results` as in results.json, `config` composed, `epochs`: the rows of metrics.csv (phase, epoch).
    """
    typed = TypedCommand(results["environment"])
    if "taken" not in results:
        return _after_range_tests(results, config, typed)
    steps = [
        *_if_nothing_was_learnt(results, typed),
        *_if_not_validated(results, typed),
        *_on_the_length(results, config, typed, epochs),
        *_on_the_rates(results, typed),
    ]
    steps.append(
        Step(
            "How much of this is chance? The same under three seeds, held against each other.",
            typed.again(f"seed={SEEDS}", many=True),
        )
    )
    return steps[:MOST_STEPS]


def ways_to_use(folder: Path, results: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, str]:
    """Purpose -> command: predict, evaluate, resume, reproduce."""
    if "taken" not in results:  # what range tests alone leave to do are next steps
        return {}
    data = config["data"]
    new_data = {
        "image_folder": "data.root=FOLDER",
        "phantom": f"data.num_images=200 data.seed={data.get('seed', 0) + 1}",  # another than the run's own
    }
    given = new_data.get(data["kind"], "data.table=new.csv")
    evaluate = f"{verb_command('evaluate')} {shlex.quote(override('run', str(folder)))} {given}"
    return {**results.get("commands", {}), "evaluate on other images": evaluate}


def _after_range_tests(results: Mapping[str, Any], config: Mapping[str, Any], typed: TypedCommand) -> list[Step]:
    commands = results.get("commands", {})
    found = [Step(f"{purpose.capitalize()}.", command) for purpose, command in commands.items()]
    if found:
        tested = Step(
            "Or let each phase be tested in its turn, the fine-tune from the weights that the frozen phase left.",
            typed.again("range_test=on"),
        )
        return [*found, tested]
    test = config["range_test"]
    steps = []
    if test["repeats"] < REPEATS:
        steps.append(
            Step(
                "No rate is to be taken from this curve. Three climbs under other data orders make a steadier one.",
                typed.again("range_test=only", f"range_test.repeats={REPEATS}"),
            )
        )
    if test["num_steps"]:  # 0 is an epoch
        steps.append(
            Step(
                "Twice as many steps from the lowest rate to the highest may show what these hid.",
                typed.again("range_test=only", f"range_test.num_steps={2 * test['num_steps']}"),
            )
        )
    return steps


def _if_nothing_was_learnt(results: Mapping[str, Any], typed: TypedCommand) -> list[Step]:
    if beats_baseline(results) is not False:
        return []
    return [
        Step("It did not learn. Are images and labels what they should be?", typed.verb("check")),
        Step("Is the rate within the range that trains?", typed.again("range_test=only")),
    ]


def beats_baseline(results: Mapping[str, Any]) -> bool | None:
    """Whether the monitored metric is better than the baseline's; None where one of them is not known."""
    rows = results.get("headline", [])
    taken = next((row for row in rows if row["taken"]), None)
    monitor = results.get("monitor")
    ours, theirs = (None if row is None else row.get(monitor) for row in (taken, rows[0] if rows else None))
    if ours is None or theirs is None or ours != ours or theirs != theirs:
        return None
    return bool(ours > theirs if results.get("monitor_mode") == "max" else ours < theirs)


def _if_not_validated(results: Mapping[str, Any], typed: TypedCommand) -> list[Step]:
    if results["split"] != "train":
        return []
    return [
        Step(
            "It was judged on the images it was trained on. Keep some apart to see what it does on others.",
            typed.again("data.val_fraction=0.2"),
        )
    ]


def _on_the_length(
    results: Mapping[str, Any], config: Mapping[str, Any], typed: TypedCommand, epochs: pd.DataFrame | None
) -> list[Step]:
    best = results.get("best")
    if epochs is None or not best or results["split"] == "train":
        return []
    numbers = epochs.loc[epochs["phase"] == best["phase"], "epoch"].tolist()
    if best["epoch"] not in numbers or len(numbers) < 2:
        return []
    place, count = numbers.index(best["epoch"]) + 1, len(numbers)
    last_phase = epochs["phase"].iloc[-1]
    budget = next((key for key in ("max_minutes", "max_steps") if config.get(key) is not None), None)
    if best["phase"] == last_phase and place >= LATE * count:
        longer = f"phases.{last_phase}.epochs={2 * count}"
        more = [longer] if budget is None else [longer, f"{budget}={2 * config[budget]:g}"]
        where = "the last one" if place == count else "one of the last"
        why = f"The best epoch is {where}: a longer {last_phase} phase may do better."
        return [Step(why, typed.again(*more))]
    if best["phase"] == last_phase and place <= EARLY * count and max(2, place) < count:
        why = (
            f"The best epoch of the {last_phase} phase is number {place} of {count}; what followed was no better. "
            "A phase that ends there takes less time, and its schedule ends low."
        )
        return [Step(why, typed.again(f"phases.{last_phase}.epochs={max(2, place)}"))]
    if best["phase"] != last_phase:
        why = (
            f"The {last_phase} phase made nothing better than the {best['phase']} phase did: its rates may be too high."
        )
        lower = _lower_rates(config, last_phase)
        return [Step(why, typed.again(*lower) if lower else "")]
    return []


def _lower_rates(config: Mapping[str, Any], phase: str) -> list[str]:
    """A third of each rate of the phase that is a number: all of them, so that they stay in their order."""
    run_wide, own = config["scheduler"], config["phases"][phase]["scheduler"]
    scheduler = own if own.get("kind", run_wide["kind"]) != run_wide["kind"] else {**run_wide, **own}
    rates = {key: scheduler[key] for key in RATE_KEYS if isinstance(scheduler.get(key), int | float)}
    return [f"phases.{phase}.scheduler.{key}={value / 3:.2g}" for key, value in rates.items()]


def _on_the_rates(results: Mapping[str, Any], typed: TypedCommand) -> list[Step]:
    if results.get("range_test") or any(names_recipe(text) for text in typed.overrides):
        return []
    by_hand = any(_key(text).endswith("lr") for text in typed.overrides)
    why = "The rates are typed ones" if by_hand else "The rates are the defaults"
    asked = "range_test=only" if by_hand else "range_test=on"
    return [Step(f"{why}: a range test says which ones fit these data.", typed.again(asked))]


def _key(text: str) -> str:
    return text.lstrip("+~").partition("=")[0]
