"""Name resolution: the value of a name in its scope."""

from __future__ import annotations

from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.expressions.values import POISON, Function, Poison, Ref, Scope, Symbol, Value
from puzzledsl.checker.names.builtins import VALUES
from puzzledsl.checker.parameters import parameter_value
from puzzledsl.syntax import tree


def lookup(ctx: Context, name: str, scope: Scope) -> Value | None:
    """Return the value of a name in a scope; None if nothing has this name."""
    local = scope.local(name)
    if local is not None:
        return local
    symbol = scope.file.names.get(name)
    if isinstance(symbol, Poison):
        return POISON
    if symbol is not None:
        ctx.note_used(symbol)
        return value_of(ctx, symbol)
    return VALUES.get(name)


def value_of(ctx: Context, symbol: Symbol) -> Value:
    """Return a symbol as a value. The value of a `let` or parameter is computed once."""
    item = symbol.item
    if isinstance(item, tree.Fn):
        return Function(item, Scope(symbol.file))
    if not isinstance(item, tree.Let | tree.Param):
        return Ref(symbol)
    if symbol.value is None:
        if symbol.busy:
            chain = f"`{symbol.name}` needs its own value"
            ctx.report(name_errors.CyclicDefinition(symbol.span, name=symbol.name, chain=chain))
            return POISON
        symbol.busy = True
        if isinstance(item, tree.Let):
            symbol.value = ctx.value(item.value, Scope(symbol.file))
        else:
            symbol.value = parameter_value(ctx, symbol, item)
        symbol.busy = False
    return symbol.value
