"""The roofline's own arithmetic: FLOP, bytes and times by hand, and what must follow from them."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.costs.flops import Workload, fixed_size, mean_context, sub_block_flop
from puzzledsl.costs.metrics import metrics_of
from puzzledsl.costs.roofline import attention_scores_s, sub_block_cost
from puzzledsl.costs.table import cost_table, merge
from puzzledsl.ir import facts
from puzzledsl.ir.nodes import LayerChoice, MeasuredHardware
from puzzledsl.ir.tables import LayerAssignment, ScenarioCosts
from tests.costs.cases import H100, LLAMA_70B, OWN, PARENT, SHAPES, SMALL, program, with_changes
from tests.profiles import kv_cache_bytes

WIDE = LayerChoice(
    attention=(
        ParentAttention(),
        *(GqaAttention(kv_heads=k) for k in (4, 2, 1)),
        LinearAttention(),
        NoOpAttention(),
    ),
    ffn=(ParentFfn(), *(MlpFfn(width=w) for w in (24832, 14336, 7168)), LinearFfn(), NoOpFfn()),
)
PLAIN = sorted(
    name
    for name, shape in SHAPES.items()
    if (shape.mixer, shape.ffn, shape.gated, shape.by_layer) == ("attention", "dense", True, ())
)
"""Parents whose layers are all an attention and a dense FFN without windows."""
LENGTH = st.integers(1, 400)
NARROW = (LayerChoice(attention=(GqaAttention(kv_heads=2),), ffn=(NoOpFfn(),)),) * 2


def costs_of_70b(*batches: int, prompt: int = 128, output: int = 1024) -> tuple[ScenarioCosts, ...]:
    made = program(LLAMA_70B, (WIDE,) * 80, chat=(H100, batches, prompt, output))
    return cost_table(made, "wide").scenarios["chat"]


@given(name=st.sampled_from(PLAIN), batch=st.integers(1, 64), prompt=LENGTH, output=LENGTH)
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


@pytest.mark.parametrize("biased", [False, True])
def test_one_gpu_holds_what_the_model_counts(biased: bool) -> None:
    biases = dict.fromkeys(("attention_bias", "output_bias", "mlp_bias", "qk_norm"), biased)
    shape = SMALL.model_copy(update=biases)
    for alternative in (*WIDE.attention, *WIDE.ffn, MoeFfn(experts=4, top_k=2, width=48)):
        assert alternative.size(shape).params == alternative.params(shape), alternative
    assert fixed_size(shape).params == facts.fixed_params(shape)


def test_metrics_obey_their_definitions() -> None:
    small, large = costs_of_70b(8, 32, prompt=2048, output=128)
    assert (small.batch, large.batch) == (8, 32)
    child = [LayerAssignment(attention="gqa2", ffn="noop" if i % 3 else "mlp7168") for i in range(80)]
    found = metrics_of(large, child)
    assert found["latency"] == found["ttft"] + 128 * found["tpot"]
    assert found["throughput"] * found["latency"] == 32 * 128
    assert found["throughput"] > metrics_of(large, [PARENT] * 80)["throughput"]


def test_a_noop_is_free_and_a_wrong_choice_an_error() -> None:
    (costs,) = costs_of_70b(4)
    nothing = metrics_of(costs, [LayerAssignment(attention="noop", ffn="noop")] * 80)
    assert (nothing["kv_cache"], nothing["weights"]) == (0, costs.fixed.weights_bytes)
    assert nothing["tpot"] == Fraction(costs.fixed.decode_ns, 10**9)
    with pytest.raises(KeyError):
        metrics_of(costs, [LayerAssignment(attention="gqa3", ffn="noop")] * 80)
    with pytest.raises(ValueError, match="79 layers are chosen"):
        metrics_of(costs, [PARENT] * 79)


@given(kv=st.sampled_from([1, 2, 4, 8]), width=st.integers(1, 28672), batch=st.integers(1, 512))
def test_smaller_is_never_dearer(kv: int, width: int, batch: int) -> None:
    shape, two = LLAMA_70B.model_copy(update={"hidden": 512}), with_changes(H100, gpus=2)
    pairs = [
        (GqaAttention(kv_heads=kv), ParentAttention()),
        (GqaAttention(kv_heads=kv, window=32), GqaAttention(kv_heads=kv)),
        (MlpFfn(width=width), MlpFfn(width=width + 1)),
        (NoOpFfn(), MlpFfn(width=width)),
    ]
    for pair in pairs:
        less, more = (sub_block_cost(two, shape, each, Workload(batch, 100, 10)) for each in pair)
        for field in ("params", "weights_bytes", "kv_cache_bytes", "prefill_ns", "decode_ns"):
            assert getattr(less, field) <= getattr(more, field), field


@given(prompt=st.integers(0, 40), output=st.integers(1, 40), window=st.integers(1, 90))
def test_mean_context_is_the_mean_of_the_capped_length(prompt: int, output: int, window: int) -> None:
    """Against the midpoint sum, which is exact where the cap does not fall inside a step."""
    steps = [min(prompt + i + Fraction(1, 2), Fraction(window)) for i in range(output)]
    assert abs(mean_context(prompt, output, window) - sum(steps) / output) <= Fraction(1, 8 * output)
    assert mean_context(prompt, output, None) == prompt + Fraction(output, 2)


@given(prompt=st.integers(1, 60), window=st.integers(1, 90))
def test_windowed_prefill_counts_the_positions_inside(prompt: int, window: int) -> None:
    shape = SMALL.model_copy(update={"heads": 1, "head_dim": 1})
    one = with_changes(H100, flop_per_s={"fp8": Fraction(4)}, efficiency_attention=Fraction(1))
    steps = [min(i + Fraction(1, 2), Fraction(window)) for i in range(prompt)]
    assert attention_scores_s(one, shape, 1, window, Workload(1, prompt, 0)) == sum(steps)


@pytest.mark.parametrize(
    ("gpus", "attention", "expected"),
    [
        (1, ParentAttention(), 128 * 8),
        (1, GqaAttention(kv_heads=8, window=65), 128 * 8),
        (1, GqaAttention(kv_heads=8, window=64), 64 * 8),
        (4, ParentAttention(), 128 * 2),
        (4, GqaAttention(kv_heads=1), 128),  # one head, on each GPU
    ],
)
def test_cache_is_paged_windowed_and_replicated(gpus: int, attention: GqaAttention, expected: int) -> None:
    here = with_changes(H100, gpus=gpus)
    assert kv_cache_bytes(here, LLAMA_70B, attention, Workload(3, 100, 1)) == 3 * expected * 2 * 128


def test_tensor_parallel_splits_weights_and_pays_for_the_link() -> None:
    four, mlp = with_changes(H100, gpus=4), MlpFfn(width=28672)
    one, split = (sub_block_cost(h, LLAMA_70B, mlp, Workload(64, 128, 1024)) for h in (H100, four))
    assert split.params == one.params
    assert split.weights_bytes - 2 * 8192 == (one.weights_bytes - 2 * 8192) // 4
    rate = four.link_bytes_per_s * four.efficiency_link
    reduce_s = 3 * four.link_latency_s + Fraction(2 * 3, 4) * 64 * 8192 * 2 / rate
    read_s = Fraction(3 * 8192 * 7168, 1) / (four.bandwidth_bytes_per_s * four.efficiency_bandwidth)
    assert split.decode_ns == -(-(read_s + reduce_s + four.overhead_s) * 10**9 // 1)
    assert fixed_size(LLAMA_70B, 4).matrices * 4 == fixed_size(LLAMA_70B).matrices


def test_measured_hardware_is_left_out_and_merged_in() -> None:
    both = program(SMALL, (OWN,) * 2, chat=(H100, (1,), 8, 8), here=(MeasuredHardware(), (1,), 8, 8))
    analytic = cost_table(both, "wide")
    assert list(analytic.scenarios) == ["chat"]
    assert analytic.provenance["chat"].startswith("roofline h100_sxm")
    costs = analytic.scenarios["chat"][0].model_copy(update={"scenario": "here"})
    measured = analytic.model_copy(
        update={"scenarios": {"here": (costs,)}, "provenance": {"here": "measured"}}
    )
    merged = merge(analytic, measured)
    assert set(merged.scenarios) == {"chat", "here"}
    assert merged.provenance["here"] == "measured"
    stale = measured.model_copy(update={"scenarios": {"chat": (costs,)}, "provenance": {"chat": "old"}})
    first = merge(analytic, stale)  # a scenario that was measured once and is analytic now
    assert (first.scenarios, first.provenance) == (analytic.scenarios, analytic.provenance)
    with pytest.raises(ValueError, match="one space"):
        merge(analytic, measured.model_copy(update={"space": "other"}))


def test_a_profile_that_cannot_run_is_a_diagnostic() -> None:
    broken = with_changes(H100, dtype="fp32")
    with pytest.raises(DiagnosticError, match="no FLOP/s for fp32") as caught:
        cost_table(program(SMALL, NARROW, chat=(broken, (1,), 8, 8)), "wide")
    assert all(d.span is not None and d.span.line == 3 and d.help for d in caught.value.diagnostics)
