"""What a fault is told as, whatever its message holds."""

import pytest

from trainer.fault_message import LONGEST, fault_message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("data.root=a:\nnot\r\nthere\n", "data.root=a: not there"),
        ("data.root=\x1b[2J is no folder", r"data.root=\x1b[2J is no folder"),
        ("", "ValueError"),
        ("a" * 3000 + "b" * 3000, "a" * (LONGEST // 2) + " ... " + "b" * (LONGEST // 2)),
    ],
)
def test_a_fault_is_told_in_one_line_without_codes_that_a_terminal_obeys(text: str, told: str) -> None:
    assert fault_message(ValueError(text)) == told
