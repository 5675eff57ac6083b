"""`eval` and `export`."""

from __future__ import annotations

from typing import Literal, cast

from puzzledsl.checker.bodies import from_body
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import (
    check_parts,
    declaration,
    only_data,
    read_call,
    target,
    thing,
    where,
)
from puzzledsl.checker.declarations.full import read_full, summands
from puzzledsl.checker.expressions.settings import Settings, from_call
from puzzledsl.checker.names.names import Scope, Symbol
from puzzledsl.checker.names.words import read_ref
from puzzledsl.ir import nodes

FORMATS = ("hf", "gguf", "mlx")
RUNTIMES: dict[str, tuple[str, ...]] = {
    "hf": ("transformers", "vllm", "megatron"),
    "gguf": ("llama_cpp",),
    "mlx": ("mlx",),
}
GGUF_DTYPES = ("f32", "f16", "bf16", "q8_0")
TENSOR_DTYPES = ("fp32", "fp16", "bf16")


MAX_SHOTS = 100


def lower_eval(ctx: Context, symbol: Symbol) -> nodes.Eval | None:
    """`eval e of u = tasks("a.jsonl") { items = 200, data = heldout, tokens = 8Ki, full = u }`."""
    decl = declaration(symbol)
    of = target(ctx, symbol, ("uptrain", "search"))
    tasks: tuple[str, ...] = ()
    if decl.value is not None:
        call = read_call(ctx, decl.value, Scope(symbol.file), ("tasks",), "evaluation")
        if call is not None:
            files = from_call(ctx, call, ("path",), (), rest=True)
            files.need("path", help='write `tasks("hellaswag.jsonl")`')
            tasks = tuple(files.text(key) for key in files.entries)
    keys = ("items", "data", "tokens", "lm_eval", "shots", "full", "dtype")
    settings, _ = from_body(ctx, decl, Scope(symbol.file).inner(), keys, thing(symbol), symbol.span)
    items = settings.whole("items", 1, 1) if settings.has("items") else None
    tokens = settings.whole("tokens", 8192)
    named = settings.text("lm_eval") if settings.has("lm_eval") else ""
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
        doc=decl.doc,
        where=where(ctx, symbol),
    )


def _dtype(settings: Settings) -> Literal["fp32", "bf16"] | None:
    if not settings.has("dtype"):
        return None
    return cast(Literal["fp32", "bf16"], settings.word("dtype", ("fp32", "bf16"), "fp32", "dtype of tasks"))


def _texts(ctx: Context, symbol: Symbol, settings: Settings) -> list[str]:
    """The texts of `data = heldout + code`, each once, in order; the program's only one where nothing is said."""
    if not settings.has("data"):
        only = only_data(ctx, symbol, settings, required=False)
        return [] if only is None else [only]
    entry = settings.entries["data"]
    found = [read_ref(ctx, expr, entry.scope, ("data",)) for expr in summands(entry.expr)]
    for data in found:
        if data is not None:
            ctx.lower_later(data)
    return list(dict.fromkeys(ctx.name_of(data) for data in found if data is not None))


def lower_export(ctx: Context, symbol: Symbol) -> nodes.Export | None:
    """`export x of u = hf("dir", runtime: vllm)`, `gguf("child.gguf", dtype: f16)` or `mlx("dir")`."""
    check_parts(ctx, symbol, "needed", "none", 'export x of u = hf("out/child", runtime: vllm)')
    decl = declaration(symbol)
    of = target(ctx, symbol, ("uptrain", "search"))
    if decl.value is None:
        return None
    call = read_call(ctx, decl.value, Scope(symbol.file), FORMATS, "export format")
    if call is None:
        return None
    settings = from_call(ctx, call, ("path",), ("runtime", "dtype", "lower"))
    settings.need("path", help=f'write `{call.name}("out/child")`')
    runtimes = RUNTIMES[call.name]
    dtypes = GGUF_DTYPES if call.name == "gguf" else TENSOR_DTYPES
    runtime = settings.word("runtime", runtimes, runtimes[0], f"runtime of `{call.name}`")
    dtype = settings.word("dtype", dtypes, "", "dtype of an export") if settings.has("dtype") else None
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
