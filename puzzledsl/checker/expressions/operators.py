"""`+ - * / mod` and comparisons: of constants, of layers' numbers, and of what a search decides. Dimensions are checked here.

Numbers stay exact fractions. A symbolic operand may be scaled by a constant and added to another operand of the same
dimension; two operands of one layer are combined cell by cell.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from fractions import Fraction
from typing import Literal, NoReturn, cast

from puzzledsl.base.diagnostics import Args, Fix, Label, Span
from puzzledsl.base.frozen import Record
from puzzledsl.base.units import COUNT, REQ_PER_S, TOK_PER_S, Form, Quantity
from puzzledsl.checker import errors
from puzzledsl.checker.context import MAX_BITS, Context
from puzzledsl.checker.expressions import numbers, values
from puzzledsl.checker.expressions.layer_tables import compared, holds, layer_of, pointwise, tables_of
from puzzledsl.checker.expressions.logic import connect
from puzzledsl.checker.expressions.values import Number, Scope, Symbolic, Value, describe
from puzzledsl.checker.names.words import lookup, read_word
from puzzledsl.ir import nodes
from puzzledsl.ir.metric_records import PER_SECOND
from puzzledsl.syntax import tree
from puzzledsl.syntax.tree import CompareOp

_DECIDED = "decided by the search"


def guard(ctx: Context, value: Number, span: Span) -> Number:
    """Return the value; one with a number of more than MAX_BITS bits is refused."""
    parts = [value.value] if isinstance(value, Quantity) else [*value.terms.values(), value.constant]
    if any(max(n.numerator.bit_length(), n.denominator.bit_length()) > MAX_BITS for n in parts):
        raise ctx.too_much(span, "this number", f"{MAX_BITS} bits")
    return value


def _add(ctx: Context, left: Number, right: Number, at: tree.Binary, left_span: Span) -> Number:
    op, right_span = at.op, at.right.span
    if left.dimension != right.dimension or numbers.is_times(left) != numbers.is_times(right):
        sides: Args = {"left": describe(left), "right": describe(right)}
        beside = [Label(left_span, numbers.label(left))]
        raise ctx.refuse(errors.UnlikeSum(right_span, numbers.label(right), secondary=beside, op=op, **sides))
    sign = Fraction(1 if op == "+" else -1)
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        form: Form = left.form if left.form == right.form else "plain"
        return Quantity(left.value + sign * right.value, left.dimension, form)
    for side, other, span in ((left, right, left_span), (right, left, right_span)):
        mixed = side.dimension in (TOK_PER_S, REQ_PER_S) and (isinstance(other, Symbolic) or other.value != 0)
        if mixed and isinstance(side, Symbolic) and numbers.is_throughput(side):
            refuse_throughput(ctx, side, span)
    return numbers.add_all([numbers.as_symbolic(left), numbers.scale(numbers.as_symbolic(right), sign)])


def refuse_throughput(ctx: Context, value: Symbolic, span: Span) -> NoReturn:
    """Refuse a throughput or `max_rate` in `value` that is mixed with other terms."""
    _, scenario, name = next(key for key in value.terms if key[0] == "metric" and key[2] in PER_SECOND)
    help = (
        "throughput is batch * output / latency, which is not linear; alone, "
        f"`{scenario}.throughput >= X` becomes `{scenario}.latency <= batch * output / X`. Use `{scenario}.latency` here"
    )
    if name == "max_rate":
        help = f"it is 1 / time, which is not linear: use `{scenario}.utilisation`, which is rate / max_rate"
    raise ctx.refuse(errors.ThroughputAlone(span, metric=f"{scenario}.{name}", help=help))


def _multiply(ctx: Context, left: Number, right: Number, at: tree.Binary, left_span: Span) -> Number:
    dimension = left.dimension * right.dimension
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        one = numbers.is_times(left) != numbers.is_times(right)
        ratio = one and left.dimension == right.dimension == COUNT
        return Quantity(left.value * right.value, dimension, "times" if ratio else "plain")
    if isinstance(left, Symbolic) and isinstance(right, Symbolic):
        tables = tables_of(ctx, [left, right], at.span)
        if tables is None:
            _refuse_nonlinear(ctx, "*", "multiplies two things", at, left_span)
        return pointwise(tables, dimension, operator.mul)
    if isinstance(left, Quantity):
        constant, linear, other = left, numbers.as_symbolic(right), at.right.span
    else:
        assert isinstance(right, Quantity)
        constant, linear, other = right, left, left_span
    if numbers.is_times(constant):
        text = str(constant)
        instead = f"write `{text[:-1]} * {ctx.operand(other)}`, or `require METRIC <= {text}`"
        raise ctx.refuse(errors.RatioWithoutMetric(at.span, text=text, help=instead))
    return numbers.scale(linear, constant.value, dimension)


def _divide(ctx: Context, left: Number, right: Number, at: tree.Binary, left_span: Span) -> Number:
    dimension = left.dimension / right.dimension
    if isinstance(right, Symbolic):
        if isinstance(left, Symbolic):
            _refuse_nonlinear(ctx, "/", "divides two things", at, left_span)
        help, beside = "turn it round: `a / x <= b` is `x >= a / b`", [Label(at.right.span, _DECIDED)]
        said: Args = {"op": "/", "verb": "divides by what", "example": ""}
        raise ctx.refuse(errors.NotLinear(at.span, help=help, secondary=beside, **said))
    if right.value == 0:
        raise ctx.refuse(errors.DivisionByZero(at.right.span, "this is zero"))
    if isinstance(left, Quantity):
        times = numbers.is_times(left) and right.form != "times" and dimension == COUNT
        return Quantity(left.value / right.value, dimension, "times" if times else "plain")
    return numbers.scale(left, 1 / right.value, dimension)


def _modulo(ctx: Context, left: Number, right: Number, at: tree.Binary, left_span: Span) -> Number:
    for side, span in ((left, left_span), (right, at.right.span)):
        if isinstance(side, Symbolic):
            raise ctx.refuse(errors.NotConstant(span, what="each side of `mod`", got="this"))
    assert isinstance(left, Quantity) and isinstance(right, Quantity)
    if left.dimension != right.dimension:
        return _add(ctx, left, right, at, left_span)
    if right.value == 0:
        raise ctx.refuse(errors.DivisionByZero(at.right.span, "this is zero"))
    return Quantity(left.value % right.value, left.dimension)


def _refuse_nonlinear(ctx: Context, op: str, verb: str, at: tree.Binary, left_span: Span) -> NoReturn:
    said: Args = {"op": op, "verb": verb, "example": ctx.operand(left_span)}
    beside = [Label(left_span, f"{_DECIDED}, too")]
    raise ctx.refuse(errors.NotLinear(at.right.span, _DECIDED, secondary=beside, **said))


OPERATIONS = {"+": _add, "-": _add, "*": _multiply, "/": _divide, "mod": _modulo}
"""Operator -> the function that applies it. It takes both numbers and, for diagnostics, the tree and the left operand's span."""

