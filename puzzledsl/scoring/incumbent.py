"""The model in which replacements are made: the parent or a child of it (`around`). The parent's modules are kept to go back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.child.assemble import assemble, load_piece
from puzzledsl.ir.tables import ModelDefinition
from puzzledsl.models.alternatives.build import build_alternative
from puzzledsl.models.families.access import layers, norm_name, norm_of, sub_block_name, sub_block_of
from puzzledsl.models.replace import replace
from puzzledsl.pieces.store.library import Library

SUB_BLOCKS: tuple[SubBlock, ...] = ("attention", "ffn")


class Incumbent:
    """A model that starts as the loaded parent and that `become` turns into a child, in place."""

    def __init__(self, model: PreTrainedModel, library: Library) -> None:
        self.model, self._library = model, library
        self._parents: dict[tuple[int, SubBlock], tuple[nn.Module, nn.Module]] = {
            (layer_idx, sub_block): (
                sub_block_of(layer, sub_block),
                norm_of(layer, sub_block),
            )
            for layer_idx, layer in enumerate(layers(model))
            for sub_block in SUB_BLOCKS
        }

    def become(self, definition: ModelDefinition) -> None:
        """Turn the model into the child of a definition. Raises DiagnosticError if its pieces do not fit."""
        for (layer_idx, sub_block), (module, norm) in self._parents.items():
            layer = layers(self.model)[layer_idx]
            setattr(layer, sub_block_name(sub_block), module)
            setattr(layer, norm_name(sub_block), norm)
        assemble(self.model, definition, self._library.load)

    @contextmanager
    def replaced(
        self, layer_idx: int, sub_block: SubBlock, alternative: Alternative, piece: str | None
    ) -> Iterator[None]:
        """Inside the context, one sub-block is the alternative with its piece's weights, or the parent's own for `parent`."""
        module, norm = self._parents[layer_idx, sub_block]
        if alternative.kind != "parent":
            module = build_alternative(self.model, layer_idx, alternative)
            if piece is not None:
                load_piece(module, self._library.load(piece), piece, layer_idx, sub_block, alternative)
            module.requires_grad_(False)
        with replace(self.model, layer_idx, sub_block, module, norm):
            yield
