"""Sources of text in a program, and documents of records: a text in one field, or a conversation.

A conversation is a list of messages `{"role": …, "content": …}`; `{"from": "human", "value": …}` of ShareGPT is read as well.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puzzledsl.base.diagnostics import Args, DiagnosticError, Span
from puzzledsl.data.errors import BadConversation, ColumnMissing, DataUnreadable, LibraryNotInstalled
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of

Message = dict[str, Any]
"""One message of a conversation: `role`, `content`, and what else the chat template reads."""


@dataclass(frozen=True, slots=True)
class Text:
    """A document of plain text. `at` names its place for messages: `corpus.jsonl:12`."""

    text: str
    at: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A document that the parent's chat template writes."""

    messages: tuple[Message, ...]
    at: str = ""


@dataclass(frozen=True, slots=True)
class TokenDocument:
    """The tokens of a document. `learned`: for each token, whether losses count it; None: they count all."""

    ids: Sequence[int]
    learned: Sequence[bool] | None = None


Document = Text | Conversation


@dataclass(frozen=True, slots=True)
class Place:
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
        """Return the error for a file that is damaged or of another format."""
        return DiagnosticError(DataUnreadable(self.span, name=self.name, file=file, reason=reason, fix=fix))

    def no_column(self, file: Path, column: str, place: str, columns: Sequence[str]) -> DiagnosticError:
        """Return the error for a record without the column that holds the text."""
        shown = ", ".join(columns) or "none"
        return DiagnosticError(
            ColumnMissing(self.span, name=self.name, file=file, column=column, place=place, columns=shown)
        )

    def installed(self, package: str, module: str) -> Any:
        """Import a module of an optional package. Raises DiagnosticError (LibraryNotInstalled)."""
        try:
            return importlib.import_module(module)
        except ImportError as error:
            missing = LibraryNotInstalled(self.span, name=self.name, package=package)
            raise DiagnosticError(missing) from error


SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}
ROLES = ("system", "developer", "user", "assistant", "tool")
Record = tuple[int, object]
"""Number of a record in its file, from 1, and its fields."""


def field_of(source: nodes.JsonlData | nodes.ParquetData | nodes.HfData) -> str:
    """Return the field that holds the document."""
    return source.column if source.messages is None else source.messages


def documents_of(place: Place, file: Path, records: Iterable[Record], word: str) -> Iterator[Document]:
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
                raise DiagnosticError(BadConversation(place.span, name=place.name, **said)) from None
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
