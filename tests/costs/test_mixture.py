"""Experts that a batch reads: against enumeration, and the two properties that the search relies on."""

from fractions import Fraction
from itertools import combinations, product
from math import comb, expm1, log1p

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.published import parent_weights_bytes
from puzzledsl.alternatives.parent import ParentFfn
from puzzledsl.costs.flops import Workload
from puzzledsl.costs.memory import share_read, size_on
from puzzledsl.costs.roofline import Pass, line_of, sub_block_cost
from puzzledsl.ir import facts
from puzzledsl.ir.nodes import Shape
from tests.costs.cases import PROFILES, SHAPES
from tests.sizes import active_params

FFN = ParentFfn()
H100 = PROFILES["h100_sxm"]


def mixture(**changes: object) -> Shape:
    return SHAPES["qwen3_30b_a3b"].model_copy(update=changes)


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


def shared_out(most: int) -> st.SearchStrategy[tuple[int, int]]:
    """Experts, and how many of them a token has."""
    return st.integers(1, most).flatmap(lambda e: st.tuples(st.just(e), st.integers(1, e)))


MANY = st.tuples(st.integers(129, 1 << 18), st.integers(1, 3))


@given(st.one_of(st.tuples(shared_out(64), st.integers(1, 2000)), st.tuples(MANY, st.integers(1, 1 << 24))))
def test_more_tokens_never_read_fewer_experts_nor_more_a_token(case: tuple[tuple[int, int], int]) -> None:
    """And the share is that of independent choices, to half a percent where there are too many to count."""
    of, tokens = case
    here, there = share(*of, tokens), share(*of, tokens + 1)
    assert 0 < here <= there <= 1
    assert here / tokens >= there / (tokens + 1)
    if of[1] < of[0]:
        assert float(here) == pytest.approx(-expm1(tokens * log1p(-of[1] / of[0])), rel=0.005)


@given(shared_out(40), st.integers(0, 5), st.integers(1, 300), st.integers(1, 300))
def test_times_of_a_mixture_are_monotone_in_the_batch(
    of: tuple[int, int], shared: int, batch: int, more: int
) -> None:
    shape = mixture(experts=of[0], top_k=of[1], hidden=64, expert_width=16, shared_width=16 * shared)
    hardware = H100.model_copy(update={"overhead_s": Fraction(0)})
    low, high = (sub_block_cost(hardware, shape, FFN, Workload(b, 3, 2)) for b in (batch, batch + more))
    for before, after in ((low.prefill_ns, high.prefill_ns), (low.decode_ns, high.decode_ns)):
        assert before <= after
        assert Fraction(after - 1, batch + more) < Fraction(before + 1, batch)


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
    long = line_of(H100, shape, FFN, Workload(1, 512, 1)).prefill
    assert read_bytes(long, 1) == 2 * FFN.size(shape).matrices, "a long prompt reads every expert"


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


@pytest.mark.parametrize(
    ("groups", "all_of_them", "experts", "width"),
    [(1, 128, 128, 96), (8, 128, 16, 768), (2, 128, 64, 192), (8, 100, 13, 768)],
)
def test_experts_are_shared_out_or_split(groups: int, all_of_them: int, experts: int, width: int) -> None:
    """Over eight GPUs, of which the most loaded group counts."""
    hardware = H100.model_copy(update={"gpus": 8, "expert_parallel": groups})
    size = size_on(hardware, mixture(experts=all_of_them), FFN)
    assert size.experts == experts * 3 * 2048 * width
    assert size.active == all_of_them * 2048 + -(-size.experts * 8 // all_of_them)


@pytest.mark.parametrize(("name", "gib"), [("gpt_oss_20b", 12.8), ("gpt_oss_120b", 60.8)])
def test_gpt_oss_takes_the_bytes_of_its_checkpoint(name: str, gib: float) -> None:
    """Experts in MXFP4, the rest in bf16: the sizes of the checkpoints in the model card (arXiv 2508.10925, table 1)."""
    hardware = H100.model_copy(update={"expert_dtype": "mxfp4"})
    assert round(parent_weights_bytes(hardware, SHAPES[name]) / 2**30, 1) == gib
