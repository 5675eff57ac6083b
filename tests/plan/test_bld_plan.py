from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.nodes import Initialisers, LayerChoice, Program, Schedule, Shape
from puzzledsl.plan.bld import bld_plan

Build = Callable[..., Program]
ATTENTION = (
    ParentAttention(),
    GqaAttention(kv_heads=2),
    GqaAttention(kv_heads=1),
    LinearAttention(),
    NoOpAttention(),
)
FFN = (ParentFfn(), MlpFfn(width=96), MlpFfn(width=32), LinearFfn(), NoOpFfn())


def test_decoupled_jobs_are_a_plus_f_and_coupled_a_times_f(program: Build) -> None:
    assert len(bld_plan(program(), "decoupled")) == 3 * (2 + 2)
    assert len(bld_plan(program(), "coupled")) == 3 * (16 - 4)


def test_the_paper_space_has_11_or_50_jobs_a_layer(program: Build, small: Shape) -> None:
    six = (
        ParentAttention(),
        *(GqaAttention(kv_heads=k) for k in (4, 2, 1)),
        LinearAttention(),
        NoOpAttention(),
    )
    nine = (ParentFfn(), *(MlpFfn(width=w) for w in range(10, 70, 10)), LinearFfn(), NoOpFfn())
    one = program(layers=(LayerChoice(attention=six, ffn=nine),))
    assert len(bld_plan(one, "decoupled")) == 11
    assert len(bld_plan(one, "coupled")) == 50


layers_st = st.lists(
    st.builds(
        LayerChoice,
        attention=st.lists(st.sampled_from(ATTENTION), min_size=1, unique=True).map(tuple),
        ffn=st.lists(st.sampled_from(FFN), min_size=1, unique=True).map(tuple),
    ),
    min_size=1,
    max_size=4,
)


@given(layers=layers_st)
def test_jobs_are_what_the_space_needs_and_nothing_else(layers: list[LayerChoice]) -> None:
    plain = ("parent", "noop")
    whole = _program(tuple(layers))
    pairs = {
        (i, a.name, f.name)
        for i, c in enumerate(layers)
        for a in c.attention
        for f in c.ffn
        if a.name not in plain or f.name not in plain
    }
    coupled = bld_plan(whole, "coupled")
    assert {(j.layer, j.attention.name, j.ffn.name) for j in coupled if j.attention and j.ffn} == pairs
    assert len(coupled) == len(pairs)
    decoupled = bld_plan(whole, "decoupled")
    singles = {(i, "a" + n) for i, a, _ in _names(layers) for n in a if n not in plain}
    singles |= {(i, "f" + n) for i, _, f in _names(layers) for n in f if n not in plain}
    found = {
        (j.layer, "a" + j.attention.name if j.attention else "f" + (j.ffn or NoOpFfn()).name)
        for j in decoupled
    }
    assert found == singles
    assert len(decoupled) == len(singles)
    assert len({j.id for j in (*coupled, *decoupled)}) == len(coupled) + len(decoupled)


def _names(layers: list[LayerChoice]) -> list[tuple[int, set[str], set[str]]]:
    return [(i, {a.name for a in c.attention}, {f.name for f in c.ffn}) for i, c in enumerate(layers)]


def _program(layers: tuple[LayerChoice, ...]) -> Program:
    from puzzledsl.ir.nodes import Bld, Parent, ShapeSource, Space, Where

    here = Where(file="t", line=1, column=1, end_line=1, end_column=1)
    shape = Shape(
        family="llama",
        layers=len(layers),
        hidden=64,
        heads=4,
        kv_heads=4,
        head_dim=16,
        intermediate=128,
        vocab=9,
        tied=True,
    )
    return Program(
        source="t",
        parents={"p": Parent(name="p", source=ShapeSource(), shape=shape, where=here)},
        spaces={"w": Space(name="w", parent="p", layers=layers, where=here)},
        blds={
            m: Bld(name=m, space="w", mode=m, tokens=1, lr=Schedule(peak=1), where=here)
            for m in ("decoupled", "coupled")
        },
    )


def test_ids_do_not_depend_on_names_or_places(program: Build) -> None:
    for mode in ("decoupled", "coupled"):
        here = bld_plan(program(), mode)
        there = bld_plan(program(line=99, suffix="_b"), f"{mode}_b")
        assert [j.id for j in here] == [j.id for j in there]


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": 1001},
        {"context": 1024},
        {"batch": 2},
        {"lr": Schedule(peak=2e-4)},
        {"lr": Schedule(peak=1e-4, warmup=0.1)},
        {"seed": 1},
        {"calibration_tokens": 99},
        {"data": "other/*.txt"},
        {"parent": "elsewhere"},
    ],
    ids=str,
)
def test_ids_depend_on_everything_that_changes_the_result(program: Build, change: dict[str, object]) -> None:
    before = {j.id for m in ("decoupled", "coupled") for j in bld_plan(program(), m)}
    after = {j.id for m in ("decoupled", "coupled") for j in bld_plan(program(**change), m)}
    assert not before & after


