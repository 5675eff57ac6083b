"""`bld`, `uptrain`, and `score` with its `runs` (consecutive layers dropped together) and `healed` (scores after healing)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from itertools import groupby
from typing import Any, Literal

from puzzledsl.alternatives.alternative import SUB_BLOCKS, SubBlock
from puzzledsl.base.diagnostics import Args
from puzzledsl.base.suggest import closest
from puzzledsl.base.units import COUNT, Quantity
from puzzledsl.checker.context import Context, Refused
from puzzledsl.checker.declarations.common import Declared, space_info
from puzzledsl.checker.diagnostics import errors
from puzzledsl.checker.expressions.coercions import as_constant, between, within
from puzzledsl.checker.expressions.settings import (
    Settings,
    as_call,
    from_call,
    lower,
    lower_call,
    read_call,
    summands,
)
from puzzledsl.checker.expressions.values import Constructed, RangeValue, Scope, Symbol, describe
from puzzledsl.ir import nodes
from puzzledsl.ir.layer_runs import can_drop
from puzzledsl.syntax import tree

SHORT_RUN, SHORT_PEAK, LONG_PEAK, WARMUP = 64 * 1024, 2e-4, 1e-4, 0.05
"""An uptraining of fewer tokens than this has the first peak: of 12 Ki tokens it made the better child (docs/science.md). The
second is what is usual for long distillations; 48 Ki tokens did well with it."""
STEP_FACTOR = 85
"""Tokens of a step, squared, by tokens of the run: 1 Ki tokens a step where there are 12 Ki (docs/science.md)."""
MAX_WEIGHT = 10**6


def lower_bld(ctx: Context, symbol: Symbol) -> nodes.Bld | None:
    """`bld b of w { train = attention + ffn, tokens = 1B, … }`."""
    bld = Declared(ctx, symbol)
    bld.check_parts()
    space = bld.target_later()
    settings, _ = bld.body()
    train = ctx.attempt(_train, ctx, settings.entry("train").expr) if settings.has("train") else None
    mode, sub_blocks = train or ("decoupled", SUB_BLOCKS)
    rate = _schedule(settings, nodes.Schedule(peak=1e-4, warmup=0.01))
    data = bld.only_data(settings, required=True)
    given: dict[str, Any] = {"mode": mode, "sub_blocks": sub_blocks, "lr": rate, "data": data}
    node = lower(settings, nodes.Bld, **bld.head(space), **given)
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
                    raise ctx.refuse(errors.UnknownWord(side.span, near=near, help=help, **said))
        case tree.BadExpr():
            raise Refused
    help = "write `attention + ffn` (decoupled), `attention * ffn` (coupled), `attention` or `ffn`"
    raise ctx.wrong(expr.span, "`train`", "what is trained", f"`{ctx.source(expr.span)}`", help)


def _schedule(settings: Settings, default: nodes.Schedule) -> nodes.Schedule:
    """`lr = cosine(1e-4, warmup: 1%)`, `constant(1e-4)`, or a plain number, which is constant."""
    found = settings.attempt(_written_schedule, settings) if settings.has("lr") else None
    return found or default


def _written_schedule(settings: Settings) -> nodes.Schedule:
    ctx, takes, place = settings.ctx, settings.known("lr"), settings.place("lr")
    value = settings.call("lr")
    if isinstance(value, Quantity):
        most = takes.calls["constant"].arguments["peak"].at_most
        peak = within(ctx, as_constant(ctx, value, place, "`lr`"), place, "`lr`", 0, most)
        return nodes.Schedule(kind="constant", peak=float(peak))
    if not isinstance(settings.entry("lr").expr, tree.Name) and not isinstance(value, Constructed):
        help = "write `cosine(1e-4, warmup: 1%)`, `constant(1e-4)` or a number"
        raise ctx.wrong(place, "`lr`", "a schedule", f"`{ctx.source(place)}`", help)
    call = as_call(ctx, value, place, takes)
    found: nodes.Schedule = lower_call(ctx, call, takes.calls[call.name])
    return found


def lower_uptrain(ctx: Context, symbol: Symbol) -> nodes.Uptrain | None:
    """`uptrain u of s { loss = 1 * kld + 1 * cosine + 0 * lm, tokens = 45B, … }`."""
    uptrain = Declared(ctx, symbol)
    uptrain.check_parts()
    search = uptrain.target_later()
    settings, _ = uptrain.body()
    settings.need_all("lr")
    tokens, context = settings.read("tokens"), settings.read("context")
    # the peak where the program states no rate; it is lowered where the child is near its parent
    peak = SHORT_PEAK if tokens < SHORT_RUN else LONG_PEAK
    node = lower(
        settings,
        nodes.Uptrain,
        **uptrain.head(search),
        **_loss(ctx, settings),
        tokens=tokens,
        context=context,
        batch=settings.read("batch", batch_of(tokens, context)),
        lr=_schedule(settings, nodes.Schedule(peak=peak, warmup=WARMUP)),
        fits_child=not settings.has("lr"),
        data=uptrain.only_data(settings, required=True),
    )
    if settings.has("batch") and node.micro_batch is not None and node.micro_batch > node.batch:
        condition, place = f"at most the `batch`, {node.batch}", settings.place("micro_batch")
        ctx.beyond(place, "`micro_batch`", condition, str(node.micro_batch))
    return node if search is not None else None


def batch_of(tokens: int, context: int) -> int:
    """Sequences a step where the program does not say: steps and tokens a step grow alike, both with the root of the budget."""
    sequences = math.sqrt(STEP_FACTOR * tokens) / context
    return 1 if sequences <= 1 else 2 ** round(math.log2(sequences))


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
        ctx.beyond(entry.expr.span, "the sum of `loss` weights", "more than 0", "0")
    return weights


def _weighted(ctx: Context, part: tree.Expr, scope: Scope, known: tuple[str, ...]) -> tuple[str, float]:
    """A loss and its weight: `0.5 * cosine`."""
    factor, word = None, part
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
        raise ctx.refuse(errors.UnknownWord(word.span, near=near, help=help, **said))
    amount, what = Fraction(1), "a loss's weight"
    if factor is not None:
        amount = as_constant(ctx, ctx.value(factor, scope), factor.span, what).value
    if not 0 <= amount <= MAX_WEIGHT:
        raise ctx.beyond(part.span, what, between(0, MAX_WEIGHT), ctx.source(part.span))
    return word.text, float(amount)


FITTED_CHILDREN, FITTED_FROM_SAMPLES = 24, 1024
"""KLs in the parent are fitted to so many children, unless said, where so many positions are scored, and no
runs: with 1,024 of them the fit finds SmolLM2's better children, with 256 the plain sum does."""
SHORTEST, LONGEST = 2, 8  # the longest is that of the example which messages give
NOT_WITH_RUNS = {
    "children": "a fit scales the scores of single layers, and those of runs are measured as they are: leave one of both out",
    "around": "runs are measured in the parent: score around a child without `runs`",
}
NOT_WITH_HEALED = {
    "children": "a fit is to children that nobody has healed: leave one of both out",
    "around": "layers are healed in the parent: score around a child without `healed`",
}


