"""Options that are given and change nothing beside the others: worth a line, not a refusal."""

from __future__ import annotations

from trainer.config.run import TrainConfig
from trainer.config.tasks import LandmarkTaskConfig


def options_without_effect(config: TrainConfig) -> list[str]:
    """A line for each: the option, why it does nothing, and what would let it."""
    data, task, test = config.data, config.task, config.range_test
    holes, patience = data.augmentation.dropout_holes, config.early_stopping_epochs
    longest = max(getattr(config.phases, name).epochs for name in config.phase_names)
    found = []
    if data.mixup > 0 and data.batch_size == 1:
        found.append(f"data.mixup={data.mixup} mixes images of a batch, and data.batch_size=1 has one")
    if holes > 0 and data.augmentation.dropout_size == 0:
        found.append(f"data.augmentation.dropout_holes={holes} has no size: data.augmentation.dropout_size=0")
    if isinstance(task, LandmarkTaskConfig) and task.nme_landmarks is not None and task.nme != "pair":
        found.append(f"task.nme_landmarks={task.nme_landmarks} is for task.nme=pair, not {task.nme or 'null'}")
    if patience is not None and patience >= longest:
        found.append(f"early_stopping_epochs={patience} can't end a phase of {longest} epochs before its end")
    if config.compile and config.last_phase == "frozen":
        found.append("compile=true compiles the backbone where it is trained, and here it stays frozen")
    if test.kind == "off":
        given = {"repeats": test.repeats > 1, "signal": test.signal != "train_loss", "cache": test.cache}
        found += [
            f"range_test.{name}={getattr(test, name)} is for a range test; add range_test=on"
            for name, differs in given.items()
            if differs
        ]
    return [f"{line}: without effect" for line in found]
