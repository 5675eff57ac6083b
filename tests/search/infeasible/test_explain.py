"""An infeasible search names a minimal conflict, and how far each of its requirements could go."""

from fractions import Fraction

import pytest
from hypothesis import Phase, assume, given

from benchmarks.explain import explained
from puzzledsl.base.units import parse_quantity
from puzzledsl.ir.logic import compared
from puzzledsl.ir.nodes import LayerChoice, LinearRequirement, ParamsTerm
from puzzledsl.ir.tables import SearchResult
from puzzledsl.search.batches import Found
from puzzledsl.search.infeasible import explain
from puzzledsl.search.infeasible.verdicts import in_users_unit
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import tables_of
from tests.oracles import acceptable, all_children, objective
from tests.search.instances import (
    ATTENTION,
    FFN,
    Instance,
    chat,
    plain_instance,
    problems,
    quick,
    require,
)

# a failing case is not shrunk: each takes dozens of solves
generated = quick(20, phases=[Phase.explicit, Phase.reuse, Phase.generate])


def explained_search(instance: Instance) -> tuple[SearchResult, list[Child], list[int], frozenset[int]]:
    """The result of an infeasible search, all children, the lines of its requirements, and the numbers of those in conflict."""
    result = solve_search(*instance.args)
    assume(result.status == "infeasible")
    lines = [r.where.line for r in instance.search.requirements]
    conflict = frozenset(lines.index(item.line) for item in result.conflict)
    return result, [*all_children(tables_of(*instance.args))], lines, conflict


@generated
@given(problems())
def test_a_conflict_is_minimal(instance: Instance) -> None:
    result, children, lines, conflict = explained_search(instance)
    every = frozenset(range(len(lines)))
    if not conflict:
        assert not any(acceptable(c, without=every) for c in children)
        return
    assert not any(acceptable(c, without=every - conflict) for c in children)
    for index, item in zip(sorted(conflict), result.conflict, strict=True):
        without = (every - conflict) | {index}
        assert any(acceptable(c, without=without) for c in children)
        assert item.frees == any(acceptable(c, without=frozenset({index})) for c in children)


@generated
@given(problems())
def test_what_is_reachable_is_reached_and_not_enough(instance: Instance) -> None:
    result, children, lines, conflict = explained_search(instance)
    kept = frozenset(range(len(lines))) - conflict
    for item in result.conflict:
        index = lines.index(item.line)
        requirement = instance.search.requirements[index]
        if not isinstance(requirement, LinearRequirement):
            assert item.reachable == ""
            continue
        if requirement.parent_ratio is None or len(instance.costs.scenarios["chat"]) > 1:
            continue
        others = [c for c in children if acceptable(c, without=kept | {index})]
        parent = others[0].parent().linear(requirement.left)
        nearest = min(
            (c.linear(requirement.left) for c in others),
            key=lambda v: abs(v - requirement.parent_ratio * parent),
        )
        written = in_users_unit(requirement, nearest, parent)
        assert written is not None and item.proven
        if requirement.op != "==":  # two values may be as near
            assert item.reachable == written.text
        assert not compared((nearest, nearest), requirement.op, requirement.parent_ratio * parent)


@generated
@given(problems())
def test_the_relaxation_has_a_solution_and_moves_as_little_as_one_bound_must(instance: Instance) -> None:
    result, children, lines, _ = explained_search(instance)
    every = frozenset(range(len(lines)))
    if result.relaxation is None:
        assert not any(acceptable(c, without=every) for c in children)
        return
    changed = frozenset(lines.index(change.line) for change in result.relaxation.changes)
    shown = [c for c in children if c.layers == result.relaxation.layers]
    kept = [c for c in shown if acceptable(c, without=changed)]
    assert float(objective(kept[0])) == result.relaxation.objective or len(kept) > 1
    for change in result.relaxation.changes:
        requirement = instance.search.requirements[lines.index(change.line)]
        if change.bound is None:
            continue
        assert isinstance(requirement, LinearRequirement)
        moved = moved_to(requirement, change.bound)
        assert any(child.meets(moved) for child in kept)
    single = [i for i in every if any(acceptable(c, without=frozenset([i])) for c in children)]
    assert (len(result.relaxation.changes) == 1) == bool(single)


def moved_to(requirement: LinearRequirement, literal: str) -> LinearRequirement:
    """The requirement with the bound that a literal means."""
    value = parse_quantity(literal.removeprefix("-")).value * (-1 if literal[0] == "-" else 1)
    field = "bound" if requirement.parent_ratio is None else "parent_ratio"
    return requirement.model_copy(update={field: value})


LAYERS = (LayerChoice(attention=ATTENTION, ffn=FFN),) * 2


def test_the_child_that_reached_a_bound_shows_the_way_out_where_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requirements = (
        require(chat("throughput"), ">=", ratio="2.17", line=41, text="2.17x"),
        require(ParamsTerm(), ">=", ratio="0.9", line=44, text="0.9x"),
    )
    instance = plain_instance(LAYERS, requirements=requirements)
    in_time = solve_search(*instance.args).relaxation
    monkeypatch.setattr(explain, "best_meeting_all", lambda *_: Found(None, {}, None, False))
    late = solve_search(*instance.args).relaxation
    assert in_time is not None and late is not None and late.changes == in_time.changes


@pytest.mark.parametrize("seed", range(3))
def test_conflicts_of_programs_are_minimal_for_plain_cpsat(seed: int) -> None:
    """`python -m benchmarks.explain` does a hundred, and times them."""
    found = explained(seed, layers=10)
    assert found.is_minimal and found.result.conflict_minimal
    assert 0 < len(found.result.conflict) <= found.requirements


@pytest.mark.parametrize(
    ("op", "text", "unit", "value", "shown"),
    [
        ("<=", "50%", "", Fraction(2, 3), "66.7%"),
        (">=", "50%", "", Fraction(2, 3), "66.6%"),
        ("<=", "3", "", Fraction(7), "7"),
        ("<", "3", "", Fraction(7), "8"),
        ("<=", "limit", "seconds", Fraction(1, 3), "333.4ms"),
        (">=", "limit", "tokens_per_s", Fraction(200), "200 tok/s"),
        (">=", "limit", "bytes", Fraction(3 * 2**29), "1.5GiB"),
        ("<=", "5GB", "bytes", Fraction(6 * 10**9), "6GB"),
        ("<=", "5s", "bytes", Fraction(2**30), "1GiB"),  # a name that looks like a literal of something else
        (">=", "limit", "", Fraction(5_861_234_567), "5.861B"),
    ],
)
def test_a_value_in_the_unit_of_the_bound(op: str, text: str, unit: str, value: Fraction, shown: str) -> None:
    """Rounded away from the bound: the literal is met by what reaches the value."""
    written = in_users_unit(require(chat("latency"), op, 1, text=text, unit=unit), value, Fraction(1))
    assert written is not None and written.text == shown
    assert compared((value, value), op, written.value)


def test_there_is_no_ratio_of_nothing() -> None:
    requirement = require(chat("latency"), "<=", ratio="0.5")
    assert in_users_unit(requirement, Fraction(3), Fraction(0)) is None
    written = in_users_unit(requirement, Fraction(2), Fraction(3))
    assert written is not None and written.text == "0.667x"
