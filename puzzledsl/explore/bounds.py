"""The numeric bounds in `require` statements: each number that a slider may move, and how the IR depends on it.

The IR's bound of a requirement is `scale * number + shift`: the checker moves constants of the left side to the right, and
divides a throughput by its factor. The check recorded the value of each constant side, which tells both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.units import BadLiteral, parse_quantity
from puzzledsl.explore.grids import Grid, grid_of
from puzzledsl.explore.question import BadQuestion
from puzzledsl.explore.sources import Source, compared
from puzzledsl.ir.nodes import CountTerm, FactTerm, LinearRequirement, MetricTerm, Requirement
from puzzledsl.search.infeasible.reachable import in_users_unit
from puzzledsl.syntax import tree

Extent = Callable[[LinearRequirement], tuple[Fraction, Fraction]]
NUMBERS = "0123456789._-"


@dataclass(frozen=True, slots=True)
class Bound:
    """One number that a slider moves: the IR's bound is `scale * number + shift`. Without `scale` the text is read again.

    `requirements`: places in the search. `text`: as the file has it, or its value where the file has an expression.
    """

    number: int
    span: Span
    written: str
    text: str
    unit: str
    scale: Fraction | None
    shift: Fraction
    requirements: tuple[int, ...]
    grid: Grid
    extent: tuple[Fraction, Fraction] | None

    @property
    def amount(self) -> Fraction:
        """The number of units of `text`."""
        return amount_of(self.text)

    def moved(self, requirement: LinearRequirement, text: str) -> LinearRequirement:
        """Return a requirement with this bound as `text`. Raises BadQuestion for another unit."""
        if unit_of(text) != self.unit or self.scale is None:
            raise BadQuestion(f"`{text}` is not a number of {self.unit.strip() or 'no unit'}")
        value = amount_of(text) * self.scale + self.shift
        field = "bound" if requirement.parent_ratio is None else "parent_ratio"
        place = requirement.bound_where.model_copy(update={"text": text})
        return requirement.model_copy(update={field: value, "bound_where": place})


def unit_of(text: str) -> str:
    """Return what follows the digits of a literal: `GiB`, `x`, ` tok/s`."""
    return text.lstrip(NUMBERS)


def amount_of(text: str) -> Fraction:
    """Return the digits of a literal as a number. Raises BadQuestion."""
    digits = text[: len(text) - len(unit_of(text))]
    try:
        return parse_quantity(digits).value
    except BadLiteral as error:
        raise BadQuestion(f"`{text}` is not a number") from error


def bounds_of(
    node: tree.Require, requirements: dict[int, Requirement], source: Source, extent: Extent, first: int
) -> Iterator[Bound]:
    """Yield the bounds of a statement, numbered from `first`. `requirements` are its own, by their places in the search."""
    linear = {i: r for i, r in requirements.items() if isinstance(r, LinearRequirement)}
    for operand in compared(node.condition):
        at = operand.span.line, operand.span.column
        mine = {i: r for i, r in linear.items() if (r.bound_where.line, r.bound_where.column) == at}
        is_literal, values = isinstance(operand, tree.Literal_), source.compared.get(operand.span, set())
        if not is_literal and (not mine or len(values) != 1):  # instances of a `for` may have different ones
            continue
        value = next(iter(values)).value if len(values) == 1 else None
        text = source.slice(operand.span) if is_literal else _literal(next(iter(mine.values())), value)
        bound = None if text is None else _bound(first, operand.span, text, value, mine, source, extent)
        if bound is not None:
            first += 1
            yield bound


def _literal(requirement: LinearRequirement, value: Fraction | None) -> str | None:
    """Return the value of an expression as a literal in the unit of a requirement; None if there is none."""
    if value is None or value < 0:
        return None
    exact = requirement.model_copy(update={"op": ">=" if requirement.op == "==" else requirement.op})
    literal = in_users_unit(exact, value, Fraction(1))
    return None if literal is None else literal.text


def _bound(
    number: int,
    span: Span,
    text: str,
    value: Fraction | None,
    mine: dict[int, LinearRequirement],
    source: Source,
    extent: Extent,
) -> Bound | None:
    try:
        unit, amount = unit_of(text), amount_of(text)
    except BadQuestion:
        return None
    lines = {_line(requirement, value, unit) for requirement in mine.values()} if value is not None else set()
    scale, shift = lines.pop() if len(lines) == 1 else (None, Fraction(0))
    reaches: tuple[Fraction, Fraction] | None = None
    if scale is not None:
        with suppress(ValueError):  # times a parent's value of 0
            low, high = extent(next(iter(mine.values())))
            reaches = (low - shift) / scale, (high - shift) / scale
    low, high = reaches or (Fraction(0), max(2 * amount, Fraction(10)))
    return Bound(
        number=number,
        span=span,
        written=source.slice(span),
        text=text,
        unit=unit,
        scale=scale,
        shift=shift,
        requirements=() if scale is None else tuple(mine),
        grid=grid_of(amount, low, high, whole=not unit and all(map(_counts, mine.values()))),
        extent=reaches,
    )


def _line(requirement: LinearRequirement, value: Fraction, unit: str) -> tuple[Fraction, Fraction]:
    """Return the scale and the shift that make a requirement's bound of a number of units, where `value` makes it now."""
    one = parse_quantity(f"1{unit}").value
    if requirement.parent_ratio is not None:
        return one, requirement.parent_ratio - value
    assert requirement.bound is not None, "a requirement has a bound or a ratio"
    terms = [weighted.term for weighted in requirement.left.terms]
    if value and any(isinstance(term, MetricTerm) and term.metric == "throughput" for term in terms):
        return one * requirement.bound / value, Fraction(0)
    return one, requirement.bound - value


def _counts(requirement: LinearRequirement) -> bool:
    """Return True if the left side is a whole number for every child."""
    terms = [w for w in requirement.left.terms if w.coefficient.denominator == 1]
    return requirement.parent_ratio is None and all(isinstance(w.term, CountTerm | FactTerm) for w in terms)
