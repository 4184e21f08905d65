"""Parts of a user's own, pasted from docs/own_*.md: each is really used, and what goes with a run knows its script."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY
from documented import blocks
from faults import ANYTHING, Ended, promised, run_here, run_main
from hydra.core.config_store import ConfigStore
from PIL import Image
from safetensors.torch import load_file, save_file
from served import check_promise

from data.phantom import draw_phantom
from models.own_backbones import OWN_BACKBONES
from trainer import load, own_script, parts
from trainer.command_line import SCRIPT
from trainer.config.schemas import SCHEMAS, known_keys
from trainer.schedules.formula import FormulaSchedule

PAGES = Path(__file__).parents[1] / "docs"
SHORT = ("phases.frozen.epochs=1", "phases.finetune.epochs=1", "pictures=false", "device=cpu", "scheduler.cycles=1")
IMAGES = (
    "data.num_images=15", "data.height=96", "data.width=80", "data.input_height=64", "data.input_width=64",
    "data.batch_size=4",
)  # fmt: skip
MODEL = ("model.backbone=test_efficientnet", "model.weights=none")


def script_of(page: str, folder: Path) -> Path:
    """The script of a page, in `folder`, under the name that the page gives it."""
    text = (PAGES / page).read_text(encoding="utf-8")
    (name,) = set(re.findall(r"[Ss]ave this as\s+`(\w+\.py)`", text))
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    path = folder / name
    path.write_text(code, encoding="utf-8")
    return path


def script_of_readme(folder: Path) -> Path:
    """The block of README.md that makes a part, as a script."""
    readme = PAGES.parent / "README.md"
    (code,) = [block for block in blocks(readme) if re.search(r"^from trainer import .*\bpart\b", block, re.MULTILINE)]
    path = folder / "my_script.py"
    path.write_text(code, encoding="utf-8")
    return path


def commands_of(page: str) -> list[list[str]]:
    """What follows the script in each command of a page."""
    text = (PAGES / page).read_text(encoding="utf-8")
    return [shlex.split(line)[2:] for line in re.findall(r"^ {4,}(python my_\w+\.py .*)$", text, re.MULTILINE)]


def run_script(path: Path, *arguments: str) -> Ended:
    """`python my_script.py ...` in the script's folder, in this process."""
    main = partial(runpy.run_path, path.name, run_name="__main__")
    return run_here(main, path.name, *arguments, folder=path.parent)


def trained(path: Path, *arguments: str) -> Path:
    """The folder of the run that the script makes."""
    ended = run_script(path, *arguments, "hydra.run.dir=run")
    assert ended.code == 0, ended.err
    return path.parent / "run"


@pytest.fixture(autouse=True)
def _parts_forgotten() -> Iterator[None]:
    """After a test the process knows no own parts."""
    yield
    forget_parts()


def forget_parts() -> None:
    store = ConfigStore.instance()
    for group, name in list(parts.OWN):
        SCHEMAS.get(group, {}).pop(name, None)
        OWN_BACKBONES.pop(name, None)
        if group in SCHEMAS:
            store.repo[group].pop(f"{name}.yaml")
            store.repo["schema"][group].pop(f"{name}.yaml")
    parts.OWN.clear()
    known_keys.cache_clear()


def square_root(step: int, max_lr: float, warmup_steps: int) -> float:
    """What docs/own_schedule.md says of its formula: a rise to the end of the warm-up, then a fall with sqrt(n)."""
    if step + 1 <= warmup_steps:
        return max_lr * (step + 1) / warmup_steps
    return max_lr * float(np.sqrt(warmup_steps / (step + 1)))


def rates(run: Path, phase: str) -> list[float]:
    history = pd.read_csv(run / "lr_history.csv")
    return history.loc[history["phase"] == phase, "lr_head"].tolist()


