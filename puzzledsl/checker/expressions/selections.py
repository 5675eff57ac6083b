"""Selections by square brackets and `for`: `layers[40.. where index mod 2 == 1]`, `list[0]`, `for l in layers where …`."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import floor

from puzzledsl.base.diagnostics import Args, Fix, Span
from puzzledsl.base.units import COUNT, Quantity
from puzzledsl.checker.context import Context, Refused
from puzzledsl.checker.diagnostics import name_errors, space_errors
from puzzledsl.checker.diagnostics.type_errors import OutOfRange
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.coercions import as_whole
from puzzledsl.checker.limits import MAX_INSTANCES
from puzzledsl.checker.spaces.space_info import SpaceInfo, all_parent
from puzzledsl.ir import nodes
from puzzledsl.syntax import tree

_BEFORE = "what stands before `[…]`"
STEPS = 2
"""Steps of work counted for one element of a loop, in addition to its body's."""


def index(ctx: Context, target: values.Value, node: tree.Index, scope: values.Scope) -> values.Value:
    """`target[…]`: layers, or an element of a list."""
    match target:
        case values.ListValue(items=items) if len(node.items) == 1 and node.where is None:
            span = node.items[0].span
            place = as_whole(ctx, ctx.value(node.items[0], scope), span, "an index")
            if not -len(items) <= place < len(items):
                condition = f"within the list's {len(items)} elements"
                raise ctx.refuse(OutOfRange(span, what="an index", condition=condition, got=place))
            return items[place]
        case values.Layers(space=space, single=False) if target.indices == space.all_layers:
            return _layers(ctx, space, node, scope)
        case values.Layers(single=False) if (
            isinstance(node.target, tree.Name) and node.target.text == "layer"
        ):
            help = "did you mean `layers`? `layer` stands in `size(layer)` alone"
            span = node.target.span
            raise ctx.wrong(span, _BEFORE, "`layers`", "`layer`", help, [Fix.replace(span, "layers")])
        case values.Layers(single=False):
            help, where = (
                "join both selections: `layers[40..79 where index mod 2 == 1]`",
                "a selection of layers",
            )
            raise ctx.refuse(
                name_errors.Misplaced(node.span, what="`[…]` after `[…]`", where=where, help=help)
            )
        case values.SubBlocks(sub_block=part):
            help, where = f"write `layers[…].{part}`", f"`{part}`"
            raise ctx.refuse(name_errors.Misplaced(node.span, what="`[…]`", where=where, help=help))
        case Quantity() if (parent := _parent_of(ctx, node.target, scope)) is not None:
            return _parent_layer(ctx, parent, node, scope)
        case _:
            raise ctx.wrong(node.target.span, _BEFORE, "layers or a list", target)


def _parent_of(ctx: Context, target: tree.Expr, scope: values.Scope) -> nodes.Parent | None:
    """Return the parent whose `.layers` an expression is; None if it is another."""
    if not isinstance(target, tree.Attribute) or target.name.text != "layers":
        return None
    owner = ctx.value(target.target, scope)
    return ctx.lower(owner.symbol, nodes.Parent) if isinstance(owner, values.Ref) else None


def _parent_layer(ctx: Context, parent: nodes.Parent, node: tree.Index, scope: values.Scope) -> values.Value:
    """`llama.layers[3]`."""
    found = _layers(ctx, all_parent(parent.name, parent.name, parent.name, parent.shape), node, scope)
    if not isinstance(found, values.Layers):
        return values.POISON
    if not found.single:
        help = f"write `{ctx.source(node.target.span)}[{found.indices[0]}]`"
        raise ctx.wrong(node.span, "what stands in `[…]`", "one layer", "several layers", help)
    (index,) = found.indices
    return values.ParentLayer(parent.shape.at(index), index)


def _layers(ctx: Context, space: SpaceInfo, node: tree.Index, scope: values.Scope) -> values.Value:
    parts = ctx.all(_part, node.items, space, scope)
    chosen = sorted({layer for part in parts for layer in part}) if parts else space.all_layers
    kept = [i for i in chosen if passes(ctx, node.where, scope.inner({"index": Quantity(Fraction(i))}))]
    if not kept and space.guessed:
        return values.POISON
    if not kept:
        text, help = ctx.source(node.span), _why_none(ctx, node)
        raise ctx.refuse(space_errors.NoLayers(node.span, text=text, help=help))
    plain = len(parts) == 1 and node.where is None and not isinstance(node.items[0], tree.Range)
    return values.Layers(space, tuple(kept), plain and len(parts[0]) == 1)


def _why_none(ctx: Context, node: tree.Index) -> str:
    if node.where is not None:
        return "no layer of the range passes `where`; `index` is the layer's own number, from 0"
    item = node.items[0]
    if isinstance(item, tree.Range) and item.start is not None and item.stop is not None:
        turned = f"{ctx.source(item.stop.span)}..{ctx.source(item.start.span)}"
        return f"a range goes upwards: write `layers[{turned}]`"
    return ""


