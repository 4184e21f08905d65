"""`python -m trainer.predict`: the files that it promises, a bad image beside good ones, and what mistakes are told."""

import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from faults import Ended, run_main
from PIL import Image
from served import check_promise, images, run_of, written_by

from trainer import load


def predict(folder: Path, *arguments: str) -> Ended:
    return run_main(*arguments, "device=cpu", folder=folder, program="trainer.predict")


def test_a_folder_of_images_leaves_rows_pictures_and_what_was_done(tmp_path: Path) -> None:
    ended = predict(tmp_path, f"run={run_of('landmarks')}", f"images={images()}", "overlays=2")
    assert (ended.code, ended.err) == (0, "")
    (out,) = (tmp_path / "predictions").iterdir()
    assert {path.name for path in out.iterdir()} == {"predictions.csv", "predict.json", "overlays"}
    assert [path.name for path in sorted((out / "overlays").iterdir())] == [
        "00001_phantom_00000.png", "00002_phantom_00001.png",
    ]  # fmt: skip
    with Image.open(out / "overlays" / "00001_phantom_00000.png") as picture:
        colours = {tuple(pixel) for pixel in np.array(picture.convert("RGB")).reshape(-1, 3)[::7]}
    assert any(red > 200 and green < 140 and blue < 90 for red, green, blue in colours)  # predicted landmarks
    found = pd.read_csv(out / "predictions.csv")
    expected = load(run_of("landmarks"), device="cpu").predict(images())
    pd.testing.assert_frame_equal(found, expected, atol=1e-4, rtol=1e-5)
    told = json.loads((out / "predict.json").read_text())
    assert (told["finished"], told["count"], told["predicted"], told["failed"]) == (True, 30, 30, 0)
    assert told["weights"].startswith("best (epoch ")


def test_bad_images_are_listed_and_the_rest_is_done(tmp_path: Path) -> None:
    table = pd.read_csv(images() / "table.csv", dtype=str)[:6]
    shutil.copytree(images(), tmp_path / "images", ignore=shutil.ignore_patterns("*.csv"))
    (tmp_path / "images" / table["image"][1]).write_bytes(b"<html>")
    table.loc[3, "image"] = "lost.png"
    table.loc[4, "sex"] = "X"
    table.to_csv(tmp_path / "few.csv", index=False)
    given = (f"run={run_of('classes')}", "images=few.csv", "out=found", "overlays=true")
    ended = predict(tmp_path, *given)
    assert ended.code == 3
    failed = pd.read_csv(tmp_path / "found" / "failed.csv").set_index("image")["reason"]
    assert list(failed.index) == [table["image"][1], "lost.png", table["image"][4]]
    assert "a web page" in failed.iloc[0]
    assert "few.csv: line 5, column image: image 'lost.png' not found" in failed.iloc[1]
    assert "few.csv: line 6, column sex is 'X', the training rows have F, M" in failed.iloc[2]
    lines = ended.err.strip().splitlines()
    assert len(lines) == 4
    assert lines[-1].startswith("error: 3 of 6 images failed; each is in ")
    found = pd.read_csv(tmp_path / "found" / "predictions.csv").set_index("image")
    assert list(found.index) == [table["image"][row] for row in (0, 2, 5)]
    whole = load(run_of("classes"), device="cpu").predict(images() / "table.csv").set_index("image").loc[found.index]
    probabilities = [name for name in found if name.startswith("p_")]
    np.testing.assert_allclose(found[probabilities], whole[probabilities], atol=1e-4)
    assert len(list((tmp_path / "found" / "overlays").iterdir())) == 3
    # The folder is that of predictions, which new ones replace; nothing is left of the old.
    shutil.copy(images() / table["image"][1], tmp_path / "images" / table["image"][1])
    table.drop(index=[3, 4]).to_csv(tmp_path / "few.csv", index=False)
    again = predict(tmp_path, *given[:-1], "overlays=false")
    assert again.code == 0
    assert {path.name for path in (tmp_path / "found").iterdir()} == {"predictions.csv", "predict.json"}


