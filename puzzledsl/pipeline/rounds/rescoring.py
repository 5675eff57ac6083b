"""`replace_one(…, around: SEARCH, rounds: n)`: score inside the incumbent child, solve again with those scores, and so on.

A sum of replace-1-block scores is exact for one replacement, and the less so the more of them a child has. Scores made inside a
child are exact for that child and its neighbours, which is where the next answer is looked for.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from puzzledsl.base.checksums import read_sealed, write_sealed
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import ModelDefinition, ScoreTable, Solution
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.inputs import best_solution, costs_of, scores_of
from puzzledsl.pipeline.rounds.penalties import Move, best_move
from puzzledsl.search.needs import needed
from puzzledsl.search.solve import solve_search

if TYPE_CHECKING:
    from puzzledsl.scoring.inputs import ScoreInputs


def scores_around(ctx: Context, inputs: ScoreInputs, search: str) -> ScoreTable:
    """Return the table of the last round. Finished rounds are kept in `inputs.work` until all are done.

    A round never makes the measured loss worse: see `penalties`.
    Raises DiagnosticError (NoSolution) where the search has no answer to score around.
    """
    from puzzledsl.child.definition import model_definition
    from puzzledsl.scoring.run import run_score, score_children

    solution = best_solution(ctx, search).solutions[0]

    def define(answer: Solution) -> ModelDefinition:
        return model_definition(ctx.program, search, answer, tuple(inputs.jobs))

    def solve(table: ScoreTable) -> Solution | None:
        return _solved_with(ctx, search, inputs.method, table)

    def judge(answers: Sequence[Solution]) -> list[float]:
        return score_children(inputs, [define(answer) for answer in answers])

    for number in range(inputs.method.rounds):
        kept = inputs.work / f"round-{number}.json"
        if (content := read_sealed(kept)) is not None:
            table = ScoreTable.from_json(content)
            solution = solve(table) or solution
            continue
        measured = run_score(replace(inputs, work=kept.with_suffix(""), around=define(solution)))
        move = best_move(measured, solution, solve, judge)
        unseen = _on_unseen_text(inputs, [define(solution), define(move.solution)])
        _log_round(ctx, inputs.score, number + 1, move, unseen)
        table, solution = move.table, move.solution
        write_sealed(kept, table.canonical_json())
    shutil.rmtree(inputs.work, ignore_errors=True)
    return table


def _on_unseen_text(inputs: ScoreInputs, children: Sequence[ModelDefinition]) -> list[float] | None:
    """Return the children's losses on text that is not scored; None where there is too little of it, and for tasks."""
    from puzzledsl.data.errors import NotEnoughText
    from puzzledsl.scoring.run import score_children

    try:
        return None if inputs.method.metric == "accuracy" else score_children(inputs, children, unseen=True)
    except DiagnosticError as error:
        if not isinstance(error.diagnostics[0], NotEnoughText):
            raise
        return None


def _log_round(ctx: Context, name: str, number: int, move: Move, unseen: list[float] | None) -> None:
    text = f"score `{name}`, round {number}: {move.before:.4g} became {move.after:.4g} on the scored text"
    fields = {"score": name, "round": number, "before": move.before, "after": move.after}
    if unseen is not None:
        before, after = unseen
        text += f", {before:.4g} became {after:.4g} on as much text that is not scored"
        fields |= {"unseen_before": before, "unseen_after": after}
    ctx.progress.log("rescored", text=text, **fields)


def _solved_with(ctx: Context, search: str, method: nodes.ReplaceOne, table: ScoreTable) -> Solution | None:
    """Return the answer of the search with the table in place of its own replace-1-block scores of this metric."""
    scores = scores_of(ctx, search)
    for name in needed(ctx.program, search).scores:
        own = ctx.program.scores[name].method
        if isinstance(own, nodes.ReplaceOne) and own.metric == method.metric:
            scores[name] = table.model_copy(update={"score": name})
    costs = costs_of(ctx, ctx.program.searches[search].space)
    solutions = solve_search(ctx.program, search, costs, scores).solutions
    return solutions[0] if solutions else None
