"""Documents of a data declaration, in order of file name and of place in the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from puzzledsl.data.counts import parts_of
from puzzledsl.data.sources import SOURCES
from puzzledsl.data.sources.source import Document, Place
from puzzledsl.ir import nodes


def files_of(data: nodes.Data, base: Path, tokens: Path | None = None) -> tuple[Path, ...]:
    """Return the local files of a declaration, sorted by name within each glob; none for a data set outside local directories.

    Raises DiagnosticError for a glob that matches nothing.
    """
    places = [Place.of(part, base, tokens) for part, _ in parts_of(data)]
    return tuple(file for place in places for file in SOURCES[type(place.source)].files(place))


def documents(data: nodes.Data, base: Path, tokens: Path | None = None) -> Iterator[Document]:
    """Yield every document that is not blank. Raises DiagnosticError for anything missing or unreadable."""
    for part, _ in parts_of(data):
        place = Place.of(part, base, tokens)
        yield from SOURCES[type(place.source)].documents(place)
