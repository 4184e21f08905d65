"""A run that was killed goes on as if nothing had happened."""

import json
import shutil
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import TINY, compose, run_command, run_in_process, start_command
from safetensors.torch import load_file

from trainer import checkpoint
from trainer.config.store import to_train_config
from trainer.run_dir import RunDir
from trainer.train import train

# Augmentation, dropout, moving average, accumulation: all that draws random numbers or spans updates.
SETTINGS = (*TINY, "model.dropout=0.2", "ema_decay=0.9", "data.batch_size=2", "accumulation=2")


def run_of(folder: Path) -> RunDir:
    return RunDir(next((folder / "outputs").glob("*/*")))


def wait_for_updates(folder: Path, count: int) -> RunDir:
    """Until the run below `folder` has written down `count` updates."""
    for _ in range(6000):
        for history in folder.glob("outputs/*/*/lr_history.csv"):
            if len(history.read_text().splitlines()) > count:
                return RunDir(history.parent)
        time.sleep(0.01)
    raise AssertionError("the run made no updates")


def assert_same_run(one: RunDir, other: RunDir) -> None:
    assert one.lr_history.read_bytes() == other.lr_history.read_bytes()
    first, second = pd.read_csv(one.metrics), pd.read_csv(other.metrics)
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), second.drop(columns="seconds"), check_exact=True)
    assert one.predictions.read_bytes() == other.predictions.read_bytes()
    best, expected = load_file(one.best_weights), load_file(other.best_weights)
    assert best.keys() == expected.keys()
    assert all(best[key].equal(expected[key]) for key in best)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    path = tmp_path_factory.mktemp("whole") / "run"
    run_in_process(path, *SETTINGS)
    return RunDir(path)


