"""Put modules into a model, for good or for a while, and keep its KV cache in step."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from puzzledsl.ir.alternatives import SubBlock
from puzzledsl.modeling.blocks import LinearSubBlock, NoOp
from puzzledsl.parents.access import attention, layers, norm_name, sub_block_name


@contextmanager
def replace(
    model: PreTrainedModel,
    layer_idx: int,
    sub_block: SubBlock,
    module: nn.Module,
    norm: nn.Module | None = None,
) -> Iterator[nn.Module]:
    """Run with `module` in place of one sub-block, and put the old one back. Yields the module that was there.

    For forward passes without a KV cache (`use_cache=False`), such as replace-1 scoring. A no-op takes its norm with it;
    `norm` is the norm before any other module, where the model's own stands no longer (a no-op took it).
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
    """Replace a sub-block for good. Call `number_cache_slots` after the last one."""
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
    """Give the attention layers that are left the first slots of the KV cache.

    transformers asks slot 0 how many tokens were seen, so slot 0 must be one that is filled. Where the model mixes full
    and sliding-window layers, a layer takes the first free slot of its own kind.
    """
    kinds = getattr(model.config, "layer_types", None) or ["full_attention"] * len(layers(model))
    free: dict[str, deque[int]] = defaultdict(deque)
    for slot, kind in enumerate(kinds):
        free[kind].append(slot)
    for layer, kind in zip(layers(model), kinds, strict=True):
        held: Any = attention(layer)
        if not isinstance(held, NoOp | LinearSubBlock):
            held.layer_idx = free[kind].popleft()
