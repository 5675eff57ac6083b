"""Spans, labels, fixes and diagnostics. Imports nothing from the package, so that every layer can use it.

A user's mistake is data: each kind is one subclass of `Diagnostic`, with a code, a message in the user's words, a
place and a help line. Stages collect them in a `Sink`, so that one run reports them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from puzzledsl.base.frozen import record

Severity = Literal["error", "warning"]
Args = dict[str, Any]
"""Arguments of a diagnostic's templates."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A range of a source file. Lines and columns are 1-based code points; the end is exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    @property
    def start(self) -> Span:
        """The empty span at the start of this one."""
        return Span(self.file, self.line, self.column, self.line, self.column)

    @property
    def end(self) -> Span:
        """The empty span at the end of this one."""
        return Span(self.file, self.end_line, self.end_column, self.end_line, self.end_column)

    def to(self, other: Span) -> Span:
        """Return the smallest span that covers this one and `other` (of the same file)."""
        start = min((self.line, self.column), (other.line, other.column))
        end = max((self.end_line, self.end_column), (other.end_line, other.end_column))
        return Span(self.file, *start, *end)

    def cut(self, lines: Sequence[str]) -> str:
        """Return the text of this span of a file with these lines."""
        found = list(lines[self.line - 1 : self.end_line])
        if found:
            found[-1] = found[-1][: self.end_column - 1]
            found[0] = found[0][self.column - 1 :]
        return "\n".join(found)


@record
class Label:
    """A span with a short text under it: `^^^^ a number, no unit`."""

    span: Span
    text: str = ""


class Near(str):
    """A suggested spelling. `alone`: no other name is as close, so a fix with it is safe."""

    __slots__ = ("alone",)
    alone: bool

    def __new__(cls, text: str, *, alone: bool) -> Near:
        """Make the suggestion; `alone` says that no other name is as near."""
        near = super().__new__(cls, text)
        near.alone = alone
        return near


@record
class Edit:
    """Replacement of a span by `text`; an empty span inserts."""

    span: Span
    text: str


@record
class Fix:
    """One fix of a mistake: edits of one file that are applied together.

    `title` is its text in an editor's menu. A `safe` fix is certainly the intended text, and `pzl check --fix`
    applies it; any other is only offered.
    """

    title: str
    edits: tuple[Edit, ...]
    safe: bool = True

    @classmethod
    def replace(cls, span: Span, text: str, title: str = "", *, safe: bool = True) -> Fix:
        """Return a fix that replaces a span by `text`."""
        return cls(title or (f"write `{text}`" if text else "remove it"), (Edit(span, text),), safe)

    @classmethod
    def insert(cls, before: Span, text: str, *, safe: bool = True) -> Fix:
        """Return a fix that inserts `text` before a span."""
        return cls.replace(before.start, text, f"insert `{text}`", safe=safe)


MAX_SHOWN = 300
"""Longest part of the user's text that a message quotes, in characters; the rest is cut."""


def _shortened(value: object) -> object:
    return value[:MAX_SHOWN] + "…" if isinstance(value, str) and len(value) > MAX_SHOWN else value


class Diagnostic:
    """One mistake. A subclass gives its code, `template` and often `help_template`; `args` fill both templates.

    Its docstring is one line, the summary of the code. Its golden file, `errors/CODE.md`, explains it by two programs.

    `primary` is underlined with `^`, every `secondary` label with `-`. `near` is the suggested spelling for the text
    of `span`: it becomes the help and a fix. `fixes` are alternative fixes.
    """

    code: ClassVar[str]
    severity: ClassVar[Severity]
    template: ClassVar[str]
    help_template: ClassVar[str] = ""
    registry: ClassVar[dict[str, type[Diagnostic]]] = {}

    def __init_subclass__(cls, *, code: str, template: str = "", help: str = "") -> None:
        """Register the subclass under its code: `E0301` is an error, `W0412` a warning. Short templates stand in the head."""
        super().__init_subclass__()
        if template:
            cls.template = template
        if help:
            cls.help_template = help
        cls.code, cls.severity = code, "warning" if code.startswith("W") else "error"
        other = Diagnostic.registry.setdefault(code, cls)
        if other.__qualname__ != cls.__qualname__:
            raise TypeError(f"{code} is both {other.__qualname__} and {cls.__qualname__}")

    def __init__(
        self,
        span: Span | None,
        label: str = "",
        *,
        help: str | None = None,
        near: Near | None = None,
        fixes: Iterable[Fix] = (),
        secondary: Iterable[Label] = (),
        notes: Iterable[str] = (),
        **args: object,
    ) -> None:
        self.span = span
        self.label = label
        self.args = args
        shown = {key: _shortened(value) for key, value in args.items()}
        self.message = self.template.format(**shown)
        self.help = self.help_template.format(**shown) if help is None else help
        self.fixes = tuple(fixes)
        if near is not None:
            self.help = f"did you mean `{near}`?"
            if span is not None:
                self.fixes += (Fix.replace(span, near, safe=near.alone),)
        self.secondary = tuple(secondary)
        self.notes = tuple(notes)

    def __repr__(self) -> str:
        return f"{self.code}({self.message!r} at {self.span})"

    @property
    def sort_key(self) -> tuple[str, int, int, str, str]:
        """Sort key by source position, then by code. It makes reports deterministic."""
        at = self.span
        where = (at.file, at.line, at.column) if at else ("", 0, 0)
        return (*where, self.code, self.message)


class DiagnosticError(Exception):
    """Ends a stage with a user's mistakes. The CLI renders the diagnostics and exits with 1."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__("; ".join(d.message for d in diagnostics))
        self.diagnostics = tuple(diagnostics)

    def _render_traceback_(self) -> list[str]:
        """Return the text that a notebook shows instead of a traceback: the rendered diagnostics, else their messages."""
        return getattr(self, "__notes__", None) or [f"{d.code}: {d.message}" for d in self.diagnostics]

    def __reduce__(self) -> tuple[type[DiagnosticError], tuple[Diagnostic, ...]]:
        """Pickle the exception by its diagnostics, because it may come from another process."""
        return type(self), self.diagnostics


@dataclass(slots=True)
class Sink:
    """Collector of diagnostics without exact repeats."""

    items: list[Diagnostic] = field(default_factory=list)
    _seen: set[tuple[str, int, int, str, str]] = field(default_factory=set)

    def add(self, diagnostic: Diagnostic) -> None:
        """Record one diagnostic unless an equal one was recorded before."""
        if diagnostic.sort_key not in self._seen:
            self._seen.add(diagnostic.sort_key)
            self.items.append(diagnostic)

    def drop(self, lines: range) -> None:
        """Forget the diagnostics of these lines: one that is about to be added says it all."""
        self.items = [d for d in self.items if d.span is None or d.span.line not in lines]

    @property
    def has_errors(self) -> bool:
        """True if at least one recorded diagnostic is an error."""
        return any(d.severity == "error" for d in self.items)

    def sorted(self) -> list[Diagnostic]:
        """Return all diagnostics in source order."""
        return sorted(self.items, key=lambda d: d.sort_key)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.sorted())
