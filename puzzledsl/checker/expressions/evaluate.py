"""Evaluation of expressions. Constants are computed; values that a search decides stay symbolic.

So `let`, `fn`, `if` and comprehensions can also be used in searches. The parser bounds the nesting of expressions;
Context.enter and Context.spend bound the work of `fn`s and `let`s.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import assert_never

from puzzledsl.base.diagnostics import Fix, Span
from puzzledsl.base.units import BadLiteral, Quantity, parse_quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors, type_errors
from puzzledsl.checker.expressions.arithmetic import combine, negate
from puzzledsl.checker.expressions.attributes import attribute, index
from puzzledsl.checker.expressions.calls import call
from puzzledsl.checker.expressions.coercions import as_number, read_step
from puzzledsl.checker.expressions.layer_tables import (
    as_formula,
    layer_of,
    layer_spoken_of,
    number_of,
    pointwise,
    tables_of,
    truth_of,
)
from puzzledsl.checker.expressions.linear import compare
from puzzledsl.checker.expressions.logic import connect, invert, subject_is
from puzzledsl.checker.expressions.sameness import same_as
from puzzledsl.checker.expressions.search_values import Conjunction, Facts, Formula, Layers, SubBlocks, Tally
from puzzledsl.checker.expressions.tallies import compare_tally, tally_between
from puzzledsl.checker.expressions.values import (
    POISON,
    Boolean,
    Constructed,
    ListValue,
    Located,
    Options,
    Poison,
    RangeValue,
    Ref,
    Scope,
    Text,
    Value,
    describe,
)
from puzzledsl.checker.limits import MAX_OPTIONS
from puzzledsl.checker.names.builtins import VALUES
from puzzledsl.checker.names.resolve import lookup
from puzzledsl.checker.names.unknown import unknown_name
from puzzledsl.checker.names.words import read_word
from puzzledsl.language.calls import CONSTRUCTORS
from puzzledsl.syntax import tree


def evaluate(ctx: Context, expr: tree.Expr, scope: Scope) -> Value:
    """The value of `expr` in `scope`; POISON, reported once, where it has a mistake. Raises OutOfSteps."""
    ctx.spend(expr.span)
    if not ctx.enter(expr.span):
        return POISON
    try:
        return _evaluate(ctx, expr, scope)
    finally:
        ctx.depth -= 1


def _evaluate(ctx: Context, expr: tree.Expr, scope: Scope) -> Value:
    match expr:
        case tree.Name():
            return _name(ctx, expr, scope)
        case tree.Literal_():
            try:
                return parse_quantity(expr.text)
            except BadLiteral:  # reported by the parser
                return POISON
        case tree.String():
            return Text(expr.value)
        case tree.ListExpr():
            items = tuple(ctx.value(item, scope) for item in expr.items)
            return POISON if any(isinstance(i, Poison) for i in items) else ListValue(items)
        case tree.Choice():
            return _options(ctx, expr, scope)
        case tree.Cond():
            return _conditional(ctx, expr, scope)
        case tree.Binary():
            return _binary(ctx, expr, scope)
        case tree.Unary():
            return _unary(ctx, expr, scope)
        case tree.Compare():
            return _compare(ctx, expr, scope)
        case tree.Is():
            return subject_is(ctx, expr, ctx.value(expr.subject, scope), scope)
        case tree.In():
            return _member(ctx, expr, scope)
        case tree.SameAs():
            return same_as(ctx, expr, ctx.value(expr.left, scope), ctx.value(expr.right, scope))
        case tree.Range():
            return _range(ctx, expr, scope)
        case tree.Arrow():
            ctx.report(name_errors.Misplaced(expr.span, what="`->`", where="this expression", help=_ARROW))
            return POISON
        case tree.Attribute():
            return attribute(ctx, ctx.value(expr.target, scope), expr)
        case tree.Index():
            return index(ctx, ctx.value(expr.target, scope), expr, scope)
        case tree.Call():
            return call(ctx, expr, scope)
        case tree.Comprehension():
            help = "write it inside `sum(…)`, `count(…)`, `all(…)` or `any(…)`"
            ctx.report(name_errors.Misplaced(expr.span, what="`for`", where="this expression", help=help))
            return POISON
        case tree.BadExpr():
            return POISON
        case _:
            assert_never(expr)


_ARROW = "it stands between prompt and output tokens: `batch(256, 128 -> 1024)`"


def _name(ctx: Context, name: tree.Name, scope: Scope) -> Value:
    found = lookup(ctx, name.text, scope)
    if found is not None:
        return found
    if name.text in CONSTRUCTORS:
        return Constructed(name.text, (), scope, name.span)
    unknown_name(ctx, name, scope, (*VALUES, *sorted(CONSTRUCTORS)))
    return POISON


# ---------------------------------------------------------------- operators


def _options(ctx: Context, expr: tree.Choice, scope: Scope) -> Value:
    found: list[Located] = []
    for option in expr.options:
        value = ctx.value(option, scope)
        if isinstance(value, Poison):
            return POISON
        found += value.options if isinstance(value, Options) else [Located(value, option.span)]
    if isinstance(expr.options[0], tree.Is):
        subject, last = ctx.source(expr.options[0].subject.span), expr.options[-1].span
        patterns = ctx.source(expr.options[0].pattern.span.to(last))
        help = f"several patterns stand in brackets: `{subject} is ({patterns})`; statements are joined with `or`"
        ctx.report(name_errors.Misplaced(expr.span, what="`|`", where="a statement", help=help))
        return POISON
    if len(found) > MAX_OPTIONS:
        ctx.report(name_errors.TooMuch(expr.span, what="this choice", limit=f"{MAX_OPTIONS} options"))
        return POISON
    return Options(tuple(found))


def _conditional(ctx: Context, expr: tree.Cond, scope: Scope) -> Value:
    condition = ctx.value(expr.condition, scope)
    match condition:
        case Poison():
            return POISON
        case Boolean(value=value):
            return ctx.value(expr.then if value else expr.otherwise, scope)
        case Formula() | Conjunction():
            return _decided(ctx, expr, condition, scope)
        case _:
            span, got = expr.condition.span, describe(condition)
            ctx.report(
                type_errors.WrongType(span, what="the condition of `if`", wanted="true or false", got=got)
            )
            return POISON


def _decided(ctx: Context, expr: tree.Cond, condition: Formula | Conjunction, scope: Scope) -> Value:
    """`if` on a layer's choice: a table of that layer, where all of it hangs on one."""
    statement = as_formula(ctx, condition, expr.condition.span)
    if isinstance(statement, Boolean):
        return ctx.value(expr.then if statement.value else expr.otherwise, scope)
    sides = [
        as_number(ctx, ctx.value(side, scope), side.span, "each side of `if`")
        for side in (expr.then, expr.otherwise)
    ]
    then, otherwise = sides
    if then is None or otherwise is None:
        return POISON
    if then.dimension != otherwise.dimension:
        left, right = describe(then), describe(otherwise)
        ctx.report(type_errors.UnlikeSum(expr.span, op="if", left=left, right=right))
        return POISON
    at = None if statement is None else layer_spoken_of(statement)
    if statement is None or at is None:
        return _several_layers(ctx, expr)
    truth = truth_of(ctx, statement, at, expr.condition.span)
    if truth is None:
        return POISON
    numbers = [number_of(truth), then, otherwise]
    if layer_of(numbers) is None:
        return _several_layers(ctx, expr)
    tables = tables_of(ctx, numbers, expr.span)
    return POISON if tables is None else pointwise(tables, then.dimension, lambda c, a, b: a if c else b)


