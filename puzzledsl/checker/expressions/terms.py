"""Symbolic sums as linear expressions and requirements of the IR."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, cast

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.units import BYTES, TIME, TOK_PER_S, Dimension, Quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.expressions.values import Comparison, Number, Symbolic, TermKey
from puzzledsl.checker.limits import TERMS_PER_STEP
from puzzledsl.ir import nodes

LAYER_TERMS = ("fact", "count", "table")
"""Kinds of terms that belong to one layer; the layer is the last part of their key."""
UNITS: dict[Dimension, Literal["bytes", "seconds", "tokens_per_s"]] = {
    BYTES: "bytes",
    TIME: "seconds",
    TOK_PER_S: "tokens_per_s",
}


def to_linear(value: Symbolic) -> nodes.Linear:
    """A symbolic value as the IR's linear expression: layers of one fact or count with one coefficient are one term."""
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
    """A comparison as the IR's requirement."""
    ctx.spend(comparison.span, len(comparison.left.terms) // TERMS_PER_STEP)
    return nodes.LinearRequirement(
        left=to_linear(comparison.left),
        op=comparison.op,
        bound=comparison.bound,
        parent_ratio=comparison.parent_ratio,
        unit=UNITS.get(comparison.left.dimension, ""),
        because=because,
        where=ctx.where(comparison.span),
        bound_where=ctx.where(comparison.bound_span),
    )


def is_metric(key: TermKey, name: str) -> bool:
    """True for the key of one metric of a scenario."""
    return key[0] == "metric" and key[2] == name


def is_throughput(value: Symbolic) -> bool:
    """True for a sum with a scenario's throughput in it."""
    return any(is_metric(key, "throughput") for key in value.terms)


def as_symbolic(value: Number) -> Symbolic:
    """A constant as a linear expression without terms."""
    return value if isinstance(value, Symbolic) else Symbolic({}, value.value, value.dimension)


def constant_if_it_is(value: Number) -> Number:
    """A linear expression without terms as a constant."""
    if isinstance(value, Symbolic) and not value.terms:
        return Quantity(value.constant, value.dimension)
    return value


def scale(value: Symbolic, factor: Fraction) -> Symbolic:
    """`factor * value`, factor a plain number."""
    terms = {key: c * factor for key, c in value.terms.items()} if factor else {}
    return Symbolic(terms, value.constant * factor, value.dimension, value.space)


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
