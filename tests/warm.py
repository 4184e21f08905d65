"""Imported by the server that the processes of commands are forked from: what each of them would import and set up."""

# ruff: noqa: F401
import gc

import hydra

import data.augmentation
import models.landmarks
import trainer.__main__
import trainer.tasks.landmark_tables
import trainer.tasks.landmarks
import trainer.train

# The parser of overrides builds its tables, and Hydra finds its plugins, the first time.
with hydra.initialize_config_module("conf", version_base="1.3"):
    hydra.compose("config", overrides=["seed=1", "data.workers=0", "phases.frozen.epochs=2", "model.weights=none"])
gc.collect()
gc.freeze()  # what is there is never looked through again
