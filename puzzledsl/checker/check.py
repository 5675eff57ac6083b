"""Check a program: load its files, check them and lower them to the IR. Mistakes are reported, many in one run, never raised."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_never

from puzzledsl.alternatives.registry import BROKEN
from puzzledsl.base.diagnostics import Diagnostic, Sink, Span
from puzzledsl.base.frozen import Record
from puzzledsl.base.resources import resource
from puzzledsl.checker import errors
from puzzledsl.checker.context import MAX_DEPTH, Context, Lower, OutOfSteps
from puzzledsl.checker.declarations import data, hardware, judge, search, stages
from puzzledsl.checker.declarations.common import check_assert, lowering
from puzzledsl.checker.engines import with_one_cache
from puzzledsl.checker.expressions.evaluate import evaluate
from puzzledsl.checker.expressions.values import Scope, SourceFile, Symbol
from puzzledsl.checker.names import words
from puzzledsl.checker.names.names import STD, Loader, Parse, declared
from puzzledsl.checker.spaces import choices
from puzzledsl.checker.whole import check_whole, warn
from puzzledsl.ir import nodes
from puzzledsl.ir.references import references
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree
from puzzledsl.syntax.parse import parse

Map = Mapping[str, str]
LOWERINGS: dict[str, Lower] = {
    "parent": lowering(data.lower_parent),
    "data": lowering(data.lower_data),
    "hardware": hardware.lower_hardware,
    "scenario": lowering(hardware.lower_scenario),
    "space": choices.lower_space,
    "bld": lowering(stages.lower_bld),
    "score": lowering(stages.lower_score),
    "judge": lowering(judge.lower_judge),
    "search": lowering(search.lower_search),
    "frontier": lowering(search.lower_frontier),
    "uptrain": lowering(stages.lower_uptrain),
    "eval": lowering(stages.lower_eval),
    "export": lowering(stages.lower_export),
}
"""Kind of declaration -> the function that checks such a declaration and returns its IR node, in a program's usual order."""


class Checked(Record):
    """The outcome of checking a file. `program` is None if there are errors; `sources`: file name in spans -> its text."""

    program: nodes.Program | None
    diagnostics: tuple[Diagnostic, ...]
    sources: Mapping[str, str]


def check(path: Path, settings: Mapping[str, str] | None = None) -> Checked:
    """Check and lower the program in the file `path`. `settings` are `--set NAME=VALUE` pairs."""
    return inspect(path, dict(settings or {}))[0]


def inspect(
    path: Path,
    settings: Map,
    unsaved: Map | None = None,
    parse: Parse = parse,
    lowerings: dict[str, Lower] = LOWERINGS,
) -> tuple[Checked, Context | None]:
    """Check a program as `check` does; return the outcome with the check's Context, which is None if the file cannot be read.

    `unsaved`: real path -> text to check in place of the file's. `parse` and `lowerings` may be versions that cache.
    """
    sink = Sink()
    loader = Loader(sink, unsaved, parse)
    program: nodes.Program | None = None
    root = loader.root(path)
    ctx: Context | None = None
    for problem in BROKEN:
        sink.add(problem)
    if root is not None:
        ctx = Context(sink, loader, root, evaluate, lowerings, settings)
        try:
            words.check_settings(ctx)
            own = (file for file in loader.files.values() if not file.shown.startswith(STD))
            for file in sorted(own, key=lambda f: f is not root):
                _check_file(ctx, file)
            while ctx.pending:  # what these refer to in shipped files
                ctx.lower(ctx.pending.pop(), object)
        except OutOfSteps:
            pass
        except RecursionError:
            start, what = Span(root.file, 1, 1, 1, 2), "the nesting of this program"
            sink.add(errors.TooMuch(start, what=what, limit=f"{MAX_DEPTH} levels"))
        words.report_unknown_names(ctx)
        if all(found.severity != "error" for found in sink.items):
            program = with_one_cache(ctx, _program(ctx))
            check_whole(ctx, program)
            program = None if any(d.severity == "error" for d in sink.items) else program
        if program is not None:
            warn(ctx, program)
    return Checked(program, tuple(sink.sorted()), dict(loader.sources)), ctx


def _check_file(ctx: Context, file: SourceFile) -> None:
    for item in file.module.items:
        match item:
            case tree.Assert():
                check_assert(ctx, item, Scope(file))
            case tree.Fn(parameters=parameters):
                for place, parameter in enumerate(parameters):
                    if parameter.text in {earlier.text for earlier in parameters[:place]}:
                        ctx.report(errors.DuplicateName(parameter.span, name=parameter.text))
            case tree.Let() | tree.Param() | tree.Decl():
                symbol = file.names.get(item.name.text)
                if not isinstance(symbol, Symbol) or symbol.item is not item:
                    symbol = declared(item, file)  # its name was taken: mistakes in it are found, too
                if not isinstance(item, tree.Decl):
                    words.value_of(ctx, symbol)
                elif symbol.kind in LOWERINGS:
                    ctx.lower(symbol, object)
            case tree.Use():
                pass
            case _:
                assert_never(item)


def _program(ctx: Context) -> nodes.Program:
    """Return the IR's program: the main file's declarations in source order, then those of other files that they refer to."""
    reached = dict.fromkeys(s for s in ctx.root.symbols(*LOWERINGS) if s.file is ctx.root)
    queue = list(reached) if len(ctx.loader.files) > 1 else []
    while queue:
        for name in references(ctx.lowered.get(queue.pop(0))):
            symbol = ctx.taken[name]
            if symbol not in reached:
                reached[symbol] = None
                queue.append(symbol)
    tables: dict[str, Any] = {}
    for symbol in reached:
        tables.setdefault(KINDS[symbol.kind].plural, {})[ctx.name_of(symbol)] = ctx.lowered[symbol]
    params, given = dict(sorted(ctx.parameters.items())), tuple(sorted(ctx.settings))
    return nodes.Program(source=ctx.root.shown, params=params, given=given, **tables)


HARDWARE, PARENTS = "std/hardware.pzl", "std/parents.pzl"


def shipped_profiles() -> dict[str, nodes.RooflineHardware]:
    """The roofline profiles of std/hardware.pzl, by name."""
    checked = check(resource("spaces", HARDWARE))
    assert checked.program is not None, checked.diagnostics
    specs = {name: hardware.spec for name, hardware in checked.program.hardware.items()}
    return {name: spec for name, spec in specs.items() if isinstance(spec, nodes.RooflineHardware)}


def shipped_shapes() -> dict[str, nodes.Shape]:
    """The shapes of the parents in std/parents.pzl, by the parents' names."""
    names = [name for name, file in words.shipped_names().items() if file == PARENTS]
    text = f'use "{PARENTS}" ({", ".join(names)})\n' + "".join(f"parent p_{n} = {n}\n" for n in names)
    path = Path("shipped-parents.pzl").resolve()  # never written
    checked, _ = inspect(path, {}, {str(path): text})
    assert checked.program is not None, checked.diagnostics
    return {name: checked.program.parents[f"p_{name}"].shape for name in names}
