"""Sources in local files: text, JSON lines, Parquet and tasks.

`text("a/*.txt")`: text files whose documents are separated by blank lines.

`jsonl("f.jsonl", column: text)`: one JSON object a line.

`parquet("x.parquet", column: text)`: rows of Parquet files, a few at a time in memory.

`tasks("hellaswag.jsonl", …)`: the questions of multiple-choice tasks, each with its right answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import matching
from puzzledsl.data.errors import DataMissing
from puzzledsl.data.sources.source import Document, Place, Record, Source, Text, documents_of, field_of
from puzzledsl.data.tasks import answered, read_tasks
from puzzledsl.ir import nodes


def matched(place: Place[Any], patterns: Iterable[str]) -> tuple[Path, ...]:
    """Return the files of all globs, sorted by name within each. Raises DiagnosticError for a glob that matches nothing."""
    return tuple(file for pattern in patterns for file in _matched(place, pattern))


def _matched(place: Place[Any], pattern: str) -> list[Path]:
    files = sorted(matching(place.base, pattern))
    if not files:
        raise DiagnosticError(DataMissing(place.span, name=place.name, pattern=pattern, base=place.base))
    return files


def lines_of(place: Place[Any], file: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file. Raises DiagnosticError (DataUnreadable)."""
    try:
        with file.open(encoding="utf-8") as lines:
            yield from lines
    except UnicodeDecodeError as error:
        raise place.unreadable(file, f"it is not UTF-8 ({error.reason})", "save it as UTF-8") from error
    except OSError as error:
        raise place.unreadable(file, str(error.strerror), "check its permissions") from error


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


ROWS_A_BATCH = 1024


class ParquetFiles(Source[nodes.ParquetData]):
    """Parquet files by glob."""

    def files(self, place: Place[nodes.ParquetData]) -> tuple[Path, ...]:
        """Return the files that its globs match, in order."""
        return matched(place, place.source.paths)

    def documents(self, place: Place[nodes.ParquetData]) -> Iterator[Document]:
        """Yield the document of each row."""
        for file in self.files(place):
            yield from parquet_documents(place, file)


def parquet_documents(place: Place[Any], file: Path) -> Iterator[Document]:
    """Yield the documents of one Parquet file; rows without a value are left out. Raises DiagnosticError."""
    parquet, field = place.installed("pyarrow", "pyarrow.parquet"), field_of(place.source)
    try:
        table = parquet.ParquetFile(file)
        names = list(table.schema_arrow.names)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise place.unreadable(file, str(error), "write it again") from error
    if field not in names:
        raise place.no_column(file, field, "no such column", names)
    yield from documents_of(place, file, _rows(place, file, table, field), "row")


def _rows(place: Place[Any], file: Path, table: Any, field: str) -> Iterator[Record]:
    number = 0
    try:
        for batch in table.iter_batches(batch_size=ROWS_A_BATCH, columns=[field]):
            for value in batch.column(0).to_pylist():
                number += 1
                if value is not None:
                    yield number, {field: value}
    except (OSError, ValueError) as error:
        raise place.unreadable(file, f"behind row {number}: {error}", "write it again") from error


class TaskFiles(Source[nodes.TaskData]):
    """Task files by glob."""

    def files(self, place: Place[nodes.TaskData]) -> tuple[Path, ...]:
        """Return the files that its globs match, in order."""
        return matched(place, place.source.paths)

    def documents(self, place: Place[nodes.TaskData]) -> Iterator[Document]:
        """Yield a document for each question. Raises DiagnosticError (BadTask) for a line that is no question."""
        for file in self.files(place):
            for item in read_tasks(file, span=place.span):
                yield Text(answered(item), file.name)
