"""What a study came to: its best trial as a command to paste, optimization_results.yaml, and pictures."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import yaml
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from trainer.command_line import command
from trainer.run_dir import write_text
from trainer.sweep_jobs import Job, reason_of

RESULTS = "optimization_results.yaml"
PICTURES = "study"  # folder of the pictures


def summarize(study: Study, sweep: Path, jobs: Sequence[Job]) -> None:
    """Write and print it. Whatever goes wrong with the pictures is told, and ends nothing."""
    trials = study.get_trials(deepcopy=False)
    if not any(trial.state is TrialState.COMPLETE for trial in trials):
        print(f"no trial of {sweep} finished, so that none is the best")
        return
    best = study.best_trial
    job = jobs[best.number]
    write_text(
        sweep / RESULTS,
        yaml.safe_dump(_results(study, job, trials), sort_keys=False, allow_unicode=True, width=sys.maxsize),
    )
    try:
        from trainer.study.pictures import draw_study  # imports matplotlib

        drawn = draw_study(sweep / PICTURES, study)
        print(f"pictures of the study: {', '.join(map(str, drawn))}")
    except Exception as error:
        print(f"the study is not drawn: {reason_of(error)}")
    print(f"the best of {len(trials)} trials is {best.value:.6g} of {sweep / job.folder}; run it again with:")
    print(f"  {command_of(job)}", flush=True)


def command_of(job: Job) -> str:
    """What runs the trial by itself."""
    return f"{command('python')} {shlex.join(job.overrides)}"


def _results(study: Study, job: Job, trials: Sequence[FrozenTrial]) -> dict[str, object]:
    counts = Counter(trial.state for trial in trials)
    return {
        "name": "optuna",  # as Hydra's own sweeper has it, which some scripts read
        "best_evaluated_params": dict(study.best_params),
        "best_value": study.best_value,
        "direction": study.direction.name.lower(),
        "best_trial": job.number,
        "folder": job.folder,
        "command": command_of(job),
        "trials": {
            "finished": counts[TrialState.COMPLETE],
            "pruned": counts[TrialState.PRUNED],
            "failed": counts[TrialState.FAIL],
        },
    }
