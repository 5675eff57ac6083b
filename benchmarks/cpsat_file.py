"""The CP-SAT model of a search as a file of OR-Tools, to check its answer with plain OR-Tools."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import CostTable, ScoreTable
from puzzledsl.search.batches import best_of
from puzzledsl.search.cpsat.solve import model_of
from puzzledsl.search.effort import Effort
from puzzledsl.search.problem.box import Box
from puzzledsl.search.problem.problem import Builder
from puzzledsl.search.tables import tables_of


def cpsat_model(program: Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable]) -> bytes:
    """Return a serialised `CpModelProto` of a search, complete. The same inputs give the same bytes.

    It has one Boolean for every column, named `layer/attention/ffn`. If a score has runs of dropped layers, `layer/noop/noop#k`
    is the k-th layer of its run. The objective is in integers and minimised; one that is maximised is negated.

    If the search chooses batches, the model is that of the best answer's batches, or of the smallest if none is found.
    Preferences and distances between several solutions are not in it. Raises DiagnosticError if a table is missing.
    """
    from ortools.sat.python.cp_model_helper import CpSatHelper

    problems = Builder(tables_of(program, search, costs, scores)).all()
    box = problems.boxes[0]
    if len(problems.boxes) > 1 or not box.is_single:
        found = best_of(problems, Effort.of(float(problems.tables.search.solver.time_s)))
        box = Box.at(box.lows if found.layers is None else found.batches)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.pb"  # any other suffix would write text
        if not CpSatHelper.write_model_to_file(model_of(problems.at(box)), str(path)):
            raise OSError(f"cannot write {path}")
        return path.read_bytes()
