"""`python -m trainer.evaluate`: on the run's own splits it finds what the run found, and each group what it holds."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, run_in_process
from faults import Ended, run_main
from served import SHORT, check_promise, images, run_of, written_by
from torch.nn.modules.module import register_module_module_registration_hook


def evaluate(folder: Path, *arguments: str) -> Ended:
    return run_main(*arguments, "device=cpu", folder=folder, program="trainer.evaluate")


def results_of(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("kind", ["landmarks", "views", "classes", "numbers", "snapshots"])
def test_the_runs_own_test_split_has_the_metrics_that_the_run_wrote_down(kind: str, tmp_path: Path) -> None:
    ended = evaluate(tmp_path, f"run={run_of(kind)}", "out=new", "pictures=false")
    assert (ended.code, ended.err) == (0, "")
    found, written = results_of(tmp_path / "new"), results_of(run_of(kind))
    assert (found["split"], found["images"]) == ("test", 6)
    assert found["metrics"] == pytest.approx(written["metrics"]["test"], rel=1e-5, nan_ok=True)
    for name, interval in written["intervals"]["test"].items():
        assert found["intervals"][name] == pytest.approx(interval, rel=1e-5)
    if kind in ("landmarks", "views"):
        assert found["uncertainty"]["coverage"] == pytest.approx(written["uncertainty"]["coverage"])
    rows = pd.read_csv(tmp_path / "new" / "predictions.csv").set_index("image")
    expected = written_by(kind).query("split == 'test'")
    numbers = expected.select_dtypes("number").columns
    np.testing.assert_allclose(rows[numbers], expected[numbers], rtol=1e-5, atol=1e-4)
    other = evaluate(tmp_path, f"run={run_of(kind)}", "out=val", "pictures=false", "split=val")
    assert other.code == 0
    baseline = {row["name"]: row["metrics"] for row in results_of(tmp_path / "val")["rows"]}
    first = written["headline"][0]
    told = baseline[first["stage"]]
    assert {key: told[key] for key in told if key in first} == pytest.approx(
        {key: value for key, value in first.items() if key in told}, rel=1e-5, nan_ok=True
    )


@pytest.mark.parametrize(
    ("kind", "label", "parts"),
    [("landmarks", [], "per_landmark.csv"), ("classes", ["data.label=growth_stage"], "per_class.csv")],
)
def test_a_table_is_judged_as_a_whole_and_by_group(kind: str, label: list[str], parts: str, tmp_path: Path) -> None:
    table = pd.read_csv(images() / "table.csv", dtype=str)
    table["image"] = [str(images() / name) for name in table["image"]]
    table["scanner"] = [("a", "b", "")[row % 3] for row in range(len(table))]
    table.to_csv(tmp_path / "other.csv", index=False)
    given = (f"run={run_of(kind)}", "data.table=other.csv", "data.allow_outside_root=true", *label, "group=scanner")
    ended = evaluate(tmp_path, *given, "out=new")
    assert ended.code == 0, ended.err
    metrics = pd.read_csv(tmp_path / "new" / "metrics.csv").set_index("group")
    assert list(metrics.index)[1:] == ["(empty)", "a", "b", "all"]
    assert list(metrics["images"]) == [30, 10, 10, 10, 30]
    rows = pd.read_csv(tmp_path / "new" / "predictions.csv")
    if kind == "landmarks":
        errors = rows.filter(regex="_error_mm$")
        for name, part in [("a", errors[rows["scanner"] == "a"]), ("all", errors)]:
            assert metrics.loc[name, "mre_mm"] == pytest.approx(part.to_numpy().mean(), abs=1e-3)
            assert metrics.loc[name, "mre_mm_low"] < metrics.loc[name, "mre_mm"] < metrics.loc[name, "mre_mm_high"]
    else:
        right = rows["target"] == rows["prediction"]
        assert metrics.loc["b", "accuracy"] == pytest.approx(right[rows["scanner"] == "b"].mean())
    assert len(pd.read_csv(tmp_path / "new" / parts)) == len(results_of(tmp_path / "new")["details"][0]["rows"])
    assert list((tmp_path / "new" / "plots").glob("*.png"))
    assert "scanner" in ended.out
    assert "MRE (mm)" in ended.out or "macro F1" in ended.out


def test_other_phantoms_are_judged_without_any_file(tmp_path: Path) -> None:
    given = ("data.num_images=5", "data.seed=3", "pictures=false", "group=sex")
    ended = evaluate(tmp_path, f"run={run_of('numbers')}", *given)
    assert ended.code == 0, ended.err
    (out,) = (tmp_path / "evaluations").iterdir()
    found = results_of(out)
    assert (found["images"], found["split"], found["source"]) == (5, "new", "5 phantoms of seed 3")
    assert found["rows"][0]["name"] == "training mean"
    rows = pd.read_csv(out / "predictions.csv")
    assert found["metrics"]["mae"] == pytest.approx((rows["prediction"] - rows["target"]).abs().mean(), rel=1e-5)


def test_a_users_folder_with_files_of_the_same_names_is_refused_untouched(tmp_path: Path) -> None:
    mine = {"metrics.csv": b"mine\n", "per_patient.csv": b"mine too\n", "plots/mine.png": b"a picture"}
    (tmp_path / "work" / "plots").mkdir(parents=True)
    for name, content in mine.items():
        (tmp_path / "work" / name).write_bytes(content)
    given = (f"run={run_of('numbers')}", "pictures=false")
    check_promise("predictions into a folder of other files", evaluate(tmp_path, *given, "out=work"))
    kept = {path for path in (tmp_path / "work").rglob("*") if path.is_file()}
    assert {str(path.relative_to(tmp_path / "work")): path.read_bytes() for path in kept} == mine
    for _ in range(2):  # its own folder is replaced
        assert evaluate(tmp_path, *given, "out=new").code == 0
    assert json.loads((tmp_path / "new" / "evaluate.json").read_text())["run"] == str(run_of("numbers"))


def test_what_the_run_said_of_its_table_holds_for_that_table_alone(tmp_path: Path) -> None:
    """Of the tables of further annotators, and of the spacing of images that say none."""
    table = pd.read_csv(images() / "table.csv").drop(columns="pixel_spacing_mm")
    table.to_csv(tmp_path / "senior.csv", index=False)
    points = table.filter(regex=r"^[xy]\d+$").columns
    table.assign(**{name: table[name] + 3 for name in points}).to_csv(tmp_path / "junior.csv", index=False)
    own = ("data=csv", f"data.table={tmp_path / 'senior.csv'}", f"data.more_tables=[{tmp_path / 'junior.csv'}]")
    where = (f"data.root={images()}", "data.pixel_spacing_mm=0.1")
    shared = [text for text in (*TINY, *SHORT) if not text.startswith(("data.num_images", "data.height", "data.width"))]
    given = {text.split("=")[0]: text for text in (*shared, *own, *where)}
    run_in_process(tmp_path / "run", *given.values(), tiny=())
    (tmp_path / "moved").symlink_to(images())
    few = (f"run={tmp_path / 'run'}", "pictures=false")
    ended = evaluate(tmp_path, *few, "data.root=moved", "data.allow_outside_root=true", "out=its")
    assert ended.code == 0, ended.err
    apart = next(row for row in results_of(tmp_path / "its")["rows"] if row["name"] == "senior against junior")
    assert apart["metrics"]["mre_mm"] == pytest.approx(0.1 * 3 * 2**0.5)
    table.to_csv(tmp_path / "new.csv", index=False)
    ended = evaluate(tmp_path, *few, "data.table=new.csv", f"data.root={images()}", "out=other")
    assert ended.code == 0, ended.err
    found = results_of(tmp_path / "other")
    assert "mre_px" in found["metrics"]
    assert "mre_mm" not in found["metrics"]
    assert "not all images have a pixel spacing, so errors are told in px" in found["warnings"][-1]
    assert not [row["name"] for row in found["rows"] if "against" in row["name"]]


def test_an_ensemble_is_judged_with_one_network_in_memory(tmp_path: Path) -> None:
    run = Path(shutil.copytree(run_of("snapshots"), tmp_path / "run"))
    results = results_of(run)
    results["taken"]["weights"] = "ensemble of 2 snapshots"
    (run / "results.json").write_text(json.dumps(results))
    built = []
    hook = register_module_module_registration_hook(
        lambda module, name, child: built.append(child) if name == "backbone" else None
    )
    try:
        assert evaluate(tmp_path, f"run={run}", "out=new", "pictures=false", "split=val").code == 0
    finally:
        hook.remove()
    assert len(built) == 1
    (row,) = [row for row in results["headline"] if row["stage"].startswith("ensemble of")]
    assert results_of(tmp_path / "new")["metrics"]["mae"] == pytest.approx(row["mae"], rel=1e-5)


def write(folder: Path, **columns: list[str]) -> list[str]:
    pd.DataFrame(columns).to_csv(folder / "new.csv", index=False)
    return ["data.table=new.csv", f"data.root={images()}"]


def known_class() -> str:
    return json.loads((run_of("classes") / "labels.json").read_text())["classes"][0]


ONE = ["phantom_00000.png"]
MISTAKES: dict[str, tuple[str, Callable[[Path], list[str]]]] = {
    "a class that the run does not know": ("classes", lambda at: write(at, image=ONE, label=["giant"], sex=["F"])),
    "new labels without the covariates": ("classes", lambda at: write(at, image=ONE, label=[known_class()])),
    "landmarks of another count": ("landmarks", lambda at: write(at, image=ONE, x0=["1"], y0=["2"])),
    "a group that is no column": ("landmarks", lambda at: ["group=eye"]),
    "keys of data that the run's kind lacks": ("landmarks", lambda at: ["data.root=x"]),
    "a split that is none": ("landmarks", lambda at: ["split=tests"]),
    "a key of data that the run fixes": ("landmarks", lambda at: ["data.input_height=64"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_as_promised(name: str, tmp_path: Path) -> None:
    kind, arrange = MISTAKES[name]
    given = arrange(tmp_path)
    before = set(tmp_path.iterdir())
    check_promise(name, evaluate(tmp_path, f"run={run_of(kind)}", *given, "out=new"))
    assert set(tmp_path.iterdir()) == before


@pytest.mark.real_data
def test_a_model_of_phantoms_is_judged_on_real_radiographs(tmp_path: Path) -> None:
    data = Path(os.environ.get("TRAINER_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data") / "ceph"
    if not data.is_dir():
        pytest.skip(f"no research images in {data}")
    pd.read_csv(data / "landmarks.csv", dtype=str)[:4].to_csv(tmp_path / "few.csv", index=False)
    shutil.copy(data / "landmark_names.txt", tmp_path)
    given = ("data.table=few.csv", f"data.root={data / 'images'}", "pictures=false", "out=new")
    ended = evaluate(tmp_path, f"run={run_of('landmarks')}", *given)
    assert ended.code == 0, ended.err
    truth = pd.read_csv(tmp_path / "few.csv").filter(regex="^[xy]").to_numpy().reshape(4, -1, 2)
    found = pd.read_csv(tmp_path / "new" / "predictions.csv").filter(regex="_[xy]$").to_numpy().reshape(4, -1, 2)
    errors_mm = 0.3 * np.linalg.norm(found - truth, axis=2)
    assert results_of(tmp_path / "new")["metrics"]["mre_mm"] == pytest.approx(errors_mm.mean(), rel=1e-4)
