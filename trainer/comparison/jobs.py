"""The jobs of a sweep as its page tells them: what each came to, and what to type next."""

from __future__ import annotations

import shlex
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from trainer.command_line import override, verb_command
from trainer.comparison.runs import job_folders
from trainer.comparison.statistics import FEWEST_PAIRS, Comparison
from trainer.next_steps import Step, program_of
from trainer.run_dir import RunDir
from trainer.study.settings import SWEEPER
from trainer.sweep import BEGUN, FAILED, JobRecord, Outcome, shown_state, without_resume
from trainer.sweep_table import RECORD

MORE_SEEDS = 5
RESUME = "sweep.resume=true"
UNREADABLE = (OSError, YAMLError, OmegaConfBaseException, AssertionError, LookupError, TypeError, ValueError)


class Jobs:
    """The jobs that have begun in the sweep of a folder, in their order."""

    def __init__(self, sweep: Path) -> None:
        self.sweep = sweep
        self.outcomes: dict[Path, Outcome | None] = {}
        self.damaged: dict[Path, str] = {}
        for folder in job_folders(sweep):
            try:
                self.outcomes[folder] = JobRecord(folder).read()
            except ValueError as error:
                self.damaged[folder] = str(error)

    @property
    def counts(self) -> str:
        """Such as: 3 finished, 1 failed."""
        states = Counter("cut" if outcome.state == BEGUN else outcome.state for outcome in self._begun)
        states["damaged"] = len(self.damaged)
        return ", ".join(f"{number} {state}" for state, number in states.items() if number) or "none has begun"

    @property
    def unfinished(self) -> bool:
        return bool(self.damaged) or any(outcome.state in (BEGUN, FAILED) for outcome in self._begun)

    def rows(self) -> list[list[str]]:
        """Folder, what was typed for it beside what all have, what it came to."""
        common = (
            set.intersection(*(set(outcome.overrides) for outcome in self._begun)) if len(self._begun) > 1 else set()
        )
        told = [
            [folder.name, " ".join(text for text in outcome.overrides if text not in common), shown_state(outcome)]
            for folder, outcome in self.outcomes.items()
            if outcome is not None
        ]
        return told + [[folder.name, "", reason] for folder, reason in self.damaged.items()]

    def command(self, *changes: str) -> str:
        """What started the sweep, and where, with `changes` in the place of what was typed for their keys; in a folder
        of its own unless they resume it. Empty where the record of it can't be read."""
        try:
            record = OmegaConf.load(self.sweep / RECORD)
            typed: Any = OmegaConf.to_container(OmegaConf.select(record, "hydra.overrides"), resolve=False)
            of_hydra, of_jobs = typed["hydra"], without_resume(typed["task"])
            folder = str(OmegaConf.select(record, "hydra.runtime.cwd"))
        except UNREADABLE:
            return ""
        changed = {text.partition("=")[0] for text in changes}
        changed |= {"hydra.mode"} if RESUME in changes else {"hydra.mode", "hydra.sweep.dir"}
        kept = [text for text in [*of_hydra, *of_jobs] if text.lstrip("+").partition("=")[0] not in changed]
        return f"cd {shlex.quote(folder)}\n{shlex.join([*self._program, '-m', *kept, *changes])}"

    @property
    def is_study(self) -> bool:
        """Whether Optuna chose the values of the jobs."""
        try:
            record = OmegaConf.load(self.sweep / RECORD)
            return bool(OmegaConf.select(record, "hydra.sweeper._target_") == SWEEPER)
        except UNREADABLE:
            return False

    @property
    def _program(self) -> list[str]:
        """That the jobs were started by."""
        for folder in self.outcomes:
            with suppress(OSError, ValueError, KeyError):
                return program_of(RunDir(folder).read_environment())
        return ["python", "-m", "trainer"]

    @property
    def _begun(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes.values() if outcome is not None]


def steps_after(jobs: Jobs | None, comparison: Comparison | None) -> list[Step]:
    """What would help most comes first."""
    steps = []
    if jobs is not None and jobs.unfinished and (command := jobs.command(RESUME)):
        steps.append(Step("Run the jobs that are cut or failed, once what ails them is mended.", command))
    if comparison is None:
        return steps
    best, *others = comparison.summaries
    chance = [other.behind.beyond_chance for other in others if other.behind is not None]
    seeds = len(best.setting.runs)
    if others and not all(chance) and jobs is not None and not jobs.is_study:  # which would search the seeds as well
        number = max(FEWEST_PAIRS, MORE_SEEDS if seeds < MORE_SEEDS else 2 * seeds)
        listed = ",".join(str(seed) for seed in range(1, number + 1))
        if command := jobs.command(f"seed={listed}"):
            steps.append(Step("More seeds tell what is chance.", command))
    runs = best.setting.runs.values()
    ends = max if comparison.higher_is_better else min
    taken = ends(runs, key=lambda run: run.value)
    told = "Use the best run of the best setting" if others else "Use the best run"
    command = f"{verb_command('predict')} {shlex.quote(override('run', str(taken.path.absolute())))} images=FOLDER"
    steps.append(Step(f"{told}; its own report says how far it can be trusted.", command))
    return steps
