"""Studies: searched spaces, pruned runs, cut and failed trials, and what is refused."""

import re
import shlex
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml
from conftest import TINY, TINY_LABELS, compose, start_command
from faults import Ended, Fault, promised, run_main
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from test_sweep import SHORT, content, job_of, listed, outcome_of, sweep_of, wait_for_updates

from benchmarks.killed_runs import differences
from trainer.command_line import SCRIPT
from trainer.config.label_tasks import ClassificationTaskConfig
from trainer.config.store import to_train_config
from trainer.exit_codes import exit_code
from trainer.run_dir import RunDir
from trainer.stopping import Pruned, StopRequest
from trainer.study.pruning import TrialPruning
from trainer.study.settings import StudySettings, direction_of
from trainer.study.space import Space, read_space
from trainer.study.storage import (
    JOURNAL,
    build_pruner,
    build_sampler,
    create_study,
    open_study,
    open_trial,
    read_trials,
)
from trainer.study.summary import command_of
from trainer.sweep import FAILED, FINISHED, PRUNED, sweep_command
from trainer.sweep_jobs import Job
from trainer.train import train

DOCS = Path(__file__).parents[1] / "docs" / "optuna.md"
RATE = "scheduler.max_lr=tag(log,interval(1e-4,1e-1))"
STUDY = (
    "-m",
    "hydra/sweeper=optuna",
    "scheduler=onecycle",
    "checkpoint.every_steps=1",
    *SHORT,
    "phases.finetune.epochs=2",
)
EAGER = ("hydra.sweeper.pruner_startup_trials=1", "hydra.sweeper.pruner_warmup_epochs=0")  # prunes from the second on


def space_of(*overrides: str) -> Space:
    return read_space(OverridesParser.create().parse_overrides(list(overrides)))


def settings_with(**changed: object) -> StudySettings:
    given = compose_sweeper()
    return StudySettings.read({**given, **changed})


def compose_sweeper() -> dict[str, object]:
    page = Path(__file__).parents[1] / "conf" / "hydra" / "sweeper" / "optuna.yaml"
    return dict(yaml.safe_load(page.read_text(encoding="utf-8")))


def trials_of(sweep: Path) -> list[FrozenTrial]:
    return open_study(sweep, optuna.pruners.NopPruner()).trials


def told_of(sweep: Path) -> list[tuple[TrialState, dict[str, object], dict[int, float], float | None]]:
    return [(trial.state, trial.params, trial.intermediate_values, trial.value) for trial in trials_of(sweep)]


def states_of(sweep: Path, count: int) -> list[str]:
    return [outcome_of(sweep, number).state for number in range(count)]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("scheduler=clr,onecycle", CategoricalDistribution(["clr", "onecycle"])),
        ("scheduler=choice(clr,onecycle)", CategoricalDistribution(["clr", "onecycle"])),
        ("data.batch_size=range(4,17,4)", IntDistribution(4, 16, step=4)),
        ("data.batch_size=range(16,3,-4)", IntDistribution(4, 16, step=4)),
        ("data.batch_size=range(5)", IntDistribution(0, 4)),
        ("data.batch_size=tag(log,range(1,65))", IntDistribution(1, 64, log=True)),
        ("model.dropout=range(0,0.5,0.1)", FloatDistribution(0.0, 0.4, step=0.1)),
        ("model.dropout=range(0,1,0.3)", FloatDistribution(0.0, 0.9, step=0.3)),
        ("model.dropout=range(1,0,-0.3)", FloatDistribution(0.1, 1.0, step=0.3)),
        ("model.dropout=interval(0,0.5)", FloatDistribution(0.0, 0.5)),
        ("scheduler.cycles=int(interval(1,6))", IntDistribution(1, 6)),
        (RATE, FloatDistribution(1e-4, 1e-1, log=True)),
    ],
)
def test_an_override_is_searched_as_the_values_that_hydra_makes_of_it(
    typed: str, meant: optuna.distributions.BaseDistribution
) -> None:
    space = space_of("seed=1", typed, "device=cpu")
    key = typed.partition("=")[0]
    assert space.distributions == {key: meant}
    for example in space.examples():
        first, override, last = space.overrides(example)
        assert (first, last) == ("seed=1", "device=cpu")
        assert OverridesParser.create().parse_override(override).value() in (example[key], str(example[key]))


