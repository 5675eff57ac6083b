"""`hf("owner/name", split: train)`: a data set of the hub, streamed by the package `datasets`, or a local directory.

A directory with Parquet or JSON lines files that are named after the split is read without that package.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.data.sources.local_files import file_documents
from puzzledsl.data.sources.source import Document, Place, Record, Source, documents_of
from puzzledsl.ir import nodes

RECORDS = {".parquet", ".jsonl"}
UNREACHABLE = ("connection", "offline", "resolve", "timed out", "timeout", "network", "couldn't reach")
"""Words of errors that a hub which cannot be reached raises."""


class HubDataset(Source[nodes.HfData]):
    """A data set of the hub, or a directory of the same form."""

    def files(self, place: Place[nodes.HfData]) -> tuple[Path, ...]:
        """Return the files of a local directory; none for a data set of the hub."""
        folder = place.base / place.source.id
        if not folder.is_dir():
            return ()
        return _named_after_split(place, folder) or tuple(
            sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        )

    def documents(self, place: Place[nodes.HfData]) -> Iterator[Document]:
        """Yield the document of each row, in the order of the data set."""
        folder = place.base / place.source.id
        files = _named_after_split(place, folder) if folder.is_dir() else ()
        if files:
            for file in files:
                yield from file_documents(place, file)
        else:
            name = str(folder) if folder.is_dir() else place.source.id
            yield from documents_of(place, Path(place.source.id), _streamed(place, name), "row")


def _named_after_split(place: Place[nodes.HfData], folder: Path) -> tuple[Path, ...]:
    if place.source.subset is not None:
        return ()
    found = sorted(folder.glob(f"*{place.source.split}*"))
    return tuple(path for path in found if path.suffix in RECORDS)


def _streamed(place: Place[nodes.HfData], name: str) -> Iterator[Record]:
    """Yield the rows of a data set in its own order; nothing but what is read travels."""
    datasets, source = place.installed("datasets", "datasets"), place.source
    number = 0
    try:
        rows = datasets.load_dataset(
            name, source.subset, split=source.split, revision=source.revision, streaming=True
        )
        for row in rows:
            number += 1
            yield number, row
    except (DiagnosticError, GeneratorExit):
        raise
    except Exception as error:  # offline, unknown name, gated: the package raises many kinds
        raise _unread(place, error, number) from error


def _unread(place: Place[Any], error: Exception, number: int) -> DiagnosticError:
    first = (str(error).strip().splitlines() or [""])[0]
    reason = f"{type(error).__name__}: {first}" if not number else f"behind row {number}: {first}"
    fix = "correct the name, the split or the subset, or save the text as files"
    if any(word in f"{type(error).__name__} {error}".lower() for word in UNREACHABLE):
        fix = "connect to the hub, or download the data set and name its directory"
    return place.unreadable(Path(place.source.id), reason, fix)
