"""Layers that use the weights of others, so that a model which does not fit in memory can be timed with all its layers.

Times do not depend on the values of weights. Each kind of layer keeps the weights of at least two layers, so that the
weights of a layer are as cold in the caches as those of the whole model would be.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from puzzledsl.models.families.slots import Slot
from puzzledsl.models.families.tensors import LazyTensor

LEAST = 2
"""Layers of each kind that have weights of their own, if there are so many."""


def source_layers(
    weights: Mapping[str, LazyTensor], prefix: str, dtype: torch.dtype, room_bytes: int
) -> dict[int, int]:
    """Return for each layer the one whose weights it uses, itself if all weights fit into `room_bytes`.

    `prefix`: of the layers' canonical names, such as `model.layers`. Layers are of one kind if their weights have the same names
    and shapes. Each kind keeps about the same share of its layers, the first ones; the others take these in turn. The sum can be
    above `room_bytes`, if not even `LEAST` layers of each kind fit.
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
    """Return the name of the weight that each named one is taken from."""
    found = {}
    for name in names:
        found[name] = name
        if name.startswith(f"{prefix}."):
            number, _, rest = name.removeprefix(f"{prefix}.").partition(".")
            found[name] = f"{prefix}.{sources[int(number)]}.{rest}"
    return found


def layers_with_weights(layers: Iterable[nn.Module]) -> int:
    """Return the number of layers that have weights of their own, or none at all."""
    first = (next(iter(layer.parameters()), layer) for layer in layers)
    return len({id(one) for one in first})


def share_storage(place: Slot, source: Slot) -> None:
    """Let a place of a weight hold the parameter or buffer of another, of the same shape."""
    setattr(place.holder, place.name, getattr(source.holder, source.name))


def share_weights(module: nn.Module, source: nn.Module) -> None:
    """Let a module use the parameters of another of the same class and sizes."""
    others = dict(source.named_modules())
    for path, inner in module.named_modules():
        for name, parameter in others[path].named_parameters(recurse=False, remove_duplicate=False):
            setattr(inner, name, parameter)
