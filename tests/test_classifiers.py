"""Label models: they learn from images and covariates, look where the signal is, and keep a frozen backbone."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.classifiers import (
    AttentionHead,
    CovariateHead,
    Joint,
    LabelModel,
    LabelOutput,
    PooledHead,
    build_label_model,
)
from trainer.phases import fingerprint

SIZE = (64, 64)
HEADS = ["pooled", "covariate", "attention"]


def model(**changes: object) -> LabelModel:
    options = {
        "backbone": "test_efficientnet",
        "weights": "none",
        "input_size": SIZE,
        "num_outputs": 3,
        "num_covariates": 2,
        "head": "attention",
        "hidden": 16,
        "embedding": 4,
        "dropout": 0.1,
    }
    torch.manual_seed(0)
    return build_label_model(**(options | changes))


def images(count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, *SIZE), dtype=torch.uint8, generator=generator)


def covariates(count: int = 4) -> Tensor:
    return torch.eye(2)[torch.arange(count) % 2]


def head_of(kind: str, channels: int = 8, *, num_covariates: int = 2, num_outputs: int = 1) -> nn.Module:
    torch.manual_seed(0)
    if kind == "pooled":
        return PooledHead(channels, num_outputs=num_outputs, dropout=0.0)
    joint = Joint(channels, num_covariates, num_outputs, hidden=32, embedding=8, dropout=0.0)
    return CovariateHead(joint) if kind == "covariate" else AttentionHead(channels, joint)


def train(head: nn.Module, features: Tensor, given: Tensor, target: Tensor, steps: int, rate: float = 1e-2) -> float:
    """The last loss: squared error of numbers, cross-entropy of classes."""
    optimizer = torch.optim.Adam(head.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        values = head(features, given).values
        loss = F.mse_loss(values[:, 0], target) if target.is_floating_point() else F.cross_entropy(values, target)
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "test_vit"])
@pytest.mark.parametrize("head", HEADS)
def test_each_image_has_its_outputs_and_attention_that_sums_to_one(head: str, backbone: str) -> None:
    output: LabelOutput = model(head=head, backbone=backbone)(images(), covariates())
    assert output.values.shape == (4, 3)
    assert output.values.dtype == torch.float32
    assert (output.attention is None) == (head != "attention")
    if output.attention is not None:
        cells = 4 if backbone == "test_vit" else 2
        assert output.attention.shape == (4, cells, cells)
        torch.testing.assert_close(output.attention.sum(dim=(1, 2)), torch.ones(4))


@pytest.mark.parametrize("head", HEADS)
def test_models_start_near_the_mean_target_and_with_equal_classes(head: str) -> None:
    output = model(head=head).eval()(images(), covariates())
    assert output.values.abs().max() < 0.3
    loss = F.cross_entropy(output.values, torch.tensor([0, 1, 2, 0]))
    assert loss.item() == pytest.approx(math.log(3), abs=0.1)


def test_attention_starts_as_the_mean_over_the_map() -> None:
    features, given = torch.randn(3, 8, 4, 5), torch.zeros(3, 2)
    attention, mean = head_of("attention"), head_of("covariate")
    mean.joint.load_state_dict(attention.joint.state_dict())
    torch.testing.assert_close(attention(features, given).values, mean(features, given).values)
    assert torch.equal(attention(features, given).attention, torch.full((3, 4, 5), 1 / 20))


def test_attention_weighs_the_features_of_each_cell() -> None:
    head = head_of("attention")
    nn.init.normal_(head.scores[-1].weight)
    features, given = torch.randn(3, 8, 4, 5), torch.rand(3, 2)
    output = head(features, given)
    pooled = torch.zeros(3, 8)
    for image, row, column in np.ndindex(3, 4, 5):
        pooled[image] += output.attention[image, row, column] * features[image, :, row, column]
    torch.testing.assert_close(output.values, head.joint(pooled, given))
    assert output.attention.std() > 0.01


@pytest.mark.parametrize("head", ["covariate", "attention"])
def test_the_covariate_changes_the_answer_and_stays_with_its_image(head: str) -> None:
    network = model(head=head).eval()
    one, other = (network(images(), covariates().roll(shift, 1)).values for shift in (0, 1))
    assert ((one - other).abs().amax(dim=1) > 1e-5).all()
    order = torch.tensor([2, 0, 3, 1])
    shuffled = network(images()[order], covariates()[order]).values
    torch.testing.assert_close(shuffled, one[order])


def test_the_baseline_does_not_look_at_covariates() -> None:
    network = model(head="pooled").eval()
    assert torch.equal(network(images(), covariates()).values, network(images(), torch.zeros(4, 0)).values)


@pytest.mark.parametrize("kind", ["covariate", "attention"])
def test_what_the_image_means_may_depend_on_the_covariate(kind: str) -> None:
    """A target whose sign the covariate flips: no sum of an image's and a covariate's part comes near it."""
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(64, 8, 2, 2, generator=generator)
    sex = torch.arange(64) % 2
    target = features[:, 0].mean(dim=(1, 2)) * (2.0 * sex - 1)
    target = target / target.std()
    assert train(head_of(kind), features, torch.eye(2)[sex], target, steps=150) < 0.1
    assert train(head_of("pooled"), features, torch.eye(2)[sex], target, steps=150) > 0.5


def test_attention_peaks_where_the_signal_is_planted_also_in_images_it_was_not_trained_on() -> None:
    generator = torch.Generator().manual_seed(4)
    count = 320
    features = torch.randn(count, 8, 6, 6, generator=generator)
    classes = torch.randint(0, 2, (count,), generator=generator)
    places = torch.randint(0, 36, (count,), generator=generator)
    marks = torch.zeros(count, 8)
    marks[:, 0], marks[:, 1] = 4.0, 4.0 * (2.0 * classes - 1)
    features.view(count, 8, 36)[torch.arange(count), :, places] += marks
    head, none = head_of("attention", num_covariates=0, num_outputs=2), torch.zeros(count, 0)
    train(head, features[:256], none[:256], classes[:256], steps=60)
    unseen = features[256:], none[256:]
    attention = head(*unseen).attention.flatten(1)
    assert (attention.argmax(dim=1) == places[256:]).float().mean() > 0.9
    assert (head(*unseen).values.argmax(dim=1) == classes[256:]).float().mean() > 0.95


@pytest.mark.parametrize("head", HEADS)
def test_gradient_reaches_every_parameter_of_backbone_and_head(head: str) -> None:
    network = model(head=head, dropout=0.0)
    if head == "attention":
        nn.init.normal_(network.head.scores[-1].weight)  # what is before it has no gradient while it is 0
    F.cross_entropy(network(images(), covariates()).values, torch.tensor([0, 1, 2, 0])).backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not without
    for part in (network.backbone, network.head):
        assert any(parameter.grad.any() for parameter in part.parameters())


@pytest.mark.parametrize("head", HEADS)
def test_training_the_head_leaves_a_frozen_backbone_untouched(head: str) -> None:
    network = model(head=head)
    network.train()
    network.backbone.requires_grad_(False).eval()
    before, head_before = fingerprint(network.backbone), fingerprint(network.head)
    optimizer = torch.optim.Adam([part for part in network.parameters() if part.requires_grad], lr=1e-2)
    for _ in range(3):
        F.cross_entropy(network(images(), covariates()).values, torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
    assert fingerprint(network.backbone) == before
    assert fingerprint(network.head) != head_before


@pytest.mark.parametrize("kind", HEADS)
def test_a_heads_answer_is_not_rounded_by_autocast(kind: str) -> None:
    head = head_of(kind).eval()
    features, given = torch.randn(4, 8, 3, 3).bfloat16(), torch.rand(4, 2)
    expected = head(features.float(), given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = head(features, given)
    assert torch.equal(output.values, expected.values)
    assert output.values.dtype == torch.float32


@pytest.mark.parametrize("head", HEADS)
def test_a_state_dict_restores_the_models_answers(head: str) -> None:
    trained, other = model(head=head), model(head=head)
    for parameter in trained.parameters():
        parameter.data.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    trained(images(), covariates())  # moves the statistics of its batch norm
    other.load_state_dict(trained.state_dict())
    answers = [network.eval()(images(), covariates()).values for network in (trained, other)]
    assert torch.equal(*answers)


def test_a_model_learns_one_batch_of_classes() -> None:
    network, target = model(dropout=0.0), torch.tensor([0, 1, 2, 0])
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(network(images(), covariates()).values, target).backward()
        optimizer.step()
    assert torch.equal(network(images(), covariates()).values.argmax(dim=1), target)


def test_a_covariate_model_without_covariates_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^model=covariate needs covariates, but data\.covariates is empty; [^\n]+$"):
        model(head="covariate", num_covariates=0)


def test_attention_needs_no_covariates_but_more_than_one_cell() -> None:
    assert model(num_covariates=0)(images(), torch.zeros(4, 0)).values.shape == (4, 3)
    with pytest.raises(
        ValueError, match=r"^model=attention_covariate has one cell .*model\.backbone=test_efficientnet"
    ):
        model(input_size=(32, 32))