def test_numbers_of_a_pattern_have_the_values_of_the_run(tmp_path: Path) -> None:
    pattern = images() / "phantom_0000*.png"
    given = (f"run={run_of('snapshots')}", f"images={pattern}", "out=new", "overlays=1", "batch_size=3")
    assert predict(tmp_path, *given).code == 0
    found = pd.read_csv(tmp_path / "new" / "predictions.csv")
    assert len(found) == 10
    found.index = [Path(name).stem for name in found["image"]]
    both = [name for name in found.index if name in (written := written_by("snapshots")).index]
    np.testing.assert_allclose(found.loc[both, "prediction"], written.loc[both, "prediction"], rtol=1e-5)


def test_images_to_be_drawn_do_not_fill_the_memory_with_a_batch(tmp_path: Path) -> None:
    count, height, width = 40, 2000, 3000
    (tmp_path / "large").mkdir()
    Image.fromarray(np.zeros((height, width), np.uint8)).save(tmp_path / "large" / "00.png")
    for index in range(1, count):
        (tmp_path / "large" / f"{index:02d}.png").hardlink_to(tmp_path / "large" / "00.png")
    given = (f"run={run_of('landmarks')}", "images=large", "out=new", f"batch_size={count}", "overlays=1")
    assert predict(tmp_path, *given[:2], "out=first", "batch_size=1").code == 0  # imports all that there is
    tracemalloc.start()
    try:
        assert predict(tmp_path, *given).code == 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(list((tmp_path / "new" / "overlays").iterdir())) == 1
    assert peak < count * height * width * 3 / 4


MISTAKES = {
    "predict without a run": ["images=x.png"],
    "predict without images": ["run=RUN"],
    "a run that is no folder": ["run=nowhere", "images=x.png"],
    "images that are not there": ["run=RUN", "images=absent.png"],
    "a folder without images": ["run=RUN", "images=empty"],
    "overlays that are no number": ["run=RUN", "images=x", "overlays=some"],
    "predict on a device that is none": ["run=RUN", "images=x", "device=gpu"],
    "predict with a key that is none": ["run=RUN", "image=x"],
    "predict with a key of a run": ["run=RUN", "images=x", "pictures=false"],
    "covariates that nobody tells": ["run=CLASSES", "images=IMAGES"],
    "a table of images without the covariates": ["run=CLASSES", "images=few.csv"],
    "predictions into a folder of other files": ["run=RUN", "images=IMAGES", "out=RUN"],
    "a sweep of predictions": ["run=RUN", "images=IMAGES", "-m"],
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_as_promised(name: str, tmp_path: Path) -> None:
    arguments = MISTAKES[name]
    for word, meant in (("RUN", run_of("landmarks")), ("CLASSES", run_of("classes")), ("IMAGES", images())):
        arguments = [text.replace(f"={word}", f"={meant}") for text in arguments]
    if not any(text.startswith("out=") for text in arguments):
        arguments = ["out=new", *arguments]
    if not any(text.startswith("device=") for text in arguments):
        arguments = ["device=cpu", *arguments]
    (tmp_path / "empty").mkdir()
    (tmp_path / "few.csv").write_text("image\nphantom_00000.png\n")
    check_promise(name, run_main(*arguments, folder=tmp_path, program="trainer.predict"))
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "few.csv"}


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_help_says_what_is_taken_and_what_is_written(verb: str, tmp_path: Path) -> None:
    ended = run_main("--help", folder=tmp_path, program=f"trainer.{verb}")
    assert ended.code == 0
    assert f"python -m trainer.{verb} run=outputs/DATE/RUN" in ended.out
    assert "Exit codes: 0 done" in ended.out
    assert "results.json" in ended.out or "failed.csv" in ended.out
