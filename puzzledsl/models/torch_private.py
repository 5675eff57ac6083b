"""Private names of PyTorch, all in this file, each with the public form that does not do.

Shape legend: N output features, K input features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def with_own_modules(module: M) -> M:
    """Return a copy of a module on the same submodules and weights; putting another submodule into it leaves the original.

    `copy.copy` alone shares the dictionary of submodules, and `copy.deepcopy` copies the weights.
    """
    copied = copy.copy(module)
    copied._modules = dict(module._modules)
    return copied


def linear_pointwise(
    x: Tensor, weight_NK: Tensor, bias_N: Tensor | None, then: str, factor: Tensor | None = None
) -> Tensor:
    """OneDNN's product with what follows it in one pass: `none`, `swish`, or `mul` by `factor`.

    `F.linear` and an operation behind it read and write the product once more.
    """
    operator: Any = torch.ops.mkldnn._linear_pointwise
    product: Tensor = (
        operator(x, weight_NK, bias_N, then, [], "")
        if factor is None
        else operator.binary(x, factor, weight_NK, bias_N, then)
    )
    return product


def packed_weight(weight_NK: Tensor, rows: int) -> Tensor:
    """Return a weight in oneDNN's own layout for products of `rows` rows; `F.linear` reorders the weight at each call."""
    operator: Callable[..., Tensor] = torch.ops.mkldnn._reorder_linear_weight
    return operator(weight_NK.detach(), rows)