End = Fraction | None
FEW_TOK_PER_S = 10
"""Throughput limit below which a bare number more likely means a multiple of the parent's than tokens per second."""
FLIPPED: dict[CompareOp, CompareOp] = {"<=": ">=", ">=": "<=", "<": ">", ">": "<", "==": "==", "!=": "!="}


class Sides(Record):
    """The places of a comparison's two sides and of its operator."""

    left: Span
    right: Span
    op: Span

    @property
    def turned(self) -> Sides:
        """The same with the sides exchanged."""
        return Sides(self.right, self.left, self.op)


def compare(ctx: Context, expr: tree.Compare, scope: Scope) -> Value:
    """Return the value of a chain of comparisons such as `a <= b < c`, its links joined by `and`."""
    sides = _operands(ctx, expr, scope)
    for operand, value in zip(expr.operands, sides, strict=True):
        if isinstance(value, Quantity):
            ctx.compared.setdefault(operand.span, set()).add(value)
    spans = [operand.span for operand in expr.operands]
    if len(sides) == 3 and isinstance(sides[1], values.Tally):
        return _between(ctx, expr, sides, sides[1])
    result: Value = values.Boolean(True)
    for i, op in enumerate(expr.ops):
        at = Sides(spans[i], spans[i + 1], expr.op_spans[i])
        link = ctx.attempt(_link, ctx, sides[i], op, sides[i + 1], at) or values.POISON
        joint = tree.Binary(span=expr.span, op="and", left=expr.operands[i], right=expr.operands[i + 1])
        result = connect(ctx, joint, result, link, expr.span)
    return result


def _operands(ctx: Context, expr: tree.Compare, scope: Scope) -> list[Value]:
    """Return the values of a comparison's operands. Beside a parameter that lists its words, a bare word is one of the list."""
    # a name that stands for no value: undeclared, or a declaration's
    named = [o for o in expr.operands if isinstance(o, tree.Name)]
    bare = [o for o in named if isinstance(lookup(ctx, o.text, scope), values.Ref | None)]
    known = {id(o): ctx.value(o, scope) for o in expr.operands if o not in bare}
    words = next((v.words for v in known.values() if isinstance(v, values.Text) and v.words), ())
    for operand in bare:
        if words and (operand.text in words or lookup(ctx, operand.text, scope) is None):
            what = f"word of {', '.join(f'`{w}`' for w in words)}"
            word = ctx.attempt(read_word, ctx, operand, scope, words, what)
            known[id(operand)] = values.POISON if word is None else values.Text(word, words)
    return [known[id(o)] if id(o) in known else ctx.value(o, scope) for o in expr.operands]


