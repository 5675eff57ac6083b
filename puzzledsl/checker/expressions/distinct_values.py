"""`distinct(F)`: how many different values a figure or a choice takes over layers."""

from __future__ import annotations

from fractions import Fraction

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.units import Quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import type_errors as errors
from puzzledsl.checker.expressions.coercions import as_number
from puzzledsl.checker.expressions.layer_tables import BOTH, axis, layer_of, tables_of
from puzzledsl.checker.expressions.search_values import (
    Facts,
    Formula,
    Layers,
    Matches,
    SubBlocks,
    Symbolic,
    Tally,
)
from puzzledsl.checker.expressions.tallies import fits, wrong_argument
from puzzledsl.checker.expressions.values import POISON, Boolean, Located, Value
from puzzledsl.checker.spaces.space_info import SpaceInfo
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import fact
from puzzledsl.syntax import tree

_FIGURE = "a figure of layers, such as `ffn.width`, or their choice, such as `ffn`"
_APART = "write a `require` for each of the two"
Names = tuple[str, ...]
Takes = tuple[Names, Names, tuple[Names, ...]]
"""The names of a layer's attentions and FFNs, and the values as text, `[attention][ffn]`; see nodes.Taken."""


def read_distinct(ctx: Context, items: list[Located], call: tree.Call) -> Value:
    """`distinct(F)`: how many different values F takes over the layers. A constant where every F is one."""
    layers: dict[Takes, list[int]] = {}
    space: SpaceInfo | None = None
    kinds: set[str] = set()
    for item in items:
        taken = _taken(ctx, item)
        if taken is None or not _is_of_one_kind(ctx, item, kinds):
            return POISON
        space = getattr(item.value, "space", None) or space
        for layer, takes in taken:
            layers.setdefault(takes, []).extend([] if layer is None else [layer])
    if space is None:
        return Quantity(Fraction(len(layers)))
    figure = nodes.Distinct(
        taken=tuple(
            nodes.Taken(attention=attention, ffn=ffn, values=values, layers=tuple(sorted(set(there))))
            for (attention, ffn, values), there in layers.items()
        )
    )
    size = 1 + sum(map(len, layers.values())) + sum(len(row) for takes in layers for row in takes[2])
    return Tally(figure, size, space, ctx.source(call.span)) if fits(ctx, size, call.span) else POISON


def _is_of_one_kind(ctx: Context, item: Located, kinds: set[str]) -> bool:
    """True while all values are of one kind; a width and an alternative are never the same. Reports the first other."""
    match item.value:
        case SubBlocks(sub_block=part):
            kind = f"alternatives of `{part}`"
        case Layers():
            kind = "layers"
        case Quantity(dimension=dimension) | Symbolic(dimension=dimension):
            kind = dimension.name
        case _:
            kind = "a plain number"
    kinds.add(kind)
    if len(kinds) > 1:
        left, right = sorted(kinds - {kind})[0], kind
        ctx.report(errors.UnlikeSum(item.span, op="distinct", left=left, right=right, help=_APART))
    return len(kinds) == 1


def _taken(ctx: Context, item: Located) -> list[tuple[int | None, Takes]] | None:
    """The values of each layer that an argument is about; None, reported, for a wrong argument."""
    match item.value:
        case Facts(space=space, sub_block=part, attribute=attribute, indices=indices):
            return [(i, _of_part(space, part, i, attribute)) for i in indices]
        case SubBlocks(space=space, sub_block=part, indices=indices):
            return [(i, _of_part(space, part, i, None)) for i in indices]
        case Layers(space=space, indices=indices) if indices:
            return [(i, _of_pairs(space, i)) for i in indices]
        case Boolean() | Formula() | Matches():
            wrong_argument(
                ctx, "distinct", item, _FIGURE, "statements are counted: `count(attention is noop)`"
            )
            return None
    number = as_number(ctx, item.value, item.span, "what `distinct` compares")
    if number is None:
        return None
    if isinstance(number, Quantity):
        return [(None, ((), (), ((str(number.value),),)))]
    tables = tables_of(ctx, [number], item.span)
    if tables is None:
        if layer_of([number]) is None:
            help = "each value hangs on one layer: `distinct(l.ffn.width for l in layers)`"
            wrong_argument(
                ctx, "distinct", item, _FIGURE, help, got="a figure of several layers or of the whole child"
            )
        return None
    (table,) = tables
    attention, ffn = (tuple(a.name for a in axis(table.space, table.layer, part)) for part in BOTH)
    cells = tuple(tuple(str(cell) for cell in row) for row in table.cells)
    if len(set(cells)) == 1:
        return [(table.layer, ((), ffn, cells[:1]))]
    if all(len(set(row)) == 1 for row in cells):
        return [(table.layer, (attention, (), tuple(row[:1] for row in cells)))]
    return [(table.layer, (attention, ffn, cells))]


def _of_part(space: SpaceInfo, part: SubBlock, layer: int, attribute: str | None) -> Takes:
    """A fact of each alternative of a layer's sub-block; without an attribute, its name."""
    here = axis(space, layer, part)
    names = values = tuple(a.name for a in here)
    if attribute is not None:
        values = tuple(str(fact(a, attribute, space.shape.at(layer))) for a in here)
    return (names, (), tuple((v,) for v in values)) if part == "attention" else ((), names, (values,))


def _of_pairs(space: SpaceInfo, layer: int) -> Takes:
    attention, ffn = (tuple(a.name for a in axis(space, layer, part)) for part in BOTH)
    return attention, ffn, tuple(tuple(f"{a}/{f}" for f in ffn) for a in attention)