def test_an_own_schedule_gives_every_rate_and_goes_on_after_a_cut(tmp_path: Path) -> None:
    script = script_of("own_schedule.md", tmp_path)
    first, _, in_a_phase, tested, predicted = commands_of("own_schedule.md")
    tiny = [text for text in TINY if text != "scheduler.cycles=1"]

    run = trained(script, *first, *tiny)

    expected = [square_root(step, 1e-3, 4) for step in range(6)]
    assert rates(run, "frozen") == pytest.approx(expected, rel=1e-12)
    assert rates(run, "finetune") == pytest.approx(expected, rel=1e-12)
    results = json.loads((run / "results.json").read_text())
    assert results["commands"]["resume"] == f"python {script} resume={run}"
    assert results["commands"]["predict"] == f"python {script} predict run={run} images=FOLDER"
    assert results["environment"]["command"].startswith(f"python {script} scheduler=square_root")
    more = run_script(script, f"resume={run}", "phases.finetune.epochs=3")
    assert "shaped by the phase's length" in more.err  # it is known again, and what it allows

    ended = run_script(script, *in_a_phase, *TINY, "hydra.run.dir=phase")
    assert ended.code == 0, ended.err
    assert rates(tmp_path / "phase", "finetune") == pytest.approx(
        [square_root(step, 5e-4, 20) for step in range(6)], rel=1e-12
    )
    assert rates(tmp_path / "phase", "frozen") != pytest.approx(rates(tmp_path / "phase", "finetune"))

    few = ("phases=frozen_only", "phases.frozen.epochs=2", "range_test.num_steps=24", "hydra.run.dir=tested")
    ended = run_script(script, *tested, *(text for text in tiny if not text.startswith("phases.")), *few)
    assert ended.code == 0, ended.err
    (found,) = json.loads((tmp_path / "tested" / "results.json").read_text())["range_test"].values()
    used = rates(tmp_path / "tested", "frozen")
    assert used == pytest.approx([square_root(step, found["bounds"]["max_lr"], 20) for step in range(len(used))])

    (tmp_path / "new_xrays").mkdir()
    Image.fromarray(draw_phantom(1, 0, height=96, width=80).image).save(tmp_path / "new_xrays" / "a.png")
    ended = run_script(script, *(text.replace("outputs/DATE/RUN", "run") for text in predicted), "out=answers")
    assert ended.code == 0, ended.err
    assert pd.read_csv(tmp_path / "answers" / "predictions.csv")["image"].tolist() == ["a.png"]

    forget_parts()
    for name, told in (
        (
            "a run with own parts, without its script",
            run_main("run=run", "images=.", folder=tmp_path, program="trainer.predict"),
        ),
        (
            "a run with own parts, exported without its script",
            run_main("run=run", "format=torchscript", folder=tmp_path, program="trainer.export"),
        ),
        ("a run with own parts, resumed without its script", run_main("resume=run", folder=tmp_path)),
    ):
        code, message = promised()[name]
        assert told.code == code
        pattern = "error: " + ".*".join(re.escape(part) for part in message.split(ANYTHING))
        assert re.fullmatch(pattern, told.err.strip()), told.err


def test_the_cycle_of_a_formula_is_counted_in_whole_numbers() -> None:
    schedule = FormulaSchedule(name="mine", rate=float, momentum=lambda step: None, cycle=lambda step: step / 4)
    assert [repr(schedule.cycle_at(step)) for step in (0, 3, 4, 9)] == ["0", "0", "1", "2"]


