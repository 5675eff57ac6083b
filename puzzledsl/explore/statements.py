"""The `require` statements of a search, and the numeric bounds in them, each with its place in the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.units import BadLiteral, parse_quantity
from puzzledsl.explore.grids import Grid, grid_of
from puzzledsl.explore.question import BadQuestion
from puzzledsl.explore.sources import Source, compared
from puzzledsl.ir.nodes import CountTerm, FactTerm, LinearRequirement, Requirement, Search, Where
from puzzledsl.ir.statements import written
from puzzledsl.search.infeasible.reachable import in_users_unit
from puzzledsl.syntax import tree

Reread = Callable[[str], tuple[Requirement, ...] | None]
"""Check a text; the requirements of the search in it, None where it has mistakes."""
Extent = Callable[[LinearRequirement], tuple[Fraction, Fraction]]
NUMBERS = "0123456789._-"


@dataclass(frozen=True, slots=True)
class Bound:
    """One number that a slider moves. `scale`: the value in the IR of one unit; None where the text must be read again.

    `requirements`: places in the search. `text`: as the file has it, or its value where the file has an expression.
    """

    number: int
    span: Span
    written: str
    text: str
    unit: str
    scale: Fraction | None
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
        value = amount_of(text) * self.scale
        field = "bound" if requirement.parent_ratio is None else "parent_ratio"
        place = requirement.bound_where.model_copy(update={"text": text})
        return requirement.model_copy(update={field: value, "bound_where": place})


@dataclass(frozen=True, slots=True)
class Statement:
    """One `require`. `span`: the whole statement; None where it is in another file, and cannot be edited here."""

    number: int
    line: int
    text: str
    because: str
    file: str
    span: Span | None
    condition: Span | None
    requirements: tuple[int, ...]
    bounds: tuple[Bound, ...] = ()


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


# ---------------------------------------------------------------- reading


def statements_of(
    search: Search, source: Source, shown: str, reread: Reread, extent: Extent
) -> list[Statement]:
    """Return the statements of a search in the order of their requirements. `shown`: the name of the source in the IR."""
    found: dict[object, tuple[tree.Require | None, list[int]]] = {}
    for index, requirement in enumerate(search.requirements):
        node = _statement_at(source, requirement.where) if requirement.where.file == shown else None
        place = requirement.where if node is None else node.span
        found.setdefault(place, (node, []))[1].append(index)
    drafts = [
        _statement(number, node, search, source, tuple(indices))
        for number, (node, indices) in enumerate(found.values())
    ]
    return _with_bounds(drafts, [node for node, _ in found.values()], search, source, reread, extent)


def _statement_at(source: Source, where: Where) -> tree.Require | None:
    at = source.offset(where.line, where.column)
    for node in source.requirements:
        start, stop = source.reach(node.span)
        if start <= at < stop:
            return node
    return None


def _statement(
    number: int, node: tree.Require | None, search: Search, source: Source, indices: tuple[int, ...]
) -> Statement:
    first = search.requirements[indices[0]]
    text = written(first) if node is None else source.slice(node.condition.span)
    return Statement(
        number=number,
        line=first.where.line if node is None else node.span.line,
        text=" ".join(text.split()),
        because=first.because,
        file=first.where.file,
        span=None if node is None else node.span,
        condition=None if node is None else node.condition.span,
        requirements=indices,
    )


@dataclass(frozen=True, slots=True)
class _Draft:
    """An operand that may be a bound. `requirements` are linear, with this as their bound; none in a statement about layers."""

    statement: int
    span: Span
    text: str
    requirements: tuple[int, ...]
    is_literal: bool


def _with_bounds(
    statements: list[Statement],
    nodes: Sequence[tree.Require | None],
    search: Search,
    source: Source,
    reread: Reread,
    extent: Extent,
) -> list[Statement]:
    """Add the bounds that can be replaced by a number: those with which the program, read again, says the same."""
    drafts = [
        draft
        for statement, node in zip(statements, nodes, strict=True)
        if node is not None
        for draft in _drafts(statement, node, search, source)
    ]
    for tried in (drafts, [d for d in drafts if d.is_literal], []):
        text = replaced(source, [(d.span, d.text) for d in tried])
        after = reread(text)
        if after is not None and len(after) == len(search.requirements):
            break
    else:
        tried, after = [], search.requirements
    bounds: dict[int, list[Bound]] = {}
    for draft in tried:
        bound = _bound(sum(map(len, bounds.values())), draft, search, source, after, extent)
        if bound is not None:
            bounds.setdefault(draft.statement, []).append(bound)
    return [
        Statement(
            s.number, s.line, s.text, s.because, s.file, s.span, s.condition, s.requirements, tuple(own)
        )
        for s in statements
        for own in [bounds.get(s.number, [])]
    ]


def _drafts(statement: Statement, node: tree.Require, search: Search, source: Source) -> list[_Draft]:
    own = [
        (i, r) for i in statement.requirements if isinstance(r := search.requirements[i], LinearRequirement)
    ]
    found = []
    for operand in compared(node.condition):
        at = (operand.span.line, operand.span.column)
        mine = [(i, r) for i, r in own if (r.bound_where.line, r.bound_where.column) == at]
        is_literal = isinstance(operand, tree.Literal_)
        text = source.slice(operand.span) if is_literal else None
        if mine and text is None:
            text = _value_text([r for _, r in mine])
        if text is not None and (mine or is_literal):
            found.append(_Draft(statement.number, operand.span, text, tuple(i for i, _ in mine), is_literal))
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
    number: int,
    draft: _Draft,
    search: Search,
    source: Source,
    after: Sequence[Requirement],
    extent: Extent,
) -> Bound | None:
    """Return a bound whose requirements, with a literal in its place, limit the same as before."""
    try:
        unit, amount = unit_of(draft.text), amount_of(draft.text)
    except BadQuestion:
        return None
    scale = None
    reaches: tuple[Fraction, Fraction] | None = None
    whole = not unit
    for index in draft.requirements:
        before, now = search.requirements[index], after[index]
        if not isinstance(before, LinearRequirement) or not isinstance(now, LinearRequirement):
            return None
        is_same = (before.left, before.op, before.unit) == (now.left, now.op, now.unit)
        value = now.bound if now.parent_ratio is None else now.parent_ratio
        if not is_same or (before.parent_ratio is None) != (now.parent_ratio is None) or value is None:
            return None
        scale = value / amount if amount else Fraction(1)
        low, high = extent(now)
        reaches = (low / scale, high / scale) if reaches is None or scale <= 0 else reaches
        whole = whole and _counts(now)
    if scale is not None and scale <= 0:
        return None
    low, high = reaches or (Fraction(0), max(2 * amount, Fraction(10)))
    return Bound(
        number=number,
        span=draft.span,
        written=source.slice(draft.span),
        text=draft.text,
        unit=unit,
        scale=scale,
        requirements=draft.requirements,
        grid=grid_of(amount, low, high, whole=whole),
        extent=reaches,
    )


def _counts(requirement: LinearRequirement) -> bool:
    """True if the left side is a whole number for every child."""
    terms = [w for w in requirement.left.terms if w.coefficient.denominator == 1]
    return requirement.parent_ratio is None and all(isinstance(w.term, CountTerm | FactTerm) for w in terms)


def replaced(source: Source, edits: Sequence[tuple[Span, str]]) -> str:
    """Return the text with spans replaced. The spans do not overlap."""
    text = source.text
    for start, stop, new in sorted(((*source.reach(span), new) for span, new in edits), reverse=True):
        text = text[:start] + new + text[stop:]
    return text
