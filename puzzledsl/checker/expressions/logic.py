"""Statements about layers' choices: `is`, `and`, `or`, `not`, `implies`.

Constants are folded and comparisons are joined by `and`. Comparisons of layers' numbers are statements about these layers
and can be combined like others; those of metrics cannot.
"""

from __future__ import annotations

from puzzledsl.base.diagnostics import Fix, Span
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import type_errors as errors
from puzzledsl.checker.diagnostics.name_errors import TooMuch
from puzzledsl.checker.expressions.layer_tables import BOTH, as_formula
from puzzledsl.checker.expressions.search_values import Conjunction, Formula, Layers, Matches, SubBlocks
from puzzledsl.checker.expressions.values import (
    POISON,
    Boolean,
    Constructed,
    Options,
    Poison,
    Scope,
    Value,
    describe,
)
from puzzledsl.checker.limits import MAX_FORMULA
from puzzledsl.checker.spaces.patterns import matching
from puzzledsl.checker.spaces.space_info import SpaceInfo
from puzzledsl.ir import nodes
from puzzledsl.syntax import tree

_BOUND = "a bound on a metric"


def subject_is(ctx: Context, node: tree.Is, subject: Value, scope: Scope) -> Value:
    """`subject is pattern`: a Formula for one layer, Matches (for `count`) for several."""
    match subject:
        case Poison():
            return POISON
        case SubBlocks(single=True):
            return _negated(node, _choice(ctx, node, subject, scope))
        case SubBlocks(space=space, sub_block=sub_block, indices=indices):
            found = matching(ctx, node.pattern, scope, space, sub_block, indices)
            if found is None:
                return POISON
            names, others = reversed(found) if node.negated else found
            return Matches(space, sub_block, names, others, indices, ctx.source(node.span))
        case Layers(single=True) if subject.indices:
            halves = [SubBlocks(subject.space, s, subject.indices, single=True) for s in BOTH]
            logics: list[nodes.Logic] = []
            for half in halves:
                part = _choice(ctx, node, half, scope)
                if not isinstance(part, Formula):
                    return POISON  # reported once, of the first half that has no such alternative
                logics.append(part.logic)
            return _negated(node, Formula(nodes.And(operands=tuple(logics)), 3, subject.space))
    if isinstance(subject, Layers):
        help = f"go through them: `count(l is {ctx.source(node.pattern.span)} for l in layers)`"
        what, wanted = "what stands before `is`", "a layer or a sub-block"
        ctx.report(errors.WrongType(node.subject.span, what=what, wanted=wanted, got="layers", help=help))
        return POISON
    wanted, got = "a sub-block, such as `attention` or `layers[3].ffn`", describe(subject)
    ctx.report(errors.WrongType(node.subject.span, what="what stands before `is`", wanted=wanted, got=got))
    return POISON


def _choice(ctx: Context, node: tree.Is, subject: SubBlocks, scope: Scope) -> Value:
    found = matching(ctx, node.pattern, scope, subject.space, subject.sub_block, subject.indices)
    if found is None:
        return POISON
    (layer,) = subject.indices
    logic = nodes.Is(layer=layer, sub_block=subject.sub_block, alternatives=found[0][layer])
    return Formula(logic, 1, subject.space)


def _negated(node: tree.Is, value: Value) -> Value:
    if node.negated and isinstance(value, Formula):
        return Formula(nodes.Not(operand=value.logic), value.size + 1, value.space)
    return value


def connect(ctx: Context, node: tree.Binary, left: Value, right: Value, left_span: Span) -> Value:
    """`left and|or|implies right`."""
    if isinstance(left, Poison) or isinstance(right, Poison):
        return POISON
    if (
        node.op == "or"
        and isinstance(left, Constructed | Options)
        and isinstance(right, Constructed | Options)
    ):
        _report_choice(ctx, left, left_span, node.right.span)
        return POISON
    for value, span in ((left, left_span), (right, node.right.span)):
        if not _is_statement(ctx, value, span, node.op):
            return POISON
    match node.op:
        case "and":
            return _and(ctx, left, right, node.span)
        case "or":
            return _or(ctx, left, right, node, left_span)
        case _:
            return _implies(ctx, left, right, node, left_span)


def _report_choice(ctx: Context, left: Value, left_span: Span, right_span: Span) -> None:
    """Report `linear or noop`, which is a choice."""
    gap = ctx.gap(left_span, right_span, "or")
    meant = f"{ctx.operand(left_span)} | {ctx.operand(right_span)}"
    help = f"alternatives are separated by `|`: write `{meant}`"
    fixes = [] if gap is None else [Fix.replace(gap, " | ", f"write `{meant}`")]
    ctx.report(errors.NotPropositional(left_span, op="or", got=describe(left), help=help, fixes=fixes))