def test_every_choice_of_an_own_part_is_composed_and_checked_as_ever(tmp_path: Path) -> None:
    script = script_of("own_schedule.md", tmp_path)
    shown = run_script(script, "scheduler=square_root", "--cfg", "job", "--resolve")
    assert "  kind: square_root\n  max_lr: 0.001\n  warmup_steps: 20\n" in shown.out
    left_to_the_test = run_script(script, *commands_of("own_schedule.md")[3], "--cfg", "job", "--resolve")
    assert "  kind: square_root\n  max_lr: auto\n" in left_to_the_test.out
    refused = run_script(script, "scheduler=square_root", "scheduler.warmupsteps=3")
    assert refused.code == 2
    assert "its keys: kind, max_lr, warmup_steps; did you mean scheduler.warmup_steps?" in refused.err
    refused = run_script(script, "scheduler=square_root", "scheduler.warmup_steps=0")
    assert refused.err == "error: phases.frozen.scheduler: scheduler.warmup_steps=0 must be at least 1\n"
    refused = run_script(script, "scheduler=square_roo")
    assert refused.err.endswith("square_root; did you mean scheduler=square_root?\n")
    helped = run_script(script, "--help")
    assert helped.code == 0
    assert f"scheduler=square_root ({script}:6)" in helped.out


def test_the_part_of_the_readme_is_a_choice_as_its_comment_says(tmp_path: Path) -> None:
    script = script_of_readme(tmp_path)
    (typed,) = re.findall(r"# python my_script\.py (.*)$", script.read_text(encoding="utf-8"), re.MULTILINE)
    shown = run_script(script, *shlex.split(typed), "--cfg", "job", "--resolve")
    assert shown.code == 0, shown.err
    assert "  kind: square_root\n  max_lr: 0.0005\n" in shown.out


def test_a_process_of_a_launcher_knows_the_parts_of_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = script_of("own_schedule.md", tmp_path)
    monkeypatch.setenv(SCRIPT, str(script))  # as the script's main() leaves it to the processes that it starts
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "own_parts_of_my_schedule", None)
    monkeypatch.delitem(sys.modules, "own_parts_of_my_schedule")
    own_script.load_parts()
    assert list(parts.OWN) == [("scheduler", "square_root")]
    assert SCHEMAS["scheduler"]["square_root"](kind="square_root").lr_at(0, 10, 5) == 1e-3 / 20


def test_a_sweep_over_an_own_schedule_and_another(tmp_path: Path) -> None:
    script = script_of("own_schedule.md", tmp_path)
    tiny = [text for text in (*TINY, *SHORT) if text != "scheduler.cycles=1"]
    ended = run_script(script, *commands_of("own_schedule.md")[1], *tiny, "hydra.sweep.dir=sweep")
    assert ended.code == 0, ended.err
    table = pd.read_csv(tmp_path / "sweep" / "sweep.csv")
    assert table["scheduler"].tolist() == ["square_root", "clr"]
    assert (table["status"] == "finished").all()


