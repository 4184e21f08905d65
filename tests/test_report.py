"""report.html stands alone, says what happened and shows foreign text as text."""

import base64
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import compose

from trainer.config.store import to_train_config
from trainer.departures import departures
from trainer.next_steps import TypedCommand, next_steps, ways_to_use
from trainer.report import write_report
from trainer.run_dir import RunDir


def _row(stage: str, mre: float, median: float, sdr: float, nme: float | None, taken: bool = False) -> dict[str, Any]:
    return {"stage": stage, "taken": taken, "mre_mm": mre, "median_mm": median, "sdr_2mm": sdr, "nme": nme}


MEASURED = {"mre_mm": 1.9, "sdr_2mm": 0.5}
RESULTS: dict[str, Any] = {
    "monitor": "mre_mm",
    "split": "val",
    "verdict": "so training removed 75 % of the error <of all>",
    "columns": [
        {"key": "mre_mm", "heading": "MRE (mm)", "style": "distance"},
        {"key": "median_mm", "heading": "median", "style": "distance"},
        {"key": "sdr_2mm", "heading": "≤ 2 mm", "style": "percent"},
        {"key": "nme", "heading": "NME", "style": "number"},
    ],
    "headline": [
        _row("mean shape, untrained", 9.6, 9.0, 0.05, 0.1),
        _row("after frozen", 4.0, 3.5, 0.3, 0.1),
        _row("after finetune", 2.5, 2.0, 0.5, 0.1),
        _row("best (epoch 12)", 2.4, float("nan"), 0.512, 0.0123456, taken=True),
        _row("the same, on test", 2.9, 2.2, 0.48, None, taken=True),
    ],
    "metrics": {"val": MEASURED, "test": MEASURED},
    "phases": {"frozen": {"train_loss": 3.0, **MEASURED}, "finetune": MEASURED},
    "best": {"value": 2.4, "epoch": 12, "iteration": 1288, "phase": "finetune"},
    "learning_rates": {
        "frozen": {"updates": 72, "skipped": 0, "cycles": 3, "head_min": 1e-4, "head_max": 3e-3,
                   "backbone_min": None, "backbone_max": None},
        "finetune": {"updates": 1200, "skipped": 2, "cycles": 4, "head_min": 2e-5, "head_max": 2e-3,
                     "backbone_min": 2e-6, "backbone_max": 2e-4},
    },
    "details": [
        {
            "title": "Every landmark",
            "columns": [
                {"key": "landmark", "heading": "landmark", "style": "text"},
                {"key": "count", "heading": "<images>", "style": "number"},
                {"key": "mre_mm", "heading": "MRE", "style": "distance"},
                {"key": "p95_mm", "heading": "95th", "style": "distance"},
                {"key": "sdr_2mm", "heading": "≤ 2 mm", "style": "percent"},
            ],
            "rows": [
                {"landmark": "sella", "count": 40, "mre_mm": 2.0, "p95_mm": 4.0, "sdr_2mm": 0.625},
                {"landmark": "<script>alert(1)</script>", "count": 0, "mre_mm": float("nan"), "p95_mm": None,
                 "sdr_2mm": None},
            ],
        }
    ],
    "seconds": 123.4,
    "updates": 1272,
    "config_yaml": "task:\n  kind: landmarks  # <b>&\n",
    "environment": {"python": "3.11.7", "devices": ["cpu"], "versions": {"torch": "2.6"}},
    "commands": {"resume": "python -m trainer resume='outputs/a b'"},
    "warnings": ["only 2 cycles & a bit"],
}  # fmt: skip
OPTIONAL = sorted(RESULTS.keys() - {"monitor", "verdict", "columns", "headline"})
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Tags, their attributes and the text of a page; fails on tags that are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def page_of(tmp_path: Path, results: dict[str, Any], pictures: dict[str, Path]) -> Page:
    write_report(tmp_path / "report.html", title="run <1>", results=results, pictures=pictures)
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_embedded_pictures_are_the_files_and_nothing_else_is_loaded(tmp_path: Path) -> None:
    contents = {"loss & rates": b"\x89PNG\r\n\x1a\n" + bytes(range(256)), 'a "quoted" one': b"other"}
    pictures = {caption: tmp_path / f"{number}.png" for number, caption in enumerate(contents)}
    for caption, file in pictures.items():
        file.write_bytes(contents[caption])
    page = page_of(tmp_path, RESULTS, {**pictures, "not written": tmp_path / "missing.png"})
    embedded = {}
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object")
        assert not any(name.startswith("on") for name in attributes)
        if "src" in attributes:
            kind, data = str(attributes["src"]).split(",")
            assert kind == "data:image/png;base64"
            embedded[attributes["alt"]] = base64.b64decode(data)
        assert "href" not in attributes
    assert embedded == contents
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|url\(|@import", source)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0.png", "1.png", "report.html"]


