"""Parts of values: figures behind a dot (`chat.memory`), layers and elements in square brackets, and what `for` goes through."""

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from math import floor
from typing import NoReturn

from puzzledsl.alternatives.alternative import SUB_BLOCKS
from puzzledsl.base.diagnostics import Args, Span
from puzzledsl.base.phrases import closest
from puzzledsl.base.settings import settings_of
from puzzledsl.base.units import COUNT, Quantity
from puzzledsl.checker import errors
from puzzledsl.checker.context import MAX_INSTANCES, Context, Refused
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.numbers import as_whole
from puzzledsl.checker.expressions.values import Scope, SpaceInfo, Symbol, Value, all_parent
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import layer_fact, parent_fact
from puzzledsl.ir.hardware_nodes import running_costs
from puzzledsl.ir.metric_records import METRICS, STATED, Metric, metrics_under
from puzzledsl.language.kinds import HARDWARE_FACTS, PARENT_FACTS, PARENT_LAYER_FACTS
from puzzledsl.language.words import LAYER_FACTS, SCENARIO_FACTS, SUB_BLOCK_FACTS
from puzzledsl.syntax import tree


def attribute(ctx: Context, target: Value, node: tree.Attribute) -> Value:
    """Return the value of `target.name`, as in `chat.memory` and `layers[3].ffn`. Refuse a name that the target lacks."""
    name, known, help = node.name.text, tuple[str, ...](), ""
    match target:
        case values.Ref(symbol=symbol) if symbol.kind in _OF:
            return _OF[symbol.kind](ctx, symbol, node)
        case values.Ref(symbol=symbol):
            scenario = next((s.name for s in ctx.file_of(node.span).symbols("scenario")), "SCENARIO")
            help = f"metrics belong to a scenario: `{scenario}.{name}`" if name in METRICS else ""
            return _unknown(ctx, node, f"{symbol.kind} `{symbol.name}`", (), help)
        case values.Layers() if name in SUB_BLOCKS and target.indices:
            return values.SubBlocks(target.space, name, target.indices, target.single)
        case values.Layers(single=True) if name == "index" and target.indices:
            return Quantity(Fraction(target.indices[0]))
        case values.Layers(single=True) if name in ("params", "active_params") and target.indices:
            keys: list[values.TermKey] = [("fact", part, name, target.indices[0]) for part in SUB_BLOCKS]
            return values.Symbolic(dict.fromkeys(keys, Fraction(1)), space=target.space)
        case values.Layers():
            known = tuple(LAYER_FACTS if target.single else SUB_BLOCKS)
            owner = next((part for part in SUB_BLOCKS if name in SUB_BLOCK_FACTS[part]), None)
            help = f"it is a figure of the {owner}: write `{owner}.{name}`" if owner else ""
        case values.ModelEnd(site=site):
            help = f"it has a storage type alone: `{site} is parent(dtype: q8_0)`"
            _unknown(ctx, node, f"`{site}`", (), help)
        case values.SubBlocks(space=space, sub_block=part, indices=indices):
            if name not in SUB_BLOCK_FACTS[part]:
                _unknown(ctx, node, f"`{part}`", SUB_BLOCK_FACTS[part])
            if not target.single:
                return values.Facts(space, part, name, indices)
            return values.Symbolic({("fact", part, name, indices[0]): Fraction(1)}, space=space)
        case values.ParentLayer(shape=own) if name in PARENT_LAYER_FACTS:
            return _as_value(layer_fact(own, name))
        case values.ParentLayer():
            known = tuple(PARENT_LAYER_FACTS)
    return _unknown(ctx, node, values.describe(target), known, help)


def _as_value(fact: int | str | bool) -> Value:
    if isinstance(fact, bool):
        return values.Boolean(fact)
    return values.Text(fact) if isinstance(fact, str) else Quantity(Fraction(fact))


def _unknown(ctx: Context, at: tree.Attribute, thing: str, known: Iterable[str], help: str = "") -> NoReturn:
    listed = [f"`{name}`" for name in known][:16]
    near, help = closest(at.name.text, known), help or ("it has " + ", ".join(listed) if listed else "")
    said: Args = {"thing": thing, "name": at.name.text}
    raise ctx.refuse(errors.UnknownAttribute(at.name.span, near=near, help=help, **said))


