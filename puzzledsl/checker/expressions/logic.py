"""Statements about layers' choices: `is`, `same as`, `and`, `or`, `not`, `implies`.

Constants are folded and comparisons are joined by `and`. Comparisons of layers' numbers are statements about these layers
and can be combined like others; those of metrics cannot.
"""

from __future__ import annotations

from typing import NoReturn, TypeGuard

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.diagnostics import Args, Fix, Span
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import type_errors as errors
from puzzledsl.checker.diagnostics.name_errors import TooMuch
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.layer_tables import BOTH, as_formula, layer_of
from puzzledsl.checker.limits import MAX_FORMULA
from puzzledsl.checker.spaces.patterns import matching
from puzzledsl.ir import nodes
from puzzledsl.syntax import tree

BOUND = "a bound on a metric"
One = values.Layers | values.SubBlocks
"""A layer, or a sub-block of one."""


def afford(ctx: Context, size: int, span: Span, what: str = "this statement") -> None:
    """Refuse a statement with more parts than a formula may have."""
    if size > MAX_FORMULA:
        raise ctx.refuse(TooMuch(span, what=what, limit=f"{MAX_FORMULA:,} parts"))


def subject_is(ctx: Context, node: tree.Is, subject: values.Value, scope: values.Scope) -> values.Value:
    """`subject is pattern`: a Formula for one layer, Matches (for `count`) for several."""
    match subject:
        case values.SubBlocks(single=False):
            space, part, indices = subject.space, subject.sub_block, subject.indices
            found = matching(ctx, node.pattern, scope, space, part, indices)
            names, others = reversed(found) if node.negated else found
            return values.Matches(space, part, names, others, indices, ctx.source(node.span))
        case values.SubBlocks():
            formula = values.Formula(_choice(ctx, node, subject, subject.sub_block, scope), 1, subject.space)
        case values.Layers(single=True) if subject.indices:
            both = tuple(_choice(ctx, node, subject, part, scope) for part in BOTH)
            formula = values.Formula(nodes.And(operands=both), 3, subject.space)
        case values.Layers():
            help = f"go through them: `count(l is {ctx.source(node.pattern.span)} for l in layers)`"
            raise ctx.wrong(node.subject.span, _BEFORE_IS, "a layer or a sub-block", "layers", help)
        case _:
            wanted = "a sub-block, such as `attention` or `layers[3].ffn`"
            raise ctx.wrong(node.subject.span, _BEFORE_IS, wanted, subject)
    if node.negated:
        return values.Formula(nodes.Not(operand=formula.logic), formula.size + 1, formula.space)
    return formula


_BEFORE_IS = "what stands before `is`"


def _choice(ctx: Context, node: tree.Is, subject: One, part: SubBlock, scope: values.Scope) -> nodes.Is:
    names, _ = matching(ctx, node.pattern, scope, subject.space, part, subject.indices)
    (layer,) = subject.indices
    return nodes.Is(layer=layer, sub_block=part, alternatives=names[layer])


def connect(
    ctx: Context, node: tree.Binary, left: values.Value, right: values.Value, left_span: Span
) -> values.Value:
    """`left and|or|implies right`."""
    if isinstance(left, values.Poison) or isinstance(right, values.Poison):
        return values.POISON
    choices = values.Constructed | values.Options
    if node.op == "or" and isinstance(left, choices) and isinstance(right, choices):
        gap = ctx.gap(left_span, node.right.span, "or")
        meant = f"{ctx.operand(left_span)} | {ctx.operand(node.right.span)}"
        help = f"alternatives are separated by `|`: write `{meant}`"
        fixes = [] if gap is None else [Fix.replace(gap, " | ", f"write `{meant}`")]
        raise ctx.refuse(
            errors.NotPropositional(left_span, op="or", got=values.describe(left), help=help, fixes=fixes)
        )
    for value, span in ((left, left_span), (right, node.right.span)):
        if isinstance(value, values.Matches):
            refuse_several(ctx, value, span)
        if not isinstance(value, values.Boolean | values.Formula | values.Conjunction):
            raise ctx.refuse(errors.NotPropositional(span, op=node.op, got=values.describe(value)))
    return _joined(ctx, node, left, right, left_span)


