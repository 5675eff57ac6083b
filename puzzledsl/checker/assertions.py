"""Check of `assert EXPR because "…"`; a failure shows the values of both sides."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.units import Quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.expressions.search_values import Conjunction, Formula, Matches
from puzzledsl.checker.expressions.values import Boolean, Poison, Scope, Text, Value, describe
from puzzledsl.syntax import tree


def check_assert(ctx: Context, statement: tree.Assert, scope: Scope) -> None:
    """Evaluate an assertion and report it where it is false, or not known before the search."""
    value = ctx.value(statement.condition, scope)
    span = statement.condition.span
    match value:
        case Poison() | Boolean(value=True):
            return
        case Boolean():
            notes = [f"because {statement.because.value}"] if statement.because else []
            span, label = _failing(ctx, statement.condition, scope)
            ctx.report(name_errors.AssertionFails(span, label, notes=notes))
        case Conjunction() | Formula() | Matches():
            help = "write `require` in a search instead"
            ctx.report(types.NotConstant(span, what="an assertion", got="this", help=help))
        case _:
            ctx.report(
                types.NotARequirement(span, keyword="assert", wanted="true or false", got=describe(value))
            )


def _failing(ctx: Context, condition: tree.Expr, scope: Scope) -> tuple[Span, str]:
    """The part that is false, and its sides' values."""
    while isinstance(condition, tree.Binary) and condition.op == "and":
        left = ctx.value(condition.left, scope)
        condition = condition.right if left == Boolean(True) else condition.left
    if not isinstance(condition, tree.Compare):
        return condition.span, "this is false"
    parts = []
    for operand in condition.operands:
        text, value = ctx.source(operand.span), _shown(ctx.value(operand, scope))
        if value and value != text:
            parts.append(f"`{text}` is {value}")
    return condition.span, ", ".join(parts)


def _shown(value: Value) -> str:
    match value:
        case Quantity():
            return str(value)
        case Text(value=text):
            return f'"{text}"'
        case Boolean(value=true):
            return "true" if true else "false"
        case _:
            return ""
