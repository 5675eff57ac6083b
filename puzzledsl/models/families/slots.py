"""Places of weights in a model's modules, by canonical names; pages of weights; layers that use the weights of others.

A place is a whole parameter, or a share of one that holds several weights. A page is a set of weights that is read when a module
runs, and dropped when others need the memory. An absent weight is a single NaN expanded to the weight's shape: it has its shape,
dtype and device and takes no memory, and any result computed from it without running its module is visibly NaN.

A model that does not fit in memory is timed with all its layers, some of them with the weights of others: times do not depend on
the values of weights. Each kind of layer keeps the weights of at least two layers, so that a layer's weights are as cold in the
caches as those of the whole model would be.
"""

from __future__ import annotations

import importlib
import math
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from puzzledsl.base.frozen import Record
from puzzledsl.families.family import Family
from puzzledsl.families.registry import FAMILIES
from puzzledsl.models.families.access import HeadsView, family_of
from puzzledsl.models.families.clamped import ClampedMLP
from puzzledsl.models.families.stored import Part, canonical_name, experts_in, rows_of_module
from puzzledsl.models.families.tensors import LazyTensor

DENSE: dict[str, type[nn.Module]] = {"gpt_oss": ClampedMLP}
"""`model_type` -> dense FFN, for families that have none in transformers."""


class Classes(Record):
    """Module classes of one family; `mixture` is None for a family without mixtures of experts."""

    causal_lm: type[Any]
    attention: type[nn.Module]
    ffn: type[nn.Module]
    mixture: type[nn.Module] | None


@cache
def classes_of(model_type: str) -> Classes:
    """Return a family's classes; the module that defines them is imported on first use."""
    family = FAMILIES[model_type]
    module = importlib.import_module(f"transformers.models.{family.module}.modeling_{family.module}")

    def named(end: str) -> Any:
        return getattr(module, f"{family.prefix}{end}", None)

    dense = DENSE.get(model_type) or named("MLP")
    return Classes(named("ForCausalLM"), named("Attention"), dense, named(family.mixture.block))


