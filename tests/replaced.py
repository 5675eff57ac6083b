"""A module in place of a sub-block of a model, for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.models.families.access import give_back, held_by, layers, sub_block_of
from puzzledsl.models.families.build import put


@contextmanager
def replace(
    model: PreTrainedModel, layer_idx: int, sub_block: SubBlock, module: nn.Module
) -> Iterator[nn.Module]:
    """Inside the context, `module` replaces one sub-block; for forward passes without a KV cache. Yields the old module."""
    layer = layers(model)[layer_idx]
    before, old = held_by(layer, sub_block), sub_block_of(layer, sub_block)
    try:
        put(model, layer_idx, sub_block, module)
        yield old
    finally:
        give_back(layer, before)
