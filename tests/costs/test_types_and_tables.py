"""Weights stored in one type and multiplied in another; arithmetic."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.alternatives.linear import LinearFfn, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.checker.check import shipped_shapes
from puzzledsl.costs.flops import Workload, sub_block_flop
from puzzledsl.costs.roofline import all_reduce_s, fixed_line, line_of
from puzzledsl.ir.nodes import RooflineHardware, Shape

SHAPES = shipped_shapes()
PLAIN = sorted(
    name
    for name, shape in SHAPES.items()
    if (shape.mixer, shape.ffn, shape.gated, shape.by_layer) == ("attention", "dense", True, ())
)
"""Parents whose layers are all an attention and a dense FFN without windows."""
WORK = Workload(batch=16, prompt=1000, output=200)


def test_weights_of_few_bits_are_read_faster_and_multiplied_as_activations(
    llama70b: Shape, h100: RooflineHardware
) -> None:
    bf16 = h100.model_copy(update={"dtype": "bf16"})
    int4 = h100.model_copy(update={"dtype": "int4", "activation_dtype": "bf16"})
    one = Workload(1, 4096, 1)
    of_16, of_4 = (line_of(hardware, llama70b, MlpFfn(width=28672), one) for hardware in (bf16, int4))
    assert of_4.decode.read * 4 == of_16.decode.read > 0
    assert of_4.prefill.compute == of_16.prefill.compute > of_4.prefill.read
    assert of_4.decode.overhead == of_16.decode.overhead


def test_the_head_has_a_type_of_its_own(llama70b: Shape, h100: RooflineHardware) -> None:
    fp8 = h100.model_copy(update={"head_dtype": "fp8"})
    assert fixed_line(fp8, llama70b).prefill.read * 2 == fixed_line(h100, llama70b).decode.read


def test_gpus_exchange_the_residual_stream(llama70b: Shape, h100: RooflineHardware) -> None:
    """In bf16, whatever matrices are multiplied in; in fp32 where that is."""
    two = h100.model_copy(update={"gpus": 2, "link_latency_s": Fraction(0)})
    peaks = {**h100.flop_per_s, "fp32": Fraction(10**14)}
    wide = two.model_copy(update={"dtype": "fp32", "flop_per_s": peaks})
    narrow = two.model_copy(update={"activation_dtype": "bf16"})
    assert all_reduce_s(two, llama70b, 7) == all_reduce_s(narrow, llama70b, 7)
    assert all_reduce_s(wide, llama70b, 7) == 2 * all_reduce_s(two, llama70b, 7)
    eight = h100.model_copy(update={"gpus": 8, "link_bytes_per_s": Fraction(10**30)})
    assert float(all_reduce_s(eight, llama70b, 7)) == pytest.approx(7 * float(h100.link_latency_s))


@given(
    name=st.sampled_from(PLAIN),
    batch=st.integers(1, 64),
    prompt=st.integers(1, 400),
    output=st.integers(1, 400),
)
def test_flop_are_two_a_weight_and_token_and_four_a_head_channel_and_pair(
    name: str, batch: int, prompt: int, output: int
) -> None:
    shape, work = SHAPES[name], Workload(batch, prompt, output)
    matrices = 3 * shape.hidden * shape.intermediate
    assert sub_block_flop(shape, ParentFfn(), work) == (2 * matrices * batch * prompt, 2 * matrices * batch)
    projections = 2 * shape.hidden * (shape.heads + shape.kv_heads) * shape.head_dim
    prefill, decode = sub_block_flop(shape, ParentAttention(), work)
    scores = 4 * shape.heads * shape.head_dim * batch
    assert prefill == 2 * projections * batch * prompt + scores * prompt**2 // 2
    assert decode == 2 * projections * batch + scores * (2 * prompt + output) // 2
    assert sub_block_flop(shape, NoOpFfn(), work) == (0, 0)
    assert sub_block_flop(shape, LinearFfn(), work)[1] == 2 * shape.hidden**2 * batch
    moe = MoeFfn(experts=8, top_k=2, width=shape.intermediate // 2)
    router = shape.hidden * 8
    assert sub_block_flop(shape, moe, work)[1] == 2 * batch * (router + 2 * 3 * shape.hidden * moe.width)
