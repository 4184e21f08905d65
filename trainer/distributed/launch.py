"""What torchrun tells a process, and how all processes but the first keep to themselves. torch is not needed for it."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.utils import get_args_parser  # the parser that hydra.main uses; there is no public way to it

from trainer.command_line import command, override
from trainer.config.run import TrainConfig
from trainer.errors import LostProcessError
from trainer.run_dir import RunDir

VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
SECONDS_FOR_RANK_0 = 3.0


@dataclass(frozen=True)
class Launch:
    """This process among those of the run: `rank` of `count`, and on its machine `local_rank` of `local_count`."""

    rank: int
    count: int
    local_rank: int
    local_count: int


def launched() -> Launch | None:
    """None for a run by one process.

    Raises:
        ValueError: the environment says that there are several, but not as torchrun does.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if size == "1":
        return None
    if lacking := [name for name in VARIABLES if not os.environ.get(name)]:
        raise ValueError(
            f"WORLD_SIZE={size} is set in the environment, but not {', '.join(lacking)}: start several processes by "
            "torchrun --nproc-per-node=N -m trainer ..., or unset WORLD_SIZE for one"
        )
    try:
        count, rank, local_rank, local_count = (int(os.environ[name]) for name in VARIABLES[:4])
    except ValueError:
        told = " ".join(f"{name}={os.environ[name]}" for name in VARIABLES[:4])
        raise ValueError(
            f"the environment has {told}, expected whole numbers: start several processes by "
            "torchrun --nproc-per-node=N -m trainer ..., or unset WORLD_SIZE for one"
        ) from None
    return Launch(rank, count, local_rank, local_count)


def check_arguments_of_several(arguments: Sequence[str], launch: Launch) -> None:
    """Raises ValueError for a sweep: its jobs come one after the other, each by one process."""
    if get_args_parser().parse_known_args(arguments)[0].multirun:
        raise ValueError(
            f"-m does not go with torchrun (here {launch.count} processes): run the sweep by "
            f"{command('python')} -m ..., or each of its jobs by a torchrun of its own"
        )


def check_config_of_several(config: TrainConfig, launch: Launch) -> None:
    """Raises ValueError for a config that several processes can't share."""
    if config.data.batch_size < launch.count:
        raise ValueError(
            f"data.batch_size={config.data.batch_size} is shared by the {launch.count} processes of torchrun, and each "
            f"needs an image of it: give data.batch_size={launch.count} or more, or start fewer processes"
        )
    if config.device not in ("auto", "cpu", "cuda"):
        raise ValueError(
            f"device={config.device} does not go with torchrun (here {launch.count} processes), under which each "
            "process takes a GPU of its own: give device=cuda, device=cpu or device=auto"
        )
    if config.compile:
        raise ValueError(
            f"compile=true does not go with torchrun (here {launch.count} processes), whose batch norm looks at the "
            "whole batch; give compile=false"
        )


def keep_quiet(rank: int) -> None:
    """For all processes but the first: no output but faults, and a run directory that goes when the process does.

    So whatever they write (logs, pictures) they write for themselves, and none of the places where a run writes has to
    know of them.
    """
    scratch = Path(tempfile.mkdtemp(prefix=f"trainer_rank{rank}_"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    sys.argv.append(override("hydra.run.dir", str(scratch / "run")))
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # as long as the process lives


def borrow(run_dir: RunDir, resumed: Path) -> None:
    """Copy into a run directory of its own what a process that keeps quiet needs to go on with the run in `resumed`.

    Raises:
        ValueError: there is no run.
    """
    run_dir.home = resumed.absolute()
    RunDir(resumed).check_exists()
    for file in resumed.iterdir():
        if file.is_file() and file.suffix in (".yaml", ".json", ".csv"):
            shutil.copy(file, run_dir.path / file.name)


def may_tell(error: Exception) -> bool:
    """Whether it is up to this process to tell a fault, which others may have met too; it may wait before it knows."""
    if isinstance(error, LostProcessError):
        return error.tells
    if os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0":
        # A fault that all have met is told by the first; torchrun then ends this process while it sleeps.
        time.sleep(SECONDS_FOR_RANK_0)
    return True
