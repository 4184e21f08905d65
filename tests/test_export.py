"""`python -m trainer.export`: files that answer, for raw images of any size, what the run's predictor answers."""

import json
import re
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import TINY, run_in_process
from faults import Ended, run_main
from PIL import Image
from safetensors.torch import load_file
from served import check_promise, folder, images, run_of

from data.cells import read_cells
from data.geometry import Region
from data.known_covariates import encode_known, known_covariates
from data.phantom import draw_phantom
from data.preprocessing import Preprocessing
from models.heatmaps import solved_by_elimination
from trainer import load
from trainer.exporting import parity
from trainer.exporting.graph import CovariateEncoding
from trainer.exporting.preprocessing import FittedInput
from trainer.exporting.samples import drawn_covariates
from trainer.exporting.settings import ENDINGS
from trainer.run_dir import RunDir

PAGE = Path(__file__).parents[1] / "docs" / "export.md"
SIZES = [(96, 80), (64, 64), (150, 60), (50, 170), (24, 20), (400, 333)]


def export(place: Path, *arguments: str) -> Ended:
    return run_main(*arguments, folder=place, program="trainer.export")


@cache
def exported(kind: str, form: str) -> Path:
    out = folder() / f"{kind}{ENDINGS[form]}"
    ended = export(folder(), f"run={run_of(kind)}", f"format={form}", f"out={out}")
    assert (ended.code, ended.err) == (0, "")
    assert "held against trainer.predict" in ended.out
    return out


def pictures() -> list[np.ndarray]:
    drawn = [draw_phantom(0, index, height=96, width=80).image for index in range(len(SIZES))]
    return [np.array(Image.fromarray(image).resize(size[::-1])) for image, size in zip(drawn, SIZES, strict=True)]


def rgb(image: np.ndarray) -> np.ndarray:
    return np.stack([image] * 3, axis=2)


def close_but_for_rounding(found: np.ndarray, expected: np.ndarray, allowed: float) -> None:
    """A network that has hardly learnt anything may have two highest cells, of which a gray level chooses one."""
    near = np.isclose(found, expected, atol=allowed, rtol=1e-4)
    assert near.mean() > 0.95, np.abs(found - expected).max()


def test_onnx_gives_the_landmarks_of_images_of_any_size() -> None:
    session = onnxruntime.InferenceSession(exported("landmarks", "onnx"))
    about = session.get_modelmeta().custom_metadata_map
    predictor = load(run_of("landmarks"), device="cpu")
    assert json.loads(about["landmark_names"]) == predictor.landmark_names
    region = predictor.run.known.region
    assert json.loads(about["region"]) == [region.left, region.top, region.right, region.bottom]
    assert (about["task"], about["input_height"], about["run"]) == ("landmarks", "64", "landmarks")
    for image in pictures():
        points, radius = session.run(["points", "radius"], {"image": rgb(image)})
        row = predictor.predict([image])
        expected = np.array([[row[f"{name}_{axis}"][0] for axis in "xy"] for name in predictor.landmark_names])
        close_but_for_rounding(points, expected, 0.05 * max(image.shape) / 64)
        radii = np.array([row[f"{name}_radius90_px"][0] for name in predictor.landmark_names])
        close_but_for_rounding(radius, radii, 0.1 * max(image.shape) / 64)


@pytest.mark.parametrize("kind", ["landmarks", "coordinates"])
def test_torchscript_gives_the_landmarks(kind: str) -> None:
    files = {"trainer.json": ""}
    model = torch.jit.load(exported(kind, "torchscript"), _extra_files=files)
    about = json.loads(files["trainer.json"])
    assert about["outputs"] == (["points", "spread", "radius"] if kind == "landmarks" else ["points", "radius"])
    predictor = load(run_of(kind), device="cpu")
    for image in pictures():
        points = model(torch.from_numpy(rgb(image)))[0].numpy()
        row = predictor.predict([image])
        expected = np.array([[row[f"{name}_{axis}"][0] for axis in "xy"] for name in about["landmark_names"]])
        close_but_for_rounding(points, expected, 0.05 * max(image.shape) / 64)


