"""Documents of a data declaration, in order of file name and of place in the file: texts, or conversations.

- `text("a/*.txt")`: text files whose documents are separated by blank lines.
- `jsonl("f.jsonl", column: text)`: one JSON object a line.
- `parquet("x.parquet", column: text)`: rows of Parquet files, a few at a time in memory.
- `tasks("hellaswag.jsonl", …)`: the questions of multiple-choice tasks, each with its right answer.
- `hf("owner/name", split: train)`: a data set of the hub, streamed by the package `datasets`; or a local directory, of which
  Parquet or JSON lines files that are named after the split are read without that package.

A conversation is a list of messages `{"role": …, "content": …}`; `{"from": "human", "value": …}` of ShareGPT is read as well.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from puzzledsl.base.diagnostics import Args, DiagnosticError, Span
from puzzledsl.base.files import matching
from puzzledsl.base.frozen import Record
from puzzledsl.data import errors
from puzzledsl.data.counts import parts_of
from puzzledsl.data.tasks import answered, read_tasks
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of

Message = dict[str, Any]
"""One message of a conversation: `role`, `content`, and what else the chat template reads."""


class Text(Record):
    """A document of plain text. `at` names its place for messages: `corpus.jsonl:12`."""

    text: str
    at: str = ""


class Conversation(Record):
    """A document of messages, which the parent's chat template turns into text. `at` as in Text."""

    messages: tuple[Message, ...]
    at: str = ""


class TokenDocument(Record):
    """The tokens of a document. `learned`: for each token, whether losses count it; None: they count all."""

    ids: Sequence[int]
    learned: Sequence[bool] | None = None


Document = Text | Conversation


class Place(Record):
    """A source in a program: node, name and span, and the `base` of relative paths."""

    source: Any
    name: str
    span: Span
    base: Path

    @classmethod
    def of(cls, data: nodes.Data, base: Path) -> Place:
        """Return the place of a declaration that is no mix."""
        assert not isinstance(data.source, nodes.MixData)
        return Place(data.source, data.name, span_of(data.where), base)

    def unreadable(self, file: Path, reason: str, fix: str) -> DiagnosticError:
        """Return the error for a file, or a data set of the hub, that cannot be read; `fix` says what to do."""
        said: Args = {"name": self.name, "file": file, "reason": reason, "fix": fix}
        return DiagnosticError(errors.DataUnreadable(self.span, **said))

    def no_column(self, file: Path, column: str, place: str, columns: Sequence[str]) -> DiagnosticError:
        """Return the error for a record without the column that holds the text."""
        shown = ", ".join(columns) or "none"
        said: Args = {"name": self.name, "file": file, "column": column, "place": place, "columns": shown}
        return DiagnosticError(errors.ColumnMissing(self.span, **said))

    def installed(self, package: str, module: str) -> Any:
        """Import a module of an optional package. Raises DiagnosticError (LibraryNotInstalled)."""
        try:
            return importlib.import_module(module)
        except ImportError as error:
            missing = errors.LibraryNotInstalled(self.span, name=self.name, package=package)
            raise DiagnosticError(missing) from error


SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}
ROLES = ("system", "developer", "user", "assistant", "tool")
NumberedFields = tuple[int, object]  # number of a record in its file, from 1, and its fields


def field_of(source: nodes.JsonlData | nodes.ParquetData | nodes.HfData) -> str:
    """Return the field that holds the document."""
    return source.column if source.messages is None else source.messages


def documents_of(
    place: Place, file: Path, records: Iterable[NumberedFields], word: str
) -> Iterator[Document]:
    """Yield the document of each record that is not blank; `word` is `line` or `row`. Raises ColumnMissing, BadConversation."""
    field = field_of(place.source)
    for number, record in records:
        at = f"{file.name}:{number}"
        fields = record if isinstance(record, Mapping) else {}
        if place.source.messages is not None:
            if field not in fields:
                raise place.no_column(file, field, f"{word} {number}", sorted(fields))
            try:
                yield Conversation(_messages(fields[field]), at)
            except ValueError as error:
                said: Args = {"file": file, "number": number, "field": field, "reason": str(error)}
                raise DiagnosticError(errors.BadConversation(place.span, name=place.name, **said)) from None
            continue
        text = fields.get(field)
        if not isinstance(text, str):
            raise place.no_column(file, field, f"{word} {number}", sorted(fields))
        if text.strip():
            yield Text(text, at)


def _messages(found: object) -> tuple[Message, ...]:
    """Return the messages of a conversation. Raises ValueError with the reason."""
    if not isinstance(found, list | tuple) or not found:
        raise ValueError("it is no list of messages")
    return tuple(_message(f"message {i}", message) for i, message in enumerate(found, 1))


def _message(which: str, found: object) -> Message:
    """Return a message with `role` and `content`; other fields, such as `tool_calls`, are kept. Raises ValueError."""
    if not isinstance(found, Mapping):
        raise ValueError(f"{which} is no object")
    message = {key: value for key, value in found.items() if value is not None}
    if "role" not in message and isinstance(message.get("from"), str):
        said = message.pop("from")
        message["role"] = SHAREGPT_ROLES.get(said, said)
        message["content"] = message.pop("value", None)
    role, content = message.get("role"), message.get("content", "" if "tool_calls" in message else None)
    if role not in ROLES:
        shown = "no `role`" if role is None else f"the role `{role}`"
        raise ValueError(f"{which} has {shown}; a role is one of {', '.join(ROLES)}")
    if isinstance(content, list | tuple):
        texts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        content = "".join(str(t) for t in texts) if all(isinstance(t, str) for t in texts) else None
    if not isinstance(content, str):
        raise ValueError(f"{which} has no text in `content`")
    return {**message, "role": role, "content": content}