@pytest.mark.parametrize(("updates", "workers"), [(4, 0), (10, 2)])  # in the frozen phase, in the fine-tune
def test_resume_after_kill_equals_uninterrupted_run(
    updates: int, workers: int, uninterrupted: RunDir, tmp_path: Path
) -> None:
    process = start_command(*SETTINGS, f"data.workers={workers}", folder=tmp_path)
    killed = wait_for_updates(tmp_path, updates)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not killed.results.exists()
    ended = run_command(f"resume={killed.path}", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert_same_run(killed, uninterrupted)


def resume(path: Path, *overrides: str, started_with: tuple[str, ...] = ()) -> float:
    composed = compose(*TINY, *started_with, *overrides, f"resume={path}")
    return train(to_train_config(composed), RunDir(path), composed, list(overrides))


def test_a_finished_run_that_is_resumed_changes_nothing(tiny_run: RunDir, tmp_path: Path) -> None:
    copied = RunDir(tmp_path / "copy")
    shutil.copytree(tiny_run.path, copied.path)
    before = {path: path.read_bytes() for path in copied.path.rglob("*") if path.is_file() and path != copied.config}
    resume(copied.path)
    assert {path: path.read_bytes() for path in before} == before


def test_more_epochs_of_a_schedule_that_permits_it_equal_a_longer_run(tmp_path: Path) -> None:
    constant = ("scheduler=constant", *TINY[:-2], "device=cpu")
    for name, epochs in (("long", 3), ("short", 2)):
        composed = compose(*constant, f"phases.finetune.epochs={epochs}")
        train(to_train_config(composed), RunDir(tmp_path / name), composed, [])
    composed = compose(*constant, "phases.finetune.epochs=3", f"resume={tmp_path / 'short'}")
    train(to_train_config(composed), RunDir(tmp_path / "short"), composed, [])
    assert_same_run(RunDir(tmp_path / "short"), RunDir(tmp_path / "long"))


def test_more_epochs_under_a_fitted_cycle_are_refused_by_name(tiny_run: RunDir, tmp_path: Path) -> None:
    shutil.copytree(tiny_run.path, tmp_path / "copy")
    with pytest.raises(ValueError, match=r"phases\.finetune\.epochs: 6 updates were made under a schedule"):
        resume(tmp_path / "copy", "phases.finetune.epochs=5")


def test_a_refused_resume_leaves_the_run_as_it_was(tiny_run: RunDir, tmp_path: Path) -> None:
    copied = RunDir(tmp_path / "copy")
    shutil.copytree(tiny_run.path, copied.path)
    before = copied.config.read_bytes()
    with pytest.raises(ValueError, match="can be extended"):
        resume(copied.path, "phases.finetune.epochs=5")
    assert copied.config.read_bytes() == before
    resume(copied.path)


def test_what_one_resume_changed_holds_for_the_next(tmp_path: Path) -> None:
    tiny = [text for text in TINY if not text.startswith("scheduler.")]
    first = run_command("scheduler=constant", *tiny, "phases=finetune_only", "phases.frozen.epochs=0", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    path = run_of(tmp_path).path
    for override in ("phases.finetune.epochs=3", "data.cache_gb=0"):
        ended = run_command(f"resume={path}", override, folder=tmp_path)
        assert ended.returncode == 0, ended.stderr
    assert len(run_of(tmp_path).lr_history.read_text().splitlines()) == 1 + 3 * 3
    assert compose(*run_of(tmp_path).read_environment()["overrides"]).phases.finetune.epochs == 3


def test_other_epochs_under_a_budget_are_refused(tmp_path: Path) -> None:
    run_in_process(tmp_path / "run", "max_steps=8")
    with pytest.raises(ValueError, match="under max_steps or max_minutes"):
        resume(tmp_path / "run", "phases.finetune.epochs=9", started_with=("max_steps=8",))


def test_a_broken_newest_checkpoint_falls_back_to_the_one_before_it(
    tiny_run: RunDir, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copied = RunDir(tmp_path / "copy")
    shutil.copytree(tiny_run.path, copied.path)
    whole = copied.last_checkpoint.read_bytes()
    copied.last_checkpoint.write_bytes(whole[: len(whole) // 2])
    resume(copied.path)
    assert "last.pt" in caplog.text
    assert_same_run(copied, tiny_run)


def test_no_readable_checkpoint_is_a_clear_error(tiny_run: RunDir, tmp_path: Path) -> None:
    copied = RunDir(tmp_path / "copy")
    shutil.copytree(tiny_run.path, copied.path)
    copied.last_checkpoint.write_bytes(b"")
    copied.previous_checkpoint.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"no checkpoint of .* can be read"):
        checkpoint.load(copied)


def test_a_checkpoint_with_code_in_it_is_not_run(tiny_run: RunDir, tmp_path: Path) -> None:
    import pickle

    target = tmp_path / "run by the pickle"

    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (target,)

    copied = RunDir(tmp_path / "copy")
    shutil.copytree(tiny_run.path, copied.path)
    for path in (copied.last_checkpoint, copied.previous_checkpoint):
        path.write_bytes(pickle.dumps({"model": Malicious()}))
    with pytest.raises(ValueError, match="can be read"):
        checkpoint.load(copied)
    assert not target.exists()


def test_resume_under_other_data_names_the_key_and_leaves_the_run_alone(tiny_run: RunDir, tmp_path: Path) -> None:
    copied = RunDir(tmp_path / "copy")
    shutil.copytree(tiny_run.path, copied.path)
    before = copied.config.read_bytes()
    ended = run_command(f"resume={copied.path}", "data.split_seed=3", folder=tmp_path)
    assert ended.returncode == 2
    assert "data.split_seed: was 0, now 3" in ended.stderr
    assert copied.config.read_bytes() == before


def test_the_results_hold_what_a_sweep_or_a_person_asks_for(tiny_run: RunDir) -> None:
    results = json.loads(tiny_run.results.read_text())
    assert results["learning_rates"]["frozen"]["updates"] == 6
    assert results["learning_rates"]["frozen"]["backbone_max"] is None
    assert results["config"]["phases"]["frozen"]["epochs"] == 2
    seconds = pd.read_csv(tiny_run.metrics).groupby("phase")["seconds"].sum()
    assert results["seconds_per_phase"] == pytest.approx(seconds.to_dict(), abs=0.01)
    assert {"torch", "timm"} <= set(results["environment"]["versions"])
    assert set(results["phases"]) == {"frozen", "finetune"}
