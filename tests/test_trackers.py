"""Trackers hold what the CSVs hold, each row once, however a run came to its end; and none of them ends a run."""

import csv
import json
import logging
import shutil
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, compose, run_in_process
from faults import Fault, promised, run_main
from mlflow import MlflowClient
from omegaconf import OmegaConf
from served import check_promise
from stopped_runs import StopAt, start_or_resume
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from trainer import load
from trainer.config.changes import check_resumable
from trainer.config.store import read_config, to_train_config
from trainer.run_dir import RunDir
from trainer.stopping import Pruned, Stopped, StopRequest
from trainer.trackers.ending import WITHOUT_IMAGES, read_ending
from trainer.trackers.points import Points
from trainer.trackers.tracking import tracked

RANGE_TEST = (
    "range_test=on", "range_test.phases=[frozen]", "range_test.num_steps=24", "range_test.skip_start=2",
    "range_test.skip_end=2", "scheduler.base_lr=1e-4", "scheduler.max_lr=3e-3", "pictures=true",
)  # fmt: skip
COLUMNS = {
    "loss": "update/loss",
    "grad_norm": "update/grad_norm",
    "momentum": "update/momentum",
    "lr_head": "lr/head",
    "lr_backbone": "lr/backbone",
}
Series = dict[str, list[tuple[int, float]]]  # by name: update and value


