"""The model in which replacements are made: the parent or a child of it (`around`). The parent's modules are kept to go back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, SubBlock
from puzzledsl.child.assemble import assemble, load_piece
from puzzledsl.ir.tables import ModelDefinition
from puzzledsl.models.alternatives.build import build_alternative
from puzzledsl.models.families.access import give_back, held_by, layers, part
from puzzledsl.models.replace import replace
from puzzledsl.pieces.store.library import Library


class Incumbent:
    """A model that starts as the loaded parent and that `become` turns into a child, in place."""

    def __init__(self, model: PreTrainedModel, library: Library) -> None:
        self.model, self._library = model, library
        self._parents: dict[tuple[int, SubBlock], dict[str, nn.Module]] = {
            (layer_idx, sub_block): held_by(layer, sub_block)
            for layer_idx, layer in enumerate(layers(model))
            for sub_block in SUB_BLOCKS
        }

    def become(self, definition: ModelDefinition) -> None:
        """Turn the model into the child of a definition. Raises DiagnosticError if its pieces do not fit."""
        for (layer_idx, _), held in self._parents.items():
            give_back(layers(self.model)[layer_idx], held)
        assemble(self.model, definition, self._library.load)

    @contextmanager
    def replaced(
        self, layer_idx: int, sub_block: SubBlock, alternative: Alternative, piece: str | None
    ) -> Iterator[None]:
        """Inside the context, one sub-block is the alternative with its piece's weights, or the parent's own for `parent`."""
        parents = self._parents[layer_idx, sub_block]
        module = parents[part(layers(self.model)[layer_idx], sub_block).module]
        if not alternative.is_parent:
            module = build_alternative(self.model, layer_idx, alternative)
            if piece is not None:
                load_piece(module, self._library.load(piece), piece, layer_idx, sub_block, alternative)
            module.requires_grad_(False)
        with replace(self.model, layer_idx, sub_block, module, parents):
            yield
