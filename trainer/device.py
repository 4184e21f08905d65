"""Where and in which precision tensors are computed."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.grouped import GroupedGradientsInFloat32

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


@dataclass(frozen=True)
class Compute:
    """One device under one precision and memory layout."""

    device: torch.device
    precision: str  # fp32, bf16, fp16
    memory_format: str  # of images and weights: channels_last, contiguous

    def autocast(self) -> AbstractContextManager[None]:
        return nullcontext() if self.precision == "fp32" else self._rounded()

    @contextmanager
    def _rounded(self) -> Iterator[None]:
        grouped = GroupedGradientsInFloat32() if self.device.type == "cpu" else nullcontext()
        with torch.autocast(self.device.type, dtype=_AUTOCAST_TYPES[self.precision]), grouped:
            yield

    def grad_scaler(self) -> torch.amp.GradScaler:
        """Scales losses under fp16, whose gradients would underflow; does nothing otherwise."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def place(self, model: nn.Module) -> nn.Module:
        layout: Any = {"memory_format": _MEMORY_FORMATS[self.memory_format]}  # missing in torch's stubs
        return model.to(self.device).to(**layout)

    def send(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Tensors and lists of tensors; images are laid out as the model is, features of a backbone are already."""
        if self.device.type != "cpu":
            batch = {
                key: [self._sent(item) for item in value] if isinstance(value, list) else self._sent(value)
                for key, value in batch.items()
            }
        image = batch["image"]
        if isinstance(image, Tensor):
            batch = batch | {"image": image.to(memory_format=_MEMORY_FORMATS[self.memory_format])}
        return batch

    def _sent(self, value: Tensor) -> Tensor:
        if self.device.type == "mps" and value.dtype == torch.float64:
            return value
        return value.to(self.device, non_blocking=True)


def keep_freed_memory() -> None:
    """Let glibc keep what tensors free: by default each large one is mapped and zeroed by the kernel anew, which costs
    a quarter of a CPU training step. Does nothing where the C library is another."""
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    mallopt(_M_TRIM_THRESHOLD, 1 << 30)


def has_bf16_units(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 by itself; what torch only emulates is slower than float32."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    if platform.machine().lower() in ("aarch64", "arm64"):
        return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported())  # every CPU with AMX has it too


def build_compute(device: str, precision: str, memory_format: str) -> Compute:
    """`auto` stands for fp32 and channels_last, from which a run sets out to find what is faster.

    Raises ValueError where this machine has no such device or the device no such precision.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    chosen = torch.device(device)
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ValueError(f"device={device}: torch finds {found} CUDA devices here; use device=cpu or device=auto")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device={device}: torch finds no Metal device here; use device=cpu or device=auto")
    if chosen.type == "cpu" and precision == "fp16":
        raise ValueError("precision=fp16 does not train on a CPU; use precision=bf16 or fp32")
    return Compute(
        chosen,
        "fp32" if precision == "auto" else precision,
        "channels_last" if memory_format == "auto" else memory_format,
    )
