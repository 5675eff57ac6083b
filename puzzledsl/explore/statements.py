"""The `require` statements of a search, the numeric bounds in them, and the positions of a bound's slider.

The IR's bound of a requirement is `scale * number + shift`: the checker moves constants of the left side to the right, and
divides a throughput by its factor. The check recorded the value of each constant side, which tells both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import count

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.units import BadLiteral, Quantity, parse_quantity
from puzzledsl.checker.expressions.values import SourceFile
from puzzledsl.ir.nodes import CountTerm, FactTerm, LinearRequirement, MetricTerm, Requirement, Search, Where
from puzzledsl.ir.search_nodes import written
from puzzledsl.search.infeasible.verdicts import in_users_unit
from puzzledsl.syntax import tree

Extent = Callable[[LinearRequirement], tuple[Fraction, Fraction]]
NUMBERS = "0123456789._-"


class BadQuestion(ValueError):
    """Raised for a question that the page cannot have asked, or a bound that is no number of its unit."""


@dataclass(frozen=True)
class Source:
    """A file that was checked. `compared` are the values of the constant sides of its comparisons."""

    file: SourceFile
    compared: Mapping[Span, AbstractSet[Quantity]]

    @cached_property
    def requirements(self) -> tuple[tree.Require, ...]:
        """Every `require` statement of the file, in order."""
        return tuple(node for node in tree.walk(self.file.module) if isinstance(node, tree.Require))

    def place(self, where: Where) -> int | Where:
        """Return the number among `requirements` of the one that a place is in; the place itself where it is in none of them."""
        at = where.line, where.column
        spans = (node.span for node in self.requirements if where.file == self.file.shown)
        inside = ((s.line, s.column) <= at < (s.end_line, s.end_column) for s in spans)
        return next((number for number, holds in enumerate(inside) if holds), where)


@dataclass(frozen=True, slots=True)
class Statement:
    """One `require`. `node`: of the file; None where it is in another file, and cannot be edited here."""

    number: int
    place: int | Where
    text: str
    because: str
    node: tree.Require | None
    requirements: tuple[int, ...]
    bounds: tuple[Bound, ...] = ()


def statements_of(search: Search, source: Source, extent: Extent) -> list[Statement]:
    """Return the statements of a search in the order of their requirements."""
    found: dict[int | Where, dict[int, Requirement]] = {}
    for index, requirement in enumerate(search.requirements):
        found.setdefault(source.place(requirement.where), {})[index] = requirement
    statements: list[Statement] = []
    for place, own in found.items():
        node = source.requirements[place] if isinstance(place, int) else None
        first = next(iter(own.values()))
        text = written(first) if node is None else source.file.source(node.condition.span)
        known = sum(len(statement.bounds) for statement in statements)
        bounds = () if node is None else tuple(_bounds_of(node, own, source, extent, known))
        text, number = " ".join(text.split()), len(statements)
        statements.append(Statement(number, place, text, first.because, node, tuple(own), bounds))
    return statements


@dataclass(frozen=True, slots=True)
class Bound:
    """One number that a slider moves. `requirements`: those that it alone bounds; `extent`: what the space reaches."""

    number: int
    span: Span
    written: str
    text: str
    unit: str
    requirements: tuple[int, ...]
    grid: Grid
    extent: tuple[Fraction, Fraction] | None

    def check(self, text: str) -> None:
        """Raise BadQuestion for a text that is no number of its unit."""
        if unit_of(text) != self.unit:
            raise BadQuestion(f"`{text}` is not a number of {self.unit.strip() or 'no unit'}")
        amount_of(text)


def unit_of(text: str) -> str:
    """Return what follows the digits of a literal: `GiB`, `x`, ` tok/s`."""
    return text.lstrip(NUMBERS)


def amount_of(text: str) -> Fraction:
    """Return the digits of a literal as a number. Raises BadQuestion."""
    try:
        return parse_quantity(text.removesuffix(unit_of(text))).value
    except BadLiteral as error:
        raise BadQuestion(f"`{text}` is not a number") from error


def _compared(condition: tree.Expr) -> Iterator[tree.Expr]:
    """Yield the operands of every comparison of a condition, in order; those inside calls belong to something else."""
    match condition:
        case tree.Compare():
            yield from condition.operands
        case tree.Binary(left=left, right=right):
            yield from (*_compared(left), *_compared(right))
        case tree.Unary(operand=operand):
            yield from _compared(operand)


def _bounds_of(
    node: tree.Require, requirements: dict[int, Requirement], source: Source, extent: Extent, first: int
) -> Iterator[Bound]:
    """Yield the bounds of a statement, numbered from `first`. `requirements` are its own, by their places in the search."""
    linear = {i: r for i, r in requirements.items() if isinstance(r, LinearRequirement)}
    for operand in _compared(node.condition):
        span, values = operand.span, source.compared.get(operand.span, set())
        at = span.line, span.column
        mine = {i: r for i, r in linear.items() if (r.bound_where.line, r.bound_where.column) == at}
        value = next(iter(values)).value if len(values) == 1 else None
        if isinstance(operand, tree.Literal_):
            text: str | None = source.file.source(span)
        elif not mine or value is None or value < 0:  # instances of a `for` may have different ones
            continue
        else:  # the value of an expression as a literal in the unit of the requirement
            one = next(iter(mine.values()))
            exact = one.model_copy(update={"op": ">=" if one.op == "==" else one.op})
            literal = in_users_unit(exact, value, Fraction(1))
            text = None if literal is None else literal.text
        with suppress(BadQuestion):
            if text is None:
                continue
            unit, amount = unit_of(text), amount_of(text)
            lines = {_line(r, value, unit) for r in mine.values()} if value is not None else set()
            reaches: tuple[Fraction, Fraction] | None = None
            if len(lines) == 1:
                scale, shift = next(iter(lines))
                with suppress(ValueError):  # times a parent's value of 0
                    low, high = extent(next(iter(mine.values())))
                    reaches = (low - shift) / scale, (high - shift) / scale
            low, high = reaches or (Fraction(0), max(2 * amount, Fraction(10)))
            whole = not unit and all(map(_counts, mine.values()))
            grid, own = grid_of(amount, low, high, whole=whole), tuple(mine) if len(lines) == 1 else ()
            yield Bound(first, span, source.file.source(span), text, unit, own, grid, reaches)
            first += 1


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


POSITIONS = 240
"""About so many positions has a slider."""
AROUND = Fraction(5, 2)
"""A slider goes from the bound divided by this to the bound times this, as far as the space reaches; farther where it reaches
nothing there."""
FEW = 200
"""A count that the space takes no more values of has them all."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Numbers `(first + i) * step` for i from 0 to `last`. `decimals`: as many as these need."""

    first: int
    last: int
    step: Fraction
    decimals: int

    def nearest(self, value: Fraction) -> int:
        """Return the position that is nearest to a number."""
        return min(max(round(value / self.step) - self.first, 0), self.last)

    def number(self, position: int) -> str:
        """Return a position's number as it is written."""
        return f"{float((self.first + position) * self.step):.{self.decimals}f}"


def grid_of(value: Fraction, low: Fraction, high: Fraction, *, whole: bool) -> Grid:
    """Return the positions for a bound. `low` and `high`: what the space reaches. `whole`: only whole numbers make sense."""
    if whole and high - low <= FEW:
        ends = min(low, value), max(high, value)
    else:
        near, far = sorted((value / AROUND, value * AROUND)) if value else (low, high)
        ends = min(max(low, near), value), max(min(high, far), value)
        ends = low if ends[0] > high else ends[0], high if ends[1] < low else ends[1]
    raw = (ends[1] - ends[0]) / POSITIONS or Fraction(abs(value) or 1, 100)
    power = Fraction(10) ** math.floor(math.log10(float(raw)))
    step = next(power * m for m in (1, 2, 5, 10) if raw <= power * m)
    if whole:
        step = Fraction(max(1, math.ceil(step)))
    first, last = math.floor(ends[0] / step), math.ceil(ends[1] / step)
    if ends[0] >= 0:
        first = max(first, 0)
    decimals = next(n for n in count() if (step * 10**n).denominator == 1)
    return Grid(first, max(last - first, 1), step, decimals)
