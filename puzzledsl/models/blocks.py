"""Linear and no-op sub-blocks, which transformers has no class for. Both can replace `layer.self_attn` or `layer.mlp`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from puzzledsl.ir.alternatives import SubBlock


class LinearSubBlock(nn.Module):
    """Linear sub-block: one H x H matrix without a bias, whose weight is named `linear.weight`."""

    def __init__(
        self,
        hidden: int,
        sub_block: SubBlock,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.sub_block = sub_block
        self.linear = nn.Linear(hidden, hidden, bias=False, dtype=dtype, device=device)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Map [B, S, H] to [B, S, H]. In place of attention it returns (output, None), as transformers' attention does."""
        output = self.linear(hidden_states)
        return (output, None) if self.sub_block == "attention" else output


class NoOp(nn.Module):
    """Removed sub-block: adds zero to the residual stream. The zeros are one expanded scalar, so they take no memory."""

    def __init__(self, sub_block: SubBlock) -> None:
        super().__init__()
        self.sub_block = sub_block

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return zeros [B, S, H]. In place of attention it returns (zeros, None), as transformers' attention does."""
        output = hidden_states.new_zeros(()).expand_as(hidden_states)
        return (output, None) if self.sub_block == "attention" else output
