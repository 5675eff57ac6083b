"""Numbers: symbolic sums as linear expressions of the IR, and values converted to the type that a place needs, or refused."""

import re
from fractions import Fraction
from typing import TypeGuard, cast

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base import units
from puzzledsl.base.diagnostics import Fix, Span
from puzzledsl.base.units import COUNT, Dimension, Quantity
from puzzledsl.checker import errors
from puzzledsl.checker.context import TERMS_PER_STEP, Context
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.values import Comparison, Number, Symbolic, TermKey, Value, describe
from puzzledsl.ir import nodes
from puzzledsl.ir.metric_records import PER_SECOND
from puzzledsl.language import words

LAYER_TERMS = ("fact", "count", "table")
"""Kinds of terms that belong to one layer; the layer is the last part of their key."""


def to_linear(value: Symbolic) -> nodes.Linear:
    """Return a symbolic value as the IR's linear expression. Terms that are alike but for their layer become one term."""
    groups: dict[tuple[TermKey, Fraction], list[int]] = {}
    for key, coefficient in value.terms.items():
        if key[0] in LAYER_TERMS:
            groups.setdefault((key[:-1], coefficient), []).append(cast(int, key[-1]))
        else:
            groups[key, coefficient] = []
    terms = tuple(
        nodes.WeightedTerm(coefficient=coefficient, term=_term(key, tuple(sorted(layers))))
        for (key, coefficient), layers in groups.items()
    )
    return nodes.Linear(terms=terms, constant=value.constant)


def _term(key: TermKey, layers: tuple[int, ...]) -> nodes.Term:
    match key:
        case ("metric", str(scenario), str(metric)):
            return nodes.MetricTerm(scenario=scenario, metric=metric)
        case ("score", str(score)):
            return nodes.ScoreTerm(score=score)
        case ("params",):
            return nodes.ParamsTerm()
        case ("fact", str(sub_block), str(attribute)):
            return nodes.FactTerm(sub_block=cast(SubBlock, sub_block), attribute=attribute, layers=layers)
        case ("count", str(sub_block), tuple(names)):
            return nodes.CountTerm(sub_block=cast(SubBlock, sub_block), alternatives=names, layers=layers)
        case ("table", tuple(attention), tuple(ffn), tuple(cells)):
            return nodes.TableTerm(attention=attention, ffn=ffn, values=cells, layers=layers)
    raise AssertionError(f"no term: {key}")


