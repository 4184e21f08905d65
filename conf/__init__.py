"""The configuration of `python -m trainer`, one folder per group. A package only so that it travels with the others."""
