"""How much memory there is, and the most that was taken."""

from __future__ import annotations

import ctypes
import platform
import re
from pathlib import Path

import torch

_STATUS, _CLEAR, _MACHINE = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/meminfo")
_CLEAR_PEAK = "5"  # proc(5): resets the peak of the resident set


def forget_peak(device: torch.device) -> None:
    """From here on the peak is looked for. On the CPU what was freed is given back first, else it would still count."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "cpu" and _CLEAR.exists():
        if platform.libc_ver()[0] == "glibc":
            ctypes.CDLL(None).malloc_trim(0)
        _CLEAR.write_text(_CLEAR_PEAK, encoding="ascii")


def peak_bytes(device: torch.device) -> int | None:
    """Of the device, or of this process where that is the CPU; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _field(_STATUS, "VmHWM") if device.type == "cpu" and _CLEAR.exists() else None


def room_bytes(device: torch.device) -> int | None:
    """What this process may come to take in all; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    free, own = _field(_MACHINE, "MemAvailable"), _field(_STATUS, "VmRSS")
    return None if device.type != "cpu" or free is None or own is None else free + own


def _field(file: Path, name: str) -> int | None:
    if not file.is_file():
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB", file.read_text(encoding="ascii"), re.MULTILINE)
    return None if found is None else 1024 * int(found[1])
