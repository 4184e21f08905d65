"""Metrics of classes and numbers against their formulas, and NaN where nothing can be said."""

import math

import numpy as np
import pytest

from trainer.selection import is_better
from trainer.tasks.label_metrics import (
    by_group,
    classification_metrics,
    confusion,
    per_class_table,
    regression_metrics,
)

NAMES = ["ant", "bee", "cat", "dog"]


def guesses(num_images: int = 60, num_classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that lean to the truth, with ties among them, and classes of unequal size."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(num_classes, num_images, p=np.arange(1, num_classes + 1) / sum(range(1, num_classes + 1)))
    weights = rng.integers(1, 8, (num_images, num_classes)) + 4.0 * (np.arange(num_classes) == targets[:, None])
    return weights / weights.sum(axis=1, keepdims=True), targets


def area_by_pairs(scores: np.ndarray, positive: np.ndarray) -> float:
    """Share of pairs of a positive and a negative that are in the right order; a tie is half right."""
    differences = scores[positive][:, None] - scores[~positive][None, :]
    return float(((differences > 0) + 0.5 * (differences == 0)).mean())


def test_metrics_of_four_images_as_computed_by_hand() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.55, 0.15, 0.3], [0.1, 0.1, 0.8]])
    metrics = classification_metrics(probabilities, np.array([0, 1, 1, 2]), ["a", "b", "c"], top_k=2)
    assert metrics["accuracy"] == pytest.approx(3 / 4)
    assert metrics["balanced_accuracy"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert metrics["auroc"] == pytest.approx((1 + 3 / 4 + 1) / 3)  # of b: 0.6 is above 0.2 and 0.1, 0.15 above 0.1
    assert metrics["top_2"] == 3 / 4
    # Confidences 0.7, 0.6 and 0.8 are right, 0.55 is wrong, each alone in its bin.
    assert metrics["ece"] == pytest.approx((0.3 + 0.4 + 0.2 + 0.55) / 4)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_their_formulas(seed: int) -> None:
    probabilities, targets = guesses(seed=seed)
    predicted = probabilities.argmax(axis=1)
    recalls = [(predicted[targets == number] == number).mean() for number in range(4)]
    scores = []
    for number in range(4):
        hits = ((predicted == number) & (targets == number)).sum()
        scores.append(2 * hits / ((predicted == number).sum() + (targets == number).sum()))
    confidence, right = probabilities.max(axis=1), predicted == targets
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs(confidence[bins == one].sum() - right[bins == one].sum()) for one in range(15)]
    metrics = classification_metrics(probabilities, targets, NAMES, top_k=5)
    assert metrics == pytest.approx(
        {
            "accuracy": (predicted == targets).mean(),
            "balanced_accuracy": np.mean(recalls),
            "macro_f1": np.mean(scores),
            "auroc": np.mean([area_by_pairs(probabilities[:, number], targets == number) for number in range(4)]),
            "ece": sum(gaps) / len(targets),
        },
        abs=1e-6,
    )


def test_top_k_counts_images_whose_class_is_among_the_k_most_probable() -> None:
    rng = np.random.default_rng(1)
    probabilities, targets = rng.dirichlet(np.ones(8), 50), rng.integers(0, 8, 50)
    ranks = (probabilities > probabilities[np.arange(50), targets][:, None]).sum(axis=1)
    metrics = classification_metrics(probabilities, targets, [str(number) for number in range(8)], top_k=3)
    assert metrics["top_3"] == pytest.approx((ranks < 3).mean())


def test_a_class_without_images_leaves_the_other_classes_metrics_alone() -> None:
    probabilities, targets = guesses()
    with_absent = np.insert(probabilities, 2, 0.0, axis=1)  # never predicted either
    shifted = np.where(targets >= 2, targets + 1, targets)
    five = classification_metrics(with_absent, shifted, [*NAMES, "eel"], top_k=5)
    assert five == pytest.approx(classification_metrics(probabilities, targets, NAMES, top_k=5))


def test_a_class_that_is_predicted_but_does_not_occur_lowers_f1_and_not_the_balanced_accuracy() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.1, 0.7]])
    metrics = classification_metrics(probabilities, np.array([0, 1, 1]), ["a", "b", "c"], top_k=5)
    assert metrics["balanced_accuracy"] == pytest.approx((1 + 1 / 2) / 2)
    assert metrics["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_with_one_class_only_no_area_can_be_told() -> None:
    metrics = classification_metrics(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 0]), ["a", "b"], top_k=5)
    assert math.isnan(metrics["auroc"])
    assert metrics["accuracy"] == metrics["balanced_accuracy"] == 1


def test_perfect_and_certain_predictions_have_perfect_metrics() -> None:
    targets = np.array([0, 1, 2, 3, 3])
    metrics = classification_metrics(np.eye(4, dtype=np.float32)[targets], targets, NAMES, top_k=3)
    assert metrics == {
        "accuracy": 1,
        "balanced_accuracy": 1,
        "macro_f1": 1,
        "auroc": 1,
        "top_3": 1,
        "ece": 0,
    }


