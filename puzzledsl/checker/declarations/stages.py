"""Lowering of `bld`, `uptrain`, `eval`, `export` and `score`, with its `runs` (consecutive layers dropped together)."""

import math
from fractions import Fraction
from functools import partial
from itertools import groupby
from pathlib import PurePath
from typing import Any, Literal, cast

from puzzledsl.alternatives.alternative import SUB_BLOCKS, SubBlock
from puzzledsl.base.diagnostics import Args, Fix
from puzzledsl.base.units import COUNT, Quantity
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context, Refused
from puzzledsl.checker.declarations.common import Declared, space_info
from puzzledsl.checker.expressions import settings as reading
from puzzledsl.checker.expressions.numbers import as_constant, between, within
from puzzledsl.checker.expressions.settings import Settings
from puzzledsl.checker.expressions.values import Constructed, RangeValue, Symbol, Text, describe
from puzzledsl.checker.names.words import read_ref, read_word
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import can_drop
from puzzledsl.syntax import tree

SHORT_RUN, SHORT_PEAK, LONG_PEAK, WARMUP = 64 * 1024, 2e-4, 1e-4, 0.05
"""Uptrainings of fewer than SHORT_RUN tokens have the learning rate SHORT_PEAK, which made the better child of 12 Ki tokens
(docs/science.md), others LONG_PEAK, usual for long distillations (48 Ki tokens did well with it). WARMUP: share of the steps."""
STEP_FACTOR = 85
"""Square of the tokens a step, divided by the tokens of the run: steps of 1 Ki tokens in a run of 12 Ki (docs/science.md)."""
MAX_WEIGHT = 10**6


def lower_bld(bld: Declared) -> nodes.Bld:
    """Lower `bld b of w { train = attention + ffn, tokens = 1B, … }`."""
    settings, _ = bld.body()
    mode, sub_blocks = settings.read("train", ("decoupled", SUB_BLOCKS), _train)
    rate = settings.read("lr", nodes.Schedule(peak=1e-4, warmup=0.01), _schedule)
    data = bld.only_data(settings, required=True)
    given: dict[str, Any] = {"mode": mode, "sub_blocks": sub_blocks, "lr": rate, "data": data}
    return reading.lower(settings, nodes.Bld, **bld.head(), **given)


def _train(settings: Settings) -> tuple[Literal["decoupled", "coupled"], tuple[SubBlock, ...]]:
    """Read `train`: return the mode and the sub-blocks of `attention + ffn`, `attention * ffn`, `attention` or `ffn`."""
    ctx, expr = settings.ctx, settings.entries["train"].expr
    match expr:
        case tree.Name(text="attention" | "ffn" as only):
            return "decoupled", tuple(part for part in SUB_BLOCKS if part == only)
        case tree.Binary(op="+" | "*", left=tree.Name() as left, right=tree.Name() as right):
            scope = settings.entries["train"].scope
            if {read_word(ctx, side, scope, SUB_BLOCKS, "sub-block") for side in (left, right)} == {
                *SUB_BLOCKS
            }:
                return "decoupled" if expr.op == "+" else "coupled", SUB_BLOCKS
        case tree.BadExpr():
            raise Refused
    help = "write `attention + ffn` (decoupled), `attention * ffn` (coupled), `attention` or `ffn`"
    raise ctx.wrong(expr.span, "`train`", "what is trained", f"`{ctx.source(expr.span)}`", help)


def _schedule(settings: Settings) -> nodes.Schedule:
    """Read `lr = cosine(1e-4, warmup: 1%)`, `constant(1e-4)`, or a plain number, which is constant."""
    ctx, takes, place = settings.ctx, settings.known("lr"), settings.place("lr")
    value = settings.call("lr")
    if isinstance(value, Quantity):
        most = takes.calls["constant"].arguments["peak"].at_most
        peak = within(ctx, as_constant(ctx, value, place, "`lr`"), place, "`lr`", 0, most)
        return nodes.Schedule(kind="constant", peak=float(peak))
    if not isinstance(value, Constructed) and not isinstance(settings.entries["lr"].expr, tree.Name):
        help = "write `cosine(1e-4, warmup: 1%)`, `constant(1e-4)` or a number"
        raise ctx.wrong(place, "`lr`", "a schedule", f"`{ctx.source(place)}`", help)
    call = reading.as_call(ctx, value, place, takes)
    return cast(nodes.Schedule, reading.lower_call(ctx, call, takes.calls[call.name]))


