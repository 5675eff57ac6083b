"""Put modules into a model, make a layer with others, and renumber the slots of a KV cache."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.models.families.access import HeadsView, layers, part, part_of, sub_block_of
from puzzledsl.models.families.build import NoNorm, Substitute
from puzzledsl.models.transformers_private import with_own_modules


def put(model: PreTrainedModel, layer_idx: int, sub_block: SubBlock, module: nn.Module) -> None:
    """Replace a sub-block permanently; a no-op also removes its norms. Call `number_cache_slots` after the last one."""
    layer = layers(model)[layer_idx]
    held: Any = module
    own = getattr(module, "config", None)
    if isinstance(own, HeadsView):
        held.config = HeadsView(model.config, own.num_attention_heads)
    elif own is not None:
        held.config = model.config  # so that it follows the model's attention implementation
    if hasattr(module, "layer_idx"):
        held.layer_idx = layer_idx
    _set(layer, sub_block, module)


def _set(layer: nn.Module, sub_block: SubBlock, module: nn.Module) -> None:
    own = part(layer, sub_block)
    setattr(layer, own.module, module)
    if isinstance(module, Substitute) and module.linear is None:
        for name in own.norms:
            setattr(layer, name, NoNorm(getattr(layer, name)))


def with_modules(layer: nn.Module, modules: Mapping[SubBlock, nn.Module]) -> nn.Module:
    """Return a copy of a layer that shares its modules but for these sub-blocks. The layer is not changed."""
    copied = with_own_modules(layer)
    for sub_block, module in modules.items():
        _set(copied, sub_block, module)
    return copied


def without(layer: nn.Module, sub_block: SubBlock) -> nn.Module:
    """Return a copy of a layer that shares its modules and has a no-op in place of one sub-block."""
    own = part_of(layer, sub_block)
    return layer if own is None else with_modules(layer, {sub_block: Substitute(pair=own.pair)})


def number_cache_slots(model: PreTrainedModel) -> None:
    """Number the layers that still have softmax attention by consecutive slots of the KV cache, from 0.

    transformers reads the number of cached tokens from slot 0, so some layer must fill slot 0. Where the model mixes full and
    sliding-window layers, a layer takes the first free slot of its own kind.
    """
    kinds = getattr(model.config, "layer_types", None) or ["full_attention"] * len(layers(model))
    free: dict[str, deque[int]] = defaultdict(deque)
    for slot, kind in enumerate(kinds):
        free[kind].append(slot)
    for layer, kind in zip(layers(model), kinds, strict=True):
        held: Any = sub_block_of(layer, "attention") if part_of(layer, "attention") is not None else None
        if hasattr(held, "layer_idx"):  # it has a KV cache
            held.layer_idx = free[kind].popleft()
