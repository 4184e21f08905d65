"""`python -m trainer.tune`: what it times, how, and what it says to paste."""

import math
import shlex
from pathlib import Path

import pytest
import torch
from conftest import TINY, TINY_LABELS, compose
from faults import run_main
from served import check_promise

from trainer.config.store import to_train_config
from trainer.device import has_bf16_units
from trainer.tuning.memory import forget_peak, peak_bytes, room_bytes
from trainer.tuning.rounds import MOST_ROUNDS, Timed, fastest, time_in_turns
from trainer.tuning.tune_table import Group, pasted

CPU = torch.device("cpu")
SHORT = "minutes=0.001"  # a round of each


def tune(*overrides: str, folder: Path) -> tuple[int, str, str]:
    ended = run_main(*overrides, folder=folder, program="trainer.tune")
    return ended.code, ended.out, ended.err


@pytest.mark.parametrize(
    "run",
    [TINY, (*TINY_LABELS, "task=classification", "data.mixup=0.3", "accumulation=2", "data.batch_size=2")],
    ids=["landmarks", "classes"],
)
def test_the_table_has_every_question_and_the_command_is_one_to_paste(run: tuple[str, ...], tmp_path: Path) -> None:
    code, out, err = tune(*run, SHORT, "hydra.run.dir=tuned", folder=tmp_path)
    assert code == 0, err
    for setting in ("fp32 channels_last", "fp32 contiguous", *(["bf16 channels_last"] if has_bf16_units(CPU) else [])):
        assert setting in out
    for question in ("precision, memory_format", "threads", "data.workers (with reading)", "data.batch_size"):
        assert question in out
    assert "out of memory" not in out
    (line,) = [line.strip() for line in out.splitlines() if "python -m trainer " in line]
    words = shlex.split(line)
    config = to_train_config(compose(*words[words.index("trainer") + 1 :]))
    assert "auto" not in (config.precision, config.memory_format)
    assert "minutes" not in line

    assert [path.name for path in (tmp_path / "tuned").iterdir()] == ["tune.txt"]
    told = (tmp_path / "tuned" / "tune.txt").read_text()
    assert line in told
    assert [path.name for path in tmp_path.iterdir()] == ["tuned"]
    again = tune(*run, SHORT, "hydra.run.dir=tuned", folder=tmp_path)
    assert again[0] == 0, again[2]


def test_settings_are_timed_in_turns_after_each_has_warmed_up() -> None:
    settings = [Timed(name, {}, 4) for name in "abc"]
    calls: list[str] = []

    def seconds(setting: Timed) -> float:
        calls.append(setting.name)
        return math.inf if setting.name == "b" else float(len(calls))

    time_in_turns(settings, seconds, CPU, until=math.inf)
    assert calls == [*"abc", *("ac" * MOST_ROUNDS)]
    assert settings[0].seconds == [4.0 + 2 * turn for turn in range(MOST_ROUNDS)]
    assert settings[0].median == 4.0 + 2 * (MOST_ROUNDS // 2)
    assert (settings[1].seconds, settings[1].images_per_second) == ([math.inf], 0.0)


def test_without_time_the_first_setting_has_one_round_and_the_others_none() -> None:
    settings = [Timed(name, {}, 1) for name in "ab"]
    time_in_turns(settings, lambda setting: 1.0, CPU, until=0)
    assert [setting.seconds for setting in settings] == [[1.0], []]
    assert fastest(settings, 0.1) is settings[0]


@pytest.mark.parametrize(("second", "best"), [(1.0, "own"), (0.95, "own"), (0.5, "other"), (math.inf, "own")])
def test_another_setting_is_best_where_it_gains_by_more_than_noise(second: float, best: str) -> None:
    settings = [Timed("own", {}, 8, [1.0]), Timed("other", {}, 8, [second])]
    assert fastest(settings, 0.1).name == best


def test_a_larger_batch_is_judged_by_its_images() -> None:
    settings = [Timed("8", {}, 8, [1.0]), Timed("16", {}, 16, [1.5]), Timed("32", {}, 32, [4.5])]
    assert fastest(settings, 0.1).name == "16"


def test_what_is_pasted_takes_the_place_of_what_was_typed() -> None:
    bf16 = Timed("bf16", {"precision": "bf16", "memory_format": "channels_last"}, 8, [1.0])
    threads = Timed("3", {"OMP_NUM_THREADS": str(torch.get_num_threads() + 2)}, 8, [1.0])
    larger = Timed("16", {"data.batch_size": "16"}, 16, [1.0])
    groups = [Group("", [bf16], bf16), Group("", [threads], threads), Group("", [larger], larger, True)]
    assert pasted(groups, ["seed=1", "precision=fp32", "data.table=a b.csv", "data.batch_size=8"]) == (
        f"OMP_NUM_THREADS={torch.get_num_threads() + 2} python -m trainer seed=1 'data.table=a b.csv' "
        "data.batch_size=8 precision=bf16 memory_format=channels_last"
    )


def test_the_peak_of_memory_is_that_since_it_was_forgotten() -> None:
    if peak_bytes(CPU) is None:
        pytest.skip("the system does not tell of peaks")
    size = 200 * 2**20
    forget_peak(CPU)
    before = peak_bytes(CPU)
    held = torch.ones(size // 4)
    with_it = peak_bytes(CPU)
    del held
    forget_peak(CPU)
    after, room = peak_bytes(CPU), room_bytes(CPU)
    assert before is not None
    assert with_it is not None
    assert after is not None
    assert room is not None
    assert with_it - before == pytest.approx(size, rel=0.05)
    assert with_it - after == pytest.approx(size, rel=0.05)
    assert room > after


MISTAKES = {
    "no time to tune in": ["minutes=0"],
    "a time to tune in that is no number": ["minutes=soon"],
    "a run to go on with, tuned": ["resume=outputs/a"],
    "several settings, tuned": ["-m", "seed=1,2"],
    "a folder with other files, for a tuning": ["hydra.run.dir=here"],
    "data that are not there, tuned": ["data=csv", "data.table=absent.csv"],
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_as_promised_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "notes.txt").touch()
    check_promise(name, run_main(*MISTAKES[name], folder=tmp_path, program="trainer.tune"))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["notes.txt"]
