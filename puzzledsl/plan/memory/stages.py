"""Memory and time of the stages that run whole models: realising, scoring, measuring and evaluating.

Realising heals by least squares, layer by layer, on the device, and assembles in the host's memory. Scoring (Puzzle, section 4.2)
moves all positions up the layers together: what enters the layer, the stream between its halves and what leaves it, and what
enters the layers below from which runs of dropped layers start; the parent's final states and the mean of the head's rows stay,
and the head's logits exist in tiles. Measuring holds the parent, one module of each alternative, and the largest batch's caches;
an evaluation parent and child beside each other, blocks of text, and logits in chunks; sampling a batch of documents with a KV
cache.

Memory and time of global knowledge distillation (Puzzle, section 3): what one rank holds, and what makes it fit.

A rank holds its part of the child (float32 weights, gradients and AdamW's moments) and of the teacher, the layers that are
gathered to run, and the activations of a micro-batch. Choices, from the cheapest in time: a smaller micro-batch, recomputing
layers in the backward pass, and the child's state in the host's memory (FSDP2's offload).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.facts import fixed_params, total_params
from puzzledsl.ir.nodes import Scenario, Shape, Uptrain
from puzzledsl.plan.flop import widest
from puzzledsl.plan.memory.bld import NORM_BYTES, training_numbers, widest_forward
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
            "the child's layer": max(layer_params(shape)) * number,
            "Gram matrices": grams,
            "streams": STREAMS * heal_tokens * hidden * number,
            "inputs of a last map": read if read <= HELD_BYTES else 0,
            "activations": tokens
            * (widest_forward(shape) * number + 2 * (width + 2 * hidden) * FLOAT32_BYTES),
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


def scoring_plan(
    name: str,
    shape: Shape,
    device: Device,
    flop: float,
    *,
    positions: int,
    piece_weights: int,
    longest_run: int,
) -> StagePlan:
    """Return the plan of a score. Several devices share out the replacements.

    `piece_weights`: of the widest alternative. `longest_run`: the most layers that are dropped together.
    """
    number, held, cut = device.number_bytes, holding(shape, device), tiles(device.kind)
    states = positions * shape.hidden
    group = min(positions, cut.group_tokens)
    return StagePlan(
        stage="score",
        name=name,
        parts={
            "parent": held.weights_bytes,
            # a CPU keeps copies of all layers' weights in the order that its products like best
            "packed weights": 0 if device.is_gpu or held.choices else sum(layer_params(shape)) * number,
            "piece": piece_weights * number,
            "streams": states * number * (SCORED_STREAMS + longest_run),
            "the parent's statistics": states * (number + FLOAT32_BYTES),
            "activations": group * widest_forward(shape) * number,
            "logits": TILES
            * FLOAT32_BYTES
            * (min(group, cut.logit_positions) * min(cut.logit_tokens, shape.vocab)),
        },
        seconds=flop / device.flop_per_s / device.count + 2 * held.read_s,
        devices=device.count,
        choices=held.choices,
    )


def measuring_plan(
    name: str,
    shape: Shape,
    device: Device,
    flop: float,
    alternatives: Iterable[tuple[Alternative, Shape]],
    scenarios: Sequence[Scenario],
) -> StagePlan:
    """Return the plan of timing whole models; each timed model stands on one device.

    `alternatives`: the distinct ones, with the shapes of their layers.
    """
    number = device.number_bytes
    whole, room = total_params(shape) * number, int(TIMED_SHARE * device.memory_bytes)
    why = f"all take {size_text(whole)} of {size_text(room)}"
    choice = Choice("weights", "some layers use the weights of others", why)
    # keys and values of all layers at the end of the largest batch
    batches = [(max(each.batches, default=1), each) for each in scenarios]
    cached = max((batch * (each.prompt + each.output) for batch, each in batches), default=0)
    prompts = max((batch * each.prompt for batch, each in batches), default=0)
    return StagePlan(
        stage="measure",
        name=name,
        parts={
            "parent": min(whole, room),
            "alternatives": sum(a.params(own) for a, own in alternatives) * number,
            "caches": cached * _cached_numbers(shape) * number,
            "activations": prompts * widest_forward(shape) * number,
        },
        seconds=flop / device.flop_per_s,
        choices=(choice,) if whole > room else (),
    )


def _cached_numbers(shape: Shape) -> int:
    """Return the numbers of a token's keys and values in all layers."""
    return sum(2 * own.cached_heads * own.head_dim for own in shape.each)


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
    number, held = device.number_bytes, holding(shape, device)
    both, choices = 2 * held.weights_bytes, held.choices
    together = not choices and both <= PARENT_SHARE * device.memory_bytes
    if not together and not choices:
        choices = (Choice("models", "one after the other", f"both take {size_text(both)}"),)
    chunk = min(tokens, BLOCK_TOKENS, tiles(device.kind).divergence_positions)
    at_once = AT_ONCE if device.kind == "cpu" else 1
    return StagePlan(
        stage="eval",
        name=name,
        parts={
            "models": both if together else held.weights_bytes,
            "the other's head": 0 if together else shape.vocab * shape.hidden * number,
            "final states": 2 * tokens * shape.hidden * number,
            "activations": at_once * min(tokens, BLOCK_TOKENS) * widest_forward(shape) * number,
            "logits": at_once * LOGIT_TILES * chunk * shape.vocab * FLOAT32_BYTES,
        },
        seconds=flop / device.flop_per_s + 2 * held.read_s * max(1, tokens // BLOCK_TOKENS),
        choices=choices,
    )


LOSS_TILES = 3
"""Float32 tiles of logits that the loss holds."""
GATHERED_LAYERS = 2
"""Layers that are gathered at a time: the one that runs and the next. The teacher runs before the child."""
HOST_LINK_BYTES_PER_S = 50e9
"""Speed of copies between a GPU and pinned memory: PCIe 5.0 x16, 64 GB/s, less its overhead."""
HOST_BYTES_PER_S = 100e9
"""Speed at which one rank's share of a host reads and writes the optimiser's state."""
RECOMPUTED = 5 / 4
"""FLOP of a step with recomputed layers in those of one without: 1 of the teacher, 3 of the child, and 1 more."""


@dataclass(frozen=True, slots=True)
class UptrainSizes:
    """A training and its models; a child that is not known yet is at most as large as its parent."""

    declaration: Uptrain
    child: Shape
    parent: Shape

    def at(self, micro_batch: int) -> UptrainSizes:
        """Return the sizes at a micro-batch that the plan keeps."""
        return replace(self, declaration=self.declaration.model_copy(update={"micro_batch": micro_batch}))


@dataclass(frozen=True, slots=True)
class UptrainChoice:
    """Settings of a training on each rank. `micro_blocks`: blocks of one forward and backward pass."""

    micro_blocks: int
    recompute: bool
    offload: bool


def uptrain_plan(
    sizes: UptrainSizes, device: Device, *, name: str = "", flop: float = 0.0
) -> tuple[StagePlan, UptrainChoice]:
    """Return the plan of a training over `device.count` ranks, and its choices: the fastest that fit, else the smallest.

    `flop`: of the whole training without recomputing.
    """
    options = list(_options(sizes, device))
    fitting = (option for option in options if _plan(sizes, device, option, name, flop).fits(device))
    choice = next(fitting, options[-1])
    return _plan(sizes, device, choice, name, flop), choice


def _options(sizes: UptrainSizes, device: Device) -> Iterator[UptrainChoice]:
    """Yield choices from the fastest to the smallest."""
    most = ceil(sizes.declaration.batch / device.count)
    blocks = [most]
    while blocks[-1] > 1:
        blocks.append(blocks[-1] // 2)
    if sizes.declaration.micro_batch is not None:
        blocks = [min(sizes.declaration.micro_batch, most)]
    for offload in (False, True) if device.is_gpu else (False,):
        # offloaded weights cross the link once a micro-batch, so that recomputing costs less than smaller ones
        order = (True,) if sizes.declaration.recompute or offload else (False, True)
        for recompute in order:
            yield from (UptrainChoice(micro, recompute, offload) for micro in blocks)


def _plan(sizes: UptrainSizes, device: Device, choice: UptrainChoice, name: str, flop: float) -> StagePlan:
    state = _state_bytes(sizes) // device.count
    rate = device.flop_per_s if device.flop_per_s else 1.0
    seconds = flop * (RECOMPUTED if choice.recompute else 1) / (rate * device.count)
    parts = dict(_parts(sizes, device, choice))
    if choice.offload:
        seconds += _offload_s(sizes, device, choice)
    else:
        parts = {"weights, gradients, moments": state} | parts
    return StagePlan(
        stage="uptrain",
        name=name,
        parts=parts,
        seconds=seconds,
        devices=device.count,
        host_bytes=state if choice.offload else 0,
        choices=tuple(_choices(sizes, device, choice, state)),
    )


def _state_bytes(sizes: UptrainSizes) -> int:
    """Return the bytes of the child between steps: weights, gradients and two moments."""
    return 16 * total_params(sizes.child)


def _parts(sizes: UptrainSizes, device: Device, choice: UptrainChoice) -> Iterator[tuple[str, int]]:
    number, child, parent = device.number_bytes, sizes.child, sizes.parent
    tokens = choice.micro_blocks * sizes.declaration.context
    yield "teacher", number * total_params(parent) // device.count
    if device.count > 1 or choice.offload:
        layers = GATHERED_LAYERS * max(*layer_params(child), *layer_params(parent))
        fixed = fixed_params(child) + fixed_params(parent)
        gradients = (number + FLOAT32_BYTES) * max(layer_params(child))
        yield "gathered", number * (layers + fixed) + gradients
    elif number < FLOAT32_BYTES:
        yield "weights in bf16", number * total_params(child)
    yield "activations", tokens * _token_bytes(sizes, number, recompute=choice.recompute)
    sharded = device.count > 1 or choice.offload
    copy = 0 if sharded or number == FLOAT32_BYTES else number  # sharded weights are gathered in bf16
    heads = (
        (2 * FLOAT32_BYTES + copy) * child.vocab * child.hidden
    )  # the embedding's gradient, and a tile's part of it
    loss = LOSS_TILES * FLOAT32_BYTES * min(tokens, tiles(device.kind).loss_positions) * parent.vocab
    running = widest_forward(parent) * number
    if choice.recompute:
        layer = tokens * max(_kept_bytes(own, number) for own in child.each)
        yield "loss, or a layer computed again", max(heads + max(loss, layer), tokens * running)
    else:
        yield "loss", heads + loss


def _token_bytes(sizes: UptrainSizes, number: int, *, recompute: bool) -> int:
    """Return the bytes a token that a forward pass keeps, and of the final hidden states and their gradients."""
    child = sizes.child
    kept = sum(child.hidden * number if recompute else _kept_bytes(own, number) for own in child.each)
    kept += (
        child.layers * child.hidden * number if sizes.declaration.cosine else 0
    )  # the teacher's; the child's are kept anyway
    return kept + 2 * child.hidden * (number + FLOAT32_BYTES)


def _kept_bytes(own: Shape, number: int) -> int:
    """Return the bytes a token that a layer keeps for its backward pass."""
    numbers = sum(training_numbers(part, own).kept for part in (ParentAttention(), ParentFfn()))
    return number * (numbers + 4 * own.hidden) + 2 * own.norms * NORM_BYTES * own.hidden


def _offload_s(sizes: UptrainSizes, device: Device, choice: UptrainChoice) -> float:
    """Return the seconds of copies between host and device, and of the optimiser on the host, as if nothing overlapped."""
    share = total_params(sizes.child) / device.count
    steps = max(1, sizes.declaration.tokens // (sizes.declaration.batch * sizes.declaration.context))
    micro = ceil(sizes.declaration.batch / device.count / choice.micro_blocks)
    copied = micro * 3 * FLOAT32_BYTES * share / HOST_LINK_BYTES_PER_S  # weights twice, gradients once
    return steps * (copied + 28 * share / HOST_BYTES_PER_S)


def _choices(sizes: UptrainSizes, device: Device, choice: UptrainChoice, state: int) -> Iterator[Choice]:
    if device.count > 1:
        of_all = size_text(_state_bytes(sizes))
        yield Choice("sharding", f"{device.count} ranks", f"the child's state is {of_all} in all")
    usable = size_text(device.usable_bytes)
    if choice.offload:
        why = f"{size_text(state)} of weights, gradients and moments a rank do not fit in {usable}"
        yield Choice("offload", "the child's state in the host's memory", why)
    most = ceil(sizes.declaration.batch / device.count)
    if choice.micro_blocks < most:
        yield Choice(
            "micro-batch", f"{choice.micro_blocks} of {most} sequences", _why(sizes, device, choice, most)
        )
    if choice.recompute and not sizes.declaration.recompute:
        needed = (
            choice.micro_blocks
            * sizes.declaration.context
            * _token_bytes(sizes, device.number_bytes, recompute=False)
        )
        yield Choice(
            "recompute", "layers in the backward pass", f"their activations take {size_text(needed)}"
        )


def _why(sizes: UptrainSizes, device: Device, choice: UptrainChoice, most: int) -> str:
    if sizes.declaration.micro_batch is not None:
        return "as the program says"
    token = _token_bytes(sizes, device.number_bytes, recompute=choice.recompute)
    return f"activations of {most} take {size_text(most * sizes.declaration.context * token)}"