def _link(ctx: Context, left: Value, op: CompareOp, right: Value, at: Sides) -> Value:
    if isinstance(left, values.Poison) or isinstance(right, values.Poison):
        return values.POISON
    equality = op in ("==", "!=")
    if equality and type(left) is type(right) and isinstance(left, values.Text | values.Boolean):
        return values.Boolean((left == right) == (op == "=="))
    if isinstance(right, values.Tally):
        if isinstance(left, values.Tally):
            raise ctx.refuse(errors.NotASum(at.right, text=right.text))
        left, right, at, op = right, left, at.turned, FLIPPED[op]
    if isinstance(left, values.Tally):
        number = numbers.as_whole(ctx, right, at.right, f"what `{left.text}` is compared with")
        if op != "!=":
            return _within(left, (op, number))
        found = _within(left, ("==", number))
        return values.Formula(nodes.Not(operand=found.logic), found.size + 1, found.space)
    if equality and any(isinstance(side, values.SubBlocks | values.Layers) for side in (left, right)):
        _refuse_layers(ctx, left, op, right, at)
    for side, span in ((left, at.left), (right, at.right)):
        if isinstance(side, values.Facts):  # a figure of each layer
            figure = f"{side.sub_block}.{side.attribute}"
            sides = [f"l.{figure}" if place == span else ctx.operand(place) for place in (at.left, at.right)]
            each = f"{sides[0]} {op} {sides[1]} for l in layers"
            help = f"compare it in each layer: `count({each})`, `all({each})`; or add it up: `sum({figure})`"
            raise ctx.wrong(span, f"each side of `{op}`", "a number", side, help)
    what = f"each side of `{op}`"
    first = numbers.as_number(ctx, left, at.left, what)
    return _numbers(ctx, first, op, numbers.as_number(ctx, right, at.right, what), at)


def _numbers(ctx: Context, left: Number, op: CompareOp, right: Number, at: Sides) -> Value:
    """Return `left op right`: a Boolean of constants, a statement for `!=` in one layer, else a Conjunction of one Comparison."""
    comparable(ctx, op, left, right, at)
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        return values.Boolean(holds(left.value, op, right.value))
    if op == "!=" and layer_of([left, right]) is None:
        what, instead = "something the search decides", "a search can only bound it: write `<=` or `>=`"
        raise ctx.refuse(errors.BadEquality(at.op, op="!=", what=what, help=instead))
    if isinstance(left, Quantity):
        left, right, at, op = right, left, at.turned, FLIPPED[op]
    symbolic = numbers.as_symbolic(left)
    if isinstance(right, Quantity) and numbers.is_times(right):
        return _bound(ctx, symbolic, op, None, right.value, at)
    plain = symbolic.terms and not symbolic.constant and all(symbolic.terms.values())
    if isinstance(right, Quantity) and plain:
        return _bound(ctx, symbolic, op, right.value, None, at)
    moved = numbers.add_all([symbolic, numbers.scale(numbers.as_symbolic(right), Fraction(-1))])
    if not moved.terms:
        return values.Boolean(holds(moved.constant, op, Fraction(0)))
    left_side = values.Symbolic(moved.terms, Fraction(0), moved.dimension, moved.space)
    return _bound(ctx, left_side, op, -moved.constant, None, at)


def _bound(ctx: Context, left: Symbolic, op: CompareOp, bound: End, ratio: End, at: Sides) -> Value:
    batch = [key[0] == "metric" and key[2] == "batch" for key in left.terms]
    measured = [key[0] in ("metric", "score", "judged") for key in left.terms]
    if op == "==" and any(scattered and not own for scattered, own in zip(measured, batch, strict=True)):
        what = "a metric or score, which takes scattered values"
        raise ctx.refuse(errors.BadEquality(at.op, op="==", what=what, help="write `<=` or `>=`"))
    if ratio is not None and any(batch):
        refuse_batch_ratio(ctx, at.right, "compare the batch with a number, such as `>= 32`")
    if numbers.is_throughput(left):
        if len(left.terms) > 1 or left.constant:
            refuse_throughput(ctx, left, at.left)
        factor = next(iter(left.terms.values()))
        left = numbers.scale(left, 1 / factor)
        bound = None if bound is None else bound / factor
        op = FLIPPED[op] if factor < 0 else op
    kept = cast(Literal["<=", ">=", "==", "<", ">"], op)
    comparison = values.Comparison(left, kept, bound, ratio, at.left, at.right)
    if op == "!=":
        return compared(ctx, comparison, at.op) or values.POISON
    return values.Conjunction((comparison,))


