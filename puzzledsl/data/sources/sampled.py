"""`sampled(p, tokens: 1M)`: text that a parent wrote, which the stage `sample` keeps in the build directory.

A line of its file is one document: `{"ids": […], "prompt": 12, "text": "…"}`, tokens of the prompt and of what follows, the
number of the first, and the same as text for readers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.data.errors import NotSampled
from puzzledsl.data.sources.source import Document, Place, Source, TokenDocument
from puzzledsl.ir import nodes


class SampledText(Source[nodes.SampledData]):
    """Documents of a parent."""

    def files(self, place: Place[nodes.SampledData]) -> tuple[Path, ...]:
        """Return the file of the build directory. Raises DiagnosticError (NotSampled) if the text is not written yet."""
        path = None
        if place.tokens is not None:
            path = BuildDir(place.tokens.parent).sampled(place.source.text)
        if path is None or not path.is_file():
            raise DiagnosticError(NotSampled(place.span, name=place.name, parent=place.source.parent))
        return (path,)

    def documents(self, place: Place[nodes.SampledData]) -> Iterator[Document]:
        """Yield the documents in the order in which they were written."""
        (path,) = self.files(place)
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    ids = json.loads(line)["ids"]
                except (ValueError, KeyError, TypeError) as error:
                    reason = f"line {number} is damaged ({error})"
                    raise place.unreadable(path, reason, "run `pzl sample` again") from error
                yield TokenDocument(ids, None, f"{path.name}:{number}")
