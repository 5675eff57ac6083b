"""Rounding with error compensation against the nearest rounding, and against the exact optimum of two columns."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from puzzledsl.alternatives.precision import PRECISIONS
from puzzledsl.models.precision.gptq import gptq, output_change
from puzzledsl.models.precision.grids import codes_of, nearest

COLUMNS = 320


def inputs(seed: int, tokens: int = 4096) -> Tensor:
    """Correlated inputs, some channels much larger than others; their mixing does not depend on the seed."""
    mixing = torch.randn(COLUMNS, COLUMNS, generator=torch.Generator().manual_seed(9)) / 8
    sizes = torch.logspace(-1, 1, COLUMNS)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, COLUMNS, generator=generator) @ mixing * sizes


def gram(x_TC: Tensor) -> Tensor:
    return (x_TC.double().T @ x_TC.double()).contiguous()


@pytest.mark.parametrize("name", PRECISIONS)
def test_outputs_change_less_than_by_nearest_rounding_on_other_inputs(name: str) -> None:
    precision = PRECISIONS[name]
    weight = torch.randn(24, COLUMNS, generator=torch.Generator().manual_seed(2))
    found, plain = gptq(weight, gram(inputs(0)), precision), nearest(weight, precision)
    unseen = gram(inputs(1))
    assert output_change(found, weight, unseen) < 0.8 * output_change(plain, weight, unseen)
    assert codes_of(found, precision) is not None


@pytest.mark.parametrize("name", PRECISIONS)
def test_uncorrelated_inputs_of_one_size_need_no_compensation(name: str) -> None:
    precision = PRECISIONS[name]
    weight = torch.randn(8, COLUMNS, generator=torch.Generator().manual_seed(3))
    ones = torch.eye(COLUMNS, dtype=torch.float64)
    change = output_change(gptq(weight, ones, precision), weight, ones)
    assert change <= output_change(nearest(weight, precision), weight, ones)


def test_without_inputs_rounding_is_to_the_nearest() -> None:
    weight = torch.randn(4, COLUMNS, generator=torch.Generator().manual_seed(4))
    none = torch.zeros(COLUMNS, COLUMNS, dtype=torch.float64)
    assert torch.equal(gptq(weight, none, PRECISIONS["q4_0"]), nearest(weight, PRECISIONS["q4_0"]))


def test_two_columns_are_near_the_best_of_all_codes() -> None:
    """GPTQ is greedy: of two columns it finds the best pair of codes for the scale that it takes, or nearly."""
    precision = PRECISIONS["int8"]
    xx = torch.tensor([[1.0, 0.95], [0.95, 1.0]], dtype=torch.float64)
    weight = torch.rand(16, 2, generator=torch.Generator().manual_seed(5)) + 0.1
    found = gptq(weight, xx, precision)
    codes = codes_of(nearest(weight, precision), precision)
    assert codes is not None
    for row, scale, made in zip(weight, codes.scales, found, strict=True):
        near = (row / scale).round()
        pairs = torch.stack(
            [near + torch.tensor(d) for d in itertools.product((-2.0, -1, 0, 1, 2), repeat=2)]
        )
        best = min(output_change((pair * scale)[None], row[None], xx) for pair in pairs.clamp(-128, 127))
        plain = output_change(nearest(row[None], precision), row[None], xx)
        assert best <= output_change(made[None], row[None], xx) <= plain + 1e-12
