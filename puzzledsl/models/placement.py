"""Device and dtype of a parent on this machine, and the parent loaded there, whole or paged.

A GPU is used where there is one, mostly in bfloat16: its float32 products take 15 times as long. Logits and losses are float32
all the same. A parent that does not fit is run with its weights read layer by layer.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import PreTrainedModel

from puzzledsl.base.progress import Progress
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.models.families import load
from puzzledsl.models.families.access import base_shape_of, family_of, layers
from puzzledsl.models.families.slots import Page, Pages, Slot, slots
from puzzledsl.models.families.tensors import LazyTensor, open_weights
from puzzledsl.models.machine import room_bytes
from puzzledsl.plan.memory.stage_plan import Device


def is_paged(model: PreTrainedModel) -> bool:
    """Return True if the model reads its weights from disk as it runs (`paged_parent`)."""
    return "pages" in model.__dict__


def paged_parent(
    directory: Path,
    *,
    room_bytes: int,
    keep_head: bool = False,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[PreTrainedModel, Pages]:
    """Return `load_parent`'s model with at most `room_bytes` of its weights in memory (one page at least), and its pages.

    A page is a layer, the embedding or the head. The final norm, and with `keep_head` the head, are always in memory, in addition
    to `room_bytes`. Raises DiagnosticError: NoCheckpoint, UnreadableCheckpoint, DamagedWeights (also later, if a file becomes
    unreadable while the model runs), WeightsDontFit, UnknownFamily.
    """
    config = load.load_config(directory)
    weights = load.weights_in(directory, config)
    family = family_of(config)
    model = load.empty_model(load.model_class_of(config), config, dtype, device)
    pages = Pages(dtype, device, room_bytes)

    def own(path: str) -> Page:
        places = slots(model.get_submodule(path)).items()
        return _page(path, {name: (slot, weights[f"{path}.{name}"]) for name, slot in places}, dtype)

    for name in (family.embedding, *(f"{family.layers}.{i}" for i in range(len(layers(model))))):
        pages.load_on_call(model.get_submodule(name), own(name))
    pages.pin(own(family.final_norm))
    head = model.get_submodule(family.head)
    stored = f"{family.embedding if base_shape_of(config).tied else family.head}.weight"
    page = _page(family.head, {"weight": (Slot(head, "weight"), weights[stored])}, dtype)
    pages.pin(page) if keep_head else pages.load_on_call(head, page)
    model.__dict__["pages"] = pages
    return load.frozen(model, device), pages


def _page(name: str, own: Mapping[str, tuple[Slot, LazyTensor]], dtype: torch.dtype) -> Page:
    numbers = sum(math.prod(weight.shape) for _, weight in own.values())
    return Page(name, own, numbers * dtype.itemsize)


SHARE = 0.6  # share of free memory that the parent's weights may take; the rest is for activations and pieces
BFLOAT16_SINCE = (8, 0)  # compute capability of the first GPUs with bfloat16 instructions (Ampere)
KEPT_SHARE = 0.25  # share of free memory in which a paged parent may keep weights for reuse


def placement(parent_dir: Path) -> tuple[torch.device, torch.dtype]:
    """Return (device, dtype) for a checkpoint.

    A CPU gets float32, a GPU bfloat16. A GPU without bfloat16 instructions gets float32 if the weights, which are taken to be
    stored in 16 bits, fit into `SHARE` of its memory in float32.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu"), torch.float32
    device = torch.device("cuda")
    stored = sum(path.stat().st_size for path in parent_dir.glob("*.safetensors"))
    fits = 2 * stored <= free_bytes(device) * SHARE
    return device, torch.float32 if fits and not faster_in_bfloat16(device) else torch.bfloat16


SMALL_BYTES = 1 << 32  # memory that each of several processes of a machine is taken to have at least


def reachable_parent(
    parent_dir: Path, progress: Progress, *, once: bool, processes: int = 1
) -> PreTrainedModel:
    """Load the parent, or, if it does not fit in memory, return a paged one that reads its weights as it runs.

    `once`: the caller finishes with each layer before it runs the next and needs no head, so no weights are kept for reuse.
    `processes`: number of processes on this machine that each load the parent on the CPU, and so share its memory. A paged parent
    gives the same numbers. Raises DiagnosticError: those of `load_parent`.
    """
    device, dtype = placement(parent_dir)
    needed, room = weights_bytes(parent_dir, dtype), free_bytes(device)
    if processes > 1 and device.type == "cpu":
        room = max(room // processes, SMALL_BYTES)
    if needed <= SHARE * room:
        return load.load_parent(parent_dir, dtype=dtype, device=device)
    return read_by_layer("the parent's weights", parent_dir, device, dtype, progress, once=once)


def read_by_layer(
    whose: str, directory: Path, device: torch.device, dtype: torch.dtype, progress: Progress, *, once: bool
) -> PreTrainedModel:
    """Return a paged model and log why: `whose` ("the parent's weights") do not fit. `once`, errors: as in `reachable_parent`."""
    needed, room = weights_bytes(directory, dtype), free_bytes(device)
    kept = 0 if once else int(KEPT_SHARE * room)
    progress.log(
        "paged",
        text=f"{whose} ({format_quantity(needed, BYTES)}) do not fit in memory "
        f"({format_quantity(room, BYTES)} is free): they are read layer by layer",
        weights_bytes=needed,
        room_bytes=room,
        kept_bytes=kept,
    )
    model, _ = paged_parent(directory, room_bytes=kept, keep_head=not once, dtype=dtype, device=device)
    return model


def weights_bytes(parent_dir: Path, dtype: torch.dtype) -> int:
    """Return the bytes that a checkpoint's weights take in `dtype`. Raises DiagnosticError (NoCheckpoint, DamagedWeights)."""
    stored = open_weights(parent_dir).values()
    return sum(weight.nbytes // weight.dtype.itemsize for weight in stored) * dtype.itemsize


def free_bytes(device: torch.device) -> int:
    """Return a GPU's total memory, or, for the CPU, the bytes that this process may still allocate."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return room_bytes()


def faster_in_bfloat16(device: torch.device) -> bool:
    """True on a GPU (Ampere and later) or CPU (AVX512-BF16 or AMX) with bfloat16 instructions. Others emulate it, slowly."""
    if device.type != "cpu":
        return device.type == "cuda" and torch.cuda.get_device_capability(device) >= BFLOAT16_SINCE
    cpu = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16"))


def this_device(device: torch.device, dtype: torch.dtype, *, held_bytes: int = 0) -> Device:
    """Return a device of this machine as the record that plans read; its speeds are 0, for unknown.

    `held_bytes`: what this process already holds of the memory that the plan counts. It is added to a CPU's free memory alone.
    """
    is_gpu = device.type == "cuda"
    memory = free_bytes(device) + (0 if is_gpu else held_bytes)
    return Device(
        name=torch.cuda.get_device_name(device) if is_gpu else "this machine's CPU",
        is_gpu=is_gpu,
        memory_bytes=memory,
        host_bytes=room_bytes(),
        dtype="fp32" if dtype == torch.float32 else "bf16",
        flop_per_s=0.0,
        bandwidth_bytes_per_s=0.0,
    )
