"""Input sizes that grow in the course of a phase: which epoch has which, and in which updates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from trainer.config.run import TrainConfig

MULTIPLE = 32  # px, of a scaled side: what strides of networks divide


def scaled_size(input_size: tuple[int, int], scale: float) -> tuple[int, int]:
    """The (height, width) at a share of the full size, in multiples of 32 px; at 1 the full size, whatever it is."""
    if scale == 1:
        return input_size
    height, width = (min(side, max(MULTIPLE, MULTIPLE * round(side * scale / MULTIPLE))) for side in input_size)
    return height, width


def epoch_scales(scales: Sequence[float], num_epochs: int) -> list[float]:
    """The scale of each epoch of a phase: all in turn, for equally long as far as the epochs divide, else the later
    ones for longer. A phase with fewer epochs than scales has the last ones."""
    count = len(scales)
    return [scales[count - 1 - (num_epochs - 1 - epoch) * count // num_epochs] for epoch in range(num_epochs)]


def stretches(
    scales: Sequence[float], steps_per_epoch: int, first_step: int, last_step: int
) -> Iterator[tuple[float, int, int]]:
    """(scale, first update, last update + 1) of each stretch of one scale between two updates of a phase.

    scales: of each epoch; the last one holds for all epochs after it.
    """
    epochs = range(first_step // steps_per_epoch, -(-last_step // steps_per_epoch))
    for scale, group in groupby(epochs, key=lambda epoch: scales[min(epoch, len(scales) - 1)]):
        of_scale = list(group)
        start, stop = of_scale[0] * steps_per_epoch, (of_scale[-1] + 1) * steps_per_epoch
        yield scale, max(first_step, start), min(last_step, stop)


def check_sizes(config: TrainConfig, backbone: nn.Module) -> None:
    """Raises ValueError where a phase scales the input to a size that the backbone can't take."""
    from models.backbone import refused_inputs_explained, try_out

    for key, scales in config.phases.scaled.items():
        for scale in dict.fromkeys(scales):
            size = scaled_size(config.data.input_size, scale)
            try:
                with refused_inputs_explained(config.model.backbone, size):
                    try_out(backbone, size)
            except ValueError as error:
                raise ValueError(f"{key}={scales}: {error}") from None


def smallest_size(config: TrainConfig) -> tuple[int, int]:
    """The smallest (height, width) that a phase trains on."""
    scales = [scale for scales in config.phases.scaled.values() for scale in scales]
    return scaled_size(config.data.input_size, min([1.0, *scales]))
