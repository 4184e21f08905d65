"""Snapshots at the ends of cycles: their mean and their ensemble against torch's own, and which weights are taken."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY, compose, run_in_process
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from trainer.candidates import Candidate
from trainer.config.store import to_train_config
from trainer.device import build_compute
from trainer.loop import UpdateRule
from trainer.run_dir import RunDir
from trainer.schedules import CyclicalSchedule
from trainer.snapshots import ends_cycle, mean_weights, reestimate_batch_norm

SETTINGS = ("pictures=false", "snapshots=true", "scheduler.cycles=3", "phases.finetune.epochs=6")


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.second = nn.Sequential(nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(image))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    path = tmp_path_factory.mktemp("snapshots") / "run"
    run_in_process(path, *SETTINGS)
    return RunDir(path)


def test_a_cycle_ends_with_the_update_before_the_rate_is_lowest() -> None:
    schedule = CyclicalSchedule(base_lr=0.1, max_lr=1.0, step_size=3)
    assert [step for step in range(18) if ends_cycle(schedule, step)] == [5, 11, 17]
    assert all(schedule.lr_at(step + 1) == 0.1 for step in (5, 11, 17))


def test_mean_weights_equal_torchs_averaged_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    models = [Small() for _ in range(3)]
    averaged = AveragedModel(models[0], use_buffers=True)
    for number, model in enumerate(models):
        model.first[1].running_mean.normal_()
        averaged.update_parameters(model)
        save_file(model.state_dict(), tmp_path / f"{number}.safetensors")
    mean = mean_weights(sorted(tmp_path.glob("*.safetensors")))
    for key, value in averaged.module.state_dict().items():
        torch.testing.assert_close(mean[key], value)


def test_batch_norm_statistics_equal_torchs_update_bn() -> None:
    torch.manual_seed(0)
    model, other = Small(), Small()
    model.first[2].p = other.first[2].p = 0.0  # torch's own leaves dropout on
    other.load_state_dict(model.state_dict())
    batches = [{"image": torch.randn(5, 3, 8, 8)} for _ in range(4)]
    compute = build_compute("cpu", "fp32", memory_format="contiguous")
    model.train()
    reestimate_batch_norm(model, iter(batches), ("image",), compute)
    update_bn([batch["image"] for batch in batches], other.train())
    for key, value in other.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value)
    assert model.first[1].momentum == 0.1
    assert all(module.training for module in model.modules())


def test_batch_norm_that_training_keeps_is_not_estimated_again() -> None:
    model = Small().train()
    model.first.eval()
    before = {key: value.clone() for key, value in model.first.state_dict().items()}
    reestimate_batch_norm(
        model,
        [{"image": torch.randn(5, 3, 8, 8)}],
        ("image",),
        build_compute("cpu", "fp32", memory_format="contiguous"),
    )
    assert all(value.equal(before[key]) for key, value in model.first.state_dict().items())
    assert not model.first.training
    assert model.second.training


def test_each_cycle_of_the_last_phase_is_kept(run: RunDir) -> None:
    files = [run.snapshot(cycle) for cycle in range(3)]
    assert sorted(run.best_weights.parent.glob("cycle_*.safetensors")) == files
    last = torch.load(run.last_checkpoint, weights_only=True)["model"]
    assert all(value.equal(last[key]) for key, value in load_file(files[-1]).items())  # the phase ends with a cycle


def test_what_does_best_on_validation_is_taken_and_named(run: RunDir) -> None:
    results = json.loads(run.results.read_text())
    rows = {row["stage"]: row["mre_mm"] for row in results["headline"]}
    tried = {name: rows[name] for name in rows if name.startswith(("best", "last", "mean of", "ensemble"))}
    assert [name.split(" (")[0].removesuffix(", taken") for name in tried] == [
        "best", "last update", "mean of 3 snapshots", "ensemble of 3 snapshots",
    ]  # fmt: skip
    (taken,) = [name for name in tried if name.endswith(", taken")]
    assert tried[taken] == min(tried.values()) == results["taken"]["value"]
    assert taken == f"{results['taken']['weights']}, taken"
    predicted = pd.read_csv(run.predictions)
    assert predicted["mre_mm"].mean() == pytest.approx(tried[taken], abs=1e-3)


def test_the_ensemble_is_the_mean_of_what_each_snapshot_says_the_surer_counting_more(
    run: RunDir, tmp_path: Path
) -> None:
    config = to_train_config(compose(*TINY, *SETTINGS))
    data = config.task.build_data(config, tmp_path / "splits.csv")
    task, model = config.task.build(config, data), config.task.build_model(config, data)
    rule = UpdateRule(task, build_compute("cpu", "fp32", memory_format="contiguous"), accumulation=1, clip_norm=None)
    weights = [load_file(run.snapshot(cycle)) for cycle in range(3)]
    together = Candidate("all", weights).predict(model, data, "val", rule, 1)
    alone = [Candidate("one", [member]).predict(model, data, "val", rule, 1) for member in weights]
    sureness = np.stack([one["spread"] for one in alone]) ** -2.0
    expected = np.average(
        np.stack([one["points"] for one in alone]), axis=0, weights=np.repeat(sureness[..., None], 2, axis=-1)
    )
    np.testing.assert_allclose(together["points"], expected)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["scheduler=cosine"],
            "snapshots=true needs the cycles of scheduler=clr in phase finetune, not scheduler=cosine",
        ),
        (["+scheduler@phases.finetune.scheduler=constant"], "not scheduler=constant"),
    ],
)
def test_snapshots_without_cycles_are_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        to_train_config(compose("snapshots=true", *overrides))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [(["data.val_fraction=0"], "needs a validation split"), (["task.monitor=val_loss"], "task.monitor=val_loss")],
)
def test_snapshots_that_nothing_could_choose_between_are_refused(
    overrides: list[str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        run_in_process(tmp_path / "run", *SETTINGS, *overrides)
