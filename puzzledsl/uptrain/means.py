"""Memory of an uptraining, counted from shapes before anything is loaded, and what is done to make it fit.

Means are tried from the cheapest: recomputed layers, weights and moments in the host's memory, moments in 8 bits. Only the last
changes numbers by more than rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path

import torch

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.child.load import child_config
from puzzledsl.ir.nodes import Uptrain
from puzzledsl.ir.source_location import span_of
from puzzledsl.models.families.access import base_shape_of, blocks_of, family_of
from puzzledsl.models.families.inventory import inventory
from puzzledsl.models.families.load import load_config
from puzzledsl.models.memory import room_bytes
from puzzledsl.models.placement import free_bytes
from puzzledsl.plan.memory.tiles import tiles
from puzzledsl.uptrain.errors import NoEightBit, NoRoomToUptrain
from puzzledsl.uptrain.optimizer import has_eight_bit
from puzzledsl.uptrain.ranks import Ranks

USABLE = 0.9  # of a device's memory; the rest is the allocator's and the kernels'
MOMENTS, MOMENTS_8BIT = 8, 2  # bytes a weight
TILES = 3  # float32 logits of a chunk, in the loss


@dataclass(frozen=True, slots=True)
class Means:
    """Measures by which a training fits into memory, and uses of the room that is left.

    `offload`: the child's weights, gradients and moments are in the host's memory. `hybrid`: each machine holds all, cut over its
    processes. `local_gradients`: gradients are reduced once a step. `background`: checkpoints are written while it goes on.
    """

    micro_blocks: int | None = None
    recompute: bool = False
    offload: bool = False
    eight_bit: bool = False
    hybrid: bool = False
    local_gradients: bool = False
    background: bool = False


PLAIN = Means()


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of a model: weights in all, of its largest layer, outside its layers; and of one token's hidden state."""

    weights: int
    layer: int
    outside: int
    layers: int
    hidden: int
    vocab: int

    @classmethod
    def of(cls, directory: Path, *, child: bool) -> Sizes:
        """Count from config.json. Raises DiagnosticError as loading does."""
        config = child_config(directory) if child else load_config(directory)
        shape, start = base_shape_of(config), f"{family_of(config).layers}."
        numbers = {name: prod(size) for name, size in inventory(shape, blocks_of(config)).items()}
        by_layer: dict[str, int] = {}
        for name, count in numbers.items():
            if name.startswith(start):
                index = name.removeprefix(start).partition(".")[0]
                by_layer[index] = by_layer.get(index, 0) + count
        total, inside = sum(numbers.values()), sum(by_layer.values())
        largest = max(by_layer.values(), default=0)
        return cls(total, largest, total - inside, shape.layers, shape.hidden, shape.vocab)


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes of one process: on its device, and in the host's memory beside it."""

    device: int
    host: int = 0

    def hold(self, other: Bytes) -> bool:
        """True if both suffice for the other."""
        return other.device <= self.device and other.host <= self.host


