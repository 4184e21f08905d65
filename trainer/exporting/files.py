"""Exported files: written, and opened again as who is given the file opens it."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.onnx.errors import OnnxExporterError

from models.weights import HEAD_PREFIX, first_line, timm_names
from trainer.exporting.graph import RunGraph
from trainer.serving.predictor import Predictor

OPSET = 18
METADATA = "trainer.json"  # of a TorchScript file's extra files, and the key of the others' metadata

Answer = Callable[[np.ndarray, np.ndarray | None], list[np.ndarray]]  # image, covariates -> what the outputs name


def write_onnx(path: Path, graph: RunGraph, told: dict[str, Any]) -> Answer:
    """Raises ValueError where the graph holds an operation that ONNX lacks."""
    import onnx
    import onnxruntime

    # torch has no public way to keep it from printing the whole graph where an operation is lacking.
    torch._C._jit_set_onnx_log_enabled(False)
    try:
        with torch.no_grad(), _quiet():
            torch.onnx.export(
                graph,
                _example(graph),
                str(path),
                dynamo=False,  # the newer exporter takes a minute where this one takes seconds, to the same answers
                opset_version=OPSET,
                input_names=graph.input_names,
                output_names=list(graph.output_names),
                dynamic_axes={"image": {0: "height", 1: "width"}},
            )
    except OnnxExporterError as error:  # own parts may compute what ONNX has no word for
        raise ValueError(f"format=onnx: {first_line(error).partition('. ')[0]}; choose format=torchscript") from None
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {key: _text(value) for key, value in told.items()})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def answer(image: np.ndarray, covariates: np.ndarray | None) -> list[np.ndarray]:
        given = {"image": image} if covariates is None else {"image": image, "covariates": covariates}
        return [np.asarray(value) for value in session.run(list(graph.output_names), given)]

    return answer


def write_torchscript(path: Path, graph: RunGraph, told: dict[str, Any]) -> Answer:
    with torch.no_grad(), _quiet():
        traced = torch.jit.trace(graph, _example(graph), check_trace=False)
        torch.jit.save(traced, str(path), _extra_files={METADATA: json.dumps(told, ensure_ascii=False)})
        model = torch.jit.load(str(path))

    def answer(image: np.ndarray, covariates: np.ndarray | None) -> list[np.ndarray]:
        given = [torch.from_numpy(value) for value in (image, covariates) if value is not None]
        with torch.no_grad():
            found = model(*given)
        return [value.numpy() for value in (found if isinstance(found, tuple) else (found,))]

    return answer


def write_safetensors(path: Path, predictor: Predictor, graph: RunGraph, told: dict[str, Any]) -> Answer:
    """Raises ValueError for an ensemble."""
    if len(predictor.networks) > 1:
        raise ValueError(
            f"the run ended with the {predictor.run.weights}, and a safetensors file holds the weights of one network; "
            "choose format=onnx or format=torchscript"
        )
    (network,) = predictor.networks
    own = network.state_dict()
    names = timm_names(predictor.run.config.model.backbone, [key for key in own if key.startswith("backbone.net.")])
    tensors = {names.get(key, f"{HEAD_PREFIX}{key}"): value.contiguous().clone() for key, value in own.items()}
    save_file(tensors, path, metadata={"format": "pt", **{key: _text(value) for key, value in told.items()}})
    with safe_open(path, framework="pt") as file:
        read: dict[str, Tensor] = {key: file.get_tensor(names.get(key, f"{HEAD_PREFIX}{key}")) for key in own}
    network.load_state_dict(read)

    def answer(image: np.ndarray, covariates: np.ndarray | None) -> list[np.ndarray]:
        given = [torch.from_numpy(value) for value in (image, covariates) if value is not None]
        with torch.no_grad():
            return [value.numpy() for value in graph(*given)]

    return answer


def _example(graph: RunGraph) -> tuple[Tensor, ...]:
    image = torch.arange(96 * 80 * 3).remainder(251).to(torch.uint8).view(96, 80, 3)
    if graph.encoding is None:
        return (image,)
    return image, torch.zeros(len(graph.encoding.categories), dtype=torch.float64)


def _text(value: Any) -> str:
    """Values of metadata are texts."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's hints for programmers: what they warn of is what the comparison with trainer.predict looks at."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
