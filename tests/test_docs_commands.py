"""Every command and all Python in README.md and docs/*.md is run, on phantoms, with a budget of a few updates."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
import torch
from conftest import compose
from documented import PAGES, ROOT, Documented, blocks, commands_in, is_python
from documented_world import RUN, build_world
from faults import Ended, run_main
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode
from omegaconf import DictConfig
from torch import nn
from torch.distributed.run import get_args_parser
from torch.utils.data import DataLoader

# What stands for a value of the reader's own, or can't be had here -> what is typed in its place.
STANDS_FOR = {
    "tf_efficientnet_lite0_clr": "test_efficientnet_clr",  # in the name of a run's folder
    "resume=outputs/...": f"resume={RUN}",
    "resume=$run": f"resume={RUN}",
    "hydra.run.dir=$run": "hydra.run.dir=runs/7",
    "model.weights=hub": "model.weights=none",  # a download
    "model.backbone=resnet50": "model.backbone=test_resnet",  # the same kind, but large
    "model.backbone=resnet18": "model.backbone=test_resnet",
    "seed=1,2,3,4,5": "seed=1",  # how many seeds there are is no part of what a command means
    "seed=1,2,3": "seed=1",
    "scheduler=clr,onecycle,constant": "scheduler=clr,constant",  # nor how many schedules
}
# Such a command is composed, with every key and choice, and not run: launchers, and the recipe clr_vs_fixed, a sweep of
# nine runs. Both have tests of their own.
COMPOSED = re.compile(r"hydra/launcher=|clr_vs_fixed")
# Commands whose meaning needs another budget of updates than the others, with what they are given.
LONGER = {"snapshots=true": "max_steps=32", "experiment=ceph_long": "max_steps=64"}
# Pages whose commands another test runs, for more than their exit codes; here they are composed.
HELD_ELSEWHERE = {
    "optuna.md": "test_optuna.py",
    "sweeps.md": "test_sweep.py",
    "formats.md": "test_convert.py",
    "predict.md": "test_predict_page.py",
}
# Of exit codes other than 0: a check that found something worth a look has done what it is for.
FINE = {"trainer.check": (0, 1)}
VERBS = tuple(f"trainer.{verb}" for verb in ("predict", "evaluate", "compare", "convert", "check", "export", "tune"))
OF_A_RUN = ("trainer", "trainer.check", "trainer.tune")  # that take the keys of one


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    build_world(folder)
    return folder


@pytest.fixture(scope="module")
def ended_before() -> dict[tuple[str, ...], Ended]:
    """Commands that several pages give are run once, where they need nothing that another command left."""
    return {}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in HELD_ELSEWHERE], ids=lambda page: page.stem
)
def test_every_command_of_a_page_runs(
    page: Path, world: Path, tmp_path: Path, ended_before: dict[tuple[str, ...], Ended]
) -> None:
    commands = [command for block in blocks(page) for command in commands_in(block)]
    folder = tmp_path / "world"
    if commands:
        shutil.copytree(world, folder)
    for command in commands:
        if command.program.endswith(".py"):
            assert (ROOT / command.program).is_file() or another_test_reads(page), f"{page.name}: {command.line}"
            continue
        assert command.program in ("trainer", *VERBS), f"{page.name}: no test knows how to run {command.line}"
        if command.launcher:
            get_args_parser().parse_args([*command.launcher, "-m", command.program])
        if page.name in HELD_ELSEWHERE or COMPOSED.search(command.line):
            if command.program == "trainer":
                composed(typed(command))
            continue
        arguments = typed(command)
        for text in arguments:  # what one page reads is what another one makes
            if text.startswith("to=") and (world / text[3:]).is_file():
                (folder / text[3:]).unlink(missing_ok=True)
        known = (command.program, *arguments)
        if known not in ended_before:
            program = "trainer.__main__" if command.program == "trainer" else command.program
            ended = run_main(*arguments, folder=folder, program=program)
            if not any(re.search(r"resume|run\.dir|sweep\.dir|to=|-m$", text) for text in arguments):
                ended_before[known] = ended
        else:
            ended = ended_before[known]
        assert ended.code in FINE.get(command.program, (0,)), f"{page.name}: {command.line}\n{arguments}\n{ended.err}"
        assert "Traceback" not in ended.err
        if any(text.startswith("experiment=") for text in command.arguments):
            assert "advice: " not in ended.out, f"{command.line} is advised against what its own recipe sets"


def test_pages_that_are_left_to_another_test_are_read_by_it() -> None:
    for page, test in HELD_ELSEWHERE.items():
        assert f'"{page}"' in (ROOT / "tests" / test).read_text(encoding="utf-8")


def typed(command: Documented) -> list[str]:
    """The arguments of a command with what stands for something replaced, and with small sizes and few updates."""
    arguments = []
    for text in command.arguments:
        for what, stands in STANDS_FOR.items():
            text = text.replace(what, stands)
        if text != "...":
            arguments.append(text)
    arguments += {"trainer.evaluate": ["pictures=false"], "trainer.predict": ["overlays=1"]}.get(command.program, [])
    if command.program not in OF_A_RUN or any(text.startswith("resume=") for text in arguments):
        return arguments
    minutes = ["minutes=0.001"] if command.program == "trainer.tune" else []
    keys = {text.lstrip("+").partition("=")[0] for text in arguments}
    return [*arguments, *(text for text in small(arguments) if text.partition("=")[0] not in keys), *minutes]


def small(arguments: list[str]) -> Iterator[str]:
    """Overrides that make any run a tiny one."""
    config = composed(arguments)
    yield from ("device=cpu", "pictures=false", "model.backbone=test_efficientnet", "model.weights=none")
    yield from ("data.input_height=64", "data.input_width=64", "data.batch_size=4")
    yield next((budget for part, budget in LONGER.items() if part in arguments), "max_steps=4")
    if config.data.kind == "phantom":
        yield from ("data.num_images=15", "data.height=96", "data.width=80")
    if "width" in config.model:
        yield "model.width=8"
    if config.range_test.kind != "off":
        yield "range_test.num_steps=24"


def composed(arguments: list[str]) -> DictConfig:
    """The config of a command, also of one that sweeps; a key or a choice that is not there raises."""
    several = "-m" in arguments or "--multirun" in arguments
    if not several:
        return compose(*arguments)
    return ConfigLoaderImpl(create_config_search_path("pkg://conf")).load_configuration(
        "config",
        [text for text in arguments if not text.startswith("-")],
        run_mode=RunMode.MULTIRUN,
        from_shell=False,
    )


def another_test_reads(page: Path) -> bool:
    """Whether another test reads the page: those of predictions and of parts of one's own run all that stands there."""
    tests = [test for test in (ROOT / "tests").glob("test_*.py") if test.name != Path(__file__).name]
    return any(f'"{page.name}"' in test.read_text(encoding="utf-8") for test in tests)


