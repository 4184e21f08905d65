"""What precision=auto and memory_format=auto come to, how they are found, and that a run keeps them."""

import json
import math
import os
import re
from pathlib import Path

import pytest
import torch
from conftest import TINY, TINY_LABELS, compose
from faults import run_main
from stopped_runs import StopAt, start_or_resume
from test_sharing import join, start

from benchmarks.killed_runs import differences
from trainer.config.run import TrainConfig
from trainer.config.store import to_train_config
from trainer.device import Compute, build_compute, has_bf16_units
from trainer.loop import UpdateRule
from trainer.precision import Choice, Timings, alternatives, choose, fastest, memory_of, name_of
from trainer.run_data import RunData
from trainer.run_dir import RunDir
from trainer.serving.network import serving_compute
from trainer.state import TrainState, build_ema, random_state
from trainer.tuning.remembered import cache_folder

CPU = torch.device("cpu")
AUTO = ("precision=auto", "memory_format=auto")
LONG = "phases.finetune.epochs=1000"  # 3000 updates, of which a trial is a small share
USUAL = "fp32 channels_last"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "trainer"


def typed(*overrides: str, tiny: tuple[str, ...] = TINY) -> TrainConfig:
    return to_train_config(compose(*tiny, *AUTO, *overrides))


def prepared(config: TrainConfig, folder: Path) -> tuple[TrainState, RunData, UpdateRule]:
    """Everything up to the choice."""
    torch.manual_seed(config.seed)
    compute = build_compute("cpu", config.precision, config.memory_format)
    data = config.task.build_data(config, folder / "splits.csv")
    model = compute.place(config.task.build_model(config, data))
    state = TrainState(model, build_ema(model, config.ema_decay), compute.grad_scaler())
    return state, data, UpdateRule(config.task.build(config, data), compute, config.accumulation, config.clip_norm)


def chosen(config: TrainConfig, folder: Path) -> Choice:
    return choose(config, *prepared(config, folder))


def decide_for(config: TrainConfig, folder: Path) -> str:
    """Have the user's cache say that the last of the alternatives is the fastest; its name."""
    state, _, rule = prepared(config, folder)
    names = [name_of(one) for one in alternatives(config, CPU)]
    answer = {"taken": names[-1], "update_ms": dict.fromkeys(names, 7.0), "timed": "2026-11-22"}
    memory_of(config, state, rule).keep(answer)
    return names[-1]


@pytest.mark.parametrize(
    ("others", "taken"),
    [
        ({"bf16 channels_last": 0.91}, USUAL),
        ({"bf16 channels_last": 0.89}, "bf16 channels_last"),
        ({"fp32 contiguous": 0.8, "bf16 channels_last": 0.85}, "fp32 contiguous"),
        ({"fp32 contiguous": math.inf, "bf16 channels_last": math.inf}, USUAL),
    ],
)
def test_another_setting_has_to_be_faster_by_more_than_noise(others: dict[str, float], taken: str) -> None:
    assert fastest({USUAL: 1.0, **others}) == taken


def test_a_setting_that_has_room_is_faster_than_one_that_has_none() -> None:
    assert fastest({USUAL: math.inf, "bf16 channels_last": 9.0}) == "bf16 channels_last"


def test_only_rounds_that_agree_say_something_of_the_next_run() -> None:
    assert Timings({USUAL: [1.0, 1.4, 1.2], "bf16 channels_last": [0.5]}).steady
    assert not Timings({USUAL: [1.0, 1.1], "bf16 channels_last": [0.5, 0.8]}).steady
    assert Timings({USUAL: [math.inf], "bf16 channels_last": [0.5, 0.6]}).steady


def test_units_for_bf16_are_those_that_the_system_tells_of() -> None:
    told = Path("/proc/cpuinfo")
    flags = told.read_text().split() if told.is_file() else []
    if "avx2" not in flags:
        pytest.skip("no x86 CPU, or no list of what it has")
    assert has_bf16_units(CPU) == ("avx512_bf16" in flags)
    assert not has_bf16_units(torch.device("mps"))


def test_only_what_is_auto_is_chosen() -> None:
    bf16 = ["bf16 channels_last"] if has_bf16_units(CPU) else []
    expected = {
        (): [USUAL, "fp32 contiguous", *bf16],
        ("memory_format=channels_last",): [USUAL, *bf16],
        ("precision=bf16",): ["bf16 channels_last", "bf16 contiguous"],
        ("precision=fp32", "memory_format=contiguous"): ["fp32 contiguous"],
    }
    for overrides, names in expected.items():
        assert [name_of(one) for one in alternatives(typed(*overrides), CPU)] == names