def lower_uptrain(uptrain: Declared) -> nodes.Uptrain:
    """Lower `uptrain u of s { loss = 1 * kld + 1 * cosine + 0 * lm, tokens = 45B, … }`."""
    settings, _ = uptrain.body()
    settings.need_all("lr")
    tokens, context = settings.read("tokens"), settings.read("context")
    peak = SHORT_PEAK if tokens < SHORT_RUN else LONG_PEAK
    node = reading.lower(
        settings,
        nodes.Uptrain,
        **uptrain.head(),
        **settings.read("loss", {"kld": 1.0, "cosine": 1.0, "lm": 0.0}, _loss),
        tokens=tokens,
        context=context,
        batch=settings.read("batch", batch_of(tokens, context)),
        lr=settings.read("lr", nodes.Schedule(peak=peak, warmup=WARMUP), _schedule),
        fits_child=not settings.has("lr"),
        data=uptrain.only_data(settings, required=True),
    )
    if settings.has("batch") and node.micro_batch is not None and node.micro_batch > node.batch:
        condition, place = f"at most the `batch`, {node.batch}", settings.place("micro_batch")
        settings.ctx.beyond(place, "`micro_batch`", condition, str(node.micro_batch))
    return node


def batch_of(tokens: int, context: int) -> int:
    """Return the default sequences a step, a power of two. Steps and tokens a step both grow with the root of the budget."""
    sequences = math.sqrt(STEP_FACTOR * tokens) / context
    return 1 if sequences <= 1 else 2 ** round(math.log2(sequences))


def _loss(settings: Settings) -> dict[str, float]:
    """Read `loss`, a sum such as `1 * kld + 0.5 * cosine`: return the weight of each loss, 0 for one that is left out."""
    ctx, expr = settings.ctx, settings.entries["loss"].expr
    weights = dict.fromkeys(("kld", "cosine", "lm"), 0.0)
    for part in reading.summands(expr):
        word, weight = ctx.attempt(_weighted, part, settings) or ("kld", 0.0)
        weights[word] += weight
    if not any(weights.values()) and not ctx.sink.has_errors:
        ctx.beyond(expr.span, "the sum of `loss` weights", "more than 0", "0")
    return weights


def _weighted(part: tree.Expr, settings: Settings) -> tuple[str, float]:
    """Return the loss and the weight of a summand such as `0.5 * cosine`; a loss alone has weight 1."""
    ctx, known, scope = settings.ctx, settings.known("loss"), settings.entries["loss"].scope
    factor, word = None, part
    if isinstance(part, tree.Binary) and part.op == "*":
        factor, word = part.left, part.right
        if isinstance(factor, tree.Name) and factor.text in known.words:
            factor, word = word, factor
    if not isinstance(word, tree.Name):
        wanted, got = "a sum such as `1 * kld + 1 * cosine + 0 * lm`", f"`{ctx.source(word.span)}`"
        raise Refused if isinstance(word, tree.BadExpr) else ctx.wrong(word.span, "`loss`", wanted, got)
    loss, amount, what = read_word(ctx, word, scope, known.words, known.noun), Fraction(1), "a loss's weight"
    if factor is not None:
        amount = as_constant(ctx, ctx.value(factor, scope), factor.span, what).value
    if not 0 <= amount <= MAX_WEIGHT:
        raise ctx.beyond(part.span, what, between(0, MAX_WEIGHT), ctx.source(part.span))
    return loss, float(amount)


SHORTEST, LONGEST = 2, 8  # layers of a run: the least allowed, and the most in examples of messages


