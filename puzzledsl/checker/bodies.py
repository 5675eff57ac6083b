"""Statements between braces: settings, sections, `let` and `assert` of any body. Other statements are reported."""

from __future__ import annotations

from collections.abc import Mapping

from puzzledsl.base.diagnostics import Args, Span
from puzzledsl.base.settings import Section, Setting
from puzzledsl.base.units import Quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.settings import Entry, Settings, put, report_unknown_key
from puzzledsl.syntax import tree


def from_body(
    ctx: Context,
    decl: tree.Decl | tree.Section,
    scope: values.Scope,
    table: Mapping[str, Setting],
    thing: str,
    span: Span,
    sections: Mapping[str, Section] | None = None,
) -> tuple[Settings, dict[str, tree.Section]]:
    """The settings and sections of a body; other statements are reported. `let`s go into `scope`."""
    names = tuple(sections or ())
    found = Settings(ctx, thing, span, table, quiet_about_missing=scope.file.is_damaged(decl.span))
    targets = (s.target for s in decl.body or () if isinstance(s, tree.Assign))
    found.given = frozenset(target.text for target in targets if isinstance(target, tree.Name))
    parts: dict[str, tree.Section] = {}
    for statement in decl.body or ():
        match statement:
            case tree.Assign(target=tree.Name(text=key) as name, op="=") if key in names:
                help = f"`{key}` is a section: write `{key} {{ … }}`"
                ctx.report(name_errors.UnknownKey(name.span, thing=thing, name=key, help=help))
            case tree.Assign(target=tree.Name() as name, op="=", value=value):
                assert not isinstance(value, tree.Pattern | tree.PatternChoice)
                put(found, name, Entry(value, scope, statement.span), tuple(table), names)
            case tree.Section(name=name):
                meant = name.text if name.text in names else None
                meant = meant or report_unknown_key(found, name, (*names, *table))
                if meant in parts:
                    ctx.report(name_errors.DuplicateKey(name.span, name=meant))
                if meant in names:
                    parts.setdefault(str(meant), statement)
            case _:
                common(ctx, statement, scope, thing)
    return found, parts


def common(ctx: Context, statement: tree.Stmt, scope: values.Scope, thing: str) -> None:
    """Read a `let` or `assert`, which every body may have; report another statement, which is in the wrong place."""
    match statement:
        case tree.Let(name=name):  # visible to the statements after it
            if name.text in scope.names:
                ctx.report(name_errors.DuplicateName(name.span, name=name.text))
            scope.names[name.text] = ctx.value(statement.value, scope)
        case tree.Assert():
            check_assert(ctx, statement, scope)
        case _:
            misplaced(ctx, statement, thing)


_OF_SEARCHES: dict[type, str] = {
    tree.ForAll: "`for`",
    tree.Require: "`require`",
    tree.Prefer: "`prefer`",
    tree.Objective: "a goal",
    tree.Solutions: "`solutions`",
}


def misplaced(ctx: Context, statement: tree.Stmt, thing: str) -> None:
    """Report a statement that a body of this kind does not have; where braces are wrong, it may be another body's."""
    if ctx.file_of(statement.span).is_damaged(statement.span):
        return
    span, help = statement.span, ""
    if isinstance(statement, tree.Assign):
        span, plain = statement.target.span, statement.op == "="
        what = f"`{ctx.source(span)}`" if plain else f"`{statement.op}`"
        if not plain or not isinstance(statement.target, tree.Name):
            help = "layers are edited in a `space`"
    else:
        what = _OF_SEARCHES.get(
            type(statement), "a section" if isinstance(statement, tree.Section) else "this"
        )
        help = "it belongs to a `search`" if type(statement) in _OF_SEARCHES else ""
    if span.end_line != span.line:  # its first few columns
        span = Span(span.file, span.line, span.column, span.line, span.column + 3)
    ctx.report(name_errors.Misplaced(span, what=what, where=thing, help=help))


def check_assert(ctx: Context, statement: tree.Assert, scope: values.Scope) -> None:
    """Evaluate an assertion and report it where it is false, or not known before the search."""
    value = ctx.value(statement.condition, scope)
    span = statement.condition.span
    match value:
        case values.Poison() | values.Boolean(value=True):
            return
        case values.Boolean():
            notes = [f"because {statement.because.value}"] if statement.because else []
            span, label = _failing(ctx, statement.condition, scope)
            ctx.report(name_errors.AssertionFails(span, label, notes=notes))
        case values.Conjunction() | values.Formula() | values.Matches():
            help = "write `require` in a search instead"
            ctx.report(types.NotConstant(span, what="an assertion", got="this", help=help))
        case _:
            said: Args = {"keyword": "assert", "wanted": "true or false", "got": values.describe(value)}
            ctx.report(types.NotARequirement(span, **said))


def _failing(ctx: Context, condition: tree.Expr, scope: values.Scope) -> tuple[Span, str]:
    """The part that is false, and its sides' values."""
    while isinstance(condition, tree.Binary) and condition.op == "and":
        left = ctx.value(condition.left, scope)
        condition = condition.right if left == values.Boolean(True) else condition.left
    if not isinstance(condition, tree.Compare):
        return condition.span, "this is false"
    parts = []
    for operand in condition.operands:
        text, value = ctx.source(operand.span), _shown(ctx.value(operand, scope))
        if value and value != text:
            parts.append(f"`{text}` is {value}")
    return condition.span, ", ".join(parts)


def _shown(value: values.Value) -> str:
    match value:
        case Quantity():
            return str(value)
        case values.Text(value=text):
            return f'"{text}"'
        case values.Boolean(value=true):
            return "true" if true else "false"
        case _:
            return ""
