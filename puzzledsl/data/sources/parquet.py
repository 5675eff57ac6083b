"""`parquet("x.parquet", column: text)`: rows of Parquet files, a few at a time in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from puzzledsl.data.sources.local_files import matched
from puzzledsl.data.sources.records import Record, documents_of, field_of
from puzzledsl.data.sources.source import Document, Place, Source
from puzzledsl.ir import nodes

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