def lower_score(ctx: Context, symbol: Symbol) -> nodes.Score | None:
    """`score kl of b = replace_one(kl_divergence, …)` or `table("scores.csv")`."""
    score = Declared(ctx, symbol)
    score.check_parts()
    of, call = score.target(), score.call()
    bld = ctx.lower(of, nodes.Bld) if of is not None and of.kind == "bld" else None
    settings = score.arguments(call)
    method: nodes.ReplaceOne | nodes.ScoreFromTable
    if call.name == "table":
        method = settings.sound(lower(settings, nodes.ScoreFromTable))
    else:
        place = score.decl.target
        if of is not None and of.kind == "space" and place is not None:
            help = "replacing one block needs its pieces: `score kl of BLD = replace_one(…)`"
            said: Args = {"name": of.name, "got": "a space", "wanted": "a bld"}
            ctx.report(errors.WrongKind(place.span, help=help, **said))
        method = _replace_one(settings, of, bld)
    if of is None:
        return None
    ctx.lower_later(of)
    if of.kind == "bld" and bld is None:
        return None
    about = {"bld": None, "space": ctx.name_of(of)} if bld is None else {"bld": bld.name, "space": bld.space}
    return nodes.Score(**score.head(), **about, method=method)


def _replace_one(settings: Settings, of: Symbol | None, bld: nodes.Bld | None) -> nodes.ReplaceOne:
    settings.need("metric")
    metric: dict[str, Any] = {"metric": "kl_divergence"}
    if settings.has("metric"):
        metric = settings.ctx.attempt(_metric, settings) or metric
    name = metric["metric"]
    runs = settings.ctx.attempt(_runs, settings, name, of, bld) if settings.has("runs") else None
    healed: int = settings.read("healed")
    if healed:
        _refuse_beside(settings, "a score after healing", NOT_WITH_HEALED)
        _refuse_tasks(settings, name, "healed", "scores after healing are measured on text")
    enough = settings.read("samples") >= FITTED_FROM_SAMPLES
    plain = name == "kl_divergence" and not settings.has("around") and runs is None and not healed
    children = settings.read("children", FITTED_CHILDREN if enough and plain else 0)
    data = settings.read("data", None if bld is None else bld.data)
    given: dict[str, Any] = {"unit": _unit(settings, bld), "children": children, "runs": runs}
    return lower(settings, nodes.ReplaceOne, **metric, **given, healed=healed, data=data)


