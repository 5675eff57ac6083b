"""`bld` and `score`."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, cast

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.suggest import closest
from puzzledsl.base.units import COUNT, Quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import (
    arguments_of,
    as_call,
    body_of,
    call_of,
    check_parts,
    declaration,
    only_data,
    read_call,
    target,
    where,
)
from puzzledsl.checker.declarations.run_scores import read_healed, read_runs
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.expressions.coercions import as_constant, between
from puzzledsl.checker.expressions.settings import Settings, from_call
from puzzledsl.checker.expressions.values import Constructed, Poison, Symbol
from puzzledsl.ir import nodes
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree

DEFAULT_LR = nodes.Schedule(kind="cosine", peak=1e-4, warmup=0.01)
MAX_CONTEXT = 2**24
MAX_SEED = 2**31 - 1
MAX_PEAK = Fraction(1000)


def lower_bld(ctx: Context, symbol: Symbol) -> nodes.Bld | None:
    """`bld b of w { train = attention + ffn, tokens = 1B, … }`."""
    check_parts(ctx, symbol)
    decl = declaration(symbol)
    space = target(ctx, symbol)
    if space is not None:
        ctx.lower_later(space)
    settings, _ = body_of(ctx, symbol)
    if decl.body is not None:
        settings.need(
            "tokens", help="write `tokens = 100M`: each job's budget (`0` for initialisation alone)"
        )
    mode, sub_blocks = _train(ctx, settings)
    lr = read_schedule(ctx, settings, DEFAULT_LR)
    data = only_data(ctx, symbol, settings, required=True)
    heal_data = settings.ref("heal_data")
    if heal_data is not None:
        ctx.lower_later(heal_data)
    loss = settings.word("loss", "normalized_mse")
    node = nodes.Bld(
        name=ctx.name_of(symbol),
        space=ctx.name_of(space) if space is not None else "",
        mode=mode,
        sub_blocks=sub_blocks,
        tokens=settings.whole("tokens", 0),
        context=settings.whole("context", 2048, 1, MAX_CONTEXT),
        batch=settings.whole("batch", 1, 1),
        lr=lr,
        loss=cast(Literal["normalized_mse", "mse", "cosine"], loss),
        data=data,
        calibration_tokens=settings.whole("calibration", 16384, 1),
        heal_tokens=settings.whole("heal", 24576),
        heal_data=ctx.name_of(heal_data) if heal_data is not None else None,
        seed=settings.whole("seed", 0, 0, MAX_SEED),
        doc=decl.doc,
        where=where(ctx, symbol),
    )
    return node if space is not None else None


def _train(ctx: Context, settings: Settings) -> tuple[Literal["decoupled", "coupled"], tuple[SubBlock, ...]]:
    """`attention + ffn`, `attention * ffn`, or one of them."""
    both: tuple[SubBlock, SubBlock] = ("attention", "ffn")
    if not settings.has("train"):
        return "decoupled", both
    expr = settings.entry("train").expr
    match expr:
        case tree.Name(text="attention"):
            return "decoupled", ("attention",)
        case tree.Name(text="ffn"):
            return "decoupled", ("ffn",)
        case tree.Binary(op="+" | "*", left=tree.Name(text=left), right=tree.Name(text=right)):
            if {left, right} == set(both):
                return "decoupled" if expr.op == "+" else "coupled", both
            for side in (expr.left, expr.right):
                if isinstance(side, tree.Name) and side.text not in both:
                    near = closest(side.text, both)
                    help = "write `attention` or `ffn`"
                    error = types.UnknownWord(
                        side.span, got=side.text, what="sub-block", near=near, help=help
                    )
                    ctx.report(error)
                    return "decoupled", both
        case tree.BadExpr():
            return "decoupled", both
    help = "write `attention + ffn` (decoupled), `attention * ffn` (coupled), `attention` or `ffn`"
    got = f"`{ctx.source(expr.span)}`"
    ctx.report(types.WrongType(expr.span, what="`train`", wanted="what is trained", got=got, help=help))
    return "decoupled", both


def read_schedule(ctx: Context, settings: Settings, default: nodes.Schedule) -> nodes.Schedule:
    """`lr = cosine(1e-4, warmup: 1%)`, `constant(1e-4)`, or a plain number, which is constant."""
    if not settings.has("lr"):
        return default
    entry, takes = settings.entry("lr"), settings.known("lr")
    call: Constructed | None
    if isinstance(entry.expr, tree.Call | tree.Name):
        value = None
        if isinstance(entry.expr, tree.Name) and entry.expr.text not in takes.calls:
            value = ctx.value(entry.expr, entry.scope)
        if isinstance(value, Quantity | Poison):
            return _constant(ctx, value, settings, default)
        call = read_call(ctx, entry.expr, entry.scope, takes)
    else:
        value = settings.value("lr")
        if not isinstance(value, Constructed):
            return _constant(ctx, value, settings, default)
        call = as_call(ctx, value, entry.expr.span, takes)
    if call is None:
        return default
    arguments = from_call(ctx, call, takes.calls[call.name])
    arguments.need("peak", help=f"write `{call.name}(1e-4)`")
    peak = arguments.quantity("peak", COUNT, Fraction(0), Fraction(0), MAX_PEAK)
    warmup = arguments.ratio("warmup", Fraction(0))
    kind = cast(Literal["cosine", "constant"], call.name)
    return nodes.Schedule(kind=kind, peak=float(peak), warmup=float(warmup))


def _constant(ctx: Context, value: object, settings: Settings, default: nodes.Schedule) -> nodes.Schedule:
    if isinstance(value, Quantity):
        peak = as_constant(ctx, value, settings.place("lr"), "`lr`", COUNT)
        if peak is not None and not 0 <= peak.value <= MAX_PEAK:
            condition = between(0, MAX_PEAK)
            error = types.OutOfRange(settings.place("lr"), what="`lr`", condition=condition, got=str(peak))
            ctx.report(error)
            return default
        return default if peak is None else nodes.Schedule(kind="constant", peak=float(peak.value))
    if not isinstance(value, Poison):
        help = "write `cosine(1e-4, warmup: 1%)`, `constant(1e-4)` or a number"
        got = f"`{ctx.source(settings.place('lr'))}`"
        ctx.report(
            types.WrongType(settings.place("lr"), what="`lr`", wanted="a schedule", got=got, help=help)
        )
    return default


# ---------------------------------------------------------------- score

Metric = Literal["kl_divergence", "lm_loss", "cosine", "top_k_agreement", "accuracy"]
FITTED_CHILDREN, FITTED_FROM_SAMPLES = 24, 1024
"""KLs in the parent are fitted to so many children, unless said, where so many positions are scored, and no
runs: with 1,024 of them the fit finds SmolLM2's better children, with 256 the plain sum does."""


