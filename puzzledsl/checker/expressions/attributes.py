"""`chat.memory`, `llama.layers`, `layers[40.. where index mod 2 == 1].ffn.width`."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.diagnostics import Fix
from puzzledsl.base.suggest import closest
from puzzledsl.base.units import BYTES, BYTES_PER_S, COUNT, Quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors, space_errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.diagnostics.engine_errors import MoneyNotStated
from puzzledsl.checker.expressions.coercions import as_whole
from puzzledsl.checker.expressions.layer_tables import BOTH
from puzzledsl.checker.expressions.search_values import Facts, Layers, SubBlocks, Symbolic, TermKey
from puzzledsl.checker.expressions.values import (
    POISON,
    Boolean,
    Function,
    ListValue,
    ParentLayer,
    Poison,
    RangeValue,
    Ref,
    Scope,
    Symbol,
    Text,
    Value,
    builtin_ref,
    describe,
)
from puzzledsl.checker.spaces.space_info import SpaceInfo, all_parent
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import layer_fact, parent_fact
from puzzledsl.ir.metric_records import METRICS, STATED, Metric
from puzzledsl.ir.metrics import running_costs
from puzzledsl.language.calls import PARENT_FACTS, PARENT_LAYER_FACTS
from puzzledsl.language.words import (
    LAYER_FACTS,
    SCENARIO_FACTS,
    SUB_BLOCK_FACTS,
    SUB_BLOCKS,
)
from puzzledsl.syntax import tree


def attribute(ctx: Context, target: Value, node: tree.Attribute) -> Value:
    """`target.name`."""
    name = node.name.text
    match target:
        case Poison():
            return POISON
        case Ref(symbol=symbol):
            return _of_declaration(ctx, symbol, node)
        case Layers() if name in ("attention", "ffn") and target.indices:
            return SubBlocks(target.space, cast(SubBlock, name), target.indices, target.single)
        case Layers(single=True) if name == "index" and target.indices:
            return Quantity(Fraction(target.indices[0]), COUNT)
        case Layers(single=True) if name in ("params", "active_params") and target.indices:
            terms: dict[TermKey, Fraction] = {
                ("fact", part, name, target.indices[0]): Fraction(1) for part in BOTH
            }
            return Symbolic(terms, space=target.space)
        case Layers():
            known = tuple(LAYER_FACTS if target.single else SUB_BLOCKS)
            owner = next((part for part in BOTH if name in SUB_BLOCK_FACTS[part]), None)
            help = f"it is a figure of the {owner}: write `{owner}.{name}`" if owner else ""
            _unknown(ctx, node, describe(target), known, help)
        case SubBlocks():
            return _of_sub_block(ctx, target, node)
        case ParentLayer(shape=own) if name in PARENT_LAYER_FACTS:
            return _as_value(layer_fact(own, name))
        case ParentLayer():
            _unknown(ctx, node, describe(target), tuple(PARENT_LAYER_FACTS))
        case _:
            _unknown(ctx, node, describe(target), ())
    return POISON


def _as_value(fact: int | str | bool) -> Value:
    if isinstance(fact, bool):
        return Boolean(fact)
    return Text(fact) if isinstance(fact, str) else Quantity(Fraction(fact))


def _unknown(ctx: Context, node: tree.Attribute, thing: str, known: tuple[str, ...], help: str = "") -> None:
    near = closest(node.name.text, known)
    if known and not help:
        help = "it has " + ", ".join(f"`{k}`" for k in known[:16])
    ctx.report(
        name_errors.UnknownAttribute(node.name.span, thing=thing, name=node.name.text, near=near, help=help)
    )


def _of_sub_block(ctx: Context, target: SubBlocks, node: tree.Attribute) -> Value:
    known = tuple(SUB_BLOCK_FACTS[target.sub_block])
    if node.name.text not in known:
        _unknown(ctx, node, f"`{target.sub_block}`", known)
        return POISON
    if target.single:
        key = ("fact", target.sub_block, node.name.text, target.indices[0])
        return Symbolic({key: Fraction(1)}, space=target.space)
    return Facts(target.space, target.sub_block, node.name.text, target.indices)


# ---------------------------------------------------------------- declarations


def _of_declaration(ctx: Context, symbol: Symbol, node: tree.Attribute) -> Value:
    match symbol.kind:
        case "file":
            return _of_file(ctx, symbol, node)
        case "parent":
            return _of_parent(ctx, symbol, node)
        case "scenario":
            return _of_scenario(ctx, symbol, node)
        case "hardware":
            return _of_hardware(ctx, symbol, node)
        case _:
            metric = node.name.text in METRICS
            help = f"metrics belong to a scenario: `SCENARIO.{node.name.text}`" if metric else ""
            _unknown(ctx, node, f"{symbol.kind} `{symbol.name}`", (), help)
            return POISON


def _of_file(ctx: Context, symbol: Symbol, node: tree.Attribute) -> Value:
    assert symbol.target is not None
    found = symbol.target.names.get(node.name.text)
    if found is None:
        if not symbol.target.declares_unread(node.name.text):
            _unknown(ctx, node, f"`{symbol.target.shown}`", tuple(symbol.target.names))
        return POISON
    if isinstance(found, Symbol) and found.kind in ("let", "param", "fn"):
        if isinstance(found.item, tree.Fn):
            return Function(found.item, Scope(found.file))
        return ctx.value(tree.Name(span=node.name.span, text=found.name), Scope(found.file))
    return builtin_ref(found)


def _of_parent(ctx: Context, symbol: Symbol, node: tree.Attribute) -> Value:
    if node.name.text not in PARENT_FACTS:
        searched = bool(ctx.busy) and ctx.busy[-1].kind == "search" and node.name.text.endswith("layers")
        help = "the parent's number is `layers`; count the child's: `count(attention is not noop) >= 20`"
        _unknown(
            ctx,
            node,
            f"parent `{symbol.name}`",
            () if searched else tuple(PARENT_FACTS),
            help if searched else "",
        )
        return POISON
    parent = ctx.lower(symbol, nodes.Parent)
    if parent is None:
        return POISON
    value = parent_fact(parent.shape, node.name.text)
    if value is None:
        text, target = f"`{node.name.text}` of `{symbol.name}`", ctx.source(node.target.span)
        help = f"name a layer: `{target}.layers[0].{node.name.text}`"
        ctx.report(types.DiffersByLayer(node.name.span, what=text, help=help))
        return POISON
    return _as_value(value)


def _of_scenario(ctx: Context, symbol: Symbol, node: tree.Attribute) -> Value:
    name = node.name.text
    if name in ("batch", "prompt", "output"):
        scenario = ctx.lower(symbol, nodes.Scenario)
        if scenario is None:
            return POISON
        if name != "batch":
            return Quantity(Fraction(scenario.prompt if name == "prompt" else scenario.output))
        if len(scenario.batches) == 1:
            return Quantity(Fraction(scenario.batches[0]))
    metric = METRICS.get(name)
    if metric is None:
        _unknown(ctx, node, f"scenario `{symbol.name}`", (*METRICS, *SCENARIO_FACTS))
        return POISON
    if metric.needs:
        return _running_cost(ctx, symbol, node, metric)
    ctx.lower_later(symbol)
    return Symbolic({("metric", ctx.name_of(symbol), name): Fraction(1)}, dimension=metric.dimension)


_EXAMPLES = {"price": "2.5 USD/h", "power": "700W"}


def _running_cost(ctx: Context, symbol: Symbol, node: tree.Attribute, metric: Metric) -> Value:
    """`chat.cost_per_mtok`: a multiple of the latency at a given batch."""
    key, name = metric.needs, metric.name
    scenario = ctx.lower(symbol, nodes.Scenario)
    if scenario is None:
        return POISON
    place = ctx.taken.get(scenario.hardware)
    hardware = None if place is None else ctx.lower(place, nodes.Hardware)
    if hardware is None:
        return POISON
    spec = hardware.spec
    stated = None
    if not isinstance(spec, nodes.TableHardware):
        stated = running_costs(spec)[STATED[key]]
    if stated is None:
        help = f"add `{key}` to it, such as `{_EXAMPLES[key]}`; no price or power is shipped"
        if isinstance(spec, nodes.TableHardware):
            help = f"a table states no `{key}`: bound `{symbol.name}.throughput`"
        ctx.report(MoneyNotStated(node.name.span, metric=name, hardware=hardware.name, key=key, help=help))
        return POISON
    if len(scenario.batches) != 1:
        help = f"at several batches it is not linear: bound `{symbol.name}.throughput`, by which the {key} is divided"
        ctx.report(MoneyNotStated(node.name.span, metric=name, hardware=hardware.name, key=key, help=help))
        return POISON
    factor = metric.tokens * stated / (scenario.batches[0] * scenario.output)
    term: TermKey = ("metric", ctx.name_of(symbol), "latency")
    return Symbolic({term: factor}, dimension=metric.dimension)


def _of_hardware(ctx: Context, symbol: Symbol, node: tree.Attribute) -> Value:
    hardware = ctx.lower(symbol, nodes.Hardware)
    if hardware is None:
        return POISON
    known: dict[str, Value] = {}
    match hardware.spec:
        case nodes.RooflineHardware() as spec:
            known = {
                "memory": Quantity(Fraction(spec.memory_bytes), BYTES),
                "bandwidth": Quantity(spec.bandwidth_bytes_per_s, BYTES_PER_S),
                "link": Quantity(spec.link_bytes_per_s, BYTES_PER_S),
                "reserve": Quantity(Fraction(spec.reserve_bytes), BYTES),
                "gpus": Quantity(Fraction(spec.gpus)),
                "expert_parallel": Quantity(Fraction(spec.expert_parallel)),
                "dtype": Text(spec.dtype),
                "experts": Text(spec.expert_dtype or spec.dtype),
                "activations": Text(spec.activation_dtype or spec.dtype),
                "kv_cache": Text(spec.kv_dtype),
                "embedding": Text(spec.embedding_dtype),
                "head": Text(spec.head_dtype or spec.embedding_dtype),
            }
        case nodes.MeasuredHardware() as measured:
            known = {"gpus": Quantity(Fraction(measured.gpus)), "dtype": Text(measured.dtype)}
            if measured.memory_bytes is not None:
                known["memory"] = Quantity(Fraction(measured.memory_bytes), BYTES)
    if node.name.text in known:
        return known[node.name.text]
    help = ""
    if node.name.text == "memory" and isinstance(hardware.spec, nodes.MeasuredHardware):
        help = f"give it: `measured(device: cpu, memory: 16GiB)`, or write a literal in place of `{symbol.name}.memory`"
    _unknown(ctx, node, f"hardware `{symbol.name}`", tuple(known), help)
    return POISON


# ---------------------------------------------------------------- layers[…]


def index(ctx: Context, target: Value, node: tree.Index, scope: Scope) -> Value:
    """`target[…]`: layers, or an element of a list."""
    match target:
        case Poison():
            return POISON
        case ListValue(items=items) if len(node.items) == 1 and node.where is None:
            place = as_whole(ctx, ctx.value(node.items[0], scope), node.items[0].span, "an index")
            if place is None:
                return POISON
            if not -len(items) <= place < len(items):
                span = node.items[0].span
                condition = f"within the list's {len(items)} elements"
                ctx.report(types.OutOfRange(span, what="an index", condition=condition, got=place))
                return POISON
            return items[place]
        case Layers(space=space, single=False) if target.indices == space.all_layers:
            return _layers(ctx, space, node, scope)
        case Layers(single=False) if isinstance(node.target, tree.Name) and node.target.text == "layer":
            fixes = [Fix.replace(node.target.span, "layers")]
            help = "did you mean `layers`? `layer` stands in `size(layer)` alone"
            what, wanted = "what stands before `[…]`", "`layers`"
            span = node.target.span
            ctx.report(types.WrongType(span, what=what, wanted=wanted, got="`layer`", help=help, fixes=fixes))
        case Layers(single=False):
            what = "`[…]` after `[…]`"
            help = "join both selections: `layers[40..79 where index mod 2 == 1]`"
            ctx.report(name_errors.Misplaced(node.span, what=what, where="a selection of layers", help=help))
        case SubBlocks(sub_block=sub_block):
            help = f"write `layers[…].{sub_block}`"
            ctx.report(name_errors.Misplaced(node.span, what="`[…]`", where=f"`{sub_block}`", help=help))
        case Quantity() if (parent := _parent_of(ctx, node.target, scope)) is not None:
            return _parent_layer(ctx, parent, node, scope)
        case _:
            got = describe(target)
            ctx.report(
                types.WrongType(
                    node.target.span, what="what stands before `[…]`", wanted="layers or a list", got=got
                )
            )
    return POISON


def _parent_of(ctx: Context, target: tree.Expr, scope: Scope) -> nodes.Parent | None:
    """Return the parent whose `.layers` an expression is; None if it is another."""
    if not isinstance(target, tree.Attribute) or target.name.text != "layers":
        return None
    owner = ctx.value(target.target, scope)
    of_parent = isinstance(owner, Ref) and owner.symbol.kind == "parent"
    return ctx.lower(owner.symbol, nodes.Parent) if isinstance(owner, Ref) and of_parent else None


def _parent_layer(ctx: Context, parent: nodes.Parent, node: tree.Index, scope: Scope) -> Value:
    """`llama.layers[3]`."""
    space = all_parent(parent.name, parent.name, parent.name, parent.shape)
    found = _layers(ctx, space, node, scope)
    if not isinstance(found, Layers):
        return POISON
    if not found.single:
        help = f"write `{ctx.source(node.target.span)}[{found.indices[0]}]`"
        got = "several layers"
        what, wanted = "what stands in `[…]`", "one layer"
        ctx.report(types.WrongType(node.span, what=what, wanted=wanted, got=got, help=help))
        return POISON
    (index,) = found.indices
    return ParentLayer(parent.shape.at(index), index)


def _layers(ctx: Context, space: SpaceInfo, node: tree.Index, scope: Scope) -> Value:
    single = len(node.items) == 1 and node.where is None and not isinstance(node.items[0], tree.Range)
    chosen: set[int] | None = set(space.all_layers) if not node.items else set()
    for item in node.items:
        part = _part(ctx, space, item, scope)
        chosen = None if part is None or chosen is None else chosen | set(part)
        single = single and part is not None and len(part) == 1
    if chosen is None:
        return POISON
    kept = _where(ctx, sorted(chosen), node.where, scope)
    if kept is None:
        return POISON
    if not kept and space.guessed:
        return POISON
    if not kept:
        ctx.report(space_errors.NoLayers(node.span, text=ctx.source(node.span), help=_why_none(ctx, node)))
        return POISON
    return Layers(space, tuple(kept), single)


def _why_none(ctx: Context, node: tree.Index) -> str:
    if node.where is not None:
        return "no layer of the range passes `where`; `index` is the layer's own number, from 0"
    item = node.items[0]
    if isinstance(item, tree.Range) and item.start is not None and item.stop is not None:
        turned = f"{ctx.source(item.stop.span)}..{ctx.source(item.start.span)}"
        return f"a range goes upwards: write `layers[{turned}]`"
    return ""


def _part(ctx: Context, space: SpaceInfo, item: tree.Expr, scope: Scope) -> list[int] | None:
    """The layers one item of a subscript names; None, reported, where it names none that exist."""
    if isinstance(item, tree.Range):
        first = (
            0 if item.start is None else _layer(ctx, space, ctx.value(item.start, scope), item.start, scope)
        )
        last = -1 if item.stop is None else _layer(ctx, space, ctx.value(item.stop, scope), item.stop, scope)
        step = 1 if item.step is None else _step(ctx, item.step, scope)
        if first is None or last is None or step is None:
            return None
        return list(range(first, (last if item.stop is not None else space.shape.layers - 1) + 1, step))
    value = ctx.value(item, scope)
    if isinstance(value, RangeValue):
        first = _layer(ctx, space, value.low, item, scope)
        last = _layer(ctx, space, value.high, item, scope)
        step = as_whole(ctx, Quantity(value.step or Fraction(1)), item.span, "`step`", 1)
        return None if first is None or last is None or step is None else list(range(first, last + 1, step))
    if isinstance(value, ListValue):
        found = [_layer(ctx, space, element, item, scope) for element in value.items]
        return None if None in found else [f for f in found if f is not None]
    only = _layer(ctx, space, value, item, scope)
    return None if only is None else [only]


def _step(ctx: Context, expr: tree.Expr, scope: Scope) -> int | None:
    return as_whole(ctx, ctx.value(expr, scope), expr.span, "`step`", 1)


def _layer(ctx: Context, space: SpaceInfo, value: Value, item: tree.Expr, scope: Scope) -> int | None:
    """The layer that an index names. Only a number that is written out counts from the end; none is ever clamped."""
    number, span = as_whole(ctx, value, item.span, "a layer"), item.span
    if number is None:
        return None
    layers = space.shape.layers
    if space.guessed:
        return number % layers
    help = _instead_of_index(ctx, item, scope, number, layers)
    if number < 0 and not ctx.is_written(value):
        ctx.report(space_errors.ComputedIndex(span, text=ctx.source(span), index=number, help=help))
        return None
    if not -layers <= number < layers:
        ctx.report(
            space_errors.LayerOutOfRange(
                span,
                "out of range",
                index=number,
                parent=space.parent,
                layers=layers,
                last=layers - 1,
                help=help,
            )
        )
        return None
    return number % layers


def _instead_of_index(ctx: Context, item: tree.Expr, scope: Scope, number: int, layers: int) -> str | None:
    """The values for which `i - 1` and the like name a layer; None for an index of another form."""
    match item:
        case tree.Binary(op="+" | "-" as op, left=(tree.Name() | tree.Attribute()) as variable, right=shift):
            pass
        case _:
            return None
    amount = ctx.value(shift, scope)
    if not isinstance(amount, Quantity) or (
        isinstance(variable, tree.Name) and scope.local(variable.text) is None
    ):
        return None
    step = int(amount.value) if op == "+" else -int(amount.value)
    name, low, high = ctx.source(variable.span), max(0, -step), min(layers, layers - step) - 1
    if low > high:
        return None
    kept = f"at {low} or above" if number < 0 else f"at {high} or below"
    over = f"layers[{low}..{high}]" if isinstance(variable, tree.Attribute) else f"{low}..{high}"
    loop = name.partition(".")[0]
    return f"`{name}` is {number - step} here: keep it {kept}, as in `for {loop} in {over}`"


def _where(ctx: Context, layers: list[int], where: tree.Expr | None, scope: Scope) -> list[int] | None:
    if where is None:
        return layers
    kept: list[int] = []
    for layer in layers:
        value = ctx.value(where, scope.inner({"index": Quantity(Fraction(layer), COUNT)}))
        match value:
            case Boolean(value=true):
                kept += [layer] * true
            case Poison():
                return None
            case _:
                wanted, got = "true or false", describe(value)
                ctx.report(types.WrongType(where.span, what="what follows `where`", wanted=wanted, got=got))
                return None
    return kept
