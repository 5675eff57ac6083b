"""One matrix, or nothing, in place of a sub-block. Shapes: B sequences, S positions, H hidden."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Substitute(nn.Module):
    """One H x H matrix without a bias; without a `size`, zeros: one expanded scalar, which takes no memory."""

    def __init__(
        self,
        size: int | None = None,
        *,
        pair: bool,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.pair = pair
        self.linear = None if size is None else nn.Linear(size, size, bias=False, dtype=dtype, device=device)
        self.eval()

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Map [B, S, H] to [B, S, H]; return (output, None) in place of a module that returns a tuple."""
        zeros = hidden_states.new_zeros(()).expand_as(hidden_states)
        output = zeros if self.linear is None else self.linear(hidden_states)
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
