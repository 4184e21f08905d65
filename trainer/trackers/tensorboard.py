"""TensorBoard: event files in the run directory."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import SummaryWriter

from trainer.run_dir import RunDir
from trainer.trackers.identity import Identity
from trainer.trackers.tracker import Beginning, Ending, Point

MONITORED = "final/taken/value"  # what TensorBoard's table of settings ranks runs by


class TensorBoardTracker:
    """Points are at the update that they are of. An event file can't be cut: what is written anew after a kill is
    announced as such (purge_step), and readers forget what they had from there on."""

    name = "tensorboard"

    def __init__(self, run_dir: RunDir, *, images: bool) -> None:
        self._folder = run_dir.path / "tensorboard"
        self._identity = Identity(run_dir, self.name)
        self._first = 0  # update from which on points are lacking

    def begin(self, beginning: Beginning) -> str:
        known = self._identity.read()
        self._first = min(known.get("num_updates", 0), beginning.num_updates)
        fresh = not known
        self._writer = SummaryWriter(str(self._folder), purge_step=None if fresh else self._first)
        text = "\n".join(f"    {key}: {value}" for key, value in beginning.settings.items())
        self._writer.add_text("config", text, self._first)
        if fresh:
            plain = {key: "null" if value is None else value for key, value in beginning.settings.items()}
            experiment, session, _ = hparams(plain, {MONITORED: 0.0})
            self._write(experiment, 0)
            self._write(session, 0)
        self._writer.flush()
        self._identity.write(num_updates=self._first)
        return f"tensorboard --logdir {self._folder}"

    def lacks(self, point: Point) -> bool:
        return point.iteration >= self._first

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            for name, value in point.values.items():
                self._writer.add_scalar(name, value, point.iteration)
        self._writer.flush()
        # All points before this update are in the file; an epoch that ended at it is written anew with it.
        last = points[-1]
        self._identity.write(num_updates=last.iteration + (not last.ends_epoch))

    def close(self, ending: Ending) -> None:
        for name, value in ending.results.items():
            self._writer.add_scalar(name, value, ending.num_updates)
        for name, path in ending.pictures.items():
            self._write(_picture(name, path), ending.num_updates)
        if ending.verdict:
            self._writer.add_text("verdict", ending.verdict, ending.num_updates)
        self._writer.close()

    def _write(self, summary: Summary, step: int) -> None:
        self._writer._get_file_writer().add_summary(summary, step)  # there is no public way to a summary as it is


def _picture(name: str, path: Path) -> Summary:
    """The PNG file as it is: SummaryWriter.add_image would unpack it and pack it again."""
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=content)
    return Summary(value=[Summary.Value(tag=name, image=image)])
