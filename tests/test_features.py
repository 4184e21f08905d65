"""A frozen phase from kept features: the same numbers without the backbone, and what it does where it can't."""

import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import TINY, TINY_LABELS, compose, run_in_process
from faults import Fault, promised
from safetensors.torch import load_file, save_file
from stopped_runs import run_in_parts, start_or_resume
from torch import nn

from benchmarks.killed_runs import differences
from models.backbone import Backbone
from models.classifiers import build_label_model
from models.landmarks import LandmarkModel, build_coordinate_model, build_heatmap_model
from models.timm_import import timm
from trainer.config.store import to_train_config
from trainer.device import build_compute
from trainer.feature_plan import computed
from trainer.features import Features, Source, as_it_is
from trainer.run_data import RunData
from trainer.run_dir import RunDir

# Of a network whose answers to an image do not depend on the rest of the batch, to the bit.
FROZEN = ("phases=frozen_only", "phases.finetune.epochs=0", "phases.frozen.epochs=5", "model.backbone=resnet10t")
STILL = ("data/augmentation=none",)
VIEWS = "phases.frozen.cache.views"
NUMBERS = ("task=regression", "data.covariates=[sex]", "model.dropout=0.4")
LABELS = ("task=classification", "data.balance=true", "model=attention_covariate", "data.covariates=[sex]")


@contextmanager
def counted_images(*kinds: type[nn.Module]) -> Iterator[list[int]]:
    """The number of images of every call of a backbone, of any model."""
    seen: list[int] = []

    def note(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, kinds):
            seen.append(len(given[0]))

    handle = nn.modules.module.register_module_forward_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


