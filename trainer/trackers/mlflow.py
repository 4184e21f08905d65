"""MLflow: a run in a local folder or on a server."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from trainer.run_dir import RunDir
from trainer.trackers.identity import Identity
from trainer.trackers.points import EPOCH, UPDATE
from trainer.trackers.tracker import Beginning, Ending, Point

MOST_METRICS, MOST_PARAMS = 1000, 100  # that the server takes at a time
STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
# MLflow's own patience, of minutes for each call, would be the run's at its end.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


class MlflowTracker:
    """What MLflow was sent can't be taken back, so updates that are made again after a kill are not sent again: how
    much it has is asked of MLflow itself."""

    name = "mlflow"

    def __init__(self, run_dir: RunDir, uri: str, *, experiment: str, run_name: str, images: bool) -> None:
        self._uri, self._experiment, self._run_name = uri, experiment, run_name
        self._run_dir = run_dir
        self._identity = Identity(run_dir, self.name)
        self._num_updates = self._num_epochs = 0  # that MLflow has
        for variable, value in PATIENCE.items():
            os.environ.setdefault(variable, value)
        if "://" not in uri or uri.startswith("file:"):
            # A folder needs no database, but MLflow wants it to be asked for; what it is for is a few runs' points.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # each retry would be a line of the run's

    def begin(self, beginning: Beginning) -> str:
        self._client = MlflowClient(tracking_uri=self._uri)
        known = self._identity.read()
        if known.get("tracking_uri") == self._uri:
            self._run_id = known["run_id"]
            self._go_on(beginning)
        else:
            self._begin(beginning)
        return f"run {self._run_id} of experiment {self._experiment} in {self._uri}"

    def lacks(self, point: Point) -> bool:
        if point.ends_epoch:
            return point.values[EPOCH] > self._num_epochs
        return point.iteration >= self._num_updates

    def log(self, points: Sequence[Point]) -> None:
        for batch in _batches(points):
            self._client.log_batch(self._run_id, metrics=batch)

    def close(self, ending: Ending) -> None:
        now = int(time.time() * 1000)
        found = [Metric(_key(name), value, now, ending.num_updates) for name, value in ending.results.items()]
        for start in range(0, len(found), MOST_METRICS):
            self._client.log_batch(self._run_id, metrics=found[start : start + MOST_METRICS])
        for name, path in ending.pictures.items():
            self._client.log_artifact(self._run_id, str(path), name.rpartition("/")[0])
        if ending.verdict:
            self._client.set_tag(self._run_id, "verdict", ending.verdict)
        self._client.set_terminated(self._run_id, STATUS[ending.status])

    def _begin(self, beginning: Beginning) -> None:
        run = self._client.create_run(
            self._experiment_id(), run_name=self._run_name, tags={"run_directory": str(self._run_dir.path)}
        )
        self._run_id = run.info.run_id
        self._identity.write(tracking_uri=self._uri, run_id=self._run_id)
        params = [Param(key, value) for key, value in _texts(beginning).items()]
        for start in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(self._run_id, params=params[start : start + MOST_PARAMS])

    def _experiment_id(self) -> str:
        if found := self._client.get_experiment_by_name(self._experiment):
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(self._experiment))
        except MlflowException:  # another job of the sweep may have made it in between
            if found := self._client.get_experiment_by_name(self._experiment):
                return str(found.experiment_id)
            raise

    def _go_on(self, beginning: Beginning) -> None:
        run = self._client.get_run(self._run_id)
        self._client.update_run(self._run_id, status="RUNNING")
        for key, value in _texts(beginning).items():
            if run.data.params.get(key) != value:  # parameters stay what they were; what a resume changed is a tag
                self._client.set_tag(self._run_id, f"resumed.{key}", value)
        self._num_updates = len(self._client.get_metric_history(self._run_id, UPDATE))
        self._num_epochs = len(self._client.get_metric_history(self._run_id, EPOCH))


def _batches(points: Sequence[Point]) -> Iterator[list[Metric]]:
    """Points as metrics; those of one point stay together, so that each is there as a whole or not at all."""
    batch: list[Metric] = []
    for point in points:
        if len(batch) + len(point.values) > MOST_METRICS:
            yield batch
            batch = []
        now = int(time.time() * 1000)
        batch += [Metric(_key(name), value, now, point.iteration) for name, value in point.values.items()]
    yield batch


def _key(name: str) -> str:
    """With the characters that MLflow allows."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def _texts(beginning: Beginning) -> Mapping[str, str]:
    return {key: "null" if value is None else str(value)[:500] for key, value in beginning.settings.items()}
