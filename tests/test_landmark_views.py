"""Several views of an image with landmarks: what they show, and that their predictions come back to the image."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, compose, run_in_process
from safetensors.torch import load_file

from data.datasets import to_original
from trainer.config.store import to_train_config
from trainer.device import build_compute
from trainer.loop import UpdateRule, evaluate
from trainer.run_dir import RunDir

SHORT = ("phases.frozen.epochs=0", "phases.finetune.epochs=1", "pictures=false")


@pytest.mark.parametrize("more", [(), ("data.region=landmarks",)])
def test_views_move_the_image_and_never_mirror_or_brighten_it(more: tuple[str, ...], tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("0 1\n")
    flips = ("data.augmentation.flip=1.0", f"data.augmentation.flip_pairs={pairs}")
    config = to_train_config(compose(*TINY, *flips, *more))
    data = config.task.build_data(config, tmp_path / "splits.csv")
    plain = next(data.evaluation_batches("val"))
    truth = plain["truth"].numpy()
    for view in (1, 2):
        batch = next(data.evaluation_batches("val", view))
        assert not np.allclose(batch["affine"], plain["affine"])
        assert not batch["image"].equal(plain["image"])
        assert (np.linalg.det(batch["affine"].numpy()[:, :, :2]) > 0).all()  # no mirror
        shown = batch["visible"].numpy()
        back = to_original(batch["points"].numpy().astype(np.float64), batch["affine"].numpy())
        np.testing.assert_allclose(back[shown], truth[shown], atol=1e-3)
        again = next(data.evaluation_batches("val", view))
        assert batch["image"].equal(again["image"])
    assert not next(data.evaluation_batches("val", 1))["affine"].equal(
        next(data.evaluation_batches("val", 2))["affine"]
    )


def test_a_run_judges_the_mean_of_its_views(tmp_path: Path) -> None:
    run_in_process(tmp_path / "run", *SHORT, "predict.tta=3")
    run = RunDir(tmp_path / "run")
    config = to_train_config(compose(*TINY, *SHORT, "predict.tta=3"))
    data = config.task.build_data(config, run.splits)
    task = config.task.build(config, data)
    model = config.task.build_model(config, data)
    model.load_state_dict(load_file(run.best_weights))
    compute = build_compute("cpu", "fp32", memory_format="channels_last")
    rule = UpdateRule(task, compute, 1, None)
    views = [evaluate(model, data.evaluation_batches("val", view), rule.task, compute)[1] for view in range(3)]
    assert not np.allclose(views[0]["points"], views[1]["points"])
    expected = task.averaged(views)["points"]
    table = pd.read_csv(run.predictions)
    names = [column.removesuffix("_x") for column in table.columns if column.endswith("_x") and "true" not in column]
    written = np.stack([table[[f"{name}_x", f"{name}_y"]] for name in names], axis=1)
    np.testing.assert_allclose(written, expected, atol=2e-3)
