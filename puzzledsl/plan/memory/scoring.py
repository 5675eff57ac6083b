"""Memory and time of replace-1-block scoring (Puzzle, section 4.2).

All scored positions move up the layers together: what enters the layer, the stream between its halves and what leaves it, and
what enters the layers below from which runs of dropped layers start. The parent's final states and the mean of the head's rows
stay. The head's logits exist in tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.nodes import Shape
from puzzledsl.plan.memory.activations import layer_forward_numbers
from puzzledsl.plan.memory.device import FLOAT32_BYTES, Device
from puzzledsl.plan.memory.holding import holding
from puzzledsl.plan.memory.stage_plan import StagePlan
from puzzledsl.plan.memory.tiles import tiles

STREAMS = 4
"""Hidden states of every position: what enters a layer, the stream between its halves, what leaves it, and what is measured."""
TILES = 2
"""Float32 tiles of logits at a time."""


@dataclass(frozen=True, slots=True)
class ScoringSizes:
    """Sizes of a score: positions, weights of the widest alternative, and the most layers that are dropped together."""

    shape: Shape
    positions: int
    piece_weights: int
    longest_run: int


def scoring_plan(name: str, sizes: ScoringSizes, device: Device, flop: float) -> StagePlan:
    """Return the plan of a score. Several devices share out the replacements, or are a pipeline of the parent's layers."""
    shape, number = sizes.shape, device.number_bytes
    held = holding(shape, device, spans=True)
    states = sizes.positions * shape.hidden
    cut = tiles(device.kind)
    group = min(sizes.positions, cut.group_tokens)
    tile = min(group, cut.logit_positions) * min(cut.logit_tokens, shape.vocab)
    forward = max(layer_forward_numbers(own, ParentAttention(), ParentFfn()) for own in shape.each)
    return StagePlan(
        stage="score",
        name=name,
        parts={
            "parent": held.weights_bytes,
            "packed weights": 0 if device.is_gpu or held.choices else _layers(shape) * number,
            "piece": sizes.piece_weights * number,
            "streams": states * number * (STREAMS + sizes.longest_run),
            "the parent's statistics": states * (number + FLOAT32_BYTES),
            "activations": group * forward * number,
            "logits": TILES * FLOAT32_BYTES * tile,
        },
        seconds=flop / device.flop_per_s / held.devices + 2 * held.read_s,
        devices=held.devices,
        choices=held.choices,
    )


def _layers(shape: Shape) -> int:
    """Return the weights of all layers, of which a CPU keeps copies in the order that its products like best."""
    return sum(part.params(own) for own in shape.each for part in (ParentAttention(), ParentFfn()))
