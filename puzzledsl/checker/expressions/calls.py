"""Calls: `fn`s, constructors, and the built-in functions over lists, layers and comprehensions."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NoReturn

from puzzledsl.base.diagnostics import Args, Fix, Span
from puzzledsl.base.phrases import closest
from puzzledsl.base.units import Quantity
from puzzledsl.checker import errors
from puzzledsl.checker.context import TERMS_PER_STEP, Context, Refused
from puzzledsl.checker.expressions import layer_tables as tables
from puzzledsl.checker.expressions import numbers, values
from puzzledsl.checker.expressions.attributes import instances
from puzzledsl.checker.expressions.logic import BOUND, afford, read_distinct, read_runs, refuse_several
from puzzledsl.checker.expressions.operators import guard
from puzzledsl.checker.expressions.values import Number, Scope, Value
from puzzledsl.checker.names.words import lookup, unknown_name
from puzzledsl.ir import nodes
from puzzledsl.language.kinds import CONSTRUCTORS
from puzzledsl.language.words import FUNCTIONS
from puzzledsl.syntax import tree


def call(ctx: Context, expr: tree.Call, scope: Scope) -> Value:
    """Return the value of a call of a `fn`, a built-in, or a constructor (whose arguments a declaration reads later)."""
    name = expr.function
    function = lookup(ctx, name.text, scope) if isinstance(name, tree.Name) else ctx.value(name, scope)
    if function is None and isinstance(name, tree.Name):
        if name.text not in CONSTRUCTORS:
            known = (*FUNCTIONS, *sorted(CONSTRUCTORS))
            unknown_name(ctx, name, scope, known, kinds=("fn", "let", "hardware"))
            raise Refused
        function = values.Constructed(name.text, (), scope, name.span)
    assert function is not None
    match function:
        case values.Function():
            return _apply(ctx, function, expr, scope)
        case values.BuiltIn(name=word):
            return _BUILT_IN[word](ctx, word, _items(ctx, word, expr, scope), expr)
        case values.Constructed(arguments=(), base=None):
            return values.Constructed(function.name, expr.arguments, scope, expr.span)
        case values.Ref(symbol=symbol) if symbol.kind == "hardware":
            return values.Constructed(symbol.name, expr.arguments, scope, expr.span, base=symbol)
    help, fixes = "", list[Fix]()
    if isinstance(function, values.Layers):
        text = ctx.source(expr.function.span)
        subscript = ctx.source(expr.span).removeprefix(text).strip()[1:-1]
        help = f"layers are selected in square brackets: write `{text}[{subscript}]`"
        fixes = [Fix.replace(expr.span, f"{text}[{subscript}]")]
    raise ctx.wrong(expr.function.span, "what is called", "a function", function, help, fixes)


def _apply(ctx: Context, function: values.Function, expr: tree.Call, scope: Scope) -> Value:
    name, parameters = function.node.name.text, [p.text for p in function.node.parameters]
    help, number = f"it is `fn {name}({', '.join(parameters)})`", len(parameters)
    said: Args = {"takes": f"{number} argument{'' if number == 1 else 's'}", "got": len(expr.arguments)}
    wrong_number = errors.TooManyArguments(expr.span, help=help, name=name, **said)
    bound: dict[str, Value] = {}
    for place, argument in enumerate(expr.arguments):
        value = ctx.value(argument.value, scope)
        if argument.name is None and place >= number:
            raise ctx.refuse(wrong_number)
        key = parameters[place] if argument.name is None else argument.name.text
        if argument.name is not None and key not in parameters:
            said = {"thing": f"fn `{name}`", "name": key, "near": closest(key, parameters), "help": help}
            raise ctx.refuse(errors.UnknownKey(argument.name.span, **said))
        if key in bound:
            raise ctx.refuse(errors.DuplicateKey(argument.span, name=key))
        bound[key] = value
    if len(bound) < number:
        raise ctx.refuse(wrong_number)
    return ctx.value(function.node.value, function.scope.inner(bound))


def _items(ctx: Context, name: str, expr: tree.Call, scope: Scope) -> values.Items:
    """Return the values that a built-in function works on, with comprehensions and lists spread out. Refuse faulty ones."""
    found: values.Items = []
    for argument in expr.arguments:
        if argument.name is not None:
            said: Args = {"thing": f"`{name}`", "name": argument.name.text}
            raise ctx.refuse(errors.UnknownKey(argument.name.span, **said))
        if isinstance(argument.value, tree.Comprehension):
            elements = ctx.attempt(_comprehension, ctx, argument.value, scope)
            found += [values.Located(values.POISON, argument.span)] if elements is None else elements
        else:
            value = ctx.value(argument.value, scope)
            items = value.items if isinstance(value, values.ListValue) else (value,)
            found += [values.Located(item, argument.value.span) for item in items]
    if any(isinstance(item.value, values.Poison) for item in found):
        raise Refused
    return found


def _comprehension(ctx: Context, node: tree.Comprehension, scope: Scope) -> values.Items:
    found: values.Items = []
    for inner in instances(ctx, node.collection, node, scope):
        value = ctx.sound(node.element, inner)
        # an element about many layers would be counted once for each element of the loop, a slip
        if isinstance(value, values.Matches):
            refuse_several(ctx, value, node.element.span)
        if isinstance(value, values.Facts):
            numbers.as_number(ctx, value, node.element.span, "each element of a `for`")
        found.append(values.Located(value, node.element.span))
    return found


EXTREMES: dict[str, Callable[..., Any]] = {"min": min, "max": max}


def _sum(ctx: Context, name: str, items: values.Items, call: tree.Call) -> Number:
    amounts: list[Number] = []
    for item in items:
        facts = item.value
        if isinstance(facts, values.Facts):
            terms = [("fact", facts.sub_block, facts.attribute, layer) for layer in facts.indices]
            amounts.append(values.Symbolic(dict.fromkeys(terms, Fraction(1)), space=facts.space))
        else:
            amounts.append(numbers.as_number(ctx, facts, item.span, f"what `{name}` adds"))
    if not amounts:
        return Quantity(Fraction(0))
    constants = _need_alike(ctx, name, amounts, items)
    if len(constants) == len(amounts):
        total = sum((n.value for n in constants), Fraction(0))
        return guard(ctx, Quantity(total, constants[0].dimension, constants[0].form), call.span)
    return guard(ctx, _added(ctx, [*map(numbers.as_symbolic, amounts)], call.span), call.span)


def _added(ctx: Context, parts: list[values.Symbolic], span: Span) -> values.Symbolic:
    """Return the sum of `parts`. Count steps for their terms, since loops may ask for large sums again and again."""
    ctx.spend(span, sum(len(part.terms) for part in parts) // TERMS_PER_STEP)
    return numbers.add_all(parts)


def _need_alike(ctx: Context, op: str, amounts: list[Number], items: values.Items) -> list[Quantity]:
    """Refuse numbers of different dimensions; return the constants among them."""
    first = amounts[0]
    for number, item in zip(amounts, items, strict=True):
        if number.dimension != first.dimension or numbers.is_times(number) != numbers.is_times(first):
            said: Args = {"op": op, "left": values.describe(first), "right": values.describe(number)}
            raise ctx.refuse(errors.UnlikeSum(item.span, numbers.label(number), help="", **said))
    return [n for n in amounts if isinstance(n, Quantity)]


def _mean(ctx: Context, name: str, items: values.Items, call: tree.Call) -> Value:
    size = sum(len(i.value.indices) if isinstance(i.value, values.Facts) else 1 for i in items)
    if not size:
        raise ctx.missing(call.span, "`mean`", "at least one value")
    total = _sum(ctx, name, items, call)
    if isinstance(total, values.Symbolic):
        return guard(ctx, numbers.scale(total, Fraction(1, size)), call.span)
    return guard(ctx, Quantity(total.value / size, total.dimension, total.form), call.span)


def count(ctx: Context, items: values.Items, span: Span) -> Value:
    """Return the number of statements that hold: a linear expression, or a constant if all of them are constants."""
    parts = [_counted(ctx, item) for item in items]
    total = _added(ctx, parts, span) if parts else values.Symbolic({})
    return total if any(part.space for part in parts) else Quantity(total.constant)


def _counted(ctx: Context, item: values.Located) -> values.Symbolic:
    """Return what an argument of `count` adds: 1 for each layer where its statement holds. Refuse statements between layers."""
    value, span = item.value, item.span
    if isinstance(value, values.Matches):
        keys: list[values.TermKey] = [("count", value.sub_block, value.names[i], i) for i in value.indices]
        return values.Symbolic(dict.fromkeys(keys, Fraction(1)), space=value.space)
    if not isinstance(value, values.Boolean | values.Formula | values.Conjunction):
        part = value.sub_block if isinstance(value, values.SubBlocks) else "ffn"
        raise ctx.wrong(span, _COUNTED, _COUNTS, value, f"say what: `count({part} is noop)`")
    statement = tables.as_formula(ctx, value, span)
    match statement:
        case values.Boolean(value=true):
            return values.Symbolic({}, Fraction(true))
        case values.Formula(logic=nodes.Is(sub_block="attention" | "ffn") as single):
            key: values.TermKey = ("count", single.sub_block, single.alternatives, single.layer)
            return values.Symbolic({key: Fraction(1)}, space=statement.space)
        case values.Formula():
            if (truth := tables.truth_of(ctx, statement, span)) is not None:
                return numbers.as_symbolic(truth)
            help = "each thing counted hangs on one layer; statements between layers are a `require` each"
            raise ctx.wrong(span, _COUNTED, _COUNTS, "a statement about several layers", help)
    help = "what is counted hangs on one layer: `count(l.ffn.width >= 4096 for l in layers)`"
    raise ctx.wrong(span, _COUNTED, _COUNTS, "a bound on a metric or on several layers", help)


_COUNTED, _COUNTS = "what `count` counts", "statements such as `attention is noop`"


def _extreme(ctx: Context, name: str, items: values.Items, call: tree.Call) -> Value:
    """Return the `min` or `max` of constants, of figures of one layer, or of one number alone. Refuse others, such as metrics."""
    amounts: list[Number] = []
    for item in items:
        if isinstance(item.value, values.Facts):
            _refuse_extreme(ctx, name, item.span, layers=True)
        amounts.append(numbers.as_number(ctx, item.value, item.span, f"what `{name}` compares"))
    if not amounts:
        raise ctx.missing(call.span, f"`{name}`", "at least one value")
    constants = _need_alike(ctx, name, amounts, items)
    if len(constants) == len(amounts):
        return EXTREMES[name](constants, key=lambda n: n.value)  # type: ignore[no-any-return]
    if len(amounts) == 1:
        return amounts[0]
    inside = tables.tables_of(ctx, amounts, call.span)
    if inside is None:
        pairs = zip(amounts, items, strict=True)
        whose, at = next((n, i.span) for n, i in pairs if isinstance(n, values.Symbolic))
        _refuse_extreme(ctx, name, at, layers=all(key[0] in numbers.LAYER_TERMS for key in whose.terms))
    return tables.pointwise(inside, amounts[0].dimension, EXTREMES[name])


def _refuse_extreme(ctx: Context, name: str, span: Span, layers: bool) -> NoReturn:
    bound, op = ("least", ">=") if name == "min" else ("largest", "<=")
    help = f"`{name}` is not linear: bound each part with a `require` of its own"
    if layers:
        help = (
            f"`{name}` over several layers is not linear; to bound the {bound}, bound each: "
            f"`for l in layers {{ require l.ffn.width {op} … }}`"
        )
    raise ctx.refuse(errors.NotConstant(span, what=f"what `{name}` compares", got="this", help=help))


def _quantified(ctx: Context, name: str, items: values.Items, call: tree.Call) -> Value:
    found: list[values.Formula] = []
    for item in items:
        parts = tables.statements(ctx, item)
        if parts is None:
            got = BOUND if isinstance(item.value, values.Conjunction) else values.describe(item.value)
            raise ctx.refuse(errors.NotPropositional(item.span, op=name, got=got))
        for part in parts:
            if isinstance(part, values.Formula):
                found.append(part)
            elif part.value == (name == "any"):
                return part
    size = 1 + sum(part.size for part in found)
    afford(ctx, size, call.span)
    if not found:
        return values.Boolean(name == "all")
    kind = nodes.And if name == "all" else nodes.Or
    return values.Formula(kind(operands=tuple(part.logic for part in found)), size, found[-1].space)


_BUILT_IN: dict[str, Callable[[Context, str, values.Items, tree.Call], Value]] = {
    "sum": _sum,
    "count": lambda ctx, name, items, call: count(ctx, items, call.span),
    "mean": _mean,
    "distinct": read_distinct,
    **dict.fromkeys(EXTREMES, _extreme),
    **dict.fromkeys(("all", "any"), _quantified),
    **dict.fromkeys(("runs", "longest"), read_runs),
}
"""Name -> the built-in function, which takes the context, the name, the arguments (none is POISON) and the call's tree."""
