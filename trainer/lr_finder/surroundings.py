"""What a range test disturbs around the model, and how it is brought back."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn, optim

from trainer.lr_finder.snapshot import parameters_of
from trainer.state import random_state, set_random_state


@contextmanager
def undisturbed(modules: Iterable[nn.Module], optimizer: optim.Optimizer, loaders: Iterable[Any]) -> Iterator[None]:
    """Brings back, however the block ends: random numbers of torch, numpy and Python, the loaders' generators and
    workers, gradients, and which modules train."""
    with ExitStack() as stack:
        modes = {module: module.training for root in modules for module in root.modules()}
        stack.callback(_set_modes, modes)
        parameters = [*(parameter for module in modes for parameter in module.parameters()), *parameters_of(optimizer)]
        gradients = {parameter: parameter.grad for parameter in parameters}
        stack.callback(_set_gradients, gradients)
        _set_gradients(dict.fromkeys(gradients))  # the block's must not be added to them
        if hasattr(optimizer, "_opt_called"):  # by it torch tells a scheduler's step before the first update
            stack.callback(setattr, optimizer, "_opt_called", optimizer._opt_called)
        for loader in loaders:
            stack.enter_context(_own_workers(loader))
            for generator in _generators_of(loader):
                stack.callback(_rewinder(generator))
        stack.callback(_global_rewinder())
        yield


def _set_modes(modes: dict[nn.Module, bool]) -> None:
    for module, training in modes.items():
        module.training = training


def _set_gradients(gradients: dict[Any, Any]) -> None:
    for parameter, gradient in gradients.items():
        parameter.grad = gradient


@contextmanager
def _own_workers(loader: Any) -> Iterator[None]:
    """Workers that live on between epochs would go on with random numbers that the block drew: it gets its own."""
    if not getattr(loader, "persistent_workers", False):
        yield
        return
    held, loader._iterator = loader._iterator, None
    try:
        yield
    finally:
        loader._iterator = held


def _generators_of(loader: Any) -> list[Any]:
    """The random-number generators that a loader, its samplers or its data set hold as attributes."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    samplers = (batch_sampler, getattr(batch_sampler, "sampler", None), getattr(loader, "sampler", None))
    holders = (loader, *samplers, getattr(loader, "dataset", None))
    kinds = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
    values = [value for holder in holders for value in getattr(holder, "__dict__", {}).values()]
    return list({id(value): value for value in values if isinstance(value, kinds)}.values())


def _rewinder(generator: Any) -> Callable[[], object]:
    """A function that brings the generator back to where it is now."""
    if isinstance(generator, torch.Generator):
        return partial(generator.set_state, generator.get_state())
    if isinstance(generator, np.random.RandomState):
        return partial(generator.set_state, generator.get_state())
    if isinstance(generator, random.Random):
        return partial(generator.setstate, generator.getstate())
    return partial(setattr, generator.bit_generator, "state", generator.bit_generator.state)


def _global_rewinder() -> Callable[[], None]:
    of_torch, of_python = random_state(), random.getstate()
    of_numpy = np.random.get_state()  # noqa: NPY002  # data sets draw from it, whatever is better
    of_mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def rewind() -> None:
        set_random_state(of_torch)
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)
        if of_mps is not None:
            torch.mps.set_rng_state(of_mps)

    return rewind
