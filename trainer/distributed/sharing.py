"""One batch shared by several processes: gradients, losses and predictions as if one process had seen all of it."""

from __future__ import annotations

import hashlib
import warnings
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from data.loaders import Part
from trainer.distributed.batch_norm import WholeBatchNorm
from trainer.distributed.ranks import Ranks

if TYPE_CHECKING:
    from trainer.loop import Batch, UpdateRule
    from trainer.run_data import RunData
    from trainer.state import TrainState

Judged = tuple[list[float], list[int], list[dict[str, Any]]]  # batch by batch: loss, images, predictions


class Sharing:
    """How the processes of a group work on one batch. `seed` is the run's."""

    def __init__(self, ranks: Ranks, seed: int) -> None:
        self.ranks = ranks
        self.part = Part(ranks.rank, ranks.count)
        self._seed = seed
        self._wrapper: DistributedDataParallel | None = None
        self._trained: tuple[int, ...] = ()  # the parameters that the wrapper was made for

    def check_same_run(self, composed: DictConfig, saved: dict[str, Any] | None) -> None:
        """Raises ValueError where the processes would go on with different runs."""
        config = OmegaConf.to_yaml(OmegaConf.merge(composed, {"resume": None}))  # the same folder, perhaps by two names
        digest = hashlib.sha256(config.encode()).hexdigest()[:12]
        update = "no checkpoint" if saved is None else f"a checkpoint after update {saved['iteration']}"
        self.ranks.check_same("config and checkpoint", f"{update} (config {digest}, torch {torch.__version__})")

    def divided(self, data: RunData, rule: UpdateRule) -> tuple[RunData, UpdateRule]:
        """The same for this process's part of every batch.

        Raises:
            ValueError: there are fewer training images than processes, or the processes read different data.
        """
        records = data.records
        num_images = len(records.indices("train"))
        told = repr((list(records.image_names), records.sizes.tolist(), records.splits.tolist()))
        digest = hashlib.sha256(told.encode()).hexdigest()[:12]
        self.ranks.check_same("data", f"{len(records.image_names)} images (digest {digest})")
        if num_images < self.ranks.count:
            raise ValueError(
                f"{num_images} training images are too few for {self.ranks.count} processes, each of which needs one "
                f"of every batch; start fewer: torchrun --nproc-per-node={num_images}"
            )
        return replace(data, part=self.part), replace(rule, sharing=self)

    def begin_update(self, iteration: int) -> None:
        """Seed dropout: as a function of the update and the process it needs no place in a checkpoint, and no two
        processes drop the same."""
        words = np.random.SeedSequence([self._seed, iteration, self.ranks.rank]).generate_state(2)
        torch.manual_seed(int(words[0]) << 32 | int(words[1]))

    def backward(self, state: TrainState, batch: Batch, rule: UpdateRule, *, last: bool) -> float:
        """Add the gradients of this process's part of a batch, weighed by the part's share in the terms of the loss;
        with the `last` batch of an update they become those of all parts. Returns the loss of the whole batch."""
        wrapper = self._wrapped(state.model, rule)
        with nullcontext() if last else wrapper.no_sync():
            with rule.watch.part("forward"):
                loss, terms = wrapper(batch)
            with rule.watch.part("backward"):
                own_terms = terms.item()
                total_loss, total_terms = self.ranks.summed([loss.item() * own_terms, own_terms])
                # The wrapper takes the mean over the processes: hence their number.
                share = self.ranks.count * own_terms / max(total_terms, 1.0)
                state.scaler.scale(loss * share / rule.accumulation).backward()
        return total_loss / max(total_terms, 1.0)

    def merged(self, losses: list[float], terms: list[float], counts: list[int], parts: list[dict[str, Any]]) -> Judged:
        """What all processes found in their parts of the batches of an evaluation, as losses, counts and predictions of
        whole batches. A process that has no part of a batch has 0 terms, 0 images and an empty dict."""
        whole: Judged = ([], [], [])
        for of_batch in zip(*self.ranks.gathered(list(zip(losses, terms, counts, parts, strict=True))), strict=True):
            num_terms = max(sum(n for _, n, _, _ in of_batch), 1.0)
            whole[0].append(sum(loss * n for loss, n, _, _ in of_batch) / num_terms)
            whole[1].append(sum(count for _, _, count, _ in of_batch))
            whole[2].extend(part for _, _, _, part in of_batch if part)
        return whole

    def all_indices(self, indices: list[int]) -> list[int]:
        """Of the records in the whole of a batch."""
        return [index for part in self.ranks.gathered(indices) for index in part]

    def _wrapped(self, model: nn.Module, rule: UpdateRule) -> DistributedDataParallel:
        """The wrapper of the phase: made anew when other parameters are trained."""
        trained = tuple(id(parameter) for parameter in model.parameters() if parameter.requires_grad)
        if self._wrapper is None or self._trained != trained:
            self._trained = trained
            with warnings.catch_warnings():
                # The newer name of broadcast_buffers is not known to all versions of torch that we run under.
                warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
                self._wrapper = DistributedDataParallel(
                    _Measured(model, rule, WholeBatchNorm(self.ranks.count)),
                    # Batch norm's statistics are those of the whole batch, so that all processes have the same.
                    broadcast_buffers=False,
                    # Parts of a model may be of no effect on a loss. With it, gradients are also exchanged in portions
                    # that never change, so that a run that is resumed sums them as one that was not stopped.
                    find_unused_parameters=True,
                )
        return self._wrapper


class _Measured(nn.Module):
    """A model and what its answer costs: a batch to the mean loss, and how many terms that is the mean of."""

    def __init__(self, model: nn.Module, rule: UpdateRule, whole_batch_norm: WholeBatchNorm) -> None:
        super().__init__()
        self.model = model
        # torch warns of looking for parameters without effect where there is none.
        self.without_effect = nn.Parameter(next(model.parameters()).new_zeros(()))
        self._task, self._compute, self._whole_batch_norm = rule.task, rule.compute, whole_batch_norm

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        with self._compute.autocast(), self._whole_batch_norm:
            output = self.model(*(batch[name] for name in self._task.inputs))
        return self._task.loss(output, batch), self._task.loss_terms(output, batch)
