"""Texts that a parent writes are read in its own tokens: whoever reads one has the same parent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.checker.diagnostics.data_errors import WrittenByAnother
from puzzledsl.ir import nodes
from puzzledsl.ir.references import OfASpace, references, space_of
from puzzledsl.ir.source_location import span_of


def check_writers(program: nodes.Program, files: Mapping[str, str]) -> Iterator[Diagnostic]:
    """Yield an error for each declaration that reads the text of another parent."""
    for kind, declared in _reading(program).items():
        for name, declaration in declared.items():
            parent = program.spaces[space_of(program, declaration)].parent
            for data in sorted(set(references(declaration)) & program.data.keys()):
                for writer in _writers(program.data[data]):
                    if not _is_same(program.parents[writer], program.parents[parent]):
                        yield WrittenByAnother(
                            span_of(declaration.where, files.get(declaration.where.file)),
                            reader=f"{kind} `{name}`",
                            parent=parent,
                            data=data,
                            writer=writer,
                        )


def _reading(program: nodes.Program) -> dict[str, Mapping[str, OfASpace]]:
    return {
        "bld": program.blds,
        "score": program.scores,
        "search": program.searches,
        "uptrain": program.uptrains,
        "eval": program.evals,
    }


def _is_same(one: nodes.Parent, other: nodes.Parent) -> bool:
    """Return True for one parent, or for two names of one checkpoint."""
    named = isinstance(one.source, nodes.HfSource) and one.source == other.source
    return one.name == other.name or named


def _writers(data: nodes.Data) -> list[str]:
    """Return the parents that write a text, or parts of it."""
    parts = data.source.parts if isinstance(data.source, nodes.MixData) else ()
    sources = [data.source, *(part.source for part in parts)]
    return sorted({source.parent for source in sources if isinstance(source, nodes.SampledData)})
