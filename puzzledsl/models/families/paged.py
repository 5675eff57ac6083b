"""A parent whose weights are read when a module runs and dropped when others need the memory.

It is transformers' model with hooks: running it layer by layer gives bit-identical numbers to a fully loaded model. A
page is the unit of reading and dropping: the embedding, one layer, the final norm, or the head.

An absent weight is a single NaN expanded to the weight's shape: it has its shape, dtype and device and takes no
memory, and any result computed from it without running its module is visibly NaN.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from puzzledsl.models.families.access import base_shape_of, blocks_of, family_of, layers
from puzzledsl.models.families.children import model_class_of
from puzzledsl.models.families.inventory import select
from puzzledsl.models.families.load import empty_model, frozen, load_config
from puzzledsl.models.families.slots import Slot, allocate, slots
from puzzledsl.models.families.tensors import LazyTensor, open_weights


@dataclass(frozen=True)
class Page:
    """Weights that are read and dropped together, with their places."""

    name: str
    weights: Sequence[tuple[Slot, LazyTensor]]
    size_bytes: int


class Pages:
    """The pages of one model. At most `room_bytes` of weights are kept, but always the current page."""

    def __init__(self, dtype: torch.dtype, device: torch.device | str, room_bytes: int) -> None:
        self._dtype, self._device = dtype, device
        self._room_bytes = room_bytes
        self._present: OrderedDict[str, Page] = OrderedDict()
        self.reads = 0

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the pages in memory, from the least to the most recently used."""
        return tuple(self._present)

    def pin(self, page: Page) -> None:
        """Read the page now and keep it for good, in addition to `room_bytes`."""
        allocate((slot for slot, _ in page.weights), self._device, self._dtype)
        for slot, weight in page.weights:
            slot.put(weight.read(), self._device, self._dtype)

    def load_on_call(self, module: nn.Module, page: Page) -> None:
        """Drop the page, and read it whenever the module or one inside it is called."""
        self._unload(page)

        def read(_: nn.Module, __: Any) -> None:
            self.load(page)

        for inner in module.modules():
            inner.register_forward_pre_hook(read)
            inner.__dict__["page"] = page

    def load(self, page: Page) -> None:
        """Load the page, dropping the least recently used pages to make room."""
        if page.name in self._present:
            self._present.move_to_end(page.name)
            return
        while self._present and self._held_bytes() + page.size_bytes > self._room_bytes:
            _, oldest = self._present.popitem(last=False)
            self._unload(oldest)
        self.pin(page)
        self._present[page.name] = page
        self.reads += 1

    def _held_bytes(self) -> int:
        return sum(page.size_bytes for page in self._present.values())

    def _unload(self, page: Page) -> None:
        for slot, _ in page.weights:
            slot.clear(self._device, self._dtype)


def is_paged(model: PreTrainedModel) -> bool:
    """Return True if the model's weights are paged."""
    return "pages" in model.__dict__


def load_module_weights(model: PreTrainedModel, module: nn.Module) -> None:
    """Load a module's weights for reading them without running it. Does nothing for a fully loaded model."""
    if is_paged(model) and "page" in module.__dict__:
        model.__dict__["pages"].load(module.__dict__["page"])


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
    page = _page_of([(Slot(head, "weight"), weights[stored])], family.head, dtype)
    pages.pin(page) if keep_head else pages.load_on_call(head, page)
    model.__dict__["pages"] = pages
    return frozen(model, device), pages


def _page(path: str, module: nn.Module, weights: Mapping[str, LazyTensor], dtype: torch.dtype) -> Page:
    places = slots(module).items()
    return _page_of([(slot, weights[f"{path}.{name}"]) for name, slot in places], path, dtype)


def _page_of(own: Sequence[tuple[Slot, LazyTensor]], name: str, dtype: torch.dtype) -> Page:
    numbers = sum(math.prod(weight.shape) for _, weight in own)
    return Page(name, own, numbers * dtype.itemsize)
