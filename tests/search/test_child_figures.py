"""Figures of any child: what enumeration over batches finds, and what a solution of the solver has."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import given

from puzzledsl.search.answer import child_figures
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import Tables, tables_of
from tests.oracles import acceptable, all_children, children_at_own_batches, objective, violations
from tests.search.auto_instances import auto_searches
from tests.search.instances import Instance, problems, quick


def are_those_of_enumeration(tables: Tables, children: list[Child]) -> None:
    """Assert for each choice of layers that `child_figures` takes its best acceptable batches, and says if there are none."""
    by_layers: dict[Any, list[Child]] = defaultdict(list)
    for child in children:
        by_layers[child.layers].append(child)
    better = min if tables.search.sense == "minimize" else max
    for layers, candidates in by_layers.items():
        figures, good = child_figures(tables, layers), [c for c in candidates if acceptable(c)]
        assert figures.feasible == bool(good)
        if good:
            assert figures.objective == better(map(objective, good))
        assert [r.holds for r in figures.requirements] == [
            Child(tables, layers, figures.batches).meets(r) for r in tables.search.requirements
        ]


@quick(20)
@given(problems(max_layers=3))
def test_listed_batches_are_tried(instance: Instance) -> None:
    tables = tables_of(*instance.args)
    are_those_of_enumeration(tables, [*all_children(tables)])


@quick(20)
@given(auto_searches(most=8))
def test_an_automatic_batch_is_the_largest_that_fits(instance: Instance) -> None:
    tables = tables_of(*instance.args)
    are_those_of_enumeration(tables, [*children_at_own_batches(tables)])


@quick(20)
@given(problems())
def test_a_solution_has_these_figures(instance: Instance) -> None:
    tables = tables_of(*instance.args)
    for solution in solve_search(*instance.args).solutions:
        given = {name: solution.batches[name] for name in tables.scenarios}
        figures = child_figures(tables, solution.layers, given)
        assert figures.feasible and violations(*instance.args, solution) == []
        assert figures.batches == solution.batches and float(figures.objective) == solution.objective
        assert {name: float(value) for name, value in figures.metrics.items()} == solution.metrics