class Slot(Record):
    """A place: a parameter or buffer of the module `holder`, or a share of a parameter."""

    holder: nn.Module
    name: str
    share: Callable[[Tensor], Tensor] | None = None
    """Return the share of the whole parameter, sharing its memory; None: all of it."""

    @property
    def weight(self) -> Tensor:
        """Return the present weight, a view of the parameter."""
        whole = cast(Tensor, getattr(self.holder, self.name)).detach()
        return whole if self.share is None else self.share(whole)

    def put(self, value: Tensor, device: torch.device | str, dtype: torch.dtype) -> None:
        """Set the weight: a whole parameter takes the value's memory, a share is copied. A buffer keeps its own dtype."""
        if not isinstance(getattr(self.holder, self.name), nn.Parameter):
            setattr(self.holder, self.name, value.to(device=device, dtype=self.weight.dtype))
        elif self.share is None:
            value = value.to(device=device, dtype=dtype)
            setattr(self.holder, self.name, nn.Parameter(value, requires_grad=False))
        else:
            self.weight.copy_(value)

    def clear(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Drop the parameter: a single NaN, expanded to its shape, takes its place. A buffer stays."""
        whole = getattr(self.holder, self.name)
        if isinstance(whole, nn.Parameter):
            nothing = torch.full((), torch.nan, dtype=dtype, device=device)
            setattr(self.holder, self.name, nn.Parameter(nothing.expand(whole.shape), requires_grad=False))


def slots(module: nn.Module) -> dict[str, Slot]:
    """Return the places of a module's weights, and of buffers that checkpoints hold, by canonical names in the module's order."""
    found: dict[str, Slot] = {}
    mixtures = {
        path: family_of(cast(Any, inner).experts.config)
        for path, inner in module.named_modules()
        if isinstance(getattr(inner, "experts", None), nn.Module)
    }
    joined, stored = _joined(module), module.state_dict(keep_vars=True)
    for path, inner in module.named_modules(remove_duplicate=False):
        own = f"{path}." if path else ""
        holder, _, last = path.rpartition(".")
        family = mixtures.get(holder) if last == "experts" else None
        own_only = {"recurse": False, "remove_duplicate": False}
        for name, parameter in chain(inner.named_parameters(**own_only), inner.named_buffers(**own_only)):
            if own + name not in stored:  # a buffer that no checkpoint holds
                continue
            if own + name in joined:
                found |= {part: Slot(inner, name, rows.of) for part, rows in joined[own + name]}
            elif family is not None and parameter.ndim > 1:
                shares = experts_in(own + name, len(parameter), family)
                found |= {canonical: Slot(inner, name, part.of) for canonical, part in shares}
            else:
                found[_canonical(own + name, mixtures)] = Slot(inner, name)
    return found


def _joined(module: nn.Module) -> dict[str, list[tuple[str, Part]]]:
    """Return the canonical names of the rows of each joined projection, by the projection's name."""
    found: dict[str, list[tuple[str, Part]]] = {}
    for path, inner in module.named_modules():
        config, start = getattr(inner, "config", None), f"{path}." if path else ""
        config = config.config if isinstance(config, HeadsView) else config
        if isinstance(config, PreTrainedConfig):
            for name, rows in rows_of_module(inner, family_of(config)):
                found.setdefault(start + rows.whole, []).append((start + name, rows))
    return found


def _canonical(name: str, mixtures: Mapping[str, Family]) -> str:
    for path, family in mixtures.items():
        start = f"{path}." if path else ""
        if name.startswith(start):
            return start + canonical_name(name.removeprefix(start), family)
    return name


def allocate(places: Iterable[Slot], device: torch.device | str, dtype: torch.dtype) -> None:
    """Give uninitialised storage to each parameter of which a place is a share. A whole parameter gets its storage from `put`."""
    shared = {(id(slot.holder), slot.name): slot for slot in places if slot.share is not None}
    for slot in shared.values():
        shape = cast(Tensor, getattr(slot.holder, slot.name)).shape
        storage = torch.empty(shape, dtype=dtype, device=device)
        setattr(slot.holder, slot.name, nn.Parameter(storage, requires_grad=False))


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a sub-block's weights by their canonical names, as views of its parameters."""
    return {name: slot.weight for name, slot in slots(module).items()}


def load_weights_into(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights, by their canonical names, into a module. Raises KeyError unless the names are exactly the module's."""
    places = slots(module)
    if different := sorted(set(places) ^ set(weights)):
        raise KeyError(f"weights of another module: {', '.join(different[:4])}")
    with torch.no_grad():
        for name, slot in places.items():
            slot.weight.copy_(weights[name])


LEAST = 2  # layers of each kind that have weights of their own, if there are so many


def source_layers(
    weights: Mapping[str, LazyTensor], prefix: str, dtype: torch.dtype, room_bytes: int
) -> dict[int, int]:
    """Return for each layer the one whose weights it uses, itself if all weights fit into `room_bytes`.

    `prefix`: of the layers' canonical names, such as `model.layers`. Layers are of one kind if their weights have the same names
    and shapes. Each kind keeps about the same share of its layers, the first ones; the others take these in turn. If not even
    `LEAST` layers of each kind fit, weights take more than `room_bytes`.
    """
    own: dict[int, dict[str, tuple[int, ...]]] = defaultdict(dict)
    needed = 0
    for name, weight in weights.items():
        needed += math.prod(weight.shape) * dtype.itemsize
        if name.startswith(f"{prefix}."):
            number, _, rest = name.removeprefix(f"{prefix}.").partition(".")
            own[int(number)][rest] = weight.shape
    kinds: dict[tuple[tuple[str, tuple[int, ...]], ...], list[int]] = defaultdict(list)
    for layer_idx, shapes in sorted(own.items()):
        kinds[tuple(sorted(shapes.items()))].append(layer_idx)
    kept = {kind: len(alike) for kind, alike in kinds.items()}
    while needed > room_bytes and (more := [kind for kind in kinds if kept[kind] > LEAST]):
        largest = max(more, key=lambda kind: kept[kind] / len(kinds[kind]))
        kept[largest] -= 1
        needed -= sum(math.prod(shape) for _, shape in largest) * dtype.itemsize
    return {
        layer_idx: alike[position % kept[kind]]
        for kind, alike in kinds.items()
        for position, layer_idx in enumerate(alike)
    }


def source_names(names: Mapping[str, LazyTensor], prefix: str, sources: Mapping[int, int]) -> dict[str, str]:
    """Return for each weight's name the name of the weight that it uses. `sources`: from `source_layers`."""
    found = {}
    for name in names:
        found[name] = name
        if name.startswith(f"{prefix}."):
            number, _, rest = name.removeprefix(f"{prefix}.").partition(".")
            found[name] = f"{prefix}.{sources[int(number)]}.{rest}"
    return found


def layers_with_weights(layers: Iterable[nn.Module]) -> int:
    """Return the number of layers, where layers that share their weights count once together."""
    first = (next(iter(layer.parameters()), layer) for layer in layers)
    return len({id(one) for one in first})


def share_weights(module: nn.Module, source: nn.Module) -> None:
    """Let a module use the parameters of another of the same class and sizes."""
    others = dict(source.named_modules())
    for path, inner in module.named_modules():
        for name, parameter in others[path].named_parameters(recurse=False, remove_duplicate=False):
            setattr(inner, name, parameter)


_PLACE = "place_in_pages"  # attribute of a paged module: its `Place`


class Page(Record):
    """Weights that are read and dropped together, with their places, by canonical names inside the page's module."""

    name: str
    weights: Mapping[str, tuple[Slot, LazyTensor]]
    size_bytes: int


class Place(Record):
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
        while self._present and sum(p.size_bytes for p in (*self._present.values(), page)) > self.room_bytes:
            self.drop(next(iter(self._present.values())))
        self.pin(page)
        self._present[page.name] = page
        self.reads += 1

    def drop(self, page: Page) -> None:
        """Drop the page if it is in memory."""
        if self._present.pop(page.name, None) is not None:
            self._unload(page)

    def _unload(self, page: Page) -> None:
        for slot, _ in page.weights.values():
            slot.clear(self._device, self._dtype)


def load_module_weights(module: nn.Module) -> None:
    """Load a module's weights for reading them without running it. Does nothing for a fully loaded model."""
    if (place := _place(module)) is not None:
        place.pages.load(place.page)


def weights_on_demand(module: nn.Module) -> Mapping[str, Tensor]:
    """Return a sub-block's weights by canonical names, for work on a few of them at a time.

    They are views of its parameters. Only if the module's page is larger than `room_bytes`, it is dropped, and each look-up reads
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
