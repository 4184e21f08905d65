"""profile=true: every second of a run belongs to one part, in results.json and in the report."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import test_own_parts
import torch
from conftest import TINY, compose, run_in_process
from stopped_runs import StopAt, start_or_resume

from trainer import OwnData, Sample, checkpoint, part
from trainer.config.store import to_train_config
from trainer.profile import PARTS, Stopwatch, summed_up
from trainer.run_dir import RunDir
from trainer.train import train

OF_UPDATES = ("data wait", "forward", "backward", "optimizer")


def profile_of(path: Path) -> dict[str, Any]:
    profile: dict[str, Any] = json.loads(RunDir(path).results.read_text())["profile"]
    return profile


def check_sums(profile: dict[str, Any]) -> None:
    """Parts add up to phases, phases and parts to the whole; shares to 1."""
    assert tuple(profile["parts"]) == PARTS
    for whole in (profile, *profile["phases"].values()):
        assert sum(spent["seconds"] for spent in whole["parts"].values()) == pytest.approx(whole["seconds"])
        assert sum(spent["share"] for spent in whole["parts"].values()) == pytest.approx(1)
    assert sum(phase["seconds"] for phase in profile["phases"].values()) == pytest.approx(profile["seconds"])
    assert all(spent["seconds"] >= 0 for spent in profile["parts"].values())


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A whole run with range tests and kept features, and the seconds from its start to its results.json."""
    path = tmp_path_factory.mktemp("runs") / "measured"
    run_in_process(path.with_name("plain"), *ASKED)  # so that nothing is imported in the other
    given = [*TINY, "profile=true", *ASKED]
    composed = compose(*given)
    config = to_train_config(composed)
    begun = time.time()
    train(config, RunDir(path), composed, given)
    return path, RunDir(path).results.stat().st_mtime - begun


ASKED = (
    "phases.frozen.cache.views=1", "range_test=on", "range_test.num_steps=24", "range_test.skip_start=2",
    "range_test.skip_end=2", "scheduler.base_lr=1e-4", "scheduler.max_lr=3e-3",
)  # fmt: skip


def test_parts_and_phases_add_up_to_the_time_of_the_run(measured: tuple[Path, float]) -> None:
    path, seconds = measured
    profile = profile_of(path)
    check_sums(profile)
    assert profile["seconds"] == pytest.approx(seconds, rel=0.01, abs=0.05)
    assert list(profile["phases"]) == ["start-up", "frozen", "finetune", "after training"]
    assert profile["since_update"] == 0


def test_every_part_is_told_where_it_happens(measured: tuple[Path, float]) -> None:
    phases = profile_of(measured[0])["phases"]
    happened = {
        name: {part for part, spent in phase["parts"].items() if spent["seconds"]} for name, phase in phases.items()
    }
    assert happened["start-up"] == {"start-up"}
    assert happened["finetune"] == {"range test", *OF_UPDATES, "evaluation", "checkpoint", "other"}
    assert happened["frozen"] == happened["finetune"] | {"features"}
    assert happened["after training"] == {"evaluation", "plots", "other"}


def test_the_report_shows_every_part(measured: tuple[Path, float]) -> None:
    page = RunDir(measured[0]).report.read_text()
    table = page[page.index("Where the time went") :].split("</table>")[0]
    for name in PARTS:
        assert f"<th>{name}</th>" in table
    assert "made the run slower" not in page  # there is no device to wait for


def test_measuring_changes_no_number_and_without_it_nothing_is_written(measured: tuple[Path, float]) -> None:
    path = measured[0]
    plain = path.with_name("plain")
    assert (path / "lr_history.csv").read_bytes() == (plain / "lr_history.csv").read_bytes()
    assert "profile" not in json.loads(RunDir(plain).results.read_text())
    assert "Where the time went" not in RunDir(plain).report.read_text()
    saved = checkpoint.load(RunDir(plain))
    assert saved is not None
    assert "profile" not in saved


