"""The training loops of other frameworks, each as its manual shows it: one pass over batches that lie in memory."""

from __future__ import annotations

import importlib.util
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import models.timm_import  # noqa: F401  # makes torchvision importable, which some of them import, beside any torch

Build = Callable[[nn.Module], optim.Optimizer]
Batches = list[dict[str, Tensor]]


Seconds = tuple[float, float]  # of the clock, and of the processor in all threads


class Clock:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._begun = time.perf_counter(), time.process_time()

    def passed(self) -> Seconds:
        return time.perf_counter() - self._begun[0], time.process_time() - self._begun[1]


class Ready(Dataset[tuple[Tensor, Tensor]]):
    """Batches that are there already, as a data set of batches."""

    def __init__(self, batches: Batches) -> None:
        self.pairs = [(batch["image"], batch["label"]) for batch in batches]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pairs[index]


def loader_of(batches: Batches) -> DataLoader[tuple[Tensor, Tensor]]:
    return DataLoader(Ready(batches), batch_size=None)


def fabric(model: nn.Module, build: Build, batches: Batches) -> Seconds:
    from lightning.fabric import Fabric

    runner = Fabric(accelerator="cpu", devices=1)
    wrapped, optimizer = runner.setup(model, build(model))
    clock = Clock()
    for batch in batches:
        optimizer.zero_grad()
        runner.backward(F.cross_entropy(wrapped(batch["image"]), batch["label"]))
        optimizer.step()
    return clock.passed()


def accelerate(model: nn.Module, build: Build, batches: Batches) -> Seconds:
    from accelerate import Accelerator

    runner = Accelerator(cpu=True)
    wrapped, optimizer = runner.prepare(model, build(model))
    clock = Clock()
    for batch in batches:
        optimizer.zero_grad()
        runner.backward(F.cross_entropy(wrapped(batch["image"]), batch["label"]))
        optimizer.step()
    return clock.passed()


def _lightning(model: nn.Module, build: Build, batches: Batches, **options: Any) -> Seconds:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            loss = F.cross_entropy(self.model(batch[0]), batch[1])
            if options["logger"]:
                self.log("loss", loss, prog_bar=True)
            return loss

        def configure_optimizers(self) -> optim.Optimizer:
            return build(self.model)

        def on_train_epoch_start(self) -> None:
            self.clock = Clock()

        def on_train_epoch_end(self) -> None:
            self.seconds = self.clock.passed()

    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    module = Module()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner = lightning.Trainer(
            accelerator="cpu", devices=1, max_epochs=1, default_root_dir=folder, enable_model_summary=False, **options
        )
        runner.fit(module, loader_of(batches))
    return module.seconds


def lightning_bare(model: nn.Module, build: Build, batches: Batches) -> Seconds:
    return _lightning(
        model, build, batches, logger=False, enable_checkpointing=False, enable_progress_bar=False, barebones=False
    )


def lightning_default(model: nn.Module, build: Build, batches: Batches) -> Seconds:
    return _lightning(model, build, batches, logger=True)


def fastai(model: nn.Module, build: Build, batches: Batches) -> Seconds:
    from fastai.callback.core import Callback
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    class Timed(Callback):  # type: ignore[misc]
        def before_train(self) -> None:
            self.clock = Clock()

        def after_train(self) -> None:
            self.seconds = self.clock.passed()

    clock = Timed()
    loader = loader_of(batches)
    learner = Learner(
        DataLoaders(loader, loader),
        model,
        loss_func=F.cross_entropy,
        opt_func=lambda _, **__: OptimWrapper(opt=build(model)),
        cbs=[clock],
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit(1, lr=1e-4)
    return clock.seconds


PEERS: dict[str, Callable[[nn.Module, Build, Batches], Seconds]] = {
    "Fabric": fabric,
    "accelerate": accelerate,
    "Lightning, nothing switched on": lightning_bare,
    "Lightning, as it comes": lightning_default,
    "fastai, no bar": fastai,
}
_PACKAGES = {"Fabric": "lightning", "accelerate": "accelerate", "fastai, no bar": "fastai"}


def missing(peer: str) -> str:
    """The package that a peer lacks; empty where it can run."""
    package = _PACKAGES.get(peer, "lightning")
    return "" if importlib.util.find_spec(package) else package
