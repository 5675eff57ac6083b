"""The paper's whole search: 63 lines without a complaint, and what they mean."""

from __future__ import annotations

from fractions import Fraction

import pytest

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.checker.check import check
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import total_params
from puzzledsl.plan.space_table import SpaceTable
from tests.checker.programs import NEMOTRON


@pytest.fixture(scope="module")
def program() -> nodes.Program:
    checked = check(NEMOTRON, {})
    assert checked.diagnostics == ()
    assert checked.program is not None
    return checked.program


def attention(space: nodes.Space, layer: int) -> list[str]:
    return [a.name for a in space.layers[layer].attention]


def ffn(space: nodes.Space, layer: int) -> list[str]:
    return [a.name for a in space.layers[layer].ffn]


def test_every_declaration_is_there(program: nodes.Program) -> None:
    assert list(program.parents) == ["llama"]
    assert list(program.hardware) == ["h100", "node"]  # the imported profile is no hardware of the program
    assert list(program.scenarios) == ["chat", "rag", "think"]
    assert list(program.spaces) == ["wide", "narrow"]
    assert list(program.searches) == ["nemotron51b", "greedy", "maxparams"]
    assert list(program.blds) == ["pieces", "pairs"]
    assert list(program.scores) == ["kl", "mmlu"]
    assert list(program.uptrains) == ["final"]
    assert list(program.exports) == ["ship"]
    assert program.params == {"headroom": "95%"}


def test_the_parent_is_llama_3_1_70b(program: nodes.Program) -> None:
    parent = program.parents["llama"]
    assert parent.source == nodes.HfSource(id="meta-llama/Llama-3.1-70B-Instruct")
    assert total_params(parent.shape) == 70_553_706_496


def test_a_layer_may_become_54_things(program: nodes.Program) -> None:
    wide = program.spaces["wide"]
    assert attention(wide, 10) == ["parent", "gqa4", "gqa2", "gqa1", "linear", "noop"]
    assert ffn(wide, 10) == [
        "parent", "mlp24832", "mlp21504", "mlp14336", "mlp7168", "mlp5632", "mlp2816", "linear", "noop",
    ]  # fmt: skip


def test_overrides_hold_layer_by_layer(program: nodes.Program) -> None:
    wide = program.spaces["wide"]
    for layer in range(80):
        if layer in (0, 1, 79):
            assert wide.layers[layer] == nodes.LayerChoice(attention=(ParentAttention(),), ffn=(ParentFfn(),))
            continue
        assert ("noop" in attention(wide, layer)) == (not 2 <= layer <= 9)
        narrowed = layer >= 40 and layer % 2 == 1
        assert len(ffn(wide, layer)) == (5 if narrowed else 9)
        assert ("mlp7168" in ffn(wide, layer)) and ("mlp5632" in ffn(wide, layer)) != narrowed


def test_size_of_the_space(program: nodes.Program) -> None:
    wide = program.spaces["wide"]
    sizes = [len(layer.attention) * len(layer.ffn) for layer in wide.layers]
    assert sizes[10] == 54 and sizes.count(54) == 50 and sizes.count(30) == 19
    unrestricted = wide.model_copy(update={"layers": (wide.layers[10],) * 80})
    assert SpaceTable(program, unrestricted).log10_children == pytest.approx(138.6, abs=0.05)


def test_rounding_is_recorded(program: nodes.Program) -> None:
    found = [(r.asked, r.exact, r.width) for r in program.spaces["wide"].roundings]
    assert found == [
        ("87%", Fraction("24944.64"), 24832),
        ("20%", Fraction("5734.4"), 5632),
        ("10%", Fraction("2867.2"), 2816),
    ]
    assert {r.where.line for r in program.spaces["wide"].roundings} == {11}


def test_initialisers(program: nodes.Program) -> None:
    assert program.spaces["wide"].init == nodes.Initialisers(
        gqa="mean_pool", mlp="channel_contribution", linear="least_squares"
    )


def test_hardware_is_the_profile_with_changes(program: nodes.Program) -> None:
    h100, node = program.hardware["h100"].spec, program.hardware["node"].spec
    assert isinstance(h100, nodes.RooflineHardware) and isinstance(node, nodes.RooflineHardware)
    assert h100.profile == node.profile == "h100_sxm"
    assert h100.memory_bytes == 80 * 2**30
    assert (h100.dtype, h100.kv_dtype, h100.embedding_dtype) == ("fp8", "fp8", "bf16")
    assert h100.flop_per_s == {"bf16": 989 * 10**12, "fp8": 1979 * 10**12}
    assert node == h100.model_copy(update={"gpus": 4})


