"""Undeclared names: recorded where they are met, and reported once per file with the most likely name, or the missing `use`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from puzzledsl.base.diagnostics import Edit, Fix, Label, Near, Span
from puzzledsl.base.resources import listing, resource
from puzzledsl.base.suggest import closest
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.expressions.values import Scope, SourceFile, Symbol
from puzzledsl.language.words import OTHER
from puzzledsl.syntax import tree

_DECLARED = re.compile(r"^(?:let|fn|param|hardware|parent|space)\s+([a-z]\w*)", re.MULTILINE)


def unknown_name(
    ctx: Context, name: tree.Name, scope: Scope, more: tuple[str, ...] = (), kinds: tuple[str, ...] = ()
) -> None:
    """Record an undeclared name, unless a syntax error may have hidden its declaration.

    `kinds` are those of the declarations that the place takes, where it does not take all: no other is suggested.
    """
    if scope.file.declares_unread(name.text):
        return
    fit = [known for known in scope.visible() if not kinds or _is_of(known, scope, kinds)]
    near = None if name.text in shipped_names() else closest(name.text, (*fit, *more))
    if (
        near is not None and name.text in OTHER
    ):  # a word of the language in a wrong place is no slip of the pen
        near = Near(near, alone=False)
    if near is None and scope.file.lost_names:
        return
    ctx.unknown.setdefault((scope.file.file, name.text), []).append((name.span, near))


def _is_of(name: str, scope: Scope, kinds: tuple[str, ...]) -> bool:
    """True for a declaration of these kinds, and for one that could not be read."""
    symbol = scope.file.names.get(name)
    return scope.local(name) is None and (not isinstance(symbol, Symbol) or symbol.kind in kinds)


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


# ---------------------------------------------------------------- names of the standard library


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
