"""One sub-block of a child, split before its last linear map, which healing fits.

`last_input` computes the input of the last map from the child's stream; `output` applies the map.

Shapes: B sequences, S positions, H hidden, P inputs of the last map.
"""

from __future__ import annotations

import copy
from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from puzzledsl.child.assemble import Pieces, load_piece, no_piece
from puzzledsl.child.healing.chain import Link
from puzzledsl.models.alternatives.build import build_alternative
from puzzledsl.models.families import access
from puzzledsl.models.families.paged import load_module_weights
from puzzledsl.models.kernels.products import fast_products


class ChildSubBlock:
    """A sub-block of a child with its own copy of the last map. The parent's modules are not changed."""

    def __init__(self, model: PreTrainedModel, link: Link, pieces: Pieces) -> None:
        """Build the module of `link.alternative`. Raises DiagnosticError if its piece is missing or does not fit."""
        layer = access.layers(model)[link.layer_idx]
        self.link = link
        self._norm = access.norm_of(layer, link.sub_block)
        parents = access.sub_block_of(layer, link.sub_block)
        name = link.alternative.last_map
        assert name is not None, "a no-op is no link of the chain"
        self.name = name
        if link.alternative.kind == "parent":
            load_module_weights(model, parents)
            self._module = copy.copy(parents)
            self._module._modules = dict(parents._modules)  # so that the parent keeps its last map
            self._module.__dict__.pop(
                "forward", None
            )  # a fused one (`models.kernels.gated`) applies the last map
        else:
            self._module = _piece(model, link, pieces)
        self.last = _copied(cast(nn.Linear, getattr(self._module, self.name)))
        setattr(self._module, self.name, nn.Identity())

    def last_input(self, stream_BSH: Tensor, attention_kwargs: dict[str, Any]) -> Tensor:
        """Return the input of the last map, [B, S, H] -> [B, S, P]."""
        with fast_products():
            normed = self._norm(stream_BSH)
            if self.link.sub_block == "attention":
                return cast(Tensor, self._module(hidden_states=normed, **attention_kwargs)[0])
            return cast(Tensor, self._module(normed))

    def output(self, read_BSP: Tensor) -> Tensor:
        """Apply the last map to the result of `last_input`: [B, S, P] -> the sub-block's output [B, S, H]."""
        with fast_products():
            return cast(Tensor, self.last(read_BSP))

    def run(self, stream_BSH: Tensor, attention_kwargs: dict[str, Any]) -> Tensor:
        """Return the stream after the sub-block, [B, S, H] -> [B, S, H]."""
        return stream_BSH + self.output(self.last_input(stream_BSH, attention_kwargs))


def _copied(linear: nn.Linear) -> nn.Linear:
    """Return a plain nn.Linear with copies of the weights, without the hooks of a paged parent."""
    weight, has_bias = linear.weight, cast(Tensor | None, linear.bias) is not None
    copied = nn.Linear(linear.in_features, linear.out_features, has_bias, device="meta", dtype=weight.dtype)
    copied = copied.to_empty(device=weight.device).requires_grad_(False)
    copied.load_state_dict(linear.state_dict())
    return copied


def _piece(model: PreTrainedModel, link: Link, pieces: Pieces) -> nn.Module:
    if link.piece is None:
        raise no_piece(link.layer_idx, link.sub_block, link.alternative)
    module = build_alternative(model, link.layer_idx, link.alternative).requires_grad_(False)
    load_piece(module, pieces(link.piece), link.piece, link.layer_idx, link.sub_block, link.alternative)
    return module
