"""Needs that several tasks share: the tasks that make tables, pieces and children."""

from __future__ import annotations

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir import nodes
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.inputs import measured_scenarios, solution_of
from puzzledsl.pipeline.task import Key
from puzzledsl.search.needs import needed


def narrowing(ctx: Context, space: str) -> tuple[Key, ...]:
    """Return the search whose solutions narrow a space."""
    used_by = ctx.program.spaces[space].used_by
    return (("solve", used_by.search),) if used_by else ()


def tables(ctx: Context, search: str) -> tuple[Key, ...]:
    """Return the measurements and scores that a search reads."""
    space = ctx.program.searches[search].space
    scores = [("score", name) for name in measured_scores(ctx.program, search)]
    measured = [("measure", space)] if measured_scenarios(ctx.program) else []
    return (*narrowing(ctx, space), *measured, *scores)


def measured_scores(program: nodes.Program, search: str) -> list[str]:
    """Return the scores of a search's space that are measured, and made before the search is solved."""
    space, asked = program.searches[search].space, needed(program, search).scores
    return [
        name
        for name, score in program.scores.items()
        if isinstance(score.method, nodes.ReplaceOne)
        and score.space == space
        and (score.method.around is None or name in asked)
    ]


def blds_of(program: nodes.Program, space: str) -> list[str]:
    """Return the BLDs that make the pieces of a space."""
    return [name for name, bld in program.blds.items() if bld.space == space]


def pieces(program: nodes.Program, space: str) -> tuple[Key, ...]:
    """Return the tasks that make the pieces of a space."""
    return tuple(("bld", name) for name in blds_of(program, space))


def refined(program: nodes.Program, search: str) -> tuple[Key, ...]:
    """Return the task that measures children around a search's optimum, where it has `refine`."""
    return (("refine", search),) if program.searches[search].refine is not None else ()


def child(program: nodes.Program, model: str) -> Key:
    """Return the task that makes a child's checkpoint."""
    return "uptrain" if model in program.uptrains else "realise", model


def has_pieces(program: nodes.Program, search: str) -> bool:
    """Return True if children of a search's space can be built: the parent has weights and a BLD makes pieces."""
    space = program.spaces[program.searches[search].space]
    return isinstance(program.parents[space.parent].source, nodes.HfSource) and bool(
        blds_of(program, space.name)
    )


def has_child(ctx: Context, search: str) -> bool:
    """Return True if a search's child is built. One that is not solved yet is expected to have a solution."""
    if not ctx.program.searches[search].realise or not has_pieces(ctx.program, search):
        return False
    try:
        return bool(solution_of(ctx, search).solutions)
    except DiagnosticError:  # not solved, or damaged and solved again
        return True
