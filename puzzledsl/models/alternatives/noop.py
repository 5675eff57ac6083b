"""A removed sub-block as a module."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.alternatives.noop import NoOpAttention, NoOpFfn
from puzzledsl.models.alternatives.realisation import ParentLayer, Site, State


class NoOp(nn.Module):
    """Removed sub-block: adds zero to the residual stream. The zeros are one expanded scalar, so they take no memory."""

    def __init__(self, sub_block: SubBlock) -> None:
        super().__init__()
        self.sub_block = sub_block

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return zeros [B, S, H]. In place of attention it returns (zeros, None), as transformers' attention does."""
        output = hidden_states.new_zeros(()).expand_as(hidden_states)
        return (output, None) if self.sub_block == "attention" else output


def build(alternative: NoOpAttention | NoOpFfn, site: Site) -> nn.Module:
    """Build a module without weights."""
    return NoOp(alternative.sub_block).eval()


def initialise(alternative: NoOpAttention | NoOpFfn, parent: ParentLayer) -> State:
    """Return no weights."""
    return {}
