"""Rounding with error compensation against the nearest rounding, and against the exact optimum of two columns."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from puzzledsl.alternatives.precision import PRECISIONS
from puzzledsl.models.precision import columns
from puzzledsl.models.precision.gptq import (
    codes_of,
    exact_scales,
    gptq,
    lowest_of,
    nearest,
    rounded,
    rounded_end,
    searched_scales,
    stored_pairs,
    with_fitted_scales,
)

COLUMNS = 320


def output_change(found_RC: Tensor, weight_RC: Tensor, xx_CC: Tensor) -> float:
    """Return the sum over inputs of |W x - Q x|^2 = tr((W - Q) X'X (W - Q)')."""
    error = found_RC.to(xx_CC) - weight_RC.to(xx_CC)
    return float(((error @ xx_CC) * error).sum())


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
    assert output_change(found, weight, unseen) < 0.6 * output_change(plain, weight, unseen)
    assert codes_of(found, precision) is not None
    if name == "q4_0":  # without inputs, it is the nearest rounding
        assert torch.equal(gptq(weight, torch.zeros(COLUMNS, COLUMNS, dtype=torch.float64), precision), plain)


@pytest.mark.parametrize("name", PRECISIONS)
def test_no_row_is_worse_than_its_nearest_rounding(name: str) -> None:
    precision = PRECISIONS[name]
    weight = torch.randn(24, COLUMNS, generator=torch.Generator().manual_seed(6)) ** 3
    xx = gram(inputs(2, tokens=200))
    found, plain = gptq(weight, xx, precision, tokens=200), nearest(weight, precision)
    for made, near, own in zip(found, plain, weight, strict=True):
        assert output_change(made[None], own[None], xx) <= output_change(near[None], own[None], xx)


@pytest.mark.parametrize("name", PRECISIONS)
def test_groups_far_from_zero_alike_or_tiny_are_on_the_grid(name: str) -> None:
    """Codes and scales follow from the weights also where a group's numbers differ by less than 16 bits tell apart."""
    precision, generator = PRECISIONS[name], torch.Generator().manual_seed(12)
    spreads, offsets = torch.logspace(-8, 1, 40)[:, None], torch.tensor([0, 1e-6, 0.03, 2.0, -2.0])
    weight = torch.randn(40, COLUMNS, generator=generator) * spreads
    weight += offsets.repeat_interleave(64)
    weight[::3, :64] = weight[::3, :1]
    found = gptq(weight, gram(inputs(8)), precision)
    held = codes_of(found, precision)
    assert held is not None and torch.equal(held.values(COLUMNS), found)
    assert torch.equal(gptq(found, gram(inputs(4)), precision), found), "points of the grid stay"
    assert codes_of(rounded_end(weight, precision.name), precision) is not None


@pytest.mark.parametrize(
    ("name", "columns"),
    [("q4_0", COLUMNS), ("q4_0", 40), ("q4_1", COLUMNS), ("iq4_nl", COLUMNS), ("int4", COLUMNS)],
)
def test_fitted_scales_are_the_best_for_their_codes(name: str, columns: int) -> None:
    """No scale of a row, and no minimum, is better some way off, and the codes are held."""
    precision = PRECISIONS[name]
    weight = torch.randn(4, columns, generator=torch.Generator().manual_seed(10))
    xx = gram(inputs(5))[:columns, :columns].contiguous()
    plain = nearest(weight, precision)
    found = with_fitted_scales(plain, weight, xx, precision)
    best = output_change(found, weight, xx)
    assert best < output_change(plain, weight, xx)
    codes = codes_of(found, precision)
    assert codes is not None
    ways = {"scales": (0.97, 1.03)} | ({"minima": (0.9, 1.1)} if precision.minimum else {})
    for field, factors in ways.items():
        for group, factor in itertools.product(range(codes.scales.shape[1]), factors):
            changed = getattr(codes, field).clone()
            changed[:, group] *= factor
            assert output_change(replace(codes, **{field: changed}).values(columns), weight, xx) > best
        assert output_change(replace(codes, **{field: changed}).values(columns), weight, xx) > best