def refuse_batch_ratio(ctx: Context, span: Span, instead: str) -> NoReturn:
    """Refuse a batch that is compared with the parent's."""
    help = f"the parent is taken at the child's own batch: {instead}"
    raise ctx.wrong(span, "what a batch is compared with", "a number", "a ratio of the parent's", help)


def comparable(ctx: Context, op: str, left: Number, right: Number, at: Sides) -> None:
    """Refuse two sides of different dimensions. A literal such as `2x` (times the parent's) fits all that a search decides."""
    ratios = numbers.is_times(left) + numbers.is_times(right)
    symbolic = isinstance(left, values.Symbolic) or isinstance(right, values.Symbolic)
    if left.dimension == right.dimension if not ratios else ratios == 2 or symbolic:
        return
    mine, first, other, second = right, at.right, left, at.left
    if isinstance(left, Quantity) and not isinstance(right, Quantity):
        mine, first, other, second = left, at.left, right, at.right
    times = ""
    if numbers.is_bare(mine) and isinstance(other, values.Symbolic) and other.dimension == TOK_PER_S:
        times = f"{numbers.plain(mine.value)}x" if 0 < mine.value < FEW_TOK_PER_S else ""
    fixes = numbers.unit_fixes(other.dimension, mine, first, ctx.source(first))
    if times:  # neither literal is certain to be the one meant
        multiple = Fix.replace(first, times, safe=False)
        fixes = [fix for known in fixes for fix in (replace(known, safe=False), multiple)]
    help = numbers.would_do(other.dimension, mine) or numbers.would_do(mine.dimension, other)
    if times:
        help = f"{help}, or `{times}` for {times.removesuffix('x')} times the parent's"
    beside = [Label(second, numbers.label(other))]
    sides: Args = {"op": op, "left": values.describe(left), "right": values.describe(right)}
    sides |= {"secondary": beside, "help": help, "fixes": fixes}
    raise ctx.refuse(errors.UnlikeComparison(first, numbers.label(mine), **sides))


def _between(ctx: Context, expr: tree.Compare, sides: list[Value], tally: values.Tally) -> Value:
    """Return a chain such as `1 <= runs(P) <= 2`, with the figure in the middle, as one formula."""
    bounds: list[tuple[CompareOp, int]] = []
    for op, end in ((FLIPPED[expr.ops[0]], 0), (expr.ops[1], 2)):
        value, span = sides[end], expr.operands[end].span
        if isinstance(value, values.Tally):
            raise ctx.refuse(errors.NotASum(span, text=value.text))
        number = numbers.as_whole(ctx, value, span, f"what `{tally.text}` is compared with")
        if op == "!=":
            what, instead = "something in a chain", "write two requirements"
            raise ctx.refuse(errors.BadEquality(expr.operands[1].span, op="!=", what=what, help=instead))
        bounds.append((op, number))
    return _within(tally, *bounds)


def _within(tally: values.Tally, *bounds: tuple[CompareOp, int]) -> values.Formula:
    """Return the formula that is true where a figure meets all bounds. No bound may be `!=`."""
    least = max([0, *(number + (op == ">") for op, number in bounds if op in (">=", ">", "=="))])
    most = min((number - (op == "<") for op, number in bounds if op in ("<=", "<", "==")), default=None)
    if most is not None and most < least:
        return values.Formula(nodes.Or(operands=()), 1, tally.space)
    figure = tally.figure.model_copy(update={"at_least": least, "at_most": most})
    return values.Formula(figure, tally.size, tally.space)


def _refuse_layers(ctx: Context, left: Value, op: CompareOp, right: Value, at: Sides) -> NoReturn:
    """Refuse `==` and `!=` beside layers or sub-blocks; suggest the operator that was probably meant."""
    of_layers = isinstance(left, values.SubBlocks | values.Layers)
    side, span = (left, at.left) if of_layers else (right, at.right)
    first, second = ctx.operand(at.left), ctx.operand(at.right)
    help = "compare a figure, `layers[3].ffn.width == 4096`, or count: `count(ffn is noop) == 20`"
    if all(isinstance(s, values.SubBlocks | values.Layers) and s.single for s in (left, right)):
        meant = f"{'not ' if op == '!=' else ''}{first} same as {second}"
        help = f"choices of two layers are compared with `same as`: write `{meant}`"
    elif of_layers and isinstance(right, values.Constructed):
        meant = f"{first} {'is not' if op == '!=' else 'is'} {second}"
        help = f"alternatives are compared with `is`: write `{meant}`"
    raise ctx.wrong(span, f"each side of `{op}`", "a number", side, help)
