"""Charts and sheets of labels show the numbers and the pixels that they should."""

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from data.geometry import fit_image
from trainer.tasks.label_pictures import (
    limits_of_agreement,
    plot_bland_altman,
    plot_confusion,
    plot_predicted_against_true,
    plot_reliability,
)
from trainer.tasks.label_samples import class_samples, draw_attention, number_samples, write_samples

GRAY_IMAGE = np.full((40, 30), 90, np.uint8)


def assert_wide_png(path: Path) -> None:
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert np.asarray(cv2.imread(str(path))).shape[1] >= 800


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text().strip() for text in figure.legends[0].get_texts()]


def test_confusion_shows_counts_and_percents_of_the_true_class(tmp_path: Path) -> None:
    counts = np.array([[3, 1, 0], [0, 0, 0], [500, 0, 1500]])
    axes = plot_confusion(tmp_path / "c.png", counts, ["a$b$", "_c", "<d>"]).axes[0]
    assert texts(axes) == ["3\n75 %", "1\n25 %", "0\n0 %", "0", "0", "0", "500\n25 %", "0\n0 %", "1,500\n75 %"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a$b$  (4)", "_c  (0)", "<d>  (2,000)"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a$b$", "_c", "<d>"]
    shades = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shades, [[75, 25, 0], [0, 0, 0], [25, 0, 75]])
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first true class is on top
    assert_wide_png(tmp_path / "c.png")


def test_thirty_long_names_are_readable_and_in_the_picture(tmp_path: Path) -> None:
    names = [f"a long name of a class, the {number}th" for number in range(30)]
    figure = plot_confusion(tmp_path / "c.png", 7 * np.eye(30, dtype=int), names)
    axes = figure.axes[0]
    assert texts(axes) == ["7"] * 30  # percents and noughts have no room
    FigureCanvasAgg(figure).draw()
    labels = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(upper.y0 > lower.y0 + 0.8 * lower.height for upper, lower in pairwise(labels))
    assert all(label.x0 >= 0 for label in labels)
    assert all(label.get_window_extent().y0 >= 0 for label in axes.get_xticklabels())


def test_of_more_than_forty_classes_the_confusion_is_colour_alone(tmp_path: Path) -> None:
    figure = plot_confusion(tmp_path / "c.png", np.eye(41, dtype=int), [str(number) for number in range(41)])
    assert texts(figure.axes[0]) == []


def test_reliability_shows_accuracy_and_count_of_each_bin(tmp_path: Path) -> None:
    confidence = np.array([0.52, 0.53, 0.525, 0.95, 1.0, 0.99])
    probabilities = np.column_stack([confidence, 1 - confidence])
    targets = np.array([0, 1, 0, 0, 0, 1])
    top, bottom = plot_reliability(tmp_path / "r.png", probabilities, targets).axes
    bars = [bar for bar in top.patches if isinstance(bar, Rectangle)]
    assert [bar.get_x() for bar in bars] == pytest.approx([7 / 15, 14 / 15])
    assert [bar.get_height() for bar in bars] == pytest.approx([2 / 3, 2 / 3])
    counts = [bar.get_height() for bar in bottom.patches if isinstance(bar, Rectangle)]
    assert counts == [0] * 7 + [3] + [0] * 6 + [3]
    means = next(line for line in top.get_lines() if line.get_marker() == "o")
    np.testing.assert_allclose(means.get_xdata(), [0.525, 0.98])
    error = (abs(0.525 - 2 / 3) + abs(0.98 - 2 / 3)) / 2
    assert f"calibration error {100 * error:.1f} %" in str(means.get_label())
    assert_wide_png(tmp_path / "r.png")


def numbers() -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    targets = rng.uniform(10, 200, 40)
    groups = ["_m $x$" if number % 4 else "f" for number in range(40)]
    return targets + rng.normal(3, 10, 40), targets, groups


