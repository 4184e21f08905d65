"""Which weights a run ends with: those of the best epoch or, with snapshots, what does best on the validation split."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from trainer.checkpoint import copied_weights, load_weights, read_weights, write_weights
from trainer.checkpoint import load as read_checkpoint
from trainer.config.run import TrainConfig
from trainer.loop import UpdateRule, evaluate
from trainer.phases import Phase, set_training_modes
from trainer.run_data import RunData
from trainer.run_dir import RunDir
from trainer.selection import is_better
from trainer.snapshots import mean_weights, reestimate_batch_norm
from trainer.state import TrainState
from trainer.tasks.task import Predictions, Task

LAST = "last update"
EMA_PREFIX = "module."  # of torch's AveragedModel, before the names of the weights that it averages


@dataclass(frozen=True)
class Candidate:
    """Weights that a run may end with; several are an ensemble, whose predictions are averaged."""

    name: str
    members: list[dict[str, Tensor]]

    def predict(self, model: nn.Module, data: RunData, split: str, rule: UpdateRule, num_views: int) -> Predictions:
        """Predictions for a split, averaged over `num_views` views of each image. Leaves its weights in `model`."""
        views = []
        for weights in self.members:
            model.load_state_dict(weights)
            for view in range(num_views):
                batches = data.evaluation_batches(split, view)
                views.append(evaluate(model, batches, rule.task, rule.compute)[1])
        return views[0] if len(views) == 1 else rule.task.averaged(views)


def taken_weights(run_dir: RunDir, name: str) -> list[dict[str, Tensor]]:
    """The weights of the candidate of this name in a run that has ended; several are an ensemble.

    Raises:
        ValueError: the name is none, or a file is missing or damaged.
    """
    ensemble = re.fullmatch(r"ensemble of (\d+) snapshots", name)
    if ensemble is not None:
        return [read_weights(run_dir.snapshot(cycle)) for cycle in range(int(ensemble[1]))]
    if re.fullmatch(r"mean of \d+ snapshots", name):
        return [read_weights(run_dir.average_weights)]
    if name.startswith("best (epoch "):
        return [read_weights(run_dir.best_weights)]
    saved = read_checkpoint(run_dir) if name == LAST else None
    if saved is None:
        raise ValueError(
            f"{run_dir.results} takes the weights {name!r}, which are not in {run_dir.path / 'checkpoints'}"
        )
    if saved["ema"] is None:
        return [saved["model"]]
    averaged = {key: value for key, value in saved["ema"].items() if key.startswith(EMA_PREFIX)}
    return [{key.removeprefix(EMA_PREFIX): value for key, value in averaged.items()}]


def check_snapshots(config: TrainConfig, data: RunData, task: Task[Any]) -> None:
    """Raises ValueError where nothing could choose between the candidates."""
    if not config.snapshots:
        return
    if not data.validates:
        raise ValueError("snapshots=true needs a validation split, which chooses between them; data.val_fraction=0.2")
    if task.monitor in ("train_loss", "val_loss"):
        raise ValueError(f"snapshots=true compares by a metric of predictions, not by task.monitor={task.monitor}")


def find_candidates(
    run_dir: RunDir, state: TrainState, data: RunData, rule: UpdateRule, last_phase: Phase
) -> list[Candidate]:
    """The best epoch's weights; with snapshots also the last, the mean of the snapshots and their ensemble.

    The mean is written to checkpoints/average.safetensors.
    """
    assert state.best is not None
    model = state.evaluated_model
    last = copied_weights(model)
    load_weights(run_dir.best_weights, model)
    candidates = [Candidate(f"best (epoch {state.best['epoch']})", [copied_weights(model)])]
    if state.num_snapshots:
        files = [run_dir.snapshot(cycle) for cycle in range(state.num_snapshots)]
        model.load_state_dict(mean_weights(files))
        set_training_modes(model, last_phase)
        batches = data.training_batches(first_epoch=state.epochs_done, first_step=0, last_step=data.updates_per_epoch)
        reestimate_batch_norm(model, batches, rule.task.inputs, rule.compute)
        average = copied_weights(model)
        write_weights(run_dir.average_weights, average)
        candidates += [
            Candidate(LAST, [last]),
            Candidate(f"mean of {len(files)} snapshots", [average]),
            Candidate(f"ensemble of {len(files)} snapshots", [read_weights(file) for file in files]),
        ]
    model.load_state_dict(last)
    return candidates


def winner(judged: dict[str, float], mode: str) -> str:
    """The name with the best monitored value, the first of equals."""
    best = next(iter(judged))
    for name, value in judged.items():
        if is_better(value, judged[best], mode):
            best = name
    return best
