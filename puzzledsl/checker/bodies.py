"""Readers of bodies: settings, sections, `let` and `assert` between braces. Other statements are reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.settings import Section, Setting
from puzzledsl.checker.assertions import check_assert
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.expressions.settings import Entry, Settings, put, report_unknown_key
from puzzledsl.checker.expressions.values import Scope
from puzzledsl.syntax import tree

NO_SECTIONS: Mapping[str, Section] = {}


def from_body(
    ctx: Context,
    decl: tree.Decl | tree.Section,
    scope: Scope,
    table: Mapping[str, Setting],
    thing: str,
    span: Span,
    sections: Mapping[str, Section] = NO_SECTIONS,
) -> tuple[Settings, dict[str, tree.Section]]:
    """The settings and sections of a body; other statements are reported. `let`s go into `scope`."""
    keys, section_names = tuple(table), tuple(sections)
    damaged = scope.file.is_damaged(decl.span)
    found = Settings(ctx, thing, span, table, quiet_about_missing=damaged, given=_given(decl))
    parts: dict[str, tree.Section] = {}
    for statement in decl.body or ():
        match statement:
            case tree.Assign(target=tree.Name(text=key), op="=") as assign:
                value = assign.value
                if key in sections:
                    help = f"`{key}` is a section: write `{key} {{ … }}`"
                    at = assign.target.span
                    ctx.report(name_errors.UnknownKey(at, thing=thing, name=key, help=help))
                    continue
                assert not isinstance(value, tree.Pattern | tree.PatternChoice)
                put(found, key, Entry(value, scope, assign.span), assign.target.span, keys, section_names)
            case tree.Section(name=name):
                _section(found, parts, statement, name, keys, section_names)
            case tree.Let(name=name):
                define(ctx, statement, scope)
            case tree.Assert():
                check_assert(ctx, statement, scope)
            case _:
                misplaced(ctx, statement, thing)
    return found, parts


def _given(decl: tree.Decl | tree.Section) -> frozenset[str]:
    """Return the names that a body sets, right or wrong."""
    targets = (s.target for s in decl.body or () if isinstance(s, tree.Assign))
    return frozenset(target.text for target in targets if isinstance(target, tree.Name))


def define(ctx: Context, let: tree.Let, scope: Scope) -> None:
    """A `let` of a body: visible to the statements after it."""
    if let.name.text in scope.names:
        ctx.report(name_errors.DuplicateName(let.name.span, name=let.name.text))
    scope.names[let.name.text] = ctx.value(let.value, scope)


def _section(
    found: Settings,
    parts: dict[str, tree.Section],
    section: tree.Section,
    name: tree.Name,
    keys: Sequence[str],
    sections: Sequence[str],
) -> None:
    key = name.text
    if key not in sections:
        near = report_unknown_key(found, key, name.span, (*sections, *keys))
        if near not in sections or near is None:
            return
        key = near
    if key in parts:
        found.ctx.report(name_errors.DuplicateKey(name.span, name=key))
    parts.setdefault(key, section)


_WORDS: dict[type, str] = {
    tree.ForAll: "`for`",
    tree.Require: "`require`",
    tree.Prefer: "`prefer`",
    tree.Objective: "a goal",
    tree.Solutions: "`solutions`",
    tree.Section: "a section",
}


def misplaced(ctx: Context, statement: tree.Stmt, thing: str) -> None:
    """Report a statement that a body of this kind does not have; where braces are wrong, it may be another body's."""
    if ctx.file_of(statement.span).is_damaged(statement.span):
        return
    if isinstance(statement, tree.Assign):
        what = f"`{statement.op}`" if statement.op != "=" else f"`{ctx.source(statement.target.span)}`"
        span = statement.target.span
        help = (
            "layers are edited in a `space`"
            if statement.op != "=" or not isinstance(statement.target, tree.Name)
            else ""
        )
    else:
        what, span, help = _WORDS.get(type(statement), "this"), statement.span, ""
        if isinstance(statement, tree.ForAll | tree.Require | tree.Prefer | tree.Objective | tree.Solutions):
            help = "it belongs to a `search`"
    ctx.report(name_errors.Misplaced(first_line(span), what=what, where=thing, help=help))


def first_line(span: Span) -> Span:
    """The span, or its first few columns where it covers several lines."""
    if span.end_line == span.line:
        return span
    return Span(span.file, span.line, span.column, span.line, span.column + 3)
