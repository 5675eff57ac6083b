"""Rounds of solving and scoring: spaces narrowed to the solutions of another search, and scores made around a child.

A sum of replace-1-block scores is exact for one replacement, and the less so the more of them a child has. Scores made inside a
child (`replace_one(…, around: SEARCH, rounds: n)`) are exact for it and its neighbours, but too optimistic for many changes at
once. The search is therefore solved with several proximal penalties on every choice that differs from the child's, its answers
are measured as whole models, and the best is kept. A penalty so large that the child itself is the answer is the fallback, so
the measured score never gets worse.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import read_sealed, write_sealed
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import (
    Assignment,
    EndsAssignment,
    ModelDefinition,
    ScoreTable,
    SearchResult,
    Solution,
)
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.inputs import best_solution, costs_of, scores_of
from puzzledsl.search.needs import needed
from puzzledsl.search.solve import solve_search

if TYPE_CHECKING:
    from puzzledsl.scoring.inputs import ScoreInputs


def resolve_used_by(program: nodes.Program, build: BuildDir) -> tuple[nodes.Program, tuple[str, ...]]:
    """Return the program with its `used_by` spaces narrowed, and the names of those whose search is not solved yet.

    A space is always narrowed from the search's own space, even if an earlier solution has narrowed the program
    already. A solution with choices that the search's space lacks, such as one from another program in the same build
    directory, is ignored.
    """
    spaces = dict(program.spaces)
    done: dict[str, bool] = {}

    def resolve(name: str) -> bool:
        used_by = spaces[name].used_by
        if used_by is None:
            return True
        if name not in done:
            done[name] = False  # also where a circle asks again
            wide = program.searches[used_by.search].space
            result = _solution(build, used_by.search) if resolve(wide) else None
            if result is not None and _chosen_in(spaces[wide], result):
                done[name] = True
                spaces[name] = narrowed(spaces[name], spaces[wide], result, used_by.top)
        return done[name]

    waiting = tuple(name for name in program.spaces if not resolve(name))
    return program.model_copy(update={"spaces": spaces}), waiting


def _solution(build: BuildDir, search: str) -> SearchResult | None:
    try:
        return SearchResult.from_json(build.solution(search).read_bytes())
    except (OSError, ValueError):
        return None


def _chosen_in(space: nodes.Space, result: SearchResult) -> bool:
    """Return True if a space contains every child of a result."""
    offered = [({a.name for a in layer.attention}, {a.name for a in layer.ffn}) for layer in space.layers]
    return all(
        len(solution.of_layers) == len(offered)
        and all(
            choice.attention in attention and choice.ffn in ffn
            for choice, (attention, ffn) in zip(solution.of_layers, offered, strict=True)
        )
        for solution in result.solutions
    )


def narrowed(space: nodes.Space, wide: nodes.Space, result: SearchResult, top: int) -> nodes.Space:
    """Return `space` with `parent` and the alternatives of `wide` that the `top` best solutions choose, layer by layer."""
    best = result.solutions[:top]
    layers = []
    for index, choice in enumerate(wide.layers):
        attention = {s.of_layers[index].attention for s in best} | {"parent"}
        ffn = {s.of_layers[index].ffn for s in best} | {"parent"}
        layers.append(
            nodes.LayerChoice(
                attention=tuple(a for a in choice.attention if a.name in attention),
                ffn=tuple(f for f in choice.ffn if f.name in ffn),
            )
        )
    return space.model_copy(update={"layers": tuple(layers)})


Solve = Callable[[ScoreTable], Solution | None]
"""Solve the search with a table; None if no solution is found."""
Judge = Callable[[Sequence[Solution]], list[float]]
"""Measure children as whole models on the score's text: the degradation of each from the parent; lower is better."""
STEPS = (0, Fraction(1, 2), 1, 2, 4, 8, 16)
"""Penalties to try, as multiples of the mean predicted gain per change."""
DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class Move:
    """The chosen table, the search's answer with it, and the measured scores of the starting child and of the answer."""

    table: ScoreTable
    solution: Solution
    before: float
    after: float


