"""One matrix in place of a sub-block: the least-squares map from its inputs to its outputs, or a product of its own maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from puzzledsl.alternatives.linear import LinearAttention, LinearFfn
from puzzledsl.models.alternatives.realisation import ParentLayer, Site, State, like
from puzzledsl.models.least_squares.grams import TOWARDS_ZERO, Gram, solve_ridge
from puzzledsl.models.least_squares.heads import Heads


class LinearSubBlock(nn.Module):
    """Linear sub-block: one H x H matrix without a bias, whose weight is named `linear.weight`."""

    def __init__(
        self,
        hidden: int,
        *,
        pair: bool,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.pair = pair
        self.linear = nn.Linear(hidden, hidden, bias=False, dtype=dtype, device=device)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Map [B, S, H] to [B, S, H]; return (output, None) in place of a module that returns a tuple."""
        output = self.linear(hidden_states)
        return (output, None) if self.pair else output


def build(alternative: LinearAttention | LinearFfn, site: Site) -> nn.Module:
    """Build one matrix."""
    pair = site.part(alternative.sub_block).pair
    return LinearSubBlock(site.shape.hidden, pair=pair, dtype=site.dtype, device=site.device).eval()


def initialise(alternative: LinearAttention | LinearFfn, parent: ParentLayer) -> State:
    """Return the matrix that `init { linear = … }` names."""
    own = parent.sub_block(alternative.sub_block)
    is_attention = isinstance(alternative, LinearAttention)
    last = own.o_proj.weight if is_attention else own.down_proj.weight
    if parent.init.linear == "least_squares":
        weight = _best(parent.statistics.attention if is_attention else parent.statistics.ffn)
    else:
        weight = _product_of_heads(parent) if is_attention else last @ own.up_proj.weight
    return {"linear.weight": like(weight, last)}


def _best(gram: Gram) -> Tensor:
    """The matrix that maps a sub-block's inputs nearest to its outputs (ridge), as `nn.Linear` stores it."""
    return solve_ridge(gram.xx, gram.xy, relative=gram.ridge(TOWARDS_ZERO)).T


def _product_of_heads(parent: ParentLayer) -> Tensor:
    """W_o W_v with each value head repeated for its queries: attention in which a token sees only itself (H, H)."""
    shape = parent.shape
    heads = Heads.of(parent.weights("attention"), shape)
    values = heads.v.repeat_interleave(shape.heads // shape.kv_heads, 0)[..., :-1]
    return heads.o.flatten(0, 1).T @ values.flatten(0, 1)
