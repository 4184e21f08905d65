"""Trains landmark detectors in two phases under cyclical learning rates. See `python -m trainer --help`."""

__version__ = "0.1.0"
