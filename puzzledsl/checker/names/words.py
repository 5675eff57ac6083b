"""Words of closed lists (`fp8`, `least_squares`) and names of declarations, in places where only these are allowed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain, count

from puzzledsl.base.diagnostics import Near
from puzzledsl.base.phrases import listed
from puzzledsl.base.suggest import closest
from puzzledsl.checker.context import Context, Refused
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.diagnostics.type_errors import UnknownWord
from puzzledsl.checker.expressions import values
from puzzledsl.checker.names.unknown import unknown_name
from puzzledsl.language.calls import CONSTRUCTORS
from puzzledsl.syntax import tree


def read_word(ctx: Context, expr: tree.Expr, scope: values.Scope, words: Sequence[str], what: str) -> str:
    """Return a word of a closed list, written bare, as a string or through a `let` or `param`; of a slip the nearest word."""
    if isinstance(expr, tree.Name) and expr.text in words:
        return expr.text
    got, either = ctx.source(expr.span), listed([f"`{w}`" for w in words], "or")
    if isinstance(expr, tree.Attribute) and (joined := got.replace(".", "_")) in words:
        ctx.report(UnknownWord(expr.span, got=got, what=what, near=Near(joined, alone=True)))
        return joined
    local = isinstance(expr, tree.Name) and scope.local(expr.text)
    if isinstance(expr, tree.Name) and local is None and not _is_value(scope.file.names.get(expr.text)):
        text = expr.text
    else:
        value = ctx.value(expr, scope)
        if not isinstance(value, values.Text):
            raise ctx.wrong(expr.span, what, either, value)
        text = value.value
    if text in words:
        return text
    near = closest(text, words)
    held = near is not None and isinstance(expr, tree.Name) and expr.text != text  # a `let` has the slip
    help = f"did you mean `{near}`?" if held else f"write {either}"
    ctx.report(UnknownWord(expr.span, got=text, what=what, near=None if held else near, help=help))
    if near is None:
        raise Refused
    return near


def _is_value(symbol: object) -> bool:
    return isinstance(symbol, values.Poison) or (
        isinstance(symbol, values.Symbol) and symbol.kind in ("let", "param")
    )


def read_ref(ctx: Context, expr: tree.Expr, scope: values.Scope, kinds: tuple[str, ...]) -> values.Symbol:
    """Return the declaration of some kinds that an expression names; of a slip the one that is most likely meant."""
    value = _named(ctx, expr, scope, kinds)
    match value:
        case values.Poison():
            return _likely(ctx, expr, scope, kinds)
        case values.Ref(symbol=symbol) if symbol.kind in kinds:
            return symbol
        case values.Ref(symbol=symbol):
            name, got = symbol.name, values.article(symbol.kind)
        case values.Constructed(name=word):
            name, got = word, "a word of the language"
        case _:
            name, got = ctx.source(expr.span), values.describe(value)
    wanted = " or ".join(values.article(k) for k in kinds)
    help = "; ".join(filter(None, (_declared(scope, kind) for kind in kinds)))
    if isinstance(value, values.Constructed) and isinstance(expr, tree.Call):
        named = unused(f"my_{kinds[0]}", scope.file.names)
        help = f"name it first, `{kinds[0]} {named} = {ctx.source(expr.span)}`, and write `{named}` here"
    raise ctx.refuse(name_errors.WrongKind(expr.span, name=name, got=got, wanted=wanted, help=help))


def _named(ctx: Context, expr: tree.Expr, scope: values.Scope, kinds: tuple[str, ...]) -> values.Value:
    """The value of an expression; of an undeclared name POISON, with a declaration of `kinds` suggested."""
    known = (scope.file.names, values.VALUES, CONSTRUCTORS)
    if (
        not isinstance(expr, tree.Name)
        or scope.local(expr.text)
        or any(expr.text in names for names in known)
    ):
        return ctx.value(expr, scope)
    unknown_name(ctx, expr, scope, kinds=(*kinds, "let", "param"))
    return values.POISON


def unused(name: str, taken: Collection[str]) -> str:
    """`name`, or the first of `name2`, `name3`, … that is not taken."""
    return next(n for n in chain([name], (f"{name}{i}" for i in count(2))) if n not in taken)


def _declared(scope: values.Scope, kind: str) -> str:
    """``space: `w`, `v` ``: what the file declares of a kind; empty where that is nothing."""
    names = [f"`{s.name}`" for s in scope.file.symbols(kind) if s.file is scope.file]
    return f"{kind}: " + ", ".join(names[:8]) if names else ""


def _likely(ctx: Context, expr: tree.Expr, scope: values.Scope, kinds: tuple[str, ...]) -> values.Symbol:
    """The declaration a misspelt name most likely means: what follows from it is checked rather than skipped."""
    noted = ctx.unknown.get((scope.file.file, expr.text), []) if isinstance(expr, tree.Name) else []
    for _, near in noted:
        symbol = scope.file.names.get(near) if near else None
        if isinstance(symbol, values.Symbol) and symbol.kind in kinds and symbol not in ctx.busy:
            return symbol
    raise Refused
