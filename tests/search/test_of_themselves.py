"""Small searches whose answers are known: at a bound itself, of several answers, with gaps in tables, of files that cannot be."""

import operator
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir.nodes import CountTerm, Frontier, LayerChoice, ParamsTerm
from puzzledsl.search import answer
from puzzledsl.search.batches import Found
from puzzledsl.search.problem.metrics import Box, Child
from puzzledsl.search.problem.problem import Builder
from puzzledsl.search.solve import as_csv, cpsat_model, solve_frontier, solve_search
from puzzledsl.search.tables import tables_of
from puzzledsl.search.verify import Model
from tests.oracles import all_children, objective
from tests.search.instances import ATTENTION, FFN, HERE, Instance, alone, chat, plain_instance, require

CHOICE = LayerChoice(attention=ATTENTION[:2], ffn=FFN[:2])
PLAIN = plain_instance((CHOICE,) * 2)
OPS = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt, "==": operator.eq}


def children(instance: Instance) -> list[Child]:
    tables = tables_of(*instance.args)
    return [Child(tables, child.layers, {"chat": 2}) for child in all_children(tables)]


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("metric", ["params", "memory", "throughput"])
def test_a_child_at_the_bound_itself_meets_it_unless_it_is_strict(op: str, metric: str) -> None:
    term = ParamsTerm() if metric == "params" else chat(metric)
    found = {child.linear(alone(term)) for child in children(PLAIN)}
    for bound in sorted(found):
        instance = PLAIN.with_search(requirements=(require(term, op, bound),), objective=alone(ParamsTerm()))
        met = [child for child in children(instance) if OPS[op](child.linear(alone(term)), bound)]
        result = solve_search(*instance.args)
        assert result.status == ("optimal" if met else "infeasible")
        tables, problem = tables_of(*instance.args), Builder(tables_of(*instance.args)).at({"chat": 2})
        for child in children(instance):
            is_met = child.layers in [each.layers for each in met]
            layers: Any = child.layers
            model = Model(instance.program, tables.costs, tables.scores, layers, child.batches)
            chosen = problem.indices(child.layers)
            assert chosen is not None and problem.is_feasible(chosen) == is_met
            assert all(map(model.meets, instance.search.requirements)) == is_met
        if met:
            assert result.objective == float(min(map(objective, met)))


