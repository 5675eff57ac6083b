"""`eval`, with the children that answer its tasks and the prompts that they go on from, and `export`."""

from __future__ import annotations

from functools import partial
from pathlib import PurePath

from puzzledsl.base.diagnostics import Args, Fix, Label, Span
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import Declared
from puzzledsl.checker.expressions.settings import Settings, lower, lower_call, summands
from puzzledsl.checker.expressions.values import Constructed, Symbol, Text
from puzzledsl.checker.names.words import read_ref
from puzzledsl.ir import nodes
from puzzledsl.syntax import tree

PROMPT_FILES = (".jsonl", ".txt")


def lower_export(ctx: Context, symbol: Symbol) -> nodes.Export | None:
    """`export x of u = hf("dir", runtime: vllm)`, `gguf("child.gguf", dtype: f16)` or `mlx("dir")`."""
    export = Declared(ctx, symbol)
    export.check_parts()
    of, call = export.target(), export.call()
    settings = export.arguments(call)
    place = ctx.where(settings.place("runtime"))
    node = lower(settings, nodes.Export, **export.head(of), format=call.name, runtime_where=place)
    return None if of is None else settings.sound(node)


def lower_eval(ctx: Context, symbol: Symbol) -> nodes.Eval | None:
    """`eval e of u = tasks("a.jsonl") { items = 200, data = heldout, tokens = 8Ki, full = u }`."""
    evaluation = Declared(ctx, symbol)
    of, call = evaluation.target(), ctx.attempt(evaluation.call)
    tasks: tuple[str, ...] = ()
    if call is not None:
        files = evaluation.arguments(call)
        files.need_all()
        tasks = files.read("path") or ()
    settings, _ = evaluation.body()
    if settings.has("data"):
        texts: tuple[str, ...] = settings.read("data", ())
    else:
        texts = tuple(filter(None, [evaluation.only_data(settings, required=False)]))
    if of is None:
        return None
    return lower(
        settings,
        nodes.Eval,
        **evaluation.head(of),
        tasks=tasks,
        lm_eval=settings.read("lm_eval", (), _tasks_of_harness),
        data=texts[0] if texts else None,
        more_data=texts[1:],
        full=settings.read("full", (), partial(_full, evaluation, of)),
        prompts=settings.read("prompts", None, _prompts),
    )


def _tasks_of_harness(settings: Settings) -> tuple[str, ...]:
    """Return the tasks that `lm_eval` names; a list of strings is refused, with the string that is meant."""
    expr = settings.entries["lm_eval"].expr
    if not isinstance(expr, tree.ListExpr) or not all(isinstance(i, tree.String) for i in expr.items):
        return tuple(settings.text("lm_eval").replace(",", " ").split())
    meant = ", ".join(item.value for item in expr.items if isinstance(item, tree.String))
    fixes, help = [Fix.replace(expr.span, f'"{meant}"')], f'write `"{meant}"`'
    raise settings.ctx.wrong(expr.span, "`lm_eval`", "one string", "a list", help, fixes)


def _full(evaluation: Declared, of: Symbol, settings: Settings) -> tuple[str, ...]:
    """The children, in order. Reports names twice, of other spaces, and a missing `of`."""
    ctx, entry, kinds = settings.ctx, settings.entries["full"], settings.known("full").kinds
    file, wanted, seen = entry.scope.file, _space_of(ctx, of), dict[Symbol, Span]()
    named = [(e.span, ctx.attempt(read_ref, ctx, e, entry.scope, kinds)) for e in summands(entry.expr)]
    for span, child in named:
        text = ctx.source(span)
        if child is None or (file.file, text) in ctx.unknown:  # reported; the rest would rest on a guess
            seen |= {} if child is None else {child: seen.get(child, span)}
            continue
        if child in seen:
            label = Label(seen[child], "first named here")
            ctx.report(errors.DuplicateKey(span, name=text, secondary=[label]))
            continue
        seen[child] = span
        got = _space_of(ctx, child)
        if got is not None and wanted is not None and got != wanted:
            known = [s for s in file.symbols(*evaluation.kind.targets) if s.file is file]
            names = [f"`{s.name}`" for s in known if _space_of(ctx, s) == wanted]
            help = f"children of `{wanted}`: {', '.join(names[:8])}" if names else ""
            ctx.report(errors.OtherSpace(span, name=text, got=got, wanted=wanted, help=help))
    if of not in seen and all(child is not None for _, child in named):
        place, whole = evaluation.decl.target, entry.expr.span
        left_out = of.name if place is None else ctx.source(place.span)
        said: Args = {"child": left_out, "evaluation": evaluation.symbol.name}
        said |= {"written": f"{left_out} + {ctx.source(whole)}"}
        said |= {"secondary": [] if place is None else [Label(place.span, "this child")]}
        ctx.report(errors.NotInFull(whole, fixes=[Fix.replace(whole, said["written"], safe=False)], **said))
    return tuple(map(ctx.name_of, seen))


def _space_of(ctx: Context, child: Symbol) -> str | None:
    """The space of a search, or of the search that an uptrain trains further; None where that has mistakes."""
    uptrain = ctx.lower(child, nodes.Uptrain) if child.kind == "uptrain" else None
    search = child if uptrain is None else ctx.taken.get(uptrain.search)
    lowered = ctx.lower(search, nodes.Search) if search is not None else None
    return None if lowered is None else lowered.space


def _prompts(settings: Settings) -> nodes.Prompts:
    """`prompts = "p.jsonl"`, `prompts("…", "…")` or `none`."""
    ctx, value, span = settings.ctx, settings.call("prompts"), settings.place("prompts")
    match value:
        case Text():
            return nodes.Prompts(path=prompts_file(settings))
        case Constructed():
            found: nodes.Prompts = lower_call(ctx, value, settings.known("prompts").calls[value.name])
            return found
    wanted, got = "a file, `prompts(…)` or `none`", f"`{ctx.source(span)}`"
    help = 'write `prompts = "p.jsonl"`, or `prompts = prompts("Once upon a time")`'
    raise ctx.wrong(span, "`prompts`", wanted, got, help)


def prompts_file(settings: Settings) -> str:
    """The path of a file of prompts; a text that is none is refused."""
    path, place = settings.text("prompts"), settings.place("prompts")
    if PurePath(path).suffix in PROMPT_FILES:
        return path
    help, fixes = None, []
    if settings.known("prompts").calls:
        written = f"prompts({settings.ctx.source(place)})"
        help = f"write `{written}`, or the name of a `.jsonl` or `.txt` file"
        fixes = [Fix.replace(place, written, safe=False)]
    raise settings.ctx.refuse(errors.PromptsNotAFile(place, path=path, help=help, fixes=fixes))