def best_move(table: ScoreTable, child: Solution, solve: Solve, judge: Judge) -> Move:
    """Return the move to the answer with the best measured score; the child itself if no answer improves on it."""
    offers: list[tuple[ScoreTable, Solution]] = []
    for penalty in _penalties(table, child, solve):
        raised = penalised(table, child, penalty)
        answer = solve(raised)
        seen = [child.layers, *(offered.layers for _, offered in offers)]
        if answer is not None and answer.layers not in seen:
            offers.append((raised, answer))
    before, *figures = judge([child, *(answer for _, answer in offers)])
    after = min(figures, default=before)
    if after < before:
        raised, answer = offers[figures.index(after)]
        return Move(raised, answer, before, after)
    return Move(_unmoved(table, child, solve), child, before, before)


def _penalties(table: ScoreTable, child: Solution, solve: Solve) -> list[float]:
    """Return the penalties to try: STEPS times the mean gain per change that the table predicts; 0 alone without a gain."""
    answer = solve(table)
    if answer is None:
        return []
    changes = sum(
        value != there
        for one, other in zip(answer.layers, child.layers, strict=True)
        for (_, value), (_, there) in zip(one, other, strict=True)
    )
    gain = (total(table, child) - total(table, answer)) / max(1, changes)
    return [float(step) * gain for step in STEPS] if gain > 0 else [0.0]


def _unmoved(table: ScoreTable, child: Solution, solve: Solve) -> ScoreTable:
    """Return the table with a penalty large enough that the search's answer is the child."""
    penalty = max(1e-6, abs(total(table, child)) / len(child.layers))
    for _ in range(DOUBLINGS):
        raised = penalised(table, child, penalty)
        answer = solve(raised)
        if answer is None or answer.layers == child.layers:
            break
        penalty *= 2
    return raised


def penalised(table: ScoreTable, child: Solution, penalty: float) -> ScoreTable:
    """Return the table with `penalty` added to every choice but the child's. The child's total does not change.

    The parent's entry is 0 by definition. If the child's choice is not the parent's, its entry is lowered and the
    offset raised instead.
    """
    changed = deepcopy(table)
    offset = table.offset
    for layer, names in enumerate(child.layers):
        for entries, own in _entries(changed, layer, names):
            if own in ("parent", "parent/parent"):
                entries.update({name: value + penalty for name, value in entries.items()})
            else:
                entries[own] -= penalty
                offset += penalty
    return changed.model_copy(update={"offset": offset})


def total(table: ScoreTable, solution: Solution) -> float:
    """Return a child's score by a table: the offset plus one entry for each choice."""
    entries = (
        entry for layer, names in enumerate(solution.layers) for entry in _entries(table, layer, names)
    )
    return table.offset + sum(alternatives.get(name, 0.0) for alternatives, name in entries)


def _entries(table: ScoreTable, layer: int, names: Assignment) -> Iterator[tuple[dict[str, float], str]]:
    """Yield each dictionary of a layer's entries, or of the ends', with the child's choice in it."""
    if isinstance(names, EndsAssignment):
        yield table.embedding, names.embedding
        yield table.head, names.head
    elif table.unit == "block":
        yield table.pairs[layer], f"{names.attention}/{names.ffn}"
    else:
        yield table.attention[layer], names.attention
        yield table.ffn[layer], names.ffn


def scores_around(ctx: Context, inputs: ScoreInputs, search: str) -> ScoreTable:
    """Return the table of the last round; finished ones are kept in `inputs.work`. Raises DiagnosticError (NoSolution)."""
    from puzzledsl.child.definition import model_definition
    from puzzledsl.scoring.run import run_score, score_children

    solution = best_solution(ctx, search).solutions[0]

    def define(answer: Solution) -> ModelDefinition:
        return model_definition(ctx.program, search, answer, tuple(inputs.jobs))

    def solve(table: ScoreTable) -> Solution | None:
        method = inputs.method
        scores = scores_of(ctx, search)
        for name in needed(ctx.program, search).scores:
            own = ctx.program.scores[name].method
            if isinstance(own, nodes.ReplaceOne) and own.metric == method.metric:
                scores[name] = table.model_copy(update={"score": name})
        costs = costs_of(ctx, ctx.program.searches[search].space)
        solutions = solve_search(ctx.program, search, costs, scores).solutions
        return solutions[0] if solutions else None

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
