"""A parent whose weights are read when a module runs and forgotten when others need the room.

It is transformers' own model, with hooks: whatever runs it layer by layer gets the same numbers as from a loaded one, bit
for bit. A page is what is read and forgotten together: the embedding, one layer, the final norm, or the head.

A weight that is not there is a single NaN seen at every index: it has its shape, dtype and device, takes no memory, and
whoever reads it without running its module sees at once that it is not there.
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

from puzzledsl.parents.access import family_of, layers, shape_of
from puzzledsl.parents.inventory import select
from puzzledsl.parents.load import empty_model, frozen, load_config
from puzzledsl.parents.tensors import LazyTensor, open_weights


@dataclass(frozen=True)
class Slot:
    """Where one weight belongs."""

    holder: nn.Module
    name: str
    weight: LazyTensor


@dataclass(frozen=True)
class Page:
    """Weights that come and go together."""

    name: str
    slots: Sequence[Slot]
    size_bytes: int


class Pages:
    """The pages of one model. At most `room_bytes` of weights are kept, or one page where that is more."""

    def __init__(self, dtype: torch.dtype, device: torch.device | str, room_bytes: int) -> None:
        self._dtype, self._device = dtype, device
        self._room_bytes = room_bytes
        self._present: OrderedDict[str, Page] = OrderedDict()
        self.reads = 0

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the pages in memory, the one that ran last at the end."""
        return tuple(self._present)

    def pin(self, page: Page) -> None:
        """Read the page now and keep it, beside what `room_bytes` allows."""
        for slot in page.slots:
            _put(slot, slot.weight.read().to(device=self._device, dtype=self._dtype))

    def adopt(self, module: nn.Module, page: Page) -> None:
        """From now on the page's weights are read when the module, or any inside it, is called."""
        self._forget(page)

        def read(_: nn.Module, __: Any) -> None:
            self.bring(page)

        for inner in module.modules():
            inner.register_forward_pre_hook(read)
            inner.__dict__["page"] = page

    def bring(self, page: Page) -> None:
        """Have the page in memory, and forget those that ran longest ago where there is no room for all."""
        if page.name in self._present:
            self._present.move_to_end(page.name)
            return
        while self._present and self._held_bytes() + page.size_bytes > self._room_bytes:
            _, oldest = self._present.popitem(last=False)
            self._forget(oldest)
        self.pin(page)
        self._present[page.name] = page
        self.reads += 1

    def _held_bytes(self) -> int:
        return sum(page.size_bytes for page in self._present.values())

    def _forget(self, page: Page) -> None:
        for slot in page.slots:
            nothing = torch.full((), torch.nan, dtype=self._dtype, device=self._device)
            _put(slot, nothing.expand(slot.weight.shape))


def _put(slot: Slot, value: torch.Tensor) -> None:
    slot.holder._parameters[slot.name] = nn.Parameter(value, requires_grad=False)


def is_paged(model: PreTrainedModel) -> bool:
    """Whether the model's weights come and go."""
    return "pages" in model.__dict__


def bring_weights(model: PreTrainedModel, module: nn.Module) -> None:
    """Have a module's weights in memory, for who reads them without running it. Nothing to do for a loaded model."""
    if is_paged(model) and "page" in module.__dict__:
        model.__dict__["pages"].bring(module.__dict__["page"])


def paged_parent(
    directory: Path,
    *,
    room_bytes: int,
    keep_head: bool = False,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[PreTrainedModel, Pages]:
    """The parent as `load_parent` gives it, with at most `room_bytes` of its weights in memory (one page at least).

    The final norm is always there, and with `keep_head` the head is too, beside those.
    Raises DiagnosticError: NoCheckpoint, UnreadableCheckpoint, DamagedWeights, AbsurdConfig, WeightsDontFit, UnknownFamily;
    DamagedWeights also later, while it runs, where a file can no longer be read.
    """
    config = load_config(directory)
    weights = select(directory, shape_of(config), open_weights(directory))
    family = family_of(config)
    model = empty_model(family.causal_lm, config, dtype, device)
    pages = Pages(dtype, device, room_bytes)
    for name in (family.embedding, *(f"{family.layers}.{i}" for i in range(len(layers(model))))):
        module = model.get_submodule(name)
        pages.adopt(module, _page(name, module, weights, dtype))
    pages.pin(_page(family.final_norm, model.get_submodule(family.final_norm), weights, dtype))
    head = model.get_submodule(family.head)
    stored = f"{family.embedding if shape_of(config).tied else family.head}.weight"
    page = _page_of([Slot(head, "weight", weights[stored])], family.head, dtype)
    pages.pin(page) if keep_head else pages.adopt(head, page)
    model.__dict__["pages"] = pages
    return frozen(model, device), pages


def _page(path: str, module: nn.Module, weights: Mapping[str, LazyTensor], dtype: torch.dtype) -> Page:
    slots = []
    for name, weight in weights.items():
        if name.startswith(f"{path}."):
            holder, _, own = name.removeprefix(f"{path}.").rpartition(".")
            slots.append(Slot(module.get_submodule(holder), own, weight))
    return _page_of(slots, path, dtype)


def _page_of(slots: Sequence[Slot], name: str, dtype: torch.dtype) -> Page:
    numbers = sum(math.prod(slot.weight.shape) for slot in slots)
    return Page(name, slots, numbers * dtype.itemsize)
