"""Overlays show the right images and the right pixels; the bars show the table."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Circle, Rectangle

from trainer.tasks.landmark_metrics import per_landmark_table
from trainer.tasks.landmark_pictures import draw_overlay, plot_landmark_errors, write_overlays
from trainer.tasks.sheets import choose_samples, shortened

IMAGE = np.full((40, 30), 90, np.uint8)


def assert_wide_png(path: Path) -> None:
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert np.asarray(cv2.imread(str(path))).shape[1] >= 800


def predictions_of(num_images: int) -> dict[str, np.ndarray]:
    """Errors of 1 to 6 px at spacings that put the images into another order in mm; rows are not the records."""
    rng = np.random.default_rng(3)
    truth = rng.uniform(5, 25, (num_images, 4, 2))
    return {
        "index": np.arange(num_images) + 100,
        "points": truth + rng.uniform(1, 6, (num_images, 1, 1)) * np.array([0.6, 0.8]),
        "truth": truth,
        "spacing_mm": rng.uniform(0.1, 2.0, num_images),
    }


@pytest.mark.parametrize("count", [1, 3, 4])
@pytest.mark.parametrize("num_images", range(15))
def test_chosen_samples_are_the_least_middle_and_greatest_and_none_is_chosen_twice(num_images: int, count: int) -> None:
    means = np.random.default_rng(num_images).permutation(num_images).astype(float)
    means = np.append(means, np.nan)  # an image without landmarks
    chosen = choose_samples(means, count)
    ranks = {kind: [int(means[row]) for row in rows] for kind, rows in chosen.items()}
    together = sorted(rank for ranks_of_kind in ranks.values() for rank in ranks_of_kind)
    assert len(together) == min(num_images, 3 * count)
    assert together == sorted(set(together))
    assert ranks["best"] == list(range(len(ranks["best"])))
    assert ranks["worst"] == list(range(num_images))[::-1][: len(ranks["worst"])]
    if num_images >= 3 * count:
        assert [len(rows) for rows in chosen.values()] == [count] * 3
        assert abs(np.mean(ranks["median"]) - (num_images - 1) / 2) <= 0.5


@pytest.mark.parametrize(("unit", "count"), [("px", 1), ("mm", 2)])
def test_sheets_show_the_images_with_the_right_errors_in_the_unit(tmp_path: Path, unit: str, count: int) -> None:
    predictions = predictions_of(20)
    predictions["truth"][4] = np.nan  # no landmark at all
    predictions["truth"][7, :3] = np.nan  # one
    predictions["spacing_mm"][9] = np.nan
    shown: list[int] = []

    def read(index: int) -> np.ndarray:
        shown.append(index)
        return IMAGE

    names = [f"folder/{index}.png" for index in range(120)]
    paths = write_overlays(tmp_path, read, predictions, names, unit=unit, count=count)
    by_error = []
    for row, index in enumerate(predictions["index"]):
        scale = predictions["spacing_mm"][row] if unit == "mm" else 1.0
        pairs = zip(predictions["points"][row], predictions["truth"][row], strict=True)
        distances = [scale * float(np.hypot(*(point - true))) for point, true in pairs]
        present = [distance for distance in distances if distance == distance]
        if present:
            by_error.append((sum(present) / len(present), int(index)))
    order = [index for _, index in sorted(by_error)]
    middle = len(order) // 2
    assert len(order) == (18 if unit == "mm" else 19)
    assert shown[:count] == order[:count]
    assert shown[count:-count] == order[middle - count // 2 :][:count]
    assert shown[-count:] == order[::-1][:count]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert [path.name for path in paths] == ["overlays_best.png", "overlays_median.png", "overlays_worst.png"]
    for path in paths:
        assert_wide_png(path)


def test_of_two_images_one_is_the_best_and_one_the_worst(tmp_path: Path) -> None:
    (tmp_path / "overlays_median.png").write_bytes(b"of an earlier part of the run")
    colour = np.dstack([IMAGE] * 3)
    names = ["x"] * 102
    paths = write_overlays(tmp_path, lambda _: colour, predictions_of(2), names, unit="px", count=4)
    assert [path.name for path in paths] == ["overlays_best.png", "overlays_worst.png"]
    assert sorted(tmp_path.iterdir()) == paths


def test_no_sheet_is_written_where_none_is_wanted_or_nothing_has_landmarks(tmp_path: Path) -> None:
    predictions = predictions_of(3)
    names = ["x"] * 103
    assert write_overlays(tmp_path, lambda _: IMAGE, predictions, names, unit="px", count=0) == []
    predictions["truth"][:] = np.nan
    assert write_overlays(tmp_path, lambda _: IMAGE, predictions, names, unit="px", count=4) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("height", [40, 3000])
def test_integer_coordinates_are_drawn_at_pixel_centres(height: int) -> None:
    block = height // 40  # one white block of the image, whose centre is known
    image = np.zeros((height, height), np.uint8)
    image[3 * block : 4 * block, 7 * block : 8 * block] = 255
    nowhere = np.full((1, 2), np.nan)
    figure = draw_overlay(image, nowhere, nowhere, title="")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[::-1, :, 0]  # row 0 at the bottom, as in display coordinates
    to_display = figure.axes[0].transData.transform
    centre = np.array([7 * block + (block - 1) / 2, 3 * block + (block - 1) / 2])
    column, row = to_display(centre)
    left, bottom = np.ceil(to_display((-0.5, height - 0.5))).astype(int) + 2
    right, top = np.floor(to_display((height - 0.5, -0.5))).astype(int) - 2
    inside = pixels[bottom:top, left:right].astype(float)
    rows, columns = np.indices(inside.shape)
    seen_row = bottom + 0.5 + np.average(rows, weights=inside)
    seen_column = left + 0.5 + np.average(columns, weights=inside)
    assert (seen_column, seen_row) == pytest.approx((column, row), abs=0.5)


def test_prediction_and_truth_are_drawn_where_they_are_and_joined() -> None:
    points = np.array([[3.0, 4.0], [10.0, 12.0], [20.0, 5.0]])
    truth = np.array([[5.0, 4.0], [np.nan, np.nan], [20.0, 9.0]])
    (axes,) = draw_overlay(IMAGE, points, truth, title="a").axes
    lines = {str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.get_lines()}
    np.testing.assert_array_equal(lines["prediction"], points)
    np.testing.assert_array_equal(lines["truth"], truth)
    joins = [np.asarray(line.get_xydata()) for line in axes.get_lines() if line.get_marker() == "None"]
    np.testing.assert_array_equal(joins, [[truth[0], points[0]], [truth[2], points[2]]])
    assert [text.get_text() for text in axes.texts] == ["0", "1", "2"]


@pytest.mark.parametrize(("num_landmarks", "num_numbers"), [(30, 30), (31, 0)])
def test_only_a_few_landmarks_are_numbered(num_landmarks: int, num_numbers: int) -> None:
    points = np.random.default_rng(0).uniform(0, 30, (num_landmarks, 2))
    names = [f"n{number}" for number in range(num_landmarks)]
    (axes,) = draw_overlay(IMAGE, points, points, title="a", names=names).axes
    assert len(axes.texts) == (num_numbers + 1 if num_numbers else 0)  # and the key


def test_names_that_are_the_numbers_need_no_key() -> None:
    points = np.random.default_rng(0).uniform(0, 30, (3, 2))
    (axes,) = draw_overlay(IMAGE, points, points, title="a", names=["0", "1", "2"]).axes
    assert sorted(text.get_text() for text in axes.texts) == ["0", "1", "2"]


def test_landmarks_outside_the_image_widen_the_view_but_not_without_limit() -> None:
    points = np.array([[-3.0, 10.0], [5.0, 1e6]])
    (axes,) = draw_overlay(IMAGE, points, points, title="a").axes
    assert axes.get_xlim() == pytest.approx((-3.6, 29.5))
    assert axes.get_ylim() == pytest.approx((48.0, -0.5))


def test_bars_show_the_table_with_the_worst_on_top(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    truth = rng.uniform(0, 100, (30, 4, 2))
    points = truth + rng.normal(0, 1, truth.shape) * np.array([3, 1, 2, 1])[None, :, None]
    truth[:, 3] = np.nan
    names = ["<b>", "cost $a$", "_hidden", "nowhere"]
    table = per_landmark_table(points, truth, np.full(30, np.nan), names, unit="px", sdr_thresholds=[2.0])
    figure = plot_landmark_errors(tmp_path / "errors.png", table, unit="px")
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["nowhere  (n=0)", "cost $a$  (n=30)", "_hidden  (n=30)", "<b>  (n=30)"]  # from the bottom
    distances = [np.linalg.norm(points[:, column] - truth[:, column], axis=1) for column in (1, 2, 0)]
    widths = [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)][1:]
    np.testing.assert_allclose(widths, [each.mean() for each in distances])
    median, p95, overall = axes.get_lines()
    np.testing.assert_allclose(np.asarray(median.get_xdata())[1:], [np.median(each) for each in distances])
    np.testing.assert_allclose(np.asarray(p95.get_xdata())[1:], [np.percentile(each, 95) for each in distances])
    assert np.asarray(overall.get_xdata())[0] == pytest.approx(np.mean(distances))
    assert [file.name for file in tmp_path.iterdir()] == ["errors.png"]
    assert_wide_png(tmp_path / "errors.png")


def test_the_picture_grows_with_the_number_of_landmarks(tmp_path: Path) -> None:
    table = pd.DataFrame({"landmark": range(30), "count": 9, "mre_px": 2.0, "median_px": 1.5, "p95_px": 4.0})
    few, many = (plot_landmark_errors(tmp_path / "errors.png", table[:count], unit="px") for count in (3, 30))
    points_per_name = 72 * (many.get_figheight() - few.get_figheight()) / 27
    assert points_per_name > 1.5 * 8.5  # of its font


@pytest.mark.parametrize("shape", [(200, 100), (100, 300)])
def test_titles_of_tall_and_wide_images_are_not_cut_off(shape: tuple[int, int]) -> None:
    points = np.array([[20.0, 30.0]])
    figure = draw_overlay(np.zeros(shape, np.uint8), points, points, title="two\nlines")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    title, frame = figure.axes[0].title.get_window_extent(), figure.bbox
    assert title.y1 <= frame.y1
    assert figure.legends[0].get_window_extent().y1 < figure.axes[0].get_window_extent().y0


@pytest.mark.parametrize(("name", "expected"), [("abcdefgh", "abcdefgh"), ("abcdefghi", "abc…fghi")])
def test_long_names_lose_their_middle(name: str, expected: str) -> None:
    assert shortened(name, 8) == expected


@pytest.mark.parametrize("count", [4, 40])
def test_circles_are_drawn_around_predictions_with_their_radius_in_image_pixels(count: int) -> None:
    rng = np.random.default_rng(0)
    points, radii = rng.uniform(5, 25, (count, 2)), rng.uniform(1, 5, count)
    points[1], radii[2] = np.nan, np.nan
    figure = draw_overlay(IMAGE, points, points, title="", radii=radii)
    circles = [patch for patch in figure.axes[0].patches if isinstance(patch, Circle)]
    drawn = [0, *range(3, count)]
    np.testing.assert_array_equal([circle.center for circle in circles], points[drawn])
    np.testing.assert_array_equal([circle.radius for circle in circles], radii[drawn])
    assert not any(circle.get_fill() for circle in circles)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["truth", "prediction", "holds the truth in 90 %"]


def test_without_radii_neither_circles_nor_their_legend_are_drawn() -> None:
    points = np.array([[3.0, 4.0], [10.0, 12.0]])
    for radii in (None, np.full(2, np.nan)):
        figure = draw_overlay(IMAGE, points, points, title="", radii=radii)
        assert not any(isinstance(patch, Circle) for patch in figure.axes[0].patches)
        assert len(figure.legends[0].get_texts()) == 2


def test_sheets_have_the_circles_of_their_images(tmp_path: Path) -> None:
    plain = predictions_of(2)
    wide = {**plain, "radius": np.full((2, 4), 6.0)}
    pictures = []
    for found in (plain, wide):
        first, _ = write_overlays(tmp_path, lambda _: IMAGE, found, ["x"] * 102, unit="px", count=1)
        pictures.append(np.asarray(cv2.imread(str(first))))
    assert (pictures[0] != pictures[1]).any()
