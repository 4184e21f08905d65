"""What `python -m trainer.export` is told."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from hydra.core.config_store import ConfigStore

from trainer.config.checks import check_choice
from trainer.run_dir import RunDir

ENDINGS = {"onnx": ".onnx", "torchscript": ".pt", "safetensors": ".safetensors"}
NEEDED = {"onnx": ("onnx", "onnxruntime")}  # packages of the extra `export`


@dataclass(kw_only=True)
class ExportSettings:
    run: str
    format: str
    out: str | None
    overwrite: bool

    def __post_init__(self) -> None:
        check_choice("format", self.format, tuple(ENDINGS))
        if self.out is not None and not self.out.endswith(ENDINGS[self.format]):
            raise ValueError(f"out={self.out} does not end in {ENDINGS[self.format]}, as files of {self.format} do")
        missing = [name for name in NEEDED.get(self.format, ()) if find_spec(name) is None]
        if missing:
            raise ValueError(f'format={self.format} needs {missing[0]}; type pip install "trainer[export]"')

    @property
    def target(self) -> Path:
        """The file to write; raises ValueError for one that is there, or its JSON, unless it may be replaced."""
        usual = Path("exports") / (Path(self.run).resolve().name + ENDINGS[self.format])
        target = usual if self.out is None else Path(self.out)
        if target.is_dir():
            raise ValueError(f"out={target} is a folder; name a file")
        standing = next(folder for folder in target.parents if folder.exists())
        if not standing.is_dir():
            raise ValueError(f"out={target}: {standing} is not a folder")
        checkpoints = RunDir(Path(self.run)).last_checkpoint.parent
        if target.resolve().is_relative_to(checkpoints.resolve()):
            raise ValueError(f"out={target} is among the checkpoints of the run; name a file elsewhere")
        for path in (target, beside(target)):
            if path.exists() and not self.overwrite:
                told = f"out={target}" if path == target else f"out={target}: {path.name} beside it"
                raise ValueError(f"{told} is there already; name another file, or give overwrite=true")
        return target


def beside(target: Path) -> Path:
    """The JSON that tells of a file."""
    return target.with_name(target.name + ".json")


def register_export_schema() -> None:
    ConfigStore.instance().store(group="schema", name="export", node=ExportSettings)
