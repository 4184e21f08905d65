"""Inputs that grow: which epoch has which size, what a sample is at each, and that a phase can be entered anywhere."""

import logging
import os
import signal
import time
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY, TINY_LABELS, compose, run_in_process
from faults import Fault, promised
from hypothesis import given
from hypothesis import strategies as st

from data.geometry import apply, invert
from trainer.config.store import to_train_config
from trainer.growth import epoch_scales, scaled_size, stretches
from trainer.run_data import RunData
from trainer.run_dir import RunDir
from trainer.stopping import Stopped, StopRequest
from trainer.train import train

MOVING = ("data.augmentation.rotate_degrees=15", "data.augmentation.flip=0", "data.region=landmarks")


def data_of(folder: Path, *overrides: str, tiny: tuple[str, ...] = TINY) -> RunData:
    config = to_train_config(compose(*tiny, *overrides))
    return config.task.build_data(config, folder / "splits.csv")


@pytest.mark.parametrize(
    ("scales", "num_epochs", "expected"),
    [
        ([1.0], 3, [1.0, 1.0, 1.0]),
        ([0.5, 0.75, 1.0], 6, [0.5, 0.5, 0.75, 0.75, 1.0, 1.0]),
        ([0.5, 1.0], 3, [0.5, 1.0, 1.0]),
        ([0.5, 0.75, 1.0], 4, [0.5, 0.75, 1.0, 1.0]),
        ([0.5, 0.75, 1.0], 2, [0.75, 1.0]),
        ([0.5, 0.75, 1.0], 1, [1.0]),
        ([1.0, 0.5], 2, [1.0, 0.5]),
    ],
)
def test_the_epochs_of_a_phase_are_divided_over_the_scales(scales, num_epochs, expected):
    assert epoch_scales(scales, num_epochs) == expected


@given(scales=st.lists(st.floats(0.1, 1), min_size=1, max_size=5), num_epochs=st.integers(1, 40))
def test_each_scale_lasts_equally_long_up_to_an_epoch_and_the_last_one_ends_the_phase(scales, num_epochs):
    distinct = list(range(len(scales)))
    given_out = epoch_scales(distinct, num_epochs)
    assert given_out == sorted(given_out)
    assert given_out[-1] == distinct[-1]
    counts = [given_out.count(scale) for scale in distinct]
    assert max(counts) - min(counts) <= 1


