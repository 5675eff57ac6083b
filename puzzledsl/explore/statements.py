"""The `require` statements of a search, the numeric bounds in them, and the positions of a bound's slider."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import count

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.units import BadLiteral, Quantity, parse_quantity
from puzzledsl.checker.expressions.values import SourceFile
from puzzledsl.ir.nodes import CountTerm, FactTerm, LinearRequirement, Requirement, Search, Where
from puzzledsl.ir.search_nodes import written
from puzzledsl.search.infeasible.verdicts import in_users_unit
from puzzledsl.syntax import tree

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
    bounds: tuple[Bound, ...] = ()


def statements_of(search: Search, source: Source) -> list[Statement]:
    """Return the statements of a search in the order of their requirements."""
    found: dict[int | Where, list[Requirement]] = {}
    for requirement in search.requirements:
        found.setdefault(source.place(requirement.where), []).append(requirement)
    statements: list[Statement] = []
    for place, own in found.items():
        node = source.requirements[place] if isinstance(place, int) else None
        text = written(own[0]) if node is None else source.file.source(node.condition.span)
        known = sum(len(statement.bounds) for statement in statements)
        bounds = () if node is None else tuple(_bounds_of(node, own, source, known))
        text, number = " ".join(text.split()), len(statements)
        statements.append(Statement(number, place, text, own[0].because, node, bounds))
    return statements


@dataclass(frozen=True, slots=True)
class Bound:
    """One number that a slider moves. `is_clear`: its requirements have one bound, which it is."""

    number: int
    span: Span
    written: str
    text: str
    unit: str
    is_clear: bool
    grid: Grid

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
    node: tree.Require, requirements: Sequence[Requirement], source: Source, first: int
) -> Iterator[Bound]:
    """Yield the bounds of a statement, numbered from `first`. `requirements` are its own."""
    linear = [r for r in requirements if isinstance(r, LinearRequirement)]
    for operand in _compared(node.condition):
        span, values = operand.span, source.compared.get(operand.span, set())
        at = span.line, span.column
        mine = [r for r in linear if (r.bound_where.line, r.bound_where.column) == at]
        value = next(iter(values)).value if len(values) == 1 else None
        if isinstance(operand, tree.Literal_):
            text: str | None = source.file.source(span)
        elif not mine or value is None or value < 0:  # instances of a `for` may have different ones
            continue
        else:  # the value of an expression as a literal in the unit of the requirement
            exact = mine[0].model_copy(update={"op": ">=" if mine[0].op == "==" else mine[0].op})
            literal = in_users_unit(exact, value, Fraction(1))
            text = None if literal is None else literal.text
        with suppress(BadQuestion):
            if text is None:
                continue
            unit, amount = unit_of(text), amount_of(text)
            whole = not unit and all(map(_counts, mine))
            limits = {(r.bound, r.parent_ratio) for r in mine}  # of a `for` there may be several
            grid = grid_of(amount, whole=whole)
            yield Bound(first, span, source.file.source(span), text, unit, len(limits) == 1, grid)
            first += 1


def _counts(requirement: LinearRequirement) -> bool:
    """Return True if the left side is a whole number for every child."""
    terms = [w for w in requirement.left.terms if w.coefficient.denominator == 1]
    return requirement.parent_ratio is None and all(isinstance(w.term, CountTerm | FactTerm) for w in terms)


POSITIONS = 300  # About so many positions has a slider.


@dataclass(frozen=True, slots=True)
class Grid:
    """Numbers `position * step` for positions from 0 to `last`. `decimals`: as many as these need."""

    last: int
    step: Fraction
    decimals: int

    def nearest(self, value: Fraction) -> int:
        """Return the position that is nearest to a number."""
        return min(max(round(value / self.step), 0), self.last)

    def number(self, position: int) -> str:
        """Return a position's number as it is written."""
        return f"{float(position * self.step):.{self.decimals}f}"


def grid_of(value: Fraction, *, whole: bool) -> Grid:
    """Return the positions for a bound: from 0 to twice the bound. `whole`: only whole numbers make sense."""
    end = 2 * value or Fraction(10)
    raw = end / POSITIONS
    power = Fraction(10) ** math.floor(math.log10(float(raw)))
    step = next(power * m for m in (1, 2, 5, 10) if raw <= power * m)
    if whole:
        step = Fraction(max(1, math.ceil(step)))
    decimals = next(n for n in count() if (step * 10**n).denominator == 1)
    return Grid(math.ceil(end / step), step, decimals)
