"""Laws of trained scales: the matrix is on its grid at any time, and begins as it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from puzzledsl.alternatives.precision import PRECISIONS
from puzzledsl.models.precision.gptq import nearest, stored_codes
from puzzledsl.models.precision.scales import settle, steps_of, train_scales


def layer(precision, columns: int = 64) -> nn.Linear:
    linear = nn.Linear(columns, 48, bias=False).requires_grad_(False)
    weight = torch.randn(48, columns, generator=torch.Generator().manual_seed(0))
    linear.weight.copy_(nearest(weight, precision))
    return linear


@pytest.mark.parametrize("name", PRECISIONS)
def test_without_a_step_the_matrix_is_the_same(name):
    linear = layer(PRECISIONS[name])
    before = linear.weight.clone()
    train_scales(linear, PRECISIONS[name])
    assert torch.equal(linear.weight, before)
    settle(linear)
    assert torch.equal(linear.weight, before) and list(linear.state_dict()) == ["weight"]


@pytest.mark.parametrize("name", PRECISIONS)
def test_after_a_step_codes_are_the_same_and_scales_are_stored_ones(name):
    precision = PRECISIONS[name]
    linear = layer(precision)
    codes = stored_codes(linear.weight, precision, "before").codes
    train_scales(linear, precision)
    steps = steps_of(linear)
    with torch.no_grad():
        steps.copy_(0.05 * torch.randn(steps.shape, generator=torch.Generator().manual_seed(1)))
    settle(linear)
    assert torch.equal(stored_codes(linear.weight, precision, "after").codes, codes)


@pytest.mark.parametrize("name", ["q4_0", "q4_1"])
def test_the_gradient_of_a_step_is_that_of_all_numbers_of_its_group(name):
    precision = PRECISIONS[name]
    linear = layer(precision)
    codes = stored_codes(linear.weight, precision, "before")
    train_scales(linear, precision)
    outer = torch.randn(48, 64, generator=torch.Generator().manual_seed(2))
    (linear.weight * outer).sum().backward()
    wanted = (outer * codes.values(64)).view(48, 2, 32).sum(-1)
    torch.testing.assert_close(steps_of(linear).grad, wanted)


def test_a_matrix_off_the_grid_is_refused():
    linear = nn.Linear(64, 48, bias=False)
    with pytest.raises(ValueError, match="not on the grid"):
        train_scales(linear, PRECISIONS["q4_0"])