def _several_layers(ctx: Context, expr: tree.Cond) -> Value:
    what, got = "the condition of `if` and both its sides", "more than one layer's choice"
    help = "inside one layer `if` makes a table; between layers write `require … implies …`"
    ctx.report(type_errors.NotConstant(expr.condition.span, what=what, got=got, help=help))
    return POISON


def _binary(ctx: Context, expr: tree.Binary, scope: Scope) -> Value:
    chain = [expr]
    while isinstance(chain[-1].left, tree.Binary):
        chain.append(chain[-1].left)
    left, left_span = ctx.value(chain[-1].left, scope), chain[-1].left.span
    for node in reversed(chain):
        ctx.spend(node.span)
        left = _step(ctx, node, left, left_span, scope)
        left_span = node.span
    return left


def _step(ctx: Context, node: tree.Binary, left: Value, left_span: Span, scope: Scope) -> Value:
    """`left op node.right`; constants short-circuit, so that `i > 0 and layers[i-1]…` is safe."""
    if node.op in ("and", "or", "implies"):
        if isinstance(left, Boolean) and left.value == (node.op == "or"):
            return Boolean(node.op != "and")
        return connect(ctx, node, left, ctx.value(node.right, scope), left_span)
    right = ctx.value(node.right, scope)
    if node.op == "+" and isinstance(left, Text) and isinstance(right, Text):
        return Text(left.value + right.value)
    first = as_number(ctx, left, left_span, f"each side of `{node.op}`")
    if first is None:
        return POISON  # the operator itself may be wrong: one report is enough
    second = as_number(ctx, right, node.right.span, f"each side of `{node.op}`")
    return POISON if second is None else combine(ctx, node.op, first, second, node, left_span)


def _unary(ctx: Context, expr: tree.Unary, scope: Scope) -> Value:
    value = ctx.value(expr.operand, scope)
    if expr.op == "not":
        return invert(ctx, value, expr.operand.span)
    number = as_number(ctx, value, expr.operand.span, f"what `{expr.op}` is applied to")
    if number is None:
        return POISON
    result = negate(number) if expr.op == "-" else number
    if isinstance(expr.operand, tree.Literal_) and isinstance(result, Quantity):
        ctx.note_written(result)
    return result


