"""Trains landmark detectors and image classifiers in two phases under cyclical learning rates. `python -m trainer --help`."""

__version__ = "0.1.0"
