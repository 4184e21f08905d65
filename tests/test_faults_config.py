"""Mistakes on the command line: one message each, exit code 2, as docs/faults.md promises."""

from pathlib import Path

import pytest
from faults import Fault, promised

FAULTS = [
    Fault(
        "base_lr above max_lr",
        2,
        "phases.frozen.scheduler: scheduler.base_lr=1.0 must be below scheduler.max_lr=0.003",
        lambda folder: ["scheduler.base_lr=1"],
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_mistake_is_told_as_promised(fault: Fault, tmp_path: Path) -> None:
    fault.check(tmp_path)


def test_the_page_promises_what_is_tested_here() -> None:
    rows = promised()
    assert {fault.name: (fault.code, fault.message) for fault in FAULTS}.items() <= rows.items()
