"""Bytes and times of quantised sub-blocks: codes and scales by hand, and what follows from them."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.costs.flops import Workload
from puzzledsl.costs.memory import size_on, weights_bytes
from puzzledsl.costs.roofline import bandwidth, line_of, sub_block_cost
from puzzledsl.ir.nodes import RooflineHardware, Shape
from tests.profiles import a_profile, a_shape

HIDDEN, WIDTH = 64, 192
ONE = Workload(1, 16, 16)


@pytest.fixture
def shape() -> Shape:
    return a_shape(Random(0), 1).model_copy(
        update={
            "hidden": HIDDEN,
            "heads": 8,
            "kv_heads": 4,
            "head_dim": 8,
            "intermediate": WIDTH,
            "window": None,
        }
    )


@pytest.fixture
def hardware() -> RooflineHardware:
    found = a_profile(Random(1), 8)
    return found.model_copy(
        update={"gpus": 1, "dtype": "bf16", "embedding_dtype": "bf16", "expert_dtype": None}
    )


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("q8_0", 8.5), ("q5_0", 5.5), ("q4_1", 5), ("q4_0", 4.5), ("iq4_nl", 4.5), ("int4", 4.25), (None, 16)],
)
def test_an_ffns_bytes(shape: Shape, hardware: RooflineHardware, dtype, bits: float) -> None:
    """Three matrices of 64 x 192; int4 has groups of 64 in all, as 64 divides both; the norm is bf16."""
    size = size_on(hardware, shape, ParentFfn(dtype=dtype))
    assert weights_bytes(hardware, size) == 3 * HIDDEN * WIDTH * bits / 8 + 2 * HIDDEN


@pytest.mark.parametrize("dtype", ["int8", "fp8"])
def test_rows_with_one_scale_each(shape: Shape, hardware: RooflineHardware, dtype) -> None:
    """Attention's q and o have 64 rows of 64, k and v 32; scales are 16 bits."""
    size = size_on(hardware, shape, ParentAttention(dtype=dtype))
    assert weights_bytes(hardware, size) == 2 * 64 * (64 + 2) + 2 * 32 * (64 + 2) + 2 * HIDDEN


def test_decode_reads_what_is_stored(shape: Shape, hardware: RooflineHardware) -> None:
    """A quantised FFN's share of the time is its share of the bytes, if reading weights bounds it."""
    slow = hardware.model_copy(update={"bandwidth_bytes_per_s": Fraction(1)})
    times = [line_of(slow, shape, ParentFfn(dtype=dtype), ONE).decode.read for dtype in (None, "q4_0")]
    assert times[1] / times[0] == Fraction(9, 32)
    assert times[0] == 3 * HIDDEN * WIDTH * 2 / bandwidth(slow)


def test_parameters_and_flop_are_those_of_the_unquantised(shape: Shape, hardware: RooflineHardware) -> None:
    for plain in (ParentFfn(), MlpFfn(width=96), GqaAttention(kv_heads=2)):
        quantised = plain.in_precision("q8_0")
        costs = [sub_block_cost(hardware, shape, each, ONE) for each in (plain, quantised)]
        assert costs[0].params == costs[1].params and costs[0].decode_flop == costs[1].decode_flop
        assert costs[0].kv_cache_bytes == costs[1].kv_cache_bytes
        assert costs[0].weights_bytes > costs[1].weights_bytes


def test_the_parts_of_a_quantised_sub_block_on_several_gpus(shape: Shape, hardware: RooflineHardware) -> None:
    """Matrices are halved; a row that is cut keeps its scale on both."""
    both = hardware.model_copy(update={"gpus": 2})
    halves = size_on(both, shape, ParentFfn(dtype="int8"))
    assert halves.matrices == 3 * HIDDEN * WIDTH // 2
    assert halves.stored is not None and halves.stored.scales == 2 * WIDTH // 2 + HIDDEN
    blocks = size_on(both, shape, ParentFfn(dtype="q8_0"))
    assert blocks.stored is not None and blocks.stored.scales == 3 * HIDDEN * WIDTH // 32 // 2


def test_a_mixtures_router_keeps_its_type(shape: Shape, hardware: RooflineHardware) -> None:
    experts = shape.model_copy(update={"ffn": "moe", "experts": 8, "top_k": 2, "expert_width": 32})
    size = size_on(hardware, experts, MoeFfn(experts=4, top_k=2, width=32, dtype="q4_0"))
    of_experts = 4 * 3 * HIDDEN * 32
    assert weights_bytes(hardware, size) == of_experts * 4.5 / 8 + 2 * 4 * HIDDEN + 2 * HIDDEN
