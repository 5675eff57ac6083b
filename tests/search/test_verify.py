"""`verify` accepts every answer of the solver and rejects every corrupted one; it needs no solver."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from puzzledsl.ir.alternatives import name_of
from puzzledsl.ir.tables import LayerAssignment, Solution
from puzzledsl.search.answer import solution_of
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import tables_of
from puzzledsl.search.verify import verify
from tests.oracles import acceptable, all_children
from tests.search.instances import Instance, problems

quick: Any = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))


def solved(instance: Instance) -> Solution:
    result = solve_search(*instance.args)
    assume(result.solutions)
    return result.solutions[0]


@quick
@given(problems(max_layers=3))
def test_verify_says_of_every_child_whether_it_is_acceptable(instance: Instance) -> None:
    tables = tables_of(*instance.args)
    for child in all_children(tables):
        solution = solution_of(tables, child.layers, dict(child.batches))
        assert (verify(*instance.args, solution) == []) == acceptable(child)


@quick
@given(problems(), st.data())
def test_another_choice_with_the_old_figures_is_found_out(instance: Instance, data: st.DataObject) -> None:
    solution = solved(instance)
    tables = tables_of(*instance.args)
    layer = data.draw(st.integers(0, len(solution.layers) - 1))
    choice = tables.layers[layer]
    other = LayerAssignment(
        attention=name_of(data.draw(st.sampled_from(choice.attention))),
        ffn=name_of(data.draw(st.sampled_from(choice.ffn))),
    )
    layers = (*solution.layers[:layer], other, *solution.layers[layer + 1 :])
    corrupted = solution.model_copy(update={"layers": layers})
    batches = {name: solution.batches[name] for name in tables.scenarios}
    honest = solution_of(tables, layers, batches)
    assume(honest != corrupted or verify(*instance.args, honest))
    assert verify(*instance.args, corrupted)


@quick
@given(problems(), st.data(), st.sampled_from([-1.0, 1.0, 1e-6]))
def test_any_changed_figure_is_found_out(instance: Instance, data: st.DataObject, by: float) -> None:
    solution = solved(instance)
    name = data.draw(st.sampled_from(["objective", *sorted(solution.metrics)]))
    if name == "objective":
        corrupted = solution.model_copy(update={"objective": solution.objective + by})
        assume(corrupted.objective != solution.objective)
    else:
        changed = {**solution.metrics, name: solution.metrics[name] + by}
        assume(changed != solution.metrics)
        corrupted = solution.model_copy(update={"metrics": changed})
    assert verify(*instance.args, corrupted)


@quick
@given(problems(), st.sampled_from(["attention", "ffn"]))
def test_a_choice_outside_the_space_is_found_out(instance: Instance, part: str) -> None:
    solution = solved(instance)
    wrong = solution.layers[0].model_copy(update={part: "gqa3"})
    corrupted = solution.model_copy(update={"layers": (wrong, *solution.layers[1:])})
    assert [v.kind for v in verify(*instance.args, corrupted)] == ["choice"]


@quick
@given(problems())
def test_a_missing_layer_metric_or_batch_is_found_out(instance: Instance) -> None:
    solution = solved(instance)
    for changes in (
        {"layers": solution.layers[1:]},
        {"batches": {}},
        {"batches": {**solution.batches, "chat": 64}},
        {"metrics": {k: v for k, v in solution.metrics.items() if k != "params"}},
    ):
        assert verify(*instance.args, solution.model_copy(update=changes))


def test_verifying_imports_no_solver_and_no_array_library() -> None:
    code = "import sys, puzzledsl.search.verify; print({'ortools', 'numpy', 'torch'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
