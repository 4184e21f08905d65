"""Groups by image names: whose images share a split, and what of it reaches a run."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import run_in_process
from data_faults import draw

from data.cells import read_cells
from data.groups import read_groups
from trainer.run_dir import RunDir

FACES = Path(os.environ.get("TRAINER_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data") / "faces68"
PERSONS = [f"{first}_{last}" for first in ("Jane", "Ann", "Bo") for last in ("Doe", "El-Hakim", "O_Hara")]


def test_a_persons_images_share_a_split(tmp_path: Path) -> None:
    draw(tmp_path / "images", 3 * len(PERSONS))
    names = [f"{person}_{number:02d}.png" for person in PERSONS for number in (1, 7, 12)]
    for index, name in enumerate(names):
        (tmp_path / "images" / f"{index}.png").rename(tmp_path / "images" / name)
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"image": rng.permutation(names), "x0": 20.0, "y0": 30.0})
    table.to_csv(tmp_path / "points.csv", index=False)
    run_in_process(
        tmp_path / "run",
        "data=csv",
        f"data.table={tmp_path / 'points.csv'}",
        "data.group_pattern='(.+)_[0-9]+'",
        "data.input_height=32",
        "data.input_width=32",
        "data.val_fraction=0.3",
        "data.test_fraction=0.3",
        "model.backbone=test_efficientnet",
        "model.weights=none",
        "model.width=8",
        "phases.frozen.epochs=0",
        "phases.finetune.epochs=1",
        "pictures=false",
        tiny=(),
    )
    splits = pd.read_csv(RunDir(tmp_path / "run").splits)
    splits_of = splits.groupby(splits["image"].str.replace(r"_\d+\.png$", "", regex=True))["split"].agg(set)
    assert sorted(splits_of.index) == sorted(PERSONS)
    assert all(len(found) == 1 for found in splits_of)
    assert set.union(*splits_of) == {"train", "val", "test"}


@pytest.mark.real_data
@pytest.mark.skipif(not FACES.exists(), reason=f"no {FACES}")
def test_the_pattern_of_the_recipe_names_every_person_of_the_faces() -> None:
    table = FACES / "landmarks.csv"
    names = pd.read_csv(table)["image"].tolist()
    groups = read_groups(read_cells(table), names, "(.+)_[0-9]+")
    assert groups == [re.sub(r"_\d+\.jpg$", "", name) for name in names]
    assert 1 < len(set(groups)) < len(groups)
