"""The faults that a user can mend, and what a command ends with for each."""

from __future__ import annotations

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from data.errors import DataError
from trainer.errors import TrainingError

EXIT_BUG, EXIT_CONFIG, EXIT_DATA, EXIT_TRAINING = 1, 2, 3, 4
TRAINING_FAULTS = (TrainingError, OSError)
FAULTS = (ValueError, *TRAINING_FAULTS, HydraException, OmegaConfBaseException)


def exit_code(error: Exception) -> int:
    if not isinstance(error, FAULTS):
        return EXIT_BUG
    if isinstance(error, DataError):
        return EXIT_DATA
    if isinstance(error, HydraException):  # an unknown choice of a group is an OSError too
        return EXIT_CONFIG
    return EXIT_TRAINING if isinstance(error, TRAINING_FAULTS) else EXIT_CONFIG