def _part(ctx: Context, item: tree.Expr, space: SpaceInfo, scope: values.Scope) -> list[int]:
    """The layers that one item of a subscript names."""
    if isinstance(item, tree.Range):
        ends = [None if end is None else (ctx.value(end, scope), end) for end in (item.start, item.stop)]
        step = 1 if item.step is None else ctx.attempt(_step, ctx, ctx.value(item.step, scope), item.step)
        return _between(ctx, space, ends[0], ends[1], step, scope)
    value = ctx.value(item, scope)
    if isinstance(value, values.RangeValue):
        step = _step(ctx, Quantity(value.step or Fraction(1)), item)
        return _between(ctx, space, (value.low, item), (value.high, item), step, scope)
    elements = value.items if isinstance(value, values.ListValue) else (value,)
    return ctx.all(_layer, elements, space, item, scope)


End = tuple[values.Value, tree.Expr] | None


def _between(
    ctx: Context, space: SpaceInfo, low: End, high: End, step: int | None, scope: values.Scope
) -> list[int]:
    first = 0 if low is None else ctx.attempt(_layer, ctx, low[0], space, low[1], scope)
    last = ctx.attempt(_layer, ctx, high[0], space, high[1], scope) if high else space.shape.layers - 1
    if first is None or last is None or step is None:
        raise Refused
    return list(range(first, last + 1, step))


def _step(ctx: Context, value: values.Value, at: tree.Expr) -> int:
    return as_whole(ctx, value, at.span, "`step`", 1)


def _layer(ctx: Context, value: values.Value, space: SpaceInfo, item: tree.Expr, scope: values.Scope) -> int:
    """The layer that an index names. Only a number that is written out counts from the end; none is ever clamped."""
    number, span, layers = as_whole(ctx, value, item.span, "a layer"), item.span, space.shape.layers
    if space.guessed:
        return number % layers
    help = _instead_of_index(ctx, item, scope, number, layers)
    if number < 0 and not ctx.is_written(value):
        raise ctx.refuse(space_errors.ComputedIndex(span, text=ctx.source(span), index=number, help=help))
    if not -layers <= number < layers:
        said: Args = {"index": number, "parent": space.parent, "layers": layers, "last": layers - 1}
        raise ctx.refuse(space_errors.LayerOutOfRange(span, "out of range", help=help, **said))
    return number % layers


def _instead_of_index(
    ctx: Context, item: tree.Expr, scope: values.Scope, number: int, layers: int
) -> str | None:
    """The values for which `i - 1` and the like name a layer; None for an index of another form."""
    match item:
        case tree.Binary(op="+" | "-" as op, left=(tree.Name() | tree.Attribute()) as variable, right=shift):
            amount = ctx.value(shift, scope)
        case _:
            return None
    local = not isinstance(variable, tree.Name) or scope.local(variable.text) is not None
    if not isinstance(amount, Quantity) or not local:
        return None
    step = int(amount.value) if op == "+" else -int(amount.value)
    name, low, high = ctx.source(variable.span), max(0, -step), min(layers, layers - step) - 1
    if low > high:
        return None
    kept = f"at {low} or above" if number < 0 else f"at {high} or below"
    over = f"layers[{low}..{high}]" if isinstance(variable, tree.Attribute) else f"{low}..{high}"
    loop = name.partition(".")[0]
    return f"`{name}` is {number - step} here: keep it {kept}, as in `for {loop} in {over}`"


# ---------------------------------------------------------------- for


def instances(
    ctx: Context, domain: tree.Expr, variable: tree.Name, where: tree.Expr | None, scope: values.Scope
) -> Iterator[values.Scope]:
    """Yield the scope of each iteration of `for VARIABLE in DOMAIN where …`."""
    for element in _elements(ctx, ctx.value(domain, scope), domain.span):
        ctx.spend(domain.span, STEPS)
        inner = scope.inner({variable.text: element})
        if passes(ctx, where, inner):
            yield inner


def _elements(ctx: Context, collection: values.Value, span: Span) -> Iterator[values.Value]:
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
                limit = f"{MAX_INSTANCES:,} steps"
                raise ctx.refuse(name_errors.TooMuch(span, what="this range", limit=limit))
            yield from (Quantity(low.value + i * step) for i in range(count))
        case _:
            wanted = "a range of whole numbers, a list or layers"
            raise ctx.wrong(span, "what `for` goes through", wanted, collection)


def passes(ctx: Context, where: tree.Expr | None, scope: values.Scope) -> bool:
    """Return the value of a `where` condition."""
    if where is None:
        return True
    value = ctx.value(where, scope)
    if not isinstance(value, values.Boolean):
        raise ctx.wrong(where.span, "what follows `where`", "true or false", value)
    return value.value
