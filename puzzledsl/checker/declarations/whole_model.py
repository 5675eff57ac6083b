"""`hidden = 100% | 75%` in a space: a choice made once for the whole child."""

from __future__ import annotations

from puzzledsl.base.units import COUNT
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import located
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.expressions.coercions import as_constant
from puzzledsl.checker.expressions.values import Located, Poison, Scope
from puzzledsl.ir import nodes
from puzzledsl.syntax import tree


def read_hidden(ctx: Context, expr: tree.Expr, scope: Scope, shape: nodes.Shape) -> nodes.WholeModel | None:
    """The widths the residual stream may have; None where that is the parent's alone, or, reported, wrong."""
    value = ctx.value(expr, scope)
    if isinstance(value, Poison):
        return None
    widths = [_width(ctx, option, shape.hidden) for option in located(value, expr.span)]
    if None in widths:
        return None
    distinct = tuple(dict.fromkeys(w for w in widths if w is not None))
    return None if distinct == (shape.hidden,) else nodes.WholeModel(hidden=distinct)


def _width(ctx: Context, option: Located, hidden: int) -> int | None:
    number = as_constant(ctx, option.value, option.span, "`hidden`", COUNT)
    if number is None:
        return None
    exact = number.value * hidden if number.form == "percent" else number.value
    if exact.denominator != 1 or not 1 <= exact <= hidden:
        condition = f"a whole number of channels from 1 to the parent's {hidden}"
        got = ctx.source(option.span) + (f" ({float(exact):.6g})" if number.form == "percent" else "")
        ctx.report(types.OutOfRange(option.span, what="`hidden`", condition=condition, got=got))
        return None
    return int(exact)
