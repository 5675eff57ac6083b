"""The `require` statements of a search, each with its place in the text and its bounds."""

from __future__ import annotations

from dataclasses import dataclass

from puzzledsl.base.diagnostics import Span
from puzzledsl.explore.bounds import Bound, Extent, Reread, bounds_of
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


def statements_of(
    search: Search, source: Source, shown: str, reread: Reread, extent: Extent
) -> list[Statement]:
    """Return the statements of a search in the order of their requirements. `shown`: the name of the source in the IR."""
    found: dict[object, tuple[tree.Require | None, list[int]]] = {}
    for index, requirement in enumerate(search.requirements):
        node = statement_at(source, requirement.where) if requirement.where.file == shown else None
        place = requirement.where if node is None else node.span
        found.setdefault(place, (node, []))[1].append(index)
    conditions = [(node, tuple(indices)) for node, indices in found.values()]
    bounds = bounds_of(conditions, search, source, reread, extent)
    return [
        _statement(number, node, search, source, indices, bounds[number])
        for number, (node, indices) in enumerate(conditions)
    ]


def statement_at(source: Source, where: Where) -> tree.Require | None:
    """Return the `require` statement that a place is in."""
    at = source.offset(where.line, where.column)
    for node in source.requirements:
        start, stop = source.reach(node.span)
        if start <= at < stop:
            return node
    return None


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
