"""Means by which an uptraining fits into memory, from the memory plan, before anything is loaded.

They are tried from the cheapest: recomputed layers and smaller micro-batches, the child's state in the host's memory.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from puzzledsl.alternatives.shape import Shape
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.ir.base import span_of
from puzzledsl.ir.nodes import Uptrain
from puzzledsl.models.errors import NoRoomToUptrain
from puzzledsl.models.families.access import base_shape_of, shape_of
from puzzledsl.models.families.load import load_config
from puzzledsl.models.placement import this_device
from puzzledsl.plan.memory.stage_plan import Device, StagePlan, tiles
from puzzledsl.plan.memory.stages import UptrainChoice, UptrainSizes, uptrain_plan
from puzzledsl.uptrain.ranks import Ranks

MOST_PROCESSES = 4096
PLAIN = UptrainChoice(0, recompute=False, offload=False)
"""Nothing is spent to save memory; 0 blocks at a time are as many as a device needs for its speed."""


def cure(choice: UptrainChoice) -> str:
    """Return the change of the program that takes less memory."""
    if choice.micro_blocks > 1:
        return f"write `micro_batch = {choice.micro_blocks // 2}`"
    return "use more processes" if choice.recompute else "write `micro_batch = 1, recompute = true`"


def means_for(
    declaration: Uptrain, parent_dir: Path, child_dir: Path, device: torch.device, ranks: Ranks
) -> UptrainChoice:
    """Return the means with which the training fits. Raises DiagnosticError (NoRoomToUptrain)."""
    child, parent = _child_shape(child_dir), shape_of(load_config(parent_dir))
    dtype = torch.bfloat16 if declaration.dtype == "bf16" and device.type == "cuda" else torch.float32
    here, together = this_device(device, dtype), ranks.world // ranks.nodes
    here = replace(here.shared_by(together), host_bytes=here.host_bytes // together, count=ranks.world)
    sizes = UptrainSizes(declaration, child, parent)
    if not here.is_gpu:  # its sums depend on the micro-batch, which therefore does not depend on free memory
        usual = max(1, tiles("cpu").training_tokens // declaration.context)
        sizes = sizes.at(declaration.micro_batch or usual)
    means = chosen(sizes, here)
    if means is None:
        raise DiagnosticError(_no_room(declaration, sizes, here))
    return means


def _child_shape(directory: Path) -> Shape:
    """Return a child's shape; that of its base family's model for a child with sub-blocks that no parent can have."""
    config = load_config(directory)
    try:
        return shape_of(config)
    except DiagnosticError:
        return base_shape_of(config)


def chosen(sizes: UptrainSizes, device: Device) -> UptrainChoice | None:
    """Return what the plan chooses; None if nothing fits."""
    plan, choice = uptrain_plan(sizes, device)
    if not _fits(plan, device):
        return None
    if (
        device.is_gpu and sizes.declaration.micro_batch is None
    ):  # no more tokens at a time than a GPU needs for its speed
        most = max(1, tiles("cuda").training_tokens // sizes.declaration.context)
        sizes = sizes.at(min(choice.micro_blocks, most))
        plan, choice = uptrain_plan(sizes, device)
    return choice if device.is_gpu else replace(choice, micro_blocks=0)


def _fits(plan: StagePlan, device: Device) -> bool:
    """True if the plan fits; on a CPU, where it is the whole of the free memory that ends a process, into all of that."""
    return plan.fits(device) if device.is_gpu else plan.peak_bytes <= device.memory_bytes


def in_words(means: UptrainChoice) -> str:
    """Return what is done, in words; an empty text if nothing is."""
    words = {
        "layers are computed twice": means.recompute,
        "the child's weights, gradients and moments are in the host's memory": means.offload,
    }
    return ", ".join(text for text, done in words.items() if done)


def _no_room(declaration: Uptrain, sizes: UptrainSizes, device: Device) -> NoRoomToUptrain:
    least, _ = uptrain_plan(sizes, device)
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
        if _fits(uptrain_plan(sizes, larger)[0], larger):
            return (
                f"use {count} processes like this one: "
                f"`torchrun --nproc-per-node {count} -m puzzledsl.cli.main uptrain`, or several machines"
            )
    return "distil a smaller child, or use larger machines"
