"""Matrix products of 16-bit tensors with float32 results: for logits and sums that bfloat16 would round.

A product of two bfloat16 numbers is exact in float32, and CUDA's tensor cores add in float32, so keeping the result costs nothing
over a bfloat16 product. PyTorch 2.8 has it as `torch.mm(…, out_dtype=…)`, on CUDA only.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

HALVES = (torch.bfloat16, torch.float16)


def product(a_NK: Tensor, b_KM: Tensor) -> Tensor:
    """Return a @ b in float32, without gradients for 16-bit inputs on CUDA. On a CPU, it is the product of float32 copies."""
    if (
        a_NK.dtype == b_KM.dtype
        and a_NK.dtype in HALVES
        and a_NK.device.type == "cuda"
        and _has_wide_results()
    ):
        mm: Any = torch.mm  # its types lack `out_dtype`
        return cast(Tensor, mm(a_NK, b_KM, out_dtype=torch.float32))
    return a_NK.float() @ b_KM.float()


def self_product(x_TP: Tensor) -> Tensor:
    """Return x' x in float32, exactly symmetric."""
    found = product(x_TP.T, x_TP)
    return (found + found.T) / 2  # float32 sums are not quite symmetric


@cache
def _has_wide_results() -> bool:
    """True if this PyTorch's `torch.mm` takes `out_dtype` on CUDA."""
    mm: Any = torch.mm
    one = torch.ones(16, 16, dtype=torch.bfloat16, device="cuda")
    try:
        return bool(mm(one, one, out_dtype=torch.float32).dtype == torch.float32)
    except torch.OutOfMemoryError:  # says nothing about the operator
        raise
    except (RuntimeError, TypeError, NotImplementedError):
        return False
