"""Training loss between a child sub-block's output and its parent's: a float32 scalar, whatever the inputs' dtype.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

TINY = 1e-12
LONGEST_DOT = 2**31 - 1
"""Most numbers in one dot product: cuBLAS counts them in 32 bits."""


def normalized_mse(child_BSH: Tensor, parent_BSH: Tensor) -> Tensor:
    """Return ||child - parent||^2 / ||parent||^2 (Puzzle, section 3). It is 1 for a child that outputs zero."""
    squared_error = cast(Any, SquaredError).apply  # torch has no types for it
    return cast(Tensor, squared_error(child_BSH.float(), parent_BSH.float(), squared_norm(parent_BSH)))


class SquaredError(torch.autograd.Function):
    """sum((child - parent)^2) / norm with `child`'s gradient, in three passes over memory; torch's own operations need eight."""

    @staticmethod
    def forward(ctx: Any, child_BSH: Tensor, parent_BSH: Tensor, norm: Tensor) -> Tensor:
        """Return the scalar loss; save the difference for the backward pass."""
        difference = (child_BSH - parent_BSH).flatten()
        ctx.difference, ctx.norm, ctx.shape = difference, norm, child_BSH.shape
        return squared(difference) / norm

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Return the child's gradient 2 (child - parent) / norm. It overwrites the difference, so it can be called only once."""
        scaled: Tensor = ctx.difference.mul_(2 * gradients[0] / ctx.norm)
        return scaled.view(ctx.shape), None, None


def squared_norm(parent_BSH: Tensor) -> Tensor:
    """Return ||parent||^2, float32, at least `TINY`: a batch's loss is the mean of its micro-batches' with these weights."""
    return squared(parent_BSH.float().flatten()).clamp_min(TINY)


def squared(flat: Tensor) -> Tensor:
    """Return ||flat||^2, in parts if it has more than LONGEST_DOT numbers."""
    if flat.numel() <= LONGEST_DOT:
        return torch.dot(flat, flat)
    return torch.stack([torch.dot(part, part) for part in torch.split(flat, LONGEST_DOT)]).sum()
