"""A finished run as one module: a raw image, and covariates where the run sees any, to answers in its px or unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from data.covariates import Covariates
from models.landmarks import LandmarkOutput
from trainer.config.models import HeatmapModelConfig
from trainer.config.own_tasks import OwnClasses, OwnNumbers, Scale
from trainer.exporting.preprocessing import FittedInput
from trainer.serving.predictor import Predictor
from trainer.tasks.landmarks import SMALLEST_SPREAD_PX


class RunGraph(nn.Module):
    """image (H, W, 3) uint8 RGB of any size and covariates (C,) float64 to the answers that `output_names` names.

    The answers of several networks are averaged, as the run's task does it.
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        run = predictor.run
        self.fitted = FittedInput(predictor.preprocessing)
        self.networks = nn.ModuleList(predictor.networks)
        covariates = predictor.covariates
        self.encoding = None if covariates is None else CovariateEncoding(covariates)
        self.takes_covariates = not run.is_of_landmarks
        known = run.known.covariates
        self.register_buffer("no_covariates", torch.zeros(1, 0 if known is None else len(known.encoded_names)))
        self.answer = _answer_of(predictor)
        self.output_names: list[str] = self.answer.output_names

    @property
    def input_names(self) -> list[str]:
        return ["image"] if self.encoding is None else ["image", "covariates"]

    def forward(self, image: Tensor, covariates: Tensor | None = None) -> tuple[Tensor, ...]:
        shown, scale, offset = self.fitted(image)
        encoded = self.no_covariates
        if self.encoding is not None:
            encoded = self.encoding(covariates)
        outputs = [network(shown, encoded) if self.takes_covariates else network(shown) for network in self.networks]
        answers: tuple[Tensor, ...] = self.answer(outputs, scale, offset)
        return answers


class CovariateEncoding(nn.Module):
    """(C,) float64 as people count them, the place of a category or a number in its unit, to what the network sees.

    A category that there is not makes the answer NaN; so does NaN, unless the run takes what is missing as a category.
    """

    def __init__(self, covariates: Covariates) -> None:
        super().__init__()
        self.categories = [None if names is None else len(names) for names in covariates.categories]
        self.mean, self.std = [list(map(float, values)) for values in (covariates.mean, covariates.std)]
        self.may_miss = covariates.missing_covariate == "category"

    def forward(self, values: Tensor) -> Tensor:
        parts = []
        for i, count in enumerate(self.categories):
            value = values[i : i + 1]
            missing = value.isnan()
            if count is None:
                number = (value - self.mean[i]) / self.std[i]
                if self.may_miss:
                    parts += [torch.where(missing, 0.0, number), missing.double()]
                else:
                    parts.append(number)
                continue
            if self.may_miss:
                value = torch.where(missing, count - 1.0, value)
            chosen = torch.arange(count, dtype=torch.float64) == value
            parts.append(torch.where(chosen.any(), chosen.double(), torch.nan))
        return torch.cat(parts).float()[None]


class _Points(nn.Module):
    """points (K, 2) in px of the image, and where the run has them spread (K,) and radius (K,)."""

    factors: Tensor

    def __init__(self, factors: Sequence[float | None] | None, *, has_maps: bool) -> None:
        super().__init__()
        told = [torch.nan if factor is None else factor for factor in factors or []]
        self.register_buffer("factors", torch.tensor(told, dtype=torch.float64))
        self.has_radius, self.has_maps = factors is not None, has_maps
        self.output_names = ["points", *(["spread"] if has_maps else []), *(["radius"] if factors is not None else [])]

    def forward(self, outputs: list[LandmarkOutput], scale: Tensor, offset: Tensor) -> tuple[Tensor, ...]:
        shrink = scale.prod().sqrt()
        found = []
        for output in outputs:
            points = (output.points[0].double() - offset) / scale
            expected = output.spread
            spread = torch.ones_like(points[:, 0]) if expected is None else expected[0].double()
            found.append((points, spread.clamp(min=SMALLEST_SPREAD_PX) / shrink))
        points, spread = found[0] if len(found) == 1 else _averaged(found)
        answers = [points, *([spread] if self.has_maps else []), *([spread * self.factors] if self.has_radius else [])]
        return tuple(answer.float() for answer in answers)


def _averaged(found: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """As LandmarkTask.averaged does."""
    points, spread = (torch.stack([one[part] for one in found]) for part in (0, 1))
    weights = 1 / spread.square()
    weights = weights / weights.sum(dim=0)
    mean = (weights[..., None] * points).sum(dim=0)
    apart = (points - mean).square().sum(dim=-1)
    return mean, (weights * (spread.square() + apart)).sum(dim=0).sqrt()


class _Probabilities(nn.Module):
    """probabilities (classes,)."""

    def __init__(self, own: OwnClasses | None) -> None:
        super().__init__()
        self.own = own
        self.output_names = ["probabilities"]

    def forward(self, outputs: list[Any], scale: Tensor, offset: Tensor) -> tuple[Tensor, ...]:
        logits = [output.values.float() for output in outputs]
        found = [one.softmax(dim=1) if self.own is None else self.own.probabilities(one) for one in logits]
        return (torch.cat(found).float().mean(dim=0),)


class _Number(nn.Module):
    """prediction () in the target's unit."""

    def __init__(self, own: OwnNumbers | None, mean: float, std: float) -> None:
        super().__init__()
        self.own, self.mean, self.std = own, mean, std
        self.output_names = ["prediction"]

    def forward(self, outputs: list[Any], scale: Tensor, offset: Tensor) -> tuple[Tensor, ...]:
        found = torch.stack([self._number(output.values) for output in outputs])
        return (found.mean().float(),)

    def _number(self, values: Tensor) -> Tensor:
        if self.own is not None:
            return self.own.numbers(values.float(), Scale(self.mean, self.std))[0].double()
        return values[0, 0].double() * self.std + self.mean


def _answer_of(predictor: Predictor) -> Any:
    known, calibration = predictor.run.known, predictor.run.calibration
    if predictor.run.is_of_landmarks:
        has_maps = isinstance(predictor.run.config.model, HeatmapModelConfig)
        return _Points(None if calibration is None else calibration.factors, has_maps=has_maps)
    own = getattr(predictor.task, "own", None)  # what a user's own task makes of the outputs
    if known.class_names is not None:
        return _Probabilities(own)
    assert known.target_scale is not None
    return _Number(own, *known.target_scale)
