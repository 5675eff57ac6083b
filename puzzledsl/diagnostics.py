"""Spans, diagnostics and their renderer. Imports nothing of ours: every layer may use it.

A user's mistake is data: one subclass of `Diagnostic` a kind of mistake, with a code, a message in the user's
words, the place, and a help line. Stages collect them in a `Sink`; one run reports them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A stretch of a source file. Lines and columns are 1-based code points; the end is exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def to(self, other: Span) -> Span:
        """The smallest span that covers this one and `other` (same file)."""
        start = min((self.line, self.column), (other.line, other.column))
        end = max((self.end_line, self.end_column), (other.end_line, other.end_column))
        return Span(self.file, *start, *end)


@dataclass(frozen=True, slots=True)
class Label:
    """A span with a few words under it: `^^^^ a number, no unit`."""

    span: Span
    text: str = ""


class Diagnostic:
    """One mistake. Subclasses set `code`, `template` and often `help_template`; `args` fill both.

    `primary` is underlined with `^`, every `secondary` label with `-`.
    """

    code: ClassVar[str]
    severity: ClassVar[Severity] = "error"
    template: ClassVar[str]
    help_template: ClassVar[str] = ""
    registry: ClassVar[dict[str, type[Diagnostic]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "code" in cls.__dict__:
            other = Diagnostic.registry.setdefault(cls.code, cls)
            if other.__qualname__ != cls.__qualname__:
                raise TypeError(f"{cls.code} is both {other.__qualname__} and {cls.__qualname__}")

    def __init__(
        self,
        span: Span | None,
        label: str = "",
        *,
        help: str | None = None,
        secondary: Iterable[Label] = (),
        notes: Iterable[str] = (),
        **args: object,
    ) -> None:
        self.span = span
        self.label = label
        self.args = args
        self.message = self.template.format(**args)
        self.help = self.help_template.format(**args) if help is None else help
        self.secondary = tuple(secondary)
        self.notes = tuple(notes)

    def __repr__(self) -> str:
        return f"{self.code}({self.message!r} at {self.span})"

    @property
    def sort_key(self) -> tuple[str, int, int, str, str]:
        """Order of the source, then of the code: what makes a report deterministic."""
        at = self.span
        where = (at.file, at.line, at.column) if at else ("", 0, 0)
        return (*where, self.code, self.message)


class DiagnosticError(Exception):
    """Ends a stage whose user made mistakes. The CLI renders the diagnostics and exits with 1."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__("; ".join(d.message for d in diagnostics))
        self.diagnostics = tuple(diagnostics)


@dataclass(slots=True)
class Sink:
    """Collects diagnostics, dropping exact repeats."""

    items: list[Diagnostic] = field(default_factory=list)
    _seen: set[tuple[str, int, int, str, str]] = field(default_factory=set)

    def add(self, diagnostic: Diagnostic) -> None:
        """Record one diagnostic unless the same one was recorded before."""
        if diagnostic.sort_key not in self._seen:
            self._seen.add(diagnostic.sort_key)
            self.items.append(diagnostic)

    @property
    def has_errors(self) -> bool:
        """True when at least one recorded diagnostic is an error."""
        return any(d.severity == "error" for d in self.items)

    def sorted(self) -> list[Diagnostic]:
        """All diagnostics in source order."""
        return sorted(self.items, key=lambda d: d.sort_key)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.sorted())
