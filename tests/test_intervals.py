"""Bootstrap intervals against scipy's bootstrap and against plain loops."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats
from test_label_tasks import classification, regression

from trainer.tasks import intervals
from trainer.tasks.intervals import DRAWS, SEED, bootstrap_interval
from trainer.tasks.task import Task


def test_an_interval_is_that_of_a_plain_loop_over_drawn_images() -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 6, 23)
    sums = counts * rng.gamma(2.0, 1.0, 23)
    drawn = np.random.default_rng(SEED).integers(23, size=(DRAWS, 23))
    means = []
    for images in drawn.tolist():
        means.append(math.fsum(sums[image] for image in images) / sum(counts[image] for image in images))
    means.sort()
    low, high = bootstrap_interval(sums, counts)
    assert (low, high) == pytest.approx([np.percentile(means, 2.5), np.percentile(means, 97.5)], rel=1e-12)


def test_an_interval_agrees_with_scipys_percentile_bootstrap_of_paired_sums_and_counts() -> None:
    rng = np.random.default_rng(2)
    counts = rng.integers(1, 20, 60).astype(float)
    sums = counts * rng.gamma(3.0, 0.5, 60)

    def ratio(sums: np.ndarray, counts: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(sums.sum(axis=axis) / counts.sum(axis=axis))

    theirs = stats.bootstrap(
        (sums, counts), ratio, paired=True, method="percentile", n_resamples=20_000, rng=np.random.default_rng(3)
    )
    low, high = theirs.confidence_interval
    assert bootstrap_interval(sums, counts) == pytest.approx((low, high), abs=0.06 * (high - low))


def test_intervals_hold_the_mean_of_the_population_as_often_as_they_say() -> None:
    """95 % of 400 experiments with errors that go together within an image; the binomial's own 99.9 % range."""
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(400):
        of_image = rng.gamma(9.0, 1 / 9, (60, 1))
        errors = of_image * rng.gamma(4.0, 1 / 4, (60, 10))
        low, high = bootstrap_interval(errors.sum(axis=1), np.full(60, 10))
        held += low <= 1.0 <= high
    assert stats.binom(400, 0.93).ppf(0.0005) <= held <= stats.binom(400, 0.955).ppf(0.9995)


def test_images_that_count_nothing_change_nothing() -> None:
    sums, counts = np.array([3.0, 5.0, 1.0, 4.0]), np.array([2, 2, 1, 2])
    padded = bootstrap_interval(np.insert(sums, 2, 0.0), np.insert(counts, 2, 0))
    assert padded == bootstrap_interval(sums, counts)


@pytest.mark.parametrize(
    ("sums", "counts"), [([], []), ([2.0], [1]), ([2.0, 0.0], [1, 0]), ([2.0, np.nan, 1.0], [1, 1, 1])]
)
def test_where_there_is_nothing_to_draw_from_there_is_no_interval(sums: list[float], counts: list[int]) -> None:
    assert np.isnan(bootstrap_interval(np.array(sums), np.array(counts))).all()


def test_the_draws_are_the_same_however_many_are_made_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sums, counts = np.arange(1.0, 12.0), np.full(11, 2)
    whole = bootstrap_interval(sums, counts)
    monkeypatch.setattr(intervals, "CHUNK", 11 * 7)
    assert bootstrap_interval(sums, counts) == whole


def test_of_classes_the_accuracy_has_an_interval() -> None:
    rng = np.random.default_rng(5)
    probabilities = rng.dirichlet(np.ones(3), 50)
    found = {"index": np.arange(50), "target": rng.integers(3, size=50), "probabilities": probabilities}
    ((name, (low, high)),) = classification().intervals(found).items()
    right = [row.argmax() == true for row, true in zip(probabilities, found["target"], strict=True)]
    assert (name, low, high) == ("accuracy", *bootstrap_interval(np.array(right), np.ones(50)))
    assert low < classification().metrics(found)["accuracy"] < high
    probabilities[3, 1] = np.nan
    assert np.isnan(classification().intervals(found)["accuracy"]).all()


def test_of_numbers_the_mean_absolute_error_has_an_interval() -> None:
    rng = np.random.default_rng(6)
    found = {"index": np.arange(40), "target": rng.normal(0, 9, 40), "prediction": rng.normal(0, 9, 40)}
    ((name, (low, high)),) = regression().intervals(found).items()
    errors = np.array([abs(a - b) for a, b in zip(found["prediction"], found["target"], strict=True)])
    assert (name, low, high) == ("mae", *bootstrap_interval(errors, np.ones(40)))
    assert low < regression().metrics(found)["mae"] < high
    assert np.isnan(regression().intervals({key: values[:1] for key, values in found.items()})["mae"]).all()


@pytest.mark.parametrize("task", [classification(), regression()])
def test_classes_and_numbers_say_nothing_beyond_themselves_of_certainty(task: Task[Any]) -> None:
    assert task.certainty({"val": {"index": np.arange(30)}}) is None
