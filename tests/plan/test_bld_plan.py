"""Which pieces a BLD makes, what their ids depend on, and which workers make them."""

import math
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.nodes import LayerChoice, Program, Schedule
from puzzledsl.ir.tables import BldJob
from puzzledsl.plan.bld import bld_plan, spans
from tests.plan.conftest import SMALL, make_program

ATTENTION = (
    ParentAttention(),
    GqaAttention(kv_heads=2),
    GqaAttention(kv_heads=1),
    LinearAttention(),
    NoOpAttention(),
)
FFN = (ParentFfn(), MlpFfn(width=96), MlpFfn(width=32), LinearFfn(), NoOpFfn())


def both(program: Program) -> list[BldJob]:
    """The pieces of either mode."""
    return [*bld_plan(program, "decoupled"), *bld_plan(program, "coupled")]


def ids(program: Program) -> set[str]:
    return {job.id for job in both(program)}


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
    whole = make_program(layers=tuple(layers), shape=SMALL.model_copy(update={"layers": len(layers)}))
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
    singles = {
        (i, a.sub_block, a.name)
        for i, c in enumerate(layers)
        for a in (*c.attention, *c.ffn)
        if a.name not in plain
    }
    decoupled = bld_plan(whole, "decoupled")
    trained = [(j.layer, j.attention or j.ffn) for j in decoupled]
    assert {(layer, made.sub_block, made.name) for layer, made in trained if made} == singles
    assert len(decoupled) == len(singles)
    assert len(ids(whole)) == len(coupled) + len(decoupled)


def test_ids_do_not_depend_on_names_or_places() -> None:
    for mode in ("decoupled", "coupled"):
        there = bld_plan(make_program(line=99, suffix="_b"), f"{mode}_b")
        assert [j.id for j in bld_plan(make_program(), mode)] == [j.id for j in there]


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
def test_ids_depend_on_everything_that_changes_the_result(change: dict[str, object]) -> None:
    assert not ids(make_program()) & ids(make_program(**change))  # type: ignore[arg-type]


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
def test_stored_weights_and_counted_parameters_agree(
    alternative: GqaAttention | LinearAttention | MlpFfn | LinearFfn | MoeFfn, biased: bool
) -> None:
    """The norm in front is counted with the sub-block but never stored with the piece."""
    biases = ("attention_bias", "output_bias", "mlp_bias", "qk_norm")
    shape = SMALL.model_copy(update=dict.fromkeys(biases, biased))
    stored = sum(math.prod(s) for s in alternative.stored(shape).values())
    assert stored + shape.hidden == alternative.params(shape)


def largest(work: list[float], cuts: tuple[int, ...]) -> float:
    return max(sum(work[a:b]) for a, b in pairwise((0, *cuts, len(work))))


@given(st.lists(st.integers(1, 50).map(float), min_size=1, max_size=9), st.integers(1, 12))
def test_workers_take_consecutive_layers_and_the_busiest_has_least(work: list[float], workers: int) -> None:
    found = spans(work, workers)
    count = min(workers, len(work))
    assert len(found) == count and all(first < end for first, end in found)
    assert [first for first, _ in found] == [0, *(end for _, end in found[:-1])] and found[-1][1] == len(work)
    best = min(largest(work, cuts) for cuts in combinations(range(1, len(work)), count - 1))
    assert max(sum(work[first:end]) for first, end in found) <= best * (1 + 1e-9)


def test_only_the_sub_blocks_asked_for_are_trained() -> None:
    jobs = bld_plan(make_program(sub_blocks=("ffn",)), "decoupled")
    assert [j.sub_block for j in jobs] == ["ffn"] * 3 * 2