def test_foreign_text_is_shown_and_not_run(tmp_path: Path) -> None:
    page = page_of(tmp_path, RESULTS, {})
    assert "<script>alert(1)</script>" in page.words
    assert "only 2 cycles & a bit" in page.words
    assert "task:\n  kind: landmarks  # <b>&\n" in page.words
    assert page.words.count("run <1>") == 2  # title and heading
    assert "script" not in {tag for tag, _ in page.tags}


def test_result_rates_and_next_commands_come_first(tmp_path: Path) -> None:
    text = page_of(tmp_path, RESULTS, {}).text
    said = (
        "1,272 updates in 2:03; best mre_mm 2.4 in epoch 12 (finetune, after 1,288 updates)",
        "Did it train well?", "so training removed 75 % of the error", "≤ 2 mm",
        "mean shape, untrained 9.60 9.00 5.0 %", "after frozen 4.00", "after finetune 2.50",
        "best (epoch 12) 2.40 – 51.2 % 0.01235", "the same, on test 2.90",
        "Which learning rates were used?", "frozen 72 3 0.0001 … 0.003 frozen",
        "finetune 1,200 (2 skipped) 4 2e-05 … 0.002 2e-06 … 0.0002",
        "How to use it", "python -m trainer resume='outputs/a b'",
        "Every landmark", "sella 40 2.00 4.00 62.5 %", "0 – – –",
        "after frozen after finetune taken, val taken, test", "train_loss 3 – – –",
        "versions torch 2.6",
    )  # fmt: skip
    places = [re.sub(r"\s*(\S)", r"\1", text).find(re.sub(r"\s", "", part)) for part in said]
    assert -1 not in places, said[places.index(-1)]
    assert places == sorted(places)


@pytest.mark.parametrize("absent", [[key] for key in OPTIONAL] + [OPTIONAL])
def test_absent_results_leave_out_their_section_only(tmp_path: Path, absent: list[str]) -> None:
    results = {key: value for key, value in RESULTS.items() if key not in absent}
    text = page_of(tmp_path, results, {}).text
    assert "mean shape, untrained" in text
    assert ("How to use it" in text) == ("commands" not in absent)
    assert ("Every landmark" in text) == ("details" not in absent)


def test_a_page_adapts_to_phones_and_dark_screens(tmp_path: Path) -> None:
    page = page_of(tmp_path, RESULTS, {})
    metas = {attributes.get("name"): attributes.get("content") for tag, attributes in page.tags if tag == "meta"}
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    assert "prefers-color-scheme: dark" in page.text
    tables = [index for index, (tag, _) in enumerate(page.tags) if tag == "table"]
    assert len(tables) == 5
    assert all(page.tags[index - 1] == ("div", {"class": "scroll"}) for index in tables)