@pytest.mark.parametrize(
    ("tiny", "overrides"),
    [
        (TINY, ("ema_decay=0.9", "model.dropout=0.2", "accumulation=2", "data.batch_size=2")),
        (TINY_LABELS, ("task=classification", "data.mixup=0.3", "optimizer=sgd", "phases.finetune.batch_norm=eval")),
    ],
    ids=["landmarks", "labels"],
)
def test_a_trial_leaves_no_trace(tiny: tuple[str, ...], overrides: tuple[str, ...], tmp_path: Path) -> None:
    config = typed(LONG, *overrides, tiny=tiny)
    state, data, rule = prepared(config, tmp_path)
    before = {key: value.clone() for key, value in state.model.state_dict().items()}
    averaged = None if state.ema is None else {key: value.clone() for key, value in state.ema.state_dict().items()}
    modes = [module.training for module in state.model.modules()]
    trained = [parameter.requires_grad for parameter in state.model.parameters()]
    numbers = random_state()["cpu"]
    choice = choose(config, state, data, rule)
    assert "timed in this run" in choice.told
    assert choice.noted["update_ms"].keys() == {name_of(one) for one in alternatives(config, CPU)}
    assert all(torch.equal(value, before[key]) for key, value in state.model.state_dict().items())
    if averaged is not None:
        assert state.ema is not None
        assert all(torch.equal(value, averaged[key]) for key, value in state.ema.state_dict().items())
    assert [module.training for module in state.model.modules()] == modes
    assert [parameter.requires_grad for parameter in state.model.parameters()] == trained
    assert all(parameter.grad is None for parameter in state.model.parameters())
    assert torch.equal(random_state()["cpu"], numbers)
    assert (state.optimizer, state.iteration, state.phase_step, state.phase) == (None, 0, 0, "")


def test_what_was_found_holds_for_the_same_model_and_batch_alone(tmp_path: Path) -> None:
    taken = decide_for(typed(), tmp_path)
    again = chosen(typed("seed=1", "scheduler.max_lr=1e-3"), tmp_path)
    assert name_of(again.compute) == taken
    assert again.told.endswith("; timed 2026-11-22 and remembered)")
    assert set(again.noted["update_ms"].values()) == {7.0}
    for other in (
        "data.batch_size=3",
        "model.width=16",
        "data.input_width=96",
        "optimizer=sgd",
        "memory_format=contiguous",
    ):
        assert "untimed" in chosen(typed(other), tmp_path).told


def test_what_is_kept_is_a_small_file_that_is_whole(tmp_path: Path, cache: Path) -> None:
    decide_for(typed(), tmp_path)
    (file,) = [path for path in cache.rglob("*") if path.is_file()]
    assert file.parent == cache / "precision"
    assert json.loads(file.read_text())["answer"]["timed"] == "2026-11-22"
    assert file.stat().st_size < 10_000


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"question": {}}'])
def test_what_can_not_be_read_is_timed_again(damage: str, tmp_path: Path, cache: Path) -> None:
    decide_for(typed(LONG), tmp_path)
    (file,) = cache.glob("precision/*.json")
    file.write_text(damage)
    assert "timed in this run" in chosen(typed(LONG), tmp_path).told


def test_an_answer_that_is_none_of_the_settings_is_not_taken(tmp_path: Path, cache: Path) -> None:
    decide_for(typed(), tmp_path)
    (file,) = cache.glob("precision/*.json")
    held = json.loads(file.read_text())
    for answer in ({}, {"taken": "fp8"}, {"taken": USUAL}, {"taken": USUAL, "update_ms": 3}):
        file.write_text(json.dumps({**held, "answer": answer}))
        assert "untimed" in chosen(typed(), tmp_path).told


def test_a_cache_folder_that_can_not_be_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the place of the folder")
    told = chosen(typed(LONG), tmp_path).told
    assert "timed in this run, and not remembered: " in told
    assert "\n" not in told
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "cache"))):
        decide_for(typed(LONG), tmp_path)


def test_a_cache_folder_that_is_not_absolute_counts_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert cache_folder() == tmp_path / ".cache" / "trainer"


@pytest.mark.parametrize("budget", [(), (LONG, "max_steps=100"), (LONG, "max_minutes=0.001")])
def test_a_run_that_is_too_short_for_a_trial_is_not_delayed(budget: tuple[str, ...], tmp_path: Path) -> None:
    config = typed(*budget)
    deadline = None if config.max_minutes is None else 0.0  # long past
    choice = choose(config, *prepared(config, tmp_path), deadline)
    assert name_of(choice.compute) == USUAL
    assert "precision=fp32, memory_format=channels_last (untimed, for a trial of " in choice.told
    assert not cache_folder().exists()


def test_what_is_typed_is_not_discussed(tmp_path: Path) -> None:
    choice = chosen(typed("precision=bf16", "memory_format=contiguous"), tmp_path)
    assert (choice.told, choice.overrides) == ("", [])
    assert choice.compute == Compute(CPU, "bf16", "contiguous")
    assert choice.noted["how"] == "as given"


