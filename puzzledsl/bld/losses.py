"""How far a child sub-block's output is from its parent's. Float32 scalars, whatever the inputs' dtype.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

from typing import Literal, assert_never

import torch.nn.functional as F
from torch import Tensor

LossName = Literal["normalized_mse", "mse", "cosine"]
TINY = 1e-12


def normalized_mse(child_BSH: Tensor, parent_BSH: Tensor) -> Tensor:
    """||child - parent||^2 / ||parent||^2 (Puzzle, section 3). 1 for a child that outputs zero."""
    parent = parent_BSH.float()
    return (child_BSH.float() - parent).square().sum() / parent.square().sum().clamp_min(TINY)


def mse(child_BSH: Tensor, parent_BSH: Tensor) -> Tensor:
    """Mean squared error over all elements."""
    return F.mse_loss(child_BSH.float(), parent_BSH.float())


def cosine(child_BSH: Tensor, parent_BSH: Tensor) -> Tensor:
    """1 - cosine similarity, mean over tokens."""
    return (1 - F.cosine_similarity(child_BSH.float(), parent_BSH.float(), dim=-1)).mean()


def loss_of(name: LossName, child_BSH: Tensor, parent_BSH: Tensor) -> Tensor:
    """The named loss."""
    match name:
        case "normalized_mse":
            return normalized_mse(child_BSH, parent_BSH)
        case "mse":
            return mse(child_BSH, parent_BSH)
        case "cosine":
            return cosine(child_BSH, parent_BSH)
        case _:
            assert_never(name)
