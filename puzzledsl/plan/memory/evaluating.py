"""Memory and time of an evaluation: parent and child beside each other, blocks of text, and logits in chunks."""

from __future__ import annotations

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.nodes import Shape
from puzzledsl.plan.memory.activations import layer_forward_numbers
from puzzledsl.plan.memory.device import FLOAT32_BYTES, PARENT_SHARE, Device
from puzzledsl.plan.memory.holding import holding
from puzzledsl.plan.memory.stage_plan import Choice, StagePlan, size_text
from puzzledsl.plan.memory.tiles import tiles

BLOCK_TOKENS = 512
"""Tokens of a block of text that runs at a time."""
LOGIT_TILES = 4
"""Float32 tiles of logits of one chunk: log-probabilities of both models, and their products."""


def evaluating_plan(name: str, shape: Shape, tokens: int, device: Device, flop: float) -> StagePlan:
    """Return the plan of an evaluation of a child at most as large as its parent, on `tokens` tokens of text.

    Both models are in memory if they fit together, else one after the other: the parent's final states are kept.
    """
    number = device.number_bytes
    held = holding(shape, device)
    both = 2 * held.weights_bytes
    together = not held.choices and both <= PARENT_SHARE * device.memory_bytes
    chunk = min(tokens, BLOCK_TOKENS, tiles(device.kind).divergence_positions)
    forward = max(layer_forward_numbers(own, ParentAttention(), ParentFfn()) for own in shape.each)
    choices = held.choices
    if not together and not choices:
        why = f"both take {size_text(both)}"
        choices = (Choice("models", "one after the other", why),)
    heads = 0 if together else shape.vocab * shape.hidden * number
    return StagePlan(
        stage="eval",
        name=name,
        parts={
            "models": both if together else held.weights_bytes,
            "the other's head": heads,
            "final states": 2 * tokens * shape.hidden * number,
            "activations": min(tokens, BLOCK_TOKENS) * forward * number,
            "logits": LOGIT_TILES * chunk * shape.vocab * FLOAT32_BYTES,
        },
        seconds=flop / device.flop_per_s + 2 * held.read_s * max(1, tokens // BLOCK_TOKENS),
        choices=choices,
    )
