"""Classes and numbers as tasks: losses, predictions and tables against torch, formulas and float64 loops."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data.covariates import Covariates
from data.label_records import LabelRecords
from models.classifiers import LabelOutput
from trainer.report import shown
from trainer.tasks.classification import ClassificationTask, loss_weights
from trainer.tasks.labels import SampleSheets
from trainer.tasks.regression import RegressionTask
from trainer.tasks.task import Predictions

SHEETS = SampleSheets(1, (32, 32), "letterbox")
SEX = ["F", "M", "M", "F", "M", "F"]


def covariates_of(sex: list[str], name: str = "sex") -> Covariates:
    encoded = np.array([[word == "F", word == "M"] for word in sex], np.float32)
    return Covariates([name], [["F", "M"]], np.zeros(1), np.ones(1), [sex], encoded)


def records_of(targets: np.ndarray, class_names: list[str] | None, covariates: Covariates) -> LabelRecords:
    """The first four of six images train, the others validate."""
    return LabelRecords(
        image_names=[f"{index}.png" for index in range(6)],
        targets=targets,
        class_names=class_names,
        covariates=covariates,
        sizes=np.full((6, 2), 32),
        splits=np.array(["train"] * 4 + ["val"] * 2),
        read=lambda index: np.full((32, 32), 40 * index, np.uint8),
    )


CLASSES = records_of(np.array([0, 0, 0, 1, 2, 1]), ["a", "b", "c"], covariates_of(SEX))
NUMBERS = records_of(np.array([10.0, 20.0, 30.0, 60.0, 25.0, 90.0]), None, covariates_of(SEX))


def classification(**changes: Any) -> ClassificationTask:
    settings: dict[str, Any] = {
        "records": CLASSES,
        "validates": True,
        "label_smoothing": 0.0,
        "class_weights": None,
        "top_k": 2,
        "monitor": None,
        "sheets": SHEETS,
    }
    return ClassificationTask(**{**settings, **changes})


def regression(**changes: Any) -> RegressionTask:
    settings: dict[str, Any] = {
        "records": NUMBERS,
        "validates": True,
        "loss": "smooth_l1",
        "width": 0.5,
        "target_name": "age",
        "unit": "months",
        "monitor": None,
        "sheets": SHEETS,
    }
    return RegressionTask(**{**settings, **changes})


def test_the_loss_is_the_cross_entropy_with_smoothing_and_the_weight_of_the_true_class() -> None:
    logits, target = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1, 0])
    batch = {"target": target}
    loss = classification(label_smoothing=0.1).loss(LabelOutput(logits), batch)
    torch.testing.assert_close(loss, F.cross_entropy(logits, target, label_smoothing=0.1))
    weighted = classification(class_weights=[1.0, 2.0, 4.0]).loss(LabelOutput(logits), batch)
    scale = 4 / (3 * 1 + 1 * 2)  # of 4 training images 3 are of class a and 1 of b
    expected = sum(
        -scale * [1, 2, 4][label] * float(F.log_softmax(row, dim=0)[label])
        for row, label in zip(logits, target, strict=True)
    )
    assert weighted.item() == pytest.approx(expected / 5, rel=1e-5)


def test_the_loss_of_a_mixed_batch_is_that_of_both_classes_in_their_shares() -> None:
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    batch = {
        "target": torch.tensor([0, 1]),
        "other_target": torch.tensor([1, 2]),
        "share": torch.tensor([0.7, 0.7]),
    }
    soft = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.7, 0.3]])
    torch.testing.assert_close(classification().loss(LabelOutput(logits), batch), F.cross_entropy(logits, soft))


def test_balanced_weights_give_every_class_the_same_total() -> None:
    counts = np.array([30, 10, 2])
    weights = loss_weights("balanced", ["a", "b", "c"], counts).double().numpy()
    np.testing.assert_allclose(weights * counts, [14.0, 14.0, 14.0], rtol=1e-6)


def test_weights_for_another_number_of_classes_are_refused_with_the_classes() -> None:
    with pytest.raises(ValueError, match=r"task\.loss\.class_weights=\[1, 2\] has 2 numbers.* 3 classes: a, b, c"):
        classification(class_weights=[1, 2])


@pytest.mark.parametrize("kind", ["l1", "huber", "smooth_l1"])
def test_the_loss_of_numbers_is_torchs_on_standardised_ones(kind: str) -> None:
    mean, std = np.mean([10, 20, 30, 60]), np.std([10, 20, 30, 60])
    given, target = torch.tensor([[0.1], [-2.0], [0.4]]), torch.tensor([10.0, 90.0, 31.0])
    wanted = (target - mean) / std
    expected = {
        "l1": F.l1_loss(given[:, 0], wanted.float()),
        "huber": F.huber_loss(given[:, 0], wanted.float(), delta=0.5),
        "smooth_l1": F.smooth_l1_loss(given[:, 0], wanted.float(), beta=0.5),
    }[kind]
    torch.testing.assert_close(regression(loss=kind).loss(LabelOutput(given), {"target": target}), expected)


def test_the_target_of_a_mixed_image_is_mixed_likewise() -> None:
    given = torch.tensor([[0.3]])
    batch = {
        "target": torch.tensor([10.0]),
        "other_target": torch.tensor([60.0]),
        "share": torch.tensor([0.2]),
    }
    alone = {"target": torch.tensor([0.2 * 10 + 0.8 * 60])}
    task = regression(loss="l1")
    torch.testing.assert_close(task.loss(LabelOutput(given), batch), task.loss(LabelOutput(given), alone))


def test_predicted_numbers_are_in_the_targets_own_unit() -> None:
    batch = {"index": torch.tensor([4, 5]), "target": torch.tensor([25.0, 90.0])}
    found = regression().predictions(LabelOutput(torch.tensor([[0.0], [2.0]])), batch)
    np.testing.assert_allclose(found["prediction"], [30.0, 30.0 + 2 * np.std([10, 20, 30, 60])])
    measured = regression().metrics(found)
    assert measured["mae"] == pytest.approx(np.abs(found["prediction"] - [25, 90]).mean())


def test_small_numbers_keep_their_digits() -> None:
    small = records_of(np.array([10.0, 20.0, 30.0, 60.0, 25.0, 90.0]) * 1e-5, None, covariates_of(SEX))
    task = regression(records=small)
    measured = task.metrics(task.baseline(small, "val"))
    assert "MAE 0.000325 months" in task.summary({**measured, "train_loss": 1.0, "val_loss": 1.0})
    assert "is 0.000325 months; the training mean, without any training, has 0.00065 months" in task.verdict(
        {"mae": 0.00065}, measured
    )
    headline = [shown(measured[column.key], column.style) for column in task.columns]
    assert headline[:3] == ["0.000325", "0.0004257", "0.000325"]
    written = task.table(task.baseline(small, "val"), small, "val").to_csv(float_format=task.float_format)
    assert "4.png,val,0.00025,0.0003,5e-05" in written


def test_the_truth_is_as_exact_as_in_the_table() -> None:
    exact = records_of(np.arange(6) + 1e8 + 0.25, None, covariates_of(SEX))
    batch = {"index": torch.tensor([4, 5]), "target": torch.tensor(exact.targets[4:], dtype=torch.float32)}
    found = regression(records=exact).predictions(LabelOutput(torch.zeros(2, 1)), batch)
    assert found["target"].tolist() == [100000004.25, 100000005.25]


def test_baselines_know_the_training_split_only() -> None:
    assert regression().baseline(NUMBERS, "val")["prediction"].tolist() == [30.0, 30.0]
    guessed = classification().baseline(CLASSES, "val")
    assert guessed["probabilities"].tolist() == [[0.75, 0.25, 0.0]] * 2
    assert classification().metrics(guessed)["accuracy"] == 0.0


def test_views_are_averaged_as_probabilities_and_keep_the_plain_attention() -> None:
    views = [
        {
            "index": np.array([4]),
            "target": np.array([2]),
            "probabilities": np.array([[share, 1 - share, 0.0]]),
            "attention": np.full((1, 1, 2), share),
        }
        for share in (0.2, 0.6, 1.0)
    ]
    averaged = classification().averaged(views)
    np.testing.assert_allclose(averaged["probabilities"], [[0.6, 0.4, 0.0]])
    assert averaged["attention"].tolist() == views[0]["attention"].tolist()


def test_tables_show_truth_prediction_and_covariates_under_names_of_their_own() -> None:
    found = {
        "index": np.array([4, 5]),
        "target": np.array([2, 1]),
        "probabilities": np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]]),
    }
    table = classification().table(found, CLASSES, "val")
    assert list(table.columns) == ["image", "split", "target", "prediction", "p_a", "p_b", "p_c", "sex"]
    assert table["target"].tolist() == ["c", "b"]
    assert table["prediction"].tolist() == ["c", "a"]
    assert table["sex"].tolist() == ["M", "F"]
    taken = records_of(CLASSES.targets, CLASSES.class_names, covariates_of(SEX, "prediction"))
    assert "covariate_prediction" in classification().table(found, taken, "val")


def test_errors_of_groups_are_told_per_category() -> None:
    found = {"index": np.array([4, 5, 1]), "target": np.array([25.0, 90.0, 20.0]), "prediction": np.array([26, 80, 23])}
    (detail,) = regression().details(found, NUMBERS)
    assert detail.title == "Every sex"
    assert detail.rows["group"].tolist() == ["F", "M"]
    assert detail.rows["mae"].tolist() == [10.0, 2.0]
    assert {"mae", "rmse", "r2", "median_error"} <= {column.key for column in detail.columns}
    assert {column.key for column in detail.columns} <= set(detail.rows.columns)


NOT_FINITE = ["one", "all"]


def broken(found: Predictions, key: str, rows: str) -> Predictions:
    """These predictions, with attention, and NaN in the first row or in all."""
    found = {**found, key: found[key].copy(), "attention": np.full((len(found["index"]), 2, 2), 0.25)}
    found[key][0 if rows == "one" else slice(None)] = np.nan
    return found


@pytest.mark.parametrize("rows", NOT_FINITE)
def test_classes_that_are_not_finite_are_left_out_of_pictures_and_tables(rows: str, tmp_path: Path) -> None:
    task = classification()
    found = broken(task.baseline(CLASSES, "train"), "probabilities", rows)
    left = 3 if rows == "one" else 0
    (detail,) = task.details(found, CLASSES)
    assert detail.rows["images"].sum() == left
    assert task.table(found, CLASSES, "train")["prediction"].notna().sum() == left
    drawn = task.pictures(tmp_path, found, CLASSES)
    assert all(path.is_file() for path in drawn.values())
    assert len(drawn) == 2 + left  # a sheet per sample


@pytest.mark.parametrize("rows", NOT_FINITE)
def test_numbers_that_are_not_finite_are_left_out_of_pictures_and_tables(rows: str, tmp_path: Path) -> None:
    task = regression()
    found = broken(task.baseline(NUMBERS, "train"), "prediction", rows)
    left = 3 if rows == "one" else 0
    assert sum(detail.rows["count"].sum() for detail in task.details(found, NUMBERS)) == left
    drawn = task.pictures(tmp_path, found, NUMBERS)
    assert all(path.is_file() for path in drawn.values())
    assert len(drawn) == 2 + left


@pytest.mark.parametrize("task", [classification(), regression()], ids=["classification", "regression"])
def test_every_column_and_curve_is_a_metric(task: ClassificationTask | RegressionTask) -> None:
    measured = set(task.validation_columns)
    assert {column.key for column in task.columns} <= measured
    assert set(task.curves.lines) <= measured
    assert task.monitor in measured


@pytest.mark.parametrize(
    ("task", "mode"),
    [
        (classification(), "max"),
        (classification(monitor="ece"), "min"),
        (classification(monitor="val_loss"), "min"),
        (classification(validates=False), "min"),
        (regression(), "min"),
        (regression(monitor="r2"), "max"),
    ],
)
def test_the_better_result_is_the_lower_error_or_the_higher_share(
    task: ClassificationTask | RegressionTask, mode: str
) -> None:
    assert task.monitor_mode == mode


def test_an_unknown_monitor_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"task\.monitor=mae is not a metric of this run: val_loss, accuracy"):
        classification(monitor="mae")
    with pytest.raises(ValueError, match=r"task\.monitor=mae needs a validation split"):
        regression(monitor="mae", validates=False)


def test_the_verdict_speaks_of_what_balancing_improves_where_accuracy_does_not() -> None:
    baseline = {"accuracy": 0.9, "balanced_accuracy": 0.5}
    assert "The balanced accuracy is 80.0 %" in classification().verdict(
        baseline, {"accuracy": 0.8, "balanced_accuracy": 0.8}
    )
    assert "The accuracy is 95.0 %" in classification().verdict(baseline, {"accuracy": 0.95, "balanced_accuracy": 0.6})