def _compare(ctx: Context, expr: tree.Compare, scope: Scope) -> Value:
    values = _operands(ctx, expr, scope)
    for operand, value in zip(expr.operands, values, strict=True):
        if isinstance(value, Quantity):
            ctx.compared.setdefault(operand.span, set()).add(value)
    if len(values) == 3 and isinstance(tally := values[1], Tally):
        places = expr.operands[0].span, expr.operands[1].span, expr.operands[2].span
        return tally_between(ctx, values[0], expr.ops[0], tally, expr.ops[1], values[2], places)
    result: Value = Boolean(True)
    for i, op in enumerate(expr.ops):
        spans = expr.operands[i].span, expr.operands[i + 1].span
        link = _link(ctx, values[i], op, values[i + 1], *spans, expr.op_spans[i])
        joint = tree.Binary(span=expr.span, op="and", left=expr.operands[i], right=expr.operands[i + 1])
        result = connect(ctx, joint, result, link, expr.span)
    return result


def _operands(ctx: Context, expr: tree.Compare, scope: Scope) -> list[Value]:
    """The sides of a comparison; a bare word beside a parameter that lists its words is one of them."""
    bare = [o for o in expr.operands if isinstance(o, tree.Name) and _is_word(ctx, o, scope)]
    if not bare or len(bare) == len(expr.operands):
        return [ctx.value(operand, scope) for operand in expr.operands]
    known = {id(o): ctx.value(o, scope) for o in expr.operands if o not in bare}
    words = next((v.words for v in known.values() if isinstance(v, Text) and v.words), ())
    for operand in bare:
        if words and (operand.text in words or lookup(ctx, operand.text, scope) is None):
            word = read_word(ctx, operand, scope, words, f"word of {_either(words)}")
            known[id(operand)] = POISON if word is None else Text(word, words)
        else:
            known[id(operand)] = ctx.value(operand, scope)
    return [known[id(operand)] for operand in expr.operands]


def _is_word(ctx: Context, name: tree.Name, scope: Scope) -> bool:
    """True for a name that stands for no value: nobody's, or a declaration's."""
    return lookup(ctx, name.text, scope) is None or isinstance(lookup(ctx, name.text, scope), Ref)