def _metric(settings: Settings) -> dict[str, Any]:
    """The metric, its tasks and the number of tokens that it compares, where it has them."""
    entry, takes = settings.entry("metric"), settings.known("metric")
    name = entry.expr.text if isinstance(entry.expr, tree.Name) else ""
    if name in takes.calls and name != "accuracy":
        return {"metric": name} | ({"top_k": 1} if name == "top_k_agreement" else {})
    call = read_call(settings.ctx, entry.expr, entry.scope, takes)
    arguments = from_call(settings.ctx, call, takes.calls[call.name])
    arguments.need_all()
    names = {"k": "top_k", "tasks": "tasks"}
    return {"metric": call.name, **{names[key]: arguments.read(key) for key in arguments.table}}


def _unit(settings: Settings, bld: nodes.Bld | None) -> str:
    """Coupled pieces are measured as blocks; decoupled ones as sub-blocks unless asked otherwise."""
    coupled = bld is not None and bld.mode == "coupled"
    unit: str = settings.read("unit", "block" if coupled else "subblock")
    if coupled and unit == "subblock":
        help, where = (
            "a coupled piece holds attention and FFN together: leave `unit` out",
            "a score of coupled pieces",
        )
        settings.ctx.misplaced(settings.place("unit"), "`unit: subblock`", where, help)
    return unit


def _refuse_beside(settings: Settings, where: str, helps: Mapping[str, str]) -> None:
    for key, help in helps.items():
        if settings.has(key) and (settings.read(key) or key == "around"):
            settings.ctx.misplaced(settings.place(key), f"`{key}`", where, help)


def _refuse_tasks(settings: Settings, metric: str, key: str, measured: str) -> None:
    if metric == "accuracy":
        help = f"{measured}: `kl_divergence`, `lm_loss`, `cosine` or `top_k_agreement`"
        settings.ctx.misplaced(settings.place(key), f"`{key}`", "a score of `accuracy`", help)


def _runs(settings: Settings, metric: str, of: Symbol | None, bld: nodes.Bld | None) -> tuple[int, int]:
    """The least and the most layers of a run, which the space must be able to drop."""
    ctx = settings.ctx
    symbol = None if bld is None or of is None else Declared(ctx, of).target()
    space = None if symbol is None else ctx.lower(symbol, nodes.Space)
    ends = ctx.attempt(_ends, settings, LONGEST if space is None else min(LONGEST, len(space.layers)))
    _refuse_beside(settings, "a score of runs", NOT_WITH_RUNS)
    _refuse_tasks(settings, metric, "runs", "runs are measured on text")
    info = None if symbol is None else space_info(ctx, symbol)
    if ends is None:
        raise Refused
    if space is None or info is None:
        return ends
    (low, high), span, layers = ends, settings.place("runs"), len(space.layers)
    if high > layers:
        condition = f"{SHORTEST} to {layers}, the parent's layers"
        help = f"write `runs: {min(low, layers)}..{layers}`"
        raise ctx.beyond(span, "a run of layers", condition, str(high), help)
    stretches = groupby(can_drop(space.layers, info.shape))
    if low > max((len([*layers]) for droppable, layers in stretches if droppable), default=0):
        raise ctx.refuse(errors.NoRunToDrop(span, space=space.name, length=low))
    return ends


def _ends(settings: Settings, longest: int) -> tuple[int, int]:
    ctx, found, span = settings.ctx, settings.value("runs"), settings.place("runs")
    example = f"write `runs: {SHORTEST}..{longest}`"
    shown = f"{found.low}..{found.high}" if isinstance(found, RangeValue) else describe(found)
    if not isinstance(found, RangeValue) or found.low.dimension != COUNT or found.low.form == "times":
        raise ctx.wrong(span, "`runs`", "a range of numbers of layers", shown, example)
    low, high = found.low.value, found.high.value
    if found.step is not None:
        help = f"every length from the least to the most is measured: {example}"
        raise ctx.misplaced(span, "`step`", "`runs`", help)
    if not low.denominator == high.denominator == 1 or not SHORTEST <= low <= high:
        raise ctx.beyond(span, "`runs`", f"whole numbers from {SHORTEST} on, the least first", shown, example)
    return int(low), int(high)
