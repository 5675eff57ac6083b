"""Grids of storage types: ggml's bit for bit, idempotent, and recognised from the weights alone.

Laws of trained scales: the matrix is on its grid at any time, and begins as it is.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from puzzledsl.alternatives.precision import PRECISIONS
from puzzledsl.export.gguf_tokenizer import packed
from puzzledsl.models.precision.gptq import codes_of, nearest, stored_codes
from puzzledsl.models.precision.scales import settle, steps_of, train_scales

GGUF = [name for name, precision in PRECISIONS.items() if precision.format == "gguf"]
COLUMNS = 256


@pytest.fixture(scope="module")
def weight() -> Tensor:
    """Rows of very different sizes, with a block of zeros and blocks of one number."""
    generator = torch.Generator().manual_seed(0)
    found = torch.randn(48, COLUMNS, generator=generator) * torch.logspace(-4, 1, 48)[:, None]
    found[3, :32] = 0
    found[4, 1:32] = 0
    return found


@pytest.mark.parametrize("name", GGUF)
def test_llama_cpps_grids_are_ggufs(weight: Tensor, name: str) -> None:
    gguf = pytest.importorskip("gguf")
    kind = gguf.GGMLQuantizationType[name.upper()]
    found = nearest(weight, PRECISIONS[name])
    if name != "iq4_nl":  # which the package only reads
        file = gguf.quants.quantize(weight.numpy(), kind)
        assert np.array_equal(gguf.quants.dequantize(file, kind), found.numpy())
        if PRECISIONS[name].minimum:  # of the others, some groups have two sets of codes
            assert np.array_equal(packed(found, PRECISIONS[name]), file)
    assert np.array_equal(gguf.quants.dequantize(packed(found, PRECISIONS[name]), kind), found.numpy())


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_grid_is_recognised_and_rounding_is_idempotent(weight: Tensor, name: str) -> None:
    precision = PRECISIONS[name]
    found = nearest(weight, precision)
    codes = codes_of(found, precision)
    assert codes is not None and torch.equal(codes.values(COLUMNS), found)
    assert torch.equal(nearest(found, precision), found)
    assert not precision.levels or set(codes.codes.unique().tolist()) <= {0, *precision.levels}
    if precision.high:
        assert precision.low <= codes.codes.min() and codes.codes.max() <= precision.high
        assert torch.equal(codes.codes, codes.codes.round())
    stored = torch.float16 if precision.format == "gguf" else torch.bfloat16
    assert torch.equal(codes.scales.to(stored).float(), codes.scales)
    assert codes_of(weight, precision) is None
    if name == "fp8" or (name in GGUF and not precision.minimum):  # these are symmetric
        assert torch.equal(nearest(-weight, precision), -found)
    nudged = found.clone()
    nudged[5, 7] += 1e-3 * weight[5].abs().max()
    assert codes_of(nudged, precision) is None


@pytest.mark.parametrize("name", PRECISIONS)
def test_errors_are_within_a_step(weight: Tensor, name: str) -> None:
    """A number is at most about half a step from its rounding, and a step where one end of the grid has a code less."""
    precision = PRECISIONS[name]
    size = precision.group(COLUMNS)
    assert size is not None
    weight = weight[30:]  # whose scales are no subnormal float16
    blocks = weight.view(-1, size)
    largest = blocks.abs().amax(1, keepdim=True)
    step = largest / 16 if not precision.high else largest / (-precision.low or precision.high)
    if precision.minimum:
        step = (blocks.amax(1, keepdim=True) - blocks.amin(1, keepdim=True)) / precision.high
    if precision.levels:
        step *= max(high - low for low, high in pairwise(precision.levels))
    error = (nearest(weight, precision).view(-1, size) - blocks).abs()
    halves = precision.minimum or precision.low == -precision.high
    assert (error <= 1.15 * step * (0.5 if halves else 1)).all()


@pytest.mark.parametrize("name", ["q8_0", "q5_0", "q4_0"])
def test_the_last_block_of_a_row_may_be_a_part(name: str) -> None:
    weight = torch.randn(3, 40, generator=torch.Generator().manual_seed(1))
    found = nearest(weight, PRECISIONS[name])
    whole = nearest(torch.nn.functional.pad(weight, (0, 24)), PRECISIONS[name])
    assert torch.equal(found, whole[:, :40])
    assert codes_of(found, PRECISIONS[name]) is not None


def layer(precision, columns: int = 64) -> nn.Linear:
    linear = nn.Linear(columns, 48, bias=False).requires_grad_(False)
    weight = torch.randn(48, columns, generator=torch.Generator().manual_seed(0))
    linear.weight.copy_(nearest(weight, precision))
    return linear


@pytest.mark.parametrize("name", PRECISIONS)
def test_without_a_step_the_matrix_is_the_same_and_after_one_its_codes(name):
    precision = PRECISIONS[name]
    linear = layer(precision)
    before, codes = linear.weight.clone(), stored_codes(linear.weight, precision, "before").codes
    train_scales(linear, precision)
    assert torch.equal(linear.weight, before)
    settle(linear)
    assert torch.equal(linear.weight, before) and list(linear.state_dict()) == ["weight"]
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

    linear = nn.Linear(64, 48, bias=False)  # off the grid
    with pytest.raises(ValueError, match="not on the grid"):
        train_scales(linear, PRECISIONS["q4_0"])
