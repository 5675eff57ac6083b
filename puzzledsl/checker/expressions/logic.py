"""Statements about layers' choices: `is`, `same as`, `and`, `or`, `not`, `implies`; `runs`, `longest` and `distinct` of layers.

Constants are folded. Comparisons of layers' numbers are statements about these layers and can be combined like others;
those of metrics can be joined by `and` alone.
"""

from dataclasses import replace
from fractions import Fraction
from typing import NoReturn

from puzzledsl.alternatives.alternative import SUB_BLOCKS, SubBlock
from puzzledsl.alternatives.parent import PARENT_ENDS
from puzzledsl.base.diagnostics import Args, Fix, Span
from puzzledsl.base.units import Quantity
from puzzledsl.checker import errors
from puzzledsl.checker.context import MAX_FORMULA, Context
from puzzledsl.checker.expressions import layer_tables as tables
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.numbers import as_number
from puzzledsl.checker.expressions.values import Scope, SpaceInfo, Value
from puzzledsl.checker.spaces.arguments import matching, predicate
from puzzledsl.ir import logic, nodes
from puzzledsl.ir.facts import fact
from puzzledsl.syntax import tree

BOUND = "a bound on a metric"
One = values.Layers | values.SubBlocks
"""Layers, or a sub-block of layers. `single` is True for those of one layer."""


def afford(ctx: Context, size: int, span: Span, what: str = "this statement") -> None:
    """Refuse a statement with more parts than a formula may have."""
    if size > MAX_FORMULA:
        raise ctx.too_much(span, what, f"{MAX_FORMULA:,} parts")


def subject_is(ctx: Context, node: tree.Is, subject: Value, scope: Scope) -> Value:
    """Return `subject is pattern`: Matches of several layers, a Formula of one, or of an end (a Boolean if all or none match)."""
    match subject:
        case values.SubBlocks(single=False):
            space, part, indices = subject.space, subject.sub_block, subject.indices
            found = matching(ctx, node.pattern, scope, space, part, indices)
            found = found[::-1] if node.negated else found
            return values.Matches(space, part, *found, indices, ctx.source(node.span))
        case values.SubBlocks():
            formula = values.Formula(_choice(ctx, node, subject, subject.sub_block, scope), 1, subject.space)
        case values.ModelEnd(space=space, site=site):
            test, offered = predicate(ctx, node.pattern, scope, space, site), space.ends.get(site)
            offered = offered or (PARENT_ENDS[site],)
            names = tuple(a.name for a in offered if test(a, space.shape) != node.negated)
            if space.incomplete:
                return values.POISON
            if len(names) in (0, len(offered)):  # every choice of the end answers alike
                return values.Boolean(bool(names))
            single = nodes.Is(layer=space.shape.layers, sub_block=site, alternatives=names)
            return values.Formula(single, 1, space)
        case values.Layers(single=True) if subject.indices:
            operands = tuple(_choice(ctx, node, subject, part, scope) for part in SUB_BLOCKS)
            formula = values.Formula(nodes.And(operands=operands), 3, subject.space)
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


def _choice(ctx: Context, node: tree.Is, subject: One, part: SubBlock, scope: Scope) -> nodes.Is:
    names, _ = matching(ctx, node.pattern, scope, subject.space, part, subject.indices)
    (layer,) = subject.indices
    return nodes.Is(layer=layer, sub_block=part, alternatives=names[layer])


def connect(ctx: Context, node: tree.Binary, left: Value, right: Value, left_span: Span) -> Value:
    """Return both sides joined by the operator of `node`. Refuse what is no statement, and bounds on metrics unless by `and`."""
    if isinstance(left, values.Poison) or isinstance(right, values.Poison):
        return values.POISON
    choices = values.Constructed | values.Options
    if node.op == "or" and isinstance(left, choices) and isinstance(right, choices):
        gap = ctx.gap(left_span, node.right.span, "or")
        meant = f"{ctx.operand(left_span)} | {ctx.operand(node.right.span)}"
        help = f"alternatives are separated by `|`: write `{meant}`"
        fixes = [] if gap is None else [Fix.replace(gap, " | ", f"write `{meant}`")]
        said: Args = {"op": "or", "got": values.describe(left)}
        raise ctx.refuse(errors.NotPropositional(left_span, help=help, fixes=fixes, **said))
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


