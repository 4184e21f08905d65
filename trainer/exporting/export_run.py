"""One whole export, from the settings of `python -m trainer.export` to a file that was held against the run."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from data.atomic import faults_naming, written_atomically
from trainer.exporting.description import description, left_out
from trainer.exporting.files import write_onnx, write_safetensors, write_torchscript
from trainer.exporting.graph import RunGraph
from trainer.exporting.parity import check_parity
from trainer.exporting.samples import samples_for
from trainer.exporting.settings import ExportSettings, beside
from trainer.run_dir import json_numbers, write_json
from trainer.serving.network import build_networks, serving_compute
from trainer.serving.predictor import Predictor
from trainer.serving.trained_run import read_run


def export_into(target: Path, settings: ExportSettings) -> None:
    """Write the file and the JSON beside it, and print what was found.

    Raises:
        ValueError: the run is none, has not ended, or does not go with the format.
        TrainingError: the file answers otherwise than the run. OSError: it can't be written.
    """
    run = read_run(Path(settings.run), "export")
    # fp32 on a CPU, in which the file is held against the run.
    compute = replace(serving_compute(run.config, "cpu"), precision="fp32")
    predictor = Predictor(run, build_networks(run, compute), compute)
    graph = RunGraph(predictor).eval().requires_grad_(False)
    told = description(predictor, graph)
    source, samples = samples_for(predictor)
    with faults_naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(target.parent, os.W_OK):
            raise PermissionError(13, "Permission denied", str(target))
    with written_atomically(target) as aside:
        if settings.format == "onnx":
            answer = write_onnx(aside, graph, told)
        elif settings.format == "torchscript":
            answer = write_torchscript(aside, graph, told)
        else:
            answer = write_safetensors(aside, predictor, graph, told)
        parity = check_parity(predictor, graph, answer, samples)
    write_json(
        beside(target), json_numbers({**told, "format": settings.format, "parity": {"source": source, **parity.told}})
    )
    for line in left_out(predictor):
        print(line)
    print(f"held against trainer.predict on {len(samples)} images ({source}, and one in other sizes): {parity.line}")
    print(f"wrote {target} ({target.stat().st_size / 1e6:.1f} MB) and {beside(target).name}")
