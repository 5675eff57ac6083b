"""`bld` and `uptrain`."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal

from puzzledsl.alternatives.alternative import SUB_BLOCKS, SubBlock
from puzzledsl.base.diagnostics import Args
from puzzledsl.base.suggest import closest
from puzzledsl.base.units import Quantity
from puzzledsl.checker.context import Context, Refused
from puzzledsl.checker.declarations.common import body_of, check_parts, head, only_data, target_later
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.expressions.coercions import as_constant, between
from puzzledsl.checker.expressions.settings import Settings, as_call, lower, lower_call, read_call, summands
from puzzledsl.checker.expressions.values import Constructed, Scope, Symbol
from puzzledsl.ir import nodes
from puzzledsl.syntax import tree

SHORT_RUN, SHORT_PEAK, LONG_PEAK, WARMUP = 64 * 1024, 2e-4, 1e-4, 0.05
"""An uptraining of fewer tokens than this has the first peak: of 12 Ki tokens it made the better child (docs/science.md). The
second is what is usual for long distillations; 48 Ki tokens did well with it."""
STEP_FACTOR = 85
"""Tokens of a step, squared, by tokens of the run: 1 Ki tokens a step where there are 12 Ki (docs/science.md)."""
MAX_WEIGHT = 10**6


def lower_bld(ctx: Context, symbol: Symbol) -> nodes.Bld | None:
    """`bld b of w { train = attention + ffn, tokens = 1B, … }`."""
    check_parts(ctx, symbol)
    space = target_later(ctx, symbol)
    settings, _ = body_of(ctx, symbol)
    train = ctx.attempt(_train, ctx, settings.entry("train").expr) if settings.has("train") else None
    mode, sub_blocks = train or ("decoupled", SUB_BLOCKS)
    node = lower(
        settings,
        nodes.Bld,
        **head(ctx, symbol, space),
        mode=mode,
        sub_blocks=sub_blocks,
        lr=_schedule(ctx, settings, nodes.Schedule(peak=1e-4, warmup=0.01)),
        data=only_data(ctx, symbol, settings, required=True),
    )
    return node if space is not None else None


def _train(ctx: Context, expr: tree.Expr) -> tuple[Literal["decoupled", "coupled"], tuple[SubBlock, ...]]:
    """`attention + ffn`, `attention * ffn`, or one of them."""
    match expr:
        case tree.Name(text="attention" | "ffn" as only):
            return "decoupled", tuple(part for part in SUB_BLOCKS if part == only)
        case tree.Binary(op="+" | "*", left=tree.Name() as left, right=tree.Name() as right):
            if {left.text, right.text} == set(SUB_BLOCKS):
                return "decoupled" if expr.op == "+" else "coupled", SUB_BLOCKS
            for side in (left, right):
                if side.text not in SUB_BLOCKS:
                    near, help = closest(side.text, SUB_BLOCKS), "write `attention` or `ffn`"
                    said: Args = {"got": side.text, "what": "sub-block"}
                    raise ctx.refuse(types.UnknownWord(side.span, near=near, help=help, **said))
        case tree.BadExpr():
            raise Refused
    help = "write `attention + ffn` (decoupled), `attention * ffn` (coupled), `attention` or `ffn`"
    raise ctx.wrong(expr.span, "`train`", "what is trained", f"`{ctx.source(expr.span)}`", help)


# ---------------------------------------------------------------- learning rates


def _schedule(ctx: Context, settings: Settings, default: nodes.Schedule) -> nodes.Schedule:
    if not settings.has("lr"):
        return default
    return settings.attempt(_written_schedule, ctx, settings) or default


def _written_schedule(ctx: Context, settings: Settings) -> nodes.Schedule:
    """`lr = cosine(1e-4, warmup: 1%)`, `constant(1e-4)`, or a plain number, which is constant."""
    entry, takes, place = settings.entry("lr"), settings.known("lr"), settings.place("lr")
    expr = entry.expr
    if isinstance(expr, tree.Call) or (isinstance(expr, tree.Name) and expr.text in takes.calls):
        call = read_call(ctx, expr, entry.scope, takes)
    else:
        value = settings.value("lr")
        if isinstance(value, Quantity):
            peak, most = (
                as_constant(ctx, value, place, "`lr`"),
                takes.calls["constant"].arguments["peak"].at_most,
            )
            assert most is not None
            if not 0 <= peak.value <= most:
                said: Args = {"what": "`lr`", "condition": between(0, most), "got": str(peak)}
                raise ctx.refuse(types.OutOfRange(place, **said))
            return nodes.Schedule(kind="constant", peak=float(peak.value))
        if not isinstance(expr, tree.Name) and not isinstance(value, Constructed):
            help = "write `cosine(1e-4, warmup: 1%)`, `constant(1e-4)` or a number"
            raise ctx.wrong(place, "`lr`", "a schedule", f"`{ctx.source(place)}`", help)
        call = as_call(ctx, value, expr.span, takes)
    found: nodes.Schedule = lower_call(ctx, call, takes.calls[call.name])
    return found


# ---------------------------------------------------------------- uptrain


def lower_uptrain(ctx: Context, symbol: Symbol) -> nodes.Uptrain | None:
    """`uptrain u of s { loss = 1 * kld + 1 * cosine + 0 * lm, tokens = 45B, … }`."""
    check_parts(ctx, symbol)
    search = target_later(ctx, symbol)
    settings, _ = body_of(ctx, symbol)
    settings.need_all("lr")
    tokens, context = settings.read("tokens"), settings.read("context")
    node = lower(
        settings,
        nodes.Uptrain,
        **head(ctx, symbol, search),
        **_loss(ctx, settings),
        tokens=tokens,
        context=context,
        batch=settings.read("batch", batch_of(tokens, context)),
        lr=_schedule(ctx, settings, schedule_of(tokens)),
        fits_child=not settings.has("lr"),
        data=only_data(ctx, symbol, settings, required=True),
    )
    if settings.has("batch") and node.micro_batch is not None and node.micro_batch > node.batch:
        condition, got = f"at most the `batch`, {node.batch}", str(node.micro_batch)
        said: Args = {"what": "`micro_batch`", "condition": condition, "got": got}
        settings.report(types.OutOfRange(settings.place("micro_batch"), **said))
    return node if search is not None else None


def batch_of(tokens: int, context: int) -> int:
    """Sequences a step where the program does not say: steps and tokens a step grow alike, both with the root of the budget."""
    sequences = math.sqrt(STEP_FACTOR * tokens) / context
    return 1 if sequences <= 1 else 2 ** round(math.log2(sequences))


def schedule_of(tokens: int) -> nodes.Schedule:
    """The learning rate where the program does not say; its peak is lowered where the child is near its parent."""
    return nodes.Schedule(peak=SHORT_PEAK if tokens < SHORT_RUN else LONG_PEAK, warmup=WARMUP)


def _loss(ctx: Context, settings: Settings) -> dict[str, float]:
    """The weights of a sum such as `1 * kld + 0.5 * cosine`; the paper's KL + cosine where none is given."""
    weights = dict.fromkeys(settings.known("loss").words, 0.0)
    if not settings.has("loss"):
        return {**weights, "kld": 1.0, "cosine": 1.0}
    entry = settings.entry("loss")
    for part in summands(entry.expr):
        word, weight = ctx.attempt(_weighted, ctx, part, entry.scope, tuple(weights)) or ("kld", 0.0)
        weights[word] += weight
    if not any(weights.values()) and not ctx.sink.has_errors:
        said: Args = {"what": "the sum of `loss` weights", "condition": "more than 0", "got": "0"}
        ctx.report(types.OutOfRange(entry.expr.span, **said))
    return weights


