"""A run says how sure it is: circles in its table, what they were calibrated to, and intervals in its report."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, TINY_LABELS, run_in_process

from trainer.run_dir import RunDir
from trainer.tasks.landmark_calibration import Calibration

MORE = ("data.num_images=40", "data.val_fraction=0.4", "data.test_fraction=0.3")
SHORT = tuple(text for text in TINY if not text.startswith(("data.num_images", "phases.")))
EPOCHS = ("phases.frozen.epochs=1", "phases.finetune.epochs=1")


@pytest.mark.parametrize("model", ["heatmap", "coordinates"])
def test_circles_are_calibrated_on_validation_and_judged_on_test(model: str, tmp_path: Path) -> None:
    given = [text for text in SHORT if model == "heatmap" or not text.startswith("model.width")]
    run_in_process(tmp_path / "run", f"model={model}", *MORE, *EPOCHS, tiny=tuple(given))
    run = RunDir(tmp_path / "run")
    results, table = json.loads(run.results.read_text()), pd.read_csv(run.predictions)
    found = results["uncertainty"]
    assert (found["calibrated_on"], found["coverage_on"], found["images"]) == ("val", "test", 16)
    errors, radii = (table.filter(regex=f"_{what}_mm$") for what in ("error", "radius90"))
    held = errors.to_numpy() <= radii.to_numpy()
    test, val = table["split"] == "test", table["split"] == "val"
    assert found["coverage"] == pytest.approx(held[test].mean())
    assert found["mean_radius_mm"] == pytest.approx(radii[test].to_numpy().mean(), abs=1e-3)
    assert (held[val].sum(axis=0) >= 16).all()  # up to 18 images it is the largest score that counts
    calibration = Calibration.from_json(json.loads(run.calibration.read_text()))
    assert calibration.num_images == 16
    assert list(calibration.landmark_names) == [name.removesuffix("_error_mm") for name in errors.columns]
    assert None not in calibration.factors
    for split in ("val", "test"):
        low, high = results["intervals"][split]["mre_mm"]
        assert low < results["metrics"][split]["mre_mm"] < high
    page = run.report.read_text()
    assert page.count("95 % interval") == 2
    assert "How sure is it?" in page
    assert "judged on test" in page


def test_with_too_few_validation_images_there_are_no_circles_and_the_report_says_so(tiny_run: RunDir) -> None:
    results = json.loads(tiny_run.results.read_text())
    assert results["uncertainty"]["coverage"] is None
    assert pd.read_csv(tiny_run.predictions)["sella_radius90_mm"].isna().all()
    assert set(Calibration.from_json(json.loads(tiny_run.calibration.read_text())).factors) == {None}
    assert "3 validation images are too few" in tiny_run.report.read_text()
    low, high = results["intervals"]["val"]["mre_mm"]
    assert np.isfinite([low, high]).all()


def test_classes_have_an_interval_and_no_circles(tmp_path: Path) -> None:
    run_in_process(tmp_path / "run", "task=classification", *EPOCHS, tiny=TINY_LABELS)
    run = RunDir(tmp_path / "run")
    results = json.loads(run.results.read_text())
    assert "uncertainty" not in results
    assert not run.calibration.exists()
    assert list(results["intervals"]["val"]) == ["accuracy"]
    assert "95 % interval" in run.report.read_text()
