"""Memory and time of realising a child: healing (least squares, layer by layer) on the device, assembly in the host's memory."""

from __future__ import annotations

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.facts import total_params
from puzzledsl.ir.nodes import Shape
from puzzledsl.plan.flop import widest
from puzzledsl.plan.memory.activations import layer_forward_numbers
from puzzledsl.plan.memory.device import FLOAT32_BYTES, FLOAT64_BYTES, Device
from puzzledsl.plan.memory.holding import holding
from puzzledsl.plan.memory.stage_plan import StagePlan
from puzzledsl.plan.memory.tiles import tiles

SINGLE_PRECISION_TOKENS = 1 << 15
"""Tokens up to which the equations are solved in float32."""
GRAMS_SUMMED, GRAMS_SOLVED = 1, 3
"""Square matrices of the widest map while it is fitted: the sums, float64; and as solved, the ridge or damped, and the factor."""
STREAMS = 2
"""Streams of all tokens: the parent's and the child's."""
HELD_BYTES = 1 << 30
"""Inputs of a last map above this size are computed again when they are needed."""
SHARD_BYTES = 5 << 30
"""Bytes of a checkpoint's largest file, which is made in the host's memory."""


def realise_plan(
    name: str, shape: Shape, heal_tokens: int, device: Device, flop: float, *, stage: str = "realise"
) -> StagePlan:
    """Return the plan of healing on `heal_tokens` tokens (0: not healed) and assembly."""
    number, hidden = device.number_bytes, shape.hidden
    if not heal_tokens:
        return StagePlan(stage, name, {}, 0.0, host_bytes=_file_bytes(shape, device))
    held = holding(shape, device, once=True)
    width = max(max(widest(own), own.heads * own.head_dim) for own in shape.each)
    layer = max(ParentAttention().params(own) + ParentFfn().params(own) for own in shape.each)
    forward = max(layer_forward_numbers(own, ParentAttention(), ParentFfn()) for own in shape.each)
    solved = FLOAT32_BYTES if heal_tokens <= SINGLE_PRECISION_TOKENS else FLOAT64_BYTES
    matrix = width**2 + 2 * width * hidden  # the Gram matrix, and its right-hand sides
    grams = matrix * (GRAMS_SUMMED * FLOAT64_BYTES + GRAMS_SOLVED * solved)
    read = heal_tokens * width * number
    tokens = min(heal_tokens, tiles(device.kind).forward_tokens)
    return StagePlan(
        stage=stage,
        name=name,
        parts={
            "parent": held.weights_bytes,
            "the child's layer": layer * number,
            "Gram matrices": grams,
            "streams": STREAMS * heal_tokens * hidden * number,
            "inputs of a last map": read if read <= HELD_BYTES else 0,
            "activations": tokens * (forward * number + 2 * (width + 2 * hidden) * FLOAT32_BYTES),
        },
        seconds=flop / device.flop_per_s + 2 * held.read_s,
        host_bytes=_file_bytes(shape, device),
        choices=held.choices,
    )


def export_plan(name: str, shape: Shape, device: Device) -> StagePlan:
    """Return the plan of writing a child: one file at a time, in the host's memory."""
    return StagePlan("export", name, {}, 0.0, host_bytes=_file_bytes(shape, device))


def _file_bytes(shape: Shape, device: Device) -> int:
    return min(SHARD_BYTES, total_params(shape) * device.number_bytes)