def test_requirements_are_linear(program: nodes.Program) -> None:
    search = program.searches["nemotron51b"]
    linear = [r for r in search.requirements if isinstance(r, nodes.LinearRequirement)]
    assert [(r.where.text, r.op, r.bound_where.text, r.unit) for r in linear] == [
        ("chat.memory", "<=", "headroom * h100.memory", "bytes"),
        ("chat.throughput", ">=", "2.17x", "tokens_per_s"),
        ("rag.latency", "<=", "30s", "seconds"),
        ("think.kv_cache", "<=", "120GiB", "bytes"),
        ("params", "<=", "51.5B", ""),
        ("sum(attention.kv_heads)", "<=", "400", ""),
        ("count(attention is noop)", "<=", "20", ""),
        ("sum(l.ffn.width for l in layers[40..])", "<=", "0.6x", ""),
    ]
    assert linear[0].bound == Fraction(95, 100) * 80 * 2**30
    assert linear[0].because == "one GPU, no swap"
    assert (linear[1].bound, linear[1].parent_ratio) == (None, Fraction(217, 100))
    assert (linear[4].bound, linear[4].parent_ratio) == (Fraction(51_500_000_000), None)
    assert [r.left.terms[0].term for r in linear[5:]] == [
        nodes.FactTerm(sub_block="attention", attribute="kv_heads", layers=tuple(range(80))),
        nodes.CountTerm(sub_block="attention", alternatives=("noop",), layers=tuple(range(80))),
        nodes.FactTerm(sub_block="ffn", attribute="width", layers=tuple(range(40, 80))),
    ]
    assert all(len(r.left.terms) == 1 and r.left.terms[0].coefficient == 1 for r in linear)


def test_the_for_becomes_19_implications(program: nodes.Program) -> None:
    search = program.searches["nemotron51b"]
    logic = [r.formula for r in search.requirements if isinstance(r, nodes.LogicRequirement)]

    # A layer that cannot drop its attention makes its side of the implication empty: false.
    def drops(layer: int) -> nodes.Is:
        can = 10 <= layer <= 78
        return nodes.Is(layer=layer, sub_block="attention", alternatives=("noop",) if can else ())

    assert logic == [
        nodes.Implies(condition=drops(i), consequence=nodes.Not(operand=drops(i - 1)))
        for i in range(4, 77, 4)
    ]
    assert len(logic) == 19


def test_baselines_inherit(program: nodes.Program) -> None:
    best, greedy, most = (program.searches[n] for n in ("nemotron51b", "greedy", "maxparams"))
    assert best.solver == nodes.CpSat(time_s=Fraction(300), gap=Fraction(1, 1000), seed=42)
    assert (best.solutions, best.apart) == (10, 8)
    own = {"name", "solver", "where"}
    assert greedy.solver == nodes.Baseline(kind="greedy")
    assert greedy.model_dump(exclude=own) == best.model_dump(exclude=own)
    assert most.requirements == best.requirements
    assert (most.sense, most.objective.terms[0].term) == ("maximize", nodes.ParamsTerm())


def test_the_rest(program: nodes.Program) -> None:
    pieces, pairs = program.blds["pieces"], program.blds["pairs"]
    assert (pieces.mode, pieces.tokens, pieces.context, pieces.batch) == ("decoupled", 10**9, 4096, 128)
    assert pieces.lr == nodes.Schedule(kind="cosine", peak=1e-4, warmup=0.01)
    assert (pairs.mode, pairs.space, pairs.data) == ("coupled", "narrow", "mix")
    assert program.spaces["narrow"].used_by == nodes.UsedBy(search="nemotron51b", top=10)
    assert program.spaces["narrow"].layers == program.spaces["wide"].layers
    kl, mmlu = program.scores["kl"].method, program.scores["mmlu"].method
    assert kl == nodes.ReplaceOne(metric="kl_divergence", samples=4096, children=24, data="mix")
    assert isinstance(mmlu, nodes.ReplaceOne) and mmlu.tasks == "tasks/mmlu-train.jsonl"
    final = program.uptrains["final"]
    assert (final.kld, final.cosine, final.lm, final.tokens) == (1.0, 1.0, 0.0, 45 * 10**9)
    curve = program.frontiers["curve"]
    assert (curve.low, curve.high, curve.times_parent, curve.points) == (Fraction(1), Fraction(3), True, 9)
    ship = program.exports["ship"]
    assert (ship.of, ship.path, ship.format, ship.runtime) == ("final", "out/nemotron-51b", "hf", "vllm")


def test_set_changes_what_depends_on_it(program: nodes.Program) -> None:
    other = check(NEMOTRON, {"headroom": "90%"}).program
    assert other is not None and other.params == {"headroom": "90%"}
    first, changed = (p.searches["nemotron51b"].requirements[0] for p in (program, other))
    assert isinstance(changed, nodes.LinearRequirement)
    assert changed == first.model_copy(update={"bound": Fraction(9, 10) * 80 * 2**30})