def test_a_resumed_run_adds_up_over_its_parts(tmp_path: Path) -> None:
    assert not start_or_resume(tmp_path / "run", *TINY, "profile=true", request=StopAt(5))
    saved = checkpoint.load(RunDir(tmp_path / "run"))
    assert saved is not None
    before = saved["profile"]["seconds"]
    assert start_or_resume(tmp_path / "run", *TINY, "profile=true")
    profile = profile_of(tmp_path / "run")
    check_sums(profile)
    assert profile["since_update"] == 0
    for phase, parts in before.items():
        for name, seconds in parts.items():
            assert profile["phases"][phase]["parts"][name]["seconds"] >= seconds
    assert profile["phases"]["start-up"]["seconds"] > sum(before["start-up"].values())  # there were two


def test_measuring_that_begins_with_a_resume_says_so(tmp_path: Path) -> None:
    assert not start_or_resume(tmp_path / "run", *TINY, request=StopAt(2))
    assert start_or_resume(tmp_path / "run", *TINY, "profile=true")
    profile = profile_of(tmp_path / "run")
    assert profile["since_update"] == 2
    assert "from update 2 on: what came before was not measured" in RunDir(tmp_path / "run").report.read_text()
    check_sums(profile)


def test_range_tests_alone_are_measured_too(tmp_path: Path) -> None:
    run_in_process(tmp_path, "profile=true", *ASKED[1:5], "range_test=only", "phases.frozen.cache.views=0")
    profile = profile_of(tmp_path)
    check_sums(profile)
    assert profile["parts"]["range test"]["share"] > 0.1
    assert profile["parts"]["forward"]["seconds"] == 0  # those of the range test are the range test's
    assert "Where the time went" in RunDir(tmp_path).report.read_text()


def test_a_data_set_that_is_slow_to_read_shows_as_data_wait(tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    cv2.imwrite(str(file), np.random.default_rng(0).integers(0, 255, (128, 128), dtype=np.uint8))

    @part(data="slow")
    class Slow(OwnData):
        def read_samples(self) -> Any:
            for number in range(8):
                points = {"a": [10.0 + number, 20.0], "b": [90.0, 70.0 + number]}
                yield Sample(name=str(number), image=partial(read_often, file), points=points, pixel_spacing_mm=0.1)

    settings = [text for text in TINY if not text.startswith(("data.num", "data.height", "data.width"))]
    try:
        run_in_process(tmp_path / "run", "data=slow", "data.cache_gb=0", "profile=true", tiny=tuple(settings))
    finally:
        test_own_parts.forget_parts()
    parts = profile_of(tmp_path / "run")["parts"]
    assert parts["data wait"]["seconds"] > sum(parts[name]["seconds"] for name in OF_UPDATES[1:])


def read_often(file: Path) -> np.ndarray:
    for _ in range(300):
        image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    return image


def test_time_within_a_part_is_not_that_of_the_part_around_it() -> None:
    begun = time.perf_counter()
    watch = Stopwatch(begun=begun)
    watch.enter("frozen")
    with watch.part("data wait"):
        between = [time.perf_counter()]
        with watch.part("features"):
            torch.ones(300, 300) @ torch.ones(300, 300)
        between.append(time.perf_counter())
    found = watch.told()["profile"]
    ended = time.perf_counter()
    check_sums(found)
    assert found["seconds"] <= ended - begun
    assert 0 < found["parts"]["features"]["seconds"] <= between[1] - between[0]
    assert found["parts"]["data wait"]["seconds"] <= ended - begun - found["parts"]["features"]["seconds"]


def test_a_fault_in_a_part_ends_the_part() -> None:
    watch = Stopwatch(begun=time.perf_counter())
    watch.enter("frozen")
    with pytest.raises(OSError, match="gone"), watch.part("data wait"):
        raise OSError("gone")
    before = watch.told()["profile"]["parts"]["data wait"]["seconds"]
    assert watch.told()["profile"]["parts"]["data wait"]["seconds"] == before


def test_the_device_is_waited_for_at_each_border() -> None:
    waited: list[float] = []
    watch = Stopwatch(begun=time.perf_counter(), wait=lambda: waited.append(time.perf_counter()))
    watch.enter("frozen")
    with watch.part("forward"):
        pass
    assert len(waited) == 3
    assert watch.told()["profile"]["waits_for_device"]


def test_the_line_in_the_log_has_the_largest_part_first() -> None:
    watch = Stopwatch(begun=0.0, seconds={"frozen": {"forward": 1e12, "backward": 3e12}})
    line = summed_up(watch.told()["profile"])
    assert line.startswith("backward 75.0 %, forward 25.0 %")