def lower_score(score: Declared) -> nodes.Score | None:
    """Lower `score kl of b = replace_one(kl_divergence, …)` or `table("scores.csv")`; None if its bld is faulty."""
    ctx, of, call = score.ctx, score.of, score.call()
    bld = ctx.lower(of, nodes.Bld) if of is not None and of.kind == "bld" else None
    settings, place, is_table = score.arguments(call), score.decl.target, call.name == "table"
    if not is_table and of is not None and of.kind == "space" and place is not None:
        help = "replacing one block needs its pieces: `score kl of BLD = replace_one(…)`"
        said: Args = {"name": of.name, "got": "a space", "wanted": "a bld"}
        ctx.report(errors.WrongKind(place.span, help=help, **said))
    method = reading.lower(settings, nodes.ScoreFromTable) if is_table else _replace_one(settings, of, bld)
    if is_table:
        settings.sound(method)
    if of is None or (of.kind == "bld" and bld is None):
        return None
    about = {"bld": None, "space": ctx.name_of(of)} if bld is None else {"bld": bld.name, "space": bld.space}
    return nodes.Score(**score.head(), **about, method=method)


def _replace_one(settings: Settings, of: Symbol | None, bld: nodes.Bld | None) -> nodes.ReplaceOne:
    settings.need("metric")
    metric: dict[str, Any] = settings.read("metric", {"metric": "kl_divergence"}, _metric)
    name = metric["metric"]
    runs = settings.read("runs", None, lambda known: _runs(known, name, of, bld))
    healed: int = settings.read("healed")
    if healed:
        measured = "scores after healing are measured on text"
        _refuse_accuracy(settings, "healed", "a score after healing", measured, name)
    data = settings.read("data", None if bld is None else bld.data)
    coupled = bld is not None and bld.mode == "coupled"  # such pieces are measured as blocks
    unit = settings.read("unit", "block" if coupled else "subblock")
    if coupled and unit == "subblock":
        help = "a coupled piece holds attention and FFN together: leave `unit` out"
        settings.ctx.misplaced(settings.place("unit"), "`unit: subblock`", "a score of coupled pieces", help)
    given: dict[str, Any] = {"unit": unit, "runs": runs}
    return reading.lower(settings, nodes.ReplaceOne, **metric, **given, healed=healed, data=data)


def _metric(settings: Settings) -> dict[str, Any]:
    """Read `metric`: return the node's fields with the metric's name and, of `accuracy`, its task files."""
    entry, takes = settings.entries["metric"], settings.known("metric")
    call = reading.read_call(settings.ctx, entry.expr, entry.scope, takes)
    arguments = reading.from_call(settings.ctx, call, takes.calls[call.name])
    arguments.need_all()
    return {"metric": call.name, **{each.name: arguments.read(key) for key, each in arguments.table.items()}}


def _refuse_accuracy(settings: Settings, key: str, where: str, measured: str, metric: str) -> None:
    """Report the setting `key`, which is `runs` or `healed`, if the score's metric is `accuracy`."""
    if metric == "accuracy":
        help = f"{measured}: `kl_divergence`, `lm_loss` or `cosine`"
        settings.ctx.misplaced(settings.place(key), f"`{key}`", "a score of `accuracy`", help)


def _runs(settings: Settings, metric: str, of: Symbol | None, bld: nodes.Bld | None) -> tuple[int, int]:
    """Read `runs`: return the least and the most layers of a run. Refuse a space that can drop no run of the least length."""
    ctx = settings.ctx
    symbol = None if bld is None or of is None else Declared(ctx, of).target()
    space = None if symbol is None else ctx.lower(symbol, nodes.Space)
    ends = ctx.attempt(_ends, settings, LONGEST if space is None else min(LONGEST, len(space.layers)))
    _refuse_accuracy(settings, "runs", "a score of runs", "runs are measured on text", metric)
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


