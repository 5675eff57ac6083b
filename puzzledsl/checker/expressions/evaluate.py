"""Evaluation of expressions. Constants are computed; values that a search decides stay symbolic.

So `let`, `fn`, `if` and comprehensions can also be used in searches. The parser bounds the nesting of expressions;
Context.enter and Context.spend bound the work of `fn`s and `let`s.
"""

from fractions import Fraction
from typing import assert_never

from puzzledsl.base.diagnostics import Args, Fix, Span
from puzzledsl.base.units import Quantity, parse_quantity
from puzzledsl.checker import errors
from puzzledsl.checker.context import MAX_OPTIONS, Context, Refused
from puzzledsl.checker.expressions import layer_tables as tables
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.attributes import attribute, index
from puzzledsl.checker.expressions.calls import call
from puzzledsl.checker.expressions.logic import connect, invert, same_as, subject_is
from puzzledsl.checker.expressions.numbers import as_constant, as_number, as_symbolic, scale
from puzzledsl.checker.expressions.operators import OPERATIONS, compare, guard
from puzzledsl.checker.expressions.values import Number, Scope, Value
from puzzledsl.checker.names.words import lookup, unknown_name
from puzzledsl.language.kinds import CONSTRUCTORS, DATA_SOURCES
from puzzledsl.syntax import tree


def evaluate(ctx: Context, expr: tree.Expr, scope: Scope) -> Value:
    """Return the value of `expr` in `scope`; POISON, reported once, if it has a mistake. Raise OutOfSteps after MAX_STEPS."""
    ctx.spend(expr.span)
    if not ctx.enter(expr.span):
        return values.POISON
    try:
        return _evaluate(ctx, expr, scope)
    except Refused:
        return values.POISON
    finally:
        ctx.depth -= 1


def _evaluate(ctx: Context, expr: tree.Expr, scope: Scope) -> Value:
    match expr:
        case tree.Name(text=name):
            found = lookup(ctx, name, scope)
            if found is None and name in CONSTRUCTORS:
                return values.Constructed(name, (), scope, expr.span)
            if found is None:
                unknown_name(ctx, expr, scope, (*values.VALUES, *sorted(CONSTRUCTORS - DATA_SOURCES.keys())))
            return found or values.POISON
        case tree.Literal_():
            return parse_quantity(expr.text)
        case tree.String():
            return values.Text(expr.value)
        case tree.ListExpr():
            return values.ListValue(tuple(ctx.all(Context.sound, expr.items, scope)))
        case tree.Choice():
            return _options(ctx, expr, scope)
        case tree.Cond():
            return _conditional(ctx, expr, scope)
        case tree.Binary():
            return _binary(ctx, expr, scope)
        case tree.Unary():
            return _unary(ctx, expr, scope)
        case tree.Compare():
            return compare(ctx, expr, scope)
        case tree.Is():
            return subject_is(ctx, expr, ctx.value(expr.subject, scope), scope)
        case tree.In():
            return _member(ctx, expr, scope)
        case tree.SameAs():
            return same_as(ctx, expr, *ctx.all(Context.sound, (expr.left, expr.right), scope))
        case tree.Range():
            return _range(ctx, expr, scope)
        case tree.Arrow():
            help = "it stands between prompt and output tokens: `batch(256, 128 -> 1024)`"
            raise ctx.misplaced(expr.span, "`->`", "this expression", help)
        case tree.Attribute():
            return attribute(ctx, ctx.sound(expr.target, scope), expr)
        case tree.Index():
            return index(ctx, ctx.value(expr.target, scope), expr, scope)
        case tree.Call():
            return call(ctx, expr, scope)
        case tree.Comprehension():
            help = "write it inside `sum(…)`, `count(…)`, `all(…)` or `any(…)`"
            raise ctx.misplaced(expr.span, "`for`", "this expression", help)
        case tree.BadExpr():
            return values.POISON
        case _:
            assert_never(expr)


def _options(ctx: Context, expr: tree.Choice, scope: Scope) -> Value:
    found = [one for option in expr.options for one in values.located(ctx.sound(option, scope), option.span)]
    if isinstance(expr.options[0], tree.Is):
        subject, last = ctx.source(expr.options[0].subject.span), expr.options[-1].span
        patterns = ctx.source(expr.options[0].pattern.span.to(last))
        help = f"several patterns stand in brackets: `{subject} is ({patterns})`; statements are joined with `or`"
        raise ctx.misplaced(expr.span, "`|`", "a statement", help)
    if len(found) > MAX_OPTIONS:
        raise ctx.too_much(expr.span, "this choice", f"{MAX_OPTIONS} options")
    return values.Options(tuple(found))


