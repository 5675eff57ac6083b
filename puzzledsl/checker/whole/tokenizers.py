"""Check of each export to GGUF against the parent's tokenizer, which such a file must hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.stage_errors import UnknownTokenizer
from puzzledsl.checker.whole.runtimes import space_of
from puzzledsl.ir import nodes
from puzzledsl.ir.gguf_tokenizers import objection
from puzzledsl.ir.source_location import span_of


def check_tokenizers(
    program: nodes.Program, files: Mapping[str, str], folders: Mapping[str, Path]
) -> list[Diagnostic]:
    """Return the diagnostics of tokenizers, if they are there, that a GGUF file cannot hold.

    `files` maps a place's file to its name in diagnostics, `folders` to its folder.
    """
    found: list[Diagnostic] = []
    for export in program.exports.values():
        parent = program.parents[space_of(program, export).parent]
        if export.format == "gguf" and isinstance(parent.source, nodes.HfSource):
            directory = folders.get(parent.where.file, Path()) / parent.source.id
            if reason := objection(directory):
                span = span_of(export.runtime_where, files.get(export.runtime_where.file))
                found.append(UnknownTokenizer(span, path=parent.source.id, reason=reason))
    return found