def lower_export(export: Declared) -> nodes.Export:
    """Lower `export x of u = hf("dir", runtime: vllm)`, `gguf("child.gguf", dtype: f16)` or `mlx("dir")`."""
    call = export.call()
    settings = export.arguments(call)
    place = export.ctx.where(settings.place("runtime"))
    given: dict[str, Any] = {"format": call.name, "runtime_where": place}
    return settings.sound(reading.lower(settings, nodes.Export, **export.head(), **given))


def lower_eval(evaluation: Declared) -> nodes.Eval:
    """Lower `eval e of u = tasks("a.jsonl") { items = 200, data = heldout, tokens = 8Ki, full = u }`."""
    tasks = evaluation.tasks()
    settings, _ = evaluation.body()
    if settings.has("data"):
        texts: tuple[str, ...] = settings.read("data", ())
    else:
        texts = tuple(filter(None, [evaluation.only_data(settings, required=False)]))
    return reading.lower(
        settings,
        nodes.Eval,
        **evaluation.head(),
        tasks=tasks,
        lm_eval=settings.read(
            "lm_eval", (), lambda known: tuple(known.text("lm_eval").replace(",", " ").split())
        ),
        data=texts[0] if texts else None,
        more_data=texts[1:],
        full=settings.read("full", (), partial(_full, evaluation)),
        prompts=settings.read("prompts", None, _prompts),
    )


def _full(evaluation: Declared, settings: Settings) -> tuple[str, ...]:
    """Read `full`: return the names of its children, each once, and the evaluated one. Report children of another space."""
    ctx, entry, of = settings.ctx, settings.entries["full"], evaluation.of
    kinds = settings.known("full").kinds
    if of is None:
        raise Refused
    file, wanted, found = entry.scope.file, _space_of(ctx, of), dict[Symbol, None]()
    for expr in reading.summands(entry.expr):
        text, child = ctx.source(expr.span), ctx.attempt(read_ref, ctx, expr, entry.scope, kinds)
        if child is None:
            continue
        found[child] = None
        got = _space_of(ctx, child)
        unread = (file.file, text) in ctx.unknown  # reported; the rest would rest on a guess
        if not unread and got is not None and wanted is not None and got != wanted:
            known = [s for s in file.symbols(*evaluation.kind.targets) if s.file is file]
            names = [f"`{s.name}`" for s in known if _space_of(ctx, s) == wanted]
            help = f"children of `{wanted}`: {', '.join(names[:8])}" if names else ""
            ctx.report(errors.OtherSpace(expr.span, name=text, got=got, wanted=wanted, help=help))
    return tuple(map(ctx.name_of, {**found, of: None}))


def _space_of(ctx: Context, child: Symbol) -> str | None:
    """The space of a search, or of the search that an uptrain trains further; None where that has mistakes."""
    uptrain = ctx.lower(child, nodes.Uptrain) if child.kind == "uptrain" else None
    search = child if uptrain is None else ctx.taken.get(uptrain.search)
    lowered = ctx.lower(search, nodes.Search) if search is not None else None
    return None if lowered is None else lowered.space


def _prompts(settings: Settings) -> nodes.Prompts:
    """Read `prompts = "p.jsonl"`, `prompts("…", "…")` or `none`."""
    ctx, value, span = settings.ctx, settings.call("prompts"), settings.place("prompts")
    match value:
        case Text():
            path = settings.text("prompts")
            if PurePath(path).suffix in (".jsonl", ".txt"):
                return nodes.Prompts(path=path)
            written = f"prompts({ctx.source(span)})"
            help = f"write `{written}`, or the name of a `.jsonl` or `.txt` file"
            fixes = [Fix.replace(span, written, safe=False)]
            raise ctx.refuse(errors.PromptsNotAFile(span, path=path, help=help, fixes=fixes))
        case Constructed():
            calls = settings.known("prompts").calls
            return cast(nodes.Prompts, reading.lower_call(ctx, value, calls[value.name]))
    wanted, got = "a file, `prompts(…)` or `none`", f"`{ctx.source(span)}`"
    help = 'write `prompts = "p.jsonl"`, or `prompts = prompts("Once upon a time")`'
    raise ctx.wrong(span, "`prompts`", wanted, got, help)
