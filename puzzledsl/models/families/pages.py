"""Pages of weights: read when a module runs, and dropped when others need the memory.

An absent weight is a single NaN expanded to the weight's shape: it has its shape, dtype and device and takes no
memory, and any result computed from it without running its module is visibly NaN.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from puzzledsl.models.families.slots import Slot, allocate, weights_of
from puzzledsl.models.families.tensors import LazyTensor

_PLACE = "place_in_pages"
"""Attribute of a paged module: its `Place`."""


@dataclass(frozen=True)
class Page:
    """Weights that are read and dropped together, with their places, by canonical names inside the page's module."""

    name: str
    weights: Mapping[str, tuple[Slot, LazyTensor]]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Place:
    """A module's page and its path inside the page's module."""

    pages: Pages
    page: Page
    path: str


class OnDemand(Mapping[str, Tensor]):
    """Weights that are read from their files whenever they are looked up, with the dtype and device of their places."""

    def __init__(self, weights: Mapping[str, tuple[Slot, LazyTensor]]) -> None:
        self._weights = weights

    def __getitem__(self, name: str) -> Tensor:
        slot, stored = self._weights[name]
        return stored.read().to(slot.weight)

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


class Pages:
    """The pages of one model. At most `room_bytes` of weights are kept, but always the current page."""

    def __init__(self, dtype: torch.dtype, device: torch.device | str, room_bytes: int) -> None:
        self._dtype, self._device = dtype, device
        self.room_bytes = room_bytes
        self._present: OrderedDict[str, Page] = OrderedDict()
        self.reads = 0

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the pages in memory, from the least to the most recently used."""
        return tuple(self._present)

    def pin(self, page: Page) -> None:
        """Read the page now and keep it for good, in addition to `room_bytes`."""
        allocate((slot for slot, _ in page.weights.values()), self._device, self._dtype)
        for slot, weight in page.weights.values():
            slot.put(weight.read(), self._device, self._dtype)

    def load_on_call(self, module: nn.Module, page: Page) -> None:
        """Drop the page, and read it whenever the module or one inside it that has weights is called."""
        self._unload(page)

        def read(_: nn.Module, __: Any) -> None:
            self.load(page)

        for path, inner in module.named_modules():
            if any(True for _ in inner.parameters()):  # an activation runs without the page
                inner.register_forward_pre_hook(read)
                inner.__dict__[_PLACE] = Place(self, page, path)

    def load(self, page: Page) -> None:
        """Load the page, dropping the least recently used pages to make room."""
        if page.name in self._present:
            self._present.move_to_end(page.name)
            return
        while self._present and self._held_bytes() + page.size_bytes > self.room_bytes:
            self.drop(next(iter(self._present.values())))
        self.pin(page)
        self._present[page.name] = page
        self.reads += 1

    def drop(self, page: Page) -> None:
        """Drop the page if it is in memory."""
        if self._present.pop(page.name, None) is not None:
            self._unload(page)

    def _held_bytes(self) -> int:
        return sum(page.size_bytes for page in self._present.values())

    def _unload(self, page: Page) -> None:
        for slot, _ in page.weights.values():
            slot.clear(self._device, self._dtype)


def load_module_weights(module: nn.Module) -> None:
    """Load a module's weights for reading them without running it. Does nothing for a fully loaded model."""
    if (place := _place(module)) is not None:
        place.pages.load(place.page)


def weights_on_demand(module: nn.Module) -> Mapping[str, Tensor]:
    """Return a sub-block's weights by canonical names, for work on a few of them at a time.

    They are views of its parameters. Only where no page may stay in memory, the module's page is dropped, and each look-up reads
    the weight from its file: a large mixture's experts are never in memory together.
    """
    place = _place(module)
    if place is None or place.page.size_bytes <= place.pages.room_bytes:
        load_module_weights(module)
        return weights_of(module)
    place.pages.drop(place.page)
    start = f"{place.path}."
    own = {name: weight for name, weight in place.page.weights.items() if name.startswith(start)}
    return OnDemand({name.removeprefix(start): weight for name, weight in own.items()})


def _place(module: nn.Module) -> Place | None:
    return cast(Place | None, module.__dict__.get(_PLACE))