def test_values_are_typed_so_that_hydra_reads_the_same_number() -> None:
    rate, dropout, added = space_of(RATE, "model.dropout=range(0.1,0.5,0.1)", "+x=1,2").dimensions
    value = 1e-4 + 1e-17 / 3
    assert float(rate.override(value).partition("=")[2]) == value
    assert dropout.override(0.1 + 2 * 0.1) == "model.dropout=0.3"
    assert (added.name, added.override("1")) == ("x", "+x=1")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("seed=1", "hydra/sweeper=optuna has nothing to search: "),
        ("seed=shuffle(1,2,3)", "seed=shuffle(1,2,3): the sampler chooses the order; leave out shuffle"),
        ("seed=tag(big,range(3))", "seed=tag(big,range(3)): a study knows no tag big; "),
        ("seed=tag(log,choice(1,2))", "seed=tag(log,choice(1,2)): single values have no logarithm; "),
        ("model.dropout=tag(log,interval(0,1))", "model.dropout=tag(log,interval(0,1)): 0 has no logarithm; "),
        ("model.dropout=interval(1,0)", "model.dropout=interval(1,0): an interval begins below its end"),
        ("model.dropout=interval(0,inf)", "model.dropout=interval(0,inf): an interval begins below its end"),
        ("seed=range(3,3)", "seed=range(3,3) gives no value"),
        ("seed=tag(log,range(1,9,2))", "seed=tag(log,range(1,9,2)): the logarithm of a range takes whole numbers in "),
    ],
)
def test_what_can_not_be_searched_is_told_with_its_key(typed: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(told)}"):
        space_of(typed)


def test_a_space_that_may_not_be_meant_is_advised_on() -> None:
    space = space_of("scheduler.max_lr=interval(1e-4,1e-1)", "seed=1,2")
    decades, seed = space.advice(n_trials=20)
    assert decades.endswith("'scheduler.max_lr=tag(log,interval(0.0001,0.1))'")
    assert "luckiest seed" in seed
    assert space_of(RATE, "model.dropout=interval(0,0.5)").advice(n_trials=20) == []
    assert "6 combinations" in space_of("scheduler=clr,cosine", "accumulation=range(1,4)").advice(n_trials=7)[0]
    assert space_of("scheduler=clr,cosine", "accumulation=range(1,4)").advice(n_trials=6) == []


@pytest.mark.parametrize("pruner", ["median", "hyperband", "none"])
def test_jobs_are_pruned_exactly_as_optuna_prunes_in_one_process(pruner: str, tmp_path: Path) -> None:
    settings = settings_with(pruner=pruner, pruner_startup_trials=2, pruner_warmup_epochs=1, pruner_reduction_factor=2)
    own = {
        "median": optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=2),
        "hyperband": optuna.pruners.HyperbandPruner(min_resource=1, reduction_factor=2),
        "none": optuna.pruners.NopPruner(),
    }[pruner]
    oracle = optuna.create_study(study_name="sweep", pruner=own)
    study = create_study(tmp_path, "minimize")
    decisions = []
    for number in range(12):
        asked, theirs = study.ask(), oracle.ask()
        pruning = TrialPruning(open_trial(open_study(tmp_path, build_pruner(settings)), number))
        for epoch in range(1, 9):
            value = (7 * number % 12) + 8.0 / epoch
            theirs.report(value, epoch)
            decisions.append((pruning.report(epoch, value, "min"), theirs.should_prune()))
            if decisions[-1][0]:
                break
        state = TrialState.PRUNED if decisions[-1][0] else TrialState.COMPLETE
        for one, trial in ((study, asked), (oracle, theirs)):
            one.tell(trial, value if state is TrialState.COMPLETE else None, state=state)
    assert [ours for ours, _ in decisions] == [theirs for _, theirs in decisions]
    assert any(ours for ours, _ in decisions) == (pruner != "none")
    assert [trial.intermediate_values for trial in study.trials] == [one.intermediate_values for one in oracle.trials]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tpe", optuna.samplers.TPESampler),
        ("random", optuna.samplers.RandomSampler),
        ("gp", optuna.samplers.GPSampler),
    ],
)
def test_the_suggestions_of_a_sampler_depend_on_the_seed_and_the_trials_before_alone(
    name: str, kind: type, tmp_path: Path
) -> None:
    settings = settings_with(sampler=name, startup_trials=3, seed=5)
    space = space_of(RATE, "scheduler=clr,onecycle").distributions
    asked = []
    for attempt in ("one", "two"):
        (tmp_path / attempt).mkdir()
        study = create_study(tmp_path / attempt, "minimize")
        for number in range(6):
            if attempt == "two":
                study = open_study(tmp_path / attempt, optuna.pruners.NopPruner())  # as another process would
            study.sampler = build_sampler(settings, number)
            assert isinstance(study.sampler, kind)
            trial = study.ask(space)
            study.tell(trial, trial.params["scheduler.max_lr"])
        asked.append([trial.params for trial in study.trials])
    assert asked[0] == asked[1]
    assert len({tuple(params.items()) for params in asked[0]}) == 6
    other = build_sampler(settings_with(sampler=name, seed=6), 0)
    assert open_trial(study, 0).params != optuna.create_study(sampler=other).ask(space).params


