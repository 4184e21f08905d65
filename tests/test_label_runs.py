"""Whole tiny runs with classes and numbers: what they leave, what a resume holds them to, what covariates are worth."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY_LABELS, compose, run_in_process
from safetensors.torch import load_file

from data.errors import DataError
from trainer.config.store import to_train_config
from trainer.console import console
from trainer.device import build_compute
from trainer.loop import UpdateRule, evaluate
from trainer.mapping import check_mapping
from trainer.run_dir import RunDir
from trainer.train import _build_data, _build_state, train

OF_PHANTOMS = ("data.num", "data.height", "data.width", "scheduler.")
COMMON = ("scheduler=constant", *(text for text in TINY_LABELS if not text.startswith(OF_PHANTOMS)))
MALICIOUS = "<script>alert(1)</script>"
CLASSES = ("task=classification", "model=attention_covariate", "data.covariates=[sex]")
NUMBERS = (
    "task=regression",
    "model=covariate",
    "data.covariates=[sex]",
    "data.test_fraction=0.2",
    "task.label_noise=2",
    "data.mixup=0.3",
)
RANDOM = ("data.mixup=0.3", "data.balance=true", "task.loss.label_smoothing=0.1", "model.dropout=0.2")
PHASES = ("schedule", "learning_rates", "loss", "metrics")
SHEETS = tuple(f"samples_{kind}" for kind in ("best", "median", "worst"))


def write_table(folder: Path, rows: int = 20) -> Path:
    """Gray squares, brighter ones of another class and age, with sex and a class name that is no word."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["image,kind,age_months,sex"]
    for index in range(rows):
        bright = index % 2
        noise = np.random.default_rng(index).integers(0, 60, (48, 40), np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), noise + np.uint8(120 * bright))
        lines.append(f"{index}.png,{MALICIOUS if bright else 'dark & small'},{30 + 90 * bright},{'FM'[index // 2 % 2]}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder / "labels.csv"


def settings_of(table: Path, *overrides: str) -> tuple[str, ...]:
    return ("data=csv", f"data.table={table}", "data.label=kind", *overrides)


@pytest.fixture(scope="module")
def classes_run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A finished run under everything that draws random numbers."""
    folder = tmp_path_factory.mktemp("classes")
    given = settings_of(write_table(folder / "images"), *CLASSES, *RANDOM)
    run_in_process(folder / "run", *given, "pictures=true", tiny=COMMON)
    return RunDir(folder / "run")


@pytest.fixture(scope="module")
def numbers_run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    folder = tmp_path_factory.mktemp("numbers")
    run_in_process(folder / "run", *NUMBERS, "pictures=true", tiny=TINY_LABELS)
    return RunDir(folder / "run")


def resume(run_dir: RunDir, *overrides: str) -> float:
    given = [*COMMON, *overrides, f"resume={run_dir.path}"]
    composed = compose(*given)
    return train(to_train_config(composed), run_dir, composed, given)


def copy_of(run_dir: RunDir, folder: Path) -> RunDir:
    shutil.copytree(run_dir.path, folder / "copy")
    return RunDir(folder / "copy")


def test_runs_leave_the_tables_and_pictures_of_their_task(classes_run: RunDir, numbers_run: RunDir) -> None:
    for run_dir, pictures in (
        (classes_run, ("confusion", "reliability")),
        (numbers_run, ("predicted_against_true", "bland_altman")),
    ):
        assert {path.stem for path in run_dir.plots.iterdir()} == {*PHASES, *SHEETS, *pictures}
        assert run_dir.report.read_text(encoding="utf-8").count("<figure>") == len(PHASES) + len(SHEETS) + 2
        assert load_file(run_dir.best_weights)


def test_predictions_of_classes_hold_probabilities_and_covariates(classes_run: RunDir) -> None:
    table = pd.read_csv(classes_run.predictions)
    dark, bright = "p_dark & small", f"p_{MALICIOUS}"
    assert set(table.columns) == {"image", "split", "target", "prediction", dark, bright, "sex"}
    np.testing.assert_allclose(table[dark] + table[bright], 1, atol=2e-4)
    source = pd.read_csv(classes_run.path.parent / "images" / "labels.csv").set_index("image")
    assert table["target"].tolist() == source.loc[table["image"], "kind"].tolist()
    assert table["sex"].tolist() == source.loc[table["image"], "sex"].tolist()
    likelier = np.where(table[bright] > table[dark], MALICIOUS, "dark & small")
    assert table["prediction"].tolist() == likelier.tolist()


def test_predictions_of_numbers_hold_errors_and_covariates_of_every_judged_split(numbers_run: RunDir) -> None:
    table = pd.read_csv(numbers_run.predictions)
    assert list(table.columns) == ["image", "split", "target", "prediction", "error", "sex"]
    np.testing.assert_allclose(table["error"], table["prediction"] - table["target"], atol=2e-4)
    results = json.loads(numbers_run.results.read_text())
    for split in ("val", "test"):
        rows = table[table["split"] == split]
        assert results["metrics"][split]["mae"] == pytest.approx(rows["error"].abs().mean(), abs=1e-3)
    assert results["best"]["value"] == pytest.approx(results["metrics"]["val"]["mae"])


def test_names_from_the_data_are_shown_and_not_run(classes_run: RunDir) -> None:
    page = classes_run.report.read_text(encoding="utf-8")
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 1


def test_labels_json_says_what_numbers_mean(classes_run: RunDir, numbers_run: RunDir) -> None:
    written = json.loads(classes_run.labels.read_text())
    assert written["classes"] == [MALICIOUS, "dark & small"]
    assert written["covariates"] == [{"name": "sex", "categories": ["F", "M"]}]
    splits = pd.read_csv(numbers_run.splits)
    data = _build_data(to_train_config(compose(*TINY_LABELS, "task=regression", "data.test_fraction=0.2")), numbers_run)
    trained = data.records.targets[(splits["split"] == "train").to_numpy()]
    target = json.loads(numbers_run.labels.read_text())["target"]
    assert (target["mean"], target["std"]) == pytest.approx((trained.mean(), trained.std()))


def test_a_run_that_stops_and_goes_on_equals_the_uninterrupted_one(classes_run: RunDir, tmp_path: Path) -> None:
    """A schedule that doesn't depend on the length of its phase lets a run stop after any epoch."""
    stopped = RunDir(tmp_path / "run")
    table = classes_run.path.parent / "images" / "labels.csv"
    given = settings_of(table, *CLASSES, *RANDOM, "task.num_samples=0")
    run_in_process(stopped.path, *given, "phases.finetune.epochs=1", tiny=COMMON)
    assert stopped.lr_history.read_bytes() != classes_run.lr_history.read_bytes()
    resume(stopped, *given)
    assert stopped.lr_history.read_bytes() == classes_run.lr_history.read_bytes()
    assert stopped.predictions.read_bytes() == classes_run.predictions.read_bytes()
    best, expected = load_file(stopped.best_weights), load_file(classes_run.best_weights)
    assert all(best[key].equal(expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [("dark & small", "dim", "classes were .*dark & small.* now give .*dim"), (",M", ",X", 'covariates were .*"M"')],
    ids=["class", "covariate"],
)
def test_a_mapping_that_changed_is_refused_with_what_was_and_what_is(
    was: str, now: str, said: str, classes_run: RunDir, tmp_path: Path
) -> None:
    table = tmp_path / "images" / "labels.csv"
    shutil.copytree(classes_run.path.parent / "images", table.parent)
    table.write_text(table.read_text().replace(was, now))
    copied = copy_of(classes_run, tmp_path)
    with pytest.raises(DataError, match=rf"labels\.json: {said}") as caught:
        resume(copied, *settings_of(table, *CLASSES, *RANDOM))
    assert len(str(caught.value).splitlines()) == 1


def test_a_mapping_that_is_no_object_is_refused(tmp_path: Path) -> None:
    for text in ("[]", "3", "null"):
        (tmp_path / "labels.json").write_text(text)
        with pytest.raises(DataError, match=r"labels\.json: is not a JSON object"):
            check_mapping(tmp_path / "labels.json", {"classes": ["a"]})


def test_a_finished_run_takes_no_option_and_stays_as_it_is(
    numbers_run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = copy_of(numbers_run, tmp_path)
    before = {path: path.read_bytes() for path in copied.path.rglob("*") if path.is_file()}
    given = [*NUMBERS, *TINY_LABELS, "predict.tta=4", f"resume={copied.path}"]
    composed = compose(*given)
    train(to_train_config(composed), copied, composed, given)
    assert {path: path.read_bytes() for path in copied.path.rglob("*") if path.is_file()} == before
    assert "is finished: nothing was written" in capsys.readouterr().out


def test_the_table_at_the_end_is_whole_in_a_file() -> None:
    assert console().width >= 120


def test_several_views_are_judged_by_the_mean_of_their_predictions(classes_run: RunDir, tmp_path: Path) -> None:
    table = classes_run.path.parent / "images" / "labels.csv"
    given = settings_of(table, *CLASSES, *RANDOM, "predict.tta=3", "task.num_samples=0")
    run_in_process(tmp_path / "run", *given, tiny=COMMON)
    config = to_train_config(compose(*COMMON, *given))
    data = _build_data(config, RunDir(tmp_path / "run"))
    compute = build_compute("cpu", "fp32", memory_format="channels_last")
    state = _build_state(config, data, compute)
    state.model.load_state_dict(load_file(tmp_path / "run" / "checkpoints" / "best.safetensors"))
    rule = UpdateRule(config.task.build(config, data), compute, 1, None)
    views = [
        evaluate(state.model, data.evaluation_batches("val", view), rule.task, compute)[1]["probabilities"]
        for view in range(3)
    ]
    assert not np.allclose(views[0], views[1])
    written = pd.read_csv(tmp_path / "run" / "predictions.csv")[f"p_{MALICIOUS}"]
    np.testing.assert_allclose(written, np.mean(views, axis=0)[:, 0], atol=1e-4)
    plain = pd.read_csv(classes_run.predictions)[f"p_{MALICIOUS}"]
    np.testing.assert_allclose(plain, views[0][:, 0], atol=1e-4)  # training is the same


def test_a_folder_of_images_is_learnt_from_and_its_splits_are_kept(tmp_path: Path) -> None:
    for split, count in (("train", 8), ("val", 4)):
        for name in ("ants", "bees"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for index in range(count):
                colour = np.full((40, 50, 3), 60 if name == "ants" else 190, np.uint8)
                cv2.imwrite(str(tmp_path / "photos" / split / name / f"one {index}.jpg"), colour)
    given = ("task=classification", "data=image_folder", f"data.root={tmp_path / 'photos'}", "task.num_samples=0")
    value = run_in_process(tmp_path / "run", *given, tiny=COMMON)
    assert 0 <= value <= 1
    table = pd.read_csv(tmp_path / "run" / "predictions.csv")
    assert sorted(table["image"]) == sorted(f"val/{name}/one {i}.jpg" for name in ("ants", "bees") for i in range(4))


def write_ages(folder: Path) -> Path:
    """Bars as long as an age says; men are 40 months older than their bar, which no image shows."""
    rng = np.random.default_rng(0)
    lines = ["image,age_months,sex"]
    for index in range(120):
        age, sex = rng.uniform(0, 100), "FM"[index % 2]
        image = np.full((32, 32), 30, np.uint8)
        image[4:28, : int(2 + age / 100 * 28)] = 220
        cv2.imwrite(str(folder / f"{index}.png"), image)
        lines.append(f"{index}.png,{age + 40 * (sex == 'M'):.2f},{sex}")
    (folder / "ages.csv").write_text("\n".join(lines))
    return folder / "ages.csv"


def test_models_that_see_the_covariate_beat_the_baseline_where_it_matters(tmp_path: Path) -> None:
    """Without sex nothing can be closer than 20 months on average."""
    table = write_ages(tmp_path)
    given = (
        "task=regression",
        "data=csv",
        f"data.table={table}",
        "data.label=age_months",
        "data.covariates=[sex]",
        "data/augmentation=none",
        "model.backbone=test_resnet",
        "model.weights=none",
        "data.input_height=32",
        "data.input_width=32",
        "data.batch_size=8",
        "phases=frozen_only",
        "phases.frozen.epochs=10",
        "scheduler=onecycle",
        "scheduler.max_lr=2e-2",
        "device=cpu",
    )
    errors = {
        model: run_in_process(
            tmp_path / model, f"model={model}", *given, "model.dropout=0", "task.num_samples=0", tiny=()
        )
        for model in ("classifier", "covariate")
    }
    assert errors["classifier"] > 17
    assert errors["covariate"] < 0.4 * errors["classifier"]


def test_torch_draws_nothing_from_the_order_of_mixed_and_balanced_batches(tmp_path: Path) -> None:
    config = to_train_config(compose(*TINY_LABELS, *CLASSES, *RANDOM, "data.num_images=30"))
    data = _build_data(config, RunDir(tmp_path))
    before = torch.get_rng_state()
    first = list(data.training_batches(first_epoch=0, first_step=0, last_step=4))
    again = list(data.training_batches(first_epoch=0, first_step=2, last_step=4))
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(first[2:], again, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert first[0]["share"].dtype == torch.float32
