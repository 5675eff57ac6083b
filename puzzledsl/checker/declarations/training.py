"""`bld` and `uptrain`."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.suggest import closest
from puzzledsl.base.units import COUNT, Quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import body_of, check_parts, head, only_data, target_later
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.expressions.coercions import as_constant, between
from puzzledsl.checker.expressions.settings import Settings, as_call, lower, lower_call, read_call, summands
from puzzledsl.checker.expressions.values import Constructed, Poison, Scope, Symbol
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
    mode, sub_blocks = _train(ctx, settings)
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
                    near, help = closest(side.text, both), "write `attention` or `ffn`"
                    ctx.report(
                        types.UnknownWord(side.span, got=side.text, what="sub-block", near=near, help=help)
                    )
                    return "decoupled", both
        case tree.BadExpr():
            return "decoupled", both
    help = "write `attention + ffn` (decoupled), `attention * ffn` (coupled), `attention` or `ffn`"
    got = f"`{ctx.source(expr.span)}`"
    ctx.report(types.WrongType(expr.span, what="`train`", wanted="what is trained", got=got, help=help))
    return "decoupled", both


# ---------------------------------------------------------------- learning rates


def _schedule(ctx: Context, settings: Settings, default: nodes.Schedule) -> nodes.Schedule:
    """`lr = cosine(1e-4, warmup: 1%)`, `constant(1e-4)`, or a plain number, which is constant."""
    if not settings.has("lr"):
        return default
    entry, takes = settings.entry("lr"), settings.known("lr")
    expr, call = entry.expr, None
    if isinstance(expr, tree.Call) or (isinstance(expr, tree.Name) and expr.text in takes.calls):
        call = read_call(ctx, expr, entry.scope, takes)
    else:
        value = settings.value("lr")
        if isinstance(value, Quantity | Poison) or (
            not isinstance(expr, tree.Name) and not isinstance(value, Constructed)
        ):
            return _constant(ctx, value, settings, default)
        call = as_call(ctx, value, expr.span, takes)
    return default if call is None else lower_call(ctx, call, takes.calls[call.name]) or default


def _constant(ctx: Context, value: object, settings: Settings, default: nodes.Schedule) -> nodes.Schedule:
    place, most = settings.place("lr"), settings.known("lr").calls["constant"].arguments["peak"].at_most
    assert most is not None
    if isinstance(value, Quantity):
        peak = as_constant(ctx, value, place, "`lr`", COUNT)
        if peak is not None and not 0 <= peak.value <= most:
            condition = between(0, most)
            ctx.report(types.OutOfRange(place, what="`lr`", condition=condition, got=str(peak)))
            return default
        return default if peak is None else nodes.Schedule(kind="constant", peak=float(peak.value))
    if not isinstance(value, Poison):
        help = "write `cosine(1e-4, warmup: 1%)`, `constant(1e-4)` or a number"
        got = f"`{ctx.source(place)}`"
        ctx.report(types.WrongType(place, what="`lr`", wanted="a schedule", got=got, help=help))
    return default


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
        what, condition = "`micro_batch`", f"at most the `batch`, {node.batch}"
        place, got = settings.place("micro_batch"), str(node.micro_batch)
        settings.report(types.OutOfRange(place, what=what, condition=condition, got=got))
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
        _weight(ctx, part, entry.scope, weights)
    if not any(weights.values()) and not ctx.sink.has_errors:
        what, got = "the sum of `loss` weights", "0"
        ctx.report(types.OutOfRange(entry.expr.span, what=what, condition="more than 0", got=got))
    return weights


def _weight(ctx: Context, part: tree.Expr, scope: Scope, weights: dict[str, float]) -> None:
    factor: tree.Expr | None = None
    word = part
    if isinstance(part, tree.Binary) and part.op == "*":
        factor, word = part.left, part.right
        if isinstance(factor, tree.Name) and factor.text in weights:
            factor, word = word, factor
    if isinstance(word, tree.BadExpr):
        return
    if not isinstance(word, tree.Name) or word.text not in weights:
        near = closest(word.text, weights) if isinstance(word, tree.Name) else None
        help, got = "write a sum such as `1 * kld + 1 * cosine + 0 * lm`", ctx.source(word.span)
        ctx.report(types.UnknownWord(word.span, got=got, what="loss of uptraining", near=near, help=help))
        return
    amount = Fraction(1)
    if factor is not None:
        number = as_constant(ctx, ctx.value(factor, scope), factor.span, "a loss's weight", COUNT)
        if number is None:
            return
        amount = number.value
    if not 0 <= amount <= MAX_WEIGHT:
        got, condition = ctx.source(part.span), between(0, MAX_WEIGHT)
        ctx.report(types.OutOfRange(part.span, what="a loss's weight", condition=condition, got=got))
        return
    weights[word.text] += float(amount)
