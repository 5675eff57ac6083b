"""Evaluation of calls: `fn`s, built-in functions over lists and comprehensions, and constructors."""

from __future__ import annotations

from typing import NoReturn

from puzzledsl.base.diagnostics import Args, Fix
from puzzledsl.base.suggest import closest
from puzzledsl.checker.context import Context, Refused
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.aggregates import apply_builtin
from puzzledsl.checker.expressions.coercions import as_number
from puzzledsl.checker.expressions.logic import refuse_several
from puzzledsl.checker.expressions.selections import instances
from puzzledsl.checker.names.resolve import lookup
from puzzledsl.checker.names.unknown import unknown_name
from puzzledsl.language.calls import CONSTRUCTORS
from puzzledsl.language.words import FUNCTIONS
from puzzledsl.syntax import tree


def call(ctx: Context, expr: tree.Call, scope: values.Scope) -> values.Value:
    """The value of a call: a `fn`'s, a built-in's, or something built for a declaration to read."""
    function = _callee(ctx, expr, scope)
    match function:
        case values.Function():
            return _apply(ctx, function, expr, scope)
        case values.BuiltIn(name=name):
            return apply_builtin(ctx, name, _items(ctx, name, expr, scope), expr)
        case values.Constructed(arguments=(), base=None):
            return values.Constructed(function.name, expr.arguments, scope, expr.span)
        case values.Ref(symbol=symbol) if symbol.kind == "hardware":
            return values.Constructed(symbol.name, expr.arguments, scope, expr.span, base=symbol)
    help, fixes = "", list[Fix]()
    if isinstance(function, values.Layers):
        text = ctx.source(expr.function.span)
        subscript = ctx.source(expr.span).removeprefix(text).strip()[1:-1]
        help = f"layers are selected in square brackets: write `{text}[{subscript}]`"
        fixes = [Fix.replace(expr.span, f"{text}[{subscript}]")]
    raise ctx.wrong(expr.function.span, "what is called", "a function", function, help, fixes)


def _callee(ctx: Context, expr: tree.Call, scope: values.Scope) -> values.Value:
    name = expr.function
    if not isinstance(name, tree.Name):
        return ctx.value(name, scope)
    found = lookup(ctx, name.text, scope)
    if found is not None:
        return found
    if name.text in CONSTRUCTORS:
        return values.Constructed(name.text, (), scope, name.span)
    if name.text == "range":
        meant = _range_of(ctx, expr)
        help = "a range includes both ends: " + (f"write `{meant}`" if meant else "`1..30`")
        fixes = [Fix.replace(expr.span, meant)] if meant else []
        raise ctx.refuse(name_errors.UnknownName(name.span, name="range", help=help, fixes=fixes))
    unknown_name(ctx, name, scope, (*FUNCTIONS, *sorted(CONSTRUCTORS)), kinds=("fn", "let", "hardware"))
    return values.POISON


def _range_of(ctx: Context, expr: tree.Call) -> str:
    """Return the range of the language that `range(1, 31)` means; empty where it is not certain."""
    bounds = [argument.value for argument in expr.arguments]
    plain = all(isinstance(b, tree.Literal_ | tree.Name | tree.Attribute) for b in bounds)
    if not plain or not 1 <= len(bounds) <= 3 or any(argument.name for argument in expr.arguments):
        return ""
    texts = [ctx.source(bound.span) for bound in bounds]
    start, stop = ("0", texts[0]) if len(texts) == 1 else (texts[0], texts[1])
    last = str(int(stop) - 1) if stop.isdigit() else f"{stop} - 1"
    return f"{start}..{last}" + (f" step {texts[2]}" if len(texts) == 3 else "")


def _apply(ctx: Context, function: values.Function, expr: tree.Call, scope: values.Scope) -> values.Value:
    parameters = [p.text for p in function.node.parameters]
    bound: dict[str, values.Value] = {}
    for place, argument in enumerate(expr.arguments):
        value = ctx.value(argument.value, scope)
        if argument.name is None and place >= len(parameters):
            _refuse_number(ctx, function, expr)
        name = parameters[place] if argument.name is None else argument.name.text
        if argument.name is not None and name not in parameters:
            said: Args = {"thing": f"fn `{function.node.name.text}`", "name": name}
            near, help = closest(name, parameters), f"it is `{_head(function)}`"
            raise ctx.refuse(name_errors.UnknownKey(argument.name.span, near=near, help=help, **said))
        if name in bound:
            raise ctx.refuse(name_errors.DuplicateKey(argument.span, name=name))
        bound[name] = value
    if len(bound) < len(parameters):
        _refuse_number(ctx, function, expr)
    return ctx.value(function.node.value, function.scope.inner(bound))


def _head(function: values.Function) -> str:
    names = ", ".join(p.text for p in function.node.parameters)
    return f"fn {function.node.name.text}({names})"


def _refuse_number(ctx: Context, function: values.Function, expr: tree.Call) -> NoReturn:
    count, name = len(function.node.parameters), function.node.name.text
    said: Args = {"takes": f"{count} argument{'' if count == 1 else 's'}", "got": len(expr.arguments)}
    help = f"it is `{_head(function)}`"
    raise ctx.refuse(name_errors.TooManyArguments(expr.span, help=help, name=name, **said))


def _items(ctx: Context, name: str, expr: tree.Call, scope: values.Scope) -> list[values.Located]:
    """The values that a built-in function works on, with comprehensions and lists spread out."""
    found: list[values.Located] = []
    for argument in expr.arguments:
        if argument.name is not None:
            said: Args = {"thing": f"`{name}`", "name": argument.name.text}
            raise ctx.refuse(name_errors.UnknownKey(argument.name.span, **said))
        if isinstance(argument.value, tree.Comprehension):
            elements = ctx.attempt(_comprehension, ctx, argument.value, scope)
            found += [values.Located(values.POISON, argument.span)] if elements is None else elements
        else:
            value = ctx.value(argument.value, scope)
            items = value.items if isinstance(value, values.ListValue) else (value,)
            found += [values.Located(item, argument.value.span) for item in items]
    if any(isinstance(item.value, values.Poison) for item in found):
        raise Refused
    return found


def _comprehension(ctx: Context, node: tree.Comprehension, scope: values.Scope) -> list[values.Located]:
    found: list[values.Located] = []
    for inner in instances(ctx, node.collection, node.variable, node.where, scope):
        value = ctx.sound(node.element, inner)
        # an element about many layers would be counted once for each element of the loop, a slip
        if isinstance(value, values.Matches):
            refuse_several(ctx, value, node.element.span)
        if isinstance(value, values.Facts):
            as_number(ctx, value, node.element.span, "each element of a `for`")
        found.append(values.Located(value, node.element.span))
    return found
