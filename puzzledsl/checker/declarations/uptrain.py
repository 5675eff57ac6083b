"""`uptrain`."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal, cast

from puzzledsl.base.suggest import closest
from puzzledsl.base.units import COUNT
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import body_of, check_parts, declaration, only_data, target, where
from puzzledsl.checker.declarations.training import MAX_CONTEXT, MAX_SEED, read_schedule
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.expressions.coercions import as_constant, between
from puzzledsl.checker.expressions.settings import Settings
from puzzledsl.checker.expressions.values import Scope, Symbol
from puzzledsl.ir import nodes
from puzzledsl.syntax import tree

SHORT_RUN, SHORT_PEAK, LONG_PEAK, WARMUP = 64 * 1024, 2e-4, 1e-4, 0.05
"""A run of fewer tokens than this has the first peak: of 12 Ki tokens it made the better child (docs/science.md). The second is
what is usual for long distillations; 48 Ki tokens did well with it."""
STEP_FACTOR = 85
"""Tokens of a step, squared, by tokens of the run: 1 Ki tokens a step where there are 12 Ki (docs/science.md)."""
MAX_WEIGHT = 10**6


def lower_uptrain(ctx: Context, symbol: Symbol) -> nodes.Uptrain | None:
    """`uptrain u of s { loss = 1 * kld + 1 * cosine + 0 * lm, tokens = 45B, … }`."""
    check_parts(ctx, symbol)
    decl = declaration(symbol)
    search = target(ctx, symbol)
    if search is not None:
        ctx.lower_later(search)
    settings, _ = body_of(ctx, symbol)
    if decl.body is not None:
        settings.need("tokens", help="write `tokens = 1B`")
    weights = _loss(ctx, settings)
    tokens, context = settings.whole("tokens", 0), settings.whole("context", 2048, 1, MAX_CONTEXT)
    lr = read_schedule(ctx, settings, schedule_of(tokens))
    dtype = settings.word("dtype", "")
    batch = settings.whole("batch", batch_of(tokens, context), 1)
    micro = settings.whole("micro_batch", 1, 1) if settings.has("micro_batch") else None
    if micro is not None and micro > batch and settings.has("batch"):
        what, condition = "`micro_batch`", f"at most the `batch`, {batch}"
        ctx.report(
            types.OutOfRange(settings.place("micro_batch"), what=what, condition=condition, got=str(micro))
        )
    node = nodes.Uptrain(
        name=ctx.name_of(symbol),
        search=ctx.name_of(search) if search is not None else "",
        kld=weights["kld"],
        cosine=weights["cosine"],
        lm=weights["lm"],
        tokens=tokens,
        context=context,
        batch=batch,
        lr=lr,
        fits_child=not settings.has("lr"),
        data=only_data(ctx, symbol, settings, required=True),
        seed=settings.whole("seed", 0, 0, MAX_SEED),
        micro_batch=micro,
        dtype=cast(Literal["fp32", "bf16"], dtype) if dtype else None,
        ema=float(settings.ratio("ema", Fraction(0))),
        recompute=settings.flag("recompute"),
        keep=cast(Literal["best", "last"], settings.word("keep", "best")),
        doc=decl.doc,
        where=where(ctx, symbol),
    )
    return node if search is not None else None


def batch_of(tokens: int, context: int) -> int:
    """Sequences a step where the program does not say: steps and tokens a step grow alike, both with the root of the budget."""
    sequences = math.sqrt(STEP_FACTOR * tokens) / context
    return 1 if sequences <= 1 else 2 ** round(math.log2(sequences))


def schedule_of(tokens: int) -> nodes.Schedule:
    """The learning rate where the program does not say; its peak is lowered where the child is near its parent."""
    peak = SHORT_PEAK if tokens < SHORT_RUN else LONG_PEAK
    return nodes.Schedule(kind="cosine", peak=peak, warmup=WARMUP)


def _loss(ctx: Context, settings: Settings) -> dict[str, float]:
    """The weights of a sum such as `1 * kld + 0.5 * cosine`; the paper's KL + cosine where none is given."""
    weights = dict.fromkeys(settings.known("loss").words, 0.0)
    if not settings.has("loss"):
        return {**weights, "kld": 1.0, "cosine": 1.0}
    entry = settings.entry("loss")
    parts: list[tree.Expr] = []
    expr = entry.expr
    while isinstance(expr, tree.Binary) and expr.op == "+":
        parts.append(expr.right)
        expr = expr.left
    for part in reversed([*parts, expr]):
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
        error = types.UnknownWord(word.span, got=got, what="loss of uptraining", near=near, help=help)
        ctx.report(error)
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
