"""The networks of a finished run, with the weights that it ended with, and its task without any data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset

from data.datasets import LandmarkDataset
from data.known_covariates import with_rows
from data.known_records import Known
from data.label_datasets import LabelDataset, ViewsDataset
from data.label_records import LabelRecords
from data.records import LandmarkRecords
from models.backbone import check_name
from trainer.candidates import taken_weights
from trainer.config.label_task import LabelTaskConfig
from trainer.config.label_tasks import ClassificationTaskConfig
from trainer.config.models import LabelModelConfig, LandmarkModelConfig
from trainer.config.run import TrainConfig
from trainer.config.tasks import LandmarkTaskConfig
from trainer.device import Compute, build_compute, has_bf16_units
from trainer.run_data import RunData
from trainer.serving.trained_run import TrainedRun
from trainer.tasks.task import Task


def build_networks(run: TrainedRun, compute: Compute) -> list[nn.Module]:
    """In eval, on the device; several are an ensemble. Raises ValueError where weights are lost or of another model."""
    return [build_network(run, compute, [weights]) for weights in taken_weights(run.run_dir, run.weights)]


def build_network(run: TrainedRun, compute: Compute, members: Sequence[dict[str, Tensor]]) -> nn.Module:
    """In eval, on the device, with the last of these weights. Raises ValueError where any are of another model."""
    network = _build(run.config, run.known)
    for weights in members:
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise ValueError(
                f"the weights in {run.run_dir.path / 'checkpoints'} are of another model than its config.yaml "
                f"({reason}); put the run's own files back"
            ) from None
    return compute.place(network).eval()


def _build(config: TrainConfig, known: Known) -> nn.Module:
    check_name(config.model.backbone)
    model = replace(config.model, weights="none")  # the run's own come after
    if isinstance(model, LandmarkModelConfig):
        assert isinstance(config.task, LandmarkTaskConfig)
        return model.build(
            mean_shape=np.zeros((len(known.landmark_names), 2)),  # among the weights
            input_size=config.data.input_size,
            heatmap_loss=config.task.loss.heatmap,
        )
    assert isinstance(model, LabelModelConfig)
    assert isinstance(config.task, LabelTaskConfig)
    assert known.covariates is not None
    return model.build(
        input_size=config.data.input_size,
        num_outputs=config.task.num_outputs(len(known.class_names or ())),
        num_covariates=len(known.covariates.encoded_names),
    )


def serving_compute(config: TrainConfig, device: str) -> Compute:
    """The precision that the run trained in, where this device computes in it by itself; else fp32."""
    compute = build_compute(device, "fp32", config.memory_format)
    served = {"fp16": compute.device.type != "cpu", "bf16": has_bf16_units(compute.device)}.get(config.precision, False)
    return replace(compute, precision=config.precision) if served else compute


def build_task(config: TrainConfig, data: RunData) -> Task[Any]:
    """The run's task as a judge of other data: what only training needs, and would take from its split, is left out."""
    task = replace(config.task, monitor=None)
    if isinstance(task, ClassificationTaskConfig):
        task.loss = replace(task.loss, class_weights=None)
    return task.build(config, data)


def no_data(run: TrainedRun) -> RunData:
    """The run's data without any image."""
    known, none = run.known, np.zeros(0, dtype="<U5")
    if run.is_of_landmarks:
        shape = (0, len(known.landmark_names), 2)
        return data_of(
            run.config,
            LandmarkRecords(
                [], known.landmark_names, np.zeros(shape), np.zeros((0, 2)), np.zeros(0), none, _read_none, known.region
            ),
        )
    assert known.covariates is not None
    covariates = with_rows(known.covariates, known.covariates.values, known.covariates.encoded)
    targets = np.zeros(0, np.float64 if known.class_names is None else np.int64)
    return data_of(
        run.config,
        LabelRecords(
            [], targets, known.class_names, covariates, np.zeros((0, 2)), none, _read_none, known.target_scale
        ),
    )


def data_of(config: TrainConfig, records: LandmarkRecords | LabelRecords) -> RunData:
    """Records as a run evaluates them, with views; nothing of it is for training."""
    settings: dict[str, Any] = {
        "input_size": config.data.input_size,
        "fit": config.data.fit,
        "augmentation": None,
        "seed": config.seed,
        "cache_gb": config.data.cache_gb / 2,
    }
    plain: LandmarkDataset | LabelDataset
    views: Dataset[dict[str, Tensor]]
    if isinstance(records, LandmarkRecords):
        plain = LandmarkDataset(records, **settings)
        moves = config.data.augmentation.without_mirrors.build_moves()
        views = LandmarkDataset(records, **{**settings, "augmentation": moves, "cache_gb": 0.0})
    else:
        plain = LabelDataset(records, **settings)
        views = ViewsDataset(plain, config.data.augmentation.build_moves())
    return RunData(
        records=records,
        train=plain,
        plain=plain,
        batch_size=config.data.batch_size,
        updates_per_epoch=0,
        accumulation=config.accumulation,
        seed=config.seed,
        workers=config.data.workers,
        views=views,
    )


def _read_none(index: int) -> np.ndarray:
    raise IndexError(index)
