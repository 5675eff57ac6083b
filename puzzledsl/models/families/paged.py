"""A parent whose weights are read when a module runs and dropped when others need the memory.

It is transformers' model with hooks: running it layer by layer gives bit-identical numbers to a fully loaded model. A
page (`pages.py`) is the unit of reading and dropping: the embedding, one layer, the final norm, or the head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from puzzledsl.models.families.access import base_shape_of, blocks_of, family_of, layers
from puzzledsl.models.families.children import model_class_of
from puzzledsl.models.families.load import empty_model, frozen, load_config
from puzzledsl.models.families.pages import Page, Pages
from puzzledsl.models.families.slots import Slot, slots
from puzzledsl.models.families.stored import select
from puzzledsl.models.families.tensors import LazyTensor, open_weights


def is_paged(model: PreTrainedModel) -> bool:
    """Return True if the model's weights are paged."""
    return "pages" in model.__dict__


def paged_parent(
    directory: Path,
    *,
    room_bytes: int,
    keep_head: bool = False,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[PreTrainedModel, Pages]:
    """Return the parent as `load_parent` does, with at most `room_bytes` of its weights in memory (one page at least).

    The final norm is always in memory, and with `keep_head` so is the head, in addition to `room_bytes`. Raises
    DiagnosticError: NoCheckpoint, UnreadableCheckpoint, DamagedWeights, AbsurdConfig, WeightsDontFit, UnknownFamily.
    DamagedWeights can also occur later, if a file becomes unreadable while the model runs.
    """
    config = load_config(directory)
    weights = select(directory, base_shape_of(config), open_weights(directory), blocks_of(config))
    family = family_of(config)
    model = empty_model(model_class_of(config), config, dtype, device)
    pages = Pages(dtype, device, room_bytes)
    for name in (family.embedding, *(f"{family.layers}.{i}" for i in range(len(layers(model))))):
        module = model.get_submodule(name)
        pages.load_on_call(module, _page(name, module, weights, dtype))
    pages.pin(_page(family.final_norm, model.get_submodule(family.final_norm), weights, dtype))
    head = model.get_submodule(family.head)
    stored = f"{family.embedding if base_shape_of(config).tied else family.head}.weight"
    page = _page_of({"weight": (Slot(head, "weight"), weights[stored])}, family.head, dtype)
    pages.pin(page) if keep_head else pages.load_on_call(head, page)
    model.__dict__["pages"] = pages
    return frozen(model, device), pages


def _page(path: str, module: nn.Module, weights: Mapping[str, LazyTensor], dtype: torch.dtype) -> Page:
    places = slots(module).items()
    own = {name: (slot, weights[f"{path}.{name}"]) for name, slot in places}
    return _page_of(own, path, dtype)


def _page_of(own: Mapping[str, tuple[Slot, LazyTensor]], name: str, dtype: torch.dtype) -> Page:
    numbers = sum(math.prod(weight.shape) for _, weight in own.values())
    return Page(name, own, numbers * dtype.itemsize)
