"""Trains landmark detectors in two phases under cyclical learning rates. See `python -m trainer --help`.

`from trainer import load` is a finished run as a predictor: `load(folder).predict(images)` gives a table.
`from trainer import LRFinder` is the learning-rate range test for any other torch model.
`from trainer import main, part` make a class of a script's own a choice of the command line (docs/own_schedule.md).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data.samples import Sample
    from trainer.config.own_data import OwnData
    from trainer.config.own_models import OwnDecoder, OwnLabelHead, OwnPoints
    from trainer.config.own_schedule import OwnSchedule
    from trainer.config.own_tasks import OwnClasses, OwnNumbers
    from trainer.config.schedules import Rate
    from trainer.lr_finder import LRFinder, TrainDataLoaderIter, ValDataLoaderIter
    from trainer.own_script import main
    from trainer.parts import part
    from trainer.serving.predictor import Predictor, load

__all__ = [
    "LRFinder", "OwnClasses", "OwnData", "OwnDecoder", "OwnLabelHead", "OwnNumbers", "OwnPoints", "OwnSchedule",
    "Predictor", "Rate", "Sample", "TrainDataLoaderIter", "ValDataLoaderIter", "load", "main", "part",
]  # fmt: skip
__version__ = "0.1.0"

# Those of serving and of the range test import torch, so each is imported for who asks for its names.
_MODULES = {
    "data.samples": ("Sample",),
    "trainer.config.own_data": ("OwnData",),
    "trainer.config.own_models": ("OwnDecoder", "OwnLabelHead", "OwnPoints"),
    "trainer.config.own_schedule": ("OwnSchedule",),
    "trainer.config.own_tasks": ("OwnClasses", "OwnNumbers"),
    "trainer.config.schedules": ("Rate",),
    "trainer.lr_finder": ("LRFinder", "TrainDataLoaderIter", "ValDataLoaderIter"),
    "trainer.own_script": ("main",),
    "trainer.parts": ("part",),
    "trainer.serving.predictor": ("Predictor", "load"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