def test_an_own_backbone_is_frozen_then_fine_tuned_from_a_file(tmp_path: Path) -> None:
    script = script_of("own_backbone.md", tmp_path)
    plain, classes, from_file = commands_of("own_backbone.md")
    run = trained(script, *plain, *IMAGES, *SHORT, "model.width=8")
    weights = load_file(run / "checkpoints" / "best.safetensors")
    state = {key.removeprefix("backbone.net."): value for key, value in weights.items() if "backbone.net." in key}
    assert [value.shape[:2] for key, value in state.items() if key.endswith(".0.weight")] == [
        (16, 3), (32, 16), (64, 32), (128, 64),
    ]  # fmt: skip
    save_file(state, tmp_path / "plain.safetensors")

    ended = run_script(
        script, *from_file, *IMAGES, *SHORT, "model.width=8", "phases=frozen_only", "phases.finetune.epochs=0",
        "hydra.run.dir=frozen",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    kept = load_file(tmp_path / "frozen" / "checkpoints" / "best.safetensors")
    assert all(torch.equal(kept[f"backbone.net.{key}"], value) for key, value in state.items())
    ended = run_script(script, "export", "run=frozen", "format=safetensors", "out=frozen.safetensors")
    assert (ended.code, ended.err) == (0, "")
    assert state.keys() <= load_file(tmp_path / "frozen.safetensors").keys()

    ended = run_script(script, *classes, *IMAGES, *SHORT, "data.num_images=40", "hydra.run.dir=classes")
    assert ended.code == 0, ended.err
    assert load_file(tmp_path / "classes" / "checkpoints" / "best.safetensors")["head.layers.1.weight"].shape == (
        5,
        128,
    )
    assert load(tmp_path / "classes").predict(np.zeros((96, 80), np.uint8))["prediction"].notna().all()


def test_own_heads_of_landmarks_and_labels(tmp_path: Path) -> None:
    script = script_of("own_head.md", tmp_path)
    decoder, pooled = commands_of("own_head.md")
    run = trained(script, *decoder, *MODEL, *IMAGES, *SHORT)
    weights = load_file(run / "checkpoints" / "best.safetensors")
    assert weights["head.first.decoder.convolution.weight"].shape[0::2] == (32, 5)
    before = sorted(tmp_path.iterdir())

    ended = run_script(script, "predict", f"run={run}", "images=phantoms.png", "out=answers")
    assert "phantoms.png: not found" in ended.err
    assert sorted(tmp_path.iterdir()) == before
    predicted = load(run).predict(np.zeros((96, 80), np.uint8))
    assert len(predicted) == 1

    ended = run_script(script, *pooled, *MODEL, *IMAGES, *SHORT, "hydra.run.dir=numbers")
    assert ended.code == 0, ended.err
    weights = load_file(tmp_path / "numbers" / "checkpoints" / "best.safetensors")
    channels = load(tmp_path / "numbers").networks[0].get_submodule("backbone").channels
    assert weights["head.own.last.weight"].shape == (1, channels + 2)  # two sexes


def written_scans(folder: Path, count: int) -> pd.DataFrame:
    """Phantoms as arrays of 12 bits beside a JSON file; the points that it has."""
    folder.mkdir()
    scans, rows = [], []
    for index in range(count):
        drawn = draw_phantom(3, index, height=96, width=80)
        np.save(folder / f"s{index}.npy", drawn.image.astype(np.uint16) * 16)
        marked = {"sella": drawn.points[0].tolist(), "menton": drawn.points[-1].tolist()}
        scans.append(
            {
                "id": f"s{index}", "array": f"s{index}.npy", "patient": f"p{index // 2}", "mm_per_px": 0.5,
                "stage": "late" if index % 4 < 2 else "early", "sex": "F" if index % 3 else "M", "points": marked,
            }
        )  # fmt: skip
        rows.append({"image": f"s{index}", **marked})
    scans[5] = scans[5] | {"points": scans[5]["points"] | {"menton": None}}
    (folder / "scans.json").write_text(json.dumps(scans))
    return pd.DataFrame(rows)


def test_an_own_dataset_is_split_by_group_and_learnt(tmp_path: Path) -> None:
    script = script_of("own_dataset.md", tmp_path)
    truth = written_scans(tmp_path / "scans", 16).set_index("image")
    look, landmarks, classes = commands_of("own_dataset.md")
    small = ("data.input_height=64", "data.input_width=64", "data.batch_size=4", "data.cache_gb=0")

    run = trained(script, *landmarks, *MODEL, *SHORT, *small, "model.width=8", "data.workers=1")

    splits = pd.read_csv(run / "splits.csv").set_index("image")["split"]
    assert sorted(splits.index) == sorted(truth.index)
    assert all(splits[f"s{2 * person}"] == splits[f"s{2 * person + 1}"] for person in range(8))
    told = pd.read_csv(run / "predictions.csv").set_index("image")
    assert set(told.index) == set(splits.index[splits == "val"])
    for name, row in told.iterrows():
        if name == "s5":
            assert np.isnan(row["menton_error_mm"])  # it was not marked
        else:
            off = np.hypot(row["menton_x"] - truth["menton"][name][0], row["menton_y"] - truth["menton"][name][1])
            assert row["menton_error_mm"] == pytest.approx(0.5 * off, abs=1e-3)  # mm per px
    assert json.loads((run / "results.json").read_text())["monitor"] == "mre_mm"

    looked = run_script(script, *look, "hydra.run.dir=looked")
    assert looked.code in (0, 1), looked.err
    assert "16" in looked.out
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    judged = run_main("run=../run", "split=val", "out=judged", folder=elsewhere, program="trainer.evaluate")
    assert judged.code == 0, judged.err
    again = pd.read_csv(elsewhere / "judged" / "metrics.csv").iloc[-1]
    assert again["mre_mm"] == pytest.approx(json.loads((run / "results.json").read_text())["metrics"]["val"]["mre_mm"])

    ended = run_script(script, *classes, *MODEL, *SHORT, *small, "hydra.run.dir=classes")
    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "classes" / "labels.json").read_text())["classes"] == ["early", "late"]