def _joined(ctx: Context, node: tree.Binary, left: Value, right: Value, left_span: Span) -> Value:
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
        parts = (side.items if isinstance(side, values.Conjunction) else (side,) for side in (left, right))
        joined = values.Comparison | values.Formula
        items = tuple(item for part in parts for item in part if isinstance(item, joined))
        afford(ctx, len(items), span, "this requirement")
        return values.Conjunction(items)
    sides = [tables.as_formula(ctx, side, at) for side, at in ((left, left_span), (right, node.right.span))]
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
    if op == "implies":
        implies = nodes.Implies(condition=first.logic, consequence=second.logic)
        return values.Formula(implies, size, first.space)
    kind, logics = nodes.And if op == "and" else nodes.Or, (first.logic, second.logic)
    # what is joined alike is one list
    operands = [each for part in logics for each in (part.operands if isinstance(part, kind) else (part,))]
    return values.Formula(kind(operands=tuple(operands)), size, first.space)


def invert(ctx: Context, value: Value, span: Span) -> Value:
    """Return `not value`. Refuse a bound on a metric, and a value that is no statement."""
    match value:
        case values.Boolean(value=true):
            return values.Boolean(not true)
        case values.Formula(logic=logic, size=size):
            afford(ctx, size + 1, span)
            return values.Formula(nodes.Not(operand=logic), size + 1, value.space)
        case values.Matches():
            return replace(value, names=value.others, others=value.names, text=f"not {value.text}")
        case values.Conjunction():
            if (statement := tables.as_formula(ctx, value, span)) is not None:
                return invert(ctx, statement, span)
            help = "turn the comparison round: `not a <= b` is `a > b`"
            raise ctx.refuse(errors.NotPropositional(span, op="not", got=BOUND, help=help))
        case _:
            raise ctx.refuse(errors.NotPropositional(span, op="not", got=values.describe(value)))


def same_as(ctx: Context, node: tree.SameAs, left: Value, right: Value) -> Value:
    """Return `left same as right`, of two layers or a sub-block of both; a Boolean if only one answer is possible."""
    _need_one(ctx, left, node.left)
    _need_one(ctx, right, node.right)
    assert isinstance(left, One) and isinstance(right, One)
    own, others = ("layer" if isinstance(side, values.Layers) else side.sub_block for side in (left, right))
    if own != others:
        raise ctx.refuse(errors.NotAlike(node.span, left=_NAMES[own], right=_NAMES[others]))
    space, (i,), (j,) = left.space, left.indices, right.indices
    if i == j:
        return values.Boolean(True)
    parts = SUB_BLOCKS if isinstance(left, values.Layers) else (left.sub_block,)
    names = {part: [{a.name for a in space.chosen[part][layer]} for layer in (i, j)] for part in parts}
    apart = any(not here & there for here, there in names.values())
    open_ = tuple(part for part, (here, there) in names.items() if len(here | there) > 1)
    if apart or not open_:
        return values.POISON if space.incomplete else values.Boolean(not apart)
    return values.Formula(nodes.Same(left=i, right=j, sub_blocks=open_), 1, space)


def _need_one(ctx: Context, value: Value, side: tree.Expr) -> None:
    """Refuse anything but a layer or a sub-block of one."""
    if isinstance(value, One) and value.single and value.indices:
        return
    got = "several" if isinstance(value, One) else value
    help = "write `layers[3] same as layers[2]`, or `.attention` or `.ffn` of both; go through several in a `for`"
    raise ctx.wrong(side.span, "each side of `same as`", "one layer or a sub-block of one", got, help)


_NAMES = {"layer": "a layer", "attention": "an attention", "ffn": "an FFN"}
_TRUE, _FALSE = nodes.And(operands=()), nodes.Or(operands=())
_STATEMENT = "a statement about one layer, such as `attention is noop`"
_FIGURE = "a figure of layers, such as `ffn.width`, or their choice, such as `ffn`"
Names = tuple[str, ...]
Takes = tuple[Names, Names, tuple[Names, ...]]
"""Names of a layer's attentions and FFNs (empty if values do not depend on them), and values as text, `[attention][ffn]`."""


