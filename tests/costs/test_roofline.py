from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.costs.flops import Workload, fixed_size, mean_context
from puzzledsl.costs.metrics import metrics_of
from puzzledsl.costs.roofline import attention_scores_s, sub_block_cost
from puzzledsl.costs.table import cost_table, merge
from puzzledsl.ir import facts
from puzzledsl.ir.facts import total_params
from puzzledsl.ir.nodes import LayerChoice, MeasuredHardware, Program, RooflineHardware, Shape
from puzzledsl.ir.tables import LayerAssignment
from tests.profiles import kv_cache_bytes

Build = Callable[..., Program]
CHAT = Workload(batch=64, prompt=128, output=1024)


def all_parent(shape: Shape) -> list[LayerAssignment]:
    return [LayerAssignment(attention="parent", ffn="parent")] * shape.layers


@pytest.mark.parametrize("biased", [False, True])
def test_one_gpu_holds_what_the_model_counts(small: Shape, wide: LayerChoice, biased: bool) -> None:
    shape = small.model_copy(
        update={"attention_bias": biased, "output_bias": biased, "mlp_bias": biased, "qk_norm": biased}
    )
    for alternative in (*wide.attention, *wide.ffn, MoeFfn(experts=4, top_k=2, width=48)):
        assert alternative.size(shape).params == alternative.params(shape), alternative
    assert fixed_size(shape).params == facts.fixed_params(shape)


def test_70b_weights_in_fp8_and_cache_per_token(
    llama70b: Shape, h100: RooflineHardware, wide: LayerChoice, program: Build
) -> None:
    table = cost_table(program(llama70b, (wide,) * 80, chat=(h100, (64,), 128, 1024)), "wide")
    metrics = metrics_of(table.scenarios["chat"][0], all_parent(llama70b))
    matrices, embeddings, norms = 68_451_041_280 - 0, 2 * 128256 * 8192, 161 * 8192
    assert matrices + embeddings + norms == 70_553_706_496
    assert metrics["weights"] == matrices + 2 * embeddings + 2 * norms
    assert metrics["kv_cache"] == 64 * 1152 * 163_840  # 1152 tokens are 18 whole pages
    assert metrics["memory"] == metrics["weights"] + metrics["kv_cache"] + 3 * 10**9


def test_70b_throughput_is_near_the_published_figure(
    llama70b: Shape, h100: RooflineHardware, wide: LayerChoice, program: Build
) -> None:
    """TensorRT-LLM reports some 500-700 tok/s a GPU at short context, batch-limited by memory, on one 80 GB
    GPU."""
    table = cost_table(program(llama70b, (wide,) * 80, chat=(h100, (16,), 128, 1024)), "wide")
    metrics = metrics_of(table.scenarios["chat"][0], all_parent(llama70b))
    assert 400 < metrics["throughput"] < 800
    assert metrics["tpot"] > Fraction(68_451_041_280, 335 * 10**10)  # never faster than reading the weights


def test_metrics_obey_their_definitions(
    llama70b: Shape, h100: RooflineHardware, wide: LayerChoice, program: Build
) -> None:
    table = cost_table(program(llama70b, (wide,) * 80, rag=(h100, (8, 32), 2048, 128)), "wide")
    assert [c.batch for c in table.scenarios["rag"]] == [8, 32]
    child = [LayerAssignment(attention="gqa2", ffn="noop" if i % 3 else "mlp7168") for i in range(80)]
    m = metrics_of(table.scenarios["rag"][1], child)
    assert m["latency"] == m["ttft"] + 128 * m["tpot"]
    assert m["throughput"] * m["latency"] == 32 * 128
    assert m["throughput"] > metrics_of(table.scenarios["rag"][1], all_parent(llama70b))["throughput"]


def test_a_noop_is_free_and_a_wrong_choice_an_error(
    llama70b: Shape, h100: RooflineHardware, wide: LayerChoice, program: Build
) -> None:
    costs = cost_table(program(llama70b, (wide,) * 80, chat=(h100, (4,), 128, 8)), "wide").scenarios["chat"][
        0
    ]
    nothing = metrics_of(costs, [LayerAssignment(attention="noop", ffn="noop")] * 80)
    assert nothing["kv_cache"] == 0
    assert nothing["weights"] == costs.fixed.weights_bytes
    assert nothing["tpot"] == Fraction(costs.fixed.decode_ns, 10**9)
    with pytest.raises(KeyError):
        metrics_of(costs, [LayerAssignment(attention="gqa3", ffn="noop")] * 80)
    with pytest.raises(ValueError, match="79 layers are chosen"):
        metrics_of(costs, [LayerAssignment(attention="noop", ffn="noop")] * 79)


