"""What can go wrong while training that the person at the keyboard can do something about."""


class TrainingError(RuntimeError):
    """Training can't go on; the message says where it was, at which rates, and what to try."""


class LostProcessError(TrainingError):
    """Another process of the run has ended. `tells`: this one is the first of those that are left."""

    def __init__(self, message: str, *, tells: bool) -> None:
        super().__init__(message)
        self.tells = tells
