"""What can go wrong while training that the person at the keyboard can do something about."""


class TrainingError(RuntimeError):
    """Training can't go on; the message says where it was, at which rates, and what to try."""
