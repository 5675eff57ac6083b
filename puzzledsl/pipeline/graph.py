"""The task graph: dependencies between tasks, and all tasks of a program in order."""

from __future__ import annotations

from collections.abc import Iterator

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir import nodes
from puzzledsl.ir.evaluated import children_evaluated, children_wanted, evaluations_of
from puzzledsl.ir.tables import SearchResult
from puzzledsl.pipeline import inputs, tasks
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.rounds import refining
from puzzledsl.pipeline.rounds.narrow import resolve_used_by
from puzzledsl.pipeline.task import Task
from puzzledsl.search.needs import needed

Key = tuple[str, str]
"""Stage and name."""


def tasks_of(ctx: Context) -> Iterator[Task]:
    """Every task of `pzl run`, each after those it reads from.

    Lazily: what later tasks there are depends on what earlier ones find (a `used_by` space, a search without a
    solution). Of a search that is not solved yet a child is expected.
    """
    program = ctx.program
    trainable = [name for name, space in program.spaces.items() if space.used_by is None]
    if inputs.measured_scenarios(ctx):
        yield from (tasks.measure(ctx, name) for name in trainable)
    yield from _pieces_and_solutions(ctx, trainable)
    resolved, waiting = resolve_used_by(ctx.program, ctx.build)
    ctx.program = resolved
    derived = [
        name for name, space in program.spaces.items() if space.used_by is not None and name not in waiting
    ]
    yield from _pieces_and_solutions(ctx, derived)
    yield from (
        refining.refine_search(ctx, name)
        for name, search in ctx.program.searches.items()
        if search.refine is not None and has_child(ctx, name)
    )
    yield from (
        refining.refine_frontier(ctx, name)
        for name, frontier in ctx.program.frontiers.items()
        if frontier.children and _has_pieces(ctx, frontier.search)
    )
    yield from (tasks.realise(ctx, name) for name in ctx.program.searches if has_child(ctx, name))
    yield from (tasks.uptrain(ctx, name) for name in program.uptrains)
    yield from (tasks.evaluate(ctx, name) for name in program.evals)
    yield from (tasks.export(ctx, name) for name in program.exports)
    yield tasks.report(ctx)


def _pieces_and_solutions(ctx: Context, spaces: list[str]) -> Iterator[Task]:
    program = ctx.program
    yield from (tasks.bld(ctx, name) for name, bld in program.blds.items() if bld.space in spaces)
    mine = [name for name, search in program.searches.items() if search.space in spaces]
    scores = {
        name: score.method.around
        for name, score in program.scores.items()
        if score.space in spaces and isinstance(score.method, nodes.ReplaceOne)
    }
    yield from _scores_and_searches(ctx, scores, mine)
    yield from (tasks.frontier(ctx, name) for name, f in program.frontiers.items() if f.search in mine)


def _scores_and_searches(ctx: Context, scores: dict[str, str | None], searches: list[str]) -> Iterator[Task]:
    """Scores, then the searches that need no others, then scores around their children, and so on."""
    waiting, unsolved = dict(scores), list(searches)
    while waiting or unsolved:
        ready = [name for name, around in waiting.items() if around not in unsolved]
        for name in ready:
            del waiting[name]
            yield tasks.score(ctx, name)
        solvable = [name for name in unsolved if not needed(ctx.program, name).scores & set(waiting)]
        for name in solvable:
            unsolved.remove(name)
            yield tasks.solve(ctx, name)
        if not ready and not solvable:  # a score around the child of a search that needs it: each says so
            yield from (tasks.solve(ctx, name) for name in unsolved)
            return


def has_child(ctx: Context, search: str) -> bool:
    """True where a search's child can be made: the parent has weights, there are pieces, and the answer is no `infeasible`."""
    if not _has_pieces(ctx, search):
        return False
    try:
        return bool(ctx.load(ctx.build.solution(search), SearchResult, "solve", search).solutions)
    except DiagnosticError:  # not solved, or damaged and solved again
        return True


def _has_pieces(ctx: Context, search: str) -> bool:
    """True where children of a search's space can be built."""
    space = ctx.program.spaces[ctx.program.searches[search].space]
    trained = any(bld.space == space.name for bld in ctx.program.blds.values())
    return isinstance(ctx.program.parents[space.parent].source, nodes.HfSource) and trained


def needs_of(ctx: Context, stage: str, name: str) -> tuple[Key, ...]:
    """The tasks whose results a task reads. Those of declarations that the program does not run (a table, say) are left out."""
    program = ctx.program
    match stage:
        case "bld":
            return _narrowing(ctx, program.blds[name].space)
        case "score":
            method, bld = program.scores[name].method, program.scores[name].bld
            around = method.around if isinstance(method, nodes.ReplaceOne) else None
            return (*((("bld", bld),) if bld else ()), *((("solve", around),) if around else ()))
        case "solve":
            return _tables(ctx, name)
        case "frontier":
            return _tables(ctx, program.frontiers[name].search)
        case "refine" if name in program.frontiers:
            search = program.frontiers[name].search
            refined = (("refine", search),) if program.searches[search].refine is not None else ()
            return ("frontier", name), *refined, *_tables(ctx, search), *_pieces(ctx, search)
        case "refine":
            return ("solve", name), *_tables(ctx, name), *_pieces(ctx, name)
        case "realise":
            refined = (("refine", name),) if program.searches[name].refine is not None else ()
            return ("solve", name), *refined, *_pieces(ctx, name)
        case "uptrain":
            return (("realise", program.uptrains[name].search),)
        case "eval":
            return tuple(_child(ctx, model) for model in _models_of(ctx, name))
        case "export":
            of = program.exports[name].of
            return _child(ctx, of), *(("eval", n) for n in evaluations_of(program, of))
        case _:
            return ()


def _pieces(ctx: Context, search: str) -> tuple[Key, ...]:
    """The BLDs that made the pieces of a search's space."""
    space = ctx.program.searches[search].space
    return tuple(("bld", name) for name, bld in ctx.program.blds.items() if bld.space == space)


def _models_of(ctx: Context, evaluation: str) -> list[str]:
    """The children that an evaluation measures: those it must have, and those of the space's other searches that have one."""
    wanted = children_wanted(ctx.program, evaluation)
    return [
        child
        for child in children_evaluated(ctx.program, evaluation)
        if child in wanted or has_child(ctx, child)
    ]


def _child(ctx: Context, model: str) -> Key:
    return ("uptrain" if model in ctx.program.uptrains else "realise", model)


def _narrowing(ctx: Context, space: str) -> tuple[Key, ...]:
    used_by = ctx.program.spaces[space].used_by
    return (("solve", used_by.search),) if used_by else ()


def _tables(ctx: Context, search: str) -> tuple[Key, ...]:
    space = ctx.program.searches[search].space
    asked = needed(ctx.program, search).scores
    scores = [
        ("score", name)
        for name, score in ctx.program.scores.items()
        if isinstance(score.method, nodes.ReplaceOne)
        and score.space == space
        and (score.method.around is None or name in asked)
    ]
    measured = [("measure", space)] if inputs.measured_scenarios(ctx) else []
    return (*_narrowing(ctx, space), *measured, *scores)
