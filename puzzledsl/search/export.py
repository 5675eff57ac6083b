"""Export the complete CP-SAT model of a search as a serialised protocol buffer for OR-Tools."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

from ortools.sat.python.cp_model_helper import CpSatHelper

from puzzledsl.ir.nodes import Baseline, CpSat, Program
from puzzledsl.ir.tables import CostTable, ScoreTable
from puzzledsl.search.baselines.baselines import BASELINE_S, noop_problem, params_problem
from puzzledsl.search.batches.exact import best_of
from puzzledsl.search.cpsat.model import model_of
from puzzledsl.search.effort import Effort
from puzzledsl.search.problem.box import Box
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.problem import Builder, Problems
from puzzledsl.search.tables import tables_of


def cpsat_model(program: Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable]) -> bytes:
    """Return a serialised `CpModelProto` of a search. The same inputs give the same bytes.

    It has one Boolean for every column, named `layer/attention/ffn`. If a score has runs of dropped layers, `layer/noop/noop#k`
    is the k-th layer of its run. The objective is in integers and minimised; one that is maximised is negated.

    If the search chooses batches, the model is that of the best answer's batches. Preferences and distances between several
    solutions are not in it. Raises DiagnosticError if a table is missing.
    """
    builder = Builder(tables_of(program, search, costs, scores))
    problems = builder.all().changed(lambda problem, box: _as_solved(builder, problem, box))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.pb"  # any other suffix would write text
        if not CpSatHelper.write_model_to_file(model_of(_best_batches(problems)), str(path)):
            raise OSError(f"cannot write {path}")
        return path.read_bytes()


def _as_solved(builder: Builder, problem: Problem, box: Box) -> Problem:
    """Return the problem that the search's solver solves exactly; for heuristics, the search's own problem."""
    match builder.tables.search.solver:
        case Baseline(kind="max_params"):
            return params_problem(builder, problem, box)
        case Baseline(kind="noop_only"):
            return noop_problem(problem)
        case CpSat() | Baseline():
            return problem
        case solver:
            assert_never(solver)


def _best_batches(problems: Problems) -> Problem:
    """Return the problem at the batches of the best answer; at the smallest batches if none is found."""
    first = problems.boxes[0]
    if len(problems.boxes) == 1 and first.is_single:
        return problems.at(first)
    match problems.tables.search.solver:
        case CpSat(time_s=time_s):
            found = best_of(problems, Effort.of(float(time_s)))
        case Baseline():
            found = best_of(problems, Effort.of(BASELINE_S))
    return problems.at(Box.at(found.batches if found.layers is not None else first.lows))
