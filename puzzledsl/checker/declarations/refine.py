"""`refine = measured(24)` of a search: how many children are measured, and how."""

from __future__ import annotations

from typing import Literal, cast

from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import read_call
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.expressions.settings import from_call
from puzzledsl.checker.expressions.values import Scope
from puzzledsl.ir import nodes
from puzzledsl.language.model import Setting
from puzzledsl.syntax import tree

NONE = "none"
MAX_CHILDREN = 100_000
DEFAULT_HEALED, DEFAULT_SAMPLES = 4096, 2048


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
    settings = from_call(ctx, call, takes.calls[call.name])
    if call.name == NONE:
        return None
    settings.need("children", help=f"write `{call.name}(24)`: children that are measured")
    children = settings.whole("children", 1, 1, MAX_CHILDREN)
    healed = settings.whole("healed", DEFAULT_HEALED)
    samples = settings.whole("samples", DEFAULT_SAMPLES, 1)
    data = settings.ref("data")
    if data is not None:
        ctx.lower_later(data)
    if settings.failed:
        return None
    return nodes.Refine(
        method=cast(Literal["measured", "evolutionary"], call.name),
        children=children,
        healed=healed,
        samples=samples,
        data=None if data is None else ctx.name_of(data),
        where=ctx.where(expr.span),
    )


def inherited(
    refine: nodes.Refine | None, solver: nodes.CpSat | nodes.Baseline | None, at: nodes.Where
) -> nodes.Refine | None:
    """The `refine` of a search of another: the other's, unless it sets a baseline as its own solver.

    A baseline is there to be compared with, so it stays as it is. Mistakes point at the search that inherits.
    """
    if refine is None or isinstance(solver, nodes.Baseline):
        return None
    return refine.model_copy(update={"where": at})
