"""A removed sub-block as a module."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from puzzledsl.alternatives.noop import NoOpAttention, NoOpFfn
from puzzledsl.models.alternatives.realisation import ParentLayer, Site, State


class NoOp(nn.Module):
    """Removed sub-block: adds zero to the residual stream. The zeros are one expanded scalar, so they take no memory."""

    def __init__(self, *, pair: bool) -> None:
        super().__init__()
        self.pair = pair

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return zeros [B, S, H], or (zeros, None) in place of a module that returns a tuple."""
        output = hidden_states.new_zeros(()).expand_as(hidden_states)
        return (output, None) if self.pair else output


def build(alternative: NoOpAttention | NoOpFfn, site: Site) -> nn.Module:
    """Build a module without weights."""
    return NoOp(pair=site.part(alternative.sub_block).pair).eval()


def initialise(alternative: NoOpAttention | NoOpFfn, parent: ParentLayer) -> State:
    """Return no weights."""
    return {}
