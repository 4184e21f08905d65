"""Tracking a run: a thread beside it that reads what the run writes and tells a tracker, so that no update waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from data.errors import one_line
from trainer.config.trackers import TrackerConfig
from trainer.exit_codes import EXIT_BUG, exit_code
from trainer.run_dir import RunDir
from trainer.stopping import Pruned, Stopped
from trainer.trackers.ending import read_beginning, read_ending
from trainer.trackers.points import Points
from trainer.trackers.tracker import Point, Tracker

log = logging.getLogger(__name__)

SECONDS_BETWEEN = 5.0  # from one look at the files to the next
SECONDS_TO_END = {"finished": 120.0, "failed": 20.0, "stopped": 20.0}  # a cluster kills soon after it has sent SIGTERM
SECONDS_TO_LEAVE = 2.0  # for who asked twice
LONGEST_REASON = 300  # characters


@contextmanager
def tracked(config: TrackerConfig, run_dir: RunDir, num_updates: int) -> Iterator[None]:
    """Tells the tracker of the run in the block, and in the end how it ended.

    `num_updates`: those that the run has made before. Nothing that a tracker does ends the run.
    """
    # Imported here and not by the thread: a loader process that is forked in the middle of an import would wait for it.
    tracker = None
    with _never_ending_the_run(config.kind):
        tracker = config.build(run_dir)
    if tracker is None:
        yield
        return
    follower = _Follower(tracker, run_dir, num_updates, images=getattr(config, "images", False))
    follower.start()
    how = ("stopped", EXIT_BUG, SECONDS_TO_LEAVE)  # by what is no Exception, such as a second Ctrl-C
    try:
        yield
        how = ("finished", 0, SECONDS_TO_END["finished"])
    except Stopped as stopped:
        how = ("stopped", stopped.exit_code, SECONDS_TO_LEAVE if stopped.at_once else SECONDS_TO_END["stopped"])
        raise
    except Pruned:
        how = ("stopped", 0, SECONDS_TO_END["stopped"])
        raise
    except Exception as error:
        how = ("failed", exit_code(error), SECONDS_TO_END["failed"])
        raise
    finally:
        follower.end(*how)


class _Follower(threading.Thread):
    """All calls of a tracker. It dies with the process, so a tracker that hangs does not keep it alive."""

    def __init__(self, tracker: Tracker, run_dir: RunDir, num_updates: int, *, images: bool) -> None:
        super().__init__(name=f"tracker {tracker.name}", daemon=True)
        self._tracker, self._run_dir, self._images = tracker, run_dir, images
        self._num_updates = num_updates
        self._points = Points(run_dir)
        self._ended = threading.Event()
        self._given_up = threading.Event()
        self._status, self._exit_code = "", 0

    def run(self) -> None:
        with _never_ending_the_run(self._tracker.name, self._given_up):
            where = self._tracker.begin(read_beginning(self._run_dir, self._num_updates))
            log.info("tracker %s: %s", self._tracker.name, where)
            self._log_new()
            while not self._ended.wait(SECONDS_BETWEEN):
                self._log_new()
            self._log_new()
            self._tracker.close(
                read_ending(self._run_dir, self._status, self._exit_code, self._num_updates, images=self._images)
            )

    def end(self, status: str, code: int, seconds: float) -> None:
        """Let the tracker come to its end, and wait for it, but not for ever."""
        self._status, self._exit_code = status, code
        self._ended.set()
        self.join(seconds)
        if self.is_alive():
            self._given_up.set()
            log.warning(
                "tracker %s: it has not ended after %g s and is left as it is, so it may lack the newest points; "
                "lr_history.csv and metrics.csv are complete",
                self._tracker.name,
                seconds,
            )

    def _log_new(self) -> None:
        while points := self._points.read():
            self._num_updates = max(self._num_updates, _updates_until(points[-1]))
            if lacking := [point for point in points if self._tracker.lacks(point)]:
                self._tracker.log(lacking)


def _updates_until(point: Point) -> int:
    return point.iteration if point.ends_epoch else point.iteration + 1


@contextmanager
def _never_ending_the_run(name: str, given_up: threading.Event | None = None) -> Iterator[None]:
    """Tells once why a tracker is not called again.

    `given_up`: set once it was told that the tracker is waited for no longer.
    """
    try:
        yield
    # Any exception at all: a tracker is a package of others, with a network, a disk and versions behind it, and hours
    # of training are worth more than its points, which are all in the CSVs. Nothing of ours is hidden by it: the
    # reason is told, and the run's own faults are raised in another thread.
    except Exception as error:
        if given_up is None or not given_up.is_set():
            reason = one_line(str(error))[:LONGEST_REASON] or type(error).__name__
            log.warning(
                "tracker %s failed (%s: %s): the run goes on without it; lr_history.csv and metrics.csv are complete",
                name,
                type(error).__name__,
                reason,
            )
