"""The bar of an epoch on a terminal: what it shows, and how seldom it is drawn."""

import io
import math

import pytest
from rich.console import Console
from rich.progress import Progress
from test_planning import a_record

from trainer.progress import EpochProgress


def test_the_bar_shows_the_first_update_then_as_often_as_it_can_be_read_and_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trainer.progress.SHOWN_EVERY", math.inf)
    bar = Progress(console=Console(file=io.StringIO(), force_terminal=True))
    epoch = EpochProgress(bar, steps=3, steps_after=0)
    (task,) = bar.tasks
    shown = []
    for loss in (0.5, 0.25, 0.125):
        epoch.advance(a_record(0)._replace(loss=loss))
        shown.append((task.completed, task.fields["loss"], task.fields["rate"]))
    assert shown == [(1, "0.5000", "1.00e-03"), (1, "0.5000", "1.00e-03"), (3, "0.1250", "1.00e-03")]
    assert task.fields["left"] == "0s"

    monkeypatch.setattr("trainer.progress.SHOWN_EVERY", 0.0)
    again = EpochProgress(bar, steps=3, steps_after=1000)
    task = bar.tasks[-1]
    for done in (1, 2):
        again.advance(a_record(0))
        assert task.completed == done
