"""`eval` and `export`."""

from __future__ import annotations

from typing import Literal, cast

from puzzledsl.base.diagnostics import Fix
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import (
    arguments_of,
    body_of,
    call_of,
    check_parts,
    declaration,
    only_data,
    target,
    where,
)
from puzzledsl.checker.declarations.full import read_full, summands
from puzzledsl.checker.declarations.prompts import read_prompts
from puzzledsl.checker.diagnostics.type_errors import WrongType
from puzzledsl.checker.expressions.settings import Settings
from puzzledsl.checker.expressions.values import Symbol
from puzzledsl.checker.names.words import read_ref
from puzzledsl.ir import nodes
from puzzledsl.syntax import tree

MAX_SHOTS = 100


def _tasks_of_harness(ctx: Context, settings: Settings) -> str:
    """Return the text of `lm_eval`; a list of strings is reported, with the string that is meant."""
    expr = settings.entry("lm_eval").expr
    if not isinstance(expr, tree.ListExpr) or not all(isinstance(i, tree.String) for i in expr.items):
        return settings.text("lm_eval")
    meant = ", ".join(item.value for item in expr.items if isinstance(item, tree.String))
    help, fixes = f'write `"{meant}"`', [Fix.replace(expr.span, f'"{meant}"')]
    error = WrongType(expr.span, what="`lm_eval`", wanted="one string", got="a list", help=help, fixes=fixes)
    ctx.report(error)
    return ""


def lower_eval(ctx: Context, symbol: Symbol) -> nodes.Eval | None:
    """`eval e of u = tasks("a.jsonl") { items = 200, data = heldout, tokens = 8Ki, full = u }`."""
    decl = declaration(symbol)
    of = target(ctx, symbol)
    tasks: tuple[str, ...] = ()
    call = call_of(ctx, symbol)
    if call is not None:
        files = arguments_of(ctx, symbol, call)
        files.need("path", help='write `tasks("hellaswag.jsonl")`')
        tasks = tuple(files.text(key) for key in files.entries)
    settings, _ = body_of(ctx, symbol)
    items = settings.whole("items", 1, 1) if settings.has("items") else None
    tokens = settings.whole("tokens", 8192)
    named = _tasks_of_harness(ctx, settings) if settings.has("lm_eval") else ""
    texts = _texts(ctx, symbol, settings)
    if of is None:
        return None
    ctx.lower_later(of)
    return nodes.Eval(
        name=ctx.name_of(symbol),
        of=ctx.name_of(of),
        tasks=tasks,
        lm_eval=tuple(task for task in named.replace(",", " ").split()),
        shots=settings.whole("shots", 0, 0, MAX_SHOTS) if settings.has("shots") else None,
        items=items,
        data=texts[0] if texts else None,
        more_data=tuple(texts[1:]),
        tokens=tokens,
        full=read_full(ctx, symbol, of, settings),
        dtype=_dtype(settings),
        prompts=read_prompts(ctx, settings),
        doc=decl.doc,
        where=where(ctx, symbol),
    )


def _dtype(settings: Settings) -> Literal["fp32", "bf16"] | None:
    if not settings.has("dtype"):
        return None
    return cast(Literal["fp32", "bf16"], settings.word("dtype", "fp32"))


def _texts(ctx: Context, symbol: Symbol, settings: Settings) -> list[str]:
    """The texts of `data = heldout + code`, each once, in order; the program's only one where nothing is said."""
    if not settings.has("data"):
        only = only_data(ctx, symbol, settings, required=False)
        return [] if only is None else [only]
    entry, kinds = settings.entry("data"), settings.known("data").kinds
    found = [read_ref(ctx, expr, entry.scope, kinds) for expr in summands(entry.expr)]
    for data in found:
        if data is not None:
            ctx.lower_later(data)
    return list(dict.fromkeys(ctx.name_of(data) for data in found if data is not None))


def lower_export(ctx: Context, symbol: Symbol) -> nodes.Export | None:
    """`export x of u = hf("dir", runtime: vllm)`, `gguf("child.gguf", dtype: f16)` or `mlx("dir")`."""
    check_parts(ctx, symbol)
    decl = declaration(symbol)
    of = target(ctx, symbol)
    call = call_of(ctx, symbol)
    if call is None:
        return None
    settings = arguments_of(ctx, symbol, call)
    settings.need("path", help=f'write `{call.name}("out/child")`')
    runtime = settings.word("runtime", settings.known("runtime").words[0])
    dtype = settings.word("dtype", "") if settings.has("dtype") else None
    lower = settings.flag("lower") if settings.has("lower") else None
    path = settings.text("path")
    if of is None or settings.failed:
        return None
    ctx.lower_later(of)
    return nodes.Export(
        name=ctx.name_of(symbol),
        of=ctx.name_of(of),
        path=path,
        format=cast(Literal["hf", "gguf", "mlx"], call.name),
        runtime=runtime,
        dtype=dtype,
        lower=lower,
        doc=decl.doc,
        where=where(ctx, symbol),
        runtime_where=ctx.where(settings.place("runtime")),
    )
