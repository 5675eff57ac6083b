"""A solution and the jobs of a program define a child: the piece of every sub-block."""

from collections.abc import Callable

import pytest

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.definition import model_definition
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import LayerAssignment, Solution
from puzzledsl.plan.bld import bld_plan

Build = Callable[..., Program]


def solution(*pairs: str) -> Solution:
    layers = [LayerAssignment(attention=p.split("/")[0], ffn=p.split("/")[1]) for p in pairs]
    return Solution(objective=0, layers=tuple(layers))


NAMES = ("gqa1/mlp32", "parent/noop", "noop/linear")
CHILD = solution(*NAMES)


def test_every_trainable_choice_gets_its_piece(program: Build) -> None:
    whole = program()
    jobs = bld_plan(whole, "decoupled")
    by_id = {j.id: j for j in jobs}
    child = model_definition(whole, "best", CHILD, jobs)
    assert (child.name, child.search, child.parent) == ("best", "best", "p")
    assert [f"{x.attention.name}/{x.ffn.name}" for x in child.layers] == [*NAMES]
    for index, layer in enumerate(child.layers):
        for alternative, piece in ((layer.attention, layer.attention_piece), (layer.ffn, layer.ffn_piece)):
            assert (piece is None) == (alternative.name in ("parent", "noop"))
            if piece is not None:
                job = by_id[piece]
                assert job.layer == index
                assert alternative in (job.attention, job.ffn)


def test_pairs_trained_together_are_preferred(program: Build) -> None:
    whole = program()
    coupled = bld_plan(whole, "coupled")
    child = model_definition(whole, "best", CHILD, (*bld_plan(whole, "decoupled"), *coupled))
    first, second, third = child.layers
    by_id = {j.id: j for j in coupled}
    assert by_id[first.block_piece].layer == 0
    assert by_id[third.block_piece].ffn == third.ffn
    assert second.block_piece is None  # parent/noop: nothing to train
    assert all(x.attention_piece is None and x.ffn_piece is None for x in child.layers)


def test_a_missing_piece_says_where_and_what_to_write(program: Build) -> None:
    whole = program(sub_blocks=("ffn",))
    chosen = solution("gqa1/noop", "noop/mlp32", "gqa1/parent")
    with pytest.raises(DiagnosticError, match="chose attention `gqa1` in layers 0, 2") as caught:
        model_definition(whole, "best", chosen, bld_plan(whole, "decoupled"))
    (diagnostic,) = caught.value.diagnostics
    assert "train = attention + ffn" in diagnostic.help
    assert diagnostic.span is not None and diagnostic.span.line == 3


def test_a_piece_that_no_bld_makes_is_asked_for(program: Build) -> None:
    whole = program(sub_blocks=("attention",))
    plan = bld_plan(whole, "decoupled")
    chosen = solution("gqa1/noop", "noop/mlp32", "gqa1/mlp32")
    with pytest.raises(DiagnosticError, match=r"chose ffn `mlp32` in layers 1\.\.2"):
        model_definition(whole, "best", chosen, plan)
    without = whole.model_copy(update={"blds": {}})
    with pytest.raises(DiagnosticError) as caught:
        model_definition(without, "best", chosen, ())
    help_line = "declare `bld pieces of wide { train = attention + ffn, … }`"
    assert [d.help for d in caught.value.diagnostics] == [help_line] * 2


def test_a_solution_of_another_space_is_refused(program: Build) -> None:
    with pytest.raises(ValueError, match="gqa2/parent"):
        model_definition(program(), "best", solution("gqa2/parent", "noop/noop", "noop/noop"), ())
    with pytest.raises(ValueError, match="zip"):
        model_definition(program(), "best", solution("parent/parent"), ())
