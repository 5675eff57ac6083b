"""The two sub-blocks transformers has no class for. Both are drop-ins for `layer.self_attn` and `layer.mlp`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from puzzledsl.ir.alternatives import SubBlock


class LinearSubBlock(nn.Module):
    """One H x H matrix in place of a sub-block. Weight name: `linear.weight`."""

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
        """(B, S, H) -> (B, S, H); with a second result None where attention stood."""
        output = self.linear(hidden_states)
        return (output, None) if self.sub_block == "attention" else output


class NoOp(nn.Module):
    """A removed sub-block: adds zero. The zeros are a view of one number, so they cost no memory and no write."""

    def __init__(self, sub_block: SubBlock) -> None:
        super().__init__()
        self.sub_block = sub_block

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """(B, S, H) -> zeros (B, S, H); with a second result None where attention stood."""
        output = hidden_states.new_zeros(()).expand_as(hidden_states)
        return (output, None) if self.sub_block == "attention" else output
