"""Memory and time of the stages that run whole models: realising, scoring, measuring and evaluating.

Each holds models, the streams of all its tokens, and the activations and tiles of logits of a group of tokens. Realising heals by
least squares beside that, and assembles in the host's memory; measuring holds one module of each alternative, and caches.

Memory and time of global knowledge distillation (Puzzle, section 3): what one rank holds, and what makes it fit.

A rank holds its part of the child (float32 weights, gradients and AdamW's moments) and of the teacher, the layers that are
gathered to run, and the activations of a micro-batch. Choices, from the cheapest in time: a smaller micro-batch, recomputing
layers in the backward pass, and the child's state in the host's memory (FSDP2's offload).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from types import MappingProxyType

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.facts import fixed_params, total_params
from puzzledsl.ir.nodes import Scenario, Shape, Uptrain
from puzzledsl.plan.flop import widest
from puzzledsl.plan.memory.bld import NORM_BYTES, training_numbers, widest_forward
from puzzledsl.plan.memory.stage_plan import (
    FLOAT32_BYTES,
    FLOAT64_BYTES,
    KEPT_SHARE,
    PARENT_SHARE,
    Choice,
    Device,
    StagePlan,
    size_text,
    tiles,
)

STREAMS = 5
"""Hidden states of every token: what enters a layer, the stream between its halves, what leaves it, what is measured, and the
parent's."""
TILES = 2
"""Float32 tiles of logits at a time."""
BLOCK_TOKENS = 512
"""Tokens of a block of text that runs at a time in an evaluation."""
READ_BYTES_PER_S = 2e9
"""Speed at which weights are read from files that the host's memory does not hold: one NVMe drive."""
AT_ONCE = 4
"""Forwards of an evaluation that run at once on a CPU: a product of a few hundred tokens does not use several cores well."""
SHARD_BYTES = 5 << 30
"""Bytes of a checkpoint's largest file, which is made in the host's memory."""


def layer_params(shape: Shape) -> list[int]:
    """Return the number of weights of each of the parent's layers."""
    return [ParentAttention().params(own) + ParentFfn().params(own) for own in shape.each]


def forward_plan(
    stage: str,
    name: str,
    shape: Shape,
    device: Device,
    flop: float,
    *,
    tokens: int,
    models: int = 1,
    streams: int = STREAMS,
    reads: int = 2,
    once: bool = False,
    more: Mapping[str, int] = MappingProxyType({}),
) -> StagePlan:
    """Return the plan of a stage that runs whole models on `tokens` tokens. `more`: bytes of other parts.

    Two models that do not fit together run one after the other. One too large alone is read layer by layer, `reads` times.
    `once`: each layer is used once, and no logits are computed.
    """
    number, cut, read_s = device.number_bytes, tiles(device.kind), 0.0
    group, choices = min(tokens, cut.group_tokens), tuple[Choice, ...]()
    weights, room = total_params(shape) * number, int(PARENT_SHARE * device.memory_bytes)
    if weights > room:
        why = f"its weights take {size_text(weights)} of {size_text(room)}"
        choices = (Choice("paging", "the parent is read layer by layer", why),)
        kept = 0 if once else fixed_params(shape) * number + int(KEPT_SHARE * device.memory_bytes)
        weights, read_s = max(layer_params(shape)) * number + kept, weights / READ_BYTES_PER_S
    elif models * weights > room:
        why = f"both take {size_text(models * weights)}"
        choices = (Choice("models", "one after the other", why),)
    logits = min(group, cut.logit_positions) * min(cut.logit_tokens, shape.vocab)
    return StagePlan(
        stage=stage,
        name=name,
        parts={
            "models": weights if choices else models * weights,
            # a CPU keeps copies of all layers' weights in the order that its products like best
            "packed weights": 0 if device.is_gpu or choices else sum(layer_params(shape)) * number,
            "streams": streams * tokens * shape.hidden * number,
            "activations": group * widest_forward(shape) * number,
            "logits": TILES * FLOAT32_BYTES * logits,
            **more,
        },
        seconds=flop / device.flop_per_s / device.count + reads * read_s,
        devices=device.count,
        choices=choices,
    )


def realise_plan(
    name: str, shape: Shape, heal_tokens: int, device: Device, flop: float, *, stage: str = "realise"
) -> StagePlan:
    """Return the plan of healing on `heal_tokens` tokens (0: not healed) and assembly, one file at a time on the host."""
    host = min(SHARD_BYTES, total_params(shape) * device.number_bytes)
    if not heal_tokens:
        return StagePlan(stage, name, {}, 0.0, host_bytes=host)
    width = max(max(widest(own), own.heads * own.head_dim) for own in shape.each)
    # as summed in float64; damped and factored in float32
    grams = (FLOAT64_BYTES + 3 * FLOAT32_BYTES) * (width**2 + 2 * width * shape.hidden)
    more = {"the child's layer": max(layer_params(shape)) * device.number_bytes, "Gram matrices": grams}
    given = shape, replace(device, count=1), flop
    plan = forward_plan(stage, name, *given, tokens=heal_tokens, once=True, more=more)
    return replace(plan, host_bytes=host)


