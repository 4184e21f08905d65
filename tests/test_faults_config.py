"""Mistakes on the command line: each is told as docs/faults.md promises, in one line and with exit code 2."""

import re
from pathlib import Path

import pytest
from faults import PAGE, Fault, promised

# What is wrong, as the page calls it -> what was typed.
MISTAKES = {
    "base_lr above max_lr": ["scheduler.base_lr=1"],
    "a group that is not there": ["modell=heatmap"],
    "a key that is not there": ["nonsense=1"],
    "a key misspelt": ["scheduler.maxlr=1e-3"],
    "a key misspelt in a phase's own scheduler": ["phases.finetune.scheduler.maxlr=1e-3"],
    "a key misspelt three levels down": ["data.augmentation.rotat_degrees=5"],
    "a key without its group": ["batch_size=4"],
    "a key of another choice": ["data.table=points.csv"],
    "a key below a value": ["scheduler.max_lr.x=1"],
    "a key of Python's `_target_`": ["+scheduler._target_=os.system"],
    "a key taken out": ["~scheduler.cycles"],
    "a key taken out that is not there": ["~nonsense"],
    "a whole number expected, a word given": ["seed=abc"],
    "a number expected, a word given": ["data.val_fraction=half"],
    "a number expected, true given": ["scheduler.max_lr=true"],
    "true or false expected": ["snapshots=maybe"],
    "a list expected": ["optimizer.betas=0.9"],
    "a value expected, null given": ["precision=null"],
    "an empty value": ["seed="],
    "an empty text": ["model.backbone="],
    "null for a group": ["task=null"],
    "true for range_test=on": ["range_test=true"],
    "a value that must be given": ["data=csv"],
    "a recipe that is a sweep, without -m": ["experiment=clr_vs_fixed"],
    "a value without its key": ["heatmap"],
    "no key before the =": ["=3"],
    "spaces around the =": ["seed", "=", "1"],
    "a path with a space, unquoted": ["data=csv", "data.table=my", "points.csv"],
    "a path with brackets": ["data=csv", "data.table=my points [2].csv"],
    "a path with umlauts": ["data=csv", "data.table=größe.csv"],
    "a path with =": ["data=csv", "data.table=a=b.csv"],
    "a path with a comma": ["data=csv", "data.table=a,b.csv"],
    "a path with ~": ["data=csv", "data.table=~/points.csv"],
    "a path with parentheses": ["data=csv", "data.table=a (2).csv"],
    "a path with an apostrophe": ["data=csv", "data.table=it's.csv"],
    "a quote that is not closed": ["data=csv", 'data.table="points.csv'],
    "a list that is not closed": ["task=classification", "data.covariates=[sex"],
    "a list of two without brackets": ["task=classification", "data.covariates=sex,age"],
    "two values without -m": ["scheduler.max_lr=1e-3,1e-2"],
    "a number with more behind it": ["scheduler.max_lr=1)"],
    "${} of a key that is not there": ["seed=${nokey}"],
    "${} that is not closed": ["data=csv", "data.table=${data.root"],
    "${} of itself": ["seed=${seed}"],
    "${} of nothing that can be looked up": ["scheduler.max_lr=${nothing:1}"],
    "an environment variable that is not set": ["data=csv", "data.table=${oc.env:NO_SUCH_VARIABLE}"],
    "a phase's scheduler by name": ["phases.finetune.scheduler=constant"],
    "a phase's scheduler chosen without +": ["scheduler@phases.frozen.scheduler=constant"],
    "a kind set alone": ["scheduler.kind=cosine"],
    "a phase's kind without its keys": ["phases.finetune.scheduler.kind=onecycle"],
    "base_lr: auto without a range test": ["scheduler.base_lr=auto"],
    "a rate that is not a number": ["scheduler.max_lr=nan"],
    "a rate beyond all floats": ["scheduler.max_lr=1e400"],
    "a number far too large": ["data.num_images=99999999999999"],
    "a seed of more than 63 bits": ["seed=99999999999999999999"],
    "a negative seed": ["data.split_seed=-1"],
    "step_size 0": ["scheduler.step_size=0"],
    "step_size twice": ["scheduler.step_size=5", "scheduler.step_size_epochs=2"],
    "no cycles": ["scheduler.cycles=0"],
    "gamma out of range": ["scheduler.mode=exp_range", "scheduler.gamma=1.1"],
    "a warm-up longer than the phase": ["scheduler=cosine", "scheduler.warmup_epochs=12"],
    "momentum 1": ["optimizer=sgd", "optimizer.momentum=1"],
    "betas out of range": ["optimizer.betas=[0.9,1]"],
    "negative epochs": ["phases.frozen.epochs=-1"],
    "no epochs at all": ["phases.frozen.epochs=0", "phases.finetune.epochs=0"],
    "fewer max_steps than phases": ["max_steps=1"],
    "a range test from high to low": ["range_test=on", "range_test.min_lr=1", "range_test.max_lr=0.1"],
    "a range test of one step": ["range_test=on", "range_test.num_steps=1"],
    "a range test of a phase that does not train": [
        "phases=finetune_only",
        "range_test=on",
        "range_test.phases=[frozen]",
    ],
    "flip without pairs": ["data.augmentation.flip=0.5"],
    "fp16 on a CPU": ["precision=fp16", "device=cpu"],
    "a device that is not there": ["device=gpu"],
    "an input size that the stride does not divide": ["model.stride=8", "data.input_height=100"],
    "a stride that is none": ["model.stride=3"],
    "ema_decay 1": ["ema_decay=1"],
    "dropout 1": ["model.dropout=1"],
    "nothing left to train on": ["data.val_fraction=0.5", "data.test_fraction=0.5"],
    "an empty list": ["task.sdr_thresholds=[]"],
    "a group_pattern that is none": ["data=csv", "data.table=points.csv", "data.group_pattern='(.+'"],
    "a group_pattern without brackets": ["data=csv", "data.table=points.csv", "data.group_pattern=.+_"],
    "nme of one landmark": ["task.nme=pair", "task.nme_landmarks=[1]"],
    "a model without covariates": ["task=classification", "model=covariate"],
    "a covariate twice": ["task=classification", "data.covariates=[sex,sex]"],
    "covariates with landmarks": ["data.covariates=[sex]"],
    "a model of landmarks for classes": ["task=classification", "model=heatmap"],
    "a model of classes for landmarks": ["model=classifier"],
    "photos in folders with landmarks": ["data=image_folder", "data.root=photos"],
    "class weights of numbers": ["task=regression", "task.loss.class_weights=balanced"],
    "balancing landmarks": ["data.balance=true"],
    "classes balanced twice": ["task=classification", "data.balance=true", "task.loss.class_weights=balanced"],
    "views of landmarks without moves": ["predict.tta=2", "data/augmentation=none"],
    "views without moves": ["task=classification", "predict.tta=2", "data/augmentation=none"],
    "a backbone that is not there": ["model.backbone=resnet19"],
    "bundled weights for another backbone": ["model.backbone=resnet18"],
    "weights that are not there": ["model.weights=missing.pt"],
    "a CUDA device that this machine lacks": ["device=cuda:99"],
    "resume of no run": ["resume=nowhere"],
    "a file of configs that is not there": ["--config-dir", "nowhere"],
    "a choice that is not there": ["model=heatmapp"],
    "a nested choice that is not there": ["data/augmentation=strong"],
    "a recipe that is not there": ["experiment=teeth"],
    "an option that is not there": ["--resume", "outputs"],
    "a value that an option can't have": ["--cfg", "nonsense"],
}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_mistake_is_told_as_promised(name: str, tmp_path: Path) -> None:
    code, message = promised()[name]
    assert code == 2
    assert message.isprintable()
    Fault(name, code, message, lambda folder: MISTAKES[name]).check(tmp_path)


def test_each_promise_about_the_configuration_is_tested_here() -> None:
    section = re.search(
        r"^## Configuration$(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert section is not None
    rows = re.findall(r"^\| (.+?) \| 2 \| `` .+ `` \|$", section[1], re.MULTILINE)
    assert rows == list(MISTAKES)