def test_own_tasks_have_their_own_outputs_losses_and_metrics(tmp_path: Path) -> None:
    script = script_of("own_task.md", tmp_path)
    ordinal, quantile = commands_of("own_task.md")
    run = trained(script, *ordinal, *MODEL, *IMAGES, *SHORT, "data.num_images=40")
    assert load_file(run / "checkpoints" / "best.safetensors")["head.layers.1.weight"].shape[0] == 4  # of 5 classes
    results = json.loads((run / "results.json").read_text())
    assert (results["monitor"], results["monitor_mode"]) == ("stages_off", "min")
    told = pd.read_csv(run / "predictions.csv")
    stages = json.loads((run / "labels.json").read_text())["classes"]
    off = [abs(stages.index(row.prediction) - stages.index(row.target)) for row in told.itertuples()]
    assert results["metrics"]["val"]["stages_off"] == pytest.approx(np.mean(off))
    assert told[[f"p_{stage}" for stage in stages]].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-3)
    answered = load(run).predict(np.zeros((96, 80), np.uint8))
    assert set(answered["prediction"]) <= set(stages)
    ended = run_script(script, "export", f"run={run}", "format=torchscript", "out=ordinal.pt")  # held against the run
    assert (ended.code, ended.err) == (0, "")
    check_promise("an operation that ONNX lacks", run_script(script, "export", f"run={run}", "format=onnx"))

    ended = run_script(script, *quantile, *MODEL, *IMAGES, *SHORT, "hydra.run.dir=quantile")
    assert ended.code == 0, ended.err
    ended = run_script(script, "export", "run=quantile", "format=onnx", "out=quantile.onnx")
    assert (ended.code, ended.err) == (0, "")
    results = json.loads((tmp_path / "quantile" / "results.json").read_text())
    told = pd.read_csv(tmp_path / "quantile" / "predictions.csv")
    share = (told["target"] < told["prediction"]).mean()
    assert results["metrics"]["val"]["off_quantile"] == pytest.approx(abs(share - 0.8))


MINE = '@part(scheduler="mine")\nclass Mine(OwnSchedule):\n    def lr_at(self, step, total_steps, steps_per_epoch):\n'
DATA = '@part(data="mine")\nclass Mine(OwnData):\n    def read_samples(self):\n        import numpy as np\n'
POOLED = """@part(backbone="mine")
def mine():
    from torch import nn

    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""
DECODER = """@part(model="mine")
class Mine(OwnDecoder):
    def build_decoder(self, levels):
        from torch import nn

        class Decoder(nn.Module):
            def forward(self, features):
                return features[0].new_zeros(1, 8, 64, 64)

        return Decoder()
"""
METRIC = """@part(task="mine")
class Mine(OwnNumbers):
    def losses(self, values, target, scale):
        return values[:, 0]

    def numbers(self, values, scale):
        return values[:, 0]

    def metrics(self, predicted, target):
        return {"rmse": 1.0}
