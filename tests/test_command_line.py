"""Commands to paste, read by a real shell and by Hydra's own parser."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from trainer.command_line import override, resume_command

PATHS = [
    "/plain/outputs/2026-11-22/10-31-05_landmarks",
    "/with space/run",
    "/umlaut ä/ру́н/走",
    "/a=b/c[1]/{x}/run",
    "/it's/run",
    '/said "so"/run',
    "/comma, and; semicolon/run",
    "/back\\slash/run",
    "/ends with backslash\\",
    "/dollar $HOME/${seed}/$(touch x)/run",
    "/hash #1/`touch x`/run",
    "/colon: a/b!c/~/*?",
    "/trailing space /run ",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_pasted_resume_command_gives_back_the_path(path: str, tmp_path: Path) -> None:
    command = resume_command(Path(path))
    assert command.startswith("python -m trainer ")
    print_arguments = f"{sys.executable} -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "
    typed = command.replace("python -m trainer ", print_arguments, 1)
    shell = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, cwd=tmp_path, check=True)
    (argument,) = json.loads(shell.stdout)
    parsed = OverridesParser.create().parse_override(argument)
    assert parsed.key_or_group == "resume"
    value = parsed.value()
    assert str(value).replace("\\${", "${") == path  # OmegaConf takes the backslash away when the value is read
    assert list(tmp_path.iterdir()) == []


def test_plain_values_are_left_as_they_are() -> None:
    assert override("seed", "3") == "seed=3"
    assert override("data.table", "a b.csv") == 'data.table="a b.csv"'
