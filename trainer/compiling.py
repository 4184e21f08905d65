"""compile=true: torch compiles the backbone where it is trained, before the first phase begins."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from trainer.config.run import TrainConfig
from trainer.errors import TrainingError
from trainer.loop import UpdateRule
from trainer.memory_faults import is_out_of_memory
from trainer.planning import planned_steps
from trainer.progress import clock
from trainer.run_data import RunData
from trainer.state import TrainState
from trainer.tuning.updates import trial_phase, update_trial

_SAYS_NOTHING = re.compile(r"backend='\w+' raised:$")
LEAST_RECOMPILES = 8  # torch's own; beyond it torch goes on uncompiled

log = logging.getLogger(__name__)


class _WhereTrained:
    """A call of a module: compiled where gradients of its weights are asked for, else as it is.

    So evaluation answers to the bit what the weights alone answer in `predict`, and torch has one graph for each input
    size to compile, not three.
    """

    def __init__(self, module: nn.Module) -> None:
        self._plain = module._call_impl
        self._compiled = module._compiled_call_impl
        self._module = module

    def __call__(self, *inputs: Any) -> Any:
        trained = torch.is_grad_enabled() and any(weight.requires_grad for weight in self._module.parameters())
        if not trained or self._compiled is None:
            return self._plain(*inputs)
        return self._compiled(*inputs)


def compile_backbone(config: TrainConfig, state: TrainState, data: RunData, rule: UpdateRule) -> None:
    """Compile what the last phase trains, for each of its input sizes, by an update that leaves no trace.

    Names of weights, checkpoints and copies of the model know nothing of it.

    Raises:
        TrainingError: torch can't compile on this machine.
    """
    over = state.finished and planned_steps(config, data.updates_per_epoch) == state.planned_steps
    if config.last_phase == "frozen" or over:
        return
    phase = trial_phase(config)
    log.info("compile=true: the first updates are slow while torch compiles the network")
    begun = time.perf_counter()
    sizes = list(dict.fromkeys(phase.input_scales))
    with told_uncompilable(config):
        switch_on(state.backbone, len(sizes))
        for size in sizes:
            sized = replace(phase, input_scales=(size,))
            with update_trial(sized, config, state, data, rule) as trial:
                trial.update(rule.compute)
    log.info("compile=true: compiled in %s", clock(time.perf_counter() - begun))


def switch_on(backbone: nn.Module, num_sizes: int) -> None:
    """Have torch compile the module at its next call with gradients, anew for each of so many input sizes."""
    torch.compiler.reset()  # of the runs before this one in a sweep: they count in the limit
    torch._dynamo.config.cache_size_limit = max(LEAST_RECOMPILES, 2 * num_sizes)  # torch 2.6 has no newer name of it
    # Under dynamic=True the code of a size depends on which sizes came before it, and with it the last digits.
    backbone.compile(dynamic=False)
    # Where compile() puts it: neither copies nor state dicts of a module have it.
    backbone._compiled_call_impl = _WhereTrained(backbone)


@contextmanager
def told_uncompilable(config: TrainConfig) -> Iterator[None]:
    """Raises TrainingError with torch's reason where it can't compile what the block runs."""
    try:
        yield
    except RuntimeError as error:
        if not config.compile or is_out_of_memory(error) or not _is_of_compiler(error):
            raise
        raise TrainingError(describe(error)) from error


def describe(error: BaseException) -> str:
    said = [line for line in str(error).splitlines() if line.strip() and not _SAYS_NOTHING.match(line)]
    reason = re.sub(r"^\w+: ", "", said[0] if said else type(error).__name__).strip().rstrip(".")
    mend = "install a C++ compiler (g++), or give compile=false" if "C++" in reason else "give compile=false"
    return f"compile=true: torch can't compile here: {reason}; {mend}"


def _is_of_compiler(error: RuntimeError) -> bool:
    from torch._dynamo.exc import TorchDynamoException  # takes seconds to import, and a run that compiles has it

    return isinstance(error, TorchDynamoException) or (type(error) is RuntimeError and "torch.compile" in str(error))