def test_onnx_gives_classes_and_takes_covariates_as_people_count_them() -> None:
    session = onnxruntime.InferenceSession(exported("classes", "onnx"))
    about = session.get_modelmeta().custom_metadata_map
    predictor = load(run_of("classes"), device="cpu")
    assert json.loads(about["class_names"]) == predictor.class_names
    (sex,) = json.loads(about["covariates"])
    for number, image in enumerate(pictures()):
        word = sex["categories"][number % 2]
        given = {"image": rgb(image), "covariates": np.array([float(number % 2)])}
        expected = predictor.predict([image], covariates={"sex": [word]})
        found = session.run(["probabilities"], given)[0]
        np.testing.assert_allclose(found, [expected[f"p_{name}"][0] for name in predictor.class_names], atol=2e-3)
    nobody = session.run(["probabilities"], {"image": rgb(image), "covariates": np.array([7.0])})[0]
    assert np.isnan(nobody).all()


def test_missing_covariates_are_tried_and_encoded_as_the_run_does_it(tmp_path: Path) -> None:
    mapping = [{"name": "sex", "categories": ["F", "M", "missing"]}, {"name": "age", "mean": 12.0, "std": 3.0}]
    known = known_covariates(mapping, "category")
    drawn = drawn_covariates(known, 9)
    assert [np.isnan(values).all() for values, _ in drawn] == [False, False, True] * 3
    words = [("", "") if np.isnan(age) else ("FM"[int(sex)], f"{age}") for (sex, age), _ in drawn]
    rows = [f"{number}.png,{sex},{age}" for number, (sex, age) in enumerate(words)]
    (tmp_path / "table.csv").write_text("\n".join(["image,sex,age", *rows]))
    expected = encode_known(read_cells(tmp_path / "table.csv"), known).encoded
    encoding = CovariateEncoding(known)
    for (values, encoded), row in zip(drawn, expected, strict=True):
        np.testing.assert_allclose(encoded, row, atol=1e-6)
        np.testing.assert_allclose(encoding(torch.from_numpy(values))[0], row, atol=1e-6)


def test_torchscript_gives_numbers_in_their_unit() -> None:
    model = torch.jit.load(exported("numbers", "torchscript"))
    predictor = load(run_of("numbers"), device="cpu")
    for image in pictures():
        expected = predictor.predict([image], covariates={"sex": ["M"]})["prediction"][0]
        found = model(torch.from_numpy(rgb(image)), torch.tensor([1.0], dtype=torch.float64))
        found = found[0] if isinstance(found, tuple) else found
        assert float(found) == pytest.approx(expected, abs=0.1)


def test_the_json_beside_tells_how_far_apart_file_and_run_are() -> None:
    told = json.loads(Path(f"{exported('classes', 'onnx')}.json").read_text())
    assert told["parity"]["source"] == "validation images of the run"
    assert told["parity"]["largest"] <= 2e-3
    assert len({row["size"] for row in told["parity"]["images"]}) > 4


@pytest.mark.parametrize("source", ["exported", "best"])
def test_a_new_run_starts_from_the_weights_of_a_run(source: str, tmp_path: Path) -> None:
    run = RunDir(run_of("landmarks"))
    weights = exported("landmarks", "safetensors") if source == "exported" else run.best_weights
    given = ["data.num_images=8", "phases.frozen.epochs=1", "phases.finetune.epochs=0", "pictures=false"]
    kept = [text for text in TINY if not text.startswith(("model.weights", "data.num_images", "phases."))]
    run_in_process(tmp_path / "new", *given, f"model.weights={weights}", tiny=tuple(kept))
    old, new = load_file(run.best_weights), load_file(tmp_path / "new" / "checkpoints" / "best.safetensors")
    backbone = [key for key in old if key.startswith("backbone.")]
    assert backbone
    assert all(torch.equal(old[key], new[key]) for key in backbone)


def test_the_input_is_that_of_training_but_for_a_gray_level_here_and_there() -> None:
    random = np.random.default_rng(0)
    for fit, region in (("letterbox", Region(0, 0, 1, 1)), ("stretch", Region(0.1, 0.2, 0.8, 0.7))):
        preprocessing = Preprocessing((64, 96), fit, region)
        graph = FittedInput(preprocessing)
        for size in [(64, 96), (128, 192), (50, 60), (200, 31), (31, 200), (2, 3), (333, 444)]:
            image = random.integers(0, 256, (*size, 3)).astype(np.uint8)
            (expected,), (affine,) = preprocessing.views(image)
            found, scale, offset = graph(torch.from_numpy(image))
            np.testing.assert_allclose(scale, [affine[0, 0], affine[1, 1]], rtol=1e-12)
            np.testing.assert_allclose(offset, affine[:, 2], atol=1e-9)
            apart = np.abs(found[0].numpy().astype(int) - expected.astype(int))
            assert apart.max() <= 2
            assert (apart > 0).mean() < 0.06


