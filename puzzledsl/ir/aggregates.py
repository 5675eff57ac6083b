"""`sum`, `count`, `min`, `max`, `mean`, `all`, `any`, `floor`, `ceil`, `round`, and a space's `size`."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

from puzzledsl.diagnostics import Span
from puzzledsl.ir import errors, nodes
from puzzledsl.ir import errors_types as types
from puzzledsl.ir.arithmetic import as_symbolic, guard
from puzzledsl.ir.context import Context
from puzzledsl.ir.dimensions import is_times, label
from puzzledsl.ir.limits import MAX_FORMULA
from puzzledsl.ir.readers import as_number
from puzzledsl.ir.values import (
    POISON,
    Boolean,
    Facts,
    Formula,
    Layers,
    Located,
    Matches,
    Number,
    Poison,
    SubBlocks,
    Symbolic,
    TermKey,
    Value,
    describe,
)
from puzzledsl.lang import tree
from puzzledsl.units import COUNT, Quantity


def apply_builtin(ctx: Context, name: str, items: list[Located], call: tree.Call) -> Value:
    """The value of a built-in function over `items`, none of which is poison."""
    match name:
        case "sum":
            return _sum(ctx, items, call.span)
        case "count":
            return _count(ctx, items, call.span)
        case "min" | "max" | "mean":
            return _extreme(ctx, name, items, call.span)
        case "all" | "any":
            return _quantified(ctx, name, items, call.span)
        case "size":
            return _size(ctx, items, call.span)
        case _:
            return _rounded(ctx, name, items, call.span)


# ---------------------------------------------------------------- sums and counts


def _sum(ctx: Context, items: list[Located], span: Span) -> Value:
    numbers: list[tuple[Number, Span]] = []
    for item in items:
        value = item.value
        number: Number | None = (
            facts_sum(value)
            if isinstance(value, Facts)
            else as_number(ctx, value, item.span, "what `sum` adds")
        )
        if number is None:
            return POISON
        numbers.append((number, item.span))
    if not numbers:
        return Quantity(Fraction(0))
    if not _alike(ctx, "sum", numbers):
        return POISON
    if all(isinstance(n, Quantity) for n, _ in numbers):
        first = numbers[0][0]
        assert isinstance(first, Quantity)
        total = sum((n.value for n, _ in numbers if isinstance(n, Quantity)), Fraction(0))
        return guard(ctx, Quantity(total, first.dimension, first.form), span)
    return guard(ctx, add_all([as_symbolic(n) for n, _ in numbers]), span)


def facts_sum(facts: Facts) -> Symbolic:
    """The sum of one figure over its layers."""
    terms: dict[TermKey, Fraction] = {
        ("fact", facts.sub_block, facts.attribute, layer): Fraction(1) for layer in facts.indices
    }
    return Symbolic(terms)


def add_all(values: list[Symbolic]) -> Symbolic:
    """The sum of values of one dimension."""
    terms: dict[TermKey, Fraction] = {}
    for value in values:
        for key, coefficient in value.terms.items():
            terms[key] = terms.get(key, Fraction(0)) + coefficient
    kept = {key: c for key, c in terms.items() if c}
    return Symbolic(kept, sum((v.constant for v in values), Fraction(0)), values[0].dimension)


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
    terms: dict[TermKey, Fraction] = {}
    for item in items:
        match item.value:
            case Boolean(value=true):
                constant += true
            case Matches(sub_block=sub_block, names=names, indices=indices):
                for layer in indices:
                    _tally(terms, ("count", sub_block, names, layer), 1)
            case Formula(logic=nodes.Is() as statement):
                _tally(terms, ("count", statement.sub_block, statement.alternatives, statement.layer), 1)
            case Formula(logic=nodes.Not(operand=nodes.Is() as statement)):
                constant += 1
                _tally(terms, ("count", statement.sub_block, statement.alternatives, statement.layer), -1)
            case Formula():
                help = "count single statements: `count(attention is noop)`"
                ctx.report(
                    types.WrongType(
                        item.span, what="what `count` counts", wanted=_COUNTS, got="a formula", help=help
                    )
                )
                return POISON
            case SubBlocks(sub_block=sub_block):
                help = f"say what: `count({sub_block} is noop)`"
                got = describe(item.value)
                ctx.report(
                    types.WrongType(item.span, what="what `count` counts", wanted=_COUNTS, got=got, help=help)
                )
                return POISON
            case _:
                got = describe(item.value)
                ctx.report(types.WrongType(item.span, what="what `count` counts", wanted=_COUNTS, got=got))
                return POISON
    return Symbolic(terms, constant) if terms else Quantity(constant)


_COUNTS = "statements such as `attention is noop`"


def _tally(terms: dict[TermKey, Fraction], key: TermKey, amount: int) -> None:
    terms[key] = terms.get(key, Fraction(0)) + amount


# ---------------------------------------------------------------- constants


def _extreme(ctx: Context, name: str, items: list[Located], span: Span) -> Value:
    found: list[tuple[Number, Span]] = []
    for item in items:
        if isinstance(item.value, Facts):
            return _not_constant(ctx, name, item.span)
        value = as_number(ctx, item.value, item.span, f"what `{name}` compares")
        if value is None:
            return POISON
        if isinstance(value, Symbolic):
            return _not_constant(ctx, name, item.span)
        found.append((value, item.span))
    if not found:
        ctx.report(errors.MissingPart(span, thing=f"`{name}`", what="at least one value"))
        return POISON
    if not _alike(ctx, name, found):
        return POISON
    numbers = [n for n, _ in found if isinstance(n, Quantity)]
    if name == "mean":
        total = sum((n.value for n in numbers), Fraction(0)) / len(numbers)
        return guard(ctx, Quantity(total, numbers[0].dimension, numbers[0].form), span)
    return (min if name == "min" else max)(numbers, key=lambda n: n.value)


def _not_constant(ctx: Context, name: str, span: Span) -> Value:
    example = "bound each part with a `require` of its own"
    help = {"mean": "a mean is a `sum(…)` divided by how many"}.get(
        name, f"`{name}` is not linear: {example}"
    )
    ctx.report(types.NotConstant(span, what=f"what `{name}` compares", got="this", help=help))
    return POISON


def _rounded(ctx: Context, name: str, items: list[Located], span: Span) -> Value:
    if len(items) != 1:
        ctx.report(errors.TooManyArguments(span, name=name, takes="1 argument", got=len(items)))
        return POISON
    value = as_number(ctx, items[0].value, items[0].span, f"what `{name}` rounds")
    if value is None:
        return POISON
    if isinstance(value, Symbolic):
        return _not_constant(ctx, name, items[0].span)
    exact = value.value
    whole = (
        floor(exact) if name == "floor" else ceil(exact) if name == "ceil" else floor(exact + Fraction(1, 2))
    )
    return Quantity(Fraction(whole), value.dimension)


# ---------------------------------------------------------------- all, any, size


def _quantified(ctx: Context, name: str, items: list[Located], span: Span) -> Value:
    logics: list[nodes.Logic] = []
    size = 1
    for item in items:
        match item.value:
            case Boolean(value=true):
                if true == (name == "any"):
                    return Boolean(true)
            case Formula(logic=logic, size=more):
                logics.append(logic)
                size += more
            case Matches(sub_block=sub_block, names=names, indices=indices):
                logics += [nodes.Is(layer=i, sub_block=sub_block, alternatives=names) for i in indices]
                size += len(indices)
            case other:
                ctx.report(types.NotPropositional(item.span, op=name, got=describe(other)))
                return POISON
    if size > MAX_FORMULA:
        ctx.report(errors.TooMuch(span, what="this statement", limit=f"{MAX_FORMULA:,} parts"))
        return POISON
    if not logics:
        return Boolean(name == "all")
    joined = tuple(logics)
    return Formula(nodes.And(operands=joined) if name == "all" else nodes.Or(operands=joined), size)


def _size(ctx: Context, items: list[Located], span: Span) -> Value:
    help = "write `size(layer)`, `size(attention)`, `size(layers[3])` or `size(layers[3].ffn)`"
    if len(items) != 1:
        ctx.report(errors.TooManyArguments(span, name="size", takes="1 argument", got=len(items), help=help))
        return POISON
    value = items[0].value
    match value:
        case Layers(space=space, indices=()):
            number = len(space.base_attention) * len(space.base_ffn)
        case Layers(space=space, indices=(layer,), single=True):
            number = len(space.attention[layer]) * len(space.ffn[layer])
        case SubBlocks(space=space, sub_block=sub_block, indices=(layer,), single=True):
            number = len(space.choices(sub_block)[layer])
        case SubBlocks(space=space, sub_block=sub_block, single=False):
            number = len(space.base_attention if sub_block == "attention" else space.base_ffn)
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
    return POISON if space.incomplete else Quantity(Fraction(number), COUNT)
