"""One layer of a child: the modules of its choice, run on the child's stream.

The last linear map of a piece stands apart from the rest of it, because it is what healing fits: `reads` is what it is
given, `adds` what the sub-block adds to the stream.

Shapes: B sequences, S positions, H hidden, P inputs of the last map.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from puzzledsl.ir.alternatives import Alternative, SubBlock
from puzzledsl.ir.tables import LayerDefinition
from puzzledsl.modeling.assemble import Pieces, choices_of, load_piece, no_piece
from puzzledsl.modeling.build import build_alternative, last_map
from puzzledsl.parents import access


class ChildSubBlock:
    """One sub-block of a child. `last` is None where there is nothing to fit (the parent's own, or a no-op)."""

    def __init__(
        self,
        model: PreTrainedModel,
        layer_idx: int,
        sub_block: SubBlock,
        alternative: Alternative,
        piece: str | None,
        pieces: Pieces,
    ) -> None:
        """Builds a piece's modules beside the parent's, which are not changed. Raises DiagnosticError."""
        layer = access.layers(model)[layer_idx]
        self.sub_block: SubBlock = sub_block
        self.last: nn.Linear | None = None
        self.name = last_map(alternative)
        self._norm = access.norm_of(layer, sub_block)
        self._module: nn.Module | None = None
        if alternative.kind == "parent":
            self._module = access.sub_block_of(layer, sub_block)
        elif alternative.kind != "noop":
            if piece is None:
                raise no_piece(layer_idx, sub_block, alternative)
            module = build_alternative(model, layer_idx, sub_block, alternative).requires_grad_(False)
            load_piece(module, pieces(piece), piece, layer_idx, sub_block, alternative)
            self._module = module
            if self.name is not None:
                self.last = cast(nn.Linear, getattr(module, self.name))
                setattr(module, self.name, nn.Identity())

    def reads(self, stream_BSH: Tensor, attention_kwargs: dict[str, Any]) -> Tensor:
        """What the last map is given, [B, S, P]; of a sub-block without one, what it adds."""
        if self._module is None:
            return stream_BSH.new_zeros(()).expand_as(stream_BSH)
        normed = self._norm(stream_BSH)
        if self.sub_block == "attention":
            return cast(Tensor, self._module(hidden_states=normed, **attention_kwargs)[0])
        return cast(Tensor, self._module(normed))

    def adds(self, read_BSP: Tensor) -> Tensor:
        """What the sub-block adds to the stream, from what `reads` gave, [B, S, H]."""
        return read_BSP if self.last is None else cast(Tensor, self.last(read_BSP))


class ChildLayer:
    """A layer's two sub-blocks, in order."""

    def __init__(
        self, model: PreTrainedModel, layer_idx: int, layer: LayerDefinition, pieces: Pieces
    ) -> None:
        self.sub_blocks = [
            ChildSubBlock(model, layer_idx, sub_block, alternative, piece, pieces)
            for sub_block, alternative, piece in choices_of(layer)
        ]

    def run(self, stream_BSH: Tensor, attention_kwargs: dict[str, Any]) -> Tensor:
        """The whole layer, [B, S, H] -> [B, S, H]."""
        for sub_block in self.sub_blocks:
            stream_BSH = stream_BSH + sub_block.adds(sub_block.reads(stream_BSH, attention_kwargs))
        return stream_BSH


def is_intact(layer: LayerDefinition) -> bool:
    """True where the child's layer is the parent's own."""
    return layer.attention.kind == "parent" and layer.ffn.kind == "parent"
