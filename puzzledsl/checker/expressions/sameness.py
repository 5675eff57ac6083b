"""`layers[i] same as layers[j]`: two layers, or the same sub-block of both, choose the same alternative."""

from __future__ import annotations

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.diagnostics import Span
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import type_errors as errors
from puzzledsl.checker.expressions.layer_tables import BOTH, layer_of
from puzzledsl.checker.expressions.search_values import Facts, Formula, Layers, SubBlocks, Symbolic
from puzzledsl.checker.expressions.values import POISON, Boolean, Constructed, Poison, Value, describe
from puzzledsl.ir import nodes
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
    names = {part: [{a.name for a in space.choices(part)[layer]} for layer in (i, j)] for part in parts}
    if any(not own & others for own, others in names.values()):
        return POISON if space.incomplete else Boolean(False)
    open_ = tuple(part for part, (own, others) in names.items() if len(own | others) > 1)
    if not open_:
        return POISON if space.incomplete else Boolean(True)
    return Formula(nodes.Same(left=i, right=j, sub_blocks=open_), 1, space)


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
            help = (
                f"go through them: `{_in_pairs(value, other) or f'all(l same as {beside} for l in {text})'}`"
            )
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


def _in_pairs(value: Layers, other: Value) -> str:
    """Return the statement that compares neighbouring layers of two runs of one length; empty for anything else."""
    if not isinstance(other, Layers) or len(value.indices) != len(other.indices) or len(value.indices) < 2:
        return ""
    first, last, step = value.indices[0], value.indices[-1], other.indices[0] - value.indices[0]
    if other.indices != tuple(i + step for i in range(first, last + 1)) or not step:
        return ""
    return f"for i in {first}..{last} {{ require layers[i] same as layers[i {'+' if step > 0 else '-'} {abs(step)}] }}"


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