@given(kv=st.sampled_from([1, 2, 4, 8]), width=st.integers(1, 28672), batch=st.integers(1, 512))
def test_smaller_is_never_dearer(kv: int, width: int, batch: int) -> None:
    shape = Shape(
        family="llama",
        layers=1,
        hidden=512,
        heads=8,
        kv_heads=8,
        head_dim=64,
        intermediate=28672,
        vocab=100,
        tied=True,
    )
    h100 = RooflineHardware(
        profile="x",
        gpus=2,
        memory_bytes=2**36,
        bandwidth_bytes_per_s=Fraction(10**12),
        flop_per_s={"bf16": Fraction(10**15)},
        link_bytes_per_s=Fraction(10**11),
        efficiency_compute=Fraction(1, 2),
        efficiency_bandwidth=Fraction(9, 10),
        efficiency_attention=Fraction(1, 4),
        efficiency_link=Fraction(7, 10),
        overhead_s=Fraction(1, 10**5),
        link_latency_s=Fraction(1, 10**5),
        reserve_bytes=0,
        kv_fraction=Fraction(9, 10),
        page_tokens=64,
        max_batch=512,
    )
    work = Workload(batch, 100, 10)
    pairs = [
        (GqaAttention(kv_heads=kv), ParentAttention()),
        (GqaAttention(kv_heads=kv, window=32), GqaAttention(kv_heads=kv)),
        (MlpFfn(width=width), MlpFfn(width=width + 1)),
        (NoOpFfn(), MlpFfn(width=width)),
    ]
    for less, more in pairs:
        a, b = sub_block_cost(h100, shape, less, work), sub_block_cost(h100, shape, more, work)
        for field in ("params", "weights_bytes", "kv_cache_bytes", "prefill_ns", "decode_ns"):
            assert getattr(a, field) <= getattr(b, field), field


@given(prompt=st.integers(0, 40), output=st.integers(1, 40), window=st.integers(1, 90))
def test_mean_context_is_the_mean_of_the_capped_length(prompt: int, output: int, window: int) -> None:
    """Against the midpoint sum, which is exact where the cap does not fall inside a step."""
    steps = [min(prompt + i + Fraction(1, 2), Fraction(window)) for i in range(output)]
    assert abs(mean_context(prompt, output, window) - sum(steps) / output) <= Fraction(1, 8 * output)
    assert mean_context(prompt, output, None) == prompt + Fraction(output, 2)


@given(prompt=st.integers(1, 60), window=st.integers(1, 90))
def test_windowed_prefill_counts_the_positions_inside(prompt: int, window: int) -> None:
    shape = Shape(
        family="llama",
        layers=1,
        hidden=64,
        heads=1,
        kv_heads=1,
        head_dim=1,
        intermediate=8,
        vocab=8,
        tied=True,
    )
    hardware = RooflineHardware(
        profile="unit",
        memory_bytes=1,
        bandwidth_bytes_per_s=Fraction(1),
        flop_per_s={"bf16": Fraction(4)},
        efficiency_compute=Fraction(1),
        efficiency_bandwidth=Fraction(1),
        efficiency_attention=Fraction(1),
        efficiency_link=Fraction(1),
        overhead_s=Fraction(0),
        link_latency_s=Fraction(0),
        reserve_bytes=0,
        kv_fraction=Fraction(1),
        page_tokens=1,
        max_batch=1,
    )
    steps = [min(i + Fraction(1, 2), Fraction(window)) for i in range(prompt)]
    assert attention_scores_s(hardware, shape, shape.heads, window, Workload(1, prompt, 0)) == sum(steps)