def test_predictions_are_drawn_over_the_truth_with_the_error_of_each_group(tmp_path: Path) -> None:
    predicted, targets, groups = numbers()
    path = tmp_path / "p.png"
    figure = plot_predicted_against_true(path, predicted, targets, name="age", unit="months", groups=groups)
    axes = figure.axes[0]
    drawn = np.asarray(axes.collections[0].get_offsets())
    order = np.argsort(drawn[:, 0])
    np.testing.assert_allclose(drawn[order], np.column_stack([targets, predicted])[np.argsort(targets)])
    of_f = np.array(groups) == "f"
    errors = np.abs(predicted - targets)
    expected = {
        f"f (10):\n MAE {errors[of_f].mean():.3g} months",
        f"_m $x$ (30):\n MAE {errors[~of_f].mean():.3g} months",
    }
    assert {*legend_of(figure)} == {*expected, "prediction = truth"}
    assert axes.get_xlim() == axes.get_ylim()
    identity = next(line for line in axes.get_lines() if line.get_label() == "prediction = truth")
    np.testing.assert_array_equal(identity.get_xdata(), identity.get_ydata())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("true age (months)", "predicted age (months)")
    assert_wide_png(path)


def test_colours_follow_the_group_of_each_point(tmp_path: Path) -> None:
    predicted, targets, groups = numbers()
    options = {"name": "age", "unit": "", "groups": groups}
    axes = plot_predicted_against_true(tmp_path / "p.png", predicted, targets, **options).axes[0]
    points = axes.collections[0]
    group_of = dict(zip(targets.tolist(), groups, strict=True))
    colours: dict[str, set[tuple[float, ...]]] = {}
    for (x, _), colour in zip(np.asarray(points.get_offsets()), points.get_facecolors(), strict=True):
        colours.setdefault(group_of[float(x)], set()).add(tuple(colour))
    assert [len(found) for found in colours.values()] == [1, 1]
    assert colours["f"] != colours["_m $x$"]


def test_bland_altman_shows_bias_and_limits_of_agreement(tmp_path: Path) -> None:
    predicted, targets, _ = numbers()
    figure = plot_bland_altman(tmp_path / "b.png", predicted, targets, name="age", unit="months")
    axes = figure.axes[0]
    differences = predicted - targets
    deviation = np.sqrt(((differences - differences.mean()) ** 2).sum() / 39)
    expected = [differences.mean() + factor * 1.96 * deviation for factor in (0, 1, -1)]
    heights = [float(line.get_ydata()[0]) for line in axes.get_lines() if len(line.get_ydata()) == 2][1:]
    assert heights == pytest.approx(expected)
    drawn = np.asarray(axes.collections[0].get_offsets())
    pairs = np.column_stack([(predicted + targets) / 2, differences])
    np.testing.assert_allclose(drawn[np.argsort(drawn[:, 0])], pairs[np.argsort(pairs[:, 0])])
    assert texts(axes)[0] == f"bias\n+{differences.mean():.3g} months"
    assert legend_of(figure) == [f"all (40): bias +{differences.mean():.3g} months"]
    assert_wide_png(tmp_path / "b.png")


def test_one_image_has_a_bias_and_no_limits(tmp_path: Path) -> None:
    assert limits_of_agreement(np.array([2.0]))[0] == 2
    axes = plot_bland_altman(tmp_path / "b.png", np.array([5.0]), np.array([3.0]), name="x", unit="").axes[0]
    assert texts(axes) == []


def test_more_groups_than_colours_are_drawn_as_one(tmp_path: Path) -> None:
    values = np.arange(27.0)
    groups = [f"site {number % 9}" for number in range(27)]
    figure = plot_bland_altman(tmp_path / "b.png", values + 1, values, name="x", unit="", groups=groups)
    assert legend_of(figure) == ["all (27): bias +1"]


