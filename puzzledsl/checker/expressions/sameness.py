"""`layers[i] same as layers[j]`: two layers, or the same sub-block of both, choose the same alternative."""

from __future__ import annotations

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.diagnostics import Span
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import type_errors as errors
from puzzledsl.checker.diagnostics.name_errors import TooMuch
from puzzledsl.checker.expressions.layer_tables import BOTH, layer_of
from puzzledsl.checker.expressions.search_values import Facts, Formula, Layers, SubBlocks, Symbolic
from puzzledsl.checker.expressions.values import POISON, Boolean, Constructed, Poison, Value, describe
from puzzledsl.checker.limits import MAX_FORMULA, TERMS_PER_STEP
from puzzledsl.checker.spaces.space_info import SpaceInfo
from puzzledsl.ir import nodes
from puzzledsl.ir.structures import same_choice
from puzzledsl.syntax import tree

One = Layers | SubBlocks
"""A layer, or a sub-block of one."""


def same_as(ctx: Context, node: tree.SameAs, left: Value, right: Value) -> Value:
    """`left same as right`: a Formula, or true where nothing is left to choose; POISON, reported, for unlike sides."""
    if isinstance(left, Poison) or isinstance(right, Poison):
        return POISON
    sides = (left, node.left), (right, node.right)
    for (value, side), other in zip(sides, reversed(sides), strict=True):
        if not _is_one(ctx, value, side, *other):
            return POISON
    assert isinstance(left, One) and isinstance(right, One)
    if _part(left) != _part(right):
        _unlike(ctx, node, left, right)
        return POISON
    space, (i,), (j,) = left.space, left.indices, right.indices
    if i == j:
        return Boolean(True)
    parts = BOTH if isinstance(left, Layers) else (left.sub_block,)
    found = [(part, _choice(space, part, i, j)) for part in parts]
    open_ = [formula for _, formula in found if isinstance(formula, nodes.And)]
    if any(formula is False for _, formula in found):
        return POISON if space.incomplete else Boolean(False)
    if not open_:
        return POISON if space.incomplete else Boolean(True)
    size = 1 + sum(1 + 3 * len(part.operands) for part in open_)
    if size > MAX_FORMULA:
        ctx.report(TooMuch(node.span, what="this statement", limit=f"{MAX_FORMULA:,} parts"))
        return POISON
    ctx.spend(node.span, size // TERMS_PER_STEP)
    logic = open_[0] if len(open_) == 1 else nodes.And(operands=tuple(open_))
    return Formula(logic, size, space, whole=True)


def _choice(space: SpaceInfo, part: SubBlock, left: int, right: int) -> nodes.Logic | bool:
    """The formula for one sub-block; True or False where nothing is left to choose."""
    own, others = (tuple(a.name for a in space.choices(part)[layer]) for layer in (left, right))
    if not set(own) & set(others):
        return False
    return True if own == others and len(own) == 1 else same_choice(left, right, part, own, others)


def _part(value: One) -> str:
    return value.sub_block if isinstance(value, SubBlocks) else "layer"


def _is_one(ctx: Context, value: Value, side: tree.Expr, other: Value, other_side: tree.Expr) -> bool:
    """True for a layer or a sub-block of one; anything else is reported, with what may have been meant."""
    if isinstance(value, One) and value.single and value.indices:
        return True
    text, beside = ctx.source(side.span), ctx.source(other_side.span)
    if isinstance(other, One) and not other.single:
        beside = "layers[0]" if isinstance(other, Layers) else f"layers[0].{other.sub_block}"
    help = "write `layers[3] same as layers[2]`, or `.attention` or `.ffn` of both"
    wanted, got = "one layer or a sub-block of one", describe(value)
    match value:
        case Layers():
            help = f"go through them: `all(l same as {beside} for l in {text})`"
            got = "several layers"
        case SubBlocks(sub_block=sub_block):
            layers = ctx.source(side.target.span) if isinstance(side, tree.Attribute) else "layers"
            help = f"go through them: `all(l.{sub_block} same as {beside} for l in {layers})`"
            got = f"the {_WORDS[sub_block]} of several layers"
        case Constructed():
            help = f"an alternative stands behind `is`: `{beside} is {text}`"
        case Facts() | Symbolic() if isinstance(value, Facts) or layer_of([value]) is not None:
            help = "figures are compared with `==`: `layers[3].ffn.width == layers[2].ffn.width`"
    _report(ctx, side.span, wanted, got, help)
    return False


def _report(ctx: Context, span: Span, wanted: str, got: str, help: str) -> None:
    what = "each side of `same as`"
    ctx.report(errors.WrongType(span, what=what, wanted=wanted, got=got, help=help))


def _unlike(ctx: Context, node: tree.SameAs, left: One, right: One) -> None:
    """Report a layer beside a sub-block, or an attention beside an FFN; the help makes the right side like the left."""
    part = _part(right) if isinstance(left, Layers) else _part(left)
    first, second = (_with_part(ctx, side, part) for side in (node.left, node.right))
    error = errors.NotAlike(
        node.span, left=_name(left), right=_name(right), help=f"write `{first} same as {second}`"
    )
    ctx.report(error)


def _with_part(ctx: Context, side: tree.Expr, part: str) -> str:
    """A layer's text with a sub-block behind it, in the place of another."""
    is_part = isinstance(side, tree.Attribute) and side.name.text in BOTH
    layer = side.target if is_part and isinstance(side, tree.Attribute) else side
    return f"{ctx.source(layer.span)}.{part}"


def _name(value: One) -> str:
    return {"layer": "a layer", "attention": "an attention", "ffn": "an FFN"}[_part(value)]


_WORDS: dict[SubBlock, str] = {"attention": "attention", "ffn": "FFN"}