def test_no_images_give_the_same_names_and_no_values() -> None:
    probabilities, targets = guesses(num_classes=4)
    some = classification_metrics(probabilities, targets, NAMES, top_k=2)
    none = classification_metrics(probabilities[:0], targets[:0], NAMES, top_k=2)
    assert list(none) == list(some)
    assert all(math.isnan(value) for value in none.values())
    numbers = np.array([1.0, 2.0])
    assert list(regression_metrics(numbers[:0], numbers[:0])) == list(regression_metrics(numbers, numbers))


def test_rows_of_the_confusion_are_the_truth() -> None:
    probabilities, targets = guesses()
    expected = np.zeros((4, 4), int)
    for row, target in zip(probabilities, targets, strict=True):
        expected[target, row.argmax()] += 1
    np.testing.assert_array_equal(confusion(probabilities, targets, 4), expected)
    assert (expected != expected.T).any()


def test_the_table_of_classes_says_nothing_where_nothing_is_known() -> None:
    probabilities = np.array([[0.6, 0.3, 0.1, 0.0], [0.2, 0.7, 0.1, 0.0], [0.5, 0.1, 0.4, 0.0], [0.1, 0.2, 0.7, 0.0]])
    table = per_class_table(probabilities, np.array([0, 0, 0, 1]), NAMES).set_index("class")
    assert list(table.columns) == ["images", "precision", "recall", "f1", "auroc"]
    assert list(table["images"]) == [3, 1, 0, 0]
    nan = math.nan
    np.testing.assert_allclose(table["precision"], [1, 0, 0, nan])
    np.testing.assert_allclose(table["recall"], [2 / 3, 0, nan, nan])
    np.testing.assert_allclose(table["f1"], [4 / 5, 0, 0, nan])
    np.testing.assert_allclose(table["auroc"], [1, 1 / 3, nan, nan])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_regression_metrics_equal_their_formulas(dtype: type) -> None:
    rng = np.random.default_rng(2)
    targets = rng.uniform(100, 220, 50)
    predicted = (targets + rng.normal(3, 10, 50)).astype(dtype)
    errors = predicted - targets
    assert regression_metrics(predicted, targets) == pytest.approx(
        {
            "mae": np.abs(errors).mean(),
            "rmse": np.sqrt((errors**2).mean()),
            "r2": 1 - (errors**2).sum() / ((targets - targets.mean()) ** 2).sum(),
            "median_error": np.median(np.abs(errors)),
        },
        rel=1e-9,
    )


@pytest.mark.parametrize("count", [1, 3])
def test_equal_targets_have_no_r2(count: int) -> None:
    metrics = regression_metrics(np.arange(float(count)), np.full(count, 7.0))
    assert math.isnan(metrics["r2"])
    assert metrics["mae"] == pytest.approx(7 - (count - 1) / 2)


def test_groups_have_their_own_errors_and_the_sign_of_their_bias() -> None:
    predicted, targets = np.array([12.0, 8.0, 30.0, 27.0, 5.0]), np.array([10.0, 10.0, 20.0, 20.0, 5.0])
    groups = {"sex": ["male", "male", "female", "female", "missing"], "side": ["left"] * 5}
    table = by_group(predicted, targets, groups)
    assert table.to_dict("list") == {
        "covariate": ["sex", "sex", "sex", "side"],
        "group": ["female", "male", "missing", "left"],
        "count": [2, 2, 1, 5],
        "mae": pytest.approx([8.5, 2, 0, 21 / 5]),
        "rmse": pytest.approx([math.sqrt(149 / 2), 2, 0, math.sqrt(157 / 5)]),
        "r2": pytest.approx([math.nan, math.nan, math.nan, 1 - 157 / 180], nan_ok=True),
        "median_error": pytest.approx([8.5, 2, 0, 2]),
        "bias": pytest.approx([8.5, 0, 0, 17 / 5]),
    }


def test_without_covariates_there_are_no_groups() -> None:
    table = by_group(np.ones(2), np.ones(2), {})
    assert list(table.columns) == ["covariate", "group", "count", "mae", "rmse", "r2", "median_error", "bias"]
    assert table.empty


@pytest.mark.parametrize("scale", [1e-6, 1e-4, 1e6])
def test_r2_does_not_depend_on_the_unit(scale: float) -> None:
    """torchmetrics takes a sum of squares below 1e-4 for none."""
    targets, predicted = scale * np.array([1.0, 2.0, 3.0, 6.0]), scale * np.array([3.0, 3.0, 1.0, 1.0])
    assert regression_metrics(predicted, targets)["r2"] == pytest.approx(1 - 34 / 14)


@pytest.mark.parametrize("fault", [math.nan, math.inf])
def test_one_prediction_that_is_not_finite_leaves_no_metric_and_is_never_the_best(fault: float) -> None:
    probabilities, targets = guesses()
    probabilities[3] = fault
    shares = classification_metrics(probabilities, targets, NAMES, top_k=2)
    errors = regression_metrics(np.array([1.0, fault, 3.0]), np.array([1.0, 2.0, 3.0]))
    for measured in (shares, errors):
        assert all(math.isnan(value) for value in measured.values())
        assert not any(is_better(value, 0.5, mode) for value in measured.values() for mode in ("min", "max"))
