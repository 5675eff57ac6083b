"""`runs(P)` and `longest(P)`: runs of consecutive layers in which a statement holds."""

from __future__ import annotations

from fractions import Fraction

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.units import Quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import type_errors as errors
from puzzledsl.checker.expressions.layer_tables import as_formula, layer_spoken_of
from puzzledsl.checker.expressions.search_values import Formula, Matches, SubBlocks, Tally
from puzzledsl.checker.expressions.tallies import fits, wrong_argument
from puzzledsl.checker.expressions.values import POISON, Boolean, Located, Value
from puzzledsl.checker.spaces.space_info import SpaceInfo
from puzzledsl.ir import logic, nodes
from puzzledsl.syntax import tree

_TRUE, _FALSE = nodes.And(operands=()), nodes.Or(operands=())
_STATEMENT = "a statement about one layer, such as `attention is noop`"


def read_runs(ctx: Context, name: str, items: list[Located], call: tree.Call) -> Value:
    """`runs(P)` or `longest(P)`: P of each layer, in the order of the layers. A constant where every P is one."""
    found: list[nodes.Logic] = []
    size, last = 0, -1
    space: SpaceInfo | None = None
    for item in items:
        parts = _statements(ctx, name, item)
        if parts is None:
            return POISON
        for part in parts:
            if isinstance(part, Boolean):
                found.append(_TRUE if part.value else _FALSE)
                size += 1
                continue
            layer = _layer(part)
            if layer <= last:
                _out_of_order(ctx, name, item.span, last, layer)
                return POISON
            last, space, size = layer, part.space, size + part.size
            found.append(part.logic)
    if space is None:
        held = [part == _TRUE for part in found]
        return Quantity(Fraction((logic.runs if name == "runs" else logic.longest)(held)[0]))
    if not fits(ctx, size, call.span):
        return POISON
    kind = nodes.Runs if name == "runs" else nodes.Longest
    return Tally(kind(statements=tuple(found)), size, space, ctx.source(call.span))


def _statements(ctx: Context, name: str, item: Located) -> list[Formula | Boolean] | None:
    """The statements about one layer each that an argument is; None, reported, for anything else."""
    match item.value:
        case Matches(space=space, sub_block=part, names=names, indices=indices):
            return [
                Formula(nodes.Is(layer=i, sub_block=part, alternatives=names[i]), 1, space) for i in indices
            ]
        case SubBlocks(sub_block=part):
            wrong_argument(ctx, name, item, _STATEMENT, f"say what: `{name}({part} is noop)`")
            return None
    found = as_formula(ctx, item.value, item.span)
    if found is None:
        wrong_argument(ctx, name, item, _STATEMENT, "")
        return None
    if isinstance(found, Formula) and layer_spoken_of(found) is None:
        help = f"each statement is about one layer: `{name}(l is noop for l in layers)`"
        ctx.report(
            errors.WrongType(
                item.span,
                what=f"what `{name}` looks at",
                wanted=_STATEMENT,
                got="a statement about several layers",
                help=help,
            )
        )
        return None
    return [found]


def _layer(formula: Formula) -> int:
    at = layer_spoken_of(formula)
    assert at is not None
    return at[1]


def _out_of_order(ctx: Context, name: str, span: Span, last: int, layer: int) -> None:
    got = f"two about layer {layer}" if layer == last else f"layer {layer} after layer {last}"
    help = f"go through the layers once, from the first to the last: `{name}(l is noop for l in layers)`"
    what, wanted = f"the statements of `{name}`", "one for each layer, in the order of the layers"
    ctx.report(errors.WrongType(span, what=what, wanted=wanted, got=got, help=help))
