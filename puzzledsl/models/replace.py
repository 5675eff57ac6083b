"""Put modules into a model, for a while or permanently, and renumber the slots of its KV cache."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.models.alternatives.noop import NoOp
from puzzledsl.models.families.access import attention, layers, norm_name, sub_block_name


@contextmanager
def replace(
    model: PreTrainedModel,
    layer_idx: int,
    sub_block: SubBlock,
    module: nn.Module,
    norm: nn.Module | None = None,
) -> Iterator[nn.Module]:
    """Inside the context, `module` replaces one sub-block; the old one comes back afterwards. Yields the old module.

    For forward passes without a KV cache (`use_cache=False`), such as replace-1-block scoring. A no-op also removes the norm
    before it. Pass `norm` to set that norm, if a no-op in the model has removed it and `module` needs it.
    """
    layer = layers(model)[layer_idx]
    names = (sub_block_name(sub_block), norm_name(sub_block))
    before = {name: getattr(layer, name) for name in names}
    try:
        if norm is not None:
            setattr(layer, names[1], norm)
        put(model, layer_idx, sub_block, module)
        yield before[names[0]]
    finally:
        for name, old in before.items():
            setattr(layer, name, old)


def put(model: PreTrainedModel, layer_idx: int, sub_block: SubBlock, module: nn.Module) -> None:
    """Replace a sub-block permanently; a no-op also removes its norm. Call `number_cache_slots` after the last one."""
    layer = layers(model)[layer_idx]
    held: Any = module
    if hasattr(module, "config"):
        held.config = model.config  # so that it follows the model's attention implementation
    if hasattr(module, "layer_idx"):
        held.layer_idx = layer_idx
    setattr(layer, sub_block_name(sub_block), module)
    if isinstance(module, NoOp):
        setattr(layer, norm_name(sub_block), nn.Identity())


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
        held: Any = attention(layer)
        if hasattr(held, "layer_idx"):  # it has a KV cache
            held.layer_idx = free[kind].popleft()
