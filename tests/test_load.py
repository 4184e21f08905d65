"""`from trainer import load`: what a predictor says of a run's own images is what the run wrote down of them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from served import images, run_of, written_by

from data.errors import DataError
from models.landmarks import LandmarkOutput
from trainer import load
from trainer.run_dir import RunDir

LIGHT = """
import sys, trainer
assert not {"torch", "numpy", "pandas"} & set(sys.modules), "import trainer is slow"
assert "load" in trainer.__all__
"""


def by_name(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(image=[Path(name).stem for name in table["image"]]).set_index("image")


@pytest.mark.parametrize("kind", ["landmarks", "coordinates", "classes", "numbers"])
def test_the_runs_own_images_get_the_rows_of_its_predictions(kind: str) -> None:
    written = written_by(kind)
    found = by_name(load(run_of(kind), device="cpu").predict(images() / "table.csv")).loc[written.index]
    shared = [name for name in found.columns if name in written]
    numbers = [name for name in shared if found[name].dtype == float]
    words = [name for name in shared if name not in numbers]
    assert shared == list(found.columns)  # no column that predictions.csv of a run does not have
    np.testing.assert_allclose(found[numbers], written[numbers], rtol=1e-5, atol=1e-4)
    assert (found[words] == written[words]).all(axis=None)
    wanted = {"landmarks": "sella_radius90_mm", "coordinates": "sella_x", "classes": "sex", "numbers": "prediction"}
    assert wanted[kind] in shared


def test_radii_are_told_in_px_where_no_spacing_is_known() -> None:
    predictor = load(run_of("landmarks"), device="cpu")
    known, unknown = (predictor.predict(source) for source in (images() / "table.csv", images()))
    spacing_mm = pd.read_csv(images() / "table.csv")["pixel_spacing_mm"]
    np.testing.assert_allclose(unknown["sella_radius90_px"] * spacing_mm, known["sella_radius90_mm"], rtol=1e-6)
    one = predictor.predict(images() / "phantom_00003.png", pixel_spacing_mm=0.5)
    assert one["sella_radius90_mm"][0] == pytest.approx(unknown["sella_radius90_px"][3] / 2, rel=1e-4)


@pytest.mark.parametrize("weights", ["best", "last", "mean of", "ensemble of"])
def test_the_weights_are_those_that_the_run_took(weights: str, tmp_path: Path) -> None:
    """The candidate that was taken gives the run's predictions, each of the others the value that it was judged by."""
    run = RunDir(Path(shutil.copytree(run_of("snapshots"), tmp_path / "run")))
    results = json.loads(run.results.read_text())
    (row,) = [row for row in results["headline"] if row["stage"].startswith(weights)]
    results["taken"]["weights"] = row["stage"].removesuffix(", taken")
    run.results.write_text(json.dumps(results))
    predictor = load(run.path, device="cpu")
    assert len(predictor.networks) == (int(row["stage"].split()[2]) if weights.startswith("ensemble") else 1)
    found = by_name(predictor.predict(images()))["prediction"]
    written = written_by("snapshots")
    val = written[written["split"] == "val"]
    assert (found[val.index] - val["target"]).abs().mean() == pytest.approx(row["mae"], rel=1e-5)
    if row["taken"]:
        np.testing.assert_allclose(found[written.index], written["prediction"], rtol=1e-5)


def test_arrays_lists_patterns_and_folders_are_the_same_images() -> None:
    predictor = load(run_of("landmarks"), device="cpu")
    whole = predictor.predict(images()).drop(columns="image")
    paths = [images() / f"phantom_{index:05d}.png" for index in range(4)]
    gray = [np.array(Image.open(path)) for path in paths]
    rgb = [np.stack([image] * 3, axis=2) for image in gray]
    given = [
        paths,
        [str(path) for path in paths],
        gray,
        rgb,
        str(images() / "phantom_0000[0-3].png"),
        [*gray[:2], *paths[2:]],
    ]
    for one in given:
        found = predictor.predict(one)
        np.testing.assert_allclose(found.drop(columns="image"), whole[:4], rtol=1e-4, atol=1e-4)
    alone = predictor.predict(gray[2])
    assert list(alone["image"]) == ["array_0"]
    np.testing.assert_allclose(alone.drop(columns="image"), whole[2:3], rtol=1e-3, atol=1e-2)  # a batch of one


def test_an_answer_does_not_depend_on_the_other_images_even_under_views() -> None:
    predictor = load(run_of("snapshots"), device="cpu")
    several = predictor.predict(images(), tta=3)["prediction"]
    alone = predictor.predict(images() / "phantom_00007.png", tta=3)["prediction"]
    assert alone[0] == pytest.approx(several[7], rel=1e-5)
    assert alone[0] != pytest.approx(predictor.predict(images() / "phantom_00007.png")["prediction"][0], rel=1e-5)