def refuse_several(ctx: Context, value: values.Matches, span: Span) -> NoReturn:
    """Refuse a statement about several layers where one about a single layer is needed."""
    count = len(value.indices)
    layers = f"{count} layers" if count > 1 else "a range of layers"
    raise ctx.refuse(errors.WhichLayer(span, layers=layers, sub_block=value.sub_block, text=value.text))


def _joined(
    ctx: Context, node: tree.Binary, left: values.Value, right: values.Value, left_span: Span
) -> values.Value:
    op, span = node.op, node.span
    if isinstance(left, values.Boolean):
        if op == "implies" and not left.value:
            return values.Boolean(True)
        return left if left.value == (op == "or") else right
    if isinstance(right, values.Boolean):
        if op == "implies":
            return right if right.value else invert(ctx, left, left_span)
        return right if right.value == (op == "or") else left
    if op == "and" and not (isinstance(left, values.Formula) and isinstance(right, values.Formula)):
        items = (*_items(left), *_items(right))
        afford(ctx, len(items), span, "this requirement")
        return values.Conjunction(items)
    sides = [as_formula(ctx, side, at) for side, at in ((left, left_span), (right, node.right.span))]
    if None in sides:
        place = left_span if sides[0] is None else node.right.span
        help = "a bound on a metric is a `require` of its own; `and` may join several"
        raise ctx.refuse(errors.NotPropositional(place, op=op, got=BOUND, help=help))
    first, second = sides
    if not isinstance(first, values.Formula) or not isinstance(second, values.Formula):
        assert first is not None and second is not None
        return _joined(ctx, node, first, second, left_span)
    size = first.size + second.size + 1
    afford(ctx, size, span)
    match op:
        case "and":
            return values.Formula(nodes.And(operands=_flat(first, nodes.And, second)), size, first.space)
        case "or":
            return values.Formula(nodes.Or(operands=_flat(first, nodes.Or, second)), size, first.space)
        case _:
            logic = nodes.Implies(condition=first.logic, consequence=second.logic)
            return values.Formula(logic, size, first.space)


def _items(side: values.Value) -> tuple[values.Comparison | values.Formula, ...]:
    return (
        side.items
        if isinstance(side, values.Conjunction)
        else (side,)
        if isinstance(side, values.Formula)
        else ()
    )


def _flat(
    first: values.Formula, kind: type[nodes.And] | type[nodes.Or], second: values.Formula
) -> tuple[nodes.Logic, ...]:
    """The parts of two statements that are joined alike."""
    sides = (first.logic, second.logic)
    return tuple(part for side in sides for part in (side.operands if isinstance(side, kind) else (side,)))


def invert(ctx: Context, value: values.Value, span: Span) -> values.Value:
    """`not value`."""
    match value:
        case values.Poison():
            return values.POISON
        case values.Boolean(value=true):
            return values.Boolean(not true)
        case values.Formula(logic=logic, size=size):
            afford(ctx, size + 1, span)
            return values.Formula(nodes.Not(operand=logic), size + 1, value.space)
        case values.Matches():
            text = f"not {value.text}"
            return values.Matches(
                value.space, value.sub_block, value.others, value.names, value.indices, text
            )
        case values.Conjunction():
            if (statement := as_formula(ctx, value, span)) is not None:
                return invert(ctx, statement, span)
            help = "turn the comparison round: `not a <= b` is `a > b`"
            raise ctx.refuse(errors.NotPropositional(span, op="not", got=BOUND, help=help))
        case _:
            raise ctx.refuse(errors.NotPropositional(span, op="not", got=values.describe(value)))