def lines_of(place: Place, file: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file. Raises DiagnosticError (DataUnreadable)."""
    try:
        with file.open(encoding="utf-8") as lines:
            yield from lines
    except UnicodeDecodeError as error:
        raise place.unreadable(file, f"it is not UTF-8 ({error.reason})", "save it as UTF-8") from error
    except OSError as error:
        raise place.unreadable(file, str(error.strerror), "check its permissions") from error


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


def _objects(place: Place, file: Path) -> Iterator[NumberedFields]:
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


def parquet_documents(place: Place, file: Path) -> Iterator[Document]:
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


def _rows(place: Place, file: Path, table: Any, field: str) -> Iterator[NumberedFields]:
    number = 0
    try:
        for batch in table.iter_batches(batch_size=ROWS_A_BATCH, columns=[field]):
            for value in batch.column(0).to_pylist():
                number += 1
                if value is not None:
                    yield number, {field: value}
    except (OSError, ValueError) as error:
        raise place.unreadable(file, f"behind row {number}: {error}", "write it again") from error


RECORDS = {".parquet", ".jsonl"}
UNREACHABLE = ("connection", "offline", "resolve", "timed out", "timeout", "network", "couldn't reach")
"""Words in error messages that mean that the hub cannot be reached."""


def _named_after_split(place: Place) -> tuple[Path, ...]:
    """Return the files of records in a local directory that are named after the split; none if the source names a subset."""
    found = (place.base / place.source.id).glob(f"*{place.source.split}*")
    records = tuple(sorted(path for path in found if path.suffix in RECORDS))
    return records if place.source.subset is None else ()


def _streamed(place: Place, name: str) -> Iterator[NumberedFields]:
    """Yield the rows of a data set in its own order, downloading only rows that are read. Raises DiagnosticError."""
    datasets, source = place.installed("datasets", "datasets"), place.source
    number = 0
    try:
        how = {"split": source.split, "revision": source.revision, "streaming": True}
        for row in datasets.load_dataset(name, source.subset, **how):
            number += 1
            yield number, row
    except Exception as error:  # offline, unknown name, gated: the package raises many kinds
        first = (str(error).strip().splitlines() or [""])[0]
        reason = f"{type(error).__name__}: {first}" if not number else f"behind row {number}: {first}"
        fix = "correct the name, the split or the subset, or save the text as files"
        if any(word in f"{type(error).__name__} {error}".lower() for word in UNREACHABLE):
            fix = "connect to the hub, or download the data set and name its directory"
        raise place.unreadable(Path(source.id), reason, fix) from error


def _documents_in(place: Place, file: Path) -> Iterator[Document]:
    """Yield the documents of one of a source's files. Raises DiagnosticError for what cannot be read, also BadTask."""
    match place.source:
        case nodes.TextData():
            yield from (Text(each, file.name) for each in paragraphs(lines_of(place, file)))
        case nodes.TaskData():
            yield from (Text(answered(item), file.name) for item in read_tasks(file, span=place.span))
        case source if isinstance(source, nodes.ParquetData) or file.suffix == ".parquet":
            yield from parquet_documents(place, file)
        case _:
            yield from documents_of(place, file, _objects(place, file), "line")


def files_at(place: Place) -> tuple[Path, ...]:
    """Return a source's local files; none for a data set of the hub. Raises DiagnosticError for a pattern that matches none."""
    if isinstance(place.source, nodes.HfData):
        folder = place.base / place.source.id
        if not folder.is_dir():
            return ()
        every = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        return _named_after_split(place) or tuple(sorted(every))
    found: list[Path] = []
    for pattern in place.source.paths:
        matched = sorted(matching(place.base, pattern))
        if not matched:
            missing = errors.DataMissing(place.span, name=place.name, pattern=pattern, base=place.base)
            raise DiagnosticError(missing)
        found += matched
    return tuple(found)


def documents_at(place: Place) -> Iterator[Document]:
    """Yield a source's documents that are not blank, in a fixed order. Raises DiagnosticError for what cannot be read."""
    of_hub = isinstance(place.source, nodes.HfData)
    files = _named_after_split(place) if of_hub else files_at(place)
    for file in files:
        yield from _documents_in(place, file)
    if of_hub and not files:
        folder = place.base / place.source.id
        name = str(folder) if folder.is_dir() else place.source.id
        yield from documents_of(place, Path(place.source.id), _streamed(place, name), "row")


def files_of(data: nodes.Data, base: Path) -> tuple[Path, ...]:
    """Return the local files of all sources of a declaration. Raises DiagnosticError for a pattern that matches none."""
    return tuple(file for part, _ in parts_of(data) for file in files_at(Place.of(part, base)))


def documents(data: nodes.Data, base: Path) -> Iterator[Document]:
    """Yield every document that is not blank. Raises DiagnosticError for anything missing or unreadable."""
    for part, _ in parts_of(data):
        yield from documents_at(Place.of(part, base))