def _either(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{w}`" for w in words)


def _link(
    ctx: Context,
    left: Value,
    op: tree.CompareOp,
    right: Value,
    left_span: Span,
    right_span: Span,
    op_span: Span,
) -> Value:
    if isinstance(left, Poison) or isinstance(right, Poison):
        return POISON
    if op in ("==", "!=") and type(left) is type(right) and isinstance(left, Text | Boolean):
        return Boolean((left == right) == (op == "=="))
    if isinstance(left, Tally) or isinstance(right, Tally):
        return compare_tally(ctx, left, op, right, left_span, right_span)
    if op in ("==", "!=") and any(isinstance(side, SubBlocks | Layers) for side in (left, right)):
        return _compared_layers(ctx, left, op, right, left_span, right_span)
    for side, span in ((left, left_span), (right, right_span)):
        if isinstance(side, Facts):
            return _compared_facts(ctx, side, op, span, left_span, right_span)
    first = as_number(ctx, left, left_span, f"each side of `{op}`")
    if first is None:
        return POISON
    second = as_number(ctx, right, right_span, f"each side of `{op}`")
    if second is None:
        return POISON
    return compare(ctx, first, op, second, left_span, right_span, op_span)


def _compared_layers(
    ctx: Context, left: Value, op: tree.CompareOp, right: Value, left_span: Span, right_span: Span
) -> Value:
    """Report `==` and `!=` beside layers or sub-blocks, with the operator that was meant."""
    first, second = ctx.operand(left_span), ctx.operand(right_span)
    side, span = (left, left_span) if isinstance(left, SubBlocks | Layers) else (right, right_span)
    plain = ctx.gap(left_span, right_span, op) is not None
    meant, help = "", ""
    if isinstance(left, SubBlocks | Layers) and left.single and _is_single(right):
        meant = f"{'not ' if op == '!=' else ''}{first} same as {second}"
        help = f"choices of two layers are compared with `same as`: write `{meant}`"
    elif isinstance(left, SubBlocks | Layers) and isinstance(right, Constructed):
        line = ctx.file_of(right_span).lines[right_span.end_line - 1]
        more = re.match(r"(\s*\|\s*[a-z]+\b(?!\s*\())*", line[right_span.end_column - 1 :])
        others = more.group() if more else ""
        second = f"({second}{others})" if others else second
        right_span = replace(right_span, end_column=right_span.end_column + len(others))
        meant = f"{first} {'is not' if op == '!=' else 'is'} {second}"
        help = f"alternatives are compared with `is`: write `{meant}`"
    elif isinstance(side, Layers) and not side.single:
        help = "count the layers in which something holds: `count(attention is noop) == 20`"
    elif isinstance(side, Layers):
        help = "compare a figure of it, `layers[3].ffn.width == 4096`, or its choice, `layers[3].ffn is noop`"
    else:
        part = side.sub_block if isinstance(side, SubBlocks) else "ffn"
        help = f"count alternatives: `count({part} is noop)`, or compare with one: `layers[3].{part} is noop`"
    fixes = [Fix.replace(left_span.to(right_span), meant)] if meant and plain else []
    what, got = f"each side of `{op}`", describe(side)
    ctx.report(type_errors.WrongType(span, what=what, wanted="a number", got=got, help=help, fixes=fixes))
    return POISON


def _compared_facts(
    ctx: Context, side: Facts, op: tree.CompareOp, span: Span, left_span: Span, right_span: Span
) -> Value:
    """Report a comparison of a figure of each layer, with the forms that compare it in one layer, in all, and as a sum."""
    figure = f"{side.sub_block}.{side.attribute}"
    sides = [f"l.{figure}" if at == span else ctx.operand(at) for at in (left_span, right_span)]
    each = f"{sides[0]} {op} {sides[1]} for l in layers"
    help = f"compare it in each layer: `count({each})`, `all({each})`; or add it up: `sum({figure})`"
    what, got = f"each side of `{op}`", describe(side)
    whole = left_span.to(right_span)
    head = ctx.file_of(whole).lines[whole.line - 1][: whole.column - 1].rstrip()
    plain = ctx.source(span) == figure and ctx.gap(left_span, right_span, op) is not None
    meant = each if head.endswith(("count(", "all(")) else f"all({each})" if head.endswith("require") else ""
    fixes = [Fix.replace(whole, meant, safe=False)] if plain and meant else []
    ctx.report(type_errors.WrongType(span, what=what, wanted="a number", got=got, help=help, fixes=fixes))
    return POISON


def _is_single(value: Value) -> bool:
    return isinstance(value, SubBlocks | Layers) and value.single


def _member(ctx: Context, expr: tree.In, scope: Scope) -> Value:
    member, collection = ctx.value(expr.member, scope), ctx.value(expr.collection, scope)
    if isinstance(member, Poison) or isinstance(collection, Poison):
        return POISON
    match collection, member:
        case RangeValue(low=low, high=high), Quantity():
            if low.dimension == member.dimension:
                step = collection.step
                on_it = step is None or (member.value - low.value) % step == 0
                return Boolean(on_it and low.value <= member.value <= high.value)
        case (ListValue(items=items), Quantity() | Text() | Boolean()):
            return Boolean(member in items)
        case (Options(options=options), Quantity() | Text() | Boolean()):
            return Boolean(any(member == o.value for o in options))
    got, help, fixes = describe(collection), "", []
    if isinstance(member, SubBlocks) and isinstance(expr.collection, tree.ListExpr):
        names = " | ".join(ctx.source(item.span) for item in expr.collection.items)
        meant = f"{ctx.source(expr.member.span)} is ({names})"
        help, fixes = f"alternatives are compared with `is`: write `{meant}`", [Fix.replace(expr.span, meant)]
    wanted, what = f"a range or list that could hold {describe(member)}", "what follows `in`"
    error = type_errors.WrongType(
        expr.collection.span, what=what, wanted=wanted, got=got, help=help, fixes=fixes
    )
    ctx.report(error)
    return POISON


def _range(ctx: Context, expr: tree.Range, scope: Scope) -> Value:
    if expr.start is None or expr.stop is None:
        help = "an open end is for layers: `layers[40..]`"
        ctx.report(name_errors.MissingPart(expr.span, thing="a range", what="both ends", help=help))
        return POISON
    ends = [ctx.value(end, scope) for end in (expr.start, expr.stop)]
    for value, end in zip(ends, (expr.start, expr.stop), strict=True):
        if isinstance(value, Poison):
            return POISON
        if not isinstance(value, Quantity):
            got = describe(value)
            ctx.report(
                type_errors.WrongType(end.span, what="an end of a range", wanted="a constant", got=got)
            )
            return POISON
    low, high = ends
    assert isinstance(low, Quantity) and isinstance(high, Quantity)
    if low.dimension != high.dimension:
        left, right = describe(low), describe(high)
        ctx.report(type_errors.UnlikeSum(expr.span, op="..", left=left, right=right))
        return POISON
    if expr.step is None:
        return RangeValue(low, high)
    step = read_step(ctx, expr.step, scope, low.dimension)
    return POISON if step is None else RangeValue(low, high, step)