def test_covariates_come_in_columns_of_their_own_or_are_asked_for() -> None:
    predictor = load(run_of("classes"), device="cpu")
    table = pd.read_csv(images() / "table.csv")[:3]
    paths = [images() / name for name in table["image"]]
    found = predictor.predict(paths, covariates=table[["sex"]])
    from_table = predictor.predict(images() / "table.csv")[:3]
    pd.testing.assert_frame_equal(found.drop(columns="image"), from_table.drop(columns="image"), rtol=1e-4)
    with pytest.raises(ValueError, match="sees sex beside each image, which only a table can tell"):
        predictor.predict(paths)
    with pytest.raises(ValueError, match="covariates: sex has 2 values for 3 images"):
        predictor.predict(paths, covariates={"sex": ["F", "M"]})
    with pytest.raises(DataError, match=r"has no column 'sex'.* The model sees sex beside each image"):
        predictor.predict(paths, covariates={"gender": ["F", "M", "F"]})
    with pytest.raises(DataError, match="'X', the training rows have F, M"):
        predictor.predict(paths, covariates={"sex": ["F", "M", "X"]})


def test_what_is_no_image_is_told_or_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    predictor = load(run_of("landmarks"), device="cpu")
    (tmp_path / "bad.png").write_bytes((images() / "phantom_00000.png").read_bytes()[:400])
    both = [tmp_path / "bad.png", images() / "phantom_00000.png"]
    with pytest.raises(DataError, match=r"bad.png: the file ends too early"):
        predictor.predict(both)
    assert list(predictor.predict(both, skip_unreadable=True)["image"]) == [str(both[1])]
    assert "left out: " in caplog.text
    for wrong in (np.zeros((4, 5)), np.zeros((4, 5, 4), np.uint8), np.zeros((0, 5), np.uint8)):
        with pytest.raises(DataError, match=r"array_0 is .* expected uint8 \(H, W\) or \(H, W, 3\) RGB"):
            predictor.predict(wrong)
    with pytest.raises(DataError, match="no file matches the pattern"):
        predictor.predict(str(tmp_path / "*.jpg"))
    with pytest.raises(DataError, match="there is no image in the list"):
        predictor.predict([])
    with pytest.raises(ValueError, match="tta=0 must be above 0"):
        predictor.predict(both, tta=0)


def test_a_folder_that_is_no_finished_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a run directory: it is not a folder"):
        load(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"is not a run directory: it has no config.yaml"):
        load(tmp_path)
    run = RunDir(Path(shutil.copytree(run_of("landmarks"), tmp_path / "run")))
    results = run.results.read_text()
    with run.lr_history.open("a") as file:  # it went on, with more epochs
        file.write(run.lr_history.read_text().splitlines()[-1] + "\n")
    with pytest.raises(ValueError, match=r"is not finished: it went on to update \d+ after results.json"):
        load(run.path)
    run.lr_history.unlink()
    run.results.write_text(results[:100])
    with pytest.raises(ValueError, match=r"results.json is not as a run wrote it"):
        load(run.path)
    run.results.write_text(json.dumps({"range_test": {}, "verdict": ""}))
    with pytest.raises(ValueError, match="holds range tests alone"):
        load(run.path)
    run.results.unlink()
    with pytest.raises(
        ValueError, match=r"is not finished: it has no results.json; go on with it: python -m trainer resume="
    ):
        load(run.path)
    run.results.write_text(results)
    run.best_weights.unlink()
    with pytest.raises(ValueError, match=r"best.safetensors is missing"):
        load(run.path)


@pytest.mark.parametrize("lost", ["updates", "metrics", "split", "weights", "details"])
def test_results_that_lack_something_are_told(lost: str, tmp_path: Path) -> None:
    run = RunDir(Path(shutil.copytree(run_of("landmarks"), tmp_path / "run")))
    results = json.loads(run.results.read_text())
    if lost == "details":
        results["details"] = []
    else:
        del (results["taken"] if lost == "weights" else results)[lost]
    run.results.write_text(json.dumps(results))
    with pytest.raises(ValueError, match=r"results.json is not as a run wrote it \((Key|Index)Error: "):
        load(run.path)


def test_importing_trainer_imports_no_torch() -> None:
    subprocess.run([sys.executable, "-c", LIGHT], check=True, cwd=Path(__file__).parents[1], timeout=120)


class BrightestPixel(torch.nn.Module):
    """Finds the one dot of an image, whatever the landmark."""

    def forward(self, images: torch.Tensor) -> LandmarkOutput:
        gray = images.float().mean(dim=1)
        at = gray.flatten(1).argmax(dim=1)
        point = torch.stack([at % gray.shape[2], at // gray.shape[2]], dim=1).float()
        return LandmarkOutput(point[:, None].repeat(1, 19, 1))


def test_the_points_of_moved_views_come_back_to_the_image() -> None:
    predictor = load(run_of("landmarks"), device="cpu")
    predictor.networks = [BrightestPixel()]
    height, width = np.array(Image.open(images() / "phantom_00000.png")).shape[:2]
    image = np.zeros((height, width), np.uint8)
    row, column = int(0.45 * height), int(0.6 * width)
    image[row - 2 : row + 3, column - 2 : column + 3] = 120
    image[row, column] = 255
    input_px = height / predictor.preprocessing.input_size[0]  # about the size of one in the image
    for tta in (1, 5):
        found = predictor.predict(image, tta=tta)
        assert abs(found["sella_x"][0] - column) < 2 * input_px
        assert abs(found["sella_y"][0] - row) < 2 * input_px