def read_runs(ctx: Context, name: str, items: values.Items, call: tree.Call) -> Value:
    """Return `runs(P)` or `longest(P)`, as `name` says, of statements in the order of the layers; a constant if each P is one."""
    found: list[nodes.Logic] = []
    size, last, what = 0, -1, f"what `{name}` looks at"
    space: SpaceInfo | None = None
    example = f"`{name}(l is noop for l in layers)`"
    for item in items:
        parts = tables.statements(ctx, item)
        if parts is None:
            part = item.value.sub_block if isinstance(item.value, values.SubBlocks) else ""
            help = f"say what: `{name}({part} is noop)`" if part else ""
            raise ctx.wrong(item.span, what, _STATEMENT, item.value, help)
        for each in parts:
            if isinstance(each, values.Boolean):
                found.append(_TRUE if each.value else _FALSE)
                size += 1
                continue
            if (at := tables.layer_spoken_of(each)) is None:
                help = f"each statement is about one layer: {example}"
                raise ctx.wrong(item.span, what, _STATEMENT, "a statement about several layers", help)
            if at[1] <= last:
                got = f"two about layer {last}" if at[1] == last else f"layer {at[1]} after layer {last}"
                help = f"go through the layers once, from the first to the last: {example}"
                wanted = "one for each layer, in the order of the layers"
                raise ctx.wrong(item.span, f"the statements of `{name}`", wanted, got, help)
            last, space, size = at[1], each.space, size + each.size
            found.append(each.logic)
    if space is None:
        held = [part == _TRUE for part in found]
        return Quantity(Fraction((logic.runs if name == "runs" else logic.longest)(held)[0]))
    afford(ctx, size, call.span)
    kind = nodes.Runs if name == "runs" else nodes.Longest
    return values.Tally(kind(statements=tuple(found)), size, space, ctx.source(call.span))


def read_distinct(ctx: Context, name: str, items: values.Items, call: tree.Call) -> Value:
    """Return `distinct(F)`, the number of different values of F over the layers; a constant if every F is one."""
    layers: dict[Takes, list[int]] = {}
    space: SpaceInfo | None = None
    kinds: set[str] = set()
    for item in items:
        taken = _taken(ctx, item)
        kinds.add(kind := _kind(item.value))
        if len(kinds) > 1:
            help, left = "write a `require` for each of the two", min(kinds - {kind})
            raise ctx.refuse(errors.UnlikeSum(item.span, op=name, left=left, right=kind, help=help))
        space = getattr(item.value, "space", None) or space
        for layer, takes in taken:
            layers.setdefault(takes, []).extend([] if layer is None else [layer])
    if space is None:
        return Quantity(Fraction(len(layers)))
    figures = tuple(
        nodes.Taken(attention=attention, ffn=ffn, values=shown, layers=tuple(sorted(set(there))))
        for (attention, ffn, shown), there in layers.items()
    )
    size = 1 + sum(map(len, layers.values())) + sum(len(row) for takes in layers for row in takes[2])
    afford(ctx, size, call.span)
    return values.Tally(nodes.Distinct(taken=figures), size, space, ctx.source(call.span))


def _kind(value: Value) -> str:
    """Return the kind of an argument's values, in words. Those of two kinds, such as widths and layers, are never equal."""
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
    """Return (layer, possible values) for each layer that an argument is about; the layer of a constant is None."""
    value, what = item.value, "what `distinct` compares"
    match value:
        case values.Facts(space=space, sub_block=part, attribute=attribute, indices=indices):
            return [(i, _of_part(space, part, i, attribute)) for i in indices]
        case values.SubBlocks(space=space, sub_block=part, indices=indices):
            return [(i, _of_part(space, part, i, None)) for i in indices]
        case values.Layers(space=space, indices=indices) if indices:
            names = tables.axis_names
            axes = [(names(space, i, "attention"), names(space, i, "ffn")) for i in indices]
            pairs = [tuple(tuple(f"{a}/{f}" for f in ffn) for a in own) for own, ffn in axes]
            return [(i, (*both, pair)) for i, both, pair in zip(indices, axes, pairs, strict=True)]
        case values.Boolean() | values.Formula() | values.Matches():
            help = "statements are counted: `count(attention is noop)`"
            raise ctx.wrong(item.span, what, _FIGURE, value, help)
    number = as_number(ctx, value, item.span, what)
    if isinstance(number, Quantity):
        return [(None, ((), (), ((str(number.value),),)))]
    inside = tables.tables_of(ctx, [number], item.span)
    if inside is None:
        help = "each value hangs on one layer: `distinct(l.ffn.width for l in layers)`"
        raise ctx.wrong(item.span, what, _FIGURE, "a figure of several layers or of the whole child", help)
    attention, ffn, cells = tables.axes_of(inside[0])
    return [(inside[0].layer, (attention, ffn, tuple(tuple(str(cell) for cell in row) for row in cells)))]


def _of_part(space: SpaceInfo, part: SubBlock, layer: int, attribute: str | None) -> Takes:
    """Return the attribute of each alternative of a layer's sub-block; without an attribute, the alternative's name."""
    here = tables.axis(space, layer, part)
    names = shown = tuple(a.name for a in here)
    if attribute is not None:
        shown = tuple(str(fact(a, attribute, space.shape.at(layer))) for a in here)
    return (names, (), tuple((v,) for v in shown)) if part == "attention" else ((), names, (shown,))