def same_as(ctx: Context, node: tree.SameAs, left: values.Value, right: values.Value) -> values.Value:
    """`left same as right`, two layers or the same sub-block of both; true where nothing is left to choose."""
    if isinstance(left, values.Poison) or isinstance(right, values.Poison):
        return values.POISON
    _need_one(ctx, left, node.left, right, node.right)
    _need_one(ctx, right, node.right, left, node.left)
    assert isinstance(left, One) and isinstance(right, One)
    if _part(left) != _part(right):
        # the help makes the right side like the left
        part = _part(right) if isinstance(left, values.Layers) else _part(left)
        layers = [s.target if _is_part(s) else s for s in (node.left, node.right)]
        first, second = (f"{ctx.source(layer.span)}.{part}" for layer in layers)
        said: Args = {"left": _NAMES[_part(left)], "right": _NAMES[_part(right)]}
        raise ctx.refuse(errors.NotAlike(node.span, help=f"write `{first} same as {second}`", **said))
    space, (i,), (j,) = left.space, left.indices, right.indices
    if i == j:
        return values.Boolean(True)
    parts = BOTH if isinstance(left, values.Layers) else (left.sub_block,)
    names = {part: [{a.name for a in space.choices(part)[layer]} for layer in (i, j)] for part in parts}
    apart = any(not own & others for own, others in names.values())
    open_ = tuple(part for part, (own, others) in names.items() if len(own | others) > 1)
    if apart or not open_:
        return values.POISON if space.incomplete else values.Boolean(not apart)
    return values.Formula(nodes.Same(left=i, right=j, sub_blocks=open_), 1, space)


def _part(value: One) -> str:
    return value.sub_block if isinstance(value, values.SubBlocks) else "layer"


def _is_part(side: tree.Expr) -> TypeGuard[tree.Attribute]:
    return isinstance(side, tree.Attribute) and side.name.text in BOTH


def _need_one(
    ctx: Context, value: values.Value, side: tree.Expr, other: values.Value, other_side: tree.Expr
) -> None:
    """Refuse anything but a layer or a sub-block of one, with what may have been meant."""
    if isinstance(value, One) and value.single and value.indices:
        return
    text, beside = ctx.source(side.span), ctx.source(other_side.span)
    if isinstance(other, One) and not other.single:
        beside = "layers[0]" if isinstance(other, values.Layers) else f"layers[0].{other.sub_block}"
    help, got = (
        "write `layers[3] same as layers[2]`, or `.attention` or `.ffn` of both",
        values.describe(value),
    )
    match value:
        case values.Layers():
            in_pairs = _in_pairs(value, other) or f"all(l same as {beside} for l in {text})"
            help, got = f"go through them: `{in_pairs}`", "several layers"
        case values.SubBlocks(sub_block=sub_block):
            layers = ctx.source(side.target.span) if isinstance(side, tree.Attribute) else "layers"
            help = f"go through them: `all(l.{sub_block} same as {beside} for l in {layers})`"
            got = f"the {'FFN' if sub_block == 'ffn' else sub_block} of several layers"
        case values.Constructed():
            help = f"an alternative stands behind `is`: `{beside} is {text}`"
        case values.Facts() | values.Symbolic() if (
            isinstance(value, values.Facts) or layer_of([value]) is not None
        ):
            help = "figures are compared with `==`: `layers[3].ffn.width == layers[2].ffn.width`"
    raise ctx.wrong(side.span, "each side of `same as`", "one layer or a sub-block of one", got, help)


def _in_pairs(value: values.Layers, other: values.Value) -> str:
    """Return the statement that compares neighbouring layers of two runs of one length; empty for anything else."""
    if (
        not isinstance(other, values.Layers)
        or len(value.indices) != len(other.indices)
        or len(value.indices) < 2
    ):
        return ""
    first, last, step = value.indices[0], value.indices[-1], other.indices[0] - value.indices[0]
    if other.indices != tuple(i + step for i in range(first, last + 1)) or not step:
        return ""
    return f"for i in {first}..{last} {{ require layers[i] same as layers[i {'+' if step > 0 else '-'} {abs(step)}] }}"


_NAMES = {"layer": "a layer", "attention": "an attention", "ffn": "an FFN"}
