"""`distinct(F)`: how many different values a figure or a choice takes over layers."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.units import Quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import type_errors as errors
from puzzledsl.checker.expressions.coercions import as_number
from puzzledsl.checker.expressions.layer_tables import BOTH, layer_of, statement, tables_of
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
from puzzledsl.ir.structures import TRUE
from puzzledsl.syntax import tree

_FIGURE = "a figure of layers, such as `ffn.width`, or their choice, such as `ffn`"
_APART = "write a `require` for each of the two"
Takes = tuple[object, nodes.Logic, int]
"""A value, the statement that one layer takes it, and the statement's size."""


def read_distinct(ctx: Context, items: list[Located], call: tree.Call) -> Value:
    """`distinct(F)`: how many different values F takes over the layers. A constant where every F is one."""
    by_value: dict[object, list[nodes.Logic]] = {}
    size = 0
    space: SpaceInfo | None = None
    kinds: set[str] = set()
    for item in items:
        taken = _taken(ctx, item)
        if taken is None or not _is_of_one_kind(ctx, item, kinds):
            return POISON
        space = getattr(item.value, "space", None) or space
        for value, logic, parts in taken:
            by_value.setdefault(value, []).append(logic)
            size += parts
            if not fits(ctx, size, call.span):
                return POISON
    if space is None:
        return Quantity(Fraction(len(by_value)))
    statements = tuple(nodes.Or(operands=tuple(logics)) for logics in by_value.values())
    return Tally("distinct", statements, size, space, ctx.source(call.span))


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


def _taken(ctx: Context, item: Located) -> list[Takes] | None:
    """Every value that an argument may take, with the statement that it does; None, reported, for a wrong argument."""
    match item.value:
        case Facts(space=space, sub_block=part, attribute=attribute, indices=indices):
            return list(_facts(space, part, attribute, indices))
        case SubBlocks(space=space, sub_block=part, indices=indices):
            return list(_names(space, part, indices))
        case Layers(space=space, indices=indices) if indices:
            return list(_pairs(space, indices))
        case Boolean() | Formula() | Matches():
            wrong_argument(
                ctx, "distinct", item, _FIGURE, "statements are counted: `count(attention is noop)`"
            )
            return None
    number = as_number(ctx, item.value, item.span, "what `distinct` compares")
    if number is None:
        return None
    if isinstance(number, Quantity):
        return [(number.value, TRUE, 1)]
    tables = tables_of(ctx, [number], item.span)
    if tables is None:
        if layer_of([number]) is None:
            help = "each value hangs on one layer: `distinct(l.ffn.width for l in layers)`"
            wrong_argument(
                ctx, "distinct", item, _FIGURE, help, got="a figure of several layers or of the whole child"
            )
        return None
    (table,) = tables
    found: list[Takes] = []
    for cell in sorted({cell for row in table.cells for cell in row}):
        holds = statement(table, [[other == cell for other in row] for row in table.cells])
        if isinstance(holds, Formula):
            found.append((cell, holds.logic, holds.size))
        elif holds.value:
            found.append((cell, TRUE, 1))
    return found


def _facts(space: SpaceInfo, part: SubBlock, attribute: str, indices: tuple[int, ...]) -> Iterator[Takes]:
    for layer in indices:
        by_value: dict[int, list[str]] = {}
        for alternative in space.choices(part)[layer]:
            by_value.setdefault(fact(alternative, attribute, space.shape.at(layer)), []).append(
                alternative.name
            )
        for value, names in by_value.items():
            yield Fraction(value), nodes.Is(layer=layer, sub_block=part, alternatives=tuple(names)), 1


def _names(space: SpaceInfo, part: SubBlock, indices: tuple[int, ...]) -> Iterator[Takes]:
    for layer in indices:
        for name in (a.name for a in space.choices(part)[layer]):
            yield name, nodes.Is(layer=layer, sub_block=part, alternatives=(name,)), 1


def _pairs(space: SpaceInfo, indices: tuple[int, ...]) -> Iterator[Takes]:
    for layer in indices:
        attention, ffn = (tuple(a.name for a in space.choices(part)[layer]) for part in BOTH)
        for pair in ((a, f) for a in attention for f in ffn):
            choices = (
                nodes.Is(layer=layer, sub_block=part, alternatives=(name,))
                for part, name in zip(BOTH, pair, strict=True)
            )
            yield pair, nodes.And(operands=tuple(choices)), 3
