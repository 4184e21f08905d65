"""What a user can get wrong, as data: a case, and the exit code and message that docs/faults.md promises for it."""

from __future__ import annotations

import importlib
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from hydra.core.global_hydra import GlobalHydra

PAGE = Path(__file__).parents[1] / "docs" / "faults.md"
ANYTHING = "…"  # stands for any text in a promised message


@dataclass(frozen=True)
class Fault:
    """`arrange` is given an empty folder, the working directory of the command, and returns the command's overrides."""

    name: str  # the first column of the page
    code: int  # 2 configuration, 3 data, 4 training
    message: str  # of the page, with … for what differs
    arrange: Callable[[Path], Sequence[str]]

    def check(self, folder: Path) -> None:
        """Make the mistake, and hold what is told against what was promised."""
        folder /= "here"  # messages cut long names short, and pytest's folders have names as long as it likes
        folder.mkdir()
        ended = run_main(*self.arrange(folder), folder=folder)
        assert ended.code == self.code, (ended.code, ended.err)
        assert "Traceback" not in ended.err + ended.out
        said = ended.err.strip()
        pattern = "error: " + ".*".join(re.escape(part) for part in self.message.split(ANYTHING))
        assert re.fullmatch(pattern, said, re.DOTALL), f"\npromised: {self.message}\nsaid:     {said}"


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def run_main(*arguments: str, folder: Path, program: str = "trainer.__main__") -> Ended:
    """`python -m trainer ...` without the seconds that a new process takes to import torch.

    `program`: the module whose main() is the command.
    """
    return run_here(importlib.import_module(program).main, "trainer", *arguments, folder=folder)


def run_here(main: Callable[[], object], *typed: str, folder: Path) -> Ended:
    """What a command comes to that is run in this process, in a folder; `typed` is sys.argv."""
    out, err = io.StringIO(), io.StringIO()
    root, before, code = logging.getLogger(), os.getcwd(), 0
    handlers, level = list(root.handlers), root.level
    os.chdir(folder)
    try:
        with (
            mock.patch.object(sys, "argv", list(typed)),
            mock.patch.dict(os.environ),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        os.chdir(before)
        GlobalHydra.instance().clear()
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers, root.level = handlers, level
    return Ended(code, out.getvalue(), err.getvalue())


def promised() -> dict[str, tuple[int, str]]:
    """The rows of the page: what is wrong -> exit code, message."""
    rows = re.findall(r"^\| (.+?) \| ([234]) \| `` ?(.+?) ?`` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: (int(code), message) for name, code, message in rows}
