"""Base class of the sources of text: one file per kind of source, which yields its documents in a fixed order."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from puzzledsl.base.diagnostics import DiagnosticError, Span
from puzzledsl.data.errors import ColumnMissing, DataUnreadable, LibraryNotInstalled
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of

Node = TypeVar("Node", bound=nodes.Picked)
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
    """A document of tokens, taken as it is. `learned`: for each token, whether losses count it; None: they count all."""

    ids: Sequence[int]
    learned: Sequence[bool] | None = None
    at: str = ""


Document = Text | Conversation | TokenDocument


@dataclass(frozen=True, slots=True)
class Place(Generic[Node]):
    """A source in a program: its node, the name and span for messages, and the folders that it reads.

    Relative paths start at `base`; `tokens` is the build's folder of tokenised text, if there is a build.
    """

    source: Node
    name: str
    span: Span
    base: Path
    tokens: Path | None = None

    @classmethod
    def of(cls, data: nodes.Data, base: Path, tokens: Path | None = None) -> Place[Any]:
        """Return the place of a declaration that is no mix."""
        assert not isinstance(data.source, nodes.MixData)
        return Place(data.source, data.name, span_of(data.where), base, tokens)

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


class Source(ABC, Generic[Node]):
    """One kind of source. It is registered by the class of its node in `sources/__init__.py`."""

    @abstractmethod
    def files(self, place: Place[Node]) -> tuple[Path, ...]:
        """Return the files whose content decides the documents; none for a source that is elsewhere.

        Raises DiagnosticError for files that are not there.
        """

    @abstractmethod
    def documents(self, place: Place[Node]) -> Iterator[Document]:
        """Yield the documents that are not blank, in a fixed order. Raises DiagnosticError for what cannot be read."""
