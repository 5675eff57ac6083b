"""The exported model is the search: plain OR-Tools finds the same optimum in it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.solve import cpsat_model, solve_search
from puzzledsl.search.tables import tables_of
from tests.oracles import objective
from tests.search.instances import Instance, problems, quick
from tests.search.run_instances import run_instance


def solve_plainly(model: bytes) -> list[str] | None:
    """The names of the columns that OR-Tools' defaults (one worker) choose."""
    from google.protobuf import text_format
    from ortools.sat import cp_model_pb2
    from ortools.sat.python import cp_model

    proto = cp_model_pb2.CpModelProto.FromString(model)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    plain = cp_model.CpModel()
    plain.proto.parse_text_format(text_format.MessageToString(proto))
    status = solver.solve(plain)
    if status == cp_model.INFEASIBLE:
        return None
    assert status == cp_model.OPTIMAL
    values = solver.response_proto.solution
    return [
        v.name for v, chosen in zip(proto.variables, values, strict=True) if chosen and v.name[0].isdigit()
    ]


def check(args: Any) -> None:
    result = solve_search(*args)
    names = solve_plainly(cpsat_model(*args))
    if names is None:
        assert result.status == "infeasible"
        return
    choices = sorted((int(i), a, f.split("#")[0]) for i, a, f in (name.split("/") for name in names))
    layers = tuple(LayerAssignment(attention=a, ffn=f) for _, a, f in choices)
    tables = tables_of(*args)
    batches = {n: result.solutions[0].batches[n] for n in tables.scenarios}
    child = Child(tables, layers, batches)
    assert all(child.meets(r) for r in tables.search.requirements)
    assert float(objective(child)) == result.objective


def of_runs(seed: int) -> Instance:
    return run_instance(seed).with_search(solutions=1)


@pytest.mark.parametrize(
    "strategy", [problems(), st.builds(of_runs, st.integers(0, 10**6))], ids=["any", "runs"]
)
@quick(25)
@given(st.data())
def test_plain_or_tools_finds_the_same_optimum(
    strategy: st.SearchStrategy[Instance], data: st.DataObject
) -> None:
    check(data.draw(strategy).args)
