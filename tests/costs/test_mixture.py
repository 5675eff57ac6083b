"""Experts that a batch reads: against enumeration, and the two properties that the search relies on."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, product
from math import comb, expm1, log1p

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.published import parent_weights_bytes
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentFfn
from puzzledsl.alternatives.weights import Size
from puzzledsl.checker.check import shipped_shapes
from puzzledsl.costs.flops import Workload
from puzzledsl.costs.memory import CERTAIN, share_read, size_on, weights_bytes
from puzzledsl.costs.roofline import Pass, line_of, sub_block_cost
from puzzledsl.ir import facts
from puzzledsl.ir.nodes import RooflineHardware, Shape
from tests.sizes import active_params

FFN = ParentFfn()


def mixture(**changes: object) -> Shape:
    sizes = {"experts": 128, "top_k": 8, "expert_width": 768, "ffn": "moe"}
    return Shape(
        family="qwen3_moe",
        layers=48,
        hidden=2048,
        heads=32,
        kv_heads=4,
        head_dim=128,
        intermediate=0,
        vocab=151936,
        tied=False,
        qk_norm=True,
    ).model_copy(update={**sizes, **changes})


def share(experts: int, top_k: int, tokens: int) -> Fraction:
    return Fraction(*share_read(experts, top_k, tokens))


@pytest.mark.parametrize(
    ("experts", "top_k", "tokens"),
    [(3, 1, 1), (3, 1, 4), (4, 2, 1), (4, 2, 3), (5, 3, 2), (5, 2, 3), (2, 2, 2)],
)
def test_the_share_is_the_mean_over_all_choices(experts: int, top_k: int, tokens: int) -> None:
    each = [*combinations(range(experts), top_k)]
    read = sum(len(set().union(*chosen)) for chosen in product(each, repeat=tokens))
    assert share(experts, top_k, tokens) == Fraction(read, experts * comb(experts, top_k) ** tokens)


@given(st.integers(1, 64).flatmap(lambda e: st.tuples(st.just(e), st.integers(1, e))), st.integers(1, 2000))
def test_more_tokens_never_read_fewer_experts_nor_more_a_token(of: tuple[int, int], tokens: int) -> None:
    here, there = share(*of, tokens), share(*of, tokens + 1)
    assert 0 < here <= there <= 1
    assert here / tokens >= there / (tokens + 1)


@given(st.integers(129, 1 << 18), st.integers(1, 3), st.integers(1, 1 << 24))
@settings(deadline=400)
def test_many_experts_are_soon_counted(experts: int, top_k: int, tokens: int) -> None:
    """Both properties hold, and the share is that of independent choices to half a percent, in little time."""
    here, there = share(experts, top_k, tokens), share(experts, top_k, tokens + 1)
    assert 0 < here <= there <= 1
    assert here / tokens >= there / (tokens + 1)
    assert float(here) == pytest.approx(-expm1(tokens * log1p(-top_k / experts)), rel=0.005)


@given(st.integers(2, 64).flatmap(lambda e: st.tuples(st.just(e), st.integers(1, e - 1))))
def test_both_hold_where_all_experts_begin_to_count(of: tuple[int, int]) -> None:
    experts, top_k = of
    first = -(-CERTAIN * experts // top_k)
    assert share(*of, first) == 1
    before = share(*of, first - 1)
    assert 1 - before < Fraction(1, 10**9) and before / (first - 1) >= Fraction(1, first)


@given(
    st.integers(1, 40).flatmap(lambda e: st.tuples(st.just(e), st.integers(1, e))),
    st.integers(0, 5),
    st.integers(1, 300),
    st.integers(1, 300),
)
def test_times_of_a_mixture_are_monotone_in_the_batch(
    of: tuple[int, int], shared: int, batch: int, more: int
) -> None:
    shape = mixture(experts=of[0], top_k=of[1], hidden=64, expert_width=16, shared_width=16 * shared)
    hardware = H100.model_copy(update={"overhead_s": Fraction(0)})
    low, high = (sub_block_cost(hardware, shape, FFN, Workload(b, 3, 2)) for b in (batch, batch + more))
    for before, after in ((low.prefill_ns, high.prefill_ns), (low.decode_ns, high.decode_ns)):
        assert before <= after
        assert Fraction(after - 1, batch + more) < Fraction(before + 1, batch)


H100 = RooflineHardware(
    profile="h100_sxm",
    memory_bytes=80 * 2**30,
    bandwidth_bytes_per_s=Fraction(335 * 10**10),
    flop_per_s={"bf16": Fraction(989 * 10**12)},
    link_bytes_per_s=Fraction(450 * 10**9),
    efficiency_compute=Fraction("0.5"),
    efficiency_bandwidth=Fraction("0.9"),
    efficiency_attention=Fraction("0.3"),
    efficiency_link=Fraction("0.7"),
    overhead_s=Fraction(50, 10**6),
    link_latency_s=Fraction(10, 10**6),
    reserve_bytes=3 * 10**9,
    kv_fraction=Fraction("0.9"),
    page_tokens=64,
    max_batch=1024,
)


def read_bytes(step: Pass, batch: int) -> Fraction:
    read_s = step.read + step.experts * Fraction(*share_read(*step.routing, batch * step.tokens))
    return read_s * H100.bandwidth_bytes_per_s * H100.efficiency_bandwidth


def decoded_bytes(shape: Shape, batch: int) -> Fraction:
    return read_bytes(line_of(H100, shape, FFN, Workload(batch, 1, 1)).decode, batch)


def test_one_sequence_reads_its_experts_the_shared_ones_and_the_router() -> None:
    shape = mixture(shared_width=1024)
    expert, shared, router = 3 * 2048 * 768, 3 * 2048 * 1024, 128 * 2048
    assert decoded_bytes(shape, 1) == 2 * (router + shared + 8 * expert)
    two = 8 + 8 * Fraction(120, 128)  # the second token's experts are new with probability 120 / 128
    assert decoded_bytes(shape, 2) == 2 * (router + shared + two * expert)
    assert decoded_bytes(shape, 64) == 2 * (router + shared + 128 * (1 - Fraction(15, 16) ** 64) * expert)
    assert FFN.size(shape).active == router + shared + 8 * expert


def test_a_long_prompt_reads_every_expert() -> None:
    shape = mixture()
    prefill = line_of(H100, shape, FFN, Workload(1, 512, 1)).prefill
    assert read_bytes(prefill, 1) == 2 * FFN.size(shape).matrices


def test_active_parameters_leave_out_the_experts_that_a_token_does_not_choose() -> None:
    shape = mixture()
    expert = 3 * 2048 * 768
    assert FFN.params(shape) - FFN.size(shape).used == 120 * expert
    assert facts.total_params(shape) == 30_532_122_624  # Qwen/Qwen3-30B-A3B: model.safetensors.index.json
    assert active_params(shape) == 30_532_122_624 - 48 * 120 * expert == 3_353_032_704
    assert facts.fact(FFN, "experts", shape) == 128 and facts.fact(FFN, "top_k", shape) == 8
    dense = mixture(ffn="dense", intermediate=6144)
    assert active_params(dense) == facts.total_params(dense)
    assert facts.fact(FFN, "experts", dense) == facts.fact(FFN, "top_k", dense) == 0


def test_biases_of_experts_are_idle_with_them() -> None:
    shape = mixture(experts=4, top_k=1, mlp_bias=True, router_bias=True, expert_width=10, hidden=6)
    size = FFN.size(shape)
    expert, biases = 3 * 6 * 10, 10 + 10 + 6
    assert size == Size(
        4 * 6 + 4 * expert, 4 + 4 * biases + 6, 4 * 6 + expert, 4 * expert, expert, 3 * (expert + biases)
    )


@pytest.mark.parametrize(
    ("gpus", "groups", "experts", "width"), [(8, 1, 128, 96), (8, 8, 16, 768), (8, 2, 64, 192)]
)
def test_experts_are_shared_out_or_split(gpus: int, groups: int, experts: int, width: int) -> None:
    hardware = H100.model_copy(update={"gpus": gpus, "expert_parallel": groups})
    size = size_on(hardware, mixture(), FFN)
    assert size.experts == experts * 3 * 2048 * width == 128 * 3 * 2048 * 768 // 8
    assert size.active == 128 * 2048 + size.experts * 8 // 128


def test_the_most_loaded_group_counts() -> None:
    hardware = H100.model_copy(update={"gpus": 8, "expert_parallel": 8})
    size = size_on(hardware, mixture(experts=100), FFN)
    assert size.experts == 13 * 3 * 2048 * 768  # 100 experts on 8 GPUs: 13 on some
    assert size.active - 100 * 2048 == -(-size.experts * 8 // 100)


def test_experts_have_a_type_of_their_own() -> None:
    hardware = H100.model_copy(update={"expert_dtype": "mxfp4"})
    size = size_on(hardware, mixture(), FFN)
    assert weights_bytes(hardware, size) == size.experts * 17 // 32 + 2 * (128 * 2048) + 2 * 2048


@pytest.mark.parametrize(("name", "gib"), [("gpt_oss_20b", 12.8), ("gpt_oss_120b", 60.8)])
def test_gpt_oss_takes_the_bytes_of_its_checkpoint(name: str, gib: float) -> None:
    """Experts in MXFP4, the rest in bf16: the sizes of the checkpoints in the model card (arXiv 2508.10925, table 1)."""
    hardware = H100.model_copy(update={"expert_dtype": "mxfp4"})
    assert round(parent_weights_bytes(hardware, shipped_shapes()[name]) / 2**30, 1) == gib


def test_a_smaller_mixture_costs_what_a_parent_of_its_size_does() -> None:
    shape, work = mixture(shared_width=512), Workload(7, 100, 10)
    smaller = mixture(shared_width=512, experts=64, top_k=6, expert_width=576)
    alternative = MoeFfn(experts=64, top_k=6, width=576)
    assert sub_block_cost(H100, shape, alternative, work) == sub_block_cost(H100, smaller, FFN, work)
