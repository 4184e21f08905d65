"""Runs held against each other: what differs, which setting is best, and whether that is more than chance."""
