"""Words of closed lists (`fp8`, `least_squares`) and names of declarations, in places where only these are allowed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain, count

from puzzledsl.base.diagnostics import Near
from puzzledsl.base.phrases import listed
from puzzledsl.base.suggest import closest
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.expressions.values import (
    POISON,
    Constructed,
    Poison,
    Ref,
    Scope,
    Symbol,
    Text,
    Value,
    article,
    describe,
)
from puzzledsl.checker.names.builtins import VALUES
from puzzledsl.checker.names.unknown import unknown_name
from puzzledsl.language.calls import CONSTRUCTORS
from puzzledsl.syntax import tree


def read_word(ctx: Context, expr: tree.Expr, scope: Scope, words: Sequence[str], what: str) -> str | None:
    """A word of a closed list, written bare, as a string or through a `let` or `param`. None, reported, otherwise."""
    if isinstance(expr, tree.Name):
        if expr.text in words:
            return expr.text
        if scope.local(expr.text) is None and not _is_value(scope.file.names.get(expr.text)):
            return _unknown_word(ctx, expr.text, expr, words, what)
    got = ctx.source(expr.span)
    near = got.replace(".", "_")
    if isinstance(expr, tree.Attribute) and near in words:
        ctx.report(types.UnknownWord(expr.span, got=got, what=what, near=Near(near, alone=True)))
        return near
    value = ctx.value(expr, scope)
    match value:
        case Poison():
            return None
        case Text(value=text):
            return text if text in words else _unknown_word(ctx, text, expr, words, what)
        case _:
            ctx.report(types.WrongType(expr.span, what=what, wanted=_either(words), got=describe(value)))
            return None


def _is_value(symbol: object) -> bool:
    return isinstance(symbol, Poison) or (isinstance(symbol, Symbol) and symbol.kind in ("let", "param"))


def _unknown_word(ctx: Context, got: str, expr: tree.Expr, words: Sequence[str], what: str) -> str | None:
    near = closest(got, words)
    if near and isinstance(expr, tree.Name) and expr.text != got:  # a `let` holds the word: the slip is there
        help, here = f"did you mean `{near}`?", None
    else:
        help, here = f"write {_either(words)}", near
    ctx.report(types.UnknownWord(expr.span, got=got, what=what, near=here, help=help))
    return near


def _either(words: Sequence[str]) -> str:
    quoted = [f"`{w}`" for w in words]
    return listed(quoted, "or")


def read_ref(ctx: Context, expr: tree.Expr, scope: Scope, kinds: tuple[str, ...]) -> Symbol | None:
    """The declaration an expression names; None, reported, where it is none of `kinds`."""
    value = _named(ctx, expr, scope, kinds)
    match value:
        case Poison():
            return _likely(ctx, expr, scope, kinds)
        case Ref(symbol=symbol) if symbol.kind in kinds:
            return symbol
        case Ref(symbol=symbol):
            name, got = symbol.name, article(symbol.kind)
        case Constructed(name=word):
            name, got = word, "a word of the language"
        case _:
            name, got = ctx.source(expr.span), describe(value)
    wanted = " or ".join(article(k) for k in kinds)
    help = "; ".join(filter(None, (_declared(scope, kind) for kind in kinds)))
    if isinstance(value, Constructed) and isinstance(expr, tree.Call):
        named = unused(f"my_{kinds[0]}", scope.file.names)
        help = f"name it first, `{kinds[0]} {named} = {ctx.source(expr.span)}`, and write `{named}` here"
    ctx.report(name_errors.WrongKind(expr.span, name=name, got=got, wanted=wanted, help=help))
    return None


def _named(ctx: Context, expr: tree.Expr, scope: Scope, kinds: tuple[str, ...]) -> Value:
    """The value of an expression; of an undeclared name POISON, with a declaration of `kinds` suggested."""
    if (
        isinstance(expr, tree.Name)
        and scope.local(expr.text) is None
        and expr.text not in scope.file.names
        and expr.text not in VALUES
        and expr.text not in CONSTRUCTORS
    ):
        unknown_name(ctx, expr, scope, kinds=(*kinds, "let", "param"))
        return POISON
    return ctx.value(expr, scope)


def unused(name: str, taken: Collection[str]) -> str:
    """`name`, or the first of `name2`, `name3`, … that is not taken."""
    return next(n for n in chain([name], (f"{name}{i}" for i in count(2))) if n not in taken)


def _declared(scope: Scope, kind: str) -> str:
    """``space: `w`, `v` ``: what the file declares of a kind; empty where that is nothing."""
    found = (s for s in scope.file.names.values() if isinstance(s, Symbol) and s.kind == kind)
    names = [f"`{s.name}`" for s in found if s.file is scope.file]
    return f"{kind}: " + ", ".join(names[:8]) if names else ""


def _likely(ctx: Context, expr: tree.Expr, scope: Scope, kinds: tuple[str, ...]) -> Symbol | None:
    """The declaration a misspelt name most likely means: what follows from it is checked rather than skipped."""
    noted = ctx.unknown.get((scope.file.file, expr.text), []) if isinstance(expr, tree.Name) else []
    for _, near in noted:
        symbol = scope.file.names.get(near) if near else None
        if isinstance(symbol, Symbol) and symbol.kind in kinds and symbol not in ctx.busy:
            return symbol
    return None