def test_a_resumed_run_keeps_what_was_chosen_also_on_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precision, memory_format = decide_for(typed(), tmp_path).split()
    given = (f"precision={precision}", f"memory_format={memory_format}")
    stopped, whole = RunDir(tmp_path / "stopped"), RunDir(tmp_path / "whole")
    start_or_resume(whole.path, *TINY, *given)
    assert not start_or_resume(stopped.path, *TINY, *AUTO, request=StopAt(8))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    ended = run_main(f"resume={stopped.path}", "data.workers=1", folder=tmp_path)
    assert ended.code == 0, ended.err
    assert not (tmp_path / "another machine").exists()
    assert differences(stopped, whole) == []
    results = json.loads(stopped.results.read_text())
    assert (results["config"]["precision"], results["config"]["memory_format"]) == (precision, memory_format)
    assert results["environment"]["compute"]["auto"] == ["precision", "memory_format"]
    assert results["environment"]["compute"]["how"].endswith("and remembered")
    assert results["environment"]["overrides"][-3:] == [*given, "data.workers=1"]
    assert "auto" not in " ".join(results["environment"]["overrides"])


def test_a_run_of_before_there_was_a_choice_goes_on_as_it_began(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "run")
    assert not start_or_resume(run_dir.path, *TINY, request=StopAt(3))
    environment = run_dir.read_environment()
    typed = [text for text in environment["overrides"] if not text.startswith(("precision", "memory_format"))]
    run_dir.environment.write_text(json.dumps({**environment, "overrides": [*typed, "channels_last=true"]}))
    config = run_dir.config.read_text().replace("memory_format: channels_last", "channels_last: true")
    run_dir.config.write_text(config)
    ended = run_main(f"resume={run_dir.path}", "checkpoint.every_steps=50", folder=tmp_path)
    assert ended.code == 0, ended.err
    assert "auto: " not in ended.out
    assert "memory_format: channels_last" in run_dir.config.read_text()


def test_a_resume_computes_from_there_on_in_what_is_typed(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "run")
    assert not start_or_resume(run_dir.path, *TINY, request=StopAt(3))
    ended = run_main(f"resume={run_dir.path}", "precision=bf16", "memory_format=contiguous", folder=tmp_path)
    assert ended.code == 0, ended.err
    for told in ("precision=bf16 (was fp32)", "memory_format=contiguous (was channels_last)"):
        assert f"resumed with {told}" in ended.out
    results = json.loads(run_dir.results.read_text())
    assert (results["config"]["precision"], results["environment"]["compute"]["precision"]) == ("bf16", "bf16")
    assert compose(*results["environment"]["overrides"]).precision == "bf16"


def test_what_was_chosen_is_told_in_a_line_of_the_log(tmp_path: Path) -> None:
    precision, memory_format = decide_for(typed(), tmp_path).split()
    ended = run_main(*TINY, *AUTO, "phases=finetune_only", "phases.finetune.epochs=1", folder=tmp_path)
    assert ended.code == 0, ended.err
    (line,) = [line for line in ended.out.splitlines() if line.startswith("auto: ")]
    assert line.startswith(f"auto: precision={precision}, memory_format={memory_format} (per update {USUAL} ")


def test_bf16_serves_where_there_are_units_for_it() -> None:
    usual = build_compute("cpu", "fp32", "channels_last")
    expected = {"fp32": "fp32", "fp16": "fp32", "bf16": "bf16" if has_bf16_units(CPU) else "fp32"}
    for trained, served in expected.items():
        config = typed("device=auto", f"precision={trained}", "memory_format=channels_last")
        assert serving_compute(config, "cpu") == Compute(CPU, served, usual.memory_format)


def decide_in_a_group(rank: int, count: int, port: int, folder: Path) -> None:
    """In a process of its own, with a cache of its own: twice."""
    os.environ["XDG_CACHE_HOME"] = str(folder / f"cache_{rank}")
    sharing = join(rank, count, port)
    config = typed(LONG)
    (folder / str(rank)).mkdir()
    state, data, rule = prepared(config, folder / str(rank))
    data, rule = sharing.divided(data, rule)
    first = choose(config, state, data, rule).told
    if rank == 0:
        memory_of(config, state, rule).keep({"taken": USUAL, "update_ms": {USUAL: 1.0}, "timed": "today"})
    (folder / f"{rank}.txt").write_text(f"{first}\n{choose(config, state, data, rule).told}")
    sharing.ranks.leave()


def test_several_processes_take_what_the_first_decides_and_remembers(tmp_path: Path) -> None:
    assert start(decide_in_a_group, 2, tmp_path) == [0, 0]
    told = [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)]
    assert told[0] == told[1]  # to the millisecond
    first, second = told[0].splitlines()
    assert "timed in this run" in first
    assert "remembered" in second
    assert not (tmp_path / "cache_1").exists()
