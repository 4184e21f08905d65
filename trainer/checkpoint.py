"""Checkpoints: saved whole or not at all, loaded without running anything they contain."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from data.atomic import written_atomically
from trainer.run_dir import RunDir
from trainer.state import TrainState

log = logging.getLogger(__name__)


def save(run_dir: RunDir, state: TrainState) -> None:
    """Write checkpoints/last.pt; the one before it stays as previous.pt."""
    last = run_dir.last_checkpoint
    with written_atomically(last) as aside:
        torch.save(state.state_dict(), aside)
        if last.exists():
            last.replace(run_dir.previous_checkpoint)


def load(run_dir: RunDir) -> dict[str, Any] | None:
    """The newest readable checkpoint, None where the run has none yet.

    Raises:
        ValueError: there are checkpoints, but none can be read.
    """
    present = [path for path in (run_dir.last_checkpoint, run_dir.previous_checkpoint) if path.exists()]
    faults = []
    for path in present:
        try:
            saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError, ValueError) as error:
            faults.append(f"{path}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
            log.warning("checkpoint can't be read, the one before it is used: %s", faults[-1])
            continue
        return saved
    if faults:
        raise ValueError(f"no checkpoint of {run_dir.path} can be read ({'; '.join(faults)}); start a new run")
    return None


def save_weights(path: Path, model: nn.Module) -> None:
    """The model's weights and buffers as safetensors."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    with written_atomically(path) as aside:
        save_file(tensors, aside)


def load_weights(path: Path, model: nn.Module) -> None:
    model.load_state_dict(load_file(path))
