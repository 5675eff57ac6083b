"""Tables over one layer's choice: exact nonlinear arithmetic on values that depend on a single layer.

Such a value is one number per alternative, or per attention x FFN pair, so every operation is computed cell by cell
and the search stays linear in the choices. Cells are `[attention][ffn]` over the layer's alternatives. The parent's
sub-block is always an axis entry, even if the layer cannot choose it: ratios to the parent need it.
"""

import functools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, cast

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, SubBlock
from puzzledsl.alternatives.parent import PARENTS
from puzzledsl.base.diagnostics import Span
from puzzledsl.base.frozen import Record
from puzzledsl.base.units import COUNT, Dimension, Quantity
from puzzledsl.checker.context import CELLS_PER_STEP, MAX_CELLS, Context
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.numbers import LAYER_TERMS, to_linear
from puzzledsl.checker.expressions.values import Number, SpaceInfo, Value
from puzzledsl.ir import logic, nodes
from puzzledsl.ir.facts import fact

Cells = tuple[tuple[Fraction, ...], ...]
Axis = tuple[Alternative, ...]
Terms = tuple[tuple[values.TermKey, Fraction], ...]


class Table(Record, eq=False):
    """The numbers `cells[attention][ffn]` of one layer, all of one dimension."""

    space: SpaceInfo
    layer: int
    cells: Cells
    dimension: Dimension = COUNT

    def names(self, part: SubBlock) -> tuple[str, ...]:
        """Return the canonical names of the alternatives of one axis."""
        return axis_names(self.space, self.layer, part)

    @property
    def parents(self) -> Fraction:
        """The number of the parent's own layer, where both sub-blocks are `parent`."""
        return self.cells[self.names("attention").index("parent")][self.names("ffn").index("parent")]


def axis(space: SpaceInfo, layer: int, sub_block: SubBlock) -> Axis:
    """Return a layer's alternatives of one sub-block; the parent's own is added at the end if it is not among them."""
    here: Axis = tuple(space.chosen[sub_block][layer])
    parent = PARENTS[sub_block]
    return here if parent in here else (*here, parent)


def axis_names(space: SpaceInfo, layer: int, sub_block: SubBlock) -> tuple[str, ...]:
    """Return the canonical names of `axis`."""
    return tuple(a.name for a in axis(space, layer, sub_block))


def layer_of(numbers: Sequence[Number]) -> tuple[SpaceInfo, int] | None:
    """Return the single layer that some numbers depend on; None if they depend on several, on none or on the whole child."""
    sums = [value for value in numbers if isinstance(value, values.Symbolic)]
    layers = {key[-1] if key[0] in LAYER_TERMS else None for value in sums for key in value.terms}
    space = next((value.space for value in sums if value.space is not None), None)
    layer = layers.pop() if len(layers) == 1 else None
    return (space, layer) if isinstance(layer, int) and space is not None else None


def tables_of(ctx: Context, numbers: Sequence[Number], span: Span) -> list[Table] | None:
    """Return some numbers as tables of the one layer they depend on; None without such a layer."""
    at = layer_of(numbers)
    if at is None:
        return None
    space, layer = at
    rows, columns = (axis(space, layer, part) for part in SUB_BLOCKS)
    _afford(ctx, len(rows) * len(columns), len(numbers), span)
    terms = [({}, n.value) if isinstance(n, Quantity) else (n.terms, n.constant) for n in numbers]
    cells = [_cells(tuple(own.items()), constant, space, rows, columns) for own, constant in terms]
    return [Table(space, layer, each, n.dimension) for each, n in zip(cells, numbers, strict=True)]


