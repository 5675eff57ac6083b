"""Evaluation of calls: `fn`s, built-in functions over lists and comprehensions, and constructors."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Fix, Span
from puzzledsl.base.suggest import closest
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors, type_errors
from puzzledsl.checker.expressions.aggregates import apply_builtin
from puzzledsl.checker.expressions.coercions import as_number
from puzzledsl.checker.expressions.logic import which_layer
from puzzledsl.checker.expressions.loops import iterate, passes
from puzzledsl.checker.expressions.search_values import Facts, Layers, Matches
from puzzledsl.checker.expressions.values import (
    POISON,
    BuiltIn,
    Constructed,
    Function,
    ListValue,
    Located,
    Poison,
    Ref,
    Scope,
    Value,
    describe,
)
from puzzledsl.checker.names.resolve import lookup
from puzzledsl.checker.names.unknown import unknown_name
from puzzledsl.language.calls import CONSTRUCTORS
from puzzledsl.language.words import FUNCTIONS
from puzzledsl.syntax import tree


def call(ctx: Context, expr: tree.Call, scope: Scope) -> Value:
    """The value of a call: a `fn`'s, a built-in's, or something built for a declaration to read."""
    function = _callee(ctx, expr, scope)
    match function:
        case Poison():
            return POISON
        case Function():
            return _apply(ctx, function, expr, scope)
        case BuiltIn(name=name):
            items = _items(ctx, name, expr, scope)
            return POISON if items is None else apply_builtin(ctx, name, items, expr)
        case Constructed(arguments=(), base=None):
            return Constructed(function.name, expr.arguments, scope, expr.span)
        case Ref(symbol=symbol) if symbol.kind == "hardware":
            return Constructed(symbol.name, expr.arguments, scope, expr.span, base=symbol)
    got, help, fixes = describe(function), "", []
    if isinstance(function, Layers):
        text = ctx.source(expr.function.span)
        subscript = ctx.source(expr.span).removeprefix(text).strip()[1:-1]
        help = f"layers are selected in square brackets: write `{text}[{subscript}]`"
        fixes = [Fix.replace(expr.span, f"{text}[{subscript}]")]
    what, wanted = "what is called", "a function"
    ctx.report(
        type_errors.WrongType(expr.function.span, what=what, wanted=wanted, got=got, help=help, fixes=fixes)
    )
    return POISON


def _callee(ctx: Context, expr: tree.Call, scope: Scope) -> Value:
    if isinstance(expr.function, tree.Name):
        name = expr.function
        found = lookup(ctx, name.text, scope)
        if found is None and name.text in CONSTRUCTORS:
            return Constructed(name.text, (), scope, name.span)
        if found is None and name.text == "range":
            _foreign_range(ctx, expr)
            return POISON
        if found is None:
            unknown_name(ctx, name, scope, (*FUNCTIONS, *sorted(CONSTRUCTORS)), kinds=_CALLABLE)
            return POISON
        return found
    return ctx.value(expr.function, scope)


_CALLABLE = ("fn", "let", "hardware")


def _foreign_range(ctx: Context, expr: tree.Call) -> None:
    """Report `range(1, 31)`, which is `1..30` here."""
    bounds = [argument.value for argument in expr.arguments if argument.name is None]
    meant = _range_of(ctx, bounds) if len(bounds) == len(expr.arguments) else ""
    help = "a range includes both ends: " + (f"write `{meant}`" if meant else "`1..30`")
    fixes = [Fix.replace(expr.span, meant)] if meant else []
    ctx.report(name_errors.UnknownName(expr.function.span, name="range", help=help, fixes=fixes))


def _range_of(ctx: Context, bounds: list[tree.Expr]) -> str:
    """Return the range of the language that `range(bounds)` means; empty where it is not certain."""
    if not 1 <= len(bounds) <= 3 or not all(
        isinstance(b, tree.Literal_ | tree.Name | tree.Attribute) for b in bounds
    ):
        return ""
    texts = [ctx.source(bound.span) for bound in bounds]
    start, stop = ("0", texts[0]) if len(texts) == 1 else (texts[0], texts[1])
    last = str(int(stop) - 1) if stop.isdigit() else f"{stop} - 1"
    return f"{start}..{last}" + (f" step {texts[2]}" if len(texts) == 3 else "")


def _apply(ctx: Context, function: Function, expr: tree.Call, scope: Scope) -> Value:
    parameters = [p.text for p in function.node.parameters]
    bound: dict[str, Value] = {}
    for place, argument in enumerate(expr.arguments):
        value = ctx.value(argument.value, scope)
        if argument.name is None and place < len(parameters):
            name = parameters[place]
        elif argument.name is not None and argument.name.text in parameters:
            name = argument.name.text
        elif argument.name is not None:
            near = closest(argument.name.text, parameters)
            thing, got = f"fn `{function.node.name.text}`", argument.name.text
            help = f"it is `{_head(function)}`"
            ctx.report(
                name_errors.UnknownKey(argument.name.span, thing=thing, name=got, near=near, help=help)
            )
            return POISON
        else:
            _wrong_number(ctx, function, expr)
            return POISON
        if name in bound:
            ctx.report(name_errors.DuplicateKey(argument.span, name=name))
            return POISON
        bound[name] = value
    if len(bound) < len(parameters):
        _wrong_number(ctx, function, expr)
        return POISON
    return ctx.value(function.node.value, function.scope.inner(bound))


def _head(function: Function) -> str:
    names = ", ".join(p.text for p in function.node.parameters)
    return f"fn {function.node.name.text}({names})"


def _wrong_number(ctx: Context, function: Function, expr: tree.Call) -> None:
    count, name = len(function.node.parameters), function.node.name.text
    takes = f"{count} argument{'' if count == 1 else 's'}"
    help = f"it is `{_head(function)}`"
    ctx.report(
        name_errors.TooManyArguments(expr.span, name=name, takes=takes, got=len(expr.arguments), help=help)
    )


def _items(ctx: Context, name: str, expr: tree.Call, scope: Scope) -> list[Located] | None:
    """The values an aggregate works on, comprehension and lists spread out; None, reported, where some are wrong."""
    found: list[Located] = []
    for argument in expr.arguments:
        if argument.name is not None:
            ctx.report(name_errors.UnknownKey(argument.name.span, thing=f"`{name}`", name=argument.name.text))
            return None
        if isinstance(argument.value, tree.Comprehension):
            found += _comprehension(ctx, argument.value, scope)
        else:
            value = ctx.value(argument.value, scope)
            items = value.items if isinstance(value, ListValue) else (value,)
            found += [Located(item, argument.value.span) for item in items]
    return None if any(isinstance(item.value, Poison) for item in found) else found


def _of_one_layer(ctx: Context, value: Value, span: Span) -> Value:
    """An element of a comprehension; one about many layers would be counted once for each element, a slip: reported."""
    match value:
        case Matches():
            which_layer(ctx, value, span)
            return POISON
        case Facts():
            as_number(ctx, value, span, "each element of a `for`")
            return POISON
        case _:
            return value


def _comprehension(ctx: Context, node: tree.Comprehension, scope: Scope) -> list[Located]:
    collection = ctx.value(node.collection, scope)
    found: list[Located] = []
    for item in iterate(ctx, collection, node.collection.span):
        inner = scope.inner({node.variable.text: item})
        if passes(ctx, node.where, inner):
            value = _of_one_layer(ctx, ctx.value(node.element, inner), node.element.span)
            found.append(Located(value, node.element.span))
            if isinstance(value, Poison):
                break
    return found or ([Located(POISON, node.span)] if isinstance(collection, Poison) else [])
