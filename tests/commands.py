"""The command in a process of its own, without the seconds that importing torch takes.

Processes are forked from a server that has imported the program and does nothing else (multiprocessing's forkserver):
real processes, with signals, exit codes, a working directory and output of their own.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
PROGRAMS = {"trainer": "trainer.__main__"}
CONTEXT.set_forkserver_preload(["trainer.__main__", "trainer.train", "data.augmentation", "tests.warm"])


class Command:
    """What subprocess.Popen is, as far as tests need it; output is that of files, so nothing can block on it."""

    def __init__(
        self, *arguments: str, folder: Path, module: str = "trainer", variables: dict[str, str] | None = None
    ) -> None:
        """`variables`: of the environment, beside those of the tests."""
        self.args = arguments
        self._files = [Path(name) for _, name in (tempfile.mkstemp(), tempfile.mkstemp())]
        self._process = CONTEXT.Process(
            target=_run, args=(module, arguments, str(folder), *map(str, self._files), variables or {}), daemon=False
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Standard output and error, once it has ended."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            raise subprocess.TimeoutExpired(self.args, timeout)
        out, err = (file.read_text(encoding="utf-8") for file in self._files)
        return out, err


def run_module(*arguments: str, folder: Path, module: str = "trainer") -> subprocess.CompletedProcess[str]:
    process = Command(*arguments, folder=folder, module=module)
    out, err = process.communicate()
    assert process.returncode is not None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _run(module: str, arguments: tuple[str, ...], folder: str, out: str, err: str, variables: dict[str, str]) -> None:
    """In the new process: what `python -m module` does, in a session of its own."""
    import torch

    os.setsid()
    os.environ.update(variables)
    os.chdir(folder)
    for number, name in ((1, out), (2, err)):
        os.dup2(os.open(name, os.O_WRONLY), number)
    torch.set_num_threads(1)
    sys.argv = [module, *arguments]
    importlib.import_module(PROGRAMS.get(module, module)).main()
