"""Memory and time of the stages that run whole models: realising, scoring, measuring, evaluating and sampling.

Realising heals by least squares, layer by layer, on the device, and assembles in the host's memory. Scoring (Puzzle, section 4.2)
moves all positions up the layers together: what enters the layer, the stream between its halves and what leaves it, and what
enters the layers below from which runs of dropped layers start; the parent's final states and the mean of the head's rows stay,
and the head's logits exist in tiles. Measuring holds the parent, one module of each alternative, and the largest batch's caches;
an evaluation parent and child beside each other, blocks of text, and logits in chunks; sampling a batch of documents with a KV
cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.ir.facts import total_params
from puzzledsl.ir.nodes import Scenario, Shape
from puzzledsl.plan.flop import widest
from puzzledsl.plan.memory.bld import widest_forward
from puzzledsl.plan.memory.stage_plan import (
    FLOAT32_BYTES,
    FLOAT64_BYTES,
    PARENT_SHARE,
    TIMED_SHARE,
    Choice,
    Device,
    StagePlan,
    holding,
    layer_params,
    size_text,
    tiles,
)

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
    layer = max(layer_params(shape))
    forward = widest_forward(shape)
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


SCORED_STREAMS = 4
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
    """Return the plan of a score. Several devices share out the replacements."""
    shape, number = sizes.shape, device.number_bytes
    held = holding(shape, device)
    states = sizes.positions * shape.hidden
    cut = tiles(device.kind)
    group = min(sizes.positions, cut.group_tokens)
    tile = min(group, cut.logit_positions) * min(cut.logit_tokens, shape.vocab)
    forward = widest_forward(shape)
    return StagePlan(
        stage="score",
        name=name,
        parts={
            "parent": held.weights_bytes,
            # a CPU keeps copies of all layers' weights in the order that its products like best
            "packed weights": 0 if device.is_gpu or held.choices else sum(layer_params(shape)) * number,
            "piece": sizes.piece_weights * number,
            "streams": states * number * (SCORED_STREAMS + sizes.longest_run),
            "the parent's statistics": states * (number + FLOAT32_BYTES),
            "activations": group * forward * number,
            "logits": TILES * FLOAT32_BYTES * tile,
        },
        seconds=flop / device.flop_per_s / device.count + 2 * held.read_s,
        devices=device.count,
        choices=held.choices,
    )


@dataclass(frozen=True, slots=True)
class MeasuringSizes:
    """Sizes of a measurement: the parent, the distinct alternatives with their layers' shapes, and the scenarios."""

    shape: Shape
    alternatives: tuple[tuple[Alternative, Shape], ...]
    scenarios: tuple[Scenario, ...]


def measuring_plan(name: str, sizes: MeasuringSizes, device: Device, flop: float) -> StagePlan:
    """Return the plan of timing whole models; each timed model stands on one device."""
    shape, number = sizes.shape, device.number_bytes
    whole, room = total_params(shape) * number, int(TIMED_SHARE * device.memory_bytes)
    choice = Choice(
        "weights",
        "some layers use the weights of others",
        f"all take {size_text(whole)} of {size_text(room)}",
    )
    pool = sum(a.params(own) for a, own in sizes.alternatives) * number
    forward = widest_forward(shape)
    prompts = max((_batch(scenario) * scenario.prompt for scenario in sizes.scenarios), default=0)
    return StagePlan(
        stage="measure",
        name=name,
        parts={
            "parent": min(whole, room),
            "alternatives": pool,
            "caches": max((_cache(shape, scenario) for scenario in sizes.scenarios), default=0) * number,
            "activations": prompts * forward * number,
        },
        seconds=flop / device.flop_per_s,
        choices=(choice,) if whole > room else (),
    )


def _batch(scenario: Scenario) -> int:
    return max(scenario.batches, default=1)


def _cache(shape: Shape, scenario: Scenario) -> int:
    """Return the numbers of all layers' keys and values at the end of the largest batch."""
    tokens = _batch(scenario) * (scenario.prompt + scenario.output)
    return tokens * sum(2 * heads * own.head_dim for own, heads in _cached(shape))


def _cached(shape: Shape) -> Iterable[tuple[Shape, int]]:
    return ((own, own.cached_heads) for own in shape.each)


BLOCK_TOKENS = 512
"""Tokens of a block of text that runs at a time."""
LOGIT_TILES = 4
"""Float32 tiles of logits of one chunk: log-probabilities of both models, and their products."""


AT_ONCE = 4
"""Forwards of an evaluation that run at once on a CPU: a product of a few hundred tokens does not use several cores well."""


def evaluating_plan(name: str, shape: Shape, tokens: int, device: Device, flop: float) -> StagePlan:
    """Return the plan of an evaluation of a child at most as large as its parent, on `tokens` tokens of text.

    Both models are in memory if they fit together, else one after the other: the parent's final states are kept.
    """
    number = device.number_bytes
    held = holding(shape, device)
    both = 2 * held.weights_bytes
    together = not held.choices and both <= PARENT_SHARE * device.memory_bytes
    chunk = min(tokens, BLOCK_TOKENS, tiles(device.kind).divergence_positions)
    at_once = AT_ONCE if device.kind == "cpu" else 1
    forward = widest_forward(shape)
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
            "activations": at_once * min(tokens, BLOCK_TOKENS) * forward * number,
            "logits": at_once * LOGIT_TILES * chunk * shape.vocab * FLOAT32_BYTES,
        },
        seconds=flop / device.flop_per_s + 2 * held.read_s * max(1, tokens // BLOCK_TOKENS),
        choices=choices,
    )


ROWS = 64
"""Documents of a batch."""
DECODING = 2.0
"""A decoded token's time over a prefilled one's arithmetic, in a batch: weights and cache are read at every step."""
LOGITS = 4  # float32 copies of a step's logits: scaled, sorted, probabilities, random numbers


def sampling_plan(name: str, shape: Shape, length: int, device: Device, flop: float) -> StagePlan:
    """Return the plan of writing documents of at most `length` tokens behind short prompts."""
    number = device.number_bytes
    cached = sum(2 * own.cached_heads * own.head_dim for own in shape.each)
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