"""
SMALL = (*IMAGES[3:], *MODEL, *SHORT[:4])
WRONG = {
    "a part for a group that is not there": ('@part(modell="mine")\nclass Mine:\n    pass\n', ()),
    "a part without a group": ("@part()\nclass Mine:\n    pass\n", ()),
    "a part under a name of trainer's own": (MINE.replace('"mine"', '"clr"') + "        return 1.0\n", ()),
    "two parts of one name": (
        MINE + "        return 1.0\n\n\n\n" + MINE.replace("Mine", "Other") + "        return 2.0\n",
        (),
    ),
    "a part of no name": (MINE.replace('"mine"', '"my-part"') + "        return 1.0\n", ()),
    "a part of a class for another group": (MINE.replace("scheduler=", "model=") + "        return 1.0\n", ()),
    "a part that lacks a method": ('@part(scheduler="mine")\nclass Mine(OwnSchedule):\n    a: int = 1\n', ()),
    "a part with a field that no command line can give": (
        MINE.replace("    def", "    a: object = object()\n    def") + "        return 1.0\n",
        (),
    ),
    "a rate of an own schedule that is none": (
        MINE + "        return -1.0\n",
        ("scheduler=mine", *IMAGES, *MODEL, *SHORT[:4]),
    ),
    "an own backbone that gives no maps": (
        POOLED,
        ("model.backbone=mine", "model.weights=none", *IMAGES),
    ),
    "an own decoder of another stride": (
        DECODER,
        ("model=mine", "model.width=8", *IMAGES, *MODEL),
    ),
    "weights of timm for an own backbone": (
        '@part(backbone="mine")\ndef mine():\n    raise AssertionError\n',
        ("model.backbone=mine", *IMAGES),
    ),
    "own data without a sample": (DATA + "        return []\n", ("data=mine", *SMALL)),
    "two samples of one name": (
        DATA + '        return [Sample(name="a", image=np.zeros((64, 64), np.uint8), points={"p": (1, 2)})] * 2\n',
        ("data=mine", *SMALL),
    ),
    "a sample whose name is a number": (
        DATA + '        return [Sample(name=7, image=np.zeros((64, 64), np.uint8), points={"p": (1, 2)})]\n',
        ("data=mine", *SMALL),
    ),
    "a sample with points=None": (
        DATA + '        return [Sample(name="a", image=np.zeros((64, 64), np.uint8), points=None)]\n',
        ("data=mine", *SMALL),
    ),
    "a sample whose spacing is text": (
        DATA + "        image, points = np.zeros((64, 64), np.uint8), {'p': (1, 2)}\n"
        '        return [Sample(name="a", image=image, points=points, pixel_spacing_mm="0.5")]\n',
        ("data=mine", *SMALL),
    ),
    "an own metric under a name of trainer's": (
        METRIC,
        ("task=mine", *IMAGES, *MODEL),
    ),
    "a ValueError in a part": (
        MINE + '        raise ValueError("no such month")\n',
        ("scheduler=mine", *IMAGES, *MODEL, *SHORT[:4]),
    ),
    "a sample that is no image": (
        DATA + '        return [Sample(name="a", image=np.zeros((64, 64)), points={"p": (1, 2)})]\n',
        ("data=mine", *SMALL),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_part_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    code, message = promised()[name]
    script = tmp_path / "my_part.py"
    text, overrides = WRONG[name]
    script.write_text(
        f"from trainer import OwnData, OwnDecoder, OwnNumbers, OwnSchedule, Sample, main, part\n\n\n{text}\n\nmain()\n"
    )
    ended = run_script(script, *overrides, "hydra.run.dir=run")
    assert ended.code == code, ended.err
    pattern = "error: " + ".*".join(re.escape(part) for part in message.split(ANYTHING))
    assert re.fullmatch(pattern, ended.err.strip()), ended.err
    assert ended.err.count("\n") == 1
