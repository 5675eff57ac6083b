"""`eval`, with the children that answer its tasks and the prompts that they go on from, and `export`."""

from __future__ import annotations

from pathlib import PurePath

from puzzledsl.base.diagnostics import Args, Fix, Label, Span
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations import common
from puzzledsl.checker.diagnostics.declaration_errors import NotInFull, PromptsNotAFile
from puzzledsl.checker.diagnostics.name_errors import DuplicateKey
from puzzledsl.checker.diagnostics.space_errors import OtherSpace
from puzzledsl.checker.expressions.settings import Settings, as_call, lower, lower_call, read_call, summands
from puzzledsl.checker.expressions.values import Constructed, Symbol, Text
from puzzledsl.checker.names.words import read_ref
from puzzledsl.ir import nodes
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree

PROMPT_FILES = (".jsonl", ".txt")


def lower_export(ctx: Context, symbol: Symbol) -> nodes.Export | None:
    """`export x of u = hf("dir", runtime: vllm)`, `gguf("child.gguf", dtype: f16)` or `mlx("dir")`."""
    common.check_parts(ctx, symbol)
    of, call = common.target(ctx, symbol), common.call_of(ctx, symbol)
    settings = common.arguments_of(ctx, symbol, call)
    place = ctx.where(settings.place("runtime"))
    node = lower(
        settings, nodes.Export, **common.head(ctx, symbol, of), format=call.name, runtime_where=place
    )
    if of is None:
        return None
    settings.sound(node)
    ctx.lower_later(of)
    return node


def lower_eval(ctx: Context, symbol: Symbol) -> nodes.Eval | None:
    """`eval e of u = tasks("a.jsonl") { items = 200, data = heldout, tokens = 8Ki, full = u }`."""
    of, call = common.target(ctx, symbol), ctx.attempt(common.call_of, ctx, symbol)
    tasks: tuple[str, ...] = ()
    if call is not None:
        files = common.arguments_of(ctx, symbol, call)
        files.need_all()
        tasks = files.read("path") or ()
    settings, _ = common.body_of(ctx, symbol)
    named = (ctx.attempt(_tasks_of_harness, ctx, settings) or "") if settings.has("lm_eval") else ""
    if settings.has("data"):
        texts: tuple[str, ...] = settings.read("data", ())
    else:
        texts = tuple(filter(None, [common.only_data(ctx, symbol, settings, required=False)]))
    if of is None:
        return None
    ctx.lower_later(of)
    return lower(
        settings,
        nodes.Eval,
        **common.head(ctx, symbol, of),
        tasks=tasks,
        lm_eval=tuple(named.replace(",", " ").split()),
        data=texts[0] if texts else None,
        more_data=texts[1:],
        full=_full(ctx, symbol, of, settings) if settings.has("full") else (),
        prompts=ctx.attempt(_prompts, ctx, settings) if settings.has("prompts") else None,
    )


def _tasks_of_harness(ctx: Context, settings: Settings) -> str:
    """Return the text of `lm_eval`; a list of strings is refused, with the string that is meant."""
    expr = settings.entry("lm_eval").expr
    if not isinstance(expr, tree.ListExpr) or not all(isinstance(i, tree.String) for i in expr.items):
        return settings.text("lm_eval")
    meant = ", ".join(item.value for item in expr.items if isinstance(item, tree.String))
    fixes = [Fix.replace(expr.span, f'"{meant}"')]
    raise ctx.wrong(expr.span, "`lm_eval`", "one string", "a list", f'write `"{meant}"`', fixes)


def _full(ctx: Context, symbol: Symbol, of: Symbol, settings: Settings) -> tuple[str, ...]:
    """The children, in order. Reports names twice, of other spaces, and a missing `of`."""
    entry, kinds = settings.entry("full"), settings.known("full").kinds
    parts = summands(entry.expr)
    named = [(expr.span, ctx.attempt(read_ref, ctx, expr, entry.scope, kinds)) for expr in parts]
    wanted = _space_of(ctx, of)
    seen: dict[Symbol, Span] = {}
    for span, child in named:
        if child is None:
            continue
        text = ctx.source(span)
        if (entry.scope.file.file, text) in ctx.unknown:  # reported; the rest would rest on a guess
            seen.setdefault(child, span)
            continue
        if child in seen:
            label = Label(seen[child], "first named here")
            ctx.report(DuplicateKey(span, name=text, secondary=[label]))
            continue
        seen[child] = span
        ctx.lower_later(child)
        got = _space_of(ctx, child)
        if got is not None and wanted is not None and got != wanted:
            help = _children_of(ctx, symbol, wanted)
            ctx.report(OtherSpace(span, name=text, got=got, wanted=wanted, help=help))
    if of not in seen and all(child is not None for _, child in named):
        _report_left_out(ctx, symbol, of, entry.expr.span)
    return tuple(ctx.name_of(child) for child in seen)


def _space_of(ctx: Context, child: Symbol) -> str | None:
    """The space of a search, or of the search that an uptrain trains further; None where that has mistakes."""
    uptrain = ctx.lower(child, nodes.Uptrain) if child.kind == "uptrain" else None
    search = child if uptrain is None else ctx.taken.get(uptrain.search)
    lowered = ctx.lower(search, nodes.Search) if search is not None else None
    return None if lowered is None else lowered.space


def _children_of(ctx: Context, symbol: Symbol, space: str) -> str:
    """``children of `w`: `best`, `final` ``: what the file declares of a space."""
    declared = [s for s in symbol.file.symbols(*KINDS["eval"].targets) if s.file is symbol.file]
    names = [f"`{s.name}`" for s in declared if _space_of(ctx, s) == space]
    return f"children of `{space}`: {', '.join(names[:8])}" if names else ""


def _report_left_out(ctx: Context, symbol: Symbol, of: Symbol, span: Span) -> None:
    named_of = common.declaration(symbol).target
    child = of.name if named_of is None else ctx.source(named_of.span)
    written = f"{child} + {ctx.source(span)}"
    labels = [] if named_of is None else [Label(named_of.span, "this child")]
    said: Args = {"child": child, "evaluation": symbol.name, "written": written}
    ctx.report(NotInFull(span, secondary=labels, fixes=[Fix.replace(span, written, safe=False)], **said))


def _prompts(ctx: Context, settings: Settings) -> nodes.Prompts:
    """`prompts = "p.jsonl"`, `prompts("…", "…")` or `none`."""
    entry, takes = settings.entry("prompts"), settings.known("prompts")
    expr = entry.expr
    word = expr.function if isinstance(expr, tree.Call) else expr
    if isinstance(word, tree.Name) and word.text in takes.calls:
        call = read_call(ctx, expr, entry.scope, takes)
    else:
        value = settings.value("prompts")
        if isinstance(value, Text):
            return nodes.Prompts(path=prompts_file(settings))
        if not isinstance(value, Constructed):
            wanted, got = "a file, `prompts(…)` or `none`", f"`{ctx.source(expr.span)}`"
            help = 'write `prompts = "p.jsonl"`, or `prompts = prompts("Once upon a time")`'
            raise ctx.wrong(expr.span, "`prompts`", wanted, got, help)
        call = as_call(ctx, value, expr.span, takes)
    found: nodes.Prompts = lower_call(ctx, call, takes.calls[call.name])
    return found


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
    raise settings.ctx.refuse(PromptsNotAFile(place, path=path, help=help, fixes=fixes))