def test_ids_depend_on_the_initialisers_of_their_alternatives(program: Build) -> None:
    before = {j.id for m in ("decoupled", "coupled") for j in bld_plan(program(), m)}
    other = program(init=Initialisers(gqa="mean_pool", mlp="channel_contribution"))
    kept = [j for m in ("decoupled", "coupled") for j in bld_plan(other, m) if j.id in before]
    kinds = {a.kind for j in kept for a in (j.attention, j.ffn) if a is not None}
    assert kept and "linear" in kinds and not kinds & {"gqa", "mlp"}


def test_an_initialiser_changes_only_the_pieces_it_makes(program: Build) -> None:
    before = bld_plan(program(), "decoupled")
    after = bld_plan(program(init=Initialisers(gqa="mean_pool")), "decoupled")
    changed = [
        (a.attention or a.ffn or NoOpFfn()).name for a, b in zip(before, after, strict=True) if a.id != b.id
    ]
    assert changed == ["gqa1"] * 3


def test_widening_a_space_keeps_the_pieces_made(program: Build) -> None:
    wider = LayerChoice(attention=(*ATTENTION[:3], LinearAttention()), ffn=FFN)
    before = {j.id for j in bld_plan(program(), "decoupled")}
    after = {j.id for j in bld_plan(program(layers=(wider,) * 3), "decoupled")}
    assert before < after


def test_shapes_are_as_stored(program: Build, small: Shape) -> None:
    qwen = small.model_copy(update={"attention_bias": True, "qk_norm": True, "output_bias": True})
    gqa, linear, mlp, _ = bld_plan(program(shape=qwen), "decoupled")[:4]
    assert gqa.shapes == {
        "q_proj.weight": (128, 64),
        "k_proj.weight": (32, 64),
        "v_proj.weight": (32, 64),
        "o_proj.weight": (64, 128),
        "q_proj.bias": (128,),
        "k_proj.bias": (32,),
        "v_proj.bias": (32,),
        "o_proj.bias": (64,),
        "q_norm.weight": (32,),
        "k_norm.weight": (32,),
    }
    assert linear.shapes == {"linear.weight": (64, 64)}
    assert mlp.shapes == {
        "gate_proj.weight": (32, 64),
        "up_proj.weight": (32, 64),
        "down_proj.weight": (64, 32),
    }
    block = next(j for j in bld_plan(program(), "coupled") if j.init == "least_squares+least_squares")
    assert set(block.shapes) >= {"self_attn.q_proj.weight", "mlp.down_proj.weight"}


@pytest.mark.parametrize(
    "alternative",
    [
        GqaAttention(kv_heads=1),
        LinearAttention(),
        MlpFfn(width=48),
        LinearFfn(),
        MoeFfn(experts=4, top_k=2, width=8),
    ],
    ids=lambda a: a.name,
)
@pytest.mark.parametrize("biased", [False, True])
def test_stored_weights_and_counted_parameters_agree(small: Shape, alternative: object, biased: bool) -> None:
    """The norm in front is counted with the sub-block but never stored with the piece."""
    shape = small.model_copy(
        update={"attention_bias": biased, "output_bias": biased, "mlp_bias": biased, "qk_norm": biased}
    )
    assert isinstance(alternative, GqaAttention | LinearAttention | MlpFfn | LinearFfn | MoeFfn)
    stored = sum(math.prod(s) for s in alternative.stored(shape).values())
    assert stored + shape.hidden == alternative.params(shape)


def test_only_the_sub_blocks_asked_for_are_trained(program: Build) -> None:
    jobs = bld_plan(program(sub_blocks=("ffn",)), "decoupled")
    assert {j.sub_block for j in jobs} == {"ffn"}
    assert len(jobs) == 3 * 2


def test_coupled_pieces_are_pairs(program: Build) -> None:
    plans = {name: bld_plan(program(), name) for name in ("decoupled", "coupled")}
    assert {name: (len(jobs), sum(job.tokens for job in jobs)) for name, jobs in plans.items()} == {
        "decoupled": (12, 12_000),
        "coupled": (36, 36_000),
    }


def test_pieces_have_the_sizes_of_their_own_layer(program: Build, small: Shape) -> None:
    sizes = [{"heads": 4 - 2 * (layer == 1), "window": None} for layer in range(3)]
    shape = small.with_layers(sizes)
    jobs = bld_plan(program(shape=shape), "decoupled")
    queries = {
        job.layer: job.shapes["q_proj.weight"] for job in jobs if isinstance(job.attention, GqaAttention)
    }
    assert queries == {0: (128, 64), 1: (64, 64), 2: (128, 64)}
    assert len({job.id for job in jobs}) == len(jobs)