def columns_that_count(run: RunDir) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a run wrote of its updates and epochs, less the seconds."""
    return pd.read_csv(run.lr_history), pd.read_csv(run.metrics).drop(columns="seconds")


def assert_same_run(one: RunDir, other: RunDir) -> None:
    """To the bit: losses, gradients, rates, metrics and weights."""
    for found, expected in zip(columns_that_count(one), columns_that_count(other), strict=True):
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
    weights, same = load_file(one.best_weights), load_file(other.best_weights)
    assert all(torch.equal(weights[key], same[key]) for key in weights | same)


def data_of(folder: Path, *overrides: str, tiny: tuple[str, ...] = TINY) -> RunData:
    config = to_train_config(compose(*tiny, *overrides))
    return config.task.build_data(config, folder / "splits.csv")


def features_of(data: RunData, model: nn.Module, *, views: int, first_epoch: int, **options: object) -> Features:
    compute = build_compute("cpu", "fp32", memory_format="channels_last")
    compute.place(model).eval()

    def answers(images: torch.Tensor) -> list[torch.Tensor]:
        return computed(model, compute, images)

    source = Source(
        train=data.train,
        plain=data.plain,
        train_indices=data.records.indices("train"),
        val_indices=data.records.indices("val"),
        batch_size=data.batch_size,
        compute=answers,
        check=lambda: None,
    )
    example = answers(torch.zeros(1, 3, *data.train.input_size, dtype=torch.uint8))
    return Features(source, example, views=views, first_epoch=first_epoch, **{"half": False, "folder": None, **options})


@pytest.mark.parametrize(
    ("tiny", "overrides"),
    [
        (TINY, ()),
        (TINY, ("model.decoder=unet", "model.refinement=true", "model.dropout=0.3", "ema_decay=0.9")),
        (TINY[:2] + TINY[3:], ("model=coordinates", "model.refinement=true", "precision=bf16")),
        (TINY_LABELS, LABELS),
        (TINY_LABELS, (*NUMBERS, "model=covariate", "accumulation=2", "data.batch_size=2", "memory_format=contiguous")),
    ],
)  # fmt: skip
def test_one_view_gives_the_bits_of_the_ordinary_way_without_augmentation(tiny, overrides, tmp_path: Path) -> None:
    ordinary, kept = RunDir(tmp_path / "ordinary"), RunDir(tmp_path / "kept")
    run_in_process(ordinary.path, *overrides, *FROZEN, "phases.frozen.epochs=3", *STILL, f"{VIEWS}=0", tiny=tiny)
    run_in_process(kept.path, *overrides, *FROZEN, "phases.frozen.epochs=3", f"{VIEWS}=1", tiny=tiny)
    assert_same_run(kept, ordinary)


def test_views_are_those_of_the_first_epochs_in_turn(tmp_path: Path) -> None:
    """Epoch by epoch as the ordinary way, and then from the start: the same images, augmented and marked alike."""
    data = data_of(tmp_path, "model.backbone=resnet10t")
    torch.manual_seed(0)
    model = heatmap_model().eval()
    features = features_of(data, model, views=2, first_epoch=7)
    options = {"first_epoch": 7, "first_step": 0, "last_step": 4 * data.updates_per_epoch}
    ordinary = list(data.training_batches(**options))
    kept = list(with_kept(data, features).training_batches(**options))
    shown: dict[tuple[int, int], torch.Tensor] = {}
    for number, (image_batch, batch) in enumerate(zip(ordinary, kept, strict=True)):
        epoch = number // data.updates_per_epoch
        assert torch.equal(image_batch["index"], batch["index"])
        expected = computed(model, build_compute("cpu", "fp32", memory_format="channels_last"), image_batch["image"])
        for row, index in enumerate(batch["index"].tolist()):
            sample = [batch["points"][row], batch["affine"][row], *(level[row] for level in batch["image"])]
            if epoch < 2:
                same = [image_batch["points"][row], image_batch["affine"][row], *(level[row] for level in expected)]
                shown[epoch, index] = sample
            elif (epoch - 2, index) not in shown:  # an epoch leaves out what does not fill a batch
                continue
            else:
                same = shown[epoch - 2, index]
            assert all(torch.equal(a, b) for a, b in zip(sample, same, strict=True))


def test_an_image_drawn_again_in_an_epoch_comes_in_the_next_view(tmp_path: Path) -> None:
    data = data_of(tmp_path, "task=classification", "data.augmentation.flip=0.5", tiny=TINY_LABELS)
    features = features_of(data, label_model(), views=3, first_epoch=0)
    index = int(data.records.indices("train")[0])
    (batch,) = features.training_batches([[(4, index), (4, index, 1), (5, index), (4, index, 3)]], 0, data._batches)
    rows = batch["image"][0]
    assert torch.equal(rows[1], rows[2])
    assert torch.equal(rows[0], rows[3])
    assert not torch.equal(rows[0], rows[1])


def test_a_single_view_has_no_noise_and_no_random_annotator(tmp_path: Path) -> None:
    data = data_of(tmp_path, "task=regression", "task.label_noise=9", tiny=TINY_LABELS)
    index = int(data.records.indices("train")[0])
    assert float(as_it_is(data.train)[5, index]["target"]) == pytest.approx(float(data.records.targets[index]))
    assert data.train.label_noise == 9
    for asked, taken in (("random", "mean"), ("alice", "alice")):
        marked = copy(data_of(tmp_path).train)
        marked.annotator = asked
        assert as_it_is(marked).annotator == taken


def test_the_backbone_sees_each_view_once_and_each_validation_image_once(tmp_path: Path) -> None:
    """15 images: 12 train, in 3 batches, and 3 validate; the heads alone train in the last three epochs."""
    with counted_images(Backbone) as seen:
        run_in_process(tmp_path / "run", "phases.frozen.epochs=4", f"{VIEWS}=2")
    finetune, judged = 2 * [4, 4, 4, 3], [3]
    # One image tries the decoder, one tells how large its features are; then a view, the validation images, and in the
    # second epoch another view.
    assert seen == [1, 1, *[4, 4, 4], *[3], *[4, 4, 4], *finetune, *judged]
    with counted_images(Backbone) as seen:
        run_in_process(tmp_path / "ordinary", "phases.frozen.epochs=4", f"{VIEWS}=0")
    assert seen == [1, *(4 * [4, 4, 4, 3]), *finetune, *judged]


def test_a_run_in_parts_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    settings = (*TINY, "phases.frozen.epochs=5", f"{VIEWS}=2", "model.dropout=0.2", "phases.frozen.cache.max_gb=0")
    start_or_resume(tmp_path / "whole", *settings)
    assert run_in_parts(tmp_path / "stopped", settings, checks=(9, 13)) >= 3
    assert differences(RunDir(tmp_path / "stopped"), RunDir(tmp_path / "whole")) == []


def test_features_lie_where_their_size_says_with_the_same_bits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    asked = (
        *FROZEN,
        f"{VIEWS}=2",
        "range_test=on",
        "range_test.num_steps=23",
        "scheduler=constant",
        "scheduler.lr=1e-3",
    )
    tiny = tuple(text for text in TINY if not text.startswith("scheduler."))
    runs = {
        "memory": (),
        "disk": ("phases.frozen.cache.max_gb=1e-6",),
        "none": ("phases.frozen.cache.max_gb=1e-6", "phases.frozen.cache.max_disk_gb=1e-6"),
    }
    for name, overrides in runs.items():
        caplog.clear()
        run_in_process(tmp_path / name, *asked, *overrides, tiny=tiny)
        told = "frozen: the backbone runs once: 12 images x 2 views + 3 of validation, 3.2 MB of features"
        expected = {
            "memory": f"{told} in memory",
            "disk": f"{told} on disk, until the phase ends",
            "none": "frozen: the backbone runs in each epoch: its features (12 images x 2 views + 3 of validation, "
            "3.2 MB) are more than phases.frozen.cache.max_gb=1e-06 and max_disk_gb=1e-06",
        }[name]
        assert expected in caplog.text
    for name in ("disk", "none"):
        assert_same_run(RunDir(tmp_path / name), RunDir(tmp_path / "memory"))
    assert [path.name for path in (tmp_path / "disk").rglob("*") if "features" in path.name] == []


def test_a_budget_of_minutes_leaves_no_trace_in_kept_features(tmp_path: Path) -> None:
    run_in_process(tmp_path / "free", *FROZEN, f"{VIEWS}=2")
    run_in_process(tmp_path / "within", *FROZEN, f"{VIEWS}=2", "max_minutes=30")
    assert_same_run(RunDir(tmp_path / "within"), RunDir(tmp_path / "free"))


@pytest.mark.parametrize(
    ("tiny", "overrides", "why"),
    [
        (TINY_LABELS, ("task=classification", "data.mixup=0.2", f"{VIEWS}=1"), "data.mixup mixes images"),
        (
            TINY,
            ("phases.frozen.input_scales=[0.5]", f"{VIEWS}=1"),
            "phases.frozen.input_scales=[0.5] gives it inputs of several sizes",
        ),
        (TINY, (f"{VIEWS}=3",), "its 5 epochs would take few of phases.frozen.cache.views=3 twice"),
    ],
)
def test_where_features_can_not_take_the_place_of_images_the_ordinary_way_is_taken_and_told(
    tiny, overrides, why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run_in_process(tmp_path / "asked", *overrides, *FROZEN, tiny=tiny)
    assert f"frozen: the backbone runs in each epoch: {why}\n" in caplog.text
    settings = [text for text in overrides if VIEWS not in text]
    run_in_process(tmp_path / "ordinary", *settings, *FROZEN, f"{VIEWS}=0", tiny=tiny)
    assert_same_run(RunDir(tmp_path / "asked"), RunDir(tmp_path / "ordinary"))


def test_half_precision_takes_half_the_room_and_moves_features_by_a_thousandth_at_most(tmp_path: Path) -> None:
    data = data_of(tmp_path, "model.backbone=resnet10t")
    torch.manual_seed(0)
    model = heatmap_model()
    options = {"first_epoch": 0, "first_step": 0, "last_step": 1}
    batches = []
    for half in (False, True):
        features = features_of(data, model, views=1, first_epoch=0, half=half)
        batches += list(with_kept(data, features).training_batches(**options))
        stored = [kept.rows.element_size() for kept in features._train._maps]
        assert stored == [2 if half else 4] * len(stored)
    for full, halved in zip(batches[0]["image"], batches[1]["image"], strict=True):
        assert halved.dtype == torch.float32
        torch.testing.assert_close(halved, full, rtol=2**-11, atol=2**-24)


@pytest.mark.parametrize("kind", ["landmarks", "labels"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_graph_is_built_under_a_frozen_backbone_and_its_numbers_stay(kind: str, precision: str) -> None:
    torch.manual_seed(0)
    model = (heatmap_model() if kind == "landmarks" else label_model()).eval()
    body = model.get_submodule("backbone")
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    grad_modes: list[bool] = []
    handle = body.net.register_forward_hook(lambda *_: grad_modes.append(torch.is_grad_enabled()))
    found = []
    for trained in (True, False):
        for parameter in body.parameters():
            parameter.requires_grad = trained
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            answer = body(images)
        levels = answer if isinstance(answer, list) else [answer]
        assert [level.requires_grad for level in levels] == [trained] * len(levels)
        found.append(levels)
    handle.remove()
    assert grad_modes == [True, False]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_no_gradient_reaches_a_frozen_backbone_and_all_of_the_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = heatmap_model()
    backbone = model.get_submodule("backbone").eval()
    for parameter in backbone.parameters():
        parameter.requires_grad = False
    reached: list[str] = []
    for name, module in model.named_modules():
        module.register_full_backward_hook(lambda *_, name=name: reached.append(name))
    model(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)).log_heatmaps.sum().backward()
    assert [name for name in reached if name.startswith("backbone.")] == []
    assert any(name.startswith("head.") for name in reached)


@pytest.mark.parametrize("decoder", ["fpn", "unet"])
def test_a_model_answers_features_as_it_answers_their_images(decoder: str) -> None:
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    covariates = torch.rand(3, 2)
    shape = torch.rand(3, 2) * 64
    models: list[tuple[nn.Module, tuple[torch.Tensor, ...]]] = [
        (heatmap_model(decoder), ()),
        (
            build_coordinate_model(
                backbone="resnet10t", weights="none", mean_shape=shape.numpy(), input_size=(64, 64), hidden=8,
                dropout=0.0, refinement=True,
            ),
            (),
        ),
        *((label_model(head), (covariates,)) for head in ("pooled", "covariate", "attention")),
    ]  # fmt: skip
    for model, others in models:
        with torch.no_grad():
            model.eval()
            expected, found = model(images, *others), model(model.features(images), *others)
        for name, values in vars(expected).items():
            if isinstance(values, torch.Tensor):
                assert torch.equal(getattr(found, name), values), (type(model), name)


def _too_great_for_half(folder: Path) -> list[str]:
    weights = timm.create_model("resnet10t").state_dict()
    weights["layer4.0.bn2.weight"] = weights["layer4.0.bn2.weight"] + 1e9
    save_file(weights, folder / "great.safetensors")
    return [*TINY, *FROZEN, f"{VIEWS}=1", "phases.frozen.cache.half=true", "model.weights=great.safetensors"]


NO_ROOM = Fault(
    "no room on the disk for features",
    4,
    "…: no room for the features of the frozen phase (12 images x 1 views + 3 of validation, 1.8 MB): File too large. "
    "Make room, or start anew with phases.frozen.cache.max_disk_gb=0 or fewer phases.frozen.cache.views; go on with: "
    "python -m trainer resume=…",
    lambda folder: [*TINY, *FROZEN, f"{VIEWS}=1", "phases.frozen.cache.max_gb=0"],
)
FAULTS = [
    Fault(
        "a negative number of views",
        2,
        "phases.frozen.cache.views=-1 must not be negative",
        lambda folder: [f"{VIEWS}=-1"],
    ),
    Fault(
        "features too great for half precision",
        4,
        "phases.frozen.cache.half=true: the backbone gives values above 65,504, which float16 can't hold; start anew "
        "without it; …",
        _too_great_for_half,
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_mistake_is_told_as_promised(fault: Fault, tmp_path: Path) -> None:
    fault.check(tmp_path)


def test_a_disk_without_room_is_told_as_promised_before_anything_is_computed(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        NO_ROOM.check(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path for path in tmp_path.rglob("*") if ".features." in path.name] == []


def test_the_page_promises_what_is_tested_here() -> None:
    tested = {fault.name: (fault.code, fault.message) for fault in [*FAULTS, NO_ROOM]}
    assert tested.items() <= promised().items()


def heatmap_model(decoder: str = "fpn") -> LandmarkModel:
    return build_heatmap_model(
        backbone="resnet10t", weights="none", num_landmarks=3, input_size=(64, 64), decoder=decoder, stride=4, width=8,
        dropout=0.0, activation="softmax", refinement=False,
    )  # fmt: skip


def label_model(head: str = "pooled") -> nn.Module:
    return build_label_model(
        backbone="resnet10t", weights="none", input_size=(64, 64), num_outputs=3, num_covariates=2, head=head, hidden=8,
        embedding=4, dropout=0.0,
    )  # fmt: skip


def with_kept(data: RunData, features: Features) -> RunData:
    return replace(data, features=features)
