"""Values formatted for reading, evaluated with the results of the text's check."""

from __future__ import annotations

from collections.abc import Callable

from puzzledsl.base.units import Quantity
from puzzledsl.checker.context import Context, OutOfSteps
from puzzledsl.checker.expressions.search_values import Facts, Layers, SubBlocks, Symbolic
from puzzledsl.checker.expressions.values import (
    Boolean,
    Constructed,
    ListValue,
    Options,
    Poison,
    RangeValue,
    Scope,
    Symbol,
    Text,
    Value,
    describe,
)
from puzzledsl.checker.names.resolve import value_of
from puzzledsl.server.document import Document
from puzzledsl.server.meanings import Declared
from puzzledsl.server.nodes_at import walk
from puzzledsl.server.paths import key_of
from puzzledsl.syntax import tree

_MOST = 12


def show(value: Value, ctx: Context) -> str:
    """A value in one line; empty where there is nothing to say."""
    match value:
        case Poison():
            return ""
        case Quantity():
            return str(value)
        case Text(value=text):
            return f'"{text}"'
        case Boolean(value=truth):
            return "true" if truth else "false"
        case Constructed():
            return " ".join(ctx.source(value.span).split())
        case Options(options=options):
            return _joined([show(o.value, ctx) for o in options], " | ")
        case ListValue(items=items):
            return "[" + _joined([show(i, ctx) for i in items], ", ") + "]"
        case RangeValue(low=low, high=high, step=step):
            return f"{low}..{high}" + ("" if step is None else f" step {Quantity(step, low.dimension)}")
        case Symbolic(terms=terms) if terms:
            return f"{value.dimension.name}, decided by the search"
        case Layers(indices=indices) if indices:
            return f"{len(indices)} layer{'s' if len(indices) > 1 else ''}"
        case Facts() | SubBlocks():
            return f"{describe(value)}, decided by the search"
        case _:
            return describe(value)


def _joined(parts: list[str], sign: str) -> str:
    shown = parts if len(parts) <= _MOST else [*parts[:_MOST], "…"]
    return sign.join(shown)


def symbol_of(ctx: Context, declared: Declared) -> Symbol | None:
    """A declared name as the check knows it."""
    for file in ctx.loader.files.values():
        if key_of(file.path) == declared.key:
            symbol = file.names.get(declared.name)
            if isinstance(symbol, Symbol) and (symbol.span.line, symbol.span.column) == declared.place:
                return symbol
    return None


def declared_value(document: Document, declared: Declared) -> str:
    """The value of a `let` or `param`, local or not."""
    ctx = document.inspected[1]
    if ctx is None:
        return ""
    symbol = symbol_of(ctx, declared)
    if symbol is not None:
        return _quietly(ctx, lambda: value_of(ctx, symbol))
    let, within = local_let(document, declared)
    return value_at(document, let.value, within) if let is not None else ""


def value_at(document: Document, expr: tree.Expr, within: str) -> str:
    """The value of an expression that stands in the declaration `within`."""
    ctx = document.inspected[1]
    if ctx is None:
        return ""
    return _quietly(ctx, lambda: ctx.value(expr, scope_within(ctx, within)))


def _quietly(ctx: Context, work: Callable[[], Value]) -> str:
    """A value worked out after the check: what is reported now is nobody's business."""
    steps, ctx.steps = ctx.steps, 0
    try:
        return show(work(), ctx)
    except (OutOfSteps, RecursionError):
        return ""
    finally:
        ctx.steps = steps


def scope_within(ctx: Context, within: str) -> Scope:
    """The names that expressions of a declaration see, as the check recorded them."""
    symbol = ctx.root.names.get(within)
    known = ctx.scopes.get(symbol) if isinstance(symbol, Symbol) else None
    return known or Scope(ctx.root)


def local_let(document: Document, declared: Declared) -> tuple[tree.Let | None, str]:
    """The `let` of a body that gives a name, and the declaration it stands in."""
    for item in document.file.module.items:
        if isinstance(item, tree.Decl):
            for node in walk(item):
                if (
                    isinstance(node, tree.Let)
                    and (node.name.span.line, node.name.span.column) == declared.place
                ):
                    return node, item.name.text
    return None, ""
