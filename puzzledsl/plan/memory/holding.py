"""Memory of a whole model: on each device, in spans of layers over several, or read layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.facts import fixed_params, total_params
from puzzledsl.ir.nodes import Shape
from puzzledsl.plan.memory.device import KEPT_SHARE, PARENT_SHARE, Device
from puzzledsl.plan.memory.stage_plan import Choice, size_text

READ_BYTES_PER_S = 2e9
"""Speed at which weights are read from files that the host's memory does not hold: one NVMe drive."""


@dataclass(frozen=True, slots=True)
class Holding:
    """Bytes of a model's weights on the fullest of `devices` devices, and the seconds of reading it once if it is paged."""

    weights_bytes: int
    devices: int
    read_s: float
    choices: tuple[Choice, ...]


def holding(shape: Shape, device: Device, *, spans: bool = False, once: bool = False) -> Holding:
    """Return how a model is held.

    `spans`: the stage runs on all devices, as a pipeline if the model does not fit one. `once`: each layer is used once, and no
    logits are computed.
    """
    whole, room = total_params(shape) * device.number_bytes, int(PARENT_SHARE * device.memory_bytes)
    if whole <= room:
        return Holding(whole, device.count if spans else 1, 0.0, ())
    why = f"its weights take {size_text(whole)} of {size_text(room)}"
    own = [ParentAttention().params(layer) + ParentFfn().params(layer) for layer in shape.each]
    fixed = fixed_params(shape)
    if spans and device.count > 1:
        part = (max(own) * ceil(shape.layers / device.count) + fixed) * device.number_bytes
        if part <= room:
            choice = Choice("sharding", f"spans of layers over {device.count} devices", why)
            return Holding(part, device.count, 0.0, (choice,))
    kept = 0 if once else fixed * device.number_bytes + int(KEPT_SHARE * device.memory_bytes)
    page = max(own) * device.number_bytes + kept
    choice = Choice("paging", "the parent is read layer by layer", why)
    return Holding(page, 1, whole / READ_BYTES_PER_S, (choice,))