def _weighted(ctx: Context, part: tree.Expr, scope: Scope, known: tuple[str, ...]) -> tuple[str, float]:
    """A loss and its weight: `0.5 * cosine`."""
    factor: tree.Expr | None = None
    word = part
    if isinstance(part, tree.Binary) and part.op == "*":
        factor, word = part.left, part.right
        if isinstance(factor, tree.Name) and factor.text in known:
            factor, word = word, factor
    if isinstance(word, tree.BadExpr):
        raise Refused
    if not isinstance(word, tree.Name) or word.text not in known:
        near = closest(word.text, known) if isinstance(word, tree.Name) else None
        help = "write a sum such as `1 * kld + 1 * cosine + 0 * lm`"
        said: Args = {"got": ctx.source(word.span), "what": "loss of uptraining"}
        raise ctx.refuse(types.UnknownWord(word.span, near=near, help=help, **said))
    amount, what = Fraction(1), "a loss's weight"
    if factor is not None:
        amount = as_constant(ctx, ctx.value(factor, scope), factor.span, what).value
    if not 0 <= amount <= MAX_WEIGHT:
        got, condition = ctx.source(part.span), between(0, MAX_WEIGHT)
        raise ctx.refuse(types.OutOfRange(part.span, what=what, condition=condition, got=got))
    return word.text, float(amount)
