"""Trains landmark detectors in two phases under cyclical learning rates. See `python -m trainer --help`.

`from trainer import LRFinder` is the learning-rate range test for any other torch model.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.lr_finder import LRFinder, TrainDataLoaderIter, ValDataLoaderIter

__all__ = ["LRFinder", "TrainDataLoaderIter", "ValDataLoaderIter"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports torch only for who asks for the names of `__all__`."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import trainer.lr_finder

    return getattr(trainer.lr_finder, name)
