"""A copy of what a range test trains, to which it can be brought back."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim

from trainer.range_test.storage import Stored


class Snapshot:
    """A copy of modules, optimizer and whatever else has `state_dict` and `load_state_dict`; also of buffers that state
    dicts leave out, and of parameters that only the optimizer knows.

    Args:
        in_memory: or else in a file in `cache_dir` (None: the system's folder for such), removed with this object.
    """

    def __init__(
        self, optimizer: optim.Optimizer, stateful: Iterable[Any], in_memory: bool, cache_dir: str | Path | None
    ) -> None:
        self._optimizer, self._stateful = optimizer, list(stateful)
        self._modules = [item for item in self._stateful if isinstance(item, nn.Module)]
        known = {parameter for module in self._modules for parameter in module.parameters()}
        self._loose = [parameter for parameter in parameters_of(optimizer) if parameter not in known]
        self._folder = None if in_memory else Path(cache_dir or tempfile.gettempdir())
        self._let_go: weakref.finalize[[], Snapshot] | None = None
        self.take()

    def take(self) -> None:
        """Copy what is there now, in place of what was copied before."""
        if self._let_go is not None:
            self._let_go()
        self._stored = Stored(
            {
                "optimizer": self._optimizer.state_dict(),
                "stateful": [item.state_dict() for item in self._stateful],
                "unsaved": [_unsaved_buffers(module) for module in self._modules],
                "loose": [parameter.detach() for parameter in self._loose],
            },
            self._folder,
        )
        self._let_go = weakref.finalize(self, self._stored.close)

    def restore(self) -> None:
        """Bring back what was copied, as often as wanted."""
        saved = self._stored.read()
        for item, state in zip(self._stateful, saved["stateful"], strict=True):
            _load_optimizer(item, state) if isinstance(item, optim.Optimizer) else item.load_state_dict(state)
            if isinstance(item, torch.amp.GradScaler):  # an interrupt may have come between its step and its update
                item._per_optimizer_states.clear()
        with torch.no_grad():
            for module, buffers in zip(self._modules, saved["unsaved"], strict=True):
                for name, value in buffers.items():
                    _set_buffer(module, name, value)
            for parameter, value in zip(self._loose, saved["loose"], strict=True):
                parameter.copy_(value)
        _load_optimizer(self._optimizer, saved["optimizer"])


def parameters_of(optimizer: optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _load_optimizer(optimizer: optim.Optimizer, state: dict[str, Any]) -> None:
    """Fills the very dicts of `param_groups`, which somebody may hold, where torch would make new ones."""
    groups = list(optimizer.param_groups)
    optimizer.load_state_dict(state)
    for held, loaded in zip(groups, optimizer.param_groups, strict=True):
        held.clear()
        held.update(loaded)
    optimizer.param_groups[:] = groups


def _unsaved_buffers(module: nn.Module) -> dict[str, Tensor]:
    saved = module.state_dict()
    return {name: buffer for name, buffer in module.named_buffers() if name not in saved}


def _set_buffer(module: nn.Module, name: str, value: Tensor) -> None:
    current = module.get_buffer(name)
    if current.shape == value.shape:
        current.copy_(value)
        return
    parent, _, own = name.rpartition(".")
    setattr(module.get_submodule(parent), own, value.to(current.device))
