"""The launchers of plugins: what each needs, and where its jobs run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What there is to know of a plugin's launcher. `lost`: what it raises where the process of a job died."""

    extra: str
    package: str
    lost: tuple[str, ...]
    here: bool = True  # jobs run on this machine: they share its cores, and end with the sweep
    one_terminal: bool = True


KINDS = {
    "JoblibLauncher": Kind(extra="joblib", package="joblib", lost=("concurrent.futures.BrokenExecutor",)),
    "LocalLauncher": Kind(
        extra="submitit",
        package="submitit",
        lost=("submitit.core.utils.UncompletedJobError",),
        one_terminal=False,
    ),
    "SlurmLauncher": Kind(
        extra="submitit",
        package="submitit",
        lost=("submitit.core.utils.UncompletedJobError", "submitit.core.utils.FailedSubmissionError"),
        here=False,
        one_terminal=False,
    ),
    "RayLauncher": Kind(extra="ray", package="ray", lost=("ray.exceptions.RayError",)),
}
