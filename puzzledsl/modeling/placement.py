"""Where a parent runs here: the GPU where there is one, in a dtype it fits in, and layer by layer where it fits in none."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel

from puzzledsl.modeling.memory import room_bytes
from puzzledsl.parents.load import load_parent
from puzzledsl.parents.paged import paged_parent
from puzzledsl.parents.tensors import open_weights
from puzzledsl.progress import Progress
from puzzledsl.units import BYTES, format_quantity

SHARE = 0.6
"""Of the memory that is free, weights may take this much; the rest is for activations and for pieces."""
KEPT_SHARE = 0.25
"""Of the memory that is free, what a parent that does not fit may keep for when it is needed again."""


def placement(parent_dir: Path) -> tuple[torch.device, torch.dtype]:
    """(device, dtype) for a checkpoint: float32, unless a GPU holds it only in bfloat16 (weights may take 60 % of it)."""
    if not torch.cuda.is_available():
        return torch.device("cpu"), torch.float32
    device = torch.device("cuda")
    stored = sum(path.stat().st_size for path in parent_dir.glob("*.safetensors"))
    room = free_bytes(device) * SHARE
    return device, torch.float32 if 2 * stored <= room else torch.bfloat16


def reachable_parent(parent_dir: Path, progress: Progress, *, once: bool) -> PreTrainedModel:
    """The parent where it runs here: loaded, or, where memory is too small for it, with its weights read as they are needed.

    `once`: each layer is run for the last time before the next one is, so none need be kept; the head is not needed.
    Numbers are the same either way. Raises DiagnosticError: those of `load_parent`.
    """
    device, dtype = placement(parent_dir)
    needed, room = weights_bytes(parent_dir, dtype), free_bytes(device)
    if needed <= SHARE * room:
        return load_parent(parent_dir, dtype=dtype, device=device)
    kept = 0 if once else int(KEPT_SHARE * room)
    progress.log(
        "paged",
        text=f"the parent's weights ({format_quantity(needed, BYTES)}) do not fit in memory "
        f"({format_quantity(room, BYTES)} is free): they are read layer by layer",
        weights_bytes=needed,
        room_bytes=room,
        kept_bytes=kept,
    )
    model, _ = paged_parent(parent_dir, room_bytes=kept, keep_head=not once, dtype=dtype, device=device)
    return model


def weights_bytes(parent_dir: Path, dtype: torch.dtype) -> int:
    """Bytes of a checkpoint's weights in `dtype`. Raises DiagnosticError (NoCheckpoint, DamagedWeights)."""
    stored = open_weights(parent_dir).values()
    return sum(weight.nbytes // weight.dtype.itemsize for weight in stored) * dtype.itemsize


def free_bytes(device: torch.device) -> int:
    """Memory for weights and all else: what a GPU has, or what this process may still take."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return room_bytes()


def faster_in_bfloat16(device: torch.device) -> bool:
    """True on a GPU, and on a CPU that multiplies bfloat16 itself (AVX512-BF16 or AMX); elsewhere it is emulated and slow."""
    if device.type != "cpu":
        return device.type == "cuda"
    cpu = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16"))
