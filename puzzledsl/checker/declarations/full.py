"""`full = best + final` of an `eval`: the children that answer its tasks and are timed."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Fix, Label, Span
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import declaration
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.diagnostics.eval_errors import NotInFull
from puzzledsl.checker.diagnostics.space_errors import OtherSpace
from puzzledsl.checker.expressions.settings import Settings
from puzzledsl.checker.expressions.values import Scope, Symbol
from puzzledsl.checker.names.words import read_ref
from puzzledsl.ir import nodes
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree


def read_full(ctx: Context, symbol: Symbol, of: Symbol, settings: Settings) -> tuple[str, ...]:
    """The children, in order; empty where nothing is said. Reports names twice, of other spaces, and a missing `of`."""
    if not settings.has("full"):
        return ()
    entry, kinds = settings.entry("full"), settings.known("full").kinds
    named = [(expr.span, read_ref(ctx, expr, entry.scope, kinds)) for expr in summands(entry.expr)]
    wanted = _space_of(ctx, of)
    seen: dict[Symbol, Span] = {}
    for span, child in named:
        if child is None:
            continue
        if _is_misspelt(ctx, entry.scope, span):
            seen.setdefault(child, span)
            continue
        if child in seen:
            label = Label(seen[child], "first named here")
            ctx.report(name_errors.DuplicateKey(span, name=ctx.source(span), secondary=[label]))
            continue
        seen[child] = span
        ctx.lower_later(child)
        got = _space_of(ctx, child)
        if got is not None and wanted is not None and got != wanted:
            help = _children_of(ctx, symbol, wanted)
            ctx.report(OtherSpace(span, name=ctx.source(span), got=got, wanted=wanted, help=help))
    if of not in seen and all(child is not None for _, child in named):
        _report_left_out(ctx, symbol, of, entry.expr.span)
    return tuple(ctx.name_of(child) for child in seen)


def summands(expr: tree.Expr) -> list[tree.Expr]:
    """`a`, `b` and `c` of `a + b + c`."""
    match expr:
        case tree.Binary(op="+", left=left, right=right):
            return [*summands(left), right]
        case _:
            return [expr]


def _is_misspelt(ctx: Context, scope: Scope, span: Span) -> bool:
    """True for an unknown name, which is reported; what else would be said rests on a guess."""
    return (scope.file.file, ctx.source(span)) in ctx.unknown


def _space_of(ctx: Context, child: Symbol) -> str | None:
    """The space of a search, or of the search that an uptrain trains further; None where that has mistakes."""
    uptrain = ctx.lower(child, nodes.Uptrain) if child.kind == "uptrain" else None
    search = child if uptrain is None else ctx.taken.get(uptrain.search)
    lowered = ctx.lower(search, nodes.Search) if search is not None else None
    return None if lowered is None else lowered.space


def _children_of(ctx: Context, symbol: Symbol, space: str) -> str:
    """``children of `w`: `best`, `final` ``: what the file declares of a space."""
    declared = [
        s for s in symbol.file.names.values() if isinstance(s, Symbol) and s.kind in KINDS["eval"].targets
    ]
    names = [f"`{s.name}`" for s in declared if s.file is symbol.file and _space_of(ctx, s) == space]
    return f"children of `{space}`: {', '.join(names[:8])}" if names else ""


def _report_left_out(ctx: Context, symbol: Symbol, of: Symbol, span: Span) -> None:
    target = declaration(symbol).target
    child = of.name if target is None else ctx.source(target.span)
    written = f"{child} + {ctx.source(span)}"
    labels = [] if target is None else [Label(target.span, "this child")]
    fix = Fix.replace(span, written, safe=False)
    ctx.report(
        NotInFull(span, child=child, evaluation=symbol.name, written=written, secondary=labels, fixes=[fix])
    )
