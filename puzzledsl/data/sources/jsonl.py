"""`jsonl("f.jsonl", column: text)`: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from puzzledsl.data.sources.local_files import lines_of, matched
from puzzledsl.data.sources.parquet import parquet_documents
from puzzledsl.data.sources.records import Record, documents_of
from puzzledsl.data.sources.source import Document, Place, Source
from puzzledsl.ir import nodes


class JsonLines(Source[nodes.JsonlData]):
    """JSON lines by glob; Parquet files among them are read as such."""

    def files(self, place: Place[nodes.JsonlData]) -> tuple[Path, ...]:
        """Return the files that its globs match, in order."""
        return matched(place, place.source.paths)

    def documents(self, place: Place[nodes.JsonlData]) -> Iterator[Document]:
        """Yield the document of each line."""
        for file in self.files(place):
            yield from file_documents(place, file)


def file_documents(place: Place[Any], file: Path) -> Iterator[Document]:
    """Yield the documents of one file of records: Parquet by its name, else JSON lines. Raises DiagnosticError."""
    if file.suffix == ".parquet":
        yield from parquet_documents(place, file)
    else:
        yield from documents_of(place, file, _objects(place, file), "line")


def _objects(place: Place[Any], file: Path) -> Iterator[Record]:
    for number, line in enumerate(lines_of(place, file), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            reason = f"line {number} is not JSON ({error})"
            raise place.unreadable(file, reason, "write one JSON object a line") from error
        yield number, record