def test_elimination_solves_what_torch_solves() -> None:
    root = torch.randn(3, 4, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrices, right = root @ root.transpose(-1, -2), root[..., 0]
    expected = torch.linalg.solve(matrices, right)
    torch.testing.assert_close(solved_by_elimination(matrices, right), expected, rtol=1e-9, atol=1e-9)


def test_a_file_that_answers_otherwise_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "LEVELS", -1)  # which no file can keep
    ended = export(tmp_path, f"run={run_of('coordinates')}", "format=torchscript", "out=new/model.pt")
    check_promise("a file that answers otherwise than its run", ended)
    assert list(tmp_path.rglob("*.*")) == []


@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_the_lines_of_the_page_find_the_landmarks(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    snippets = re.findall(r"```python\n(.+?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (snippet,) = [text for text in snippets if f"model{ENDINGS[form]}" in text]
    assert not re.search(r"import trainer|from trainer", snippet)
    shutil.copy(exported("landmarks", form), tmp_path / f"model{ENDINGS[form]}")
    shutil.copy(images() / "phantom_00000.png", tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, str(PAGE), "exec"), {})
    said = [line.split() for line in capsys.readouterr().out.strip().splitlines()]
    row = load(run_of("landmarks"), device="cpu").predict(images() / "phantom_00000.png")
    expected = np.array([[row[f"{name}_{axis}"][0] for axis in "xy"] for name, *_ in said])
    close_but_for_rounding(np.array([[float(x), float(y)] for _, x, y in said]), expected, 0.05)


MISTAKES = {
    "an export without a format": ["run=RUN"],
    "an export in a format that is none": ["run=RUN", "format=keras"],
    "an export of a run that is none": ["run=nowhere", "format=onnx"],
    "an export to another ending": ["run=RUN", "format=onnx", "out=model.pt"],
    "an export onto a file": ["run=RUN", "format=torchscript", "out=there.pt"],
    "an export onto the JSON of another": ["run=RUN", "format=torchscript", "out=other.pt"],
    "an export among the checkpoints": [
        "run=RUN",
        "format=safetensors",
        "out=RUN/checkpoints/best.safetensors",
        "overwrite=true",
    ],
    "an export into a folder that is a file": ["run=RUN", "format=torchscript", "out=there.pt/model.pt"],
    "an export of a run that has not ended": ["run=UNFINISHED", "format=onnx"],
    "a sweep of exports": ["run=RUN", "format=onnx,torchscript", "-m"],
    "an export with a key that is none": ["run=RUN", "format=onnx", "outt=x"],
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_as_promised(name: str, tmp_path: Path) -> None:
    (tmp_path / "there.pt").write_text("")
    (tmp_path / "other.pt.json").write_text("")
    arguments = [text.replace("=RUN", f"={run_of('landmarks')}") for text in MISTAKES[name]]
    if "run=UNFINISHED" in arguments:
        unfinished = shutil.copytree(run_of("landmarks"), tmp_path / "unfinished")
        (Path(unfinished) / "results.json").unlink()
        arguments[0] = f"run={unfinished}"
    check_promise(name, export(tmp_path, *arguments))


def test_an_ensemble_is_in_the_file_whole_and_no_safetensors(tmp_path: Path) -> None:
    run = RunDir(Path(shutil.copytree(run_of("snapshots"), tmp_path / "ensemble")))
    results = json.loads(run.results.read_text())
    results["taken"]["weights"] = "ensemble of 2 snapshots"
    run.results.write_text(json.dumps(results))
    refused = export(tmp_path, f"run={run.path}", "format=safetensors")
    check_promise("an ensemble as safetensors", refused)
    assert export(tmp_path, f"run={run.path}", "format=torchscript", "out=both.pt").code == 0
    image = pictures()[0]
    found = torch.jit.load(tmp_path / "both.pt")(torch.from_numpy(rgb(image)))
    expected = load(run.path, device="cpu").predict([image])["prediction"][0]
    assert float(found[0] if isinstance(found, tuple) else found) == pytest.approx(expected, abs=0.1)


def test_a_missing_extra_is_told_with_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.exporting.settings.find_spec", lambda name: None)
    check_promise("onnx without its extra", export(tmp_path, f"run={run_of('landmarks')}", "format=onnx"))


def test_help_says_what_is_written(tmp_path: Path) -> None:
    ended = export(tmp_path, "--help")
    assert ended.code == 0
    assert "FILE.json" in ended.out
