"""Optimizers and the two phases of a run (groups `optimizer` and `phases`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from trainer.config.checks import check_choice, check_not_negative, check_positive

if TYPE_CHECKING:
    from torch import nn, optim

PHASE_NAMES = ("frozen", "finetune")


@dataclass(kw_only=True)
class OptimizerConfig(ABC):
    kind: str
    weight_decay: float

    def __post_init__(self) -> None:
        check_not_negative("optimizer.weight_decay", self.weight_decay)

    @abstractmethod
    def build(self, backbone: nn.Module, head: nn.Module) -> optim.Optimizer:
        """The optimizer of what has gradients; rates are set before each update."""


@dataclass(kw_only=True)
class AdamConfig(OptimizerConfig):
    betas: list[float]
    eps: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("optimizer.eps", self.eps)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optimizer.betas={self.betas} must be two numbers in 0 to 1 (1 excluded)")

    def build(self, backbone: nn.Module, head: nn.Module) -> optim.Optimizer:
        from torch import optim

        from trainer.optimizers import built, parameter_groups

        family = optim.AdamW if self.kind == "adamw" else optim.Adam
        betas = (self.betas[0], self.betas[1])
        return built(family, parameter_groups(backbone, head, self.weight_decay), betas=betas, eps=self.eps)


@dataclass(kw_only=True)
class SgdConfig(OptimizerConfig):
    momentum: float
    nesterov: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise ValueError(f"optimizer.momentum={self.momentum} must lie in 0 to 1 (1 excluded)")
        if self.nesterov and self.momentum == 0:
            raise ValueError("optimizer.nesterov=true needs optimizer.momentum above 0")

    def build(self, backbone: nn.Module, head: nn.Module) -> optim.Optimizer:
        from torch import optim

        from trainer.optimizers import built, parameter_groups

        groups = parameter_groups(backbone, head, self.weight_decay)
        return built(optim.SGD, groups, momentum=self.momentum, nesterov=self.nesterov)


def _changes() -> Any:
    """An open mapping: what a phase changes of the run's scheduler or optimizer, checked when it is laid over that."""
    return DictConfig({}, flags={"struct": False})


def _check_scales(key: str, scales: list[float]) -> None:
    if not scales or not all(0 < scale <= 1 for scale in scales):
        raise ValueError(f"{key}={scales} must hold one or more shares of the input size, above 0 and up to 1")


@dataclass(kw_only=True)
class FinetunePhaseConfig:
    epochs: int
    input_scales: list[float]
    backbone_lr_ratio: float
    batch_norm: str
    scheduler: Any = field(default_factory=_changes)
    optimizer: Any = field(default_factory=_changes)

    def __post_init__(self) -> None:
        check_not_negative("phases.finetune.epochs", self.epochs)
        _check_scales("phases.finetune.input_scales", self.input_scales)
        check_positive("phases.finetune.backbone_lr_ratio", self.backbone_lr_ratio)
        check_choice("phases.finetune.batch_norm", self.batch_norm, ("train", "eval"))


@dataclass(kw_only=True)
class FeatureCacheConfig:
    views: int
    max_gb: float
    max_disk_gb: float
    half: bool

    def __post_init__(self) -> None:
        for name in ("views", "max_gb", "max_disk_gb"):
            check_not_negative(f"phases.frozen.cache.{name}", getattr(self, name))


@dataclass(kw_only=True)
class FrozenPhaseConfig:
    epochs: int
    input_scales: list[float]
    cache: FeatureCacheConfig
    scheduler: Any = field(default_factory=_changes)
    optimizer: Any = field(default_factory=_changes)

    def __post_init__(self) -> None:
        check_not_negative("phases.frozen.epochs", self.epochs)
        _check_scales("phases.frozen.input_scales", self.input_scales)

    # A frozen backbone has no rate, and its BatchNorm is always in eval.
    @property
    def backbone_lr_ratio(self) -> float:
        return 0.0

    @property
    def batch_norm(self) -> str:
        return "eval"


@dataclass(kw_only=True)
class PhasesConfig:
    frozen: FrozenPhaseConfig
    finetune: FinetunePhaseConfig

    @property
    def scaled(self) -> dict[str, list[float]]:
        """Of the phases that train at other than the full input size, key and scales."""
        phases = {name: getattr(self, name) for name in PHASE_NAMES}
        return {
            f"phases.{name}.input_scales": phase.input_scales
            for name, phase in phases.items()
            if phase.epochs and set(phase.input_scales) != {1}
        }

    def __post_init__(self) -> None:
        if self.frozen.epochs == 0 and self.finetune.epochs == 0:
            raise ValueError("phases.frozen.epochs=0 and phases.finetune.epochs=0 leave nothing to train")
