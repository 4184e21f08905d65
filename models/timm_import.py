"""`timm`, importable beside every torch build.

timm imports torchvision, whose CUDA wheel can't load its operators on a CPU-only torch and then fails while it
describes them (pytorch/vision issue 9085). Declaring those operators is enough: nothing here ever calls them.
"""

import re
from importlib import import_module

import torch


def _import_torchvision() -> None:
    while True:
        try:
            import_module("torchvision")
            return
        except RuntimeError as error:
            operator = re.match(r"operator (torchvision::\w+) does not exist", str(error))
            if operator is None:
                raise
            torch.library.define(operator[1], "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


_import_torchvision()
import timm  # noqa: E402

__all__ = ["timm"]
