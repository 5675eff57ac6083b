"""`replace_one(…, around: SEARCH, rounds: n)`: score inside the incumbent child, solve again with those scores, and so on.

A sum of replace-1-block scores is exact for one replacement, and the less so the more of them a child has. Scores made inside a
child are exact for that child and its neighbours, which is where the next answer is looked for.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from puzzledsl.base.checksums import read_sealed, write_sealed
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import BldJob, ModelDefinition, ScoreTable, Solution
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.inputs import best_solution, costs_of, scores_of
from puzzledsl.pipeline.rounds.penalties import Move, best_move
from puzzledsl.search.needs import needed
from puzzledsl.search.solve import solve_search

Measure = Callable[[ModelDefinition, Path], ScoreTable]
"""A child -> the table of scores inside it; the path is for unfinished work."""
Judge = Callable[[Sequence[ModelDefinition]], list[float]]
"""Children -> how much worse than the parent each is, measured as a whole on the score's text."""
Unseen = Callable[[Sequence[ModelDefinition]], list[float] | None]
"""The same on text that is not scored; None where there is too little of it, and for tasks."""


def scores_around(
    ctx: Context,
    name: str,
    jobs: tuple[BldJob, ...],
    measure: Measure,
    judge: Judge,
    unseen: Unseen,
    work: Path,
) -> ScoreTable:
    """The table of the last round. Finished rounds are kept in `work` until all are done.

    A round never makes what is measured worse: see `penalties`.
    Raises DiagnosticError (NoSolution) where the search has no answer to score around.
    """
    from puzzledsl.child.definition import model_definition

    method = ctx.program.scores[name].method
    assert isinstance(method, nodes.ReplaceOne) and method.around is not None
    search = method.around
    solution = best_solution(ctx, search).solutions[0]

    def define(answer: Solution) -> ModelDefinition:
        return model_definition(ctx.program, search, answer, jobs)

    def solve(table: ScoreTable) -> Solution | None:
        return _solved_with(ctx, search, method, table)

    def judge_all(answers: Sequence[Solution]) -> list[float]:
        return judge([define(answer) for answer in answers])

    for number in range(method.rounds):
        kept = work / f"round-{number}.json"
        if (content := read_sealed(kept)) is not None:
            table = ScoreTable.from_json(content)
            solution = solve(table) or solution
            continue
        move = best_move(measure(define(solution), kept.with_suffix("")), solution, solve, judge_all)
        _tell(ctx, name, number + 1, move, unseen([define(solution), define(move.solution)]))
        table, solution = move.table, move.solution
        write_sealed(kept, table.canonical_json())
    shutil.rmtree(work, ignore_errors=True)
    return table


def _tell(ctx: Context, name: str, number: int, move: Move, unseen: list[float] | None) -> None:
    text = f"score `{name}`, round {number}: {move.before:.4g} became {move.after:.4g} on the scored text"
    fields = {"score": name, "round": number, "before": move.before, "after": move.after}
    if unseen is not None:
        before, after = unseen
        text += f", {before:.4g} became {after:.4g} on as much text that is not scored"
        fields |= {"unseen_before": before, "unseen_after": after}
    ctx.progress.log("rescored", text=text, **fields)


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