def test_all_python_of_the_pages_is_run_by_a_test() -> None:
    for page in PAGES:
        if any(is_python(block) for block in blocks(page)):
            assert page.name in NAMES_OF or another_test_reads(page), (
                f"{page.name} has Python that no test runs: add the names that it takes for granted to NAMES_OF"
            )


def network_names() -> dict[str, Any]:
    """A network with two groups of parameters, and what else the pages of LRFinder take for granted."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    generator, critic = nn.Linear(2, 6), nn.Linear(6, 1)
    inputs = torch.randn(64, 6)
    pairs = list(zip(inputs, inputs[:, :3].argmax(1), strict=True))
    loaded: Any = pairs
    groups = [{"params": model[0].parameters(), "lr": 1e-4}, {"params": model[2].parameters(), "lr": 1e-3}]
    return {
        "nn": nn, "torch": torch, "model": model, "optimizer": torch.optim.SGD(groups),
        "criterion": nn.CrossEntropyLoss(), "train_loader": DataLoader(loaded, batch_size=8),
        "val_loader": DataLoader(loaded, batch_size=8), "box_loss": nn.MSELoss(), "class_loss": nn.CrossEntropyLoss(),
        "generator": generator, "generator_optimizer": torch.optim.SGD(generator.parameters(), lr=1e-3),
        "critic": critic, "critic_optimizer": torch.optim.SGD(critic.parameters(), lr=1e-3),
        "noise": lambda count: torch.randn(count, 2), "critic_loss": lambda one, other: (other - one).mean(),
    }  # fmt: skip


def makes_part(block: str) -> bool:
    """Whether it is a script of an own part, whose main() is a command: test_own_parts.py runs these."""
    return bool(re.search(r"^from trainer import .*\bpart\b", block, re.MULTILINE))


# Page -> the names that its Python takes for granted.
NAMES_OF = {"README.md": network_names, "lr_finder.md": network_names, "range_test.md": network_names}


@pytest.mark.parametrize("name", NAMES_OF)
def test_the_python_of_a_page_runs(name: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (page,) = [page for page in PAGES if page.name == name]
    shutil.copytree(world, tmp_path / "world")
    monkeypatch.chdir(tmp_path / "world")
    mpl.use("agg")
    names = NAMES_OF[name]()
    code = [block for block in blocks(page) if is_python(block) and not makes_part(block)]
    assert code
    for block in code:
        block = block.replace('device="cuda"', 'device="cpu"')
        for what, stands in STANDS_FOR.items():
            block = block.replace(what, stands)
        exec(compile(ast.parse(block), name, "exec"), names)


def test_a_command_that_is_wrong_or_that_no_test_knows_is_found(world: Path, tmp_path: Path) -> None:
    """The test above is no better than what it finds."""
    block = (
        "    $ nothing\npython -m trainer \\\n  scheduler.max_rate=1\nsrun python -m trainer.unheard of\npip install x"
    )
    wrong, unknown = commands_in(block)
    assert (wrong.arguments, unknown.program) == (("scheduler.max_rate=1",), "trainer.unheard")
    with pytest.raises(Exception, match="max_rate"):
        typed(wrong)
    assert unknown.program not in VERBS
    ended = run_main("data=csv", "data.table=not_made.csv", folder=tmp_path)
    assert ended.code == 3


def test_what_the_pages_name_as_extras_are_extras_of_the_project() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for page in PAGES:
        for extras in re.findall(r'pip install [^`\n]*"[^"]*\[([\w,]+)\]"', page.read_text(encoding="utf-8")):
            for extra in extras.split(","):
                assert re.search(rf"^{extra} = \[", project, re.MULTILINE), f"{page.name}: no extra {extra}"


def test_verbs_are_modules() -> None:
    found = [verb for verb in VERBS if importlib.util.find_spec(verb) is not None]
    named = {command.program for page in PAGES for block in blocks(page) for command in commands_in(block)}
    assert {name for name in named if name.startswith("trainer.")} <= set(found)
    assert set(found) <= named, "a verb without a command on any page"
