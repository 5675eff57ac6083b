"""The `require` statements of a search, each with its place in the text and its bounds."""

from __future__ import annotations

from dataclasses import dataclass

from puzzledsl.base.diagnostics import Span
from puzzledsl.explore.bounds import Bound, Extent, bounds_of
from puzzledsl.explore.sources import Source
from puzzledsl.ir.nodes import Search, Where
from puzzledsl.ir.search_nodes import written
from puzzledsl.syntax import tree


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


def statements_of(search: Search, source: Source, shown: str, extent: Extent) -> list[Statement]:
    """Return the statements of a search in the order of their requirements. `shown`: the name of the source in the IR."""
    found: dict[object, tuple[tree.Require | None, list[int]]] = {}
    for index, requirement in enumerate(search.requirements):
        node = statement_at(source, requirement.where) if requirement.where.file == shown else None
        place = requirement.where if node is None else node.span
        found.setdefault(place, (node, []))[1].append(index)
    statements: list[Statement] = []
    count = 0
    for node, indices in found.values():
        own = {index: search.requirements[index] for index in indices}
        bounds = () if node is None else tuple(bounds_of(node, own, source, extent, count))
        count += len(bounds)
        statements.append(_statement(len(statements), node, search, source, tuple(indices), bounds))
    return statements


def statement_at(source: Source, where: Where) -> tree.Require | None:
    """Return the `require` statement that a place is in."""
    at = source.offset(where.line, where.column)
    reaches = ((node, *source.reach(node.span)) for node in source.requirements)
    return next((node for node, start, stop in reaches if start <= at < stop), None)


def _statement(
    number: int,
    node: tree.Require | None,
    search: Search,
    source: Source,
    indices: tuple[int, ...],
    bounds: tuple[Bound, ...],
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
        bounds=bounds,
    )
