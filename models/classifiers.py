"""Models that give an image a class or a number, from the image alone or with covariates of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.frozen import needed, pooled
from models.precision import full_precision
from models.trunk import Trunk

ATTENTION_WIDTH = 64  # hidden units of the network that scores a cell


@dataclass
class LabelOutput:
    """values: (N, O) logits, or the standardised target with O = 1; attention: (N, h, w), which sums to 1 over the
    cells of an image, None for models without it."""

    values: Tensor
    attention: Tensor | None = None


class PooledHead(nn.Module):
    """The baseline: the mean over the map, dropout, a linear layer. Covariates are not looked at."""

    def __init__(self, channels: int, *, num_outputs: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(dropout), _output_layer(channels, num_outputs))

    def forward(self, features: Tensor, covariates: Tensor) -> LabelOutput:
        with full_precision(features):
            return LabelOutput(self.layers(features.float().mean(dim=(2, 3))))

    def needed(self, features: list[Tensor]) -> list[Tensor]:
        return [pooled(features[0])]


class CovariateHead(nn.Module):
    """The mean over the map and the embedded covariates, joined."""

    def __init__(self, joint: Joint) -> None:
        super().__init__()
        self.joint = joint

    def forward(self, features: Tensor, covariates: Tensor) -> LabelOutput:
        with full_precision(features):
            return LabelOutput(self.joint(features.float().mean(dim=(2, 3)), covariates))

    def needed(self, features: list[Tensor]) -> list[Tensor]:
        return [pooled(features[0])]


class AttentionHead(nn.Module):
    """A weighted mean over the map, joined with the embedded covariates if there are any.

    A cell's weight is the softmax over the image of a score that a small network gives to its features (Ilse et al.
    2018, arXiv:1802.04712, equation 8). All weights are equal before training.
    """

    def __init__(self, channels: int, joint: Joint) -> None:
        super().__init__()
        last = nn.Conv2d(ATTENTION_WIDTH, 1, 1, bias=False)  # a bias is nothing to a softmax
        nn.init.zeros_(last.weight)
        self.scores = nn.Sequential(nn.Conv2d(channels, ATTENTION_WIDTH, 1), nn.Tanh(), last)
        self.joint = joint

    def forward(self, features: Tensor, covariates: Tensor) -> LabelOutput:
        with full_precision(features):
            exact = features.float()
            scores = self.scores(exact)[:, 0]
            attention = scores.flatten(1).softmax(dim=1).view_as(scores)
            pooled = (attention[:, None] * exact).sum(dim=(2, 3))
            return LabelOutput(self.joint(pooled, covariates), attention)


class Joint(nn.Module):
    """Pooled features (N, C) and covariates (N, D) to outputs (N, O). A hidden layer follows the concatenation of the
    features and the embedding, so that a covariate may change what the image means."""

    def __init__(
        self, channels: int, num_covariates: int, num_outputs: int, *, hidden: int, embedding: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Sequential(nn.Linear(num_covariates, embedding), nn.ReLU()) if num_covariates else None
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(
            nn.Linear(channels + (embedding if num_covariates else 0), hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            _output_layer(hidden, num_outputs),
        )

    def forward(self, pooled: Tensor, covariates: Tensor) -> Tensor:
        joined = self.dropout(pooled)
        if self.embedding is not None:
            joined = torch.cat([joined, self.embedding(covariates.float())], dim=1)
        outputs: Tensor = self.layers(joined)
        return outputs


class LabelModel(nn.Module):
    """Images (N, 3, H, W) uint8, or what `features` gave for them, and covariates (N, D) float32, D = 0 without any, to
    a LabelOutput. `backbone` and `head` are the two groups of the optimizer."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def features(self, images: Tensor) -> list[Tensor]:
        """What the head needs of the images, in a list of one."""
        return needed(self.head, [self.backbone(images)])

    def forward(self, images: Tensor | list[Tensor], covariates: Tensor) -> LabelOutput:
        output: LabelOutput = self.head(images[0] if isinstance(images, list) else self.backbone(images), covariates)
        return output


def build_label_model(
    *,
    backbone: str,
    weights: str,
    input_size: tuple[int, int],
    num_outputs: int,
    num_covariates: int,
    head: str,
    hidden: int,
    embedding: int,
    dropout: float,
) -> LabelModel:
    """`head`: pooled, covariate or attention; `input_size`: (height, width); `hidden` and `embedding`: units, of no
    effect for pooled.

    Raises:
        ValueError: the backbone can't be built or filled, or the head finds nothing to work on.
    """
    if head == "covariate" and not num_covariates:
        raise ValueError(
            "model=covariate needs covariates, but data.covariates is empty; "
            "name columns (data.covariates=[sex]), or choose model=classifier"
        )
    trunk = Trunk(backbone, weights, input_size)
    if head == "pooled":
        return LabelModel(trunk, PooledHead(trunk.channels, num_outputs=num_outputs, dropout=dropout))
    if head == "attention" and trunk.map_size == (1, 1):
        raise ValueError(
            f"model=attention_covariate has one cell only to attend to: that is what model.backbone={backbone} gives "
            f"for data.input_height={input_size[0]} data.input_width={input_size[1]}; "
            "choose a larger input, another backbone, or model=covariate"
        )
    joint = Joint(trunk.channels, num_covariates, num_outputs, hidden=hidden, embedding=embedding, dropout=dropout)
    return LabelModel(trunk, CovariateHead(joint) if head == "covariate" else AttentionHead(trunk.channels, joint))


def _output_layer(channels: int, num_outputs: int) -> nn.Linear:
    """Starts near 0: all classes alike, or the mean of the target."""
    layer = nn.Linear(channels, num_outputs)
    nn.init.normal_(layer.weight, std=1e-2)
    nn.init.zeros_(layer.bias)
    return layer
