"""`replace_one(…, around: SEARCH, rounds: n)`: score inside the incumbent child, solve again with those scores, and so on.

A sum of replace-1-block scores is exact for one replacement, and the less so the more of them a child has. Scores made inside a
child are exact for that child and its neighbours, which is where the next answer is looked for.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from puzzledsl.files import read_sealed, write_sealed
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import BldJob, ModelDefinition, ScoreTable, Solution
from puzzledsl.plan.model import model_definition
from puzzledsl.runs.context import Context
from puzzledsl.runs.tasks import best_solution, costs_of, scores_of
from puzzledsl.search.needs import needed
from puzzledsl.search.solve import solve_search

Measure = Callable[[ModelDefinition, Path], ScoreTable]
"""A child -> the table of scores inside it; the path is for unfinished work."""


def scores_around(
    ctx: Context, name: str, jobs: tuple[BldJob, ...], measure: Measure, work: Path
) -> ScoreTable:
    """The table of the last round. Finished rounds are kept in `work` until all are done.

    Raises DiagnosticError (NoSolution) where the search has no answer to score around.
    """
    method = ctx.program.scores[name].method
    assert isinstance(method, nodes.ReplaceOne) and method.around is not None
    solution = best_solution(ctx, method.around).solutions[0]
    for number in range(method.rounds):
        child = model_definition(ctx.program, method.around, solution, jobs)
        table = _round(work / f"round-{number}", child, measure)
        again = number + 1 < method.rounds
        log = {"score": name, "round": number + 1, "offset": table.offset, "child": child.digest()}
        ctx.progress.log("rescored", **log)
        if again:
            solution = _solved_with(ctx, method.around, method, table) or solution
    shutil.rmtree(work, ignore_errors=True)
    return table


def _round(work: Path, child: ModelDefinition, measure: Measure) -> ScoreTable:
    kept = work.with_suffix(".json")
    if (content := read_sealed(kept)) is not None:
        return ScoreTable.from_json(content)
    table = measure(child, work)
    write_sealed(kept, table.canonical_json())
    return table


def _solved_with(ctx: Context, search: str, method: nodes.ReplaceOne, table: ScoreTable) -> Solution | None:
    """The answer of the search where its own replace-1-block scores of this metric are replaced by the table."""
    scores = scores_of(ctx, search)
    for name in needed(ctx.program, search).scores:
        own = ctx.program.scores[name].method
        if isinstance(own, nodes.ReplaceOne) and own.metric == method.metric:
            scores[name] = table.model_copy(update={"score": name})
    costs = costs_of(ctx, ctx.program.searches[search].space)
    solutions = solve_search(ctx.program, search, costs, scores).solutions
    return solutions[0] if solutions else None
