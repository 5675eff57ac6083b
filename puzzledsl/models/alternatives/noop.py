"""A removed sub-block as a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
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


class NoNorm(nn.Identity):
    """Norm of a removed sub-block. It has no weights, but some layers ask its `weight` for the dtype of the norm."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        weight: Any = norm.weight
        self.__dict__["weight"] = torch.empty(0, dtype=weight.dtype, device="cpu")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        self.__dict__["weight"] = fn(self.__dict__["weight"])
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]


def build(alternative: NoOpAttention | NoOpFfn, site: Site) -> nn.Module:
    """Build a module without weights."""
    return NoOp(pair=site.part(alternative.sub_block).pair).eval()


def initialise(alternative: NoOpAttention | NoOpFfn, parent: ParentLayer) -> State:
    """Return no weights."""
    return {}
