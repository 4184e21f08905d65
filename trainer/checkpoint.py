"""Checkpoints: saved whole or not at all, loaded without running anything they contain."""

from __future__ import annotations

import hashlib
import logging
import pickle
import time
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from data.atomic import written_atomically
from trainer.history import Logs
from trainer.profile import NoStopwatch
from trainer.run_dir import RunDir
from trainer.state import TrainState

log = logging.getLogger(__name__)

VERSION = 5  # of what a checkpoint holds
COST = 0.01  # share of the time that saving may take where nothing else was asked for
DIGEST = "sha256"  # key in the metadata of best.safetensors


class Saver:
    """Keeps a run on disk: its logs, the best weights so far, and the state in checkpoints/last.pt and previous.pt.

    Args:
        every_steps, every_minutes: how often `save_if_due` saves, in updates and in minutes since the last time. With
            neither, as often as it costs a hundredth of the time.
        digests: of the weights files that the run has so far, by name.
        keeps: False for all but the first of several processes, which all have the same state.
        watch: measures the saving, and is saved with it.
    """

    def __init__(
        self,
        run_dir: RunDir,
        logs: Logs,
        *,
        every_steps: int | None,
        every_minutes: float | None,
        digests: Mapping[str, str],
        keeps: bool = True,
        watch: NoStopwatch | None = None,
    ) -> None:
        self.run_dir = run_dir
        self.logs = logs
        self.every_steps = every_steps
        self.every_minutes = every_minutes
        self.keeps = keeps
        self.watch = NoStopwatch() if watch is None else watch
        self._weights: dict[Path, dict[str, Tensor]] = {}  # not on disk yet
        self._digests = dict(digests)
        self._seconds = 0.0  # that the last save took
        self._saved_at = time.perf_counter()
        self._saved_iteration = 0

    def keep_weights(self, path: Path, model: nn.Module) -> None:
        """Put the weights aside; they go to disk with the checkpoint that knows of them."""
        if self.keeps:
            self._weights[path] = copied_weights(model)

    def save_if_due(self, state: TrainState) -> None:
        if self._is_due(state):
            self.save(state)

    def save(self, state: TrainState) -> None:
        """Raises OSError naming the file, where the disk is full; the last checkpoint is whole then."""
        if self.keeps:
            with self.watch.part("checkpoint"):
                self._save(state)

    def _save(self, state: TrainState) -> None:
        begun = time.perf_counter()
        self.logs.sync()
        with written_atomically(self.run_dir.last_checkpoint, previous=self.run_dir.previous_checkpoint) as aside:
            # New weights are in the checkpoint too: a process that is killed before they have a file of their own
            # leaves them there, and no file holds weights that the checkpoint does not know of.
            new_weights = {path.name: tensors for path, tensors in self._weights.items()}
            self._digests |= {name: digest(tensors) for name, tensors in new_weights.items()}
            added = {"version": VERSION, "new_weights": new_weights, "digests": self._digests}
            if self.watch.seconds is not None:
                added["profile"] = {"seconds": self.watch.seconds, "since_update": self.watch.since_update}
            _write(aside, {**added, **state.state_dict()})
        for path, tensors in self._weights.items():
            write_weights(path, tensors)
        self._weights.clear()
        self._saved_at, self._saved_iteration = time.perf_counter(), state.iteration
        self._seconds = self._saved_at - begun

    def _is_due(self, state: TrainState) -> bool:
        passed = time.perf_counter() - self._saved_at
        if self.every_steps is None and self.every_minutes is None:
            return passed * COST >= self._seconds
        return (self.every_steps is not None and state.iteration - self._saved_iteration >= self.every_steps) or (
            self.every_minutes is not None and passed >= 60 * self.every_minutes
        )