def test_few_tokens_count_less_on_other_text() -> None:
    """A Gram matrix of fewer tokens than inputs says much of them and little of others: damped, it does less harm there."""
    precision = PRECISIONS["q4_0"]
    weight = torch.randn(24, COLUMNS, generator=torch.Generator().manual_seed(11))
    few, unseen = gram(inputs(6, tokens=100)), gram(inputs(7))
    damped, plain = gptq(weight, few, precision, tokens=100), gptq(weight, few, precision)
    assert output_change(damped, weight, unseen) < 0.8 * output_change(plain, weight, unseen)


def test_two_columns_are_near_the_best_of_all_codes() -> None:
    """For two columns, the best pair of codes for the usual scale is hardly better on the whole."""
    precision = PRECISIONS["int8"]
    xx = torch.tensor([[1.0, 0.95], [0.95, 1.0]], dtype=torch.float64)
    weight = torch.rand(16, 2, generator=torch.Generator().manual_seed(5)) + 0.1
    codes = codes_of(nearest(weight, precision), precision)
    assert codes is not None
    best = 0.0
    for row, scale in zip(weight, codes.scales, strict=True):
        steps = itertools.product((-2.0, -1, 0, 1, 2), repeat=2)
        pairs = torch.stack([(row / scale).round() + torch.tensor(step) for step in steps])
        best += min(output_change((pair * scale)[None], row[None], xx) for pair in pairs.clamp(-128, 127))
    assert output_change(gptq(weight, xx, precision), weight, xx) < 1.1 * best


@pytest.mark.parametrize("name", PRECISIONS)
def test_columns_are_rounded_alike_by_numpy_and_pytorch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weight, xx = torch.randn(40, COLUMNS, generator=torch.Generator().manual_seed(3)), gram(inputs(1))
    found = gptq(weight, xx, PRECISIONS[name])
    monkeypatch.setattr(columns, "_in_numpy", columns._in_torch)
    assert torch.equal(gptq(weight, xx, PRECISIONS[name]), found)


@pytest.mark.parametrize("name", [n for n, p in PRECISIONS.items() if p.bits == 4])
def test_searched_scales_err_less_than_usual_ones(name: str) -> None:
    """Searched scales of a group are never worse under any weights, and much better where one number is far larger."""
    precision = PRECISIONS[name]
    generator = torch.Generator().manual_seed(8)
    blocks = torch.randn(50, 32, generator=generator) ** 3
    importance = torch.rand(32, generator=generator)
    lowest = lowest_of(blocks, precision)
    usual = stored_pairs(exact_scales(blocks - lowest, precision), lowest, precision)
    found = searched_scales(blocks, importance, precision)

    def errors(scales: Tensor, minima: Tensor) -> Tensor:
        values = rounded(blocks - minima, scales, precision) * scales + minima
        return ((values - blocks).square() * importance).sum(1)

    assert (errors(*found) <= errors(*usual) * (1 + 1e-5)).all()
    assert errors(*found).sum() < 0.95 * errors(*usual).sum()


@pytest.mark.parametrize("name", PRECISIONS)
def test_uncorrelated_inputs_of_one_size_need_no_compensation(name: str) -> None:
    precision = PRECISIONS[name]
    weight = torch.randn(8, COLUMNS, generator=torch.Generator().manual_seed(3))
    ones, plain = torch.eye(COLUMNS, dtype=torch.float64), nearest(weight, precision)
    change = output_change(gptq(weight, ones, precision), weight, ones)
    assert change <= output_change(plain, weight, ones)
    if name == "q4_0":  # without inputs, too
        assert torch.equal(gptq(weight, torch.zeros_like(ones), precision), plain)