def test_a_real_report_says_what_to_do_what_differs_and_how_to_make_the_run_again(tiny_run: RunDir) -> None:
    page = Page(tiny_run.report.read_text(encoding="utf-8"))
    text = page.text
    commands = [words for words in page.words if words.startswith(("python -m", "cd "))]
    typed = tiny_run.read_environment()["overrides"]
    assert f"cd {tiny_run.read_environment()['folder']}\npython -m trainer {shlex.join(typed)}" in commands
    assert any(
        command.startswith(f"python -m trainer.evaluate run={tiny_run.path} data.num_images=") for command in commands
    )
    assert "model.backbone tf_efficientnet_lite0 test_efficientnet" in text
    assert "phases.frozen.epochs 12 2" in text
    for title in ("Did it train well?", "Which learning rates were used?", "What next?", "How to use it", "Pictures"):
        assert title in text
    # Whatever it proposes is a command that composes.
    for command in commands:
        module, *arguments = shlex.split(command.splitlines()[-1])[2:]
        if module == "trainer" and not arguments[0].startswith(("-m", "resume=")):
            to_train_config(compose(*arguments))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], []),
        (["seed=3", "scheduler.max_lr=2e-2"], [("scheduler.max_lr", "0.01", "0.02"), ("seed", "0", "3")]),
        (
            ["task=classification", "task.num_samples=2"],
            [
                ("task", "landmarks", "classification"),
                ("model", "heatmap", "classifier"),
                ("task.num_samples", "6", "2"),
            ],
        ),
        (["phases.finetune.scheduler.cycles=1"], [("phases.finetune.scheduler.cycles", "–", "1")]),
        (["data=csv", "data.table=a.csv"], [("data", "phantom", "csv"), ("data.table", "–", "a.csv")]),
    ],
)
def test_departures_are_the_choices_and_then_the_values_that_are_not_theirs(
    overrides: list[str], expected: list[tuple[str, str, str]]
) -> None:
    assert sorted(departures(compose(*overrides))) == sorted(expected)


def test_what_the_run_chose_itself_is_no_departure() -> None:
    config = compose("precision=bf16", "seed=3")
    assert departures(config, ["precision"]) == [("seed", "0", "3")]


def results_of(**changes: Any) -> dict[str, Any]:
    """Of a run that learnt: its best epoch is the last of the first half of the fine-tune."""
    best = {"value": 2.4, "epoch": 7, "phase": "finetune"}
    environment = {
        "overrides": ["data.table=a b.csv", "phases.finetune.epochs=8"],
        "folder": "/",
        "command": "python -m trainer a=b",
    }
    return {**RESULTS, "monitor_mode": "min", "taken": {}, "best": best, "environment": environment, **changes}


EPOCHS = pd.DataFrame({"phase": ["frozen"] * 2 + ["finetune"] * 8, "epoch": range(1, 11)})
CLR = {"kind": "clr", "base_lr": 1e-3, "max_lr": 3e-3}
CONFIG = {
    "scheduler": CLR,
    "phases": {"finetune": {"scheduler": {}}},
    "max_minutes": None,
    "max_steps": None,
    "data": {"kind": "csv"},
}


def in_finetune(**changes: Any) -> dict[str, Any]:
    return {"phases": {"finetune": {"scheduler": changes}}}


