"""`tasks("hellaswag.jsonl", …)`: the questions of multiple-choice tasks, each with its right answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from puzzledsl.data.sources.local_files import matched
from puzzledsl.data.sources.source import Document, Place, Source, Text
from puzzledsl.data.tasks import answered, read_tasks
from puzzledsl.ir import nodes


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