@given(
    scales=st.lists(st.sampled_from([0.5, 0.75, 1.0]), min_size=1, max_size=6),
    per_epoch=st.integers(1, 7),
    steps=st.tuples(st.integers(0, 60), st.integers(0, 60)),
)
def test_stretches_give_every_update_once_at_the_scale_of_its_epoch(scales, per_epoch, steps):
    first, last = sorted(steps)
    given_out = [
        (step, scale) for scale, start, stop in stretches(scales, per_epoch, first, last) for step in range(start, stop)
    ]
    expected = [(step, scales[min(step // per_epoch, len(scales) - 1)]) for step in range(first, last)]
    assert given_out == expected


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((512, 416), 0.5, (256, 192)),
        ((384, 312), 0.75, (288, 224)),
        ((384, 312), 1.0, (384, 312)),
        ((128, 104), 0.1, (32, 32)),
        ((120, 120), 0.99, (120, 120)),
    ],
)
def test_a_scaled_size_has_multiples_of_32_and_the_full_one_is_left_alone(size, scale, expected):
    assert scaled_size(size, scale) == expected


def test_at_every_size_the_points_lie_where_the_affine_maps_the_same_landmarks(tmp_path: Path) -> None:
    data = data_of(tmp_path, *MOVING, "data.input_height=128", "data.input_width=96")
    full, half = data.train, data.train.at((64, 64))
    for index in data.records.indices("train")[:3]:
        one, other = full[3, int(index)], half[3, int(index)]
        assert one["image"].shape == (3, 128, 96)
        assert other["image"].shape == (3, 64, 64)
        assert torch.equal(one["truth"], other["truth"])
        for sample in (one, other):
            back = apply(invert(sample["affine"].numpy()), sample["points"].numpy().astype(np.float64))
            np.testing.assert_allclose(back, sample["truth"].numpy(), rtol=0, atol=1e-3)
        # The same random view: 0 px in shift, and one turn.
        turns = [float(torch.atan2(s["affine"][1, 0], s["affine"][0, 0])) for s in (one, other)]
        assert turns[0] == pytest.approx(turns[1], abs=0.02)


def test_another_size_takes_the_room_of_the_images_that_were_kept(tmp_path: Path) -> None:
    data = data_of(tmp_path)
    for index in range(4):
        data.train[0, index]
    assert data.train.images.kept_bytes > 0
    half = data.train.at((32, 32))
    assert data.train.images.kept_bytes == 0
    half[0, 0]
    assert 0 < half.images.kept_bytes <= 32 * 32
    assert half.images.cache_gb == data.train.images.cache_gb


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_from_the_middle_are_those_from_the_start_at_the_size_of_their_epoch(
    workers: int, tmp_path: Path
) -> None:
    data = data_of(tmp_path, *MOVING, f"data.workers={workers}", "accumulation=2", "data.batch_size=2")
    assert data.updates_per_epoch == 3
    scales = epoch_scales([0.5, 1.0], 3)
    options = {"first_epoch": 5, "last_step": 8, "scales": scales}
    batches = list(data.training_batches(first_step=0, **options))
    assert [batch["image"].shape[2] for batch in batches] == [32] * 6 + [64] * 10
    for first_step in (2, 3, 4):
        again = list(data.training_batches(first_step=first_step, **options))
        assert len(again) == 2 * (8 - first_step)
        for one, other in zip(batches[2 * first_step :], again, strict=True):
            assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("model", ["classifier", "attention_covariate"])
def test_a_classifier_trains_on_growing_inputs_and_is_judged_at_full_size(model: str, tmp_path: Path) -> None:
    overrides = (
        "task=classification", f"model={model}", "phases.finetune.input_scales=[0.5,1]", "phases.frozen.epochs=0",
    )  # fmt: skip
    run_in_process(tmp_path / "run", *overrides, tiny=TINY_LABELS)
    assert len(pd.read_csv(tmp_path / "run" / "metrics.csv")) == 2


def test_a_run_of_growing_inputs_under_a_time_budget_and_after_a_range_test(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    run_in_process(
        tmp_path / "run",
        "phases.frozen.input_scales=[0.5]",
        "phases.finetune.input_scales=[0.5,1.0]",
        "range_test=on",
        "range_test.num_steps=23",
        "scheduler.max_lr=1e-3",
        "scheduler.base_lr=1e-4",
        "max_minutes=5",
    )
    history = pd.read_csv(tmp_path / "run" / "lr_history.csv")
    assert history["iteration"].tolist() == list(range(12))
    plan = "6 updates at 0.5 of the input size, finetune 2 epochs = 6 updates at 0.5, 1 of the input size"
    assert plan in caplog.text


def test_a_run_stopped_among_growing_inputs_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    settings = (
        *MOVING, "data.annotator=mean", "phases.frozen.epochs=0", "phases.finetune.epochs=4", "data.batch_size=2",
        "phases.finetune.input_scales=[0.5,1.0]",
    )  # fmt: skip
    run_in_process(tmp_path / "whole", *settings)
    stopped, request = RunDir(tmp_path / "stopped"), StopRequest()
    composed = compose(*TINY, *settings)
    watcher = Thread(target=interrupt_after, args=(stopped.lr_history, 15))  # in the first epoch of the full size
    watcher.start()
    with pytest.raises(Stopped), request.listening():
        train(to_train_config(composed), stopped, composed, [], request)
    watcher.join()
    assert 15 <= len(stopped.lr_history.read_text().splitlines()) - 1 < 24
    composed = compose(*TINY, *settings, f"resume={stopped.path}")
    train(to_train_config(composed), stopped, composed, [])
    whole = RunDir(tmp_path / "whole")
    assert stopped.lr_history.read_bytes() == whole.lr_history.read_bytes()
    assert stopped.predictions.read_bytes() == whole.predictions.read_bytes()


def interrupt_after(history: Path, updates: int) -> None:
    """Ctrl-C for this process once so many updates are written down."""
    for _ in range(6000):
        if history.exists() and len(history.read_text().splitlines()) > updates:
            os.kill(os.getpid(), signal.SIGINT)
            return
        time.sleep(0.01)


def _unending(folder: Path) -> list[str]:
    tiny = tuple(text for text in TINY if not text.startswith("scheduler"))
    overrides = ("phases.frozen.epochs=0", "phases.finetune.input_scales=[0.5,1.0]", "scheduler=constant")
    run_in_process(folder / "run", *overrides, tiny=tiny)
    return ["resume=run", "phases.finetune.epochs=4"]


FAULTS = [
    Fault(
        "input_scales without one",
        2,
        "phases.frozen.input_scales=[] must hold one or more shares of the input size, above 0 and up to 1",
        lambda folder: ["phases.frozen.input_scales=[]"],
    ),
    Fault(
        "an input scale above 1",
        2,
        "phases.finetune.input_scales=[0.5, 2.0] must hold one or more shares of the input size, above 0 and up to 1",
        lambda folder: ["phases.finetune.input_scales=[0.5,2]"],
    ),
    Fault(
        "growing input of a model that knows one size",
        2,
        "phases.finetune.input_scales=[0.5, 1.0] does not fit model=coordinates, which knows one input size; "
        "leave it at [1.0]",
        lambda folder: ["model=coordinates", "phases.finetune.input_scales=[0.5,1]"],
    ),
    Fault(
        "growing input under refinement",
        2,
        "phases.finetune.input_scales=[0.5, 1.0] does not fit model.refinement=true, which knows one input size; "
        "leave it at [1.0]",
        lambda folder: ["model.refinement=true", "phases.finetune.input_scales=[0.5,1]"],
    ),
    Fault(
        "growing input of a transformer built for one size",
        2,
        "phases.finetune.input_scales=[0.5, 1.0]: model.backbone=deit_tiny_patch16_224 gives no feature maps for "
        "data.input_height=32 data.input_width=32 (…); try multiples of 32, a larger or square input, or another model",
        lambda folder: [*TINY_LABELS, "model.backbone=deit_tiny_patch16_224", "task=classification",
                        "phases.finetune.input_scales=[0.5,1]"],
    ),
    Fault(
        "more epochs for a phase of growing inputs",
        2,
        "phases.finetune.epochs: phases.finetune.input_scales divide the epochs of a phase that has begun; "
        "leave it as it was",
        _unending,
    ),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_mistake_is_told_as_promised(fault: Fault, tmp_path: Path) -> None:
    fault.check(tmp_path)


def test_the_page_promises_what_is_tested_here() -> None:
    assert {fault.name: (fault.code, fault.message) for fault in FAULTS}.items() <= promised().items()
