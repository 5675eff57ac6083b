"""MXFP4 against its definition and against transformers' own code."""

from __future__ import annotations

import itertools

import torch
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from puzzledsl.models.families.stored import dequantised


def test_every_code_is_sign_exponent_and_mantissa() -> None:
    codes = torch.arange(16, dtype=torch.uint8)
    blocks = (codes | codes << 4).expand(1, 1, 16).contiguous()  # each code twice
    values = dequantised(blocks, torch.full((1, 1), 127 + 3, dtype=torch.uint8), torch.float64)[0]
    for code in range(16):
        exponent, mantissa = code >> 1 & 3, code & 1
        size = 2.0 ** (exponent - 1) * (1 + mantissa / 2) if exponent else mantissa / 2
        expected = (-1) ** (code >> 3) * size * 2**3
        assert values[2 * code] == values[2 * code + 1] == expected
    assert torch.signbit(values[16])  # minus zero


def test_a_scale_of_255_is_not_a_number() -> None:
    values = dequantised(
        torch.zeros(1, 2, 16, dtype=torch.uint8), torch.tensor([[255, 0]], dtype=torch.uint8), torch.bfloat16
    )
    assert values[0, :32].isnan().all() and (values[0, 32:] == 0).all()


def test_it_equals_transformers_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    for rows, blocks, dtype in itertools.product((1, 6), (1, 3), (torch.bfloat16, torch.float32)):
        packed = torch.randint(256, (4, rows, blocks, 16), generator=generator, dtype=torch.uint8)
        scales = torch.randint(5, 250, (4, rows, blocks), generator=generator, dtype=torch.uint8)
        theirs = convert_moe_packed_tensors(packed, scales, dtype=dtype)
        assert torch.equal(dequantised(packed, scales, dtype).transpose(1, 2), theirs)
