"""Lint of contradictory requirements: two bounds on the same quantity without a common value."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from puzzledsl.base.diagnostics import Label
from puzzledsl.base.frozen import record
from puzzledsl.base.units import BYTES, COUNT, TIME, TOK_PER_S, Dimension, format_quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics.lints import ExcludeEachOther
from puzzledsl.checker.lints.vacuous import at_parent, is_reachable, span_of
from puzzledsl.ir import nodes
from puzzledsl.ir.logic import unbounded

_UNITS: dict[str, Dimension] = {"": COUNT, "bytes": BYTES, "seconds": TIME, "tokens_per_s": TOK_PER_S}
POSITIVE = (nodes.MetricTerm, nodes.ParamsTerm)
"""Terms of which the parent's value is above zero, so that multiples of it are in the order of their factors."""


@record
class _End:
    """One end of the interval that a requirement allows: its value, whether it is excluded, and its text in messages."""

    value: Fraction
    strict: bool
    text: str


@record
class _Bound:
    """The interval that a requirement allows. `about` is equal for two bounds on the same quantity."""

    about: object
    low: _End | None
    high: _End | None
    where: nodes.Where


def warn_of_exclusive(ctx: Context, program: nodes.Program, impossible: set[nodes.Where]) -> None:
    """Report every bound that leaves nothing of what an earlier one on the same thing allows.

    The bounds at the places `impossible` exclude every child by themselves, and are reported for that already.
    """
    for search in program.searches.values():
        space = program.spaces[search.space]
        shape = program.parents[space.parent].shape
        lows: dict[object, _Bound] = {}
        highs: dict[object, _Bound] = {}
        for requirement in search.requirements:
            bound = _bound(ctx, requirement, shape)
            if bound is None or bound.where in impossible:
                continue
            for earlier in (lows.get(bound.about), highs.get(bound.about)):
                if earlier is not None and (ends := _apart(earlier, bound)) is not None:
                    _report(ctx, space, earlier, bound, *ends)
                    break
            _keep_tightest(bound, lows, highs)


def _report(ctx: Context, space: nodes.Space, earlier: _Bound, bound: _Bound, low: _End, high: _End) -> None:
    span, other = span_of(ctx, bound.where), span_of(ctx, earlier.where)
    labels = [Label(other, "the other bound")] if other != span else []
    if other.file != span.file:
        labels = []
    error = ExcludeEachOther(span, space=space.name, low=low.text, high=high.text, secondary=labels)
    ctx.report(error)


def _keep_tightest(bound: _Bound, lows: dict[object, _Bound], highs: dict[object, _Bound]) -> None:
    """Keep the requirement with the highest lower end, and the one with the lowest upper end."""
    low, high = lows.get(bound.about), highs.get(bound.about)
    if bound.low is not None and (low is None or low.low is None or bound.low.value > low.low.value):
        lows[bound.about] = bound
    if bound.high is not None and (high is None or high.high is None or bound.high.value < high.high.value):
        highs[bound.about] = bound


def _apart(one: _Bound, two: _Bound) -> tuple[_End, _End] | None:
    """The lower and the upper end that leave no value between them; None where some value meets both bounds."""
    for low, high in ((one.low, two.high), (two.low, one.high)):
        if low is None or high is None or low.value < high.value:
            continue
        if low.value > high.value or low.strict or high.strict:
            return low, high
    return None


# ---------------------------------------------------------------- what requirements bound


def _bound(ctx: Context, requirement: nodes.Requirement, shape: nodes.Shape) -> _Bound | None:
    """Return the bound that a requirement sets; None for a statement that bounds nothing."""
    match requirement:
        case nodes.LinearRequirement(left=left, op=op, bound=bound, unit=unit, parent_ratio=ratio):
            found = ctx.once(_of_linear, left, op, bound, unit, ratio, shape)
            return None if found is None else _Bound(*found, requirement.bound_where)
        case nodes.LogicRequirement(
            formula=(nodes.Runs() | nodes.Longest() | nodes.Distinct()) as figure, where=where
        ):
            least, most = figure.at_least, figure.at_most
            low = _End(Fraction(least), False, f"at least {least}") if least > 0 else None
            high = None if most is None else _End(Fraction(most), False, f"at most {most}")
            return _Bound(unbounded(figure), low, high, where)
        case nodes.LogicRequirement():
            return None


def _of_linear(
    left: nodes.Linear,
    op: str,
    bound: Fraction | None,
    unit_name: str,
    ratio: Fraction | None,
    shape: nodes.Shape,
) -> tuple[object, _End | None, _End | None] | None:
    lead = min(left.terms, key=lambda weighted: repr(weighted.term)).coefficient
    terms = frozenset((weighted.term, weighted.coefficient / lead) for weighted in left.terms)
    value, unit, multiple = bound, _UNITS[unit_name], False
    if ratio is not None:
        value = ratio
        if is_reachable(left):
            value *= at_parent(left, shape)
        elif (
            all(isinstance(w.term, POSITIVE) and w.coefficient > 0 for w in left.terms) and not left.constant
        ):
            multiple = True
        else:
            return None
    assert value is not None
    scaled = value if multiple else (value - left.constant) / lead
    text = f"{float(value):.6g}x" if multiple else format_quantity(scaled, unit, 6)
    low, high = (end for end in _ends(op, scaled, text, turned=lead < 0 and not multiple))
    return (terms, multiple), low, high


def _ends(op: str, value: Fraction, text: str, *, turned: bool) -> Iterator[_End | None]:
    """The lower and the upper end that a comparison sets."""
    strict = op in ("<", ">")
    below = (op[0] == "<") != turned
    for upper, words in ((False, ("more than", "at least")), (True, ("less than", "at most"))):
        if op == "==" or upper == below:
            yield _End(value, strict, f"{words[0] if strict else words[1]} {text}")
        else:
            yield None
