"""`text("a/*.txt")`: text files whose documents are separated by blank lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from puzzledsl.data.sources.local_files import lines_of, matched
from puzzledsl.data.sources.source import Document, Place, Source, Text
from puzzledsl.ir import nodes


class TextFiles(Source[nodes.TextData]):
    """Text files by glob."""

    def files(self, place: Place[nodes.TextData]) -> tuple[Path, ...]:
        """Return the files that its globs match, in order."""
        return matched(place, place.source.paths)

    def documents(self, place: Place[nodes.TextData]) -> Iterator[Document]:
        """Yield the paragraphs of each file."""
        for file in self.files(place):
            for paragraph in paragraphs(lines_of(place, file)):
                yield Text(paragraph, file.name)


def paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """Yield runs of lines between blank ones, without line ends around them."""
    document: list[str] = []
    for line in lines:
        if line.strip():
            document.append(line)
        elif document:
            yield "".join(document).strip("\n")
            document = []
    if document:
        yield "".join(document).strip("\n")
