"""`sum`, `count`, `min`, `max`, `mean`, `all`, `any`, `floor`, `ceil`, `round`, `abs`, and a space's `size`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil, floor, prod

from puzzledsl.base.diagnostics import Fix, Span
from puzzledsl.base.phrases import listed
from puzzledsl.base.units import COUNT, Quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.expressions.arithmetic import as_symbolic, guard, scale
from puzzledsl.checker.expressions.coercions import as_number
from puzzledsl.checker.expressions.dimensions import is_times, label
from puzzledsl.checker.expressions.distinct_values import read_distinct
from puzzledsl.checker.expressions.layer_tables import (
    as_formula,
    layer_of,
    layer_spoken_of,
    number_of,
    pointwise,
    tables_of,
    truth_of,
)
from puzzledsl.checker.expressions.run_lengths import read_runs
from puzzledsl.checker.expressions.search_values import (
    Conjunction,
    Facts,
    Formula,
    Layers,
    Matches,
    Number,
    SubBlocks,
    Symbolic,
    TermKey,
)
from puzzledsl.checker.expressions.terms import LAYER_TERMS
from puzzledsl.checker.expressions.values import (
    POISON,
    Boolean,
    Constructed,
    Located,
    Poison,
    Value,
    describe,
)
from puzzledsl.checker.limits import MAX_FORMULA, TERMS_PER_STEP
from puzzledsl.checker.spaces.space_info import SpaceInfo
from puzzledsl.ir import nodes
from puzzledsl.language.alternatives import ALTERNATIVES
from puzzledsl.syntax import tree


def apply_builtin(ctx: Context, name: str, items: list[Located], call: tree.Call) -> Value:
    """The value of a built-in function over `items`, none of which is poison."""
    match name:
        case "sum":
            return _sum(ctx, name, items, call.span)
        case "count":
            return _count(ctx, items, call.span)
        case "min" | "max" | "mean":
            return _extreme(ctx, name, items, call.span)
        case "all" | "any":
            return _quantified(ctx, name, items, call.span)
        case "runs" | "longest":
            return read_runs(ctx, name, items, call)
        case "distinct":
            return read_distinct(ctx, items, call)
        case "size":
            return _size(ctx, items, call.span)
        case _:
            return _rounded(ctx, name, items, call.span)


# ---------------------------------------------------------------- sums and counts


def _sum(ctx: Context, name: str, items: list[Located], span: Span) -> Value:
    numbers: list[tuple[Number, Span]] = []
    for item in items:
        value = item.value
        number: Number | None = (
            facts_sum(value)
            if isinstance(value, Facts)
            else as_number(ctx, value, item.span, f"what `{name}` adds")
        )
        if number is None:
            return POISON
        numbers.append((number, item.span))
    if not numbers:
        return Quantity(Fraction(0))
    if not _alike(ctx, name, numbers):
        return POISON
    if all(isinstance(n, Quantity) for n, _ in numbers):
        first = numbers[0][0]
        assert isinstance(first, Quantity)
        total = sum((n.value for n, _ in numbers if isinstance(n, Quantity)), Fraction(0))
        return guard(ctx, Quantity(total, first.dimension, first.form), span)
    parts = [as_symbolic(n) for n, _ in numbers]
    spend_on_terms(ctx, parts, span)
    return guard(ctx, add_all(parts), span)


def facts_sum(facts: Facts) -> Symbolic:
    """The sum of one figure over its layers."""
    terms: dict[TermKey, Fraction] = {
        ("fact", facts.sub_block, facts.attribute, layer): Fraction(1) for layer in facts.indices
    }
    return Symbolic(terms, space=facts.space)


def spend_on_terms(ctx: Context, values: list[Symbolic], span: Span) -> None:
    """Count the work that sums over many layers are, which loops may ask for again and again."""
    ctx.spend(span, sum(len(value.terms) for value in values) // TERMS_PER_STEP)


def add_all(values: list[Symbolic]) -> Symbolic:
    """The sum of values of one dimension."""
    if len(values) == 1:
        return values[0]
    terms: dict[TermKey, Fraction] = {}
    for value in values:
        for key, coefficient in value.terms.items():
            terms[key] = terms.get(key, Fraction(0)) + coefficient
    kept = {key: c for key, c in terms.items() if c}
    space = next((v.space for v in values if v.space is not None), None)
    return Symbolic(kept, sum((v.constant for v in values), Fraction(0)), values[0].dimension, space)


def _alike(ctx: Context, op: str, numbers: list[tuple[Number, Span]]) -> bool:
    first = numbers[0][0]
    for number, span in numbers[1:]:
        if number.dimension != first.dimension or is_times(number) != is_times(first):
            left, right = describe(first), describe(number)
            ctx.report(types.UnlikeSum(span, label(number), op=op, left=left, right=right, help=""))
            return False
    return True


def _count(ctx: Context, items: list[Located], span: Span) -> Value:
    constant = Fraction(0)
    parts: list[Symbolic] = []
    for item in items:
        match item.value:
            case Boolean(value=true):
                constant += true
            case Matches(space=space, sub_block=sub_block, names=names, indices=indices):
                terms: dict[TermKey, Fraction] = {
                    ("count", sub_block, names[i], i): Fraction(1) for i in indices
                }
                parts.append(Symbolic(terms, space=space))
            case Formula() | Conjunction():
                counted = _counted(ctx, item.value, item.span)
                if counted is None:
                    return POISON
                parts.append(counted)
            case other:
                _report_not_counted(ctx, other, item.span)
                return POISON
    if not parts:
        return Quantity(constant)
    spend_on_terms(ctx, parts, span)
    total = add_all(parts)
    return Symbolic(total.terms, total.constant + constant, total.dimension, total.space)


def _report_not_counted(ctx: Context, value: Value, span: Span) -> None:
    """Report what `count` cannot count; of an alternative, say that a sub-block is missing."""
    if isinstance(value, SubBlocks):
        _not_counted(ctx, span, describe(value), f"say what: `count({value.sub_block} is noop)`")
    elif isinstance(value, Constructed) and any(value.name in names for names in ALTERNATIVES.values()):
        text = ctx.source(span)
        meant = [f"{part} is {text}" for part, names in ALTERNATIVES.items() if value.name in names]
        written = listed([f"`count({each})`" for each in meant], "or")
        fixes = [Fix.replace(span, each, safe=len(meant) == 1) for each in meant]
        _not_counted(ctx, span, describe(value), f"say of which sub-block: {written}", fixes)
    else:
        _not_counted(ctx, span, describe(value), "")


_COUNTS = "statements such as `attention is noop`"


def _not_counted(ctx: Context, span: Span, got: str, help: str, fixes: Sequence[Fix] = ()) -> None:
    what = "what `count` counts"
    ctx.report(types.WrongType(span, what=what, wanted=_COUNTS, got=got, help=help, fixes=fixes))


def _counted(ctx: Context, value: Formula | Conjunction, span: Span) -> Symbolic | None:
    """1 where a statement about one layer holds, else 0; None, reported, where it speaks of several layers."""
    statement = as_formula(ctx, value, span)
    match statement:
        case Boolean(value=true):
            return Symbolic({}, Fraction(true))
        case Formula(logic=nodes.Is() as single):
            key: TermKey = ("count", single.sub_block, single.alternatives, single.layer)
            return Symbolic({key: Fraction(1)}, space=statement.space)
        case Formula():
            if (at := layer_spoken_of(statement)) is not None:
                table = truth_of(ctx, statement, at, span)
                return None if table is None else as_symbolic(number_of(table))
            help = "each thing counted hangs on one layer; statements between layers are a `require` each"
            _not_counted(ctx, span, "a statement about several layers", help)
        case _:
            help = "what is counted hangs on one layer: `count(l.ffn.width >= 4096 for l in layers)`"
            _not_counted(ctx, span, "a bound on a metric or on several layers", help)
    return None


# ---------------------------------------------------------------- constants


def _extreme(ctx: Context, name: str, items: list[Located], span: Span) -> Value:
    """`min` and `max` of constants, or inside one layer; `mean` of anything that can be added."""
    if name == "mean":
        return _mean(ctx, items, span)
    found: list[tuple[Number, Span]] = []
    for item in items:
        if isinstance(item.value, Facts):
            return _not_linear(ctx, name, item.span, layers=True)
        value = as_number(ctx, item.value, item.span, f"what `{name}` compares")
        if value is None:
            return POISON
        found.append((value, item.span))
    if not found:
        ctx.report(name_errors.MissingPart(span, thing=f"`{name}`", what="at least one value"))
        return POISON
    if not _alike(ctx, name, found):
        return POISON
    numbers = [n for n, _ in found]
    constants = [n for n in numbers if isinstance(n, Quantity)]
    if len(constants) == len(numbers):
        return (min if name == "min" else max)(constants, key=lambda n: n.value)
    if len(numbers) == 1:
        return numbers[0]
    if layer_of(numbers) is None:
        whose, place = next((n, at) for n, at in found if isinstance(n, Symbolic))
        return _not_linear(ctx, name, place, layers=all(key[0] in LAYER_TERMS for key in whose.terms))
    tables = tables_of(ctx, numbers, span)
    smallest: Callable[..., Fraction] = lambda *cell: min(cell)  # noqa: E731
    largest: Callable[..., Fraction] = lambda *cell: max(cell)  # noqa: E731
    of = smallest if name == "min" else largest
    return POISON if tables is None else pointwise(tables, numbers[0].dimension, of)


def _mean(ctx: Context, items: list[Located], span: Span) -> Value:
    count = sum(len(i.value.indices) if isinstance(i.value, Facts) else 1 for i in items)
    if not count:
        ctx.report(name_errors.MissingPart(span, thing="`mean`", what="at least one value"))
        return POISON
    total = _sum(ctx, "mean", items, span)
    if isinstance(total, Symbolic):
        return guard(ctx, scale(total, Fraction(1, count)), span)
    if isinstance(total, Quantity):
        return guard(ctx, Quantity(total.value / count, total.dimension, total.form), span)
    return total


def _not_linear(ctx: Context, name: str, span: Span, layers: bool) -> Value:
    bound, op = ("least", ">=") if name == "min" else ("largest", "<=")
    help = f"`{name}` is not linear: bound each part with a `require` of its own"
    if layers:
        help = (
            f"`{name}` over several layers is not linear; to bound the {bound}, bound each: "
            f"`for l in layers {{ require l.ffn.width {op} … }}`"
        )
    ctx.report(types.NotConstant(span, what=f"what `{name}` compares", got="this", help=help))
    return POISON


ROUNDINGS: dict[str, Callable[[Fraction], Fraction]] = {
    "floor": lambda x: Fraction(floor(x)),
    "ceil": lambda x: Fraction(ceil(x)),
    "round": lambda x: Fraction(floor(x + Fraction(1, 2))),
    "abs": abs,
}


def _rounded(ctx: Context, name: str, items: list[Located], span: Span) -> Value:
    if len(items) != 1:
        ctx.report(name_errors.TooManyArguments(span, name=name, takes="1 argument", got=len(items)))
        return POISON
    value = as_number(ctx, items[0].value, items[0].span, f"what `{name}` takes")
    if value is None:
        return POISON
    if isinstance(value, Quantity):
        form = value.form if name == "abs" else "plain"
        return Quantity(ROUNDINGS[name](value.value), value.dimension, form)
    if layer_of([value]) is not None:
        tables = tables_of(ctx, [value], span)
        return POISON if tables is None else pointwise(tables, value.dimension, ROUNDINGS[name])
    help = f"`{name}` is not linear over several layers; inside one layer it is a table of that layer"
    place = items[0].span
    ctx.report(types.NotConstant(place, what=f"what `{name}` takes", got="this", help=help))
    return POISON


# ---------------------------------------------------------------- all, any, size

_BOUND = "a bound on a metric"


def _quantified(ctx: Context, name: str, items: list[Located], span: Span) -> Value:
    logics: list[nodes.Logic] = []
    size = 1
    space: SpaceInfo | None = None
    for item in items:
        statement = as_formula(ctx, item.value, item.span) if isinstance(item.value, Conjunction) else None
        match statement or item.value:
            case Boolean(value=true):
                if true == (name == "any"):
                    return Boolean(true)
            case Formula(logic=logic, size=more, space=space):
                logics.append(logic)
                size += more
            case Matches(space=space, sub_block=sub_block, names=names, indices=indices):
                logics += [nodes.Is(layer=i, sub_block=sub_block, alternatives=names[i]) for i in indices]
                size += len(indices)
            case other:
                got = _BOUND if isinstance(other, Conjunction) else describe(other)
                ctx.report(types.NotPropositional(item.span, op=name, got=got))
                return POISON
    if size > MAX_FORMULA:
        ctx.report(name_errors.TooMuch(span, what="this statement", limit=f"{MAX_FORMULA:,} parts"))
        return POISON
    if not logics or space is None:
        return Boolean(name == "all")
    joined = tuple(logics)
    return Formula(nodes.And(operands=joined) if name == "all" else nodes.Or(operands=joined), size, space)


def _size(ctx: Context, items: list[Located], span: Span) -> Value:
    help = "write `size(layer)`, `size(attention)`, `size(layers[3])` or `size(layers[3].ffn)`"
    if len(items) != 1:
        ctx.report(
            name_errors.TooManyArguments(span, name="size", takes="1 argument", got=len(items), help=help)
        )
        return POISON
    value = items[0].value
    match value:
        case Layers(space=space, indices=()):
            numbers = {prod(map(len, layer)) for layer in zip(*space.base.values(), strict=True)}
        case Layers(space=space, indices=(layer,), single=True):
            numbers = {prod(len(rows[layer]) for rows in space.chosen.values())}
        case SubBlocks(space=space, sub_block=sub_block, indices=(layer,), single=True):
            numbers = {len(space.choices(sub_block)[layer])}
        case SubBlocks(space=space, sub_block=sub_block, single=False):
            numbers = set(map(len, space.base[sub_block]))
        case Poison():
            return POISON
        case _:
            got = describe(value)
            ctx.report(
                types.WrongType(
                    items[0].span, what="what `size` counts", wanted="a layer", got=got, help=help
                )
            )
            return POISON
    if space.incomplete:
        return POISON
    if len(numbers) > 1:
        ctx.report(
            types.DiffersByLayer(span, what=f"`{ctx.source(span)}`", help="name a layer: `size(layers[0])`")
        )
        return POISON
    return Quantity(Fraction(numbers.pop()), COUNT)
