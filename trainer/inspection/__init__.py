"""Looking at the data of a run before it: `python -m trainer.check`. Needs no torch."""
