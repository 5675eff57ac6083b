"""Names that a lowered declaration refers to, and so its dependencies on the files that the program uses."""

from __future__ import annotations

from collections.abc import Iterator

from puzzledsl.ir import nodes


def references(node: object) -> Iterator[str]:
    """The names of the declarations `node` refers to."""
    match node:
        case nodes.Data(source=nodes.MixData(parts=parts)):
            yield from (part.name for part in parts if not part.inline)
            yield from (source.parent for source in written_for(node))
        case nodes.Data(source=nodes.SampledData(parent=parent)):
            yield parent
        case nodes.Scenario():
            yield node.hardware
        case nodes.Space():
            yield node.parent
            if node.used_by is not None:
                yield node.used_by.search
        case nodes.Bld():
            yield from _given(node.space, node.data, node.heal_data)
        case nodes.Score():
            yield from _given(node.space, node.bld)
            if isinstance(node.method, nodes.ReplaceOne):
                yield from _given(node.method.around, node.method.data)
        case nodes.Search():
            yield from _given(node.space, node.refine.data if node.refine else None)
            yield from _of_search(node)
        case nodes.Frontier():
            yield node.search
            yield from _of_term(node.term)
        case nodes.Uptrain():
            yield from _given(node.search, node.data)
        case nodes.Eval():
            yield from _given(node.of, node.data, *node.more_data, *node.full)
        case nodes.Export():
            yield node.of


def _given(*names: str | None) -> Iterator[str]:
    yield from (name for name in names if name is not None)


def _of_search(search: nodes.Search) -> Iterator[str]:
    linears = [search.objective, *(p.goal for p in search.preferences)]
    linears += [r.left for r in search.requirements if isinstance(r, nodes.LinearRequirement)]
    for linear in linears:
        for weighted in linear.terms:
            yield from _of_term(weighted.term)


def _of_term(term: nodes.Term) -> Iterator[str]:
    if isinstance(term, nodes.MetricTerm):
        yield term.scenario
    elif isinstance(term, nodes.ScoreTerm):
        yield term.score


def written_for(data: nodes.Data) -> list[nodes.SampledData]:
    """Return the texts that a parent writes for a declaration, without those of other declarations that it mixes in."""
    sources = [data.source]
    if isinstance(data.source, nodes.MixData):
        sources = [part.source for part in data.source.parts if part.inline]
    return [source for source in sources if isinstance(source, nodes.SampledData)]


def with_written(data: nodes.Data) -> list[str]:
    """Return the declarations for which a parent writes the texts that one reads: itself, and those that it mixes in."""
    found = [data.name] if written_for(data) else []
    parts = data.source.parts if isinstance(data.source, nodes.MixData) else ()
    return found + [p.name for p in parts if not p.inline and isinstance(p.source, nodes.SampledData)]