@pytest.fixture(autouse=True)
def _away_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the person who runs the tests is read: no accounts, no settings, no servers."""
    for variable in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR", "MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def expected(run_dir: RunDir) -> Series:
    """What the CSVs hold, read by csv alone."""
    series: Series = {}
    for row in csv.DictReader(run_dir.lr_history.open()):
        for column, name in COLUMNS.items():
            if row[column]:
                series.setdefault(name, []).append((int(row["iteration"]), float(row[column])))
    for row in csv.DictReader(run_dir.metrics.open()):
        values = {column: text for column, text in row.items() if column not in ("epoch", "phase", "phase_epoch")}
        at = int(values.pop("iteration"))
        named = {f"epoch/{column}": float(text) for column, text in values.items()}
        named |= {"epoch/number": float(row["epoch"]), "epoch/phase": 1.0 if row["phase"] == "frozen" else 2.0}
        for name, value in named.items():
            series.setdefault(name, []).append((at, value))
    return series


class StopAfterUpdate8(StopRequest):
    """In the fine-tune, which began after update 6."""

    def __init__(self, run_dir: RunDir) -> None:
        super().__init__()
        self._metrics = run_dir.metrics
        self._left = 2

    def check(self) -> None:
        if self._metrics.exists() and [row["iteration"] for row in csv.DictReader(self._metrics.open())][-1:] == ["6"]:
            self._left -= 1
        if self._left == 0:
            raise Stopped(signal.SIGTERM, at_once=False)


def stop_lose_the_checkpoint_and_finish(run_dir: RunDir, *settings: str) -> None:
    """A run that is stopped after update 8 and whose newest checkpoint is lost: updates 6 and 7, which its tracker
    knows of, are made again, as after a kill."""
    given = (*TINY, *settings)
    assert not start_or_resume(run_dir.path, *given, request=StopAfterUpdate8(run_dir))
    assert len([*csv.DictReader(run_dir.lr_history.open())]) == 8
    run_dir.last_checkpoint.unlink()
    assert start_or_resume(run_dir.path, *given)


def read_events(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={event_accumulator.SCALARS: 0, event_accumulator.TENSORS: 0})
    events.Reload()
    return events


def scalars_in(folder: Path) -> Series:
    events = read_events(folder)
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
        if not name.startswith("final/")
    }


def assert_single_precision(found: Series, wanted: Series) -> None:
    """TensorBoard keeps 32 bits of a number."""
    assert found.keys() == wanted.keys()
    for name, points in wanted.items():
        assert [step for step, _ in found[name]] == [step for step, _ in points], name
        assert [value for _, value in found[name]] == pytest.approx([value for _, value in points], rel=1e-6), name


def test_tensorboard_holds_each_row_once_after_updates_were_made_again(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "run")
    stop_lose_the_checkpoint_and_finish(run_dir, "tracker=tensorboard", *RANGE_TEST)
    folder = run_dir.path / "tensorboard"
    assert len(list(folder.iterdir())) == 2
    assert_single_precision(scalars_in(folder), expected(run_dir))
    events, results = read_events(folder), json.loads(run_dir.results.read_text())
    (final,) = events.Scalars("final/taken/value")
    assert (final.step, final.value) == (12, pytest.approx(results["taken"]["value"]))
    assert {"config/text_summary", "verdict/text_summary"} <= set(events.Tags()["tensors"])
    assert {"_hparams_/experiment", "_hparams_/session_start_info"} <= events.PluginTagToContent("hparams").keys()
    picture = run_dir.range_test("frozen") / "range_test.png"
    (image,) = events.Images("range_test/frozen/range_test")
    assert (image.width, image.height) == struct.unpack(">II", picture.read_bytes()[16:24])
    assert image.encoded_image_string == picture.read_bytes()


def test_a_tracker_switched_on_for_a_resume_gets_what_was_before_and_a_finished_run_is_left_alone(
    tmp_path: Path,
) -> None:
    run_dir = RunDir(tmp_path / "run")
    assert not start_or_resume(run_dir.path, *TINY, request=StopAt(5))
    assert not (run_dir.path / "tracker.json").exists()
    ended = run_main(f"resume={run_dir.path}", "tracker=tensorboard", folder=tmp_path)
    assert ended.code == 0, ended.err
    assert "resumed with tracker.kind=tensorboard (was csv)" in ended.out
    assert_single_precision(scalars_in(run_dir.path / "tensorboard"), expected(run_dir))
    before = {path: path.read_bytes() for path in run_dir.path.rglob("*") if path.is_file()}
    again = run_main(f"resume={run_dir.path}", folder=tmp_path)
    assert "is finished: nothing was written" in again.out
    assert {path: path.read_bytes() for path in run_dir.path.rglob("*") if path.is_file()} == before


def test_a_run_of_before_there_were_trackers_is_used_and_goes_on(tiny_run: RunDir, tmp_path: Path) -> None:
    run_dir = RunDir(Path(shutil.copytree(tiny_run.path, tmp_path / "run")))
    saved = OmegaConf.load(run_dir.config)
    del saved["tracker"], saved["phases"]["frozen"]["cache"]
    OmegaConf.save(saved, run_dir.config)
    assert load(run_dir.path, device="cpu").landmark_names
    assert "is finished: nothing was written" in run_main(f"resume={run_dir.path}", folder=tmp_path).out
    assert read_config(run_dir.config).phases.frozen.cache.views == 0  # it drew new views in each epoch
    run_dir.last_checkpoint.unlink()
    ended = run_main(f"resume={run_dir.path}", "pictures=false", folder=tmp_path)
    assert (ended.code, "resumed with pictures=False (was True)" in ended.out) == (0, True), ended.err


def test_a_key_that_a_saved_config_lacks_is_told_whole_with_its_file(tiny_run: RunDir, tmp_path: Path) -> None:
    run_dir = RunDir(Path(shutil.copytree(tiny_run.path, tmp_path / "run")))
    saved = OmegaConf.load(run_dir.config)
    del saved["data"]["val_fraction"]
    OmegaConf.save(saved, run_dir.config)
    check_promise("a run of an older trainer", run_main("resume=run", folder=tmp_path))
    with pytest.raises(ValueError, match=r"run/config.yaml is of an older trainer: it lacks data.val_fraction; "):
        load(run_dir.path)


def test_mlflow_holds_each_row_once_in_one_run_with_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    run_dir, given = RunDir(tmp_path / "run"), (*TINY, "tracker=mlflow", "tracker.run_name=mine")
    caplog.set_level(logging.INFO)
    assert not start_or_resume(run_dir.path, *given, request=StopAfterUpdate8(run_dir))
    assert len([*csv.DictReader(run_dir.lr_history.open())]) == 8
    client = MlflowClient(tracking_uri=str(tmp_path / "mlruns"))
    run_id = json.loads((run_dir.path / "tracker.json").read_text())["mlflow"]["run_id"]
    assert client.get_run(run_id).info.status == "KILLED"
    run_dir.last_checkpoint.unlink()
    assert start_or_resume(run_dir.path, *given, "data.cache_gb=0")
    (run,) = client.search_runs([client.get_experiment_by_name("trainer").experiment_id])
    assert (run.info.run_id, run.info.run_name, run.info.status) == (run_id, "mine", "FINISHED")
    wanted = expected(run_dir)
    for name, points in wanted.items():
        if name != "epoch/seconds":  # of epochs that were made again, those of the first time stay
            history = client.get_metric_history(run_id, name)
            assert [(metric.step, metric.value) for metric in history] == points, name
    assert {name for name in run.data.metrics if not name.startswith("final/")} == set(wanted)
    results = json.loads(run_dir.results.read_text())
    assert run.data.metrics["final/taken/value"] == results["taken"]["value"]
    assert run.data.tags["verdict"] == results["verdict"]
    assert run.data.params["data.batch_size"] == "4"
    assert (run.data.params["data.cache_gb"], run.data.tags["resumed.data.cache_gb"]) == ("1.0", "0.0")
    assert "failed" not in caplog.text


def test_mlflow_takes_an_experiment_that_another_job_has_just_made_and_a_pruned_run_is_killed(
    tiny_run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uri, run_dir = str(tmp_path / "mlruns"), RunDir(Path(shutil.copytree(tiny_run.path, tmp_path / "run")))
    config = to_train_config(compose("tracker=mlflow", f"tracker.tracking_uri={uri}")).tracker
    asks, asked = MlflowClient.get_experiment_by_name, []

    def made_after_the_first_look(client: MlflowClient, name: str) -> Any:
        asked.append(name)
        if len(asked) > 1:
            return asks(client, name)
        client.create_experiment(name)
        return None

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", made_after_the_first_look)
    with pytest.raises(Pruned), tracked(config, run_dir, 12):
        raise Pruned(1, 0.5)
    assert not caplog.records
    run_id = json.loads((run_dir.path / "tracker.json").read_text())["mlflow"]["run_id"]
    assert MlflowClient(tracking_uri=uri).get_run(run_id).info.status == "KILLED"


def wandb_records(file: Path) -> Iterator[Record]:
    """The records of an offline run. The file is a log as LevelDB's doc/log_format.md describes it, after 7 bytes of
    wandb's own: blocks of 32768 bytes, in which a fragment has a checksum, a length and a kind."""
    content, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", content[at : at + 7])
        if kind == 0:
            return
        whole = (b"" if kind in (1, 2) else whole) + content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield Record.FromString(whole)


