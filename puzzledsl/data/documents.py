"""Documents of a data declaration: plain strings, in order of file name and of place in the file.

Reads text (blank lines separate documents), JSON lines, Parquet, and data sets of the `datasets` package.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, assert_never

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import matching
from puzzledsl.data.errors import ColumnMissing, DataMissing, DataUnreadable, LibraryNotInstalled
from puzzledsl.data.mixing import parts_of
from puzzledsl.ir import nodes
from puzzledsl.ir.source_location import span_of


def files_of(data: nodes.Data, base: Path) -> tuple[Path, ...]:
    """Return the local files of a declaration, sorted by name within each glob; none for a data set outside local directories.

    Raises DiagnosticError for a glob that matches nothing.
    """
    match data.source:
        case nodes.TextData(paths=paths) | nodes.JsonlData(paths=paths):
            return tuple(file for pattern in paths for file in _matching(data, base, pattern))
        case nodes.HfData(id=id, split=split):
            found = sorted((base / id).glob(f"*{split}*"))
            return tuple(path for path in found if path.suffix in {".parquet", ".jsonl"})
        case nodes.MixData():
            return tuple(file for part, _ in parts_of(data) for file in files_of(part, base))
        case _:
            assert_never(data.source)


def _matching(data: nodes.Data, base: Path, pattern: str) -> list[Path]:
    files = sorted(matching(base, pattern))
    if not files:
        raise DiagnosticError(DataMissing(span_of(data.where), name=data.name, pattern=pattern, base=base))
    return files


def documents(data: nodes.Data, base: Path) -> Iterator[str]:
    """Yield every document that is not blank. Raises DiagnosticError for anything missing or unreadable."""
    match data.source:
        case nodes.TextData():
            for file in files_of(data, base):
                yield from paragraphs(_lines(data, file))
        case nodes.JsonlData(column=column):
            yield from _not_blank(_records(data, files_of(data, base), column))
        case nodes.HfData(column=column):
            files = files_of(data, base)
            yield from _not_blank(_records(data, files, column) if files else _hub(data, data.source))
        case nodes.MixData():
            for part, _ in parts_of(data):
                yield from documents(part, base)
        case _:
            assert_never(data.source)


def _lines(data: nodes.Data, file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8") as lines:
            yield from lines
    except UnicodeDecodeError as error:
        raise DiagnosticError(
            _unreadable(data, file, f"it is not UTF-8 ({error.reason})", "save it as UTF-8")
        ) from error
    except OSError as error:
        raise DiagnosticError(
            _unreadable(data, file, str(error.strerror), "check its permissions")
        ) from error


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


def _not_blank(texts: Iterable[str]) -> Iterator[str]:
    return (text for text in texts if text.strip())


def _records(data: nodes.Data, files: Iterable[Path], column: str) -> Iterator[str]:
    for file in files:
        yield from _parquet(data, file, column) if file.suffix == ".parquet" else _jsonl(data, file, column)


def _jsonl(data: nodes.Data, file: Path, column: str) -> Iterator[str]:
    for number, line in enumerate(_lines(data, file), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            problem = _unreadable(
                data, file, f"line {number} is not JSON ({error})", "write one JSON object a line"
            )
            raise DiagnosticError(problem) from error
        columns = sorted(record) if isinstance(record, dict) else []
        text = record.get(column) if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise DiagnosticError(_no_column(data, file, column, f"line {number}", columns))
        yield text


def _parquet(data: nodes.Data, file: Path, column: str) -> Iterator[str]:
    parquet = _installed(data, "pyarrow", "pyarrow.parquet")
    try:
        table = parquet.ParquetFile(file)
        names = list(table.schema_arrow.names)
        if column not in names:
            raise DiagnosticError(_no_column(data, file, column, "no such column", names))
        for batch in table.iter_batches(columns=[column]):
            yield from (str(text) for text in batch.column(0).to_pylist() if text is not None)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise DiagnosticError(_unreadable(data, file, str(error), "write it again")) from error


def _hub(data: nodes.Data, source: nodes.HfData) -> Iterator[str]:
    datasets = _installed(data, "datasets", "datasets")
    try:
        rows = datasets.load_dataset(source.id, split=source.split, streaming=True)
    except Exception as error:  # offline, unknown name, gated: the package raises many kinds
        reason = f"{type(error).__name__}: {error}"
        fix = "correct the name, or save the text as files"
        raise DiagnosticError(_unreadable(data, Path(source.id), reason, fix)) from error
    for number, row in enumerate(rows, 1):
        if not isinstance(text := row.get(source.column), str):
            raise DiagnosticError(
                _no_column(data, Path(source.id), source.column, f"row {number}", sorted(row))
            )
        yield text


def _installed(data: nodes.Data, package: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = LibraryNotInstalled(span_of(data.where), name=data.name, package=package)
        raise DiagnosticError(missing) from error


def _unreadable(data: nodes.Data, file: Path, reason: str, fix: str) -> DataUnreadable:
    return DataUnreadable(span_of(data.where), name=data.name, file=file, reason=reason, fix=fix)


def _no_column(data: nodes.Data, file: Path, column: str, place: str, columns: list[str]) -> ColumnMissing:
    shown = ", ".join(columns) or "none"
    return ColumnMissing(
        span_of(data.where), name=data.name, file=file, column=column, place=place, columns=shown
    )
