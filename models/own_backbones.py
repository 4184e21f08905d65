"""Backbones of a user's own: what makes each, by the name that model.backbone gives it. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

OWN_BACKBONES: dict[str, Callable[[], Any]] = {}  # to an nn.Module: normalised images (N, 3, H, W) to feature maps
