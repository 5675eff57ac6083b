"""Device of this machine, for the memory plan."""

from __future__ import annotations

import torch

from puzzledsl.models.memory import room_bytes
from puzzledsl.models.placement import free_bytes
from puzzledsl.plan.memory.device import Device


def this_device(device: torch.device, dtype: torch.dtype, *, held_bytes: int = 0) -> Device:
    """Return a device of this machine as plans take it, with unknown speeds.

    `held_bytes`: bytes that the process already holds of what the plan counts. A GPU's are in its total memory.
    """
    is_gpu = device.type == "cuda"
    memory = free_bytes(device) + (0 if is_gpu else held_bytes)
    return Device(
        name=torch.cuda.get_device_name(device) if is_gpu else "this machine's CPU",
        is_gpu=is_gpu,
        memory_bytes=memory,
        host_bytes=room_bytes(),
        dtype="fp32" if dtype == torch.float32 else "bf16",
        flop_per_s=0.0,
        float32_flop_per_s=0.0,
        bandwidth_bytes_per_s=0.0,
    )