@pytest.mark.parametrize("plot", [plot_bland_altman, plot_predicted_against_true])
def test_legends_of_long_group_names_stay_in_the_picture(tmp_path: Path, plot) -> None:
    values = np.arange(32.0)
    groups = [f"a hospital with the long name {number % 8}" for number in range(32)]
    figure = plot(tmp_path / "b.png", values + 100.123, values, name="x", unit="kilograms", groups=groups)
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.x1
    assert figure.axes[0].get_window_extent().width > 0.4 * figure.bbox.width


def test_images_of_classes_are_ranked_by_the_probability_of_their_class() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4]])
    samples = class_samples(np.array([7, 8, 9]), probabilities, np.array([0, 0, 2]), ["ant", "bee", "cat"])
    np.testing.assert_allclose(samples.error, [0.1, 0.8, 0.6])
    assert samples.captions == ["ant (90 %), right", "predicted bee (70 %)\ntrue ant (20 %)", "cat (40 %), right"]
    assert samples.colours[0] == samples.colours[2] != samples.colours[1]


def test_images_of_numbers_are_ranked_by_their_absolute_error() -> None:
    samples = number_samples(np.array([7, 8]), np.array([120.5, 90.0]), np.array([120.0, 100.25]), "months")
    np.testing.assert_allclose(samples.error, [0.5, 10.25])
    assert samples.captions[0] == "true 120, predicted 120.5\nerror +0.5 months"
    assert samples.captions[1] == "true 100.2, predicted 90\nerror −10.2 months"


def test_sheets_show_the_best_median_and_worst_images(tmp_path: Path) -> None:
    shown: list[int] = []

    def read(index: int) -> np.ndarray:
        shown.append(index)
        return GRAY_IMAGE

    errors = np.random.default_rng(1).permutation(12).astype(float)
    samples = number_samples(np.arange(12) + 50, errors, np.zeros(12), "")
    names = [f"folder/{index} $.png" for index in range(62)]
    paths = write_samples(
        tmp_path,
        read,
        names,
        samples,
        count=1,
        attention=np.full((12, 2, 2), 0.25),
        affine_of=lambda _: fit_image((30, 40), (64, 64), "letterbox").affine,
        input_size=(64, 64),
    )
    assert [path.name for path in paths] == ["samples_best.png", "samples_median.png", "samples_worst.png"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    ranked = (np.argsort(errors) + 50).tolist()
    assert shown == [ranked[0], ranked[5], ranked[-1]]
    for path in paths:
        assert_wide_png(path)


def test_a_sheet_of_an_earlier_part_of_the_run_does_not_stay(tmp_path: Path) -> None:
    (tmp_path / "samples_median.png").write_bytes(b"of an earlier part of the run")
    samples = number_samples(np.arange(2), np.array([1.0, 2.0]), np.zeros(2), "")
    paths = write_samples(tmp_path, lambda _: GRAY_IMAGE, ["a", "b"], samples, count=3)
    assert sorted(tmp_path.iterdir()) == paths == [tmp_path / "samples_best.png", tmp_path / "samples_worst.png"]


@pytest.mark.parametrize("mode", ["letterbox", "stretch"])
def test_attention_lies_where_its_cell_was_in_the_image(mode: str) -> None:
    """The third cell of the second row of 4 x 4 over a square input, in an image of 80 x 40 px: letterbox adds 20 px
    above and below, so that the inner two rows hold the image."""
    attention = np.zeros((4, 4))
    attention[1, 2] = 1.0
    figure = Figure(figsize=(4, 2), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(np.zeros((40, 80)), cmap="gray", vmin=0, vmax=255)
    draw_attention(axes, attention, Normalize(1, 16, clip=True), fit_image((80, 40), (64, 64), mode).affine, (64, 64))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    red = np.asarray(canvas.buffer_rgba())[:, :, 0].astype(float)  # 5 screen px for one of the image
    assert axes.get_xlim() == (-0.5, 79.5)
    rows, columns = np.nonzero(red > 0.9 * red.max())
    assert (columns.mean() / 5, rows.mean() / 5) == pytest.approx((50, 15 if mode == "stretch" else 10), abs=0.5)
