"""Memory and time of a parent that writes text: a batch of documents with a KV cache."""

from __future__ import annotations

from puzzledsl.alternatives.parent import ParentAttention
from puzzledsl.ir.facts import total_params
from puzzledsl.ir.nodes import Shape
from puzzledsl.plan.memory.device import FLOAT32_BYTES, Device
from puzzledsl.plan.memory.stage_plan import StagePlan

ROWS = 64
"""Documents of a batch."""
DECODING = 2.0
"""A decoded token's time over a prefilled one's arithmetic, in a batch: weights and cache are read at every step."""
LOGITS = 4  # float32 copies of a step's logits: scaled, sorted, probabilities, random numbers


def sampling_plan(name: str, shape: Shape, length: int, device: Device, flop: float) -> StagePlan:
    """Return the plan of writing documents of at most `length` tokens behind short prompts."""
    number = device.number_bytes
    cached = sum(2 * ParentAttention().cached_heads(own) * own.head_dim for own in shape.each)
    return StagePlan(
        stage="sample",
        name=name,
        parts={
            "parent": total_params(shape) * number,
            "KV cache": ROWS * length * cached * number,
            "logits": LOGITS * ROWS * shape.vocab * FLOAT32_BYTES,
        },
        seconds=flop / device.flop_per_s,
    )
