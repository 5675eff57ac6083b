"""The integer problems of a search, for benchmarks and tests that ask the engines directly."""

from __future__ import annotations

from collections.abc import Mapping

from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import CostTable, ScoreTable
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.problem import Builder
from puzzledsl.search.tables import tables_of


def build_problems(
    program: Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable]
) -> list[Problem]:
    """One problem for each combination of candidate batches, smallest first."""
    return [*Builder(tables_of(program, search, costs, scores)).all()]


def build_problem(
    program: Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable]
) -> Problem:
    """The problem of a search with given batches; if the search chooses batches, that of the smallest ones."""
    return next(iter(Builder(tables_of(program, search, costs, scores)).all()))