def load(run_dir: RunDir) -> dict[str, Any] | None:
    """The newest readable checkpoint, with its path as `file`; None where the run has none yet.

    Raises:
        ValueError: there are checkpoints, but none can be read.
    """
    faults = []
    for path in (run_dir.last_checkpoint, run_dir.previous_checkpoint):
        if path.is_dir():
            raise ValueError(f"{path} is a folder, in the place of a checkpoint; take it away")
        if not path.exists():
            continue
        try:
            saved = _read(path)
        except ValueError as error:
            faults.append(f"{path} {error}")
            continue
        if faults:
            log.warning("%s; %s, the checkpoint before it, is used", faults[0], path.name)
        return {**saved, "file": path}
    if faults:
        raise ValueError(f"no checkpoint can be read: {'; '.join(faults)}; put one back, or start a new run")
    return None


def take_up(run_dir: RunDir, saved: dict[str, Any]) -> None:
    """Make the checkpoint that was loaded the run's last one, beside the weights that it counts on.

    Where an older checkpoint takes the place of a broken one, the best weights may be those of an epoch that it does
    not know of: then `saved` is left without a best epoch, and the best of those to come counts.

    Raises:
        ValueError: weights are lost.
    """
    for name, tensors in saved["new_weights"].items():
        write_weights(run_dir.last_checkpoint.with_name(name), tensors)
    for name, expected in saved["digests"].items():
        path = run_dir.last_checkpoint.with_name(name)
        if name not in saved["new_weights"] and digest(read_weights(path)) != expected:
            if path != run_dir.best_weights:
                raise ValueError(f"{path} is of another run; put this run's own back, or start a new run")
            log.warning("%s is of an epoch after %s: the best of the epochs to come counts", path, saved["file"])
            saved["best"] = None
    if saved["file"] != run_dir.last_checkpoint:
        # A broken one must not become the previous one, when the next is saved.
        saved["file"].replace(run_dir.last_checkpoint)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Changes with any bit and any name of the tensors."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        sha.update(name.encode())
        sha.update(tensors[name].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def copied_weights(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}


def write_weights(path: Path, tensors: dict[str, Tensor]) -> None:
    """Weights and buffers as safetensors, with their digest."""
    whole = {key: value.contiguous() for key, value in tensors.items()}
    content = safetensors.torch.save(whole, metadata={DIGEST: digest(whole)})
    with written_atomically(path) as aside:
        aside.write_bytes(content)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Raises ValueError, naming the file, where it is not as it was written."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            expected = (file.metadata() or {}).get(DIGEST)
        fault = None if digest(tensors) == expected else "is not as this run wrote it"
    except FileNotFoundError:
        fault = "is missing"
    except (OSError, safetensors.SafetensorError) as error:
        fault = f"can't be read ({_first_line(error)})"
    if fault is not None:
        raise ValueError(f"{path} {fault}: weights that this run needs; put the file back, or start a new run")
    return tensors


def load_weights(path: Path, model: nn.Module) -> None:
    """Raises ValueError, naming the file, where it is not as it was written, or of another model."""
    try:
        model.load_state_dict(read_weights(path))
    except RuntimeError as error:
        raise ValueError(f"{path} is of another model ({_first_line(error)}); put the run's own back") from None


def _write(path: Path, payload: dict[str, Any]) -> None:
    try:
        with path.open("wb") as file:
            torch.save(payload, file)
    except RuntimeError as error:  # torch's own, where the file could not be written: the reason is behind it
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _read(path: Path) -> dict[str, Any]:
    """Raises ValueError saying what is wrong with the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            # torch itself neither looks at the checksums that it wrote nor doubts the entries' attributes.
            odd = any(info.compress_type != zipfile.ZIP_STORED or info.external_attr for info in archive.infolist())
            if odd or archive.testzip() is not None:
                raise ValueError("is damaged")
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        version = saved["version"]
    except (zipfile.BadZipFile, zlib.error, NotImplementedError):
        raise ValueError("is cut short, or no checkpoint") from None
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, LookupError, TypeError) as error:
        raise ValueError(f"can't be read ({_first_line(error)})") from None
    if version != VERSION:
        raise ValueError(f"is of another version of trainer ({version}, this one writes {VERSION})")
    return saved


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
