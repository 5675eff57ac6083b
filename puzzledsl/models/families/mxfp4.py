"""MXFP4: blocks of 32 numbers of 4 bits (E2M1) that share a power of two (E8M0).

Source: OCP Microscaling Formats (MX) Specification 1.0, sections 5.3.3, 5.4.1 and 6. Shapes: R rows, B blocks of a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 32
"""Numbers that share a scale; two are in a byte, the first in its low half."""
_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_E2M1 = (*_MAGNITUDES, *(-value for value in _MAGNITUDES))
_BIAS = 127
_NOT_A_NUMBER = 255


def dequantised(blocks: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the numbers [..., R, 32 B] of `blocks` [..., R, B, 16] (uint8) with `scales` [..., R, B] (uint8)."""
    table = torch.tensor(_E2M1, device=blocks.device)
    pairs = torch.stack((blocks & 0x0F, blocks >> 4), -1).flatten(-2).int()
    exponents = scales.to(torch.int32) - _BIAS
    values = torch.ldexp(table[pairs], exponents[..., None])
    values[scales == _NOT_A_NUMBER] = torch.nan
    return values.flatten(-2).to(dtype)
