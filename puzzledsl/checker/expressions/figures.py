"""`runs(P)` and `longest(P)` of layers in which P holds, and `distinct(F)`: the different values of F over layers."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import NoReturn

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.units import Quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics.type_errors import UnlikeSum
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.coercions import as_number
from puzzledsl.checker.expressions.layer_tables import (
    BOTH,
    as_formula,
    axis,
    axis_names,
    layer_spoken_of,
    tables_of,
)
from puzzledsl.checker.expressions.logic import afford
from puzzledsl.checker.spaces.space_info import SpaceInfo
from puzzledsl.ir import logic, nodes
from puzzledsl.ir.facts import fact
from puzzledsl.syntax import tree

_TRUE, _FALSE = nodes.And(operands=()), nodes.Or(operands=())
_STATEMENT = "a statement about one layer, such as `attention is noop`"
_FIGURE = "a figure of layers, such as `ffn.width`, or their choice, such as `ffn`"
Names = tuple[str, ...]
Takes = tuple[Names, Names, tuple[Names, ...]]
"""The names of a layer's attentions and FFNs, and the values as text, `[attention][ffn]`; see nodes.Taken."""


def read_runs(ctx: Context, name: str, items: list[values.Located], call: tree.Call) -> values.Value:
    """`runs(P)` or `longest(P)`: P of each layer, in the order of the layers. A constant where every P is one."""
    found: list[nodes.Logic] = []
    size, last = 0, -1
    space: SpaceInfo | None = None
    for item in items:
        for part in _statements(ctx, name, item):
            if isinstance(part, values.Boolean):
                found.append(_TRUE if part.value else _FALSE)
                size += 1
                continue
            at = layer_spoken_of(part)
            if at is None:
                help = f"each statement is about one layer: `{name}(l is noop for l in layers)`"
                got = "a statement about several layers"
                raise ctx.wrong(item.span, f"what `{name}` looks at", _STATEMENT, got, help)
            if at[1] <= last:
                _refuse_order(ctx, name, item, last, at[1])
            last, space, size = at[1], part.space, size + part.size
            found.append(part.logic)
    if space is None:
        held = [part == _TRUE for part in found]
        return Quantity(Fraction((logic.runs if name == "runs" else logic.longest)(held)[0]))
    afford(ctx, size, call.span)
    kind = nodes.Runs if name == "runs" else nodes.Longest
    return values.Tally(kind(statements=tuple(found)), size, space, ctx.source(call.span))


def _statements(ctx: Context, name: str, item: values.Located) -> Iterator[values.Statement]:
    """The statements that an argument is."""
    help = ""
    match item.value:
        case values.Matches(space=space, sub_block=part, names=names, indices=indices):
            for i in indices:
                yield values.Formula(nodes.Is(layer=i, sub_block=part, alternatives=names[i]), 1, space)
            return
        case values.SubBlocks(sub_block=part):
            help = f"say what: `{name}({part} is noop)`"
    found = as_formula(ctx, item.value, item.span)
    if found is None:
        raise ctx.wrong(item.span, f"what `{name}` looks at", _STATEMENT, item.value, help)
    yield found


def _refuse_order(ctx: Context, name: str, item: values.Located, last: int, layer: int) -> NoReturn:
    got = f"two about layer {layer}" if layer == last else f"layer {layer} after layer {last}"
    help = f"go through the layers once, from the first to the last: `{name}(l is noop for l in layers)`"
    what, wanted = f"the statements of `{name}`", "one for each layer, in the order of the layers"
    raise ctx.wrong(item.span, what, wanted, got, help)


def read_distinct(ctx: Context, items: list[values.Located], call: tree.Call) -> values.Value:
    """`distinct(F)`: how many different values F takes over the layers. A constant where every F is one."""
    layers: dict[Takes, list[int]] = {}
    space: SpaceInfo | None = None
    kinds: set[str] = set()
    for item in items:
        taken = _taken(ctx, item)
        kinds.add(kind := _kind(item.value))
        if len(kinds) > 1:
            help, left = "write a `require` for each of the two", min(kinds - {kind})
            raise ctx.refuse(UnlikeSum(item.span, op="distinct", left=left, right=kind, help=help))
        space = getattr(item.value, "space", None) or space
        for layer, takes in taken:
            layers.setdefault(takes, []).extend([] if layer is None else [layer])
    if space is None:
        return Quantity(Fraction(len(layers)))
    figure = nodes.Distinct(
        taken=tuple(
            nodes.Taken(attention=attention, ffn=ffn, values=shown, layers=tuple(sorted(set(there))))
            for (attention, ffn, shown), there in layers.items()
        )
    )
    size = 1 + sum(map(len, layers.values())) + sum(len(row) for takes in layers for row in takes[2])
    afford(ctx, size, call.span)
    return values.Tally(figure, size, space, ctx.source(call.span))


def _kind(value: values.Value) -> str:
    """The kind of values that an argument has; a width and an alternative are never the same."""
    match value:
        case values.SubBlocks(sub_block=part):
            return f"alternatives of `{part}`"
        case values.Layers():
            return "layers"
        case Quantity(dimension=dimension) | values.Symbolic(dimension=dimension):
            return dimension.name
        case _:
            return "a plain number"


def _taken(ctx: Context, item: values.Located) -> list[tuple[int | None, Takes]]:
    """The values of each layer that an argument is about."""
    value, what = item.value, "what `distinct` compares"
    match value:
        case values.Facts(space=space, sub_block=part, attribute=attribute, indices=indices):
            return [(i, _of_part(space, part, i, attribute)) for i in indices]
        case values.SubBlocks(space=space, sub_block=part, indices=indices):
            return [(i, _of_part(space, part, i, None)) for i in indices]
        case values.Layers(space=space, indices=indices) if indices:
            return [(i, _of_pairs(space, i)) for i in indices]
        case values.Boolean() | values.Formula() | values.Matches():
            help = "statements are counted: `count(attention is noop)`"
            raise ctx.wrong(item.span, what, _FIGURE, value, help)
    number = as_number(ctx, value, item.span, what)
    if isinstance(number, Quantity):
        return [(None, ((), (), ((str(number.value),),)))]
    tables = tables_of(ctx, [number], item.span)
    if tables is None:
        help = "each value hangs on one layer: `distinct(l.ffn.width for l in layers)`"
        raise ctx.wrong(item.span, what, _FIGURE, "a figure of several layers or of the whole child", help)
    (table,) = tables
    attention, ffn = (axis_names(table.space, table.layer, part) for part in BOTH)
    cells = tuple(tuple(str(cell) for cell in row) for row in table.cells)
    if len(set(cells)) == 1:
        return [(table.layer, ((), ffn, cells[:1]))]
    if all(len(set(row)) == 1 for row in cells):
        return [(table.layer, (attention, (), tuple(row[:1] for row in cells)))]
    return [(table.layer, (attention, ffn, cells))]


def _of_part(space: SpaceInfo, part: SubBlock, layer: int, attribute: str | None) -> Takes:
    """A fact of each alternative of a layer's sub-block; without an attribute, its name."""
    here = axis(space, layer, part)
    names = shown = tuple(a.name for a in here)
    if attribute is not None:
        shown = tuple(str(fact(a, attribute, space.shape.at(layer))) for a in here)
    return (names, (), tuple((v,) for v in shown)) if part == "attention" else ((), names, (shown,))


def _of_pairs(space: SpaceInfo, layer: int) -> Takes:
    attention, ffn = (axis_names(space, layer, part) for part in BOTH)
    return attention, ffn, tuple(tuple(f"{a}/{f}" for f in ffn) for a in attention)
