"""Weights & Biases: files in the run directory, or a run on a server."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

import wandb

from trainer.run_dir import RunDir
from trainer.trackers.identity import Identity
from trainer.trackers.tracker import Beginning, Ending, Point

SECONDS_TO_BEGIN, SECONDS_TO_SEND = 30.0, 60.0


class WandbTracker:
    """The place of a point among all points is wandb's step, so that the parts of a resumed run join without a gap;
    its curves are drawn over the update.

    Offline, wandb keeps the newest points in memory, so those of a process that was killed are perhaps not in its
    file: that file is taken away, and its points are written anew from the CSVs.
    """

    name = "wandb"

    def __init__(self, run_dir: RunDir, *, online: bool, project: str, run_name: str, images: bool) -> None:
        self._run_dir, self._online = run_dir, online
        self._project, self._run_name = project, run_name
        self._identity = Identity(run_dir, self.name)
        self._sent = 0  # points that wandb has

    def begin(self, beginning: Beginning) -> str:
        known = self._identity.read()
        if known.get("project") != self._project:
            known = {"id": secrets.token_hex(4), "sent": 0, "unfinished": None}
        if known["unfinished"] is not None:
            shutil.rmtree(self._run_dir.path / known["unfinished"], ignore_errors=True)
        self._id = known["id"]
        self._run = wandb.init(
            id=self._id,
            project=self._project,
            name=self._run_name,
            dir=str(self._run_dir.path),
            mode="online" if self._online else "offline",
            resume="allow",
            settings=wandb.Settings(
                silent=True,
                console="off",
                # What is tracked is what the run's own files hold, nothing of the machine.
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
                x_disable_meta=True,
                init_timeout=SECONDS_TO_BEGIN,
                finish_timeout=SECONDS_TO_SEND,
                finish_timeout_raises=True,
            ),
        )
        self._folder = Path(self._run.dir).parent
        self._before = self._sent = self._run.starting_step if self._online else known["sent"]
        self._note(unfinished=None if self._online else str(self._folder.relative_to(self._run_dir.path)))
        self._run.config.update(dict(beginning.settings), allow_val_change=True)
        self._run.define_metric("iteration")
        self._run.define_metric("*", step_metric="iteration")
        return str(self._run.url) if self._online else f"wandb sync {self._folder}"

    def lacks(self, point: Point) -> bool:
        return point.position >= self._sent

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            self._run.log({**point.values, "iteration": point.iteration}, step=point.position, commit=True)
        self._sent = points[-1].position + 1

    def close(self, ending: Ending) -> None:
        pictures = {name: wandb.Image(str(path)) for name, path in ending.pictures.items()}
        if pictures:
            self._run.log({**pictures, "iteration": ending.num_updates}, step=self._sent, commit=True)
        self._run.summary.update({**ending.results, **({"verdict": ending.verdict} if ending.verdict else {})})
        self._run.finish(exit_code=ending.exit_code)
        self._note(unfinished=None)

    def _note(self, *, unfinished: str | None) -> None:
        sent = self._before if unfinished is not None else self._sent
        self._identity.write(project=self._project, id=self._id, sent=sent, unfinished=unfinished)


def check_logged_in() -> None:
    """Raises ValueError where wandb knows no key: it would ask for one in the middle of the run."""
    if not wandb.login(prompt=False):
        raise ValueError(
            "tracker.mode=online needs an account: type `wandb login`, or set WANDB_API_KEY; tracker.mode=offline does "
            "without"
        )