@dataclass(frozen=True, slots=True)
class Budget:
    """A training as far as memory is concerned, and the `room` of one of its processes.

    `blocks`: of a micro-batch, unless means say fewer; `fixed`: the program says how many. `number`: bytes of an activation and
    of a weight of the parent. `tile`: positions of a chunk of the loss.
    """

    parent: Sizes
    child: Sizes
    ranks: Ranks
    room: Bytes
    on_gpu: bool
    context: int
    blocks: int
    fixed: bool
    number: int
    tile: int
    cosine: bool

    def needed(self, means: Means, world: int | None = None) -> Bytes:
        """Count the bytes at the peak: weights, gradients, moments, what is gathered, activations, the loss."""
        world = world or self.ranks.world
        parts = world // self.ranks.nodes if means.hybrid else world
        child, number = self.child, self.number
        small = child.weights - child.outside if means.eight_bit else 0
        moments = MOMENTS * (child.weights - small) + MOMENTS_8BIT * small
        state, teacher = (child.weights * (4 + 4) + moments) // parts, self.parent.weights * number // parts
        cut = world > 1 or means.offload
        gathered = number * sum(2 * m.layer + m.outside for m in (self.parent, child)) if cut else 0
        summed = child.weights * (4 + number) if means.local_gradients else 0
        products = (
            child.hidden + child.layer // child.hidden
        )  # about what a layer's backward pass needs of a token
        kept = child.layers * child.hidden + products if means.recompute else child.layers * products
        streams = 2 * child.layers * child.hidden if self.cosine else 0
        tokens = (means.micro_blocks or self.blocks) * self.context
        loss = 4 * (TILES * self.tile * child.vocab + child.vocab * child.hidden)
        device = teacher + gathered + summed + tokens * number * (kept + streams) + loss
        return Bytes(device, state) if means.offload else Bytes(device + state)

    def fits(self, means: Means, world: int | None = None) -> bool:
        """True if there is room for it."""
        return self.room.hold(self.needed(means, world))

    def candidates(self) -> Iterator[Means]:
        """Yield the means, the cheapest first. A CPU's memory is the host's: nothing can be moved there."""
        for offload, eight_bit in product((False, True), repeat=2):
            if offload and not self.on_gpu:
                continue
            if not offload and not eight_bit:
                yield PLAIN
            blocks = None
            yield (means := Means(None, True, offload, eight_bit))
            while self.on_gpu and not self.fixed and (blocks := (blocks or self.blocks) // 2):
                yield replace(means, micro_blocks=blocks)


def chosen(budget: Budget) -> Means | None:
    """Return the first means that fit, and with them what spares time where there is room for it; None if nothing fits."""
    found = next((means for means in budget.candidates() if budget.fits(means)), None)
    if found is None or not budget.on_gpu:
        return found
    if budget.ranks.nodes > 1 and budget.fits(hybrid := replace(found, hybrid=True)):
        found = hybrid
    if budget.ranks.world > 1 and budget.fits(summed := replace(found, local_gradients=True)):
        found = summed
    state = budget.needed(replace(found, offload=True)).host
    return replace(found, background=not found.offload and 2 * state <= budget.room.host)


def means_for(
    declaration: Uptrain, parent_dir: Path, child_dir: Path, device: torch.device, ranks: Ranks
) -> Means:
    """Return the means with which the training fits. Raises DiagnosticError (NoRoomToUptrain, NoEightBit)."""
    on_gpu = device.type == "cuda"
    host = room_bytes() // (ranks.world // ranks.nodes)
    budget = Budget(
        parent=Sizes.of(parent_dir, child=False),
        child=Sizes.of(child_dir, child=True),
        ranks=ranks,
        room=Bytes(int(USABLE * free_bytes(device)), host) if on_gpu else Bytes(host),
        on_gpu=on_gpu,
        context=declaration.context,
        blocks=declaration.micro_batch or max(1, tiles(device.type).training_tokens // declaration.context),
        fixed=declaration.micro_batch is not None,
        number=2 if on_gpu and declaration.dtype == "bf16" else 4,
        tile=tiles(device.type).loss_positions,
        cosine=declaration.cosine != 0,
    )
    means = chosen(budget)
    if means is None:
        raise DiagnosticError(_no_room(declaration, budget))
    if means.eight_bit and not has_eight_bit():
        raise DiagnosticError(NoEightBit(span_of(declaration.where), name=declaration.name))
    return means


def in_words(means: Means) -> str:
    """Return what is done, in words; an empty text if nothing is."""
    words = {
        "layers are computed twice": means.recompute,
        "the child's weights, gradients and moments are in the host's memory": means.offload,
        "moments have 8 bits": means.eight_bit,
        "each machine holds both models": means.hybrid,
        "gradients are exchanged once a step": means.local_gradients,
        "checkpoints are written in the background": means.background,
    }
    return ", ".join(text for text, done in words.items() if done)


def _no_room(declaration: Uptrain, budget: Budget) -> NoRoomToUptrain:
    least = list(budget.candidates())[-1]
    need, room = budget.needed(least), budget.room
    short = "host" if need.host > room.host else "device"
    enough = (n for n in (2**k for k in range(1, 13)) if n > budget.ranks.world and budget.fits(least, n))
    more = next(enough, None)
    return NoRoomToUptrain(
        span_of(declaration.where),
        name=declaration.name,
        needed=format_quantity(getattr(need, short), BYTES),
        where="memory" if short == "host" or not budget.on_gpu else "GPU memory",
        processes=budget.ranks.world,
        room=format_quantity(getattr(room, short), BYTES),
        help="distil a smaller child, or use larger machines"
        if more is None
        else f"use {more} processes like this one: "
        f"`torchrun --nproc-per-node {more} -m puzzledsl.cli.main uptrain`, or several machines",
    )