def _afford(ctx: Context, size: int, numbers: int, span: Span) -> None:
    """Spend the steps of so many tables (`numbers`) of `size` cells each. Refuse a size above MAX_CELLS."""
    if size > MAX_CELLS:
        raise ctx.too_much(span, "the table of this layer", f"{MAX_CELLS:,} pairs")
    ctx.spend(span, 1 + size * numbers // CELLS_PER_STEP)


@functools.lru_cache(maxsize=256)  # a figure is compared with many values
def _cells(terms: Terms, constant: Fraction, space: SpaceInfo, rows: Axis, columns: Axis) -> Cells:
    sums = {"attention": [constant] * len(rows), "ffn": [Fraction(0)] * len(columns)}
    pairs: list[tuple[Any, Fraction]] = []
    for key, factor in cast(tuple[tuple[Any, Fraction], ...], terms):
        if key[0] == "table":
            pairs.append((key, factor))
            continue
        kind, part, of, layer = key
        axis, own = rows if part == "attention" else columns, space.shape.at(layer)
        figures = [fact(each, of, own) if kind == "fact" else each.name in of for each in axis]
        sums[part] = [total + factor * figure for total, figure in zip(sums[part], figures, strict=True)]
    by_row, by_column = sums.values()
    if not any(by_column) and not pairs:
        return tuple((row,) * len(columns) for row in by_row)
    if len(set(by_row)) == 1 and not pairs:
        return (tuple(by_row[0] + column for column in by_column),) * len(rows)
    return tuple(
        tuple(
            # an axis that a table does not depend on has length one
            sum(
                (c * cells[i if own else 0][j if ffn else 0] for (_, own, ffn, cells, _), c in pairs),
                row + column,
            )
            for j, column in enumerate(by_column)
        )
        for i, row in enumerate(by_row)
    )


def pointwise(tables: Sequence[Table], dimension: Dimension, of: Callable[..., Fraction]) -> Number:
    """Apply `of` cell by cell to tables of one layer. Return the result, of the dimension `dimension`, as a number."""
    first = tables[0]
    cells = tuple(
        tuple(of(*cell) for cell in zip(*rows, strict=True))
        for rows in zip(*(table.cells for table in tables), strict=True)
    )
    return _number_of(Table(first.space, first.layer, cells, dimension))


def _number_of(table: Table) -> Number:
    """Return the simplest number with these cells: a constant, a count, a table over one sub-block or one over pairs."""
    attention, ffn, cells = axes_of(table)
    different = sorted({cell for row in cells for cell in row})
    if len(different) == 1:
        return Quantity(different[0], table.dimension)
    key: values.TermKey = ("table", attention, ffn, cells, table.layer)
    low, factor = Fraction(0), Fraction(1)
    if len(different) == 2 and not (attention and ffn):
        part, names = ("attention", attention) if attention else ("ffn", ffn)
        low, high = different
        column = (cell for row in cells for cell in row)
        chosen = tuple(name for name, value in zip(names, column, strict=True) if value == high)
        key, factor = ("count", part, chosen, table.layer), high - low
    return values.Symbolic({key: factor}, low, table.dimension, table.space)


def axes_of(table: Table) -> tuple[tuple[str, ...], tuple[str, ...], Cells]:
    """Return a table's attentions, FFNs and cells. If all rows or columns are alike, that axis has no names and one entry."""
    cells, attention, ffn = table.cells, table.names("attention"), table.names("ffn")
    if len(set(cells)) == 1:
        return (), ffn, cells[:1]
    if all(len(set(row)) == 1 for row in cells):
        return attention, (), tuple(row[:1] for row in cells)
    return attention, ffn, cells


def as_formula(ctx: Context, value: Value, span: Span) -> values.Statement | None:
    """Return a value as a Formula or Boolean, also a comparison of layers' figures; None for others, as bounds on metrics."""
    if not isinstance(value, values.Conjunction):
        return value if isinstance(value, values.Formula | values.Boolean) else None
    parts = [i if isinstance(i, values.Formula) else _of_layers(ctx, i, span) for i in value.items]
    if None in parts or values.Boolean(False) in parts:
        return None if None in parts else values.Boolean(False)
    formulas = [part for part in parts if isinstance(part, values.Formula)]
    if len(formulas) < 2:
        return formulas[0] if formulas else values.Boolean(True)
    size = 1 + sum(part.size for part in formulas)
    return values.Formula(nodes.And(operands=tuple(f.logic for f in formulas)), size, formulas[0].space)


def statements(ctx: Context, item: values.Located) -> list[values.Statement] | None:
    """Return the statements in an argument: one a layer for `attention is noop`, else one; None if `as_formula` gives None."""
    match item.value:
        case values.Matches(space=space, sub_block=part, names=names, indices=indices):
            each = (nodes.Is(layer=i, sub_block=part, alternatives=names[i]) for i in indices)
            return [values.Formula(one, 1, space) for one in each]
        case value:
            found = as_formula(ctx, value, item.span)
            return None if found is None else [found]


def _of_layers(ctx: Context, comparison: values.Comparison, span: Span) -> values.Statement | None:
    """Return a comparison as a statement, by one layer's table or as a sum over layers; None if it has terms of no layer."""
    left, bound = comparison.left, comparison.bound
    if layer_of([left]) is not None or left.space is None:
        return compared(ctx, comparison, span)
    if any(key[0] not in LAYER_TERMS for key in left.terms):
        return None
    if comparison.parent_ratio is not None:
        by_layer: dict[object, dict[values.TermKey, Fraction]] = {}
        for key, coefficient in left.terms.items():
            by_layer.setdefault(key[-1], {})[key] = coefficient
        parts = [values.Symbolic(t, Fraction(0), left.dimension, left.space) for t in by_layer.values()]
        tables = [table for part in parts for table in tables_of(ctx, [part], span) or ()]
        bound = comparison.parent_ratio * (left.constant + sum((t.parents for t in tables), Fraction(0)))
    assert bound is not None
    sums = nodes.Compare(left=to_linear(left), op=comparison.op, bound=bound)
    return values.Formula(sums, 1 + len(left.terms), left.space)


def compared(ctx: Context, comparison: values.Comparison, span: Span) -> values.Statement | None:
    """Return a comparison that depends on one layer alone as a statement about its choice; None for another comparison."""
    left, bound, at = comparison.left, comparison.bound, layer_of([comparison.left])
    if at is None:
        return None
    space, layer = at
    if comparison.parent_ratio is not None:
        parents = (table.parents for table in tables_of(ctx, [left], span) or ())
        bound = comparison.parent_ratio * sum(parents, Fraction(0))
    assert bound is not None
    _afford(ctx, math.prod(len(axis(space, layer, part)) for part in SUB_BLOCKS), 1, span)
    terms, here = tuple(left.terms.items()), tuple(space.chosen[part][layer] for part in SUB_BLOCKS)
    return _compared(terms, left.constant, comparison.op, bound, space, layer, here)


@functools.lru_cache(maxsize=1024)  # statements of a loop share comparisons
def _compared(
    terms: Terms, constant: Fraction, op: str, bound: Fraction, space: SpaceInfo, layer: int, _: object
) -> values.Statement:
    """Return the statement `table op bound`. The last argument, the layer's choices, is for the cache: overrides change them."""
    rows, columns = (axis(space, layer, part) for part in SUB_BLOCKS)
    table = Table(space, layer, _cells(terms, constant, space, rows, columns))
    cells = {id(cell): cell for row in table.cells for cell in row}  # most are there several times
    truth = {key: holds(cell, op, bound) for key, cell in cells.items()}
    return statement(table, [[truth[id(cell)] for cell in row] for row in table.cells])


def statement(table: Table, truth: Sequence[Sequence[bool]]) -> values.Statement:
    """Return the statement that is true where `truth[attention][ffn]` is: a Boolean, or a Formula of a sub-block or of pairs."""
    space, layer = table.space, table.layer
    own = [len(space.chosen[part][layer]) or 1 for part in SUB_BLOCKS]
    rows = [tuple(row[: own[1]]) for row in truth[: own[0]]]
    attention, ffn = (table.names(part) for part in SUB_BLOCKS)
    if len({cell for row in rows for cell in row}) == 1:
        return values.Boolean(rows[0][0])
    if len(set(rows)) == 1:
        return values.Formula(_is(layer, "ffn", ffn, rows[0]), 1, space)
    if all(len(set(row)) == 1 for row in rows):
        return values.Formula(_is(layer, "attention", attention, [row[0] for row in rows]), 1, space)
    parts: list[nodes.Logic] = []
    for pattern in filter(any, dict.fromkeys(rows)):
        same = _is(layer, "attention", attention, [row == pattern for row in rows])
        parts.append(same if all(pattern) else nodes.And(operands=(same, _is(layer, "ffn", ffn, pattern))))
    logic: nodes.Logic = nodes.Or(operands=tuple(parts)) if len(parts) > 1 else parts[0]
    return values.Formula(logic, 1 + 3 * len(parts), space)


def _is(layer: int, part: SubBlock, names: Sequence[str], chosen: Sequence[bool]) -> nodes.Is:
    kept = tuple(name for name, wanted in zip(names, chosen, strict=False) if wanted)
    return nodes.Is(layer=layer, sub_block=part, alternatives=kept)


def layer_spoken_of(formula: values.Formula) -> tuple[SpaceInfo, int] | None:
    """Return the space and the one layer that a formula is about; None if it is about several, none, or an end of the model."""
    layers = logic.layers_of(formula.logic)
    one = len(layers) == 1 and max(layers) < formula.space.shape.layers
    return (formula.space, min(layers)) if one else None


def truth_of(ctx: Context, formula: values.Formula, span: Span) -> Number | None:
    """Return a number that is 1 where a formula about one layer holds, else 0; None if it is not about one layer."""
    if (at := layer_spoken_of(formula)) is None:
        return None
    space, layer = at
    rows, columns = (axis_names(space, layer, part) for part in SUB_BLOCKS)
    _afford(ctx, len(rows) * len(columns), formula.size, span)
    held = [[logic.holds(formula.logic, {layer: logic.Pair(a, f)}) for f in columns] for a in rows]
    cells = tuple(tuple(Fraction(bool(truth)) for truth in row) for row in held)
    return _number_of(Table(space, layer, cells))


def holds(left: Fraction, op: str, right: Fraction) -> bool:
    """Return True if `left op right` holds for two exact numbers."""
    return left != right if op == "!=" else bool(logic.compared((left, left), op, right))
