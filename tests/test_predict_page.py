"""docs/predict.md: its commands and its Python do what they say, as they stand there."""

import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
from faults import run_main
from served import images, run_of

PAGE = (Path(__file__).parents[1] / "docs" / "predict.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the page was written: a run in outputs/RUN, images in xrays."""
    shutil.copytree(run_of("landmarks"), tmp_path / "outputs" / "RUN")
    (tmp_path / "xrays").mkdir()
    names = ["1.png", "2.png", "3.png"]
    for name, source in zip(names, sorted(images().glob("*.png"))[:3], strict=True):
        shutil.copy(source, tmp_path / "xrays" / name)
    pd.read_csv(images() / "table.csv")[:3].assign(image=names).to_csv(tmp_path / "xrays" / "table.csv", index=False)
    return tmp_path


def test_the_commands_run_as_pasted(folder: Path) -> None:
    commands = re.findall(r"^    python -m (trainer\.\w+) (.*)$", PAGE, re.MULTILINE)
    assert {program for program, _ in commands} == {"trainer.predict", "trainer.evaluate"}
    for program, arguments in commands:
        ended = run_main(*shlex.split(arguments), folder=folder, program=program)
        assert (ended.code, ended.err) == (0, "")
    for what in ("predictions", "evaluations"):
        (out,) = (folder / what).iterdir()
        promised = re.search(rf"^    {what}/<date>_<time>/\n((?:      .*\n)+)", PAGE, re.MULTILINE)
        assert promised is not None
        names = set(re.findall(r"^      (\w[\w.]*)", promised[1], re.MULTILINE))
        found = {path.name for path in out.iterdir()}
        assert found <= names
        assert names - found <= {"failed.csv"}


def test_the_python_runs_as_pasted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"^    from trainer import load\n(?:    .*\n|\n)+", PAGE, re.MULTILINE)
    monkeypatch.chdir(folder)
    names: dict[str, pd.DataFrame] = {}
    exec(re.sub("^    ", "", code, flags=re.MULTILINE), names)
    assert len(names["table"]) == 3