@pytest.mark.parametrize("task", ["landmarks", "classification", "regression"])
@pytest.mark.parametrize("monitor", [None, "val_loss", "other"])
def test_the_direction_is_known_before_training_and_is_that_of_the_task(
    task: str, monitor: str | None, tmp_path: Path
) -> None:
    others = {"landmarks": "sdr_2mm", "classification": "ece", "regression": "r2"}
    asked = others[task] if monitor == "other" else monitor
    tiny = TINY if task == "landmarks" else TINY_LABELS
    chosen = [] if asked is None else [f"task.monitor={asked}"]
    config = to_train_config(compose(f"task={task}", *tiny, *chosen))
    built = config.task.build(config, config.task.build_data(config, tmp_path / "splits.csv"))
    assert direction_of([config], "auto") == f"{built.monitor_mode}imize"
    assert direction_of([config], "maximize") == "maximize"


def test_runs_that_are_judged_by_different_metrics_make_no_study() -> None:
    configs = [to_train_config(compose("task=classification", *TINY_LABELS)), to_train_config(compose(*TINY))]
    with pytest.raises(ValueError, match="a study has one objective, but its runs are judged as task=classification"):
        direction_of(configs, "auto")


@dataclass(kw_only=True)
class Plain(ClassificationTaskConfig):
    kind: str = "plain"


@pytest.mark.parametrize("monitor", [None, "accuracy"])
def test_of_a_task_of_ones_own_the_direction_is_asked_for(monitor: str | None) -> None:
    config = to_train_config(compose("task=classification", *TINY_LABELS))
    config = replace(config, task=Plain(**{**vars(config.task), "kind": "plain", "monitor": monitor}))
    code, message = promised()["a study of a task of one's own without a direction"]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$") as told:
        direction_of([config], "auto")
    assert (exit_code(told.value), direction_of([config], "maximize")) == (code, "maximize")


