"""Means by which an uptraining fits into memory, from the memory plan, before anything is loaded.

They are tried from the cheapest: recomputed layers and smaller micro-batches, the child's state in the host's memory, moments in
8 bits. Only the last changes numbers by more than rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from puzzledsl.alternatives.shape import Shape
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.ir.base import span_of
from puzzledsl.ir.facts import total_params
from puzzledsl.ir.nodes import Uptrain
from puzzledsl.models.families.access import base_shape_of, shape_of
from puzzledsl.models.families.load import load_config
from puzzledsl.models.placement import this_device
from puzzledsl.plan.memory.stage_plan import FLOAT32_BYTES, Device, StagePlan, tiles
from puzzledsl.plan.memory.uptrain import UptrainSizes, uptrain_plan
from puzzledsl.uptrain.errors import NoEightBit, NoRoomToUptrain
from puzzledsl.uptrain.optimizer import has_eight_bit
from puzzledsl.uptrain.ranks import Ranks

MOST_PROCESSES = 4096


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


def means_for(
    declaration: Uptrain, parent_dir: Path, child_dir: Path, device: torch.device, ranks: Ranks
) -> Means:
    """Return the means with which the training fits. Raises DiagnosticError (NoRoomToUptrain, NoEightBit)."""
    child, parent = _child_shape(child_dir), shape_of(load_config(parent_dir))
    dtype = torch.bfloat16 if declaration.dtype == "bf16" and device.type == "cuda" else torch.float32
    here, together = this_device(device, dtype), ranks.world // ranks.nodes
    here = replace(here.shared_by(together), host_bytes=here.host_bytes // together, count=ranks.world)
    sizes = UptrainSizes.of(declaration, child, parent)
    if not here.is_gpu:  # its sums depend on the micro-batch, which therefore does not depend on free memory
        usual = max(1, tiles("cpu").training_tokens // declaration.context)
        sizes = replace(sizes, micro_batch=declaration.micro_batch or usual)
    means = chosen(sizes, here, ranks)
    if means is None:
        raise DiagnosticError(_no_room(declaration, sizes, here))
    if means.eight_bit and not has_eight_bit():
        raise DiagnosticError(NoEightBit(span_of(declaration.where), name=declaration.name))
    return means


def _child_shape(directory: Path) -> Shape:
    """Return a child's shape; that of its base family's model for a child with sub-blocks that no parent can have."""
    config = load_config(directory)
    try:
        return shape_of(config)
    except DiagnosticError:
        return base_shape_of(config)


def chosen(sizes: UptrainSizes, device: Device, ranks: Ranks) -> Means | None:
    """Return what the plan chooses, and with it what spares time where there is room for it; None if nothing fits."""
    plan, choice = uptrain_plan(sizes, device)
    small = not _fits(plan, device)
    if small:
        plan, choice = uptrain_plan(sizes, device, has_8bit=True)
    if not _fits(plan, device):
        return None
    if device.is_gpu and sizes.micro_batch is None:  # no more tokens at a time than a GPU needs for its speed
        most = max(1, tiles("cuda").training_tokens // sizes.context)
        sizes = replace(sizes, micro_batch=min(choice.micro_blocks, most))
        plan, choice = uptrain_plan(sizes, device, has_8bit=small)
    found = Means(
        micro_blocks=choice.micro_blocks if device.is_gpu else None,
        recompute=choice.recompute,
        offload=choice.offload,
        eight_bit=choice.optimizer == "adamw8bit",
    )
    if not device.is_gpu:
        return found
    room = device.usable_bytes - plan.peak_bytes
    if ranks.nodes > 1:
        alone = replace(device, count=ranks.world // ranks.nodes)
        of_a_node, same = uptrain_plan(replace(sizes, batch=sizes.batch // ranks.nodes or 1), alone)
        if of_a_node.fits(alone) and (same.recompute, same.offload) == (choice.recompute, choice.offload):
            found, room = replace(found, hybrid=True), alone.usable_bytes - of_a_node.peak_bytes
    whole = total_params(sizes.child)
    summed = ranks.world > 1 and whole * (FLOAT32_BYTES + device.number_bytes) <= room
    state = plan.parts.get("weights, gradients, moments", 0)
    background = 0 < 2 * state <= device.host_bytes
    return replace(found, local_gradients=summed, background=background)


def _fits(plan: StagePlan, device: Device) -> bool:
    """True if the plan fits; on a CPU, where it is the whole of the free memory that ends a process, into all of that."""
    return plan.fits(device) if device.is_gpu else plan.peak_bytes <= device.memory_bytes


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


def _no_room(declaration: Uptrain, sizes: UptrainSizes, device: Device) -> NoRoomToUptrain:
    least, _ = uptrain_plan(sizes, device, has_8bit=True)
    on_host = device.is_gpu and least.host_bytes > device.host_bytes
    needed, room = (
        (least.host_bytes, device.host_bytes)
        if on_host
        else (least.peak_bytes, device.usable_bytes if device.is_gpu else device.memory_bytes)
    )
    return NoRoomToUptrain(
        span_of(declaration.where),
        name=declaration.name,
        needed=format_quantity(needed, BYTES),
        where="GPU memory" if device.is_gpu and not on_host else "memory",
        processes=device.count,
        room=format_quantity(room, BYTES),
        help=_more(sizes, device),
    )


def _more(sizes: UptrainSizes, device: Device) -> str:
    """Return the help: how many processes like this one would do."""
    count = device.count
    while (count := 2 * count) <= MOST_PROCESSES:
        larger = replace(device, count=count)
        if _fits(uptrain_plan(sizes, larger, has_8bit=True)[0], larger):
            return (
                f"use {count} processes like this one: "
                f"`torchrun --nproc-per-node {count} -m puzzledsl.cli.main uptrain`, or several machines"
            )
    return "distil a smaller child, or use larger machines"
