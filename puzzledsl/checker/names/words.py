"""Words of closed lists, names of declarations where only these are allowed, and undeclared names with what was meant."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from itertools import chain, count
from typing import Any

from puzzledsl.base.diagnostics import Edit, Fix, Label, Near, Span
from puzzledsl.base.phrases import listed
from puzzledsl.base.resources import listing, resource
from puzzledsl.base.suggest import closest
from puzzledsl.checker.context import Context, Refused
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.diagnostics.type_errors import UnknownWord
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.values import Scope, SourceFile, Symbol
from puzzledsl.language.calls import CONSTRUCTORS
from puzzledsl.language.words import OTHER
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


_DECLARED = re.compile(r"^(?:let|fn|param|hardware|parent|space)\s+([a-z]\w*)", re.MULTILINE)


def unknown_name(
    ctx: Context, name: tree.Name, scope: Scope, more: tuple[str, ...] = (), kinds: tuple[str, ...] = ()
) -> None:
    """Record an undeclared name, unless a syntax error may have hidden its declaration.

    `kinds` are those of the declarations that the place takes, where it does not take all: no other is suggested.
    """
    if scope.file.declares_unread(name.text):
        return
    # declarations of these kinds, and those that could not be read
    others = {s.name for s in scope.file.symbols() if kinds and s.kind not in kinds}
    others |= scope.all_local().keys() if kinds else set()
    fit = [known for known in scope.visible() if known not in others]
    near = None if name.text in shipped_names() else closest(name.text, (*fit, *more))
    if near is not None and name.text in OTHER:
        near = Near(near, alone=False)  # a word of the language in a wrong place is no slip of the pen
    if near is None and scope.file.lost_names:
        return
    ctx.unknown.setdefault((scope.file.file, name.text), []).append((name.span, near))


def report_unknown_names(ctx: Context) -> None:
    """Report each undeclared name of a file once, at its first use; a note lists the other lines.

    If uses on several lines agree on a name close to an unused declaration, the declaration is the misspelling.
    """
    forgotten: dict[str, list[str]] = {}
    for file, name in ctx.unknown:
        if name in shipped_names():
            forgotten.setdefault(file, []).append(name)
    for (file, name), uses in ctx.unknown.items():
        uses.sort(key=lambda use: use[0])
        span, near = uses[0]
        lines = sorted({other.line for other, _ in uses} - {span.line})
        listed = ", ".join(map(str, lines[:8])) + (" …" if len(lines) > 8 else "")
        notes = [f"also on line{'s' if len(lines) > 1 else ''} {listed}"] if lines else []
        symbol = ctx.file_of(span).names.get(near) if near else None
        about: dict[str, Any] = {
            "name": name,
            "notes": notes,
            "help": f"did you mean `{near}`?" if near else "",
        }
        if name.lower() in ("none", "null"):
            about["help"] = "no value is written by leaving the setting out"
        if name in forgotten.get(file, ()):
            about["help"] = f"the standard library has it: write `{use_of([name])}`"
            about["fixes"] = [insert_use(ctx.file_of(span), forgotten[file])]
        if near:
            edits = tuple(Edit(other, near) for other, _ in uses)
            about["fixes"] = [Fix(f"write `{near}`", edits, safe=near.alone)]
        if not isinstance(symbol, Symbol) or symbol.file.file != file:
            ctx.report(name_errors.UnknownName(span, **about))
        elif lines and symbol not in ctx.used:
            about["help"] = f"declare it as `{name}`"
            about["fixes"] = [Fix.replace(symbol.span, name)]
            ctx.report(name_errors.UnknownName(symbol.span, secondary=[Label(span, "used here")], **about))
        else:
            label = Label(symbol.span, "declared here")
            ctx.report(name_errors.UnknownName(span, secondary=[label], **about))


@cache
def shipped_names() -> dict[str, str]:
    """Every name that a file of the standard library declares, with that file: `h100_sxm` -> `std/hardware.pzl`."""
    names: dict[str, str] = {}
    for file in listing("spaces", "std/*.pzl"):
        for name in _DECLARED.findall(resource("spaces", file).read_text("utf-8")):
            names.setdefault(name, file)
    return names


def use_of(names: Iterable[str]) -> str:
    """The `use` lines that bring shipped names in, a line a file."""
    by_file: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        by_file.setdefault(shipped_names()[name], []).append(name)
    return "\n".join(f'use "{file}" ({", ".join(listed)})' for file, listed in sorted(by_file.items()))


def insert_use(file: SourceFile, names: Iterable[str]) -> Fix:
    """The fix that writes those lines before the first declaration of a file, its doc comment included."""
    line = file.module.items[0].span.line if file.module.items else 1
    if file.module.items and not isinstance(file.module.items[0], tree.Use):
        while line > 1 and file.lines[line - 2].startswith("##"):
            line -= 1
    text = use_of(names)
    place = Span(file.file, line, 1, line, 1)
    return Fix("write `" + text.replace("\n", "`, `") + "`", (Edit(place, text + "\n"),))