def measuring_plan(
    name: str,
    shape: Shape,
    device: Device,
    flop: float,
    alternatives: Iterable[tuple[Alternative, Shape]],
    scenarios: Sequence[Scenario],
) -> StagePlan:
    """Return the plan of timing whole models. `alternatives`: the distinct ones, with the shapes of their layers."""
    number, batches = device.number_bytes, [(max(each.batches, default=1), each) for each in scenarios]
    # keys and values of all layers at the end of the largest batch
    cached = max((batch * (each.prompt + each.output) for batch, each in batches), default=0)
    kept = sum(2 * own.cached_heads * own.head_dim for own in shape.each)
    more = {"alternatives": sum(a.params(own) for a, own in alternatives) * number}
    more["caches"] = cached * kept * number
    prompts = max((batch * each.prompt for batch, each in batches), default=0)
    alone = replace(device, count=1)
    return forward_plan("measure", name, shape, alone, flop, tokens=prompts, streams=1, more=more)


STATE_BYTES = 16
"""Bytes of one of the child's weights between steps: the weight, its gradient and two moments."""
LOSS_TILES = 3
"""Float32 tiles of logits that the loss holds."""
GATHERED_LAYERS = 2
"""Layers that are gathered at a time: the one that runs and the next. The teacher runs before the child."""
HOST_LINK_BYTES_PER_S = 50e9
"""Speed of copies between a GPU and pinned memory: PCIe 5.0 x16, 64 GB/s, less its overhead."""
HOST_BYTES_PER_S = 100e9
"""Speed at which one rank's share of a host reads and writes the optimiser's state."""
RECOMPUTED = 5 / 4
"""FLOP of a step that recomputes layers, over those of one that does not: 1 + 3 forwards of teacher and child, and 1 more."""


@dataclass(frozen=True, slots=True)
class UptrainSizes:
    """An uptraining and the shapes of its models. While the child is not known, its parent's shape stands for it."""

    declaration: Uptrain
    child: Shape
    parent: Shape

    def at(self, micro_batch: int) -> UptrainSizes:
        """Return the same training with a micro-batch of so many sequences, which the plan then keeps."""
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
    """Return the plan over `device.count` ranks, and the fastest choice that fits, else the smallest. `flop`: not recomputing."""
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
    state = STATE_BYTES * total_params(sizes.child) // device.count
    seconds = flop * (RECOMPUTED if choice.recompute else 1) / ((device.flop_per_s or 1.0) * device.count)
    parts = dict(_parts(sizes, device, choice))
    if choice.offload:
        seconds += _offload_s(sizes, device, choice)
    else:
        parts = {"weights, gradients, moments": state} | parts
    choices, host = tuple(_choices(sizes, device, choice, state)), state if choice.offload else 0
    return StagePlan("uptrain", name, parts, seconds, device.count, host, choices=choices)


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
    # the embedding's gradient, and a tile's part of it
    heads = (2 * FLOAT32_BYTES + copy) * child.vocab * child.hidden
    loss = LOSS_TILES * FLOAT32_BYTES * min(tokens, tiles(device.kind).loss_positions) * parent.vocab
    running = widest_forward(parent) * number
    if choice.recompute:
        layer = tokens * max(_kept_bytes(own, number) for own in child.each)
        yield "loss, or a layer computed again", max(heads + max(loss, layer), tokens * running)
    else:
        yield "loss", heads + loss


def _token_bytes(sizes: UptrainSizes, number: int, *, recompute: bool) -> int:
    """Return the bytes a token that a forward pass keeps, with those of the final hidden states and their gradients."""
    child = sizes.child
    kept = sum(child.hidden * number if recompute else _kept_bytes(own, number) for own in child.each)
    if sizes.declaration.cosine:  # the teacher's; the child's are kept anyway
        kept += child.layers * child.hidden * number
    return kept + 2 * child.hidden * (number + FLOAT32_BYTES)


def _kept_bytes(own: Shape, number: int) -> int:
    """Return the bytes a token that a layer keeps for its backward pass."""
    numbers = sum(training_numbers(part, own)[0] for part in (ParentAttention(), ParentFfn()))
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
        of_all = size_text(STATE_BYTES * total_params(sizes.child))
        yield Choice("sharding", f"{device.count} ranks", f"the child's state is {of_all} in all")
    if choice.offload:
        usable = size_text(device.usable_bytes)
        why = f"{size_text(state)} of weights, gradients and moments a rank do not fit in {usable}"
        yield Choice("offload", "the child's state in the host's memory", why)
    declared, number = sizes.declaration, device.number_bytes
    most = ceil(declared.batch / device.count)
    if choice.micro_blocks < most:
        token = _token_bytes(sizes, number, recompute=choice.recompute)
        why = f"activations of {most} take {size_text(most * declared.context * token)}"
        why = why if declared.micro_batch is None else "as the program says"
        yield Choice("micro-batch", f"{choice.micro_blocks} of {most} sequences", why)
    if choice.recompute and not declared.recompute:
        needed = choice.micro_blocks * declared.context * _token_bytes(sizes, number, recompute=False)
        why = f"their activations take {size_text(needed)}"
        yield Choice("recompute", "layers in the backward pass", why)
