"""Weights of a child that uptraining leaves as they are: those of quantised sub-blocks, which lie on grids."""

from __future__ import annotations

from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import SUB_BLOCKS
from puzzledsl.models.families.access import blocks_of, layers, sub_block_of


def train_all_but_quantised(child: PreTrainedModel) -> None:
    """Let gradients flow to every weight of a child but those of its quantised sub-blocks."""
    child.requires_grad_(True)
    for layer, alternatives in zip(layers(child), blocks_of(child.config) or (), strict=False):
        for sub_block, alternative in zip(SUB_BLOCKS, alternatives, strict=True):
            if alternative.dtype is not None:
                sub_block_of(layer, sub_block).requires_grad_(False)
