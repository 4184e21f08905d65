"""Where a run or a sweep goes: the resolvers behind hydra.run.dir and hydra.sweep.dir."""

from __future__ import annotations

from itertools import chain, count
from pathlib import Path

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from trainer.run_dir import RunDir
from trainer.sweep import find_sweep, typed_for


def register_output_dirs() -> None:
    """Make the resolvers known to Hydra. A config and those made from it, as the jobs of a sweep, keep the answer."""
    OmegaConf.register_new_resolver("run_dir", _run_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("sweep_dir", _sweep_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("out_dir", _out_dir, use_cache=True, replace=True)


def new_folder(path: Path, *, claim: bool) -> Path:
    """`path`, or if it is there already, the first of path_2, path_3, ... that is not.

    `claim`: make the folder in the same breath, so that no other process gets it. Where that is impossible, the path is
    returned all the same; whoever writes to it tells why.
    """
    candidates = chain([path], (path.with_name(f"{path.name}_{number}") for number in count(2)))
    if not claim:
        return next(candidate for candidate in candidates if not candidate.exists())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return path
    for candidate in candidates:
        try:
            candidate.mkdir()
        except FileExistsError:
            continue
        except OSError:
            pass
        break
    return candidate


def _run_dir(resume: str | None, mode: RunMode | None, fresh: str) -> str:
    """The run to go on with, or a new folder below outputs/; `mode` is None where the config is only shown."""
    if resume is None:
        return str(new_folder(Path("outputs", fresh), claim=mode is not None))
    RunDir(Path(resume)).check_exists()
    return resume


def _out_dir(out: str | None, mode: RunMode | None, fresh: str) -> str:
    """The folder that was asked for, or a new one; `mode` is None where the config is only shown."""
    return str(new_folder(Path(fresh), claim=mode is not None)) if out is None else out


def _sweep_dir(resume: bool, mode: RunMode | None, overrides: DictConfig, fresh: str) -> str:
    """The sweep that the same command started, or a new folder below multirun/."""
    if resume:
        return str(find_sweep(typed_for(overrides)))
    return str(new_folder(Path("multirun", fresh), claim=mode is not None))
