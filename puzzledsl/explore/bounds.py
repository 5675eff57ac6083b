"""The numeric bounds in `require` statements: each number that a slider may move, and how the IR depends on it.

The program is read again with each bound as a literal, and with another number near it: two points tell the line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.units import BadLiteral, parse_quantity
from puzzledsl.explore.grids import Grid, grid_of
from puzzledsl.explore.question import BadQuestion
from puzzledsl.explore.sources import Source, compared, replaced
from puzzledsl.ir.nodes import CountTerm, FactTerm, LinearRequirement, Requirement, Search
from puzzledsl.search.infeasible.reachable import in_users_unit, plain
from puzzledsl.syntax import tree

Reread = Callable[[str], tuple[Requirement, ...] | None]
"""Check a text; the requirements of the search in it, None where it has mistakes."""
Extent = Callable[[LinearRequirement], tuple[Fraction, Fraction]]
NUMBERS = "0123456789._-"
NEAR = (Fraction(19, 20), Fraction(21, 20))
"""Shares of a bound at which a program is read again, to see how the IR depends on it."""


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


@dataclass(frozen=True, slots=True)
class _Draft:
    """An operand that may be a bound. `requirements` are linear, with this as their bound; none in a statement about layers."""

    statement: int
    span: Span
    text: str
    requirements: tuple[int, ...]
    is_literal: bool

    def times(self, share: Fraction | int) -> str:
        """Return a literal of about `share` as much, another one in any case; a statement about layers stays as it is."""
        if not self.requirements:
            return self.text
        unit = unit_of(self.text)
        return f"{plain(moved_amount(amount_of(self.text), share))}{unit}"


@dataclass(frozen=True, slots=True)
class _Readings:
    """Requirements with each bound as a literal, and with others nearby, which tell how the IR depends on them."""

    first: Sequence[Requirement]
    further: Sequence[Requirement] | None
    share: Fraction


def moved_amount(amount: Fraction, share: Fraction | int) -> Fraction:
    """Return a nearby number with as many decimals; whole numbers stay whole."""
    moved = amount * share
    if amount.denominator == 1:
        return Fraction(round(moved)) if round(moved) != amount else amount + (1 if share > 1 else -1)
    return Fraction(round(moved * 10**6), 10**6)


def bounds_of(
    conditions: Sequence[tuple[tree.Require | None, tuple[int, ...]]],
    search: Search,
    source: Source,
    reread: Reread,
    extent: Extent,
) -> list[tuple[Bound, ...]]:
    """Return, for each statement, the bounds that a number can replace: with it the program, read again, says the same.

    `conditions`: each statement of this file, None for one of another, with the places of its requirements in the search.
    """
    drafts = [
        draft
        for number, (node, indices) in enumerate(conditions)
        if node is not None
        for draft in _drafts(number, node, indices, search, source)
    ]
    for tried in (drafts, [d for d in drafts if d.is_literal], []):
        after = _read_with(tried, 1, search, source, reread)
        if after is not None:
            break
    else:
        tried, after = [], search.requirements
    read = _Readings(after, None, NEAR[0])
    for share in NEAR:
        if read.further is None:
            read = _Readings(after, _read_with(tried, share, search, source, reread), share)
    bounds: dict[int, list[Bound]] = {}
    for draft in tried:
        number = sum(map(len, bounds.values()))
        bound = _bound(number, draft, search, source, read, extent)
        if bound is not None:
            bounds.setdefault(draft.statement, []).append(bound)
    return [tuple(bounds.get(number, ())) for number in range(len(conditions))]


def _read_with(
    drafts: Sequence[_Draft], share: Fraction | int, search: Search, source: Source, reread: Reread
) -> tuple[Requirement, ...] | None:
    """Return the requirements with each bound as a literal times `share`; None where that is a mistake."""
    edits = [(draft.span, draft.text if share == 1 else draft.times(share)) for draft in drafts]
    after = reread(replaced(source, edits))
    return after if after is not None and len(after) == len(search.requirements) else None


def _drafts(
    statement: int, node: tree.Require, indices: tuple[int, ...], search: Search, source: Source
) -> list[_Draft]:
    own = [(i, r) for i in indices if isinstance(r := search.requirements[i], LinearRequirement)]
    found = []
    for operand in compared(node.condition):
        at = (operand.span.line, operand.span.column)
        mine = [(i, r) for i, r in own if (r.bound_where.line, r.bound_where.column) == at]
        is_literal = isinstance(operand, tree.Literal_)
        text = source.slice(operand.span) if is_literal else None
        if mine and text is None:
            text = _value_text([r for _, r in mine])
        if text is not None and (mine or is_literal):
            found.append(_Draft(statement, operand.span, text, tuple(i for i, _ in mine), is_literal))
    return found


def _value_text(requirements: Sequence[LinearRequirement]) -> str | None:
    """Return the value of an expression as a literal; None where the instances of a `for` have different ones."""
    values = {(r.bound, r.parent_ratio) for r in requirements}
    first = requirements[0]
    value = first.bound if first.parent_ratio is None else first.parent_ratio
    if len(values) > 1 or value is None or value < 0:
        return None
    exact = first.model_copy(update={"op": ">=" if first.op == "==" else first.op})
    literal = in_users_unit(exact, value, Fraction(1))
    return None if literal is None else literal.text


def _bound(
    number: int, draft: _Draft, search: Search, source: Source, read: _Readings, extent: Extent
) -> Bound | None:
    """Return a bound whose requirements, with a literal in its place, limit the same as before."""
    try:
        unit, amount = unit_of(draft.text), amount_of(draft.text)
    except BadQuestion:
        return None
    scale, shift = None, Fraction(0)
    reaches: tuple[Fraction, Fraction] | None = None
    whole = not unit
    for index in draft.requirements:
        before, now = search.requirements[index], read.first[index]
        if not isinstance(now, LinearRequirement) or not _says_the_same(before, now):
            return None
        further = None if read.further is None else read.further[index]
        if further is not None and _says_the_same(now, further):
            other = amount_of(draft.times(read.share))
            scale, shift = _line((amount, _limit(now)), (other, _limit(further)))
            if scale <= 0:
                return None
            with suppress(ValueError):  # times a parent's value of 0
                low, high = extent(now)
                reaches = (low - shift) / scale, (high - shift) / scale
        whole = whole and _counts(now)
    low, high = reaches or (Fraction(0), max(2 * amount, Fraction(10)))
    return Bound(
        number=number,
        span=draft.span,
        written=source.slice(draft.span),
        text=draft.text,
        unit=unit,
        scale=scale,
        shift=shift,
        requirements=draft.requirements if scale is not None else (),
        grid=grid_of(amount, low, high, whole=whole),
        extent=reaches,
    )


def _says_the_same(one: Requirement, other: Requirement) -> bool:
    """True if two linear requirements differ in their bounds only."""
    if not isinstance(one, LinearRequirement) or not isinstance(other, LinearRequirement):
        return False
    kinds = [(r.left, r.op, r.unit, r.parent_ratio is None) for r in (one, other)]
    return kinds[0] == kinds[1]


def _limit(requirement: Requirement) -> Fraction:
    """Return the bound or the ratio of a linear requirement."""
    assert isinstance(requirement, LinearRequirement)
    limit = requirement.bound if requirement.parent_ratio is None else requirement.parent_ratio
    assert limit is not None, "a requirement has a bound or a ratio"
    return limit


def _line(one: tuple[Fraction, Fraction], other: tuple[Fraction, Fraction]) -> tuple[Fraction, Fraction]:
    """Return slope and intercept of the line through two points."""
    slope = (other[1] - one[1]) / (other[0] - one[0])
    return slope, one[1] - slope * one[0]


def _counts(requirement: LinearRequirement) -> bool:
    """True if the left side is a whole number for every child."""
    terms = [w for w in requirement.left.terms if w.coefficient.denominator == 1]
    return requirement.parent_ratio is None and all(isinstance(w.term, CountTerm | FactTerm) for w in terms)