def test_wandb_holds_each_row_once_in_files_of_one_run(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "run")
    stop_lose_the_checkpoint_and_finish(run_dir, "tracker=wandb", *RANGE_TEST)
    parts = sorted(run_dir.path.glob("wandb/offline-run-*/*.wandb"))
    known = json.loads((run_dir.path / "tracker.json").read_text())["wandb"]
    assert [part.name for part in parts] == [f"run-{known['id']}.wandb"] * 2
    records = [record for part in parts for record in wandb_records(part)]
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [143, 0]
    rows: list[dict[str, Any]] = [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    assert [row["_step"] for row in rows] == list(range(12 + 4 + 1))  # updates, epochs, and the pictures at the end
    found: Series = {}
    for row in rows[:-1]:
        for name, value in row.items():
            if name.startswith(("update/", "lr/", "epoch/")) and name != "epoch/seconds":
                found.setdefault(name, []).append((row["iteration"], value))
    wanted = expected(run_dir)
    del wanted["epoch/seconds"]
    assert found == wanted
    picture = run_dir.range_test("frozen") / "range_test.png"
    assert picture.read_bytes() in [kept.read_bytes() for kept in parts[1].parent.rglob("media/**/*.png")]


def closed_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow", "wandb"])
def test_a_tracker_that_fails_is_told_once_and_the_run_ends_as_it_would(
    tracker: str, tiny_run: RunDir, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_dir, settings = RunDir(tmp_path / "run"), [f"tracker={tracker}"]
    run_dir.path.mkdir()
    if tracker == "mlflow":
        settings.append(f"tracker.tracking_uri=http://127.0.0.1:{closed_port()}")
    else:
        (run_dir.path / tracker).write_text("a file, where the tracker makes its folder")
        (run_dir.path / "tracker.json").write_text("{" if tracker == "wandb" else "{}")
    value = run_in_process(run_dir.path, *settings)
    assert value == json.loads(tiny_run.results.read_text())["taken"]["value"]
    told = [record.getMessage() for record in caplog.records if record.name.startswith("trainer.trackers")]
    assert len(told) == 1, told
    assert told[0].startswith(f"tracker {tracker} failed (")
    assert told[0].endswith("the run goes on without it; lr_history.csv and metrics.csv are complete")
    assert run_dir.lr_history.read_bytes() == tiny_run.lr_history.read_bytes()


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("a tracker that is not installed", ["tracker=mlflow"]),
        ("a mode that wandb does not have", ["tracker=wandb", "tracker.mode=dryrun"]),
        ("wandb online without an account", ["tracker=wandb", "tracker.mode=online"]),
        ("a key of another tracker", ["tracker=tensorboard", "tracker.project=teeth"]),
    ],
)
def test_what_can_be_known_before_the_run_is_refused(
    name: str, given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "a tracker that is not installed":
        monkeypatch.setitem(sys.modules, "mlflow", None)  # how Python itself marks what can't be imported
    folder = tmp_path / "here"
    (folder / "mlflow").mkdir(parents=True)  # no package, but Python would take it for one
    Fault(name, *promised()[name], lambda _: given).check(folder)
    assert not list(folder.rglob("config.yaml"))


def test_pictures_that_show_images_are_sent_only_where_that_was_asked_for(tiny_run: RunDir) -> None:
    drawn = {f"plots/{path.stem}" for path in tiny_run.plots.glob("*.png")}
    assert "plots/overlays_worst" in drawn
    assert read_ending(tiny_run, "finished", 0, 12, images=True).pictures.keys() == drawn
    without = read_ending(tiny_run, "finished", 0, 12, images=False).pictures
    assert without.keys() == drawn & {f"plots/{name}" for name in WITHOUT_IMAGES}
    assert not any("overlays" in name for name in without)
    assert read_ending(tiny_run, "stopped", 143, 12, images=True).pictures == {}


def test_points_come_in_the_order_of_the_run_while_the_files_grow(tiny_run: RunDir, tmp_path: Path) -> None:
    """However the bytes of the two files arrive, torn rows and epochs ahead of their updates among them."""
    whole = Points(tiny_run).read()
    assert [point.position for point in whole] == list(range(16))
    assert [(point.iteration, point.ends_epoch) for point in whole[2:5]] == [(2, False), (3, True), (3, False)]
    growing = RunDir(tmp_path)
    shutil.copy(tiny_run.metrics, growing.metrics)  # all epochs, before any update
    content = tiny_run.lr_history.read_bytes()
    points, found = Points(growing), []
    for end in range(0, len(content) + 97, 97):
        growing.lr_history.write_bytes(content[:end])
        found += points.read()
    assert found == whole


def test_all_of_the_tracker_may_change_when_a_run_goes_on() -> None:
    saved, asked = compose("tracker=mlflow"), compose("tracker=wandb", "tracker.project=teeth")
    assert set(check_resumable(saved, asked)) >= {"tracker.kind", "tracker.experiment", "tracker.project"}