def to_requirement(ctx: Context, comparison: Comparison, because: str) -> nodes.LinearRequirement:
    """Return a comparison as a requirement of the IR; `because` is the reason that the program gives."""
    ctx.spend(comparison.span, len(comparison.left.terms) // TERMS_PER_STEP)
    return nodes.LinearRequirement(
        left=to_linear(comparison.left),
        op=comparison.op,
        bound=comparison.bound,
        parent_ratio=comparison.parent_ratio,
        unit=next((unit for unit, of in nodes.DIMENSIONS.items() if of == comparison.left.dimension), ""),
        because=because,
        where=ctx.where(comparison.span),
        bound_where=ctx.where(comparison.bound_span),
    )


def is_throughput(value: Symbolic) -> bool:
    """True for a sum with a scenario's throughput or `max_rate` in it."""
    return any(key[0] == "metric" and key[2] in PER_SECOND for key in value.terms)


def as_symbolic(value: Number) -> Symbolic:
    """Return a number as a linear expression: a constant has no terms."""
    return value if isinstance(value, Symbolic) else Symbolic({}, value.value, value.dimension)


def scale(value: Symbolic, factor: Fraction, dimension: Dimension | None = None) -> Symbolic:
    """`factor * value`, of the value's dimension unless another is given."""
    terms = {key: c * factor for key, c in value.terms.items()} if factor else {}
    own = value.dimension if dimension is None else dimension
    return Symbolic(terms, value.constant * factor, own, value.space)


def add_all(values: list[Symbolic]) -> Symbolic:
    """Return the sum of one or more values of one dimension."""
    terms: dict[TermKey, Fraction] = {}
    for value in values:
        for key, coefficient in value.terms.items():
            terms[key] = terms.get(key, Fraction(0)) + coefficient
    kept = {key: c for key, c in terms.items() if c}
    space = next((v.space for v in values if v.space is not None), None)
    return Symbolic(kept, sum((v.constant for v in values), Fraction(0)), values[0].dimension, space)


EXAMPLES = {
    known.dimension: re.findall("`(.+?)`", known.doc)[0]
    for known in reversed(words.TYPES.values())
    if known.dimension is not None
}
"""Dimension -> an example of a literal, from the explanation of its parameter type."""
End = int | Fraction | None
"""A bound; None where there is none."""


def as_number(ctx: Context, value: Value, span: Span, what: str) -> Number:
    """Return a value as a number, a constant if it has no terms. A score's name is the child's score. Refuse other values."""
    help, fixes = "", list[Fix]()
    match value:
        case Quantity() | Symbolic():
            if isinstance(value, Symbolic) and not value.terms:
                return Quantity(value.constant, value.dimension)
            return value
        case values.Ref(symbol=symbol) if symbol.kind == "score":
            return Symbolic({("score", ctx.name_of(symbol)): Fraction(1)})
        case values.Facts(attribute=attribute, sub_block=sub_block):
            help = (
                f"add them up: `sum({sub_block}.{attribute})`, name one layer: `layers[i].{sub_block}.{attribute}`, "
                f"or go through them: `sum(l.{sub_block}.{attribute} * … for l in layers)`"
            )
        case values.Tally(text=text):
            raise ctx.refuse(errors.NotASum(span, text=text))
        case values.RangeValue():
            help = "list the values: `1 | 2 | 4`"
        case values.SubBlocks(sub_block=sub_block):
            help = f"count alternatives: `count({sub_block} is noop)`"
        case values.Ref(symbol=symbol) if symbol.kind in _PARTS:
            thing, parts = _PARTS[symbol.kind]
            help = f"name a {thing}: " + ", ".join(f"`{symbol.name}.{part}`" for part in parts)
        case values.Ref(symbol=symbol) if symbol.kind == "data":
            help = "texts are mixed by their weights: `mix(corpus: 2, stories: 1)`"
        case values.Text(value=text) if ctx.source(span) == f'"{text}"' and _is_quantity(text):
            help, fixes = f"numbers have no quotes: write `{text}`", [Fix.replace(span, text)]
    raise ctx.wrong(span, what, "a number", value, help, fixes)


_PARTS = {
    "scenario": ("metric", ("memory", "latency", "throughput")),
    "hardware": ("figure", ("memory",)),
    "parent": ("fact", ("layers", "params")),
}
"""Kind of declaration -> the word for the numbers that follow its name and a dot, and examples of them."""


def _is_quantity(text: str) -> bool:
    try:
        units.parse_quantity(text)
    except units.BadLiteral:
        return False
    return True


def as_constant(ctx: Context, value: Value, span: Span, what: str, dimension: Dimension = COUNT) -> Quantity:
    """Return a constant of the given dimension. Refuse other values, also a multiple of the parent's such as `2x`."""
    number = as_number(ctx, value, span, what)
    if isinstance(number, Symbolic):
        raise ctx.refuse(errors.NotConstant(span, what=what, got="this"))
    if number.dimension != dimension or number.form == "times":
        help = would_do(dimension, number)
        if number.form == "times":
            help = f"write a literal such as `{EXAMPLES[dimension]}`" if dimension in EXAMPLES else ""
        fixes = unit_fixes(dimension, number, span, ctx.source(span))
        raise ctx.wrong(span, what, dimension.name, number, help, fixes)
    return number


def as_whole(
    ctx: Context, value: Value, span: Span, what: str, low: End = None, high: End = None, help: str = ""
) -> int:
    """Return a whole plain number within bounds; anything else is refused, with `help` if it is out of bounds."""
    number = as_constant(ctx, value, span, what)
    if number.value.denominator != 1:
        raise ctx.beyond(span, what, "a whole number", str(number))
    return int(within(ctx, number, span, what, low, high, help))


def within(ctx: Context, got: Quantity, at: Span, what: str, low: End, high: End, help: str = "") -> Fraction:
    """Return the value of a number; one below `low` or above `high` is refused."""
    if (low is not None and got.value < low) or (high is not None and got.value > high):
        raise ctx.beyond(at, what, between(low, high), str(got), help)
    return got.value


def refuse_list(ctx: Context, value: Value, span: Span, what: str) -> None:
    """Refuse a list written as `[8, 4]` where the choice `8 | 4` is meant; let other values pass."""
    if isinstance(value, values.ListValue) and ctx.source(span).startswith("[") and value.items:
        wrong_list(ctx, span, len(value.items), what)


def wrong_list(ctx: Context, span: Span, count: int, what: str, wanted: str = "a number") -> None:
    """Refuse a list of `count` elements where a choice is meant."""
    inside = ctx.source(span)[1:-1].strip().removesuffix(",")
    meant, fixes = inside.replace(",", " |"), list[Fix]()
    help = "alternatives are separated by `|`, as in `8 | 4`"
    if inside.count(",") == count - 1 and not set("[#") & set(inside):
        help, fixes = f"alternatives are separated by `|`: write `{meant}`", [Fix.replace(span, meant)]
    raise ctx.wrong(span, what, wanted, "a list", help, fixes)


def between(low: object | None, high: object | None) -> str:
    """Return a range in words: `at least 1`, `at most 8` or `1 to 8`. An end that is None is open."""
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"{low} to {high}"


def label(value: Number) -> str:
    """Return the label shown under one side of a comparison: `a number, no unit`, `Bytes`."""
    return "a number, no unit" if is_bare(value) else describe(value)


def is_times(value: Number) -> bool:
    """Return True for a literal such as `2.17x`, a multiple of the parent's value."""
    return isinstance(value, Quantity) and value.form == "times"


def is_bare(value: Number) -> TypeGuard[Quantity]:
    """Return True for a constant without a unit, `%` or `x`."""
    return isinstance(value, Quantity) and value.form == "plain" and value.dimension == COUNT


def plain(value: Fraction) -> str:
    """Format a number as a literal without a unit: whole ones exactly, others to 12 digits if their decimals end, else to 6."""
    denominator = value.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    if value.denominator == 1:
        return str(value.numerator)
    ends = denominator == 1 and value.denominator < 10**9
    return f"{float(value):.12g}" if ends else f"{float(value):.6g}"


def would_do(wanted: Dimension, given: Number) -> str:
    """Return a help for a number of the wrong dimension: what to write for one of `wanted`. Empty if nothing is likely."""
    if isinstance(given, Symbolic):
        return ""
    if given.form == "percent" and wanted != COUNT:
        return f"write `{plain(given.value)}x` for {given} of the parent's, or a literal such as `{EXAMPLES.get(wanted, '1')}`"
    if is_bare(given) and given.value > 0:
        return _with_unit(wanted, given.value)
    if wanted == COUNT:
        return f"write a plain number, such as `{EXAMPLES[COUNT]}`, `4Ki` or `1.5B`"
    return f"write a literal such as `{EXAMPLES[wanted]}`" if wanted in EXAMPLES else ""


def unit_fixes(wanted: Dimension, given: Number, span: Span, source: str) -> list[Fix]:
    """Return fixes that replace `source` by literals of `wanted`, safe for tokens and tok/s only; none if it has a unit."""
    if not is_bare(given) or not source.replace("_", "").replace(".", "").isdigit():  # a name, or a sum
        return []
    literals = re.findall("`([^`]+)`", _with_unit(wanted, given.value))  # that help quotes nothing else
    alone = len(literals) == 1 and wanted in (units.TOK_PER_S, units.TOKENS)
    return [Fix.replace(span, text, safe=alone) for text in literals]


def _with_unit(wanted: Dimension, number: Fraction) -> str:
    text = plain(number)
    if wanted != units.BYTES:
        suffixes = ("s", "ms") if wanted == units.TIME else (EXAMPLES.get(wanted, "").lstrip("0123456789."),)
        literals = [f"`{text}{unit}`" for unit in suffixes if unit]
        return f"write {' or '.join(literals)}" if literals else ""
    if number >= 10**7:
        exact = units.format_quantity(number, units.BYTES, 3)
        return f"write `{plain(number / 1000)}kB` (= {exact}) or `{plain(number / 10**9)}GB`"
    if number >= 1000:
        exact = units.format_quantity(number * 2**20, units.BYTES, 3)
        return f"write `{text}MiB` (= {exact}) or `{plain(number / 1000)}GiB`"
    return f"write `{text}GiB` or `{text}MiB`"
