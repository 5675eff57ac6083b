"""Check a program: load, check and lower it. Reports all mistakes in one run and never raises for a user's mistake."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from puzzledsl.alternatives.registry import BROKEN
from puzzledsl.base.diagnostics import Sink, Span
from puzzledsl.checker.bodies import check_assert
from puzzledsl.checker.context import Context, Lower, OutOfSteps
from puzzledsl.checker.declarations.data import lower_data
from puzzledsl.checker.declarations.hardware import lower_hardware, lower_scenario
from puzzledsl.checker.declarations.parent import lower_parent
from puzzledsl.checker.declarations.results import lower_eval, lower_export
from puzzledsl.checker.declarations.search import lower_frontier, lower_search
from puzzledsl.checker.declarations.space import lower_space
from puzzledsl.checker.declarations.training import lower_bld, lower_score, lower_uptrain
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.expressions.evaluate import evaluate
from puzzledsl.checker.expressions.values import Scope, SourceFile, Symbol
from puzzledsl.checker.limits import MAX_DEPTH, MAX_INEXACT_STEPS
from puzzledsl.checker.lints import warn
from puzzledsl.checker.names.names import Loader, Parse
from puzzledsl.checker.names.resolve import check_settings, value_of
from puzzledsl.checker.names.words import report_unknown_names
from puzzledsl.checker.names.wrong_kind import settle_kinds
from puzzledsl.checker.program import Checked
from puzzledsl.checker.whole.stages import (
    check_engines,
    check_exports,
    check_pieces,
    check_refines,
    check_solvers,
    check_tokenizers,
    check_writers,
)
from puzzledsl.ir import nodes
from puzzledsl.ir.references import references
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree
from puzzledsl.syntax.parse import parse

if TYPE_CHECKING:
    from puzzledsl.checker.reuse import Reuse

LOWERINGS: dict[str, tuple[Lower, type]] = {
    "parent": (lower_parent, nodes.Parent),
    "data": (lower_data, nodes.Data),
    "hardware": (lower_hardware, nodes.Hardware),
    "scenario": (lower_scenario, nodes.Scenario),
    "space": (lower_space, nodes.Space),
    "bld": (lower_bld, nodes.Bld),
    "score": (lower_score, nodes.Score),
    "search": (lower_search, nodes.Search),
    "frontier": (lower_frontier, nodes.Frontier),
    "uptrain": (lower_uptrain, nodes.Uptrain),
    "eval": (lower_eval, nodes.Eval),
    "export": (lower_export, nodes.Export),
}
"""Kind -> its lowering and its node."""


def check(path: Path, settings: Mapping[str, str] | None = None) -> Checked:
    """Check and lower the program in the file `path`. `settings` are `--set NAME=VALUE` pairs."""
    return inspect(path, dict(settings or {}))[0]


def inspect(
    path: Path,
    settings: dict[str, str],
    unsaved: Mapping[str, str] | None = None,
    parse: Parse = parse,
    reuse: Reuse | None = None,
) -> tuple[Checked, Context | None]:
    """`check`, and all that was found out on the way, mistakes or not; None where the file cannot be read.

    `unsaved` maps real paths to texts that stand for the files' own; `parse` may remember what it parsed before, and
    `reuse` what the last check of the file found out. The result is the same without them.
    """
    sink = Sink()
    loader = Loader(sink, unsaved, parse)
    program: nodes.Program | None = None
    root = loader.root(path)
    ctx: Context | None = None
    for problem in BROKEN:
        sink.add(problem)
    if root is not None:
        kinds = {kind: lowering for kind, (lowering, _) in LOWERINGS.items()}
        ctx = Context(sink, loader, root, evaluate, kinds, settings, reuse=reuse)
        try:
            if reuse is not None:
                reuse.begin(ctx)
            _check_all(ctx)
        except OutOfSteps:
            pass
        except RecursionError:
            start = Span(root.file, 1, 1, 1, 2)
            sink.add(
                name_errors.TooMuch(start, what="the nesting of this program", limit=f"{MAX_DEPTH} levels")
            )
        if reuse is not None and ctx.steps > MAX_INEXACT_STEPS:
            return inspect(path, settings, unsaved, parse)
        report_unknown_names(ctx)
        if not sink.has_errors:
            program = _program(ctx)
            for check_whole in WHOLE:
                check_whole(ctx, program)
            program = None if any(d.severity == "error" for d in sink.items) else program
        if program is not None:
            warn(ctx, program)
    return Checked(program, tuple(sink.sorted()), dict(loader.sources)), ctx


WHOLE = (
    check_solvers,
    check_refines,
    check_exports,
    check_engines,
    check_tokenizers,
    check_pieces,
    check_writers,
)
"""Checks of a program whose declarations have no mistakes: what a later stage cannot do is an error, too."""


def _check_all(ctx: Context) -> None:
    """Evaluate and lower everything of the program's own files, then what these refer to in shipped ones."""
    check_settings(ctx)
    own = [file for file in ctx.loader.files.values() if not file.is_std]
    for file in own:
        settle_kinds(ctx, file)
    for file in sorted(own, key=lambda f: f is not ctx.root):
        _check_file(ctx, file)
    while ctx.pending:
        _lower(ctx, ctx.pending.pop())


def _check_file(ctx: Context, file: SourceFile) -> None:
    for item in file.module.items:
        match item:
            case tree.Assert():
                check_assert(ctx, item, Scope(file))
            case tree.Fn():
                _check_function(ctx, item)
            case tree.Let() | tree.Param() | tree.Decl():
                found = file.names.get(item.name.text)
                symbol = found if isinstance(found, Symbol) and found.item is item else _second(file, item)
                if symbol is None:
                    continue
                if isinstance(item, tree.Decl):
                    _lower(ctx, symbol)
                else:
                    value_of(ctx, symbol)
            case tree.Use():
                pass
            case _:
                assert_never(item)


def _second(file: SourceFile, item: tree.Let | tree.Param | tree.Decl) -> Symbol | None:
    """A symbol for a declaration whose name was taken, so that mistakes in it are found too."""
    if isinstance(item, tree.Decl):
        known = item.kind.text in LOWERINGS
        return Symbol(item.name.text, item.kind.text, item, file, item.name.span) if known else None
    return Symbol(item.name.text, type(item).__name__.lower(), item, file, item.name.span)


def _check_function(ctx: Context, function: tree.Fn) -> None:
    seen: set[str] = set()
    for parameter in function.parameters:
        if parameter.text in seen:
            ctx.report(name_errors.DuplicateName(parameter.span, name=parameter.text))
        seen.add(parameter.text)


def _lower(ctx: Context, symbol: Symbol) -> None:
    ctx.lower(symbol, LOWERINGS[symbol.kind][1])


def _program(ctx: Context) -> nodes.Program:
    """The program's own declarations in the order of the source, then those of other files that they refer to."""
    own = [s for s in ctx.root.names.values() if isinstance(s, Symbol) and s.file is ctx.root]
    reached = dict.fromkeys(s for s in own if s.kind in LOWERINGS)
    queue = list(reached)
    while queue:
        for name in references(ctx.lowered.get(queue.pop(0))):
            symbol = ctx.taken[name]
            if symbol not in reached:
                reached[symbol] = None
                queue.append(symbol)
    tables: dict[str, Any] = {}
    for symbol in reached:
        tables.setdefault(KINDS[symbol.kind].plural, {})[ctx.name_of(symbol)] = ctx.lowered[symbol]
    return nodes.Program(source=ctx.root.shown, params=dict(sorted(ctx.parameters.items())), **tables)
