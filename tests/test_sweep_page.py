"""compare.html of a sweep: the answer if there is one, every job and what to type next, whatever became of the jobs."""

import html
import json
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from test_compare import make_run, make_sweep

from trainer.comparison.compare import sum_up_sweep
from trainer.study.settings import SWEEPER
from trainer.sweep import FINISHED, JobRecord

GRID = "hydra_plugins.trainer.GridSweeper"
FOLDER = "/a folder"
TYPED = ["scheduler=clr,constant", "seed=1,2,3"]


STARTED = ["hydra.mode=MULTIRUN", "hydra.sweep.dir=there", "hydra/launcher=joblib", "hydra.sweeper.n_trials=7"]


def noted(sweep: Path, sweeper: str = GRID, **states: dict[str, object]) -> Path:
    """What a sweep writes besides its runs: the command, and the state of each job; jobs not named are finished."""
    typed = {"overrides": {"hydra": STARTED, "task": TYPED}, "runtime": {"cwd": FOLDER}}
    record = {"hydra": {**typed, "sweeper": {"_target_": sweeper}}}
    OmegaConf.save(OmegaConf.create(record), sweep / "multirun.yaml")
    for folder in sorted(path for path in sweep.iterdir() if path.is_dir()):
        state = states.get(folder.name, {"state": FINISHED, "value": 1.0})
        JobRecord(folder).path.write_text(json.dumps({"overrides": [f"seed={folder.name[-1]}", "a=b"], **state}))
    return sweep


def page_of(sweep: Path) -> str:
    return html.unescape((sweep / "compare.html").read_text(encoding="utf-8"))


def commands_of(page: str) -> list[str]:
    return re.findall(r'<pre class="command">(.*?)</pre>', page, re.DOTALL)


def test_settings_that_chance_may_have_ordered_are_to_be_run_with_more_seeds(tmp_path: Path) -> None:
    values = {"clr": (1.9, 2.0, 2.25), "1e-3": (2.05, 2.1, 2.2)}
    sum_up_sweep(noted(make_sweep(tmp_path, values)))
    page = page_of(tmp_path)
    assert "scheduler=clr is best" in page
    more, best, again, compared = commands_of(page)
    started = (
        "cd '/a folder'\npython -m trainer -m hydra/launcher=joblib hydra.sweeper.n_trials=7 scheduler=clr,constant"
    )
    assert more == f"{started} seed=1,2,3,4,5"
    assert best == f"python -m trainer.predict run={tmp_path / 'clr_1'} images=FOLDER"
    assert again == f"{started} seed=1,2,3"
    assert compared == f"python -m trainer.compare runs={tmp_path}"


def test_no_more_seeds_are_proposed_to_a_study_which_would_search_them(tmp_path: Path) -> None:
    values = {"clr": (1.9, 2.0, 2.25), "1e-3": (2.05, 2.1, 2.2)}
    sum_up_sweep(noted(make_sweep(tmp_path, values), sweeper=SWEEPER))
    assert "seed=1,2,3,4,5" not in page_of(tmp_path)


def test_jobs_that_failed_were_cut_or_given_up_are_told_and_can_be_run_again(tmp_path: Path) -> None:
    make_sweep(tmp_path, {"clr": (1.9, 2.0, 2.2, 2.1), "1e-3": (2.5, 2.6)})
    states: dict[str, dict[str, object]] = {
        "clr_2": {"state": "failed", "reason": "no <such> file", "exit_code": 3},
        "clr_3": {"state": "begun"},
        "clr_4": {"state": "pruned"},
    }
    sum_up_sweep(noted(tmp_path, **states))
    page = page_of(tmp_path)
    assert commands_of(page)[0] == (
        "cd '/a folder'\npython -m trainer -m hydra.sweep.dir=there hydra/launcher=joblib hydra.sweeper.n_trials=7 "
        "scheduler=clr,constant seed=1,2,3 sweep.resume=true"
    )
    for told in ("clr_2: failed: no <such> file", "clr_3: not finished", "clr_4: pruned"):
        assert told in page
    assert "no &lt;such&gt; file" in (tmp_path / "compare.html").read_text(encoding="utf-8")


def test_a_sweep_without_a_finished_job_ends_with_a_page_too(tmp_path: Path) -> None:
    make_run(tmp_path / "0_clr", None)
    noted(tmp_path, **{"0_clr": {"state": "failed", "reason": "the disk is full", "exit_code": 4}})
    sum_up_sweep(tmp_path)
    page = page_of(tmp_path)
    assert "No job has finished yet" in page
    assert "jobs: 1 failed" in page
    assert "failed: the disk is full" in page


def test_jobs_that_can_not_be_compared_are_listed_with_the_reason(tmp_path: Path) -> None:
    make_run(tmp_path / "clr_1", 2.0)
    make_run(tmp_path / "clr_2", 2.0, images=("image,split,target", "z.png,val,1"))
    noted(tmp_path)
    with pytest.raises(ValueError, match="judged on different images"):
        sum_up_sweep(tmp_path)
    page = page_of(tmp_path)
    assert "The jobs can't be compared" in page
    assert "judged on different images" in page
    assert "2 finished" in page


def test_rates_that_were_used_and_found_are_told_by_phase(tmp_path: Path) -> None:
    run = make_run(tmp_path / "clr_1", 2.0)
    results = json.loads((run / "results.json").read_text())
    results["learning_rates"] = {"finetune": {"head_min": 1e-4, "head_max": 3e-3}}
    results["range_test"] = {"finetune": {"suggestion": 7e-4, "bounds": {"base_lr": 1e-4, "max_lr": 3e-3}}}
    (run / "results.json").write_text(json.dumps(results))
    sum_up_sweep(noted(tmp_path))
    row = re.search(r"<td>finetune</td>(.*)</tr>", page_of(tmp_path))
    assert row is not None
    assert re.findall(r"<td>(.*?)</td>", row[1]) == ["0.0001 … 0.003", "0.0007", "0.0001", "0.003"]