@pytest.mark.parametrize(
    ("changes", "config", "first"),
    [
        ({}, {}, "python -m trainer 'data.table=a b.csv' phases.finetune.epochs=8 range_test=on"),
        (
            {"best": {"epoch": 10, "phase": "finetune"}}, {},
            "python -m trainer 'data.table=a b.csv' phases.finetune.epochs=16",
        ),
        (
            {"best": {"epoch": 10, "phase": "finetune"}}, {"max_minutes": 5.0},
            "python -m trainer 'data.table=a b.csv' phases.finetune.epochs=16 max_minutes=10",
        ),
        (
            {"best": {"epoch": 4, "phase": "finetune"}}, {},
            "python -m trainer 'data.table=a b.csv' phases.finetune.epochs=2",
        ),
        (
            {"best": {"epoch": 2, "phase": "frozen"}}, {},
            (
                "python -m trainer 'data.table=a b.csv' phases.finetune.epochs=8 "
                "phases.finetune.scheduler.base_lr=0.00033 phases.finetune.scheduler.max_lr=0.001"
            ),
        ),
        (
            {"best": {"epoch": 2, "phase": "frozen"}}, in_finetune(max_lr=6e-3),
            (
                "python -m trainer 'data.table=a b.csv' phases.finetune.epochs=8 "
                "phases.finetune.scheduler.base_lr=0.00033 phases.finetune.scheduler.max_lr=0.002"
            ),
        ),
        (
            {"best": {"epoch": 2, "phase": "frozen"}}, in_finetune(kind="constant", lr=3e-4),
            "python -m trainer 'data.table=a b.csv' phases.finetune.epochs=8 phases.finetune.scheduler.lr=0.0001",
        ),
        ({"best": {"epoch": 2, "phase": "frozen"}}, in_finetune(kind="mine", steepness=2.0), ""),
        (
            {"split": "train"}, {},
            "python -m trainer 'data.table=a b.csv' phases.finetune.epochs=8 data.val_fraction=0.2",
        ),
        (
            {"range_test": {"frozen": {}}}, {},
            "python -m trainer -m 'data.table=a b.csv' phases.finetune.epochs=8 seed=1,2,3",
        ),
        (
            {"headline": [_row("mean shape", 2.0, 2.0, 0.1, None), _row("best", 2.4, 2.0, 0.1, None, taken=True)]}, {},
            "python -m trainer.check 'data.table=a b.csv' phases.finetune.epochs=8",
        ),
    ],
)  # fmt: skip
def test_the_first_step_follows_from_what_the_run_came_to(
    changes: dict[str, Any], config: dict[str, Any], first: str
) -> None:
    steps = next_steps(results_of(**changes), {**CONFIG, **config}, EPOCHS)
    assert 1 <= len(steps) <= 3
    assert steps[0].command == first


def test_a_phase_is_not_to_end_where_it_ends_already() -> None:
    epochs = pd.DataFrame({"phase": ["frozen", "finetune", "finetune"], "epoch": [1, 2, 3]})
    steps = next_steps(results_of(best={"epoch": 2, "phase": "finetune"}), CONFIG, epochs)
    assert not any("epochs=2" in step.command for step in steps)


@pytest.mark.parametrize(
    ("repeats", "num_steps", "changes"),
    [
        (1, 300, ["range_test.repeats=3", "range_test.num_steps=600"]),
        (3, 100, ["range_test.num_steps=200"]),
        (2, 0, ["range_test.repeats=3"]),
    ],
)
def test_a_range_test_without_a_rate_is_to_be_made_larger_than_it_was(
    repeats: int, num_steps: int, changes: list[str]
) -> None:
    results = {"environment": {"overrides": [], "folder": "/", "command": "python -m trainer"}}
    steps = next_steps(results, {"range_test": {"repeats": repeats, "num_steps": num_steps}}, None)
    assert [step.command for step in steps] == [f"python -m trainer range_test=only {change}" for change in changes]


def test_other_phantoms_are_not_those_of_the_run() -> None:
    ways = ways_to_use(Path("run"), results_of(), {"data": {"kind": "phantom", "seed": 1}})
    assert ways["evaluate on other images"].endswith("data.num_images=200 data.seed=2")


def test_an_own_script_under_torchrun_sweeps_and_checks_by_one_process() -> None:
    command = "torchrun --nproc-per-node=2 /a=b/mine.py seed=1"
    typed = TypedCommand({"command": command, "script": "/a=b/mine.py", "overrides": ["seed=1"], "folder": "/"})
    assert typed.again("seed=2") == "torchrun --nproc-per-node=2 /a=b/mine.py seed=2"
    assert typed.again("seed=1,2", many=True) == "python /a=b/mine.py -m seed=1,2"
    assert typed.verb("check") == "python /a=b/mine.py check seed=1"
    by_torchrun = TypedCommand({"command": "torchrun -m trainer", "script": None, "overrides": [], "folder": "/"})
    assert by_torchrun.again("seed=1,2", many=True) == "python -m trainer -m seed=1,2"
