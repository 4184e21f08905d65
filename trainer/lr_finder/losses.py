"""From a batch to one loss: by a model and a criterion, by several criteria, by the model itself or by a step_fn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class BatchLoss:
    """The loss of a batch, a tensor of one number.

    `step_fn(batch)` comes first where there is one. Else the model gets the inputs, and the criterion outputs and
    labels. A dict of criteria gives a dict of losses; so may a criterion or a step_fn. Without a criterion the model
    gets a dict batch by keyword and returns its loss, as Hugging Face's models do.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Any,
        step_fn: Callable[[Any], Any] | None,
        weights: Mapping[str, float] | None,
    ) -> None:
        self._model, self._criterion, self._step_fn, self._weights = model, criterion, step_fn, weights
        self.takes_whole_batch = criterion is None or step_fn is not None

    def of_batch(self, batch: Any) -> Tensor:
        if self._step_fn is not None:
            return self._one(self._step_fn(batch))
        if not isinstance(batch, Mapping):
            raise TypeError(
                f"criterion=None needs batches that are dicts, for a model that returns its loss, but a batch is a "
                f"{type(batch).__name__}; give a criterion, or a step_fn(batch) -> loss"
            )
        output = self._model(**batch)
        loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
        if loss is None:
            raise TypeError(
                f"criterion=None needs a model that returns its loss as .loss or ['loss'], but it returned a "
                f"{type(output).__name__}; give a criterion, or a step_fn(batch) -> loss"
            )
        return self._one(loss)

    def of_pair(self, inputs: Any, labels: Any) -> Tensor:
        outputs = self._model(inputs)
        if not isinstance(self._criterion, Mapping | nn.ModuleDict):
            return self._one(self._criterion(outputs, labels))
        return self._one(
            {
                name: criterion(_part(outputs, name, "outputs"), _part(labels, name, "labels"))
                for name, criterion in self._criterion.items()
            }
        )

    def _one(self, loss: Any) -> Tensor:
        if isinstance(loss, Mapping):
            loss = self._weighted_sum(loss)
        elif self._weights is not None:
            raise ValueError("loss_weights needs losses by name, but one loss came; return a dict of losses")
        if not isinstance(loss, Tensor):
            raise TypeError(f"a loss is a {type(loss).__name__}, but a tensor is needed, or a dict of tensors")
        if loss.numel() != 1:
            raise ValueError(f"a loss has the shape {tuple(loss.shape)}, but one number is needed; take its mean")
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise ValueError("a loss has no gradient; is it detached, or are all parameters frozen?")
        return loss.reshape(())

    def _weighted_sum(self, losses: Mapping[str, Any]) -> Any:
        weights = dict.fromkeys(losses, 1.0) if self._weights is None else self._weights
        if set(weights) != set(losses):
            raise ValueError(
                f"loss_weights names {', '.join(sorted(weights))}, but the losses are {', '.join(sorted(losses))}; "
                "give each a weight, 0 to leave it out"
            )
        parts = [weights[name] * loss for name, loss in losses.items() if weights[name] != 0]
        if not parts:
            raise ValueError("no loss is left: there is none, or each has the weight 0")
        return sum(parts[1:], start=parts[0])


def sent(batch: Any, device: torch.device, non_blocking: bool) -> Any:
    """The batch with all tensors within tuples, lists and dicts on the device; what else can go there by `.to` goes."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=non_blocking)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(sent(part, device, non_blocking) for part in batch))
    if isinstance(batch, tuple | list):
        return type(batch)(sent(part, device, non_blocking) for part in batch)
    if isinstance(batch, dict):
        return {key: sent(part, device, non_blocking) for key, part in batch.items()}
    return batch.to(device) if hasattr(batch, "to") else batch


def num_samples(batch: Any) -> int:
    """Rows of the first tensor within the batch; 1 where there is none."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 1
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, tuple | list) else ()
    return next((num_samples(part) for part in parts if isinstance(part, Tensor | Mapping | tuple | list)), 1)


def _part(values: Any, name: str, what: str) -> Any:
    if not isinstance(values, Mapping):
        return values
    if name not in values:
        raise ValueError(f"criterion {name!r} finds no {what} of its name; there are {', '.join(map(repr, values))}")
    return values[name]