def lower_score(ctx: Context, symbol: Symbol) -> nodes.Score | None:
    """`score kl of b = replace_one(kl_divergence, …)` or `table("scores.csv")`."""
    check_parts(ctx, symbol)
    decl = declaration(symbol)
    of, call = target(ctx, symbol), call_of(ctx, symbol)
    bld = ctx.lower(of, nodes.Bld) if of is not None and of.kind == "bld" else None
    method = None if call is None else _method(ctx, symbol, call, of, bld)
    if of is None or method is None:
        return None
    ctx.lower_later(of)
    if of.kind == "bld" and bld is None:
        return None
    return nodes.Score(
        name=ctx.name_of(symbol),
        bld=bld.name if bld is not None else None,
        space=bld.space if bld is not None else ctx.name_of(of),
        method=method,
        doc=decl.doc,
        where=where(ctx, symbol),
    )


def _method(
    ctx: Context, symbol: Symbol, call: Constructed, of: Symbol | None, bld: nodes.Bld | None
) -> nodes.ReplaceOne | nodes.ScoreFromTable | None:
    if call.name == "table":
        settings = arguments_of(ctx, symbol, call)
        settings.need("path", help='write `table("scores.csv")`')
        path = settings.text("path")
        return None if settings.failed else nodes.ScoreFromTable(path=path)
    if of is not None and of.kind == "space":
        place = declaration(symbol).target
        assert place is not None
        help = "replacing one block needs its pieces: `score kl of BLD = replace_one(…)`"
        error = name_errors.WrongKind(place.span, name=of.name, got="a space", wanted="a bld", help=help)
        ctx.report(error)
    settings = arguments_of(ctx, symbol, call)
    settings.need("metric", help=f"write `{KINDS['score'].form}`")
    metric, tasks, top_k = _metric(ctx, settings)
    around = settings.ref("around")
    if around is not None:
        ctx.lower_later(around)
    data = settings.ref("data")
    if data is not None:
        ctx.lower_later(data)
    samples = settings.whole("samples", 4096, 1)
    runs = read_runs(ctx, settings, metric, of if bld is not None else None)
    healed = read_healed(ctx, settings, metric)
    enough = samples >= FITTED_FROM_SAMPLES
    fits = enough and metric == "kl_divergence" and around is None and runs is None and not healed
    return nodes.ReplaceOne(
        metric=metric,
        samples=samples,
        tasks=tasks,
        top_k=top_k,
        unit=_unit(ctx, settings, bld),
        children=settings.whole("children", FITTED_CHILDREN if fits else 0, 0, 10_000),
        runs=runs,
        healed=healed,
        around=ctx.name_of(around) if around is not None else None,
        rounds=settings.whole("rounds", 1, 1, 100),
        data=ctx.name_of(data) if data is not None else bld.data if bld is not None else None,
    )


def _metric(ctx: Context, settings: Settings) -> tuple[Metric, str | None, int | None]:
    """The metric, its tasks and how many tokens it compares, where it has them."""
    if not settings.has("metric"):
        return "kl_divergence", None, None
    entry, takes = settings.entry("metric"), settings.known("metric")
    name = entry.expr.text if isinstance(entry.expr, tree.Name) else ""
    if name == "top_k_agreement":
        return "top_k_agreement", None, 1
    if name in takes.calls and name != "accuracy":
        return cast(Metric, name), None, None
    call = read_call(ctx, entry.expr, entry.scope, takes)
    if call is None:
        return "kl_divergence", None, None
    arguments = from_call(ctx, call, takes.calls[call.name])
    if call.name == "accuracy":
        arguments.need("tasks", help='write `accuracy("tasks.jsonl")`')
        return "accuracy", arguments.text("tasks"), None
    top_k = arguments.whole("k", 1, 1, 1000) if call.name == "top_k_agreement" else None
    return cast(Metric, call.name), None, top_k


def _unit(ctx: Context, settings: Settings, bld: nodes.Bld | None) -> Literal["subblock", "block"]:
    """Coupled pieces are measured as blocks; decoupled ones as sub-blocks unless asked otherwise."""
    coupled = bld is not None and bld.mode == "coupled"
    unit = settings.word("unit", "block" if coupled else "subblock")
    if coupled and unit == "subblock":
        what, place = "`unit: subblock`", settings.place("unit")
        help = "a coupled piece holds attention and FFN together: leave `unit` out"
        ctx.report(name_errors.Misplaced(place, what=what, where="a score of coupled pieces", help=help))
    return cast(Literal["subblock", "block"], unit)