class PruneAfter:
    """Prunes after an epoch, and keeps what it was told."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.told: list[tuple[int, float, str]] = []

    def report(self, epoch: int, value: float, mode: str) -> bool:
        self.told.append((epoch, value, mode))
        return epoch >= self.last


def run_with(path: Path, pruning: PruneAfter | None, resume: bool = False) -> float:
    composed = compose(*TINY)
    composed.resume = str(path) if resume else None
    request = StopRequest()
    request.pruning = pruning
    return train(to_train_config(composed), RunDir(path), composed, list(TINY), request)


def test_a_pruned_run_is_whole_so_far_and_goes_on_to_what_it_would_have_been(tmp_path: Path) -> None:
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    pruning = PruneAfter(last=3)
    with pytest.raises(Pruned) as pruned:
        run_with(cut, pruning)
    metrics = pd.read_csv(RunDir(cut).metrics)
    assert [(epoch, mode) for epoch, _, mode in pruning.told] == [(1, "min"), (2, "min"), (3, "min")]
    assert [value for _, value, _ in pruning.told] == pytest.approx(list(metrics["mre_mm"]))
    assert pruned.value.value == min(value for _, value, _ in pruning.told)
    assert str(pruned.value) == f"pruned after epoch 3, at {pruned.value.value:.6g}"
    assert RunDir(cut).best_weights.exists()
    assert not RunDir(cut).results.exists()
    run_with(cut, None, resume=True)

    never = PruneAfter(last=4)  # when nothing is left to prune
    run_with(whole, never)
    assert [epoch for epoch, _, _ in never.told] == [1, 2, 3, 4]
    assert differences(RunDir(cut), RunDir(whole)) == []


def test_a_study_killed_in_a_trial_goes_on_and_equals_an_uncut_one(tmp_path: Path) -> None:
    settings = (*STUDY, RATE, "seed=1", *EAGER, "hydra.sweeper.n_trials=4", "hydra.sweeper.startup_trials=2")
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    cut.mkdir(), whole.mkdir()
    process = start_command(*settings, folder=cut)
    wait_for_updates("multirun/*/*", 1, 1, cut)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (killed,) = [trial for trial in trials_of(sweep_of(cut)) if not trial.state.is_finished()]
    assert killed.number == 1
    with (sweep_of(cut) / JOURNAL).open("a") as journal:
        journal.write('{"op_code":')  # a line that the kill cut
    before = content(job_of(sweep_of(cut), 0).path)

    resumed = run_main(*settings, "sweep.resume=true", folder=cut)
    uncut = run_main(*settings, folder=whole)
    assert (resumed.code, uncut.code) == (0, 0), resumed.err + uncut.err
    assert content(job_of(sweep_of(cut), 0).path) == before
    assert told_of(sweep_of(cut)) == told_of(sweep_of(whole))
    assert listed(resumed)[:4] == listed(uncut)[:4]
    check_whole_study(uncut, sweep_of(whole))
    check_more_trials(settings, whole)


def check_whole_study(ended: Ended, sweep: Path) -> None:
    """What an ended study tells and leaves."""
    trials = trials_of(sweep)
    states = states_of(sweep, 4)
    assert states[0] == FINISHED
    assert PRUNED in states
    assert [state is TrialState.PRUNED for state, *_ in told_of(sweep)] == [state == PRUNED for state in states]
    for number, trial in enumerate(trials):
        job, outcome = job_of(sweep, number), outcome_of(sweep, number)
        epochs = pd.read_csv(job.metrics)["mre_mm"]
        assert list(trial.intermediate_values.values()) == pytest.approx(list(epochs))
        assert outcome.value == pytest.approx(epochs.min())
        assert job.last_checkpoint.exists()
        assert job.best_weights.exists()
        assert job.results.exists() == (outcome.state == FINISHED)
        if outcome.state == PRUNED:
            assert f"{job.path.name} is pruned after epoch 1, at {outcome.value:.6g}; its weights" in ended.out
            assert "is pruned after epoch 1" in (job.path / "train.log").read_text()
    table = pd.read_csv(sweep / "sweep.csv")
    assert list(table["status"]) == states
    assert list(table["scheduler.max_lr"]) == pytest.approx([trial.params["scheduler.max_lr"] for trial in trials])
    assert list(table["value"]) == pytest.approx([outcome_of(sweep, number).value for number in range(4)])

    results = yaml.safe_load((sweep / "optimization_results.yaml").read_text())
    finished = {number: outcome_of(sweep, number).value for number in range(4) if states[number] == FINISHED}
    best = min(finished, key=lambda number: finished[number] or 0.0)
    assert (results["best_trial"], results["best_value"]) == (best, finished[best])
    assert results["trials"] == {"finished": states.count(FINISHED), "pruned": states.count(PRUNED), "failed": 0}
    assert shlex.split(results["command"])[:3] == ["python", "-m", "trainer"]
    assert shlex.split(results["command"])[3:] == outcome_of(sweep, best).overrides
    assert ended.out.rstrip().splitlines()[-1] == f"  {results['command']}"
    for picture in ("values.png", "slices.png"):
        assert (sweep / "study" / picture).read_bytes().startswith(b"\x89PNG")
    compared = run_main(f"runs={sweep}", folder=sweep, program="trainer.compare")
    assert compared.code == (0 if len(finished) else 2), compared.err


def check_more_trials(settings: tuple[str, ...], folder: Path) -> None:
    """An ended study, with a pruned trial run to its end by hand, is given one trial more."""
    sweep = sweep_of(folder)
    pruned = states_of(sweep, 4).index(PRUNED)
    assert run_main(f"resume={job_of(sweep, pruned).path}", folder=folder).code == 0
    assert outcome_of(sweep, pruned).state == FINISHED
    before = told_of(sweep)
    more = [text if "n_trials" not in text else "hydra.sweeper.n_trials=5" for text in settings]
    ended = run_main(*more, "sweep.resume=true", folder=folder)
    assert ended.code == 0, ended.err
    now = told_of(sweep)
    assert len(now) == 5
    assert now[pruned][0] is TrialState.COMPLETE
    assert now[pruned][3] == outcome_of(sweep, pruned).value
    assert [trial for place, trial in enumerate(now[:4]) if place != pruned] == [
        trial for place, trial in enumerate(before) if place != pruned
    ]


def test_failed_trials_are_told_leave_the_others_alone_and_run_again_on_resume(tmp_path: Path) -> None:
    settings = (
        *STUDY,
        "seed=1",
        "phases.finetune.epochs=1",
        "hydra.sweeper.n_trials=3",
        "hydra.sweeper.sampler=random",
    )
    searched = ("data.batch_size=4,0", "data.num_images=15,2")  # 0 is refused at once, 2 images fail as they are split
    ended = run_main(*settings, *searched, folder=tmp_path)
    sweep = sweep_of(tmp_path)
    outcomes = [outcome_of(sweep, number) for number in range(3)]
    params = [trial.params for trial in trials_of(sweep)]
    sound = [one == {"data.batch_size": "4", "data.num_images": "15"} for one in params]
    assert True in sound
    assert False in sound
    assert [outcome.state for outcome in outcomes] == [FINISHED if one else FAILED for one in sound]
    states = [TrialState.COMPLETE if one else TrialState.FAIL for one in sound]
    assert [trial.state for trial in trials_of(sweep)] == states
    assert ended.code == outcomes[sound.index(False)].exit_code
    assert f"{sound.count(False)} of 3 jobs failed, first " in ended.err
    assert ended.err.count("\n") == 1
    assert sweep_command([*settings, *searched]) in ended.err

    again = run_main(*settings, *searched, "sweep.resume=true", folder=tmp_path)
    assert again.code == ended.code
    assert [trial.params for trial in trials_of(sweep)] == params
    assert [trial.state for trial in trials_of(sweep)] == states


def test_a_trial_that_was_being_asked_for_when_the_sweep_was_cut_is_asked_for_anew(tmp_path: Path) -> None:
    study = create_study(tmp_path, "minimize")
    space = space_of(RATE, "seed=1,2").distributions
    for _ in range(2):
        study.ask(space)
    study.ask({"seed": space["seed"]})
    assert [trial.params for trial in read_trials(tmp_path, space)] == [trial.params for trial in study.trials[:2]]


def test_a_journal_that_is_damaged_is_told_with_its_name_and_left_as_it_is(tmp_path: Path) -> None:
    study = create_study(tmp_path, "minimize")
    space = space_of(RATE).distributions
    for _ in range(2):
        study.ask(space)
    lines = (tmp_path / JOURNAL).read_text().splitlines(keepends=True)
    damaged = "".join([*lines[:2], "{nothing\n", *lines[2:]])
    (tmp_path / JOURNAL).write_text(damaged)
    code, message = promised()["the journal of a study damaged"]
    with pytest.raises(ValueError, match=".*".join(map(re.escape, message.split("…")))) as told:
        read_trials(tmp_path, space)
    assert (exit_code(told.value), str(tmp_path / JOURNAL) in str(told.value)) == (code, True)
    assert (tmp_path / JOURNAL).read_text() == damaged


def test_a_study_that_leaves_places_of_its_launcher_empty_says_so(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "multirun.yaml").touch()  # a sweep that is there, so that none begins
    asked = [*STUDY, RATE, "hydra/launcher=joblib", "hydra.sweep.dir=sweep"]
    advice = "advice: hydra/launcher=joblib runs 2 jobs at once, of which the study asks for one; hydra.sweeper.n_jobs"
    assert advice in run_main(*asked, folder=tmp_path).out
    assert advice not in run_main(*asked, "hydra.sweeper.n_jobs=2", folder=tmp_path).out


def test_the_best_trial_is_run_again_by_the_script_that_began_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SCRIPT, "/a b/mine.py")
    assert command_of(Job(0, ["seed=1", "name='a b'"], "0")) == """python '/a b/mine.py' seed=1 'name='"'"'a b'"'"''"""


def test_a_run_that_is_better_at_the_other_end_than_the_study_looks_at_says_so(tmp_path: Path) -> None:
    study = create_study(tmp_path, "maximize")
    study.ask()
    pruning = TrialPruning(open_trial(open_study(tmp_path, optuna.pruners.NopPruner()), 0))
    with pytest.raises(ValueError, match=r"begin a study with hydra\.sweeper\.direction=minimize"):
        pruning.report(1, 2.0, "min")


def test_optuna_is_not_imported_where_it_was_not_chosen_and_missed_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert run_main("-m", "seed=1", *SHORT, "phases.finetune.epochs=1", folder=tmp_path).code == 0
    before = content(tmp_path)
    missing = promised()["a study without Optuna"]
    Fault("", *missing, lambda folder: [*STUDY, RATE]).check(tmp_path)
    assert content(tmp_path) == before


MISTAKES = {
    "a study that has nothing to search": [*STUDY, "seed=1"],
    "a logarithm of 0": [*STUDY, "model.dropout=tag(log,interval(0,0.5))"],
    "an interval in a sweep of every combination": ["-m", RATE],
    "values that a study should shuffle": [*STUDY, "data.batch_size=shuffle(4,8)"],
    "a sampler that is not there": [*STUDY, RATE, "hydra.sweeper.sampler=cmaes"],
    "no trials": [*STUDY, RATE, "hydra.sweeper.n_trials=0"],
    "a key misspelt of a study": [*STUDY, RATE, "hydra.sweeper.ntrials=5"],
    "a key misspelt that is searched": [*STUDY, "scheduler.maxlr=interval(0,1)"],
    "two tasks in a study": [*STUDY[:3], "task=landmarks,classification", "model=heatmap,classifier"],
    "a study of range tests alone": [*STUDY, RATE, "range_test=only", "range_test.phases=[finetune]"],
    "settings of a grid in a study": [*STUDY, RATE, "+hydra.sweeper.settings=[[],['seed=1']]"],
    "params of a sweep that are no keys": [*STUDY, RATE, "hydra.sweeper.params=5"],
    "a run to go on with, in a study": [*STUDY, RATE, "resume=somewhere"],
}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_mistake_is_told_as_promised(name: str, tmp_path: Path) -> None:
    code, message = promised()[name]
    Fault(name, code, message, lambda folder: MISTAKES[name]).check(tmp_path)
    assert not list(tmp_path.rglob(JOURNAL))


def test_every_command_of_the_page_does_what_it_says(tmp_path: Path) -> None:
    commands = re.findall(r"^    python -m trainer (.+)$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 4
    tiny = [text for text in SHORT if text != "model.width=8"]  # which coordinates have not
    for command in commands:
        number = 2 if "sweep.resume=true" in command else 1
        typed = [re.sub(r"n_trials=\d+", f"n_trials={number}", text) for text in shlex.split(command)]
        ended = run_main(*typed, *tiny, "phases.finetune.epochs=1", folder=tmp_path)
        assert ended.code == 0, ended.err
    results = [yaml.safe_load(path.read_text()) for path in tmp_path.glob("multirun/*/*/optimization_results.yaml")]
    assert sorted(sum(one["trials"].values()) for one in results) == [1, 1, 2]
    assert [one["trials"]["failed"] for one in results] == [0, 0, 0]
