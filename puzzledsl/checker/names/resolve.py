"""Name resolution: the value of a name in its scope. Undeclared names are reported once per file."""

from __future__ import annotations

from typing import Any

from puzzledsl.base.diagnostics import Edit, Fix, Label
from puzzledsl.base.suggest import closest
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.expressions.values import POISON, Function, Poison, Ref, Scope, Symbol, Value
from puzzledsl.checker.names.builtins import VALUES
from puzzledsl.checker.names.missing_use import insert_use, shipped_names, use_of
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
        ctx.used.add(symbol)
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


def unknown_name(ctx: Context, name: tree.Name, scope: Scope, more: tuple[str, ...] = ()) -> None:
    """Record an undeclared name, unless a syntax error may have hidden its declaration."""
    if scope.file.declares_unread(name.text):
        return
    near = None if name.text in shipped_names() else closest(name.text, (*scope.visible(), *more))
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
