"""What a run ran on: versions, machine, command."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from trainer.command_line import SCRIPT, command
from trainer.parts import registered

PACKAGES = ("trainer", "torch", "timm", "albumentations", "opencv-python-headless", "numpy", "pandas", "hydra-core")


def describe_environment(overrides: list[str]) -> dict[str, Any]:
    return {
        "command": f"{command()} {shlex.join(overrides)}".rstrip(),
        "overrides": overrides,
        "script": os.environ.get(SCRIPT),  # of the user's, where it was the command
        "own_parts": registered(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "folder": os.getcwd(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "devices": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] or ["cpu"],
        "versions": {package: version(package) for package in PACKAGES},
        "executable": sys.executable,
    }