def _of_file(ctx: Context, symbol: Symbol, node: tree.Attribute) -> Value:
    assert symbol.target is not None
    found = symbol.target.names.get(node.name.text)
    if found is None:
        if symbol.target.declares_unread(node.name.text):
            return values.POISON
        _unknown(ctx, node, f"`{symbol.target.shown}`", symbol.target.names)
    if not isinstance(found, Symbol):
        return found
    if isinstance(found.item, tree.Fn):
        return values.Function(found.item, Scope(found.file))
    if found.kind not in ("let", "param"):
        return values.Ref(found)
    return ctx.value(tree.Name(span=node.name.span, text=found.name), Scope(found.file))


def _of_parent(ctx: Context, symbol: Symbol, node: tree.Attribute) -> Value:
    name, thing = node.name.text, f"parent `{symbol.name}`"
    if name not in PARENT_FACTS:
        if ctx.busy and ctx.busy[-1].kind == "search" and name.endswith("layers"):
            help = "the parent's number is `layers`; count the child's: `count(attention is not noop) >= 20`"
            _unknown(ctx, node, thing, (), help)
        _unknown(ctx, node, thing, PARENT_FACTS)
    value = parent_fact(ctx.need(symbol, nodes.Parent).shape, name)
    if value is None:
        text, help = f"`{name}` of `{symbol.name}`", f"`{ctx.source(node.target.span)}.layers[0].{name}`"
        raise ctx.refuse(errors.DiffersByLayer(node.name.span, what=text, help=f"name a layer: {help}"))
    return _as_value(value)


def _of_scenario(ctx: Context, symbol: Symbol, node: tree.Attribute) -> Value:
    name = node.name.text
    if name in SCENARIO_FACTS or name == "batch":
        scenario = ctx.need(symbol, nodes.Scenario)
        if name != "batch":
            return Quantity(Fraction(scenario.prompt if name == "prompt" else scenario.output))
        if len(scenario.batches) == 1:
            return Quantity(Fraction(scenario.batches[0]))
    lowered = ctx.lower(symbol, nodes.Scenario)
    known = METRICS if lowered is None else metrics_under(traffic=lowered.traffic is not None)
    metric = known.get(name)
    if metric is None:
        help = f"`{name}` is of another kind: `batch(…)` or `traffic(…)`" if name in METRICS else ""
        _unknown(ctx, node, f"scenario `{symbol.name}`", (*known, *SCENARIO_FACTS), help)
    if metric.needs:
        return _running_cost(ctx, symbol, node, metric)
    return values.Symbolic({("metric", ctx.name_of(symbol), name): Fraction(1)}, dimension=metric.dimension)


def _running_cost(ctx: Context, symbol: Symbol, node: tree.Attribute, metric: Metric) -> Value:
    """Return `chat.cost_per_mtok` or `joules_per_tok`: a multiple of one batch's latency or, with traffic, of `utilisation`."""
    key, scenario = metric.needs, ctx.need(symbol, nodes.Scenario)
    if scenario.hardware not in ctx.taken:
        return values.POISON
    hardware = ctx.need(ctx.taken[scenario.hardware], nodes.Hardware)
    bound, spec, help, stated = f"bound `{symbol.name}.throughput`", hardware.spec, "", None
    if isinstance(spec, nodes.TableHardware):
        help = f"a table states no `{key}`: {bound}"
    elif (stated := running_costs(spec)[STATED[key]]) is None:
        example = "2.5 USD/h" if key == "price" else "700W"
        help = f"add `{key}` to it, such as `{example}`; no price or power is shipped"
    elif scenario.traffic is None and len(scenario.batches) != 1:
        help = f"at several batches it is not linear: {bound}, by which the {key} is divided"
    if help or stated is None:
        said: Args = {"metric": metric.name, "hardware": hardware.name, "key": key}
        raise ctx.refuse(errors.MoneyNotStated(node.name.span, help=help, **said))
    factor = Fraction(metric.tokens * stated / scenario.output)
    if scenario.traffic is None:
        term: values.TermKey = ("metric", ctx.name_of(symbol), "latency")
        factor /= scenario.batches[0]
    else:  # 1 / max_rate is utilisation / rate
        term, factor = ("metric", ctx.name_of(symbol), "utilisation"), factor / scenario.traffic.rate
    return values.Symbolic({term: factor}, dimension=metric.dimension)


def _of_judge(ctx: Context, symbol: Symbol, node: tree.Attribute) -> Value:
    name = node.name.text
    if name not in nodes.JUDGED:
        _unknown(ctx, node, f"judge `{symbol.name}`", nodes.JUDGED)
    return values.Symbolic({("judged", ctx.name_of(symbol), name): Fraction(1)})