def _conditional(ctx: Context, expr: tree.Cond, scope: Scope) -> Value:
    """Return the side that a constant condition selects; a table of a layer if condition and sides depend on no other."""
    condition, span = ctx.value(expr.condition, scope), expr.condition.span
    if not isinstance(condition, values.Boolean | values.Formula | values.Conjunction):
        raise ctx.wrong(span, "the condition of `if`", "true or false", condition)
    statement = tables.as_formula(ctx, condition, span)
    if isinstance(statement, values.Boolean):
        return ctx.value(expr.then if statement.value else expr.otherwise, scope)

    def read(_: Context, side: tree.Expr) -> Number:
        return as_number(ctx, ctx.value(side, scope), side.span, "each side of `if`")

    then, otherwise = ctx.all(read, (expr.then, expr.otherwise))
    if then.dimension != otherwise.dimension:
        said: Args = {"op": "if", "left": values.describe(then), "right": values.describe(otherwise)}
        raise ctx.refuse(errors.UnlikeSum(expr.span, **said))
    truth = tables.truth_of(ctx, statement, span) if isinstance(statement, values.Formula) else None
    inside = None if truth is None else tables.tables_of(ctx, [truth, then, otherwise], expr.span)
    if inside is not None:
        return tables.pointwise(inside, then.dimension, lambda c, a, b: a if c else b)
    what, got = "the condition of `if` and both its sides", "more than one layer's choice"
    help = "inside one layer `if` makes a table; between layers write `require … implies …`"
    raise ctx.refuse(errors.NotConstant(span, what=what, got=got, help=help))


def _binary(ctx: Context, expr: tree.Binary, scope: Scope) -> Value:
    chain = [expr]
    while isinstance(chain[-1].left, tree.Binary):
        chain.append(chain[-1].left)
    left, left_span = ctx.value(chain[-1].left, scope), chain[-1].left.span
    for node in reversed(chain):
        ctx.spend(node.span)
        left = ctx.attempt(_step, ctx, node, left, left_span, scope) or values.POISON
        left_span = node.span
    return left


def _step(ctx: Context, node: tree.Binary, left: Value, left_span: Span, scope: Scope) -> Value:
    """`left op node.right`; constants short-circuit, so that `i > 0 and layers[i-1]…` is safe."""
    if node.op in ("and", "or", "implies"):
        if isinstance(left, values.Boolean) and left.value == (node.op == "or"):
            return values.Boolean(node.op != "and")
        return connect(ctx, node, left, ctx.value(node.right, scope), left_span)
    right, what = ctx.value(node.right, scope), f"each side of `{node.op}`"
    if node.op == "+" and isinstance(left, values.Text) and isinstance(right, values.Text):
        return values.Text(left.value + right.value)
    first = as_number(ctx, left, left_span, what)  # the operator itself may be wrong: one report is enough
    second = as_number(ctx, right, node.right.span, what)
    return guard(ctx, OPERATIONS[node.op](ctx, first, second, node, left_span), node.span)


def _unary(ctx: Context, expr: tree.Unary, scope: Scope) -> Value:
    value = ctx.sound(expr.operand, scope)
    if expr.op == "not":
        return invert(ctx, value, expr.operand.span)
    result = as_number(ctx, value, expr.operand.span, f"what `{expr.op}` is applied to")
    if isinstance(result, Quantity) and expr.op == "-":
        result = Quantity(-result.value, result.dimension, result.form)
    elif expr.op == "-":
        result = scale(as_symbolic(result), Fraction(-1))
    if isinstance(expr.operand, tree.Literal_) and isinstance(result, Quantity):
        ctx.written[id(result)] = result
    return result


def _member(ctx: Context, expr: tree.In, scope: Scope) -> Value:
    member, collection = ctx.all(Context.sound, (expr.member, expr.collection), scope)
    match collection, member:
        case values.RangeValue(low=low, high=high, step=step), Quantity(dimension=of) if low.dimension == of:
            on_it = step is None or (member.value - low.value) % step == 0
            return values.Boolean(on_it and low.value <= member.value <= high.value)
        case (values.ListValue(items=items), Quantity() | values.Text() | values.Boolean()):
            return values.Boolean(member in items)
        case (values.Options(options=options), Quantity() | values.Text() | values.Boolean()):
            return values.Boolean(any(member == o.value for o in options))
    help, fixes = "", list[Fix]()
    if isinstance(member, values.SubBlocks) and isinstance(expr.collection, tree.ListExpr):
        names = " | ".join(ctx.source(item.span) for item in expr.collection.items)
        meant = f"{ctx.source(expr.member.span)} is ({names})"
        help, fixes = f"alternatives are compared with `is`: write `{meant}`", [Fix.replace(expr.span, meant)]
    wanted = f"a range or list that could hold {values.describe(member)}"
    raise ctx.wrong(expr.collection.span, "what follows `in`", wanted, collection, help, fixes)


def _range(ctx: Context, expr: tree.Range, scope: Scope) -> Value:
    if expr.start is None or expr.stop is None:
        raise ctx.missing(expr.span, "a range", "both ends", "an open end is for layers: `layers[40..]`")
    low, high = (ctx.value(end, scope) for end in (expr.start, expr.stop))
    for end, span in ((low, expr.start.span), (high, expr.stop.span)):
        if not isinstance(end, Quantity):
            raise ctx.wrong(span, "an end of a range", "a constant", end)
    assert isinstance(low, Quantity) and isinstance(high, Quantity)
    if low.dimension != high.dimension:
        left, right = values.describe(low), values.describe(high)
        raise ctx.refuse(errors.UnlikeSum(expr.span, op="..", left=left, right=right))
    if expr.step is None:
        return values.RangeValue(low, high)
    step = as_constant(ctx, ctx.value(expr.step, scope), expr.step.span, "`step`", low.dimension)
    if step.value <= 0:
        raise ctx.beyond(expr.step.span, "`step`", "more than 0", str(step))
    return values.RangeValue(low, high, step.value)