def test_cache_is_paged_windowed_and_replicated(llama70b: Shape, h100: RooflineHardware) -> None:
    work = Workload(batch=3, prompt=100, output=1)
    assert kv_cache_bytes(h100, llama70b, ParentAttention(), work) == 3 * 128 * 2 * 8 * 128
    assert kv_cache_bytes(h100, llama70b, GqaAttention(kv_heads=8, window=65), work) == 3 * 128 * 2 * 8 * 128
    assert kv_cache_bytes(h100, llama70b, GqaAttention(kv_heads=8, window=64), work) == 3 * 64 * 2 * 8 * 128
    four = h100.model_copy(update={"gpus": 4})
    assert kv_cache_bytes(four, llama70b, ParentAttention(), work) == 3 * 128 * 2 * 2 * 128
    assert (
        kv_cache_bytes(four, llama70b, GqaAttention(kv_heads=1), work) == 3 * 128 * 2 * 1 * 128
    )  # one head, on each GPU
    eight = h100.model_copy(update={"gpus": 8, "kv_dtype": "bf16"})
    assert kv_cache_bytes(eight, llama70b, ParentAttention(), work) == 3 * 128 * 2 * 1 * 128 * 2


def test_tensor_parallel_splits_weights_and_pays_for_the_link(
    llama70b: Shape, h100: RooflineHardware
) -> None:
    four = h100.model_copy(update={"gpus": 4})
    one, split = (sub_block_cost(h, llama70b, MlpFfn(width=28672), CHAT) for h in (h100, four))
    assert split.params == one.params
    assert split.weights_bytes - 2 * 8192 == (one.weights_bytes - 2 * 8192) // 4
    reduce_s = 3 * Fraction(10, 10**6) + Fraction(2 * 3, 4) * 64 * 8192 * 2 / (450 * 10**9 * Fraction("0.72"))
    read_s = Fraction(3 * 8192 * 7168, 1) / (335 * 10**10 * Fraction("0.92"))
    assert split.decode_ns == -(-(read_s + reduce_s + Fraction(60, 10**6)) * 10**9 // 1)
    assert fixed_size(llama70b, 4).matrices * 4 == fixed_size(llama70b).matrices


def test_every_alternative_and_the_parent_are_in_every_layer(
    small: Shape, h100: RooflineHardware, program: Build
) -> None:
    layers = (
        LayerChoice(attention=(GqaAttention(kv_heads=1),), ffn=(NoOpFfn(),)),
        LayerChoice(attention=(ParentAttention(),), ffn=(MlpFfn(width=32), NoOpFfn())),
    )
    table = cost_table(program(small, layers, chat=(h100, (1,), 8, 8)), "wide")
    costs = table.scenarios["chat"][0]
    assert [set(a) for a in costs.attention] == [{"gqa1", "parent"}, {"parent"}]
    assert [set(f) for f in costs.ffn] == [{"noop", "parent"}, {"mlp32", "noop", "parent"}]
    parents = table.params_attention[0]["parent"] + table.params_ffn[0]["parent"]
    assert table.params_fixed + 2 * parents == total_params(small)


def test_measured_hardware_is_left_out_and_merged_in(
    small: Shape, h100: RooflineHardware, program: Build
) -> None:
    layers = (LayerChoice(attention=(ParentAttention(),), ffn=(NoOpFfn(),)),) * 2
    both = program(small, layers, chat=(h100, (1,), 8, 8), here=(MeasuredHardware(), (1,), 8, 8))
    analytic = cost_table(both, "wide")
    assert list(analytic.scenarios) == ["chat"]
    assert analytic.provenance == {"chat": "roofline h100_sxm (not calibrated)"}
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


def test_a_profile_that_cannot_run_is_a_diagnostic(
    small: Shape, h100: RooflineHardware, program: Build
) -> None:
    layers = (LayerChoice(attention=(ParentAttention(),), ffn=(NoOpFfn(),)),) * 2
    broken = h100.model_copy(update={"dtype": "fp32"})
    with pytest.raises(DiagnosticError, match="no FLOP/s for fp32") as caught:
        cost_table(program(small, layers, chat=(broken, (1,), 8, 8)), "wide")
    assert all(d.span is not None and d.span.line == 3 and d.help for d in caught.value.diagnostics)


def test_tables_are_reproducible_and_survive_json(
    small: Shape, h100: RooflineHardware, program: Build
) -> None:
    layers = (LayerChoice(attention=(GqaAttention(kv_heads=2),), ffn=(NoOpFfn(),)),) * 2
    table = cost_table(program(small, layers, chat=(h100, (), 8, 8)), "wide")
    assert type(table).from_json(table.canonical_json()) == table
    assert cost_table(program(small, layers, chat=(h100, (), 8, 8)), "wide").digest() == table.digest()