_AS = {"experts": "dtype", "activations": "dtype", "head": "embedding"}
"""Number type of a profile -> the one that it equals unless it is written."""


def _of_hardware(ctx: Context, symbol: Symbol, node: tree.Attribute) -> Value:
    spec, name = ctx.need(symbol, nodes.Hardware).spec, node.name.text
    known: dict[str, Value] = {}
    table = {} if isinstance(spec, nodes.TableHardware) else settings_of(type(spec))
    for fact in filter(table.get, HARDWARE_FACTS):
        stated = getattr(spec, table[fact].name)
        if stated is None and fact in _AS:
            stated = getattr(spec, table[_AS[fact]].name)
        if isinstance(stated, str):
            known[fact] = values.Text(stated)
        elif stated is not None:
            known[fact] = Quantity(Fraction(stated), table[fact].unit)
    if name in known:
        return known[name]
    help = f"give it: `measured(device: cpu, memory: 16GiB)`, or write a literal in place of `{symbol.name}.memory`"
    lacks_memory = name == "memory" and isinstance(spec, nodes.MeasuredHardware)
    return _unknown(ctx, node, f"hardware `{symbol.name}`", known, help if lacks_memory else "")


_OF = {
    "file": _of_file,
    "parent": _of_parent,
    "scenario": _of_scenario,
    "hardware": _of_hardware,
    "judge": _of_judge,
}
"""Kind of declaration -> the function that gives the value of a name behind its dot."""
Loop = tree.ForAll | tree.Comprehension
Read = Callable[[tree.Stmt, Scope], object]
STEPS = 2
"""Steps of work counted for one element of a loop, in addition to its body's."""


def index(ctx: Context, target: Value, node: tree.Index, scope: Scope) -> Value:
    """Return `target[…]`: the layers selected, one layer of a parent, or an element of a list. Refuse other targets."""
    match target:
        case values.ListValue(items=items) if len(node.items) == 1 and node.where is None:
            span = node.items[0].span
            place = as_whole(ctx, ctx.value(node.items[0], scope), span, "an index")
            if not -len(items) <= place < len(items):
                raise ctx.beyond(span, "an index", f"within the list's {len(items)} elements", place)
            return items[place]
        case values.Layers(space=space, single=False) if target.indices == space.all_layers:
            return _layers(ctx, space, node, scope)
        case values.Layers(single=False):
            help = "join both selections: `layers[40..79 where index mod 2 == 1]`"
            raise ctx.misplaced(node.span, "`[…]` after `[…]`", "a selection of layers", help)
        case values.SubBlocks(sub_block=part):
            raise ctx.misplaced(node.span, "`[…]`", f"`{part}`", f"write `layers[…].{part}`")
        case Quantity() if isinstance(of := node.target, tree.Attribute) and of.name.text == "layers":
            owner = ctx.value(of.target, scope)
            parent = ctx.lower(owner.symbol, nodes.Parent) if isinstance(owner, values.Ref) else None
            if parent is not None:
                space = all_parent(parent.name, parent.name, parent.name, parent.shape)
                found = _layers(ctx, space, node, scope)
                if not found.single:
                    help = f"write `{ctx.source(node.target.span)}[{found.indices[0]}]`"
                    raise ctx.wrong(node.span, "what stands in `[…]`", "one layer", "several layers", help)
                return values.ParentLayer(parent.shape.at(found.indices[0]), found.indices[0])
    raise ctx.wrong(node.target.span, "what stands before `[…]`", "layers or a list", target)


def _layers(ctx: Context, space: SpaceInfo, node: tree.Index, scope: Scope) -> values.Layers:
    parts, help = ctx.all(_part, node.items, space, scope), ""
    chosen = sorted({layer for part in parts for layer in part}) if parts else space.all_layers
    kept = [i for i in chosen if passes(ctx, node.where, scope.inner({"index": Quantity(Fraction(i))}))]
    if not kept and space.guessed:
        raise Refused
    item = node.items[0] if node.items else None
    if not kept:
        if node.where is not None:
            help = "no layer of the range passes `where`; `index` is the layer's own number, from 0"
        elif isinstance(item, tree.Range) and item.start is not None and item.stop is not None:
            turned = f"{ctx.source(item.stop.span)}..{ctx.source(item.start.span)}"
            help = f"a range goes upwards: write `layers[{turned}]`"
        raise ctx.refuse(errors.NoLayers(node.span, text=ctx.source(node.span), help=help))
    plain = len(parts) == 1 and node.where is None and not isinstance(item, tree.Range)
    return values.Layers(space, tuple(kept), plain and len(parts[0]) == 1)


