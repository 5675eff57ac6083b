"""Where a parent runs here: the GPU where there is one, and a dtype it fits in."""

from __future__ import annotations

from pathlib import Path

import torch


def placement(parent_dir: Path) -> tuple[torch.device, torch.dtype]:
    """(device, dtype) for a checkpoint: float32, unless a GPU holds it only in bfloat16 (weights may take 60 % of it)."""
    if not torch.cuda.is_available():
        return torch.device("cpu"), torch.float32
    device = torch.device("cuda")
    stored = sum(path.stat().st_size for path in parent_dir.glob("*.safetensors"))
    room = torch.cuda.get_device_properties(device).total_memory * 0.6
    return device, torch.float32 if 2 * stored <= room else torch.bfloat16
