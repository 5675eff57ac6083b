"""The whole CP-SAT model of a search as a file any OR-Tools reads."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

from ortools.sat.python.cp_model_helper import CpSatHelper

from puzzledsl.ir.nodes import Baseline, CpSat, Program
from puzzledsl.ir.tables import CostTable, ScoreTable
from puzzledsl.search.baselines import noop_problem, params_problem
from puzzledsl.search.box import Box
from puzzledsl.search.cpsat import Effort, model_of
from puzzledsl.search.exact import best_of
from puzzledsl.search.instance import Problem
from puzzledsl.search.problem import Builder, Problems
from puzzledsl.search.tables import tables_of

BATCH_S = 60.0


def cpsat_model(program: Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable]) -> bytes:
    """A serialised `CpModelProto`: one Boolean a column, named `layer/attention/ffn`, no column left out; the goal in integers
    (`minimise sum`; a goal that is maximised is negated). The same inputs give the same bytes. Where a score has runs of dropped
    layers, `layer/noop/noop#k` is the k-th layer of its run.

    Where batches are a decision, the model is of the batches that the best answer has. Preferences and distances between
    several solutions are not in it. Raises DiagnosticError when a table is missing.
    """
    builder = Builder(tables_of(program, search, costs, scores))
    problems = builder.all().changed(lambda problem, box: _as_solved(builder, problem, box))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.pb"  # any other suffix would write text
        if not CpSatHelper.write_model_to_file(model_of(_best_batches(problems)), str(path)):
            raise OSError(f"cannot write {path}")
        return path.read_bytes()


def _as_solved(builder: Builder, problem: Problem, box: Box) -> Problem:
    """The problem that the search's solver is exact about; heuristics are given the search's own."""
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
    """The problem at the batches of the best answer; at the smallest where there is none."""
    first = problems.boxes[0]
    if len(problems.boxes) == 1 and first.is_single:
        return problems.at(first)
    found = best_of(problems, Effort.of(BATCH_S))
    return problems.at(Box.at(found.batches if found.layers is not None else first.lows))
