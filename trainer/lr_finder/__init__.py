"""The learning-rate range test for any torch model, optimizer and loader, outside any config: `LRFinder`."""

from trainer.lr_finder.finder import LRFinder
from trainer.lr_finder.loaders import TrainDataLoaderIter, ValDataLoaderIter

__all__ = ["LRFinder", "TrainDataLoaderIter", "ValDataLoaderIter"]
