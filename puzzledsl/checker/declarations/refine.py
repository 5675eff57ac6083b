"""`refine = measured(24)` of a search: its settings, and what it needs: a measured score, a parent with weights, one solution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from puzzledsl.base.diagnostics import Diagnostic, Span
from puzzledsl.base.settings import Setting
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.diagnostics.refine_errors import (
    BaselineRefined,
    GoalNotMeasured,
    HealedToMeasureAlone,
    NoWeightsToRefine,
    RefinesToOne,
)
from puzzledsl.checker.expressions.settings import from_call, lower, read_call
from puzzledsl.checker.expressions.values import Scope
from puzzledsl.ir import nodes
from puzzledsl.ir.nodes import Baseline, HfSource, Program, Search
from puzzledsl.ir.references import on_text, refined_score
from puzzledsl.ir.source_location import span_of
from puzzledsl.syntax import tree

NONE = "none"


def read_refine(ctx: Context, expr: tree.Expr, scope: Scope, takes: Setting) -> nodes.Refine | None:
    """The setting; None for `none`, and where it has a mistake, which is reported."""
    if isinstance(expr, tree.Literal_):
        number = expr.text if expr.text.isdigit() and int(expr.text) else "24"
        help = f"write `refine = measured({number})`: so many children are measured"
        wanted, got = "`measured(…)`, `evolutionary(…)` or `none`", f"`{ctx.source(expr.span)}`"
        ctx.report(types.WrongType(expr.span, what="the way to refine", wanted=wanted, got=got, help=help))
        return None
    call = read_call(ctx, expr, scope, takes)
    if call is None:
        return None
    if call.name == NONE:
        from_call(ctx, call, takes.calls[NONE])
        return None
    settings = from_call(ctx, call, takes.calls[call.name])
    settings.need("children", help=f"write `{call.name}(24)`: children that are measured")
    node = lower(settings, nodes.Refine, method=call.name, where=ctx.where(expr.span))
    return None if settings.failed else node


def inherited(
    refine: nodes.Refine | None, solver: nodes.CpSat | nodes.Baseline | None, at: nodes.Where
) -> nodes.Refine | None:
    """The `refine` of a search of another: the other's, unless it sets a baseline as its own solver.

    A baseline is there to be compared with, so it stays as it is. Mistakes point at the search that inherits.
    """
    if refine is None or isinstance(solver, nodes.Baseline):
        return None
    return refine.model_copy(update={"where": at})


def check_refines(program: Program, files: Mapping[str, str]) -> list[Diagnostic]:
    """Mistakes that keep searches from being refined. `files`: a place's file -> what diagnostics call it."""
    found: list[Diagnostic] = []
    refined = [(search, search.refine.where) for search in program.searches.values() if search.refine]
    measured = [f for f in program.frontiers.values() if f.children]
    refined += [
        (program.searches[f.search], f.where) for f in measured if not program.searches[f.search].refine
    ]
    for search, at in refined:
        span = span_of(at, files.get(at.file))
        found += _problems(program, search, span)
    return found


def _problems(program: Program, search: Search, span: Span) -> Iterator[Diagnostic]:
    if isinstance(search.solver, Baseline):
        yield BaselineRefined(span, search=search.name, solver=search.solver.kind)
    if search.solutions > 1:
        yield RefinesToOne(span, search=search.name, solutions=search.solutions)
    if refined_score(program, search) is None:
        yield GoalNotMeasured(span, search=search.name, help=_goal_help(program, search))
    if search.refine and search.refine.healed and (bld := _unhealed(program, search)) is not None:
        yield HealedToMeasureAlone(span, bld=bld)
    parent = program.parents[program.spaces[search.space].parent]
    if not isinstance(parent.source, HfSource):
        yield NoWeightsToRefine(span, search=search.name, parent=parent.name)


def _unhealed(program: Program, search: Search) -> str | None:
    """The `bld` of the refined score, where its children are built as they are assembled."""
    score = refined_score(program, search)
    bld = None if score is None else program.scores[score].bld
    return bld if bld is not None and not program.blds[bld].heal_tokens else None


def _goal_help(program: Program, search: Search) -> str:
    """A goal that could be refined, or the score that the space lacks for one."""
    names = [n for n, s in program.scores.items() if s.space == search.space and on_text(program, n)]
    if names:
        rest = "; what else matters can be a bound (`require`) or come after it (`prefer`)"
        return f"write `minimize {names[0]}`{rest}"
    return (
        f"declare one and minimize it: `score NAME of BLD = replace_one(kl_divergence)`, "
        f"of a `bld` of `{search.space}`"
    )