@pytest.mark.parametrize("asked", [3, 4, 5])
def test_there_are_no_more_answers_than_children(asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer of two by two alternatives has four; an infeasible search has one answer. Those that time ends are not proven."""
    one = plain_instance((CHOICE,))
    result = solve_search(*one.with_search(solutions=asked, apart=1).args)
    assert result.status == "optimal"
    best = sorted(children(one), key=objective)[:asked]
    assert [s.layers for s in result.solutions] == [child.layers for child in best]
    none = one.with_search(solutions=asked, requirements=(require(ParamsTerm(), "<", 0),))
    assert solve_search(*none.args).status == "infeasible"
    turns = iter([answer.best_meeting_all] * (asked - 1) + [lambda *_: Found(None, {}, None, False)])
    monkeypatch.setattr(answer, "best_meeting_all", lambda *given: next(turns)(*given))
    result = solve_search(*one.with_search(solutions=asked, apart=1).args)
    assert (len(result.solutions), result.status) == (asked - 1, "feasible")


def test_a_pair_of_the_parents_own_needs_no_entry() -> None:
    pairs = tuple({"gqa2/parent": 0.5, "parent/mlp16": 0.25, "gqa2/mlp16": 0.75} for _ in range(2))
    table = PLAIN.scores["kl"].model_copy(
        update={"unit": "block", "pairs": pairs, "attention": (), "ffn": ()}
    )
    instance = Instance(PLAIN.program, PLAIN.costs, {"kl": table})
    result = solve_search(*instance.args)
    assert result.objective == 0
    tables = tables_of(*instance.args)
    assert [tables.entry("kl", "pairs", key, 1) for key in ("parent/parent", "gqa2/mlp16")] == [0.0, 0.75]
    with pytest.raises(DiagnosticError):
        tables.entry("kl", "pairs", "parent/linear", 1)


@pytest.mark.parametrize(
    ("metric", "column"), [("memory", "memory[bytes]"), ("latency", "latency[us]"), ("flops", "latency[us]")]
)
def test_a_figure_that_a_table_lacks_is_named_with_its_column(metric: Any, column: str) -> None:
    (costs,) = PLAIN.costs.scenarios["chat"]
    unknown = costs.model_copy(update={"unknown": frozenset({metric})})
    table = PLAIN.costs.model_copy(update={"scenarios": {"chat": (unknown,)}})
    asked = PLAIN.with_search(requirements=(require(chat(metric), "<=", 1),))
    with pytest.raises(DiagnosticError) as error:
        solve_search(asked.program, "best", table, PLAIN.scores)
    (told,) = error.value.diagnostics
    assert f"`{column}`" in f"{told.message} {told.help}" or column in told.help


def test_a_frontier_names_what_it_sweeps() -> None:
    count = CountTerm(sub_block="ffn", alternatives=("mlp16",), layers=(0, 1))
    heads = []
    for term in (chat("memory"), ParamsTerm(), count):
        given: Any = {"term": term, "low": Fraction(1), "high": Fraction(10**6), "points": 2, "where": HERE}
        frontier = Frontier(name="f", search="best", times_parent=False, **given)
        program = PLAIN.program.model_copy(update={"frontiers": {"f": frontier}})
        result = solve_frontier(program, "f", PLAIN.costs, PLAIN.scores)
        heads.append(as_csv(program, result).split(",")[0])
    assert heads == ["bound:chat.memory[bytes]", "bound:params", "bound:count"]


def test_a_model_that_cannot_be_written_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    from ortools.sat.python.cp_model_helper import CpSatHelper

    monkeypatch.setattr(CpSatHelper, "write_model_to_file", lambda model, path: False)
    with pytest.raises(OSError, match=r"cannot write .*model\.pb"):
        cpsat_model(*PLAIN.args)


def test_a_box_has_the_batches_at_its_ends() -> None:
    box = Box(("a", "b"), (2, 3), (4, 3))
    assert [batch for batch in range(1, 6) if box.has({"a": batch, "b": 3})] == [2, 3, 4]
    assert not box.has({"a": 3, "b": 4}) and not box.has({"a": 3, "b": 2})


@pytest.mark.parametrize("sense", ["minimize", "maximize"])
def test_the_largest_sum_below_a_rank_is_the_last_that_is(sense: Any) -> None:
    """Of sums from the least to the largest that the columns have; one less than the least where none is."""
    problem = Builder(tables_of(*PLAIN.with_search(sense=sense, objective=alone(ParamsTerm())).args)).at(
        {"chat": 2}
    )
    least, most = int(problem.columns.least(problem.goal.values).sum()), problem.largest_sum
    ranks = [problem.goal.rank(total) for total in range(least, most + 1)]
    assert ranks == sorted(ranks) and len(ranks) > 50
    for rank in (ranks[0] - 1, ranks[0], ranks[7], ranks[7] + Fraction(1, 10**6), ranks[-1], ranks[-1] + 1):
        assert problem.largest_below(rank) == least - 1 + sum(own < rank for own in ranks)
        assert problem.largest_below(rank, ties=True) == least - 1 + sum(own <= rank for own in ranks)
    assert problem.largest_below(None) == most


def test_an_equation_that_is_not_met_has_the_nearest_value_on_either_side() -> None:
    sizes = sorted({child.linear(alone(ParamsTerm())) for child in children(PLAIN)})
    for low, high in pairwise(sizes):
        for part, nearest in ((Fraction(1, 4), low), (Fraction(3, 4), high)):
            bound = low + (high - low) * part
            asked = PLAIN.with_search(requirements=(require(ParamsTerm(), "==", bound, text=str(bound)),))
            result = solve_search(*asked.args)
            assert result.status == "infeasible"
            (conflict,) = result.conflict
            assert (conflict.reachable, conflict.proven, conflict.frees) == (str(nearest), True, True)