def _part(ctx: Context, item: tree.Expr, space: SpaceInfo, scope: Scope) -> list[int]:
    """Return the layers that one item of a subscript, which is a number, a range or a list of numbers, selects."""
    if isinstance(item, tree.Range):
        low, high = [None if end is None else (ctx.value(end, scope), end) for end in (item.start, item.stop)]
        at = item.step or item
        value: Value = Quantity(Fraction(1)) if item.step is None else ctx.value(item.step, scope)
        step = ctx.attempt(as_whole, ctx, value, at.span, "`step`", 1)
    elif isinstance(found := ctx.value(item, scope), values.RangeValue):
        low, high = (found.low, item), (found.high, item)
        step = as_whole(ctx, Quantity(found.step or Fraction(1)), item.span, "`step`", 1)
    else:
        elements = found.items if isinstance(found, values.ListValue) else (found,)
        return ctx.all(_layer, elements, space, item)
    first = 0 if low is None else ctx.attempt(_layer, ctx, low[0], space, low[1])
    last = ctx.attempt(_layer, ctx, high[0], space, high[1]) if high else space.shape.layers - 1
    if first is None or last is None or step is None:
        raise Refused
    return list(range(first, last + 1, step))


def _layer(ctx: Context, value: Value, space: SpaceInfo, item: tree.Expr) -> int:
    """Return the layer of an index, from 0. Only a negative literal counts from the end. Refuse an index out of range."""
    number, span, layers = as_whole(ctx, value, item.span, "a layer"), item.span, space.shape.layers
    if space.guessed:
        return number % layers
    if number < 0 and ctx.written.get(id(value)) is not value:
        raise ctx.refuse(errors.ComputedIndex(span, text=ctx.source(span), index=number))
    if not -layers <= number < layers:
        said: Args = {"index": number, "parent": space.parent, "layers": layers, "last": layers - 1}
        raise ctx.refuse(errors.LayerOutOfRange(span, "out of range", **said))
    return number % layers


def each_instance(ctx: Context, loop: tree.ForAll, scope: Scope, read: Read) -> None:
    """Call `read` with each statement of a `for`, once for each value of its variable. Stop after the first with a diagnostic."""
    before = len(ctx.sink.items)
    for inner in instances(ctx, loop.domain, loop, scope):
        for statement in loop.body:
            ctx.attempt(read, statement, inner)
        if len(ctx.sink.items) > before:
            return


def instances(ctx: Context, over: tree.Expr, loop: Loop, scope: Scope) -> Iterator[Scope]:
    """Yield the scope of each iteration of `for VARIABLE in DOMAIN where …`."""
    for element in _elements(ctx, ctx.value(over, scope), over.span):
        ctx.spend(over.span, STEPS)
        inner = scope.inner({loop.variable.text: element})
        if passes(ctx, loop.where, inner):
            yield inner


def _elements(ctx: Context, collection: Value, span: Span) -> Iterator[Value]:
    match collection:
        case values.Layers(single=False):
            yield from (values.Layers(collection.space, (i,), single=True) for i in collection.indices)
        case values.ListValue(items=items):
            yield from items
        case values.Options(options=options):
            yield from (o.value for o in options)
        case values.RangeValue(low=low, high=high) if low.dimension == COUNT and low.value.denominator == 1:
            step = collection.step or Fraction(1)
            count = floor((high.value - low.value) / step) + 1
            if count > MAX_INSTANCES:
                raise ctx.too_much(span, "this range", f"{MAX_INSTANCES:,} steps")
            yield from (Quantity(low.value + i * step) for i in range(count))
        case _:
            wanted = "a range of whole numbers, a list or layers"
            raise ctx.wrong(span, "what `for` goes through", wanted, collection)


def passes(ctx: Context, where: tree.Expr | None, scope: Scope) -> bool:
    """Return the value of a `where` condition, True without one. Refuse a condition that is no constant."""
    if where is None:
        return True
    value = ctx.value(where, scope)
    if not isinstance(value, values.Boolean):
        raise ctx.wrong(where.span, "what follows `where`", "true or false", value)
    return value.value