def _is_statement(ctx: Context, value: Value, span: Span, op: str) -> bool:
    match value:
        case Boolean() | Formula() | Conjunction():
            return True
        case Matches():
            which_layer(ctx, value, span)
        case _:
            ctx.report(errors.NotPropositional(span, op=op, got=describe(value)))
    return False


def which_layer(ctx: Context, value: Matches, span: Span) -> None:
    """Report a statement about several layers where one about a single layer is needed."""
    count = len(value.indices)
    layers = f"{count} layers" if count > 1 else "a range of layers"
    ctx.report(errors.WhichLayer(span, layers=layers, sub_block=value.sub_block, text=value.text))


def _and(ctx: Context, left: Value, right: Value, span: Span) -> Value:
    if isinstance(left, Boolean):
        return right if left.value else left
    if isinstance(right, Boolean):
        return left if right.value else right
    if isinstance(left, Formula) and isinstance(right, Formula):
        parts = _flat(left, nodes.And) + _flat(right, nodes.And)
        return _sized(ctx, nodes.And(operands=parts), left.size + right.size + 1, left.space, span)
    items = tuple(
        item
        for side in (left, right)
        for item in (
            side.items if isinstance(side, Conjunction) else (side,) if isinstance(side, Formula) else ()
        )
    )
    if len(items) > MAX_FORMULA:
        ctx.report(TooMuch(span, what="this requirement", limit=f"{MAX_FORMULA:,} parts"))
        return POISON
    return Conjunction(items)


def _or(ctx: Context, left: Value, right: Value, node: tree.Binary, left_span: Span) -> Value:
    if isinstance(left, Boolean):
        return left if left.value else right
    if isinstance(right, Boolean):
        return right if right.value else left
    formulas = _formulas(ctx, left, right, node, left_span)
    if formulas is None:
        return POISON
    first, second = formulas
    if isinstance(first, Boolean) or isinstance(second, Boolean):
        return _or(ctx, first, second, node, left_span)
    parts = _flat(first, nodes.Or) + _flat(second, nodes.Or)
    return _sized(ctx, nodes.Or(operands=parts), first.size + second.size + 1, first.space, node.span)


def _implies(ctx: Context, left: Value, right: Value, node: tree.Binary, left_span: Span) -> Value:
    if isinstance(left, Boolean):
        return right if left.value else Boolean(True)
    if isinstance(right, Boolean):
        return right if right.value else invert(ctx, left, left_span)
    formulas = _formulas(ctx, left, right, node, left_span)
    if formulas is None:
        return POISON
    first, second = formulas
    if isinstance(first, Boolean) or isinstance(second, Boolean):
        return _implies(ctx, first, second, node, left_span)
    logic = nodes.Implies(condition=first.logic, consequence=second.logic)
    return _sized(ctx, logic, first.size + second.size + 1, first.space, node.span)


def _formulas(
    ctx: Context, left: Value, right: Value, node: tree.Binary, left_span: Span
) -> tuple[Formula | Boolean, Formula | Boolean] | None:
    """Both sides as statements about layers, comparisons of their numbers among them; None, reported, for other bounds."""
    first, second = as_formula(ctx, left, left_span), as_formula(ctx, right, node.right.span)
    if first is not None and second is not None:
        return first, second
    span = left_span if first is None else node.right.span
    help = "a bound on a metric is a `require` of its own; `and` may join several"
    ctx.report(errors.NotPropositional(span, op=node.op, got=_BOUND, help=help))
    return None


def invert(ctx: Context, value: Value, span: Span) -> Value:
    """`not value`."""
    match value:
        case Poison():
            return POISON
        case Boolean(value=true):
            return Boolean(not true)
        case Formula(logic=logic, size=size):
            return _sized(ctx, nodes.Not(operand=logic), size + 1, value.space, span)
        case Matches():
            text = f"not {value.text}"
            return Matches(value.space, value.sub_block, value.others, value.names, value.indices, text)
        case Conjunction():
            statement = as_formula(ctx, value, span)
            if statement is not None:
                return invert(ctx, statement, span)
            help = "turn the comparison round: `not a <= b` is `a > b`"
            ctx.report(errors.NotPropositional(span, op="not", got=_BOUND, help=help))
        case _:
            ctx.report(errors.NotPropositional(span, op="not", got=describe(value)))
    return POISON


def _flat(formula: Formula, kind: type[nodes.And] | type[nodes.Or]) -> tuple[nodes.Logic, ...]:
    logic = formula.logic
    return logic.operands if isinstance(logic, kind) else (logic,)


def _sized(ctx: Context, logic: nodes.Logic, size: int, space: SpaceInfo, span: Span) -> Value:
    if size > MAX_FORMULA:
        ctx.report(TooMuch(span, what="this statement", limit=f"{MAX_FORMULA:,} parts"))
        return POISON
    return Formula(logic, size, space)
